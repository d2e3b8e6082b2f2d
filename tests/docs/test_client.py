"""docs/client.md says what the client has, and pages that show an example show what is in its file."""

import ast
import inspect
import re
from pathlib import Path

import pytest

from rqueue.client import Client
from tests.docs.test_reference import rows

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
EXAMPLES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "examples").glob("*.py"))
BLOCK = re.compile(r'^```python(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def test_every_method_is_there() -> None:
    documented = [row[0].strip("`") for row in rows("client.md", r"[a-z_]+\(.*\)")]
    methods = {name: method for name, method in vars(Client).items() if name[0] != "_"}
    assert [call.partition("(")[0] for call in documented] == list(methods)
    for call in documented:
        name, _, given = call.partition("(")
        if given == "type_, …)":
            continue
        parameters = list(inspect.signature(methods[name]).parameters.values())[1:]
        plain = [one.replace(annotation=inspect.Parameter.empty) for one in parameters]
        assert call == name + str(inspect.Signature(plain))


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_is_shown_as_it_is(name: str) -> None:
    shown = [code for page in PAGES for title, code in BLOCK.findall(page.read_text()) if title == name]
    assert shown
    for code in shown:
        assert code == (ROOT / name).read_text()


def test_what_the_page_shows_can_be_read_by_python() -> None:
    for _, code in BLOCK.findall((ROOT / "docs" / "client.md").read_text()):
        compile(code, "client.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
