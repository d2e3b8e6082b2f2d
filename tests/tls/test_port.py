"""HTTPS on the service's own port, and certificates that are renewed under it."""

import asyncio
import os
import signal
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from rqueue import tls
from rqueue.files import Watched
from rqueue.web import server
from tests.process import Running, running
from tests.test_cli import refused
from tests.test_workers import workers
from tests.tls.pems import Authority, Pair, serial


@asynccontextmanager
async def serving(pair: Pair) -> AsyncIterator[int]:
    """An application of one route on a port of its own."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text="x" * int(request.query.get("size", 1)))

    app = web.Application()
    app.router.add_get("/", answer)
    end = Watched("X_FILE", lambda *_: tls.server(pair.certificate, pair.key), pair.certificate, pair.key)
    sock = socket.create_server(("127.0.0.1", 0))
    async with server.listening(app, sock, grace=5, tls=end):
        yield sock.getsockname()[1]


def copied(pair: Pair, to: Pair) -> Pair:
    """Put a pair at another's place, as a renewal does."""
    to.key.write_bytes(pair.key.read_bytes())
    to.certificate.write_bytes(pair.certificate.read_bytes())
    return to


@pytest.fixture
def place(tmp_path: Path, ours: Pair) -> Pair:
    """Our certificate at a place of the test's own."""
    return copied(ours, Pair(tmp_path / "tls.crt", tmp_path / "tls.key"))


def of(place: Pair) -> dict[str, str]:
    return {"TLS_CERT_FILE": str(place.certificate), "TLS_KEY_FILE": str(place.key)}


async def shown(port: int, authority: Authority) -> str:
    """The serial number of the certificate that a new connection is shown."""
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=authority.trusted())
    found: str = writer.get_extra_info("peercert")["serialNumber"]
    writer.transport.abort()
    return found


def port_of(service: Running) -> int:
    return int(service.url.rpartition(":")[2])


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - another process has no event to wait for
            await asyncio.sleep(0.02)


# --- the server --------------------------------------------------------------------------------------


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
    with pytest.warns(DeprecationWarning):
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
        try:
            while await reader.read(1000):
                pass
        except ConnectionError:
            pass
        assert await shown(port, authority)
        writer.transport.abort()


async def test_who_is_in_its_handshake_does_not_hold_up_the_end(ours):
    began = 0.0
    async with asyncio.timeout(10):
        async with serving(ours) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.sleep(0)
            began = time.monotonic()
        assert time.monotonic() - began < server.HANDSHAKE_SECONDS / 2
        try:
            assert await reader.read(1000) == b""
        except ConnectionError:
            pass
        writer.transport.abort()


async def test_who_does_not_trust_the_certificate_disturbs_nobody(authority, stranger, ours):
    async with serving(ours) as port:
        with pytest.raises(ssl.SSLCertVerificationError):
            await shown(port, stranger)
        assert await shown(port, authority) == serial(ours.certificate)


# --- the service -------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", ["1", "2"])
async def test_the_service_speaks_https_and_its_own_callbacks_reach_its_inbox(
    tmp_path, authority, place, count
):
    settings = {**of(place), "CALLBACK_CA_FILE": str(authority.path), "WORKERS": count}
    async with running(tmp_path / "data", **settings) as service:
        assert service.url.startswith("https://127.0.0.1:")
        connector = aiohttp.TCPConnector(ssl=authority.trusted())
        async with aiohttp.ClientSession(service.url, connector=connector) as client:
            body = {"request_id": "a", "owner_id": "y", "callback": "abc"}
            async with client.post("/v1/vm/", json=body) as response:
                assert response.status == 201
            async with client.put("/queues/vm/pools/default", json={"hosts": {"n": {"slots": 1}}}):
                pass

            async def arrived() -> bool:
                async with client.get("/inbox/") as response:
                    return bool((await response.json())["data"])

            await until(arrived)
        async with aiohttp.ClientSession() as client:
            with pytest.raises(aiohttp.ClientError):
                await client.get(f"http://127.0.0.1:{port_of(service)}/healthz")
        assert await service.end() == 0
    assert not [event for event in service.log if event["level"] in ("ERROR", "WARNING", "")]


async def test_a_renewed_certificate_is_shown_and_a_broken_one_is_not(tmp_path, authority, place):
    async with running(tmp_path / "data", **of(place)) as service:
        first = serial(place.certificate)
        assert await shown(port_of(service), authority) == first
        place.key.write_text("s3cretword")

        def complained() -> list[str]:
            return [event["message"] for event in service.log if event["level"] == "ERROR"]

        async def said() -> bool:
            return bool(complained())

        await until(said)
        assert await shown(port_of(service), authority) == first
        (complaint,) = complained()
        assert "RQUEUE_TLS_KEY_FILE" in complaint
        assert str(place.key) in complaint
        assert "s3cretword" not in complaint
        copied(authority.issue("127.0.0.1"), place)

        async def renewed() -> bool:
            return await shown(port_of(service), authority) == serial(place.certificate) != first

        await until(renewed)


async def test_a_worker_that_cannot_start_with_a_broken_file_waits_until_it_is_mended(tmp_path, place, ours):
    changes = "supervisor.LONGEST_PAUSE_SECONDS = 0.2"
    code = f"from rqueue import supervisor; {changes}; from rqueue.cli import main; main(['serve'])"
    async with running(tmp_path / "data", (sys.executable, "-c", code), **of(place), WORKERS="2") as service:
        before = workers(service)
        place.key.unlink()
        killed = next(iter(before))
        os.kill(killed, signal.SIGKILL)

        async def refusing() -> bool:
            return any("a worker cannot start: RQUEUE_TLS_CERT_FILE" in e["message"] for e in service.log)

        async def replaced() -> bool:
            heard = [event for event in service.log if event["message"] == "a worker listens"]
            return len(heard) >= 1

        await until(refusing)
        assert before - {killed} <= workers(service)
        copied(ours, place)
        await until(replaced)


# --- what is refused at the start --------------------------------------------------------------------


def test_a_pair_that_is_none_is_refused(tmp_path, ours, authority):
    other = authority.issue("127.0.0.1")
    (tmp_path / "empty").write_text("")
    (tmp_path / "nonsense").write_text("s3cretword")
    for certificate, key, named in [
        (ours.certificate, other.key, "the key is not that of the certificate"),
        (ours.certificate, tmp_path / "none", f"{tmp_path / 'none'} cannot be read"),
        (tmp_path / "empty", ours.key, f"{tmp_path / 'empty'} is empty"),
        (tmp_path / "nonsense", ours.key, str(tmp_path / "nonsense")),
        (ours.certificate, tmp_path / "nonsense", str(tmp_path / "nonsense")),
    ]:
        said = refused(tmp_path, RQUEUE_TLS_CERT_FILE=str(certificate), RQUEUE_TLS_KEY_FILE=str(key))
        assert "RQUEUE_TLS_CERT_FILE" in said
        assert named in said
        assert "s3cretword" not in said


def test_a_key_with_a_passphrase_is_refused_and_not_asked_for(tmp_path, ours):
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(ours.key.read_bytes(), None)
    (tmp_path / "key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    said = refused(
        tmp_path,
        RQUEUE_TLS_CERT_FILE=str(ours.certificate),
        RQUEUE_TLS_KEY_FILE=str(tmp_path / "key"),
        RQUEUE_WORKERS="2",
    )
    assert "without a passphrase" in said
