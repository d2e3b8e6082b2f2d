"""What is refused or broken off: the status that a command ends with, and one line that says what to do."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from rqueue import tokens
from rqueue.domain.caller import Role
from tests.cli.conftest import COMMAND, Run, environment
from tests.conftest import Receiver, Service, config_of, new, serving


@pytest.fixture
def roles(tmp_path: Path) -> dict[Role, str]:
    """The tokens of the service below, by their roles; the client speaks for "y"."""
    made = {}
    for role, owners in ((Role.VIEWER, ()), (Role.CLIENT, ("y",)), (Role.OPERATOR, ())):
        made[role], entry = tokens.make(role.value, role, (), owners)
        tokens.add(tmp_path / "tokens", entry)
    return made


async def test_a_token_and_its_rights_are_told(
    rq: Run, tmp_path: Path, namespace: str, redis_url: str, real_redis: Any, roles: dict[Role, str]
) -> None:
    async with serving(config_of(namespace, tokens_file=tmp_path / "tokens"), redis_url) as service:
        await service.store.configure("vm", {"paused": True})
        await service.store.create("vm", [new("a"), new("b")])
        for token, words in (("", "expected Authorization"), ("wrong", "is not known")):
            result = await rq("ls", RQUEUE_URL=service.url, RQUEUE_TOKEN=token)
            assert (result.exit_code, result.stdout) == (2, "")
            assert words in result.stderr
            assert "RQUEUE_TOKEN" in result.stderr
            assert len(result.stderr.splitlines()) == 1
        for role in (Role.VIEWER, Role.CLIENT):
            result = await rq("front", "vm", "b", RQUEUE_URL=service.url, RQUEUE_TOKEN=roles[role])
            assert (result.exit_code, result.stdout) == (2, "")
            assert "(forbidden)" in result.stderr
        result = await rq("front", "vm", "b", RQUEUE_URL=service.url, RQUEUE_TOKEN=roles[Role.OPERATOR])
        assert (result.exit_code, result.stdout) == (0, "b: position 1 → 0\n")


async def test_a_job_whose_call_failed_is_called_at_once(
    rq: Run, service: Service, receiver: Receiver
) -> None:
    receiver.answer = lambda _: web.Response(status=500)
    await service.call("PUT", "/queues/vm/pools/default", {"hosts": {"n": {"slots": 1}}})
    await service.store.create("vm", [new("a", callback=f"{receiver.url}/a"), new("b")])
    await service.settle()
    job = await service.store.get("vm", "a")
    calls = len(receiver.calls)
    assert (job.status, calls > 0) == ("calling", True)
    # The clock stands, so that by itself nobody is called again.
    await service.settle()
    assert len(receiver.calls) == calls
    receiver.answer = None
    result = await rq("redeliver", "vm", "a")
    assert (result.exit_code, result.stdout) == (0, "a: calling → calling\n")
    await receiver.until(calls + 1)
    await service.settle()
    assert (await service.store.get("vm", "a")).status == "running"
    result = await rq("redeliver", "vm", "a")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "(illegal_transition)" in result.stderr


async def test_a_command_that_is_broken_off_says_so_by_its_status() -> None:
    asked = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        process = await asyncio.create_subprocess_exec(
            *(*COMMAND, "ls"),
            env=environment(f"http://{host}:{port}"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(20):
            await asked.wait()
            process.send_signal(signal.SIGINT)
            shown = await process.communicate()
    assert (process.returncode, shown) == (130, (b"", b""))
