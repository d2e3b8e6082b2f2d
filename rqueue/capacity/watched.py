"""A copy of all objects of one kind that an API server has: listed once, then watched.

Kubernetes' own way, https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes.
Keeps of each object only what it is told to.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

import aiohttp
import orjson

from rqueue.errors import SourceUnavailable

# Decoding a page holds up all else that the process does: some milliseconds.
PAGE = 100
PAGE_SECONDS = 30.0
WATCH_SECONDS = 60
# An API server says how far it is two seconds before it ends a watch, else every minute: this is the shortest
# watch that ends with such a bookmark.
SHORT_WATCH_SECONDS = 3
# For an answer to begin, and beyond the moment at which the server was to end the watch.
GRACE_SECONDS = 5.0
# What an answer waits for: the current version, the bookmark of a short watch, and where none comes, as from
# a server whose etcd does not tell it how far that is, a new list. Together less than a reading may take.
NOW_SECONDS = 5.0
BOOKMARK_SECONDS = 5.0
LISTED_SECONDS = 8.0
BACKOFF_SECONDS = (0.2, 30.0)

Kept = TypeVar("Kept")
Object = Mapping[str, Any]
# A call of kubernetes_asyncio that lists, or with `watch=True` watches; it answers aiohttp's response.
List = Callable[..., Awaitable[Any]]

log = logging.getLogger("rqueue.capacity")


class CredentialsRefused(Exception):
    """The API server does not know who asks."""


class _Answered(Exception):
    """The API server refused."""

    def __init__(self, status: int, message: object) -> None:
        self.status = status
        super().__init__(f"{status} {str(message)[:200]}")


class Watched(Generic[Kept]):
    """The objects of a `kind` that `list_` lists and watches with the field selector.

    `now` lists none of them, and so only says which version is current. `keep` says what of an object is
    kept; `changed` is told of each difference: what was kept and what is, None where there is none.
    """

    def __init__(
        self,
        kind: str,
        list_: List,
        now: List,
        keep: Callable[[Object], Kept],
        changed: Callable[[Kept | None, Kept | None], None],
        selector: str = "",
    ) -> None:
        self.kept: dict[str, Kept] = {}
        self.kind = kind
        self._list, self._now, self._keep, self._changed = list_, now, keep, changed
        self._selected = {"field_selector": selector} if selector else {}
        # All that happened up to it is in `kept`; 0: they are to be listed. Versions of one kind compare as
        # numbers, https://kep.k8s.io/5504.
        self._version = 0
        self._short = False
        self._waiting = 0
        self._moved = asyncio.Condition()
        self._watching: asyncio.Timeout | None = None
        self._failures = 0
        self._error = "not listed yet"

    async def caught_up(self) -> None:
        """Return when `kept` has all that had happened when this was called.

        Raises SourceUnavailable, or CredentialsRefused.

        A watch alone tells what was so at some time in the past, and one whose connection is dead, or whose
        server is cut off from its etcd, tells nothing. So this asks which version is current, a read that no
        cache answers, and waits until the watch is there.
        """
        had = self._version
        try:
            async with asyncio.timeout(NOW_SECONDS), self._asked(self._now) as answer:
                version = _version(orjson.loads(await answer.read()))
        except _Answered as error:
            kind = CredentialsRefused if error.status == 401 else SourceUnavailable
            raise kind(f"{self.kind}: {_words(error)}") from None
        except Exception as error:
            raise SourceUnavailable(f"{self.kind}: {_words(error)}") from None
        if version < had:
            # The cluster was restored from a backup, and what is kept here never was.
            self._start_over()
        self._waiting += 1
        try:
            try:
                await self._reached(version, BOOKMARK_SECONDS)
            except TimeoutError:
                self._start_over()
                await self._reached(version, LISTED_SECONDS)
        except TimeoutError:
            raise SourceUnavailable(f"{self.kind}: what the API server tells lags: {self._error}") from None
        finally:
            self._waiting -= 1

    async def _reached(self, version: int, seconds: float) -> None:
        async with asyncio.timeout(seconds), self._moved:
            if self._version < version and not self._short:
                self._end_watch()
            await self._moved.wait_for(lambda: self._version >= version)

    def _start_over(self) -> None:
        # Unless it is being listed.
        if self._version:
            self._version = 0
            self._end_watch()

    def _end_watch(self) -> None:
        if self._watching:
            self._watching.reschedule(asyncio.get_running_loop().time())
            self._watching = None

    async def run(self) -> None:
        """Keep `kept` as the cluster is, until cancelled."""
        while True:
            try:
                if not self._version:
                    await self._list_all()
                await self._watch()
                self._failures = 0
                continue
            except Exception as error:
                # What it was asked for is too old; in all other cases the next watch goes on from here.
                if isinstance(error, _Answered) and error.status != 429 and error.status < 500:
                    self._version = 0
                said = _words(error)
            self._failures += 1
            self._error = said
            log.warning("%s of Kubernetes cannot be watched: %s", self.kind, said)
            least, most = BACKOFF_SECONDS
            pause = min(most, least * 2 ** min(self._failures, 20))
            await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311

    async def _list_all(self) -> None:
        found = set()
        page: dict[str, Any] = {"limit": PAGE}
        while True:
            async with asyncio.timeout(PAGE_SECONDS), self._asked(self._list, **page) as answer:
                told = orjson.loads(await answer.read())
            for one in told.get("items") or ():
                uid = one["metadata"]["uid"]
                found.add(uid)
                self._put(uid, self._keep(one))
            token = told["metadata"].get("continue")
            if not token:
                break
            page["_continue"] = token
        for uid in self.kept.keys() - found:
            self._put(uid, None)
        await self._moves(_version(told))

    async def _watch(self) -> None:
        """Take in what happens until the server ends the watch."""
        self._short = self._waiting > 0
        seconds = SHORT_WATCH_SECONDS if self._short else WATCH_SECONDS
        watch = {
            "watch": True,
            "allow_watch_bookmarks": True,
            "resource_version": str(self._version),
            "timeout_seconds": seconds,
        }
        try:
            async with asyncio.timeout(seconds + GRACE_SECONDS) as until:
                self._watching = until
                async with self._asked(self._list, **watch) as answer:
                    while line := await answer.content.readline():
                        # What is read of a watch that was ended here is for the next one, or a new list.
                        if self._watching is not until:
                            break
                        await self._take_in(orjson.loads(line))
        except TimeoutError:
            # It was ended here, so that the next one tells at once; or the server is gone.
            if self._watching is not None:
                raise
        finally:
            self._watching = None

    async def _take_in(self, event: Mapping[str, Any]) -> None:
        kind, told = event["type"], event["object"]
        if kind == "ERROR":
            raise _Answered(told.get("code", 500), told.get("message"))
        if kind in ("ADDED", "MODIFIED"):
            self._put(told["metadata"]["uid"], self._keep(told))
        elif kind == "DELETED":
            self._put(told["metadata"]["uid"], None)
        self._failures = 0
        await self._moves(_version(told))

    def _put(self, uid: str, now: Kept | None) -> None:
        was = self.kept.get(uid)
        if now == was:
            return
        if now is None:
            del self.kept[uid]
        else:
            self.kept[uid] = now
        self._changed(was, now)

    async def _moves(self, version: int) -> None:
        self._version = version
        if self._waiting:
            async with self._moved:
                self._moved.notify_all()

    @asynccontextmanager
    async def _asked(self, call: List, **words: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        selected = self._selected if call is self._list else {}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=GRACE_SECONDS)
        async with await call(
            _preload_content=False, _request_timeout=timeout, **selected, **words
        ) as answer:
            if answer.status != 200:
                try:
                    told = orjson.loads(await answer.read())["message"]
                except (ValueError, TypeError, KeyError):
                    told = answer.reason
                raise _Answered(answer.status, told)
            yield answer


def _version(told: Object) -> int:
    return int(told["metadata"]["resourceVersion"])


def _words(error: Exception) -> str:
    return (
        str(error) if isinstance(error, _Answered) else f"{type(error).__name__} {str(error)[:200]}".strip()
    )
