"""What is live: on a terminal, which is left as it was found, and in a pipe."""

import asyncio
import signal
from contextlib import AsyncExitStack
from urllib.parse import quote

import orjson
from rich.cells import cell_len

from tests.cli.conftest import COMMAND, ESCAPES, On, Run, documents, environment
from tests.conftest import Service, config_of, new, serving

ENTER, LEAVE, CURSOR = "\x1b[?1049h", "\x1b[?1049l", "\x1b[?25h"


async def test_watch_shows_what_others_do(service: Service, on_terminal: On) -> None:
    await service.call("PUT", "/queues/vm", {"paused": True})
    await service.store.create("vm", [new(name) for name in "ab"])
    async with on_terminal("watch", "vm") as terminal:
        before = terminal.settings
        await terminal.until(ENTER, "vm: 2 wait, 0 run, paused", "paused: queue vm")
        seen = len(terminal.shown)
        await service.call(
            "POST", "/v1/vm/", {"request_id": "日本語", "owner_id": "z", "callback": "http://h/c"}
        )
        await terminal.until("3 wait", "日本語", "created", after=seen)
        seen = len(terminal.shown)
        await service.call("POST", f"/v1/vm/{quote('日本語')}", {"position": "front"})
        await terminal.until("0  日本語", "moved", after=seen)
        # It fits the terminal, however small that becomes.
        seen = len(terminal.shown)
        terminal.resize(10, 60)
        await terminal.until("3 wait", after=seen)
        last = ESCAPES.sub("", terminal.shown[seen:].rpartition("\x1b[H")[2])
        assert max(map(cell_len, last.splitlines())) <= 60
        assert len(last.splitlines()) <= 10
        await terminal.press("\x03")
        assert await terminal.end() == 0
        assert terminal.shown.index(LEAVE) > terminal.shown.rindex(ENTER)
        assert CURSOR in terminal.shown[seen:]
        assert "Traceback" not in terminal.shown
        assert terminal.settings == before


async def test_watch_waits_for_a_service_that_is_away(
    redis_url: str, real_redis: object, namespace: str, on_terminal: On
) -> None:
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(serving(config_of(namespace), redis_url))
        await service.store.create("vm", [new("a")])
        async with on_terminal("watch", "vm", url=service.url) as terminal:
            await terminal.until("vm: 1 wait", "queued")
            seen = len(terminal.shown)
            await stack.aclose()
            terminal.resize(24, 79)
            # What was seen last stays.
            await terminal.until(f"away: {service.url} cannot be asked", "queued", after=seen)
            await terminal.press("\x03")
            assert await terminal.end() == 0


async def test_top_shows_all_queues(rq: Run, service: Service, on_terminal: On) -> None:
    await service.call("PUT", "/queues/vm/pools/default", {"hosts": {"n1": {"slots": 4}}})
    await service.store.create("vm", [new(name) for name in "abc"])
    await service.call("PUT", "/queues/gpu", {"paused": True})
    await service.store.create("gpu", [new("d")])
    await service.settle()
    lines = (await rq("top")).stdout.splitlines()
    assert lines[0] == "2 queues: 1 wait, 3 run"
    assert [line.split()[:3] for line in lines[2:]] == [["gpu", "1", "0"], ["vm", "0", "3"]]
    assert lines[2].split()[3:] == ["0s", "1", "paused"]
    assert lines[3].split()[3:] == ["3", "3", "████████░░", "75%", "default", "slots"]
    assert [queue["type"] for queue in documents(await rq("top", "--json"))] == ["gpu", "vm"]
    async with on_terminal("top", "--interval", "0.5") as terminal:
        await terminal.until(ENTER, "2 queues: 1 wait, 3 run", "75%")
        await service.store.create("gpu", [new("e")])
        await terminal.until("2 queues: 2 wait, 3 run")
        terminal.process.send_signal(signal.SIGTERM)
        assert await terminal.end() == 0
        assert terminal.shown.index(LEAVE) > terminal.shown.rindex(ENTER)
        assert "Traceback" not in terminal.shown


async def test_events_are_followed_in_a_pipe(rq: Run, service: Service) -> None:
    await service.call("PUT", "/queues/vm", {"paused": True})
    await service.store.create("vm", [new("a"), new("b")])
    shown = [line.split()[2:] for line in (await rq("events", "vm")).stdout.splitlines()]
    assert shown[-2:] == [["created", "a", "queued"], ["created", "b", "queued"]]
    assert [event["request_id"] for event in documents(await rq("events", "vm", "--job", "b", "--json"))] == [
        "b"
    ]
    assert len((await rq("events", "vm", "--limit", "1")).stdout.splitlines()) == 2
    assert (await rq("events", "vm", "--job", "nobody")).exit_code == 1
    process = await asyncio.create_subprocess_exec(
        *(*COMMAND, "events", "vm", "--follow", "--json", "--limit", "1"),
        env=environment(service.url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(20):
        assert orjson.loads(await process.stdout.readline())["request_id"] == "b"
        await service.call("POST", "/v1/vm/b", {"position": "front"})
        event = orjson.loads(await process.stdout.readline())
        assert (event["what"], event["request_id"]) == ("moved", "b")
        process.send_signal(signal.SIGINT)
        _, said = await process.communicate()
    assert (process.returncode, said) == (0, b"")
