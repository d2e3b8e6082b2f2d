"""What the site needs of mkdocs: links are the repository's own, and lead to what is beside docs/ too.

A file beside docs/ that a page links to is on the site under `repository/`: Markdown as a page, all else as
it is. A directory that a page links to is a page that lists it.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<=\]\()[^)#\s:]+(?=[)#])")


def _target(page: str, link: str) -> str:
    """The repository's path of what a page of it links to; of a directory, that of its list."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
    return f"{path}/index.md" if (ROOT / path).is_dir() else path


def _there(path: str) -> str:
    """The repository's path → the site's."""
    return path.removeprefix("docs/") if path.startswith("docs/") else f"repository/{path}"


def _here(path: str) -> str:
    return path.removeprefix("repository/") if path.startswith("repository/") else f"docs/{path}"


def _exists(path: str) -> bool:
    return (ROOT / path).is_file() or (path.endswith("/index.md") and (ROOT / path).parent.is_dir())


def _text(path: str) -> str:
    """A page; that of a directory is made from what is in it, each by its first line."""
    if (ROOT / path).is_file():
        return (ROOT / path).read_text()
    directory = (ROOT / path).parent
    lines = [f"# {directory.name.capitalize()}", ""]
    for file in sorted(file for file in directory.iterdir() if file.is_file()):
        title = file.read_text().partition("\n")[0].lstrip("# ") if file.suffix == ".md" else file.name
        lines.append(f"- [{title}]({file.name})")
    return "\n".join(lines)


def on_files(files: Files, config: Any) -> Files:
    """Add what pages lead to that is not among the files, and what that leads to."""
    known = {_here(file.src_uri) for file in files}
    pages = [_here(file.src_uri) for file in files.documentation_pages()]
    while pages:
        page = pages.pop()
        for target in {_target(page, link) for link in LINK.findall(_text(page))} - known:
            if _exists(target):
                known.add(target)
                if target.endswith(".md"):
                    files.append(File.generated(config, _there(target), content=_text(target)))
                    pages.append(target)
                else:
                    files.append(File.generated(config, _there(target), abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn the repository's links into the site's."""
    path = page.file.src_uri

    def turned(link: re.Match[str]) -> str:
        target = _target(_here(path), link[0])
        return (
            posixpath.relpath(_there(target), posixpath.dirname(path) or ".") if _exists(target) else link[0]
        )

    return LINK.sub(turned, markdown)
