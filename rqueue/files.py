"""Settings that are files: read at the start, and again when they change.

A mounted Secret changes by a swap of symbolic links, an editor writes in place, and clocks are coarse: so
it is the content that is compared. Knows nothing of what is in a file, and says nothing of it.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from rqueue.errors import Refused

LOOK_SECONDS = 1.0

log = logging.getLogger("rqueue.files")

T = TypeVar("T")


def content(setting: str, path: Path) -> bytes:
    """All of a file. Raises Refused, naming setting and file, where it cannot be read or is empty."""
    try:
        # A pipe that nobody writes to would hold the service up.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            found = file.read()
    except OSError as error:
        raise Refused(f"{setting}: {path} cannot be read: {error.strerror}") from None
    if not found or found.isspace():
        raise Refused(f"{setting}: {path} is empty")
    return found


class Watched(Generic[T]):
    """What is made of a file, or of several that belong together; `value` is that of the last good content.

    `read` is given the contents, in a thread but for the first time, and raises Refused with a reason that
    quotes nothing of them. Of other exceptions only the kind is told, since their words may.
    """

    def __init__(self, setting: str, read: Callable[..., T], *paths: Path) -> None:
        """Read for the first time. Raises Refused, naming setting and file."""
        self._setting = setting
        self._read = read
        self._paths = paths
        self._trouble = ""
        self._seen: list[bytes] | None = self._contents()
        self.value = self._made(self._seen)

    def look(self) -> None:
        """Read again where it has changed. What is wrong with a new content is logged, once."""
        try:
            found = self._contents()
        except Refused as error:
            self._seen = None  # so that it is read when it is there again
            self._say(error.message)
            return
        if found == self._seen:
            return
        self._seen = found
        try:
            self.value = self._made(found)
        except Refused as error:
            self._say(error.message)
        else:
            self._trouble = ""
            log.info("%s has changed and was read again", self._setting)

    def _say(self, trouble: str) -> None:
        if trouble != self._trouble:
            log.error("%s; what was read before stays in use", trouble)
        self._trouble = trouble

    def _contents(self) -> list[bytes]:
        return [content(self._setting, path) for path in self._paths]

    def _made(self, contents: list[bytes]) -> T:
        try:
            return self._read(*contents)
        except Exception as error:
            reason = (
                error.message if isinstance(error, Refused) else f"{type(error).__name__} while it was read"
            )
            raise Refused(f"{self._setting}: {' and '.join(map(str, self._paths))}: {reason}") from None


class Files:
    """All that is watched, by one task."""

    def __init__(self) -> None:
        self._watched: list[Watched[Any]] = []

    def watched(self, setting: str, read: Callable[..., T], *paths: Path) -> Watched[T]:
        """Read now, and whenever it has changed. As Watched, which says more."""
        made = Watched(setting, read, *paths)
        self._watched.append(made)
        return made

    async def look(self) -> None:
        """Look at all of them now."""
        for one in self._watched:
            await asyncio.to_thread(one.look)

    async def run(self) -> None:
        """Look at all of them every second, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()
