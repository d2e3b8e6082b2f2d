"""rqueue.probe and `rqueue healthcheck`: whether the service that runs here is ready."""

import asyncio
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from rqueue.errors import NotReady
from rqueue.probe import ask
from tests.conftest import Receiver, Service

RQUEUE = Path(sys.executable).with_name("rqueue")


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def checked(port: int, **settings: str) -> "subprocess.CompletedProcess[str]":
    environment = {"RQUEUE_PORT": str(port), **{f"RQUEUE_{name}": value for name, value in settings.items()}}
    return subprocess.run(
        [RQUEUE, "healthcheck"], env=environment, capture_output=True, text=True, timeout=20, check=False
    )


async def test_a_service_that_is_ready(service: Service) -> None:
    await service.settle()
    for host in ("127.0.0.1", "localhost", "0.0.0.0"):
        await asyncio.to_thread(ask, host, port_of(service.url))
    check = await asyncio.to_thread(checked, port_of(service.url))
    assert (check.returncode, check.stdout, check.stderr) == (0, "", "")


async def test_a_service_that_is_not_ready_says_why(receiver: Receiver) -> None:
    receiver.answer = lambda request: web.json_response(
        {"ok": False, "error": {"message": "the reaper has not ticked lately"}}, status=503
    )
    check = await asyncio.to_thread(checked, port_of(receiver.url))
    assert check.returncode == 1
    assert "503" in check.stderr
    assert "the reaper has not ticked lately" in check.stderr
    assert receiver.calls[0][0] == "/readyz"


def test_nobody_there(free_port: int) -> None:
    check = checked(free_port)
    assert check.returncode == 1
    assert f"no answer from 127.0.0.1 port {free_port}" in check.stderr


def test_settings_that_the_service_refuses_too(free_port: int) -> None:
    check = checked(free_port, NONSENSE="1")
    assert check.returncode == 1
    assert "RQUEUE_NONSENSE" in check.stderr
    assert "Traceback" not in check.stderr


async def test_what_is_no_http(free_port: int) -> None:
    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0\r\n")
        await reader.read(1)
        writer.close()

    async with await asyncio.start_server(nonsense, "127.0.0.1", free_port):
        with pytest.raises(NotReady):
            await asyncio.to_thread(ask, "127.0.0.1", free_port)


@pytest.fixture
async def tls_port() -> AsyncIterator[int]:
    """The port of a receiver of TLS, whose certificate is for another name."""

    async def ready(_: web.Request) -> web.Response:
        return web.json_response({"ok": True})

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("rqueue.example").configure_cert(context)
    app = web.Application()
    app.router.add_get("/readyz", ready)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def test_a_service_with_a_certificate_for_others(tls_port: int) -> None:
    await asyncio.to_thread(ask, "127.0.0.1", tls_port, tls=True)
    with pytest.raises(NotReady):
        await asyncio.to_thread(ask, "127.0.0.1", tls_port)
