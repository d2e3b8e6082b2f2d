"""A small HTTP client and receiver for what wrk cannot do: a fixed number of requests, answers that are
read, callbacks that arrive.

Raw protocols on uvloop with requests made beforehand: some 30 µs of client a request, where a client
library takes hundreds. Speaks just enough HTTP/1.1 for servers on loopback that are known.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson

HOST = "127.0.0.1"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)


class Failed(Exception):
    """Something did not do what it must for a figure to count; the message says what."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, and when it came: seconds from the request to the first byte and to the last."""

    status: int
    body: bytes
    first: float
    last: float

    def json(self) -> Any:
        return orjson.loads(self.body)


def request(method: str, path: str, body: Any = None) -> bytes:
    """A request as it goes out. The path must be encoded; a body is written as JSON."""
    head = f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\n"
    if body is None:
        return f"{head}\r\n".encode()
    written = body if isinstance(body, bytes) else orjson.dumps(body)
    return (
        f"{head}Content-Type: application/json\r\nContent-Length: {len(written)}\r\n\r\n".encode() + written
    )


class Client(asyncio.Protocol):
    """One connection that is kept, one request at a time."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._answered: asyncio.Future[Answer] | None = None
        self._transport: asyncio.Transport | None = None
        self._sent = self._first = 0.0
        self._body_at = self._length = 0
        self._chunked = False

    @classmethod
    @asynccontextmanager
    async def to(cls, port: int) -> AsyncIterator["Client"]:
        """A client connected to a port of this machine."""
        transport, client = await asyncio.get_running_loop().create_connection(cls, HOST, port)
        try:
            yield client
        finally:
            transport.close()

    async def ask(self, request: bytes) -> Answer:
        """Send a request and wait for the answer. Raises Failed where the connection breaks first."""
        if self._transport is None:
            raise Failed("the server closed the connection")
        self._answered = asyncio.get_running_loop().create_future()
        self._buffer = bytearray()
        self._body_at = 0
        self._first = 0.0
        self._sent = time.perf_counter()
        self._transport.write(request)
        return await self._answered

    async def done(self, request: bytes) -> Answer:
        """As `ask`; raises Failed for an answer that is not 2xx."""
        answer = await self.ask(request)
        if not 200 <= answer.status < 300:
            raise Failed(f"{request[:80]!r} was answered {answer.status}: {answer.body[:200]!r}")
        return answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._answered and not self._answered.done():
            self._answered.set_exception(Failed(f"the connection broke: {exc}"))

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        self._first = self._first or now
        self._buffer += data
        if not self._body_at:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self._body_at = end + 4
            head = bytes(self._buffer[:end])
            length = _LENGTH.search(head)
            self._length = int(length[1]) if length else 0
            self._chunked = bool(_CHUNKED.search(head))
        # JSON holds no bare line ends, so these bytes are the last chunk.
        whole = (
            self._buffer.endswith(b"\r\n0\r\n\r\n")
            if self._chunked
            else len(self._buffer) - self._body_at >= self._length
        )
        if whole and self._answered and not self._answered.done():
            body = bytes(memoryview(self._buffer)[self._body_at :])
            status = int(self._buffer[9:12])
            if self._chunked:
                body = _joined(body)
            self._answered.set_result(Answer(status, body, self._first - self._sent, now - self._sent))


def _joined(chunks: bytes) -> bytes:
    parts: list[bytes] = []
    at = 0
    while True:
        end = chunks.index(b"\r\n", at)
        length = int(chunks[at:end], 16)
        if not length:
            return b"".join(parts)
        parts.append(chunks[end + 2 : end + 2 + length])
        at = end + 2 + length + 2


async def all_done(port: int, requests: Iterable[bytes], connections: int = 1) -> list[float]:
    """Send every request, each connection one after the other; seconds that each took, in no order.

    Raises Failed for the first answer that is not 2xx.
    """
    left, seconds = iter(requests), []

    async def send() -> None:
        async with Client.to(port) as client:
            for one in left:
                seconds.append((await client.done(one)).last)  # noqa: PERF401 - others append meanwhile

    async with asyncio.TaskGroup() as tasks:
        for _ in range(connections):
            tasks.create_task(send())
    return seconds


class Receiver:
    """A client's end of the callbacks: answers 200 at once, and knows when what arrived.

    `arrived` holds, in order, the last part of each callback's path and the moment
    (`time.perf_counter`) at which it was there in whole; `body` is that of the last one.
    """

    def __init__(self) -> None:
        self.port = 0
        self.arrived: asyncio.Queue[tuple[str, float]] = asyncio.Queue()
        self.body = b""

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/"

    async def next(self, seconds: float = 30) -> tuple[str, float]:
        """The next arrival. Raises Failed when there is none in time."""
        try:
            async with asyncio.timeout(seconds):
                return await self.arrived.get()
        except TimeoutError:
            raise Failed(f"no callback arrived within {seconds:g} s") from None


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver on a free port."""
    receiver = Receiver()
    server = await asyncio.get_running_loop().create_server(lambda: _Call(receiver), HOST, 0)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()


class _Call(asyncio.Protocol):
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _LENGTH.search(self._buffer, 0, end)
        whole = end + 4 + (int(length[1]) if length else 0)
        if len(self._buffer) < whole:
            return
        path = self._buffer[: self._buffer.index(b" HTTP/")].decode()
        self._receiver.body = self._buffer[end + 4 : whole]
        self._receiver.arrived.put_nowait((path.rpartition("/")[2], time.perf_counter()))
        self._buffer = self._buffer[whole:]
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
