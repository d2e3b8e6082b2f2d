"""What the Dockerfile makes runs: as its user, on a root file system that is read-only; and it is small."""

import asyncio
import json
import os
import re
import socket
import stat
import subprocess
from pathlib import Path

import aiohttp
import pytest

from tests.image.room import Room, health_check, image, the, why_not
from tests.process import running

# On disk, amd64, as docker-library/repo-info says of python:3.11.16-slim-trixie.
BASE_BYTES = 124_850_000
MOST_BYTES = 150_000_000
JOB = {"request_id": "d", "owner_id": "y", "callback": "abc", "data": {"project": "p"}}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Room, int]:
    if reason := why_not():
        pytest.skip(f"NOT TRIED, since no room can be made here: {reason}")
    return image(tmp_path_factory.mktemp("image"))


@pytest.fixture
def room(made: tuple[Room, int]) -> Room:
    return made[0]


def identity(pid: int) -> list[int]:
    """The user and group ids of a process: real, effective, saved and of files, each."""
    status = Path(f"/proc/{pid}/status").read_text()
    return [
        int(number) for line in re.findall(r"^[UG]id:(.*)", status, re.MULTILINE) for number in line.split()
    ]


def ran(room: Room, *words: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    """A command in the image, which ends by itself."""
    return subprocess.run(
        room.as_image(words, **settings), capture_output=True, text=True, timeout=30, check=False
    )


def test_it_is_small(made: tuple[Room, int]) -> None:
    total = BASE_BYTES + made[1]
    assert BASE_BYTES < total < MOST_BYTES, f"{total / 1e6:.1f} MB"


async def test_it_serves_as_nobody_in_particular_and_writes_to_its_data_only(room: Room) -> None:
    start = [*json.loads(the("ENTRYPOINT")), *json.loads(the("CMD"))]
    data = room.root / "data"
    async with running(data, room.as_image(start, PORT="0", LOG_FORMAT="json")) as service:
        assert identity(service.process.pid) == [65532] * 8
        port = service.url.rpartition(":")[2]
        check = await asyncio.to_thread(ran, room, *health_check(), PORT=port)
        assert (check.returncode, check.stdout, check.stderr) == (0, "", "")
        async with (
            aiohttp.ClientSession() as client,
            client.post(f"{service.url}/v1/vm/", json=JOB) as response,
        ):
            assert response.status == 201
        assert {path.stat().st_uid for path in data.rglob("*")} == {65532}
        assert stat.S_ISSOCK((data / "redis.sock").stat().st_mode)
        assert the("STOPSIGNAL") == "SIGTERM"
        assert await service.end() == 0
    assert [event for event in service.log if event["level"] not in ("INFO", "WARNING")] == []
    assert os.listdir(room.root / "tmp") == []


async def test_the_health_check_fails_while_it_is_not_ready(room: Room) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        away = f"redis://127.0.0.1:{nobody.getsockname()[1]}"
    command = room.as_image(["rqueue", "serve"], PORT="0", LOG_FORMAT="json", REDIS_URL=away)
    async with running(room.root / "data", command) as service:
        port = service.url.rpartition(":")[2]
        check = await asyncio.to_thread(ran, room, *health_check(), PORT=port)
        assert check.returncode == 1
        assert "503" in check.stderr
    check = await asyncio.to_thread(ran, room, *health_check(), PORT=port)
    assert check.returncode == 1
    assert "no answer" in check.stderr


@pytest.mark.parametrize("place", ["/", "/opt/rqueue", "/usr/local/lib", "/etc"])
def test_nothing_else_can_be_written(room: Room, place: str) -> None:
    touch = ran(room, "touch", f"{place}/x")
    assert touch.returncode == 1
    assert "Read-only file system" in touch.stderr


@pytest.mark.parametrize("package", ["pip", "setuptools", "ensurepip"])
def test_nothing_can_be_installed(room: Room, package: str) -> None:
    for python in ("/usr/local/bin/python", "/opt/rqueue/bin/python"):
        tried = ran(room, python, "-m", package)
        assert tried.returncode == 1
        assert f"No module named {package}" in tried.stderr


def test_the_service_is_the_release_that_it_says(room: Room) -> None:
    labels = the("LABEL")
    version = ran(room, "rqueue", "--version").stdout.split()[-1]
    assert f'org.opencontainers.image.version="{version}"' in labels.replace("${VERSION}", version)
