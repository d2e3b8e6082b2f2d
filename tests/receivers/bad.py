"""Receivers that misbehave: raw servers on loopback, names that only a test knows, bad certificates."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from aiohttp.abc import AbstractResolver, ResolveResult

OK = b"HTTP/1.1 200 OK\r\n"
EMPTY = OK + b"Content-Length: 0\r\n\r\n"


@dataclass
class Peer:
    """One connection to a bad receiver: what it does with it, and how much it could send."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    bad: "Bad"

    async def request(self) -> bytes:
        """The request that came, whole."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        body = await self.reader.readexactly(length)
        self.bad.requests += 1
        return head + body

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()
        self.bad.sent += len(data)

    async def flood(self, unit: bytes, most: int = 10 << 30) -> None:
        """Say the same for 10 GB, or until nobody takes it any more."""
        block = unit * (65_536 // len(unit))
        for _ in range(most // len(block)):
            await self.say(block)

    async def drip(self, unit: bytes) -> None:
        while True:
            await self.say(unit)
            await asyncio.sleep(0.02)

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.writer.transport.abort()


Act = Callable[[Peer], Awaitable[None]]


@dataclass
class Bad:
    """A server that does as a test says with each connection, until the other end is gone."""

    url: str = ""
    accepted: int = 0
    requests: int = 0
    sent: int = 0
    open: set[asyncio.Task[None]] = field(default_factory=set)

    async def dropped(self) -> None:
        """Wait until no connection is open; fails where one stays."""
        async with asyncio.timeout(5):
            while self.open:
                await asyncio.wait(self.open)


@asynccontextmanager
async def misbehaving(act: Act, tls: ssl.SSLContext | None = None) -> AsyncIterator[Bad]:
    bad = Bad()

    async def serve(peer: Peer) -> None:
        acting = asyncio.ensure_future(act(peer))
        try:
            # uvloop has a RuntimeError for what is written after a reset.
            with suppress(OSError, EOFError, RuntimeError):
                await acting
                # What it has said is all: the other end has to go.
                while await peer.reader.read(65_536):
                    pass
        finally:
            acting.cancel()
            peer.writer.transport.abort()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        bad.accepted += 1
        task = asyncio.create_task(serve(Peer(reader, writer, bad)))
        bad.open.add(task)
        task.add_done_callback(bad.open.discard)

    listener = socket.create_server(("127.0.0.1", 0))
    # So that what could be sent is what was read, and a little.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32_768)
    server = await asyncio.start_server(accept, sock=listener, backlog=1000, ssl=tls)
    bad.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    try:
        yield bad
    finally:
        server.close()
        for task in tuple(bad.open):
            task.cancel()
        await asyncio.gather(*bad.open, return_exceptions=True)


def after_the_request(act: Act) -> Act:
    async def read_and_act(peer: Peer) -> None:
        await peer.request()
        await act(peer)

    return read_and_act


class Names(AbstractResolver):
    """A resolver of a test's own: name → its addresses, at each look-up the next of several lists.

    A name of which it knows nothing has no address; an empty list is an answer that never comes.
    """

    def __init__(self, known: Mapping[str, Sequence[Sequence[str]]]) -> None:
        self._known = {name: list(answers) for name, answers in known.items()}
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        if host not in self._known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        answers = self._known[host]
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        if not addresses:
            await asyncio.Event().wait()
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        pass


class Authorities:
    """An authority that the service trusts, and certificates for a server: good and bad ones."""

    def __init__(self, directory: Path) -> None:
        self._ca, self._stranger = trustme.CA(), trustme.CA()
        self.trusted = directory / "ca.pem"
        self._ca.cert_pem.write_to_path(self.trusted)

    def server(self, kind: str) -> ssl.SSLContext:
        """For a server whose certificate is good, or what `kind` says of it."""
        now = datetime.now(UTC)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        if kind == "self-signed":
            # Of an authority that signs with its own certificate, and shows that one.
            with self._stranger.private_key_pem.tempfile() as key, self._stranger.cert_pem.tempfile() as pem:
                context.load_cert_chain(pem, key)
            return context
        issued = {
            "good": lambda: self._ca.issue_cert("127.0.0.1"),
            "of a stranger": lambda: self._stranger.issue_cert("127.0.0.1"),
            "of another name": lambda: self._ca.issue_cert("portal.test"),
            "expired": lambda: self._ca.issue_cert("127.0.0.1", not_after=now - timedelta(days=1)),
            "not yet valid": lambda: self._ca.issue_cert("127.0.0.1", not_before=now + timedelta(days=1)),
        }[kind]()
        issued.configure_cert(context)
        return context
