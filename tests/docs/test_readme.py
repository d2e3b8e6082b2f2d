"""The README's commands, typed as they stand there, do what it says."""

import re
from pathlib import Path

import pytest

from tests.docs.typed import needs, reader

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(180)
@needs("curl", "openssl", "redis-cli")
async def test_every_command_answers_what_is_shown(tmp_path: Path) -> None:
    async with reader(tmp_path, "make ") as someone:
        assert await someone.reads((ROOT / "README.md").read_text()) == 20


def test_the_chinese_readme_is_a_twin() -> None:
    """The same commands, the same headings, and the same places to go on; but for the links to each other."""
    english, chinese = (ROOT / "README.md").read_text(), (ROOT / "README.zh-TW.md").read_text()

    def shape(text: str) -> tuple[list[str], list[str], list[str]]:
        blocks = re.findall(r"^```.*?^```$", text, re.DOTALL | re.MULTILINE)
        prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
        headings = re.findall(r"^(#+) ", prose, re.MULTILINE)
        links = re.findall(r"\]\(([^)]*)\)", prose)
        return blocks, headings, sorted(link for link in links if not link.startswith("README"))

    assert shape(chinese) == shape(english)
    assert shape(english)[0]
    assert "](README.zh-TW.md)" in english
    assert "](README.md)" in chinese
