"""Who follows the events of a type: one reader of its stream in this process, however many listen.

A feed asks Redis while somebody listens, and remembers the newest events. Each follower has only its place
among them, so that one that does not read costs nothing, and is left when its place is no more there.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import orjson

from rqueue.domain.event import MISSED, START, Event, Wanted, place
from rqueue.errors import RateLimited, RqueueError
from rqueue.store.events import Passage

POLL_SECONDS = 0.25
# So many events of a type are remembered: who is further behind is dropped.
KEPT = 1000
# So many streams a process has open at once, and of one caller.
MAX_STREAMS = 1000
MAX_OF_CALLER = 250
RETRY_SECONDS = 5

log = logging.getLogger("rqueue.web")

# type, the ID of the last one read or None to begin now
Read = Callable[[str, str | None], Awaitable[Passage]]


class Lagging(Exception):
    """Its place is not among those that are remembered any more."""


class Feed:
    """The newest events of one type, read again and again."""

    def __init__(self, type_: str, read: Read) -> None:
        self.followers = 0
        self.away = ""  # why it cannot be read just now
        self.closed = False
        self.count = 0  # how many events have come so far
        self._type = type_
        self._read = read
        # Each with its place and what is sent of it; what stood before the first of them.
        self._kept: deque[tuple[Event, tuple[int, int], bytes]] = deque()
        self._floor = (0, 0)
        self._after: str | None = None
        self._begun = asyncio.Lock()
        self._bell = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Be read from now on, if it is not. Raises Unavailable."""
        async with self._begun:
            if self._task is None:
                self._after = (await self._read(self._type, None)).after
                self._floor = place(self._after)
                self._task = asyncio.create_task(self._run())

    def end(self) -> None:
        """Be read no more; who follows it comes to an end."""
        self.closed = True
        if self._task is not None:
            self._task.cancel()
        self._ring()

    async def read(self, after: str) -> Passage:
        """Events that it may not remember. Raises Unavailable."""
        return await self._read(self._type, after)

    def number_after(self, at: tuple[int, int]) -> int | None:
        """The number of the first event behind this place; None where it cannot be told from what is kept."""
        if not self._floor <= at <= place(self._after or START):
            return None
        number = self.count
        for _, other, _ in reversed(self._kept):
            if other <= at:
                break
            number -= 1
        return number

    def since(self, number: int) -> list[tuple[Event, tuple[int, int], bytes]]:
        """The events from this number on. Raises Lagging where some are forgotten."""
        oldest = self.count - len(self._kept)
        if number < oldest:
            raise Lagging
        return [self._kept[index] for index in range(number - oldest, len(self._kept))]

    async def news(self, seconds: float) -> None:
        """Wait until something is new, or so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._bell.wait()
        except TimeoutError:
            pass

    async def _run(self) -> None:
        more = False
        # Looked at too, since redis-py may lose a cancellation.
        while not self.closed:
            # Whoever reads what came is served in between.
            await asyncio.sleep(0 if more else POLL_SECONDS)
            more = False
            try:
                passage = await self._read(self._type, self._after)
            except RqueueError as error:
                self._say_away(error.message)
            except Exception:
                log.exception("the events of type %r met a fault of the service's own", self._type)
            else:
                self._say_away("")
                self._take(passage)
                more = passage.more

    def _take(self, passage: Passage) -> None:
        self._after = passage.after
        for event in passage.events:
            at = place(event.id)
            if event.what == MISSED:
                # Places from before it say nothing of those that come.
                self._kept.clear()
                self._floor = at = place(event.to)
            self._kept.append((event, at, encoded(event)))
            self.count += 1
            if len(self._kept) > KEPT:
                _, self._floor, _ = self._kept.popleft()
        if passage.events:
            self._ring()

    def _say_away(self, why: str) -> None:
        if bool(why) != bool(self.away):
            self._ring()
        self.away = why

    def _ring(self) -> None:
        bell, self._bell = self._bell, asyncio.Event()
        bell.set()


class Follower:
    """One who follows a feed, from an ID on, or from now."""

    def __init__(self, feed: Feed, after: str, wanted: Wanted) -> None:
        self._feed = feed
        self._wanted = wanted
        # Up to here it has been told.
        self._after = after
        # The number of the next event; None while it is told of those that came before.
        self._next = None if after else feed.count
        self._away = False

    async def next(self, seconds: float) -> bytes | None:
        """What is to be sent next, b"" where there was nothing for so long, or None at the end.

        Raises Lagging for who does not keep up.
        """
        if not self._feed.closed and self._next is None:
            return await self._catch_up(seconds)
        if not self._feed.closed and self._next == self._feed.count and self._away == bool(self._feed.away):
            await self._feed.news(seconds)
        if self._feed.closed or self._next is None:
            return None
        said = []
        if self._away != bool(self._feed.away):
            self._away = bool(self._feed.away)
            said.append(comment(self._feed.away or "redis is back"))
        for event, at, text in self._feed.since(self._next):
            if event.what == MISSED:
                self._after = ""
                said.append(text)
            elif not self._after or at > place(self._after):
                said += [text] if self._wanted.takes(event) else []
        self._next = self._feed.count
        return b"".join(said)

    async def _catch_up(self, seconds: float) -> bytes:
        at = place(self._after)
        self._next = self._feed.number_after(at)
        if self._next is not None:
            return b""
        try:
            passage = await self._feed.read(self._after)
        except RqueueError as error:
            await self._feed.news(seconds)
            return comment(error.message)
        if not passage.events:
            # It knows more than the feed has read, or what it knew is not there any more.
            self._next = self._feed.number_after(at)
            if self._next is None:
                self._next = self._feed.count
        self._after = passage.after
        return b"".join(
            encoded(event) for event in passage.events if event.what == MISSED or self._wanted.takes(event)
        )


class Feeds:
    """The feeds of a process, each there while it has followers. `read` is the store's."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._feeds: dict[str, Feed] = {}
        self._of_caller: Counter[str] = Counter()
        self._closed = False

    @property
    def open(self) -> int:
        """How many follow."""
        return self._of_caller.total()

    @asynccontextmanager
    async def follow(self, type_: str, after: str, wanted: Wanted, caller: str) -> AsyncIterator[Follower]:
        """Follow a type's events behind an ID, or from now on where it is "".

        Raises Unavailable, and RateLimited where there are too many, or of a caller that has a name.
        """
        if self.open >= MAX_STREAMS or (caller and self._of_caller[caller] >= MAX_OF_CALLER):
            raise RateLimited("too many streams of events are open here", retry_after=RETRY_SECONDS)
        feed = self._feeds.get(type_)
        if feed is None:
            feed = self._feeds[type_] = Feed(type_, self._read)
        self._of_caller[caller] += 1
        feed.followers += 1
        try:
            await feed.begin()
            if self._closed:
                feed.end()
            yield Follower(feed, after, wanted)
        finally:
            self._of_caller[caller] -= 1
            if not self._of_caller[caller]:
                del self._of_caller[caller]
            feed.followers -= 1
            if not feed.followers:
                feed.end()
                del self._feeds[type_]

    def close(self) -> None:
        """Come to an end with all of them, and with whoever comes."""
        self._closed = True
        for feed in self._feeds.values():
            feed.end()


def encoded(event: Event) -> bytes:
    """An event as server-sent events have it (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
    return b"id: %s\ndata: %s\n\n" % (event.id.encode(), orjson.dumps(event.document()))


def comment(text: str = "") -> bytes:
    """A line that a client takes no notice of."""
    return f": {' '.join(text.split())}\n\n".encode()
