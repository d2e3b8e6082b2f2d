"""The way to Redis: what is asked in one turn of the event loop travels as a pipeline, or a few.

redis-py opens the connections (URL, TLS, AUTH, SELECT) and this takes them over: one write for up to
AT_ONCE commands, replies parsed by hiredis and handed out in order, nobody waits for the replies to an
earlier write. Against redis-py's pool this is 4 times as many script calls a second at 32 callers (see
docs/decisions/0008-one-pipeline-a-turn.md), and no number of callers runs out of connections.

A command whose connection broke before its reply came, or that a server refused which is a replica by now, is
sent again: every script may be repeated.

Where writes are to be in replicas before they are answered, they have connections of their own, so that no
reading waits behind a WAIT (see docs/decisions/0014-wait-behind-a-batch.md).
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any, Protocol, Self, TypeVar

import hiredis
from redis import exceptions
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError, ResponseError

from rqueue import metrics

# More than one, so that a page of a list that is on its way does not hold up the small replies.
CONNECTIONS = 3
CONNECT_SECONDS = 2
# So many commands are not kept back until the turn ends, so that Redis works while others still ask: at 32
# connections this is a fifth more creates a second.
AT_ONCE = 8
# Without a byte from Redis for so long, while it owes a reply, a connection is given up.
REPLY_SECONDS = 5.0
# A process that looks so much later than it wanted to was stopped, or starved.
ASLEEP_SECONDS = 1.0
# So long after it was asked for, nothing is sent a second time any more.
ANSWER_SECONDS = CONNECT_SECONDS + REPLY_SECONDS
# So often a command is sent again whose connection broke.
SENT_AGAIN = 2 * CONNECTIONS
# Connections are not made anew more often because the server is a replica, which may stay one.
LEAVE_SECONDS = 1.0
MARK_SECONDS = 7 * 24 * 3600

T = TypeVar("T")
Word = str | bytes | int | float
_SECONDS, _ERRORS = metrics.REDIS.cell(), metrics.REDIS_ERRORS.cell()
# A command and its reply to come.
_Entry = tuple[bytes, "asyncio.Future[Any]"]


class Redis(Protocol):
    """What the store needs of Redis. Replies are those of RESP2, text decoded, nothing else done to them.

    `write` is for what may change something: such an answer is to be relied on like what it says is kept.
    """

    async def call(self, *words: Word, write: bool = False) -> Any:
        """The reply to one command. Raises ResponseError with the server's words, or another RedisError."""

    async def calls(self, *commands: Sequence[Word], write: bool = False) -> list[Any]:
        """The replies to commands that are sent together; raises the first error among them.

        Those that follow each other and are of one type are on one connection, one after the other.
        """

    async def primaries(self) -> "Sequence[Redis]":
        """The servers that share the keys, to be asked what is of no key: INFO, or SCAN of all there is."""


class NotReplicated(RedisError):
    """The server has the write, and not enough replicas said in time that they have it too."""


@dataclass(frozen=True, slots=True)
class Replicas:
    """How many replicas must have a write before it is answered, and for how long they are waited for.

    The key is written before each WAIT: a WAIT asks about the last write of its own connection, which for a
    script that found its work done already, as a repeated one does, would be an old one or none.
    """

    count: int
    timeout_ms: int
    key: str


class _Lost(exceptions.ConnectionError):
    """The connection broke after the command was sent, or leads to a replica: it is sent once more."""


class Pipeline:
    """A few connections to one server, shared by everyone in this event loop."""

    def __init__(self, make: Callable[[], AbstractConnection], replicas: Replicas | None = None) -> None:
        self._lanes = [_Lane(make) for _ in range(CONNECTIONS)]
        self._reads = self._writes = _Turn(self._lanes)
        self._confirming: list[_Confirming] = []
        self._left = 0.0
        if replicas:
            writing = [_Lane(make) for _ in range(CONNECTIONS)]
            self._lanes += writing
            self._confirming = [_Confirming(lane, replicas) for lane in writing]
            self._reads, self._writes = _Turn(self._lanes[:CONNECTIONS]), _Turn(self._confirming)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for confirming in self._confirming:
            confirming.close()
        for lane in self._lanes:
            await lane.close()
        # A transport that is aborted closes in the next turn of the loop.
        await asyncio.sleep(0)

    async def call(self, *words: Word, write: bool = False) -> Any:
        """As in Redis. Raises NotReplicated, too."""
        packed = hiredis.pack_command(words)  # type: ignore[arg-type]
        turn = self._writes if write else self._reads
        began = monotonic()
        try:
            try:
                reply = await turn.sent(packed)
                if isinstance(reply, ResponseError):
                    self._leave_replica(reply, began)
            except _Lost:
                _ERRORS[0] += 1
                async with _the_rest_of(began):
                    reply = await _again(lambda: turn.sent(packed))
        except RedisError:
            _ERRORS[0] += 1
            raise
        metrics.REDIS.observe(_SECONDS, monotonic() - began)
        if isinstance(reply, ResponseError):
            raise _counted(reply)
        return reply

    async def calls(self, *commands: Sequence[Word], write: bool = False) -> list[Any]:
        """As in Redis. Raises NotReplicated, too."""
        packed = [hiredis.pack_command(tuple(words)) for words in commands]  # type: ignore[arg-type]
        turn = self._writes if write else self._reads
        began = monotonic()
        try:
            try:
                replies = await turn.sent_together(packed)
                for reply in replies:
                    if isinstance(reply, ResponseError):
                        self._leave_replica(reply, began)
            except _Lost:
                _ERRORS[0] += 1
                async with _the_rest_of(began):
                    replies = await _again(lambda: turn.sent_together(packed))
        except RedisError:
            _ERRORS[0] += 1
            raise
        metrics.REDIS.observe(_SECONDS, monotonic() - began)
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise _counted(reply)
        return replies

    async def primaries(self) -> "Sequence[Pipeline]":
        """As in Redis."""
        return (self,)

    def leave(self, address: tuple[str, int]) -> None:
        """Go on at the server of this host and port: connections to another are broken, and made anew."""
        for lane in self._lanes:
            if lane.address not in (None, address):
                lane.end(_Lost, "the primary is another server now")

    def _leave_replica(self, refusal: ResponseError, began: float) -> None:
        """Raise _Lost where the server says that it is a replica: where the primary is, is asked anew."""
        if not str(refusal).startswith("READONLY"):
            return
        now = monotonic()
        if now - self._left > LEAVE_SECONDS:
            self._left = now
            for lane in self._lanes:
                lane.end(_Lost, "the server is a replica now")
        elif began > self._left:
            return
        raise _Lost(str(refusal))


class _Sends(Protocol):
    """What commands can be sent on."""

    def load(self) -> tuple[int, float]: ...
    def send(self, entries: list[_Entry]) -> None: ...


class _Turn:
    """What is asked in one turn of the event loop, for the least busy of some lanes."""

    def __init__(self, lanes: Sequence[_Sends]) -> None:
        self._lanes = lanes
        self._asked: list[_Entry] = []

    def sent(self, packed: bytes) -> "asyncio.Future[Any]":
        """The reply to come."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._put([(packed, future)], loop)
        return future

    async def sent_together(self, packed: list[bytes]) -> list[Any]:
        """The replies to commands that go on one connection, one after the other."""
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Any]] = [loop.create_future() for _ in packed]
        self._put(list(zip(packed, futures, strict=True)), loop)
        replies = await asyncio.gather(*futures, return_exceptions=True)
        if not any(isinstance(reply, ResponseError) for reply in replies):
            for reply in replies:
                if isinstance(reply, BaseException):
                    raise reply
        # One was refused, and so not all is done whatever became of the others.
        return replies

    def _put(self, entries: list[_Entry], loop: asyncio.AbstractEventLoop) -> None:
        if not self._asked:
            # Runs after all that is ready now, so everyone's command of this turn is there by then.
            loop.call_soon(self._send)
        self._asked += entries
        if len(self._asked) >= AT_ONCE:
            self._send()

    def _send(self) -> None:
        asked, self._asked = self._asked, []
        if asked := [entry for entry in asked if not entry[1].cancelled()]:
            min(self._lanes, key=lambda lane: lane.load()).send(asked)


class _Confirming:
    """A lane whose replies are handed out once enough replicas have all that was written until then.

    One batch at a time, with one WAIT behind it; what comes meanwhile is the next batch (group commit). So
    nobody waits longer than for two of them. A refusal promises nothing and is handed out at once.
    """

    def __init__(self, lane: "_Lane", replicas: Replicas) -> None:
        self._lane = lane
        self._replicas = replicas
        key = replicas.key
        # An EXPIRE is a write each time, and one that a full server takes: what frees memory must go on.
        self._behind = [
            hiredis.pack_command(words)  # type: ignore[arg-type]
            for words in (
                ("SET", key, "", "NX"),
                ("EXPIRE", key, MARK_SECONDS),
                ("WAIT", replicas.count, replicas.timeout_ms),
            )
        ]
        self._next: list[_Entry] = []
        self._task: asyncio.Task[None] | None = None

    def load(self) -> tuple[int, float]:
        """As of a lane."""
        owed, heard = self._lane.load()
        return owed + len(self._next), heard

    def send(self, entries: list[_Entry]) -> None:
        """Write commands as soon as those before them are confirmed."""
        self._next += entries
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    def close(self) -> None:
        """Whoever is in no batch yet gets an error; the others do when the lane is closed."""
        self._fail_next(exceptions.ConnectionError("the connection was closed"))

    async def _run(self) -> None:
        while asked := [entry for entry in self._next if not entry[1].cancelled()]:
            self._next = []
            try:
                await self._commit(asked)
            except RedisError as error:
                _fail([future for _, future in asked], type(error), str(error))
                # They would wait as long again; whoever may be sent once more comes back by itself.
                self._fail_next(error)
        self._next, self._task = [], None

    async def _commit(self, asked: list[_Entry]) -> None:
        loop = asyncio.get_running_loop()
        replies: list[asyncio.Future[Any]] = [loop.create_future() for _ in (*asked, *self._behind)]
        for (_, future), own in zip(asked, replies, strict=False):
            own.add_done_callback(partial(_hand_out_refusal, future))
        packed = (*(packed for packed, _ in asked), *self._behind)
        self._lane.send(list(zip(packed, replies, strict=True)))
        *found, _, marked, count = await asyncio.gather(*replies)
        if isinstance(count, ResponseError):
            # The server has become a replica meanwhile, or this user may not ask.
            raise _Lost(str(count))
        for (_, future), reply in zip(asked, found, strict=True):
            if future.done():
                continue
            if isinstance(marked, ResponseError):
                future.set_result(marked)
            elif marked == 1 and count >= self._replicas.count:
                future.set_result(reply)
            else:
                future.set_exception(
                    NotReplicated(
                        f"{count} of {self._replicas.count} replicas said so"
                        f" within {self._replicas.timeout_ms} ms"
                    )
                )

    def _fail_next(self, error: RedisError) -> None:
        asked, self._next = self._next, []
        _fail([future for _, future in asked], type(error), str(error))


def _hand_out_refusal(future: "asyncio.Future[Any]", own: "asyncio.Future[Any]") -> None:
    if not (own.cancelled() or own.exception() or future.done()) and isinstance(own.result(), ResponseError):
        future.set_result(own.result())


async def _again(send: Callable[[], Awaitable[T]]) -> T:
    """Send again, a few times: all connections may have broken at one moment, and the new ones soon after."""
    for _ in range(SENT_AGAIN - 1):
        try:
            return await send()
        except _Lost:
            _ERRORS[0] += 1
    return await send()


@asynccontextmanager
async def _the_rest_of(began: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(began + ANSWER_SECONDS - monotonic()):
            yield
    except TimeoutError:
        raise exceptions.TimeoutError(f"no reply within {ANSWER_SECONDS:g} s") from None


class _Lane(asyncio.Protocol):
    """One connection, opened when it is needed and again after it broke."""

    def __init__(self, make: Callable[[], AbstractConnection]) -> None:
        self._make = make
        self._opening: asyncio.Task[None] | None = None
        self._unsent: list[_Entry] = []
        self._connection: AbstractConnection | None = None
        self._transport: asyncio.WriteTransport | None = None
        # Futures in the order of their commands; one that was cancelled keeps its place.
        self._owed: deque[asyncio.Future[Any]] = deque()
        self._heard = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self._watched_until = 0.0
        self._excused = False
        self._closed = False

    @property
    def address(self) -> tuple[str, int] | None:
        """The host and port it is connected to; None where it is to none, or by a socket that has no such."""
        host, port = getattr(self._connection, "host", None), getattr(self._connection, "port", None)
        return None if host is None or port is None else (host, port)

    def load(self) -> tuple[int, float]:
        """How many replies are still to come, and when the last one did: an idle one is used in turn."""
        return len(self._owed) + len(self._unsent), self._heard

    def send(self, entries: list[_Entry]) -> None:
        """Write commands at once, or as soon as there is a connection."""
        if self._closed:
            _fail([future for _, future in entries], exceptions.ConnectionError, "the connection was closed")
        elif self._transport is None:
            self._unsent += entries
            if self._opening is None:
                self._opening = asyncio.create_task(self._open())
        else:
            if not self._owed:
                self._expect()
            self._owed.extend([future for _, future in entries])
            self._transport.write(b"".join([packed for packed, _ in entries]))

    async def close(self) -> None:
        """Break the connection, for good; whoever still waits for a reply gets an error."""
        self._closed = True
        while self._opening is not None and not self._opening.done():
            # Again and again: asyncio.timeout and wait_for, in which redis-py connects, may lose one.
            self._opening.cancel()
            await asyncio.wait([self._opening], timeout=0.2)
        unsent, self._unsent = self._unsent, []
        _fail([future for _, future in unsent], exceptions.ConnectionError, "the connection was closed")
        self.end(exceptions.ConnectionError, "the connection was closed")

    # --- opening -----------------------------------------------------------------------------------

    async def _open(self) -> None:
        connection = self._make()
        try:
            # With all that is said at first: a server that hangs takes connections, and no more.
            async with asyncio.timeout(CONNECT_SECONDS):
                try:
                    await connection.connect()  # type: ignore[no-untyped-call]
                except exceptions.ConnectionError:
                    # As a command whose connection broke is sent again: nothing has been sent yet.
                    await connection.connect()  # type: ignore[no-untyped-call]
            self._take_over(connection)
        except BaseException as error:
            await connection.disconnect(nowait=True)
            unsent, self._unsent = self._unsent, []
            said = f"no answer within {CONNECT_SECONDS} s" if isinstance(error, TimeoutError) else error
            _fail([future for _, future in unsent], exceptions.ConnectionError, f"cannot connect: {said}")
            if not isinstance(error, Exception):
                raise
        finally:
            self._opening = None

    def _take_over(self, connection: AbstractConnection) -> None:
        # The one thing of redis-py's that is not public: the stream under its connection. Its own reader
        # costs a task, a timer and several coroutines for each reply.
        writer = connection._writer
        assert writer is not None  # noqa: S101 - it is connected
        transport = writer.transport
        self._reader = hiredis.Reader(
            replyError=ResponseError, encoding="utf-8", errors="replace", notEnoughData=self
        )
        transport.set_protocol(self)
        self._connection, self._transport = connection, transport
        unsent, self._unsent = self._unsent, []
        self.send([entry for entry in unsent if not entry[1].cancelled()])

    # --- what the transport tells ------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Hand out the replies that are whole."""
        self._heard = asyncio.get_running_loop().time()
        reader, owed = self._reader, self._owed
        reader.feed(data)
        try:
            while (reply := reader.gets()) is not self:
                future = owed.popleft()
                if not future.done():
                    future.set_result(reply)
        except (hiredis.ProtocolError, IndexError) as error:
            # Nonsense, or a reply that nobody asked for, such as that there are too many clients.
            self.end(exceptions.ConnectionError, f"Redis said what cannot be understood: {error!r}")

    def connection_lost(self, error: Exception | None) -> None:
        """The server is gone."""
        self.end(_Lost, f"the connection was lost: {error or 'closed by the server'}")

    # --- ending ------------------------------------------------------------------------------------

    def _expect(self) -> None:
        loop = asyncio.get_running_loop()
        self._heard, self._excused = loop.time(), False
        if self._watch is None:
            self._watch_from(loop)

    def _watch_from(self, loop: asyncio.AbstractEventLoop) -> None:
        self._watched_until = self._heard + REPLY_SECONDS
        self._watch = loop.call_at(self._watched_until, self._look)

    def _look(self) -> None:
        self._watch = None
        loop = asyncio.get_running_loop()
        if not self._owed:
            return
        if loop.time() - self._watched_until > ASLEEP_SECONDS and not self._excused:
            # It is this process that was away: what came meanwhile is still to be read.
            self._heard, self._excused = loop.time(), True
        if loop.time() - self._heard >= REPLY_SECONDS:
            # Not sent again: a server that hangs would only be asked twice.
            self.end(exceptions.TimeoutError, f"no reply within {REPLY_SECONDS:g} s")
        else:
            self._watch_from(loop)

    def end(self, kind: type[RedisError], said: str) -> None:
        """Break the connection, until it is needed again; whoever waits for a reply gets this error."""
        transport, self._transport = self._transport, None
        connection, self._connection = self._connection, None
        owed, self._owed = self._owed, deque()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if transport is not None:
            transport.abort()
        if connection is not None:
            connection._close()  # type: ignore[no-untyped-call]
        _fail(owed, kind, said)


def _counted(refusal: ResponseError) -> ResponseError:
    """A refusal as it is. That a script is not known yet is none: it is sent then."""
    if not str(refusal).startswith("NOSCRIPT"):
        _ERRORS[0] += 1
    return refusal


def _fail(futures: Iterable["asyncio.Future[Any]"], kind: type[RedisError], said: str) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(kind(said))
