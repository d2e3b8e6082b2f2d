"""HTTPS on a port of our own: who is served, and who does not hold it up."""

import asyncio
import gc
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest
from aiohttp import web

from rqueue import tls
from rqueue.files import Watched
from rqueue.web import server
from rqueue.web.connections import Limits
from tests.tls.pems import Authority, Pair, serial


@asynccontextmanager
async def serving(pair: Pair, limits: Limits = Limits()) -> AsyncIterator[int]:  # noqa: B008
    """An application of one route on a port of its own."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text="x" * int(request.query.get("size", 1)))

    app = web.Application()
    app.router.add_get("/", answer)
    end = Watched("X_FILE", lambda *_: tls.server(pair.certificate, pair.key), pair.certificate, pair.key)
    sock = socket.create_server(("127.0.0.1", 0))
    async with server.listening(app, sock, 5, end, limits):
        yield sock.getsockname()[1]


async def shown(port: int, authority: Authority) -> str:
    """The serial number of the certificate that a new connection is shown."""
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=authority.trusted())
    found: str = writer.get_extra_info("peercert")["serialNumber"]
    writer.transport.abort()
    return found


async def test_large_answers_and_many_connections(authority, ours):
    async with serving(ours) as port, aiohttp.ClientSession() as client:
        trusted = authority.trusted()

        async def size(asked: int) -> int:
            async with client.get(f"https://127.0.0.1:{port}/?size={asked}", ssl=trusted) as response:
                return len(await response.read())

        asked = [n * 20_011 for n in range(100)]
        assert await asyncio.gather(*map(size, asked)) == asked


async def test_less_than_tls_1_2_is_refused(authority, ours):
    old = authority.trusted()
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with serving(ours) as port:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", port, ssl=old)
        assert await shown(port, authority)


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01"])
async def test_who_does_not_complete_the_handshake_is_dropped(authority, ours, monkeypatch, said):
    monkeypatch.setattr(server, "HANDSHAKE_SECONDS", 0.3)
    async with serving(ours) as port, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(said)
        with suppress(ConnectionError):
            while await reader.read(1000):
                pass
        assert await shown(port, authority)
        writer.transport.abort()


async def test_handshakes_that_hang_make_room(authority, ours, monkeypatch):
    monkeypatch.setattr(server, "LONG_HANDSHAKE_SECONDS", 0.1)
    async with serving(ours, Limits(connections=3)) as port, asyncio.timeout(server.HANDSHAKE_SECONDS / 2):
        hanging = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        assert await shown(port, authority)
        with suppress(ConnectionError):
            assert await hanging[0][0].read(1000) == b""
        for _, writer in hanging:
            writer.transport.abort()


async def test_who_is_in_its_handshake_does_not_hold_up_the_end(ours):
    began = 0.0
    async with asyncio.timeout(10):
        async with serving(ours) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.sleep(0)
            began = time.monotonic()
        assert time.monotonic() - began < server.HANDSHAKE_SECONDS / 2
        with suppress(ConnectionError):
            assert await reader.read(1000) == b""
        writer.transport.abort()


async def test_who_does_not_trust_the_certificate_disturbs_nobody(authority, stranger, ours, caplog):
    async with serving(ours) as port:
        with pytest.raises(ssl.SSLCertVerificationError):
            await shown(port, stranger)
        assert await shown(port, authority) == serial(ours.certificate)
    gc.collect()  # a task's exception that nobody took is logged when it is collected
    assert [record for record in caplog.records if record.levelname != "DEBUG"] == []
