"""Links of every page lead somewhere, in the repository as on the site, and the site has every page.

A link is relative, to a file or a directory of the repository, or https. So it can be followed where the
repository is read, wherever that is; docs/hooks.py has what lies beside docs/ on the site too.
"""

import importlib.util
import os
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *ROOT.glob("helm/**/*.md"), *ROOT.glob("examples/**/*.md")]
)
# Text that asks for another host when it is shown.
FETCHED = re.compile(
    r"<(?:script|img|iframe)[^>]*src=[\"']?(?:https?:)?//|<link[^>]*stylesheet[^>]*href=[\"']?(?:https?:)?//"
)


@cache
def _tokens(page: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text())


def _words(tokens: list[Token] | None) -> str:
    return "".join(token.content or _words(token.children) for token in tokens or [])


@cache
def _anchors(page: Path) -> Counter[str]:
    """What GitHub makes of the headings; one that there is twice has no anchor to rely on."""
    tokens = _tokens(page)
    headings = [
        _words(tokens[n + 1].children) for n, token in enumerate(tokens) if token.type == "heading_open"
    ]
    return Counter(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings)


def _links(page: Path) -> list[str]:
    inline = [child for token in _tokens(page) for child in token.children or []]
    found = [child.attrGet("href") or child.attrGet("src") for child in inline]
    return [str(link) for link in found if link]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for link in _links(page):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if anchor:
            assert _anchors(target)[anchor] == 1, link


def _entries(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [entry for part in nav for entry in _entries(part.values() if isinstance(part, dict) else part)]


def test_the_site_has_every_page() -> None:
    class Loader(yaml.SafeLoader):
        """The configuration names a function of its own."""

    Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)
    entries = _entries(yaml.load((ROOT / "mkdocs.yml").read_text(), Loader)["nav"])  # noqa: S506
    pages = [page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")]
    listed = [page for page in pages if not page.startswith("decisions/")]
    assert sorted(
        entry for entry in entries if not entry.startswith(("repository/", "decisions/"))
    ) == sorted(listed)


@pytest.mark.skipif(
    not importlib.util.find_spec("mkdocs"), reason="NOT TRIED: mkdocs is not installed; `make docs` does it"
)
def test_the_site_is_made_and_asks_no_other_host(tmp_path: Path) -> None:
    words = ("-m", "mkdocs", "build", "--site-dir", str(tmp_path / "site"))
    done = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > len(PAGES) - 5
    for page in pages:
        assert not FETCHED.search(page.read_text()), page
