"""The README's commands, typed as they stand there, do what it says."""

from pathlib import Path

import pytest

from tests.docs.typed import needs, reader

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(180)
@needs("curl", "openssl", "redis-cli")
async def test_every_command_answers_what_is_shown(tmp_path: Path) -> None:
    async with reader(tmp_path, "make ") as someone:
        assert await someone.reads((ROOT / "README.md").read_text()) == 20
