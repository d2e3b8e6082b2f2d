"""The connections of a process: how long each may take over what, and who goes when there is no room.

aiohttp bounds lines, the number of headers and how many requests it reads ahead, and closes what is idle. The
rest is here: a head that does not end, more connections than there is room for, and bodies that hold more
memory than there is for all of them. Whoever is being served is never dropped.
"""

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from enum import IntEnum
from math import inf
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import _ErrInfo

from rqueue import metrics
from rqueue.errors import Malformed, RqueueError
from rqueue.web.answers import refusal
from rqueue.web.middleware import CODES

# All lines of a head. aiohttp bounds each, at 8,190 bytes, and takes 128 of them: a megabyte.
HEAD_BYTES = 32 * 1024
# So many are looked at, and closed, before requests get their turn: a few milliseconds.
SLICE = 250

log = logging.getLogger("rqueue.web")


@dataclass(frozen=True, slots=True)
class Limits:
    """What the connections of one process may take; the defaults are the product's.

    A head that has not ended `head_seconds` after it began, or after the connection was opened, is refused.
    A connection that asks nothing is closed after `keepalive_seconds`, one that takes nothing of what it is
    sent after `reader_seconds`; one that goes on with a body that nobody wants, `linger_seconds` after the
    answer. All bodies that are not answered yet hold at most `held_bytes`.
    """

    connections: int = 10_000
    keepalive_seconds: float = 75
    head_seconds: float = 10
    linger_seconds: float = 10
    reader_seconds: float = 30
    held_bytes: int = 64 << 20
    sweep_seconds: float = 1


class State(IntEnum):
    """What a connection is at, in the order in which connections go where there is no room."""

    OPENED = 0  # no head has come yet, or one has begun and has not ended
    IDLE = 1
    SENDING = 2  # the client is: a body is under way
    READING = 3  # the client is, and slower than it is answered
    SERVED = 4


class Connection(web.RequestHandler):
    """aiohttp's own, with bounds.

    What it cannot parse, or what escapes the application, is answered in the one error shape.
    """

    __slots__ = ("_all", "_head_bytes", "_seen", "_since")

    def __init__(self, all_: "Connections", *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self._all = all_
        self._head_bytes = 0  # of a head that has begun and has not ended
        # What it was at when it was last looked at, after how many requests, and since when.
        self._seen: tuple[State, int] | None = None
        self._since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._all.add(self, transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._all.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._messages and isinstance(error := self._messages[-1][0], _ErrInfo):
            self._break_off(error)
        if self._waits():
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._refuse(431, f"Its head is larger than {HEAD_BYTES} bytes")
        else:
            self._head_bytes = 0
            self._all.received(len(data))

    def handle_error(
        self, request: Any, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        if isinstance(exc, ConnectionError):
            # The client went away in the middle: of the answer, or of its own request. The error knows the
            # frames, they the request with its body, and that the error: a circle that would stay for long.
            exc.__traceback__ = None
            if request.writer.output_size > 0:
                raise exc
            status = 400
        elif status >= 500 or request.writer.output_size > 0:
            super().handle_error(request, status, exc, message)  # logs, and raises where an answer has begun
        kind = RqueueError if status >= 500 else Malformed
        said = _said(kind, message or "")
        if isinstance(exc, LineTooLong):
            # What it quotes begins with a slash where it is the target; no header's name does.
            status = 414 if exc.args[0].startswith(b"/") else 431
        elif said.endswith("Too many headers received"):
            status = 431
        response = refusal(CODES.get(status, kind.code), said, status)
        response.force_close()
        return response

    @property
    def state(self) -> State:
        """What it is at."""
        if self._paused or self.transport is None:
            return State.READING  # also where all is said, and not all of it taken
        if self._waits():
            return State.OPENED if self._head_bytes or not self._request_count else State.IDLE
        request = self._current_request
        if request is None:
            # aiohttp reads on for a while, so that who sends a body that nobody wants sees the answer.
            return State.SERVED if self._request_in_progress or self._messages else State.SENDING
        return State.SERVED if request.content.is_eof() else State.SENDING

    @property
    def since(self) -> float:
        """Since when it has been at that, by the loop's clock; infinite where it has just come to it."""
        return self._since if self._seen == (self.state, self._request_count) else inf

    @property
    def held_bytes(self) -> int:
        """How much it holds of the bodies of requests that are not answered yet."""
        held = self._current_request.content.total_bytes if self._current_request else 0
        for _, payload in self._messages:
            held += payload.total_bytes
        return held

    def look(self, now: float, head_seconds: float) -> None:
        """Note what it is at; refuse a head that takes too long."""
        seen = self.state, self._request_count
        if seen != self._seen:
            self._seen, self._since = seen, now
        elif seen[0] is State.OPENED and now - self._since >= head_seconds:
            metrics.CONNECTIONS_DROPPED.count("head")
            if self._head_bytes:
                self._refuse(408, f"Its head did not arrive within {head_seconds:g} s")
            else:
                self.force_close()

    def _waits(self) -> bool:
        return self._waiter is not None and not self._waiter.done()

    def _break_off(self, error: _ErrInfo) -> None:
        # Whoever waits for the rest of a body would not hear that what came is none, and wait in vain.
        if self._current_request is not None and not self._current_request.content.is_eof():
            self._messages.clear()
            self.close()
            self._current_request.content.set_exception(Malformed(_said(Malformed, error.message)))
            self._current_request.content.feed_eof()

    def _refuse(self, status: int, message: str) -> None:
        # As aiohttp does with what it cannot parse; the connection ends with the answer.
        assert self._waiter is not None  # noqa: S101 - it waits
        self._messages.append((_ErrInfo(status, TimeoutError(), message), EMPTY_PAYLOAD))
        self._waiter.set_result(None)


def _said(kind: type[RqueueError], message: str) -> str:
    return f"{kind.__doc__} {message.partition(chr(10))[0]}".strip()


class Connections:
    """All that are open."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._open: dict[Connection, asyncio.Transport] = {}
        # In which order they may go, as it was when it was last looked, and whether that was since the last
        # sweep: at most once between two, however many come.
        self._may_go: deque[Connection] = deque()
        self._looked = False
        self._received = 0  # bytes since it was last looked how many are held
        self._dropped = 0

    def __len__(self) -> int:
        return len(self._open)

    def add(self, connection: Connection, transport: Any) -> None:
        """One was opened."""
        self._open[connection] = transport

    def discard(self, connection: Connection) -> None:
        """One has ended."""
        self._open.pop(connection, None)

    def make_room(self) -> bool:
        """Drop one: who has asked nothing yet before who is idle, and so on, the longest first.

        Returns False where there is none that may go.
        """
        if not self._may_go and not self._looked:
            self._looked = True
            state = {connection: connection.state for connection in self._open}
            self._may_go.extend(
                sorted(self._open, key=lambda connection: (state[connection], connection.since))
            )
        while self._may_go:
            connection = self._may_go.popleft()
            if connection in self._open and connection.state is not State.SERVED:
                self._drop(connection, "room")
                return True
        return False

    def received(self, count: int) -> None:
        """So many bytes have come that are not a part of a head."""
        self._received += count
        if self._received > self.limits.held_bytes // 4:
            self._free_memory()

    async def watch(self) -> None:
        """Look at all of them, again and again."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.limits.sweep_seconds)
            for number, connection in enumerate(tuple(self._open)):
                if number % SLICE == SLICE - 1:
                    await asyncio.sleep(0)
                if connection in self._open:
                    connection.look(loop.time(), self.limits.head_seconds)
            self._free_memory()
            self._may_go.clear()
            self._looked = False
            if self._dropped:
                log.warning("%d connections were closed to make room", self._dropped)
                self._dropped = 0

    def _free_memory(self) -> None:
        """Where bodies hold too much, drop those that have held theirs for longest."""
        self._received = 0
        holders = [
            (connection.since, held, connection)
            for connection in self._open
            if (held := connection.held_bytes)
        ]
        too_much = sum(held for _, held, _ in holders) - self.limits.held_bytes
        if too_much <= 0:
            return
        for _, held, connection in sorted(holders, key=lambda holder: holder[0]):
            if too_much > 0 and connection.state is not State.SERVED:
                self._drop(connection, "memory")
                too_much -= held

    def _drop(self, connection: Connection, reason: str) -> None:
        metrics.CONNECTIONS_DROPPED.count(reason)
        self._dropped += 1
        self._open.pop(connection).abort()
