"""Many connections at once, of every bad kind, on the service as a process: it stays quick, and small."""

import asyncio
import resource
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from tests.connections.sockets import GET, POST, SECONDS, ended, opened, said, until
from tests.process import Running, running

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


@pytest.fixture
def descriptors() -> Iterator[Callable[[int], None]]:
    """So many files may be open; skips where the system does not give them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def allow(count: int) -> None:
        if 0 <= hard < count:
            pytest.skip(
                f"NOT TRIED: {count} open files are needed, and the hard limit is {hard} (ulimit -Hn)"
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))

    yield allow
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def rss_mb(service: Running) -> float:
    """What the process has in memory now."""
    rows = Path(f"/proc/{service.process.pid}/status").read_text().splitlines()
    return next(int(row.split()[1]) / 1024 for row in rows if row.startswith("VmRSS"))


async def p99(service: Running, requests: int = 200) -> float:
    """Of a client that asks one after the other, in seconds."""
    took = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS)) as client:
        for _ in range(requests):
            began = time.monotonic()
            async with client.get(service.url + "/v1/vm/nobody") as response:
                assert response.status == 404
            took.append(time.monotonic() - began)
    found = statistics.quantiles(took, n=100)[-1]
    print(f"p99 {found * 1000:.1f} ms, RSS {rss_mb(service):.0f} MB")  # noqa: T201 - pytest -s shows it
    return found


def port_of(service: Running) -> int:
    return int(service.url.rpartition(":")[2])


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_500_heads_that_drip_hold_nobody_up(tmp_path, workers):
    async with running(tmp_path, WORKERS=workers) as service:
        with opened() as new:
            slow = [new(port_of(service), GET[:-2] + b"X: ") for _ in range(500)]
            asking = asyncio.create_task(p99(service))
            while not asking.done():
                for sock in slow:
                    sock.send(b"x")
                await asyncio.sleep(0.05)
            assert asking.result() < 0.5


async def test_10000_idle_connections_are_cheap_and_make_room(tmp_path, descriptors):
    descriptors(10_500)
    async with running(tmp_path) as service:
        before = rss_mb(service)
        with opened() as new:
            asked = GET.replace(b"/ ", b"/healthz ")
            idle = [new(port_of(service), asked if number % 2 else b"") for number in range(10_000)]
            await until(lambda: rss_mb(service) > before + 30)
            assert await p99(service) < 0.5
            assert rss_mb(service) - before < 150
            for sock in [new(port_of(service), asked) for _ in range(100)]:
                assert b"200 OK" in await said(sock)
            gone = sum(map(ended, idle))
            assert 100 <= gone < 400
            assert await p99(service) < 0.5
        assert not [event for event in service.log if event["level"] == "ERROR"]


async def test_who_pipelines_and_does_not_read_takes_no_memory_and_no_time_of_others(tmp_path):
    async with running(tmp_path) as service:
        before = rss_mb(service)
        with opened() as new:
            for _ in range(10):
                sock = new(port_of(service))
                sock.setblocking(False)
                with suppress(BlockingIOError):
                    for _ in range(1000):
                        sock.send(GET.replace(b"/ ", b"/v1/vm/nobody ") * 100)
            assert await p99(service) < 2
            assert rss_mb(service) - before < 40


@pytest.mark.thorough
async def test_bodies_that_do_not_end_are_bounded_together_and_leave_nothing_behind(tmp_path):
    async with running(tmp_path) as service:
        before = rss_mb(service)
        body = POST.replace(b"/body", b"/v1/vm") + b"Content-Length: 1000000\r\n\r\n" + b"1" * 900_000

        def keep_back() -> None:
            with opened() as new:
                for _ in range(300):
                    with suppress(ConnectionError):
                        new(port_of(service), body)

        def break_off() -> None:
            for _ in range(300):
                with opened() as new:
                    new(port_of(service), body)

        for attack in (keep_back, break_off):
            attacking = asyncio.create_task(asyncio.to_thread(attack))
            assert await p99(service) < 2
            await attacking
            assert rss_mb(service) - before < 300


@pytest.mark.thorough
async def test_readers_that_stall_hold_nothing_up(tmp_path):
    async with running(tmp_path) as service, aiohttp.ClientSession() as client:
        jobs = [
            {"request_id": f"{n}", "owner_id": "y", "callback": f"{n}", "data": {"x": "x" * 2000}}
            for n in range(400)
        ]
        for type_ in ("a", "b", "c"):
            async with client.post(f"{service.url}/v1/{type_}/", json=jobs) as response:
                assert response.status == 201
        before = rss_mb(service)
        with opened() as new:
            for _ in range(20):
                sock = new(port_of(service))
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                sock.setblocking(False)
                # What fits into the kernel's buffers, and more.
                sock.send(
                    b"".join(GET.replace(b"/ ", b"/v1/%s/ " % type_) for type_ in (b"a", b"b", b"c")) * 3
                )
            await p99(service)
            assert await p99(service) < 0.5
            assert rss_mb(service) - before < 100


@pytest.mark.thorough
async def test_as_many_connections_as_the_system_gives_files(tmp_path):
    command = ("sh", "-c", f"ulimit -n 200; exec {sys.executable} -m rqueue serve")
    async with running(tmp_path, command) as service:
        with opened() as new:
            opened_ = [new(port_of(service)) for _ in range(300)]
            assert await p99(service) < 0.5
            assert 200 <= sum(map(ended, opened_)) < 300
        assert not [event for event in service.log if event["level"] == "ERROR"]
