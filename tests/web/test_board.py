"""The board's files: all that the page names is served, as what it is, and holds to its own policy."""

import hashlib
import re
from pathlib import Path

import pytest

from rqueue.web.assets import TYPES
from tests.web.wire import ask

FOLDER = Path(__file__).parents[2] / "rqueue" / "web" / "board"
FILES = [file for file in FOLDER.rglob("*") if file.suffix in (".html", ".js", ".css", ".svg")]
OWN = [file for file in FILES if "vendor" not in file.parts]


async def test_each_file_is_served_to_anybody_as_what_it_is(service):
    for file in FILES:
        path = "" if file.name == "index.html" else str(file.relative_to(FOLDER))
        answer = await ask(service, "GET", f"/board/{path}")
        assert (answer.status, answer.text) == (200, file.read_bytes().decode())
        assert answer.headers["Content-Type"] == TYPES[file.suffix[1:]]
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Cache-Control"] == "no-cache"
        again = await ask(service, "GET", f"/board/{path}", headers={"If-None-Match": answer.headers["ETag"]})
        assert again.status == 304


@pytest.mark.parametrize(
    "path", ["x.js", "vendor/LICENSE", "vendor/x.js", "app.js/x", "../app.py", "%2e%2e/auth.py", "index"]
)
async def test_there_are_no_others(service, path):
    assert (await ask(service, "GET", f"/board/{path}")).status == 404


@pytest.mark.parametrize("file", OWN, ids=lambda file: file.name)
def test_what_a_file_names_is_there(file):
    text = file.read_text()
    for named in re.findall(r'(?:src|href)="(/board/[^"]+)"', text):
        assert (FOLDER / named.removeprefix("/board/")).is_file(), named
    for named in re.findall(r'from "(\./[^"]+)"', text):
        assert (file.parent / named).is_file(), named
    if file.suffix == ".js" and file.name != "app.js":
        # Without it the browser learns of it only when another was read.
        assert f'rel="modulepreload" href="/board/{file.name}"' in (FOLDER / "index.html").read_text()


@pytest.mark.parametrize("file", OWN, ids=lambda file: file.name)
def test_what_users_wrote_becomes_nothing_but_text(file):
    forbidden = (
        r"(inner|outer|Adjacent)HTML|document\.write|eval\(|new Function|\sstyle=|<script>|\son[a-z]+="
    )
    assert not re.search(forbidden, file.read_text())
    assert not re.search(r"https?://(?!www\.w3\.org/)", file.read_text())


def test_the_vendored_file_is_the_one_that_its_note_says():
    note = (FOLDER / "vendor" / "README.md").read_text()
    assert hashlib.sha256((FOLDER / "vendor" / "sortable.js").read_bytes()).hexdigest() in note
    assert "MIT" in (FOLDER / "vendor" / "LICENSE").read_text()
