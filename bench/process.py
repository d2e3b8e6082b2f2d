"""Rows about the process: how soon it is ready, and that it does not grow."""

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from statistics import median

from bench.client import Client, Receiver, receiving, request
from bench.load import declare, name, seed_job
from bench.rounds import Found, Run, Sides, say
from bench.servers import NotMeasured, Server, free_port, rss, running, until_ready

MINUTE = 60
HOSTS, WAITING, WORKERS = 100, 1000, 32
RETENTION = 5  # seconds, so that purging is part of it
CONFLICT = 409
SPREAD_US = 300_000  # how far up the line a job is moved, by its priority
MAY_GROW, MAY_GROW_MIB = 1.05, 8


async def start(run: Run) -> Found:
    """From the start of `rqueue serve`, embedded and on an empty directory, to /readyz: seconds."""
    found = []
    for _ in range(run.scale.rounds):
        port = free_port()
        with tempfile.TemporaryDirectory(dir=run.servers.folder) as folder:
            settings = {"PORT": str(port), "DATA_DIR": f"{folder}/data"}
            log = Path(folder) / "log"
            started = time.perf_counter()
            async with running([sys.executable, "-m", "rqueue", "serve"], settings, log) as process:
                await until_ready(process, port, "/readyz", log)
                found.append(time.perf_counter() - started)
    return {"start": Sides(found)}


async def soak(run: Run) -> Found:
    """Create, move and release at full speed, in a line of one length: MiB of all of rqueue's processes.

    The reference is what the second minute allows the last one to have; of a short run, tenths of it.
    """
    seconds = run.scale.soak_minutes * MINUTE
    if not seconds:
        raise NotMeasured("no --soak was asked for")
    async with receiving() as receiver:
        server = await run.servers.rqueue("rqueue-soak", CALLBACK_BASE_URL=receiver.url)
        async with Client.to(server.port) as client:
            await client.done(request("PUT", "/queues/vm", {"retention": RETENTION}))
            await declare(server, "vm", HOSTS)
            for first in range(0, HOSTS + WAITING, HOSTS):
                jobs = [seed_job(name("s", first + n)) for n in range(HOSTS)]
                await client.done(request("POST", "/v1/vm/", jobs))
        numbers = count(HOSTS + WAITING)
        async with asyncio.TaskGroup() as tasks:
            workers = [tasks.create_task(_turns(server, receiver, numbers)) for _ in range(WORKERS)]
            run.soak = await _watched(server.pid, seconds)
            for worker in workers:
                worker.cancel()
        made = next(numbers) - HOSTS - WAITING
        say(f"soak: {made / seconds:,.0f} jobs created, moved, called and released a second")
        await run.servers.end(server.name)
    minute = min(MINUTE, len(run.soak) // 10)
    second, last = median(run.soak[minute : 2 * minute]), median(run.soak[-minute:])
    return {"soak": Sides([last], [max(second * MAY_GROW, second + MAY_GROW_MIB)])}


async def _turns(server: Server, receiver: Receiver, numbers: Iterator[int]) -> None:
    """For each job that is called: release it, create another, and move that up the line."""
    async with Client.to(server.port) as client:
        while True:
            called, _ = await receiver.next()
            gone = await client.ask(request("DELETE", f"/v1/vm/{called}"))
            if gone.status == CONFLICT:
                # Called twice, as may happen; the first call has done it.
                continue
            one = name("s", next(numbers))
            made = await client.done(request("POST", "/v1/vm/", seed_job(one)))
            up = made.json()["data"]["Priority"] - random.randrange(SPREAD_US)
            await client.done(request("POST", f"/v1/vm/{one}", {"priority": up}))


async def _watched(pid: int, seconds: float) -> list[float]:
    """MiB of a process and all below it, each second, for so long; more often for less than a minute."""
    pause = min(1.0, seconds / MINUTE)
    found = []
    for _ in range(round(seconds / pause)):
        await asyncio.sleep(pause)
        found.append(rss(pid))
    return found
