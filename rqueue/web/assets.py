"""The files of a page for browsers, served from memory.

A folder of the package, read once when it is first needed; nothing is looked up by a path that a client
sent. A browser may keep a file, and asks each time whether it is still the same (RFC 9110, section 13).
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from importlib.resources.abc import Traversable

from aiohttp import web

from rqueue.errors import Missing

# Python's own table depends on what the machine has.
TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "png": "image/png",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}
# Whatever a page loads is this service's own, and no other page may put it in a frame.
STRICT = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self'",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
}


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    content_type: str
    etag: str


class Assets:
    """The files in a folder of the package `rqueue.web`; one with a suffix that is not in TYPES is none.

    `policy` is what the page's Content-Security-Policy has beyond STRICT, or in place of it.
    """

    def __init__(self, folder: str, **policy: str) -> None:
        directives = STRICT | {name.replace("_", "-"): value for name, value in policy.items()}
        self._folder = files("rqueue.web") / folder
        self._headers = {
            "Cache-Control": "no-cache",
            "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in directives.items()),
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }

    @cached_property
    def _files(self) -> dict[str, _File]:
        return {one.name: read for one in self._folder.iterdir() if (read := _read(one))}

    def answer(self, request: web.Request, name: str) -> web.Response:
        """A file by its name, or 304 for who has it already. Raises Missing."""
        file = self._files.get(name)
        if file is None:
            raise Missing(f"there is nothing at {request.path}")
        headers = {**self._headers, "ETag": f'"{file.etag}"'}
        if any(known.value in (file.etag, "*") for known in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        return web.Response(body=file.body, headers={**headers, "Content-Type": file.content_type})


def _read(file: Traversable) -> _File | None:
    content_type = TYPES.get(file.name.rpartition(".")[2])
    if content_type is None or not file.is_file():
        return None
    body = file.read_bytes()
    return _File(body, content_type, hashlib.sha256(body).hexdigest()[:32])
