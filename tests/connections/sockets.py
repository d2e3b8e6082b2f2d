"""Raw sockets, since no client library would send this."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST /body HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"
SECONDS = 10  # for what should take no time, on a machine that is busy


@contextmanager
def opened() -> Iterator[Callable[..., socket.socket]]:
    """Opens connections, and closes them in the end."""
    with ExitStack() as stack:

        def new(port: int, first: bytes = b"") -> socket.socket:
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=SECONDS))
            sock.sendall(first)
            return sock

        yield new


async def said(sock: socket.socket) -> bytes:
    """What a connection is told next."""
    sock.setblocking(False)
    async with asyncio.timeout(SECONDS):
        return await asyncio.get_running_loop().sock_recv(sock, 1 << 16)


async def heard(reader: asyncio.StreamReader) -> bytes:
    found = b""
    async with asyncio.timeout(SECONDS):
        with suppress(ConnectionError):
            while some := await reader.read(1 << 16):
                found += some
    return found


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not true():  # noqa: ASYNC110 - it is another process that it waits for
            await asyncio.sleep(0.02)


def ended(sock: socket.socket) -> bool:
    """Whether the other side has ended a connection; what it said before is thrown away."""
    sock.setblocking(False)
    try:
        while sock.recv(1 << 16):
            pass
    except BlockingIOError:
        return False
    except ConnectionError:
        pass
    return True
