"""Rows about callbacks: how soon after a release the next is called, and how many are called a second."""

import statistics
import sys
import time
from typing import Any

import orjson

from bench.client import Client, Receiver, receiving, request
from bench.load import RESOURCES, declare, fill, output, percentile, seed_job
from bench.rounds import Found, Run, Sides
from bench.servers import Server

HOSTS = 100
CALLS_AT_ONCE = 32
ROOM = 1_000_000  # more than any row asks for
ARRAY = 200
HOST = 64  # of each resource


async def release(run: Run) -> Found:
    """From sending the release of a running job to the arrival of the next one's callback.

    The reference is a POST of the same body to the bare handler until it is answered: its median, for our
    median as for our 99th.
    """
    p50, p99, posts = [], [], []
    bare = await run.servers.bare()
    async with receiving() as receiver:
        server = await run.servers.rqueue("rqueue-calls", CALLBACK_BASE_URL=receiver.url)
        hosts = min(HOSTS, run.scale.many // 2)
        await declare(server, "vm", hosts)
        await fill(server, "vm", run.scale.many + hosts)
        running = [(await receiver.next())[0] for _ in range(hosts)]
        async with Client.to(server.port) as client:
            for number in run.numbers:
                took = await _posted(f"{bare.url}/called", receiver.body, run.scale.requests, 1)
                waits = [await _released(client, receiver, running) for _ in range(run.scale.requests)]
                if number:
                    posts.append(percentile(took["ms"], 50))
                    p50.append(percentile(waits, 50))
                    p99.append(percentile(waits, 99))
        await run.servers.end(server.name)
    return {"release": Sides(p50, posts), "release.p99": Sides(p99, posts)}


async def _released(client: Client, receiver: Receiver, running: list[str]) -> float:
    """Release the job that has run longest; milliseconds until the next is called."""
    started = time.perf_counter()
    await client.done(request("DELETE", f"/v1/vm/{running.pop(0)}"))
    called, arrived = await receiver.next()
    running.append(called)
    return (arrived - started) * 1000


async def _posted(url: str, body: bytes, count: int, at_once: int) -> Any:
    """What bench.caller found: calls per second, and milliseconds of each."""
    return orjson.loads(
        await output([sys.executable, "-m", "bench.caller", url, str(count), str(at_once)], given=body)
    )


async def callbacks(run: Run) -> Found:
    """Callbacks a second to one receiver: from the first arrival to the last, all admitted at once."""
    count = run.scale.deliveries
    figure, bare = [], []
    async with receiving() as receiver:
        server = await run.servers.rqueue("rqueue-fast", CALLBACK_BASE_URL=receiver.url)
        for number in run.numbers:
            type_ = f"vm{number}"
            await declare(server, type_, HOSTS, each=ROOM)
            await _pause(server, type_, True)
            await fill(server, type_, count)
            await _pause(server, type_, False)
            moments = [(await receiver.next())[1] for _ in range(count)]
            posted = await _posted(receiver.url, receiver.body, count, CALLS_AT_ONCE)
            for _ in range(count):
                await receiver.next()
            if number:
                figure.append((count - 1) / (moments[-1] - moments[0]))
                bare.append(posted["rate"])
        await run.servers.end(server.name)
    return {"callbacks": Sides(figure, bare)}


async def _pause(server: Server, type_: str, paused: bool) -> None:
    async with Client.to(server.port) as client:
        await client.done(request("PUT", f"/queues/{type_}", {"paused": paused}))


async def admission(run: Run) -> Found:
    """What Redis itself takes for the pass that admits a job of four instances, in a pool of many hosts.

    Read from its SLOWLOG. The hosts are used unevenly; the instances are equal, or four different ones.
    """
    hosts, count = run.scale.hosts, run.scale.admissions
    shapes = {"admission": [1, 1, 1, 1], "admission.mixed": [1, 2, 3, 4]}
    found: dict[str, list[float]] = {line: [] for line in shapes}
    async with receiving() as receiver:
        server = await run.servers.rqueue("rqueue-admission", CALLBACK_BASE_URL=receiver.url)
        await declare(server, "vm", hosts, each=HOST)
        async with Client.to(server.port) as client:
            uneven = [_asking(f"u{n}", [1 + n % 7]) for n in range(hosts // 2)]
            for first in range(0, len(uneven), ARRAY):
                await client.done(request("POST", "/v1/vm/", uneven[first : first + ARRAY]))
            for _ in uneven:
                await receiver.next()
            for number in run.numbers:
                for line, instances in shapes.items():
                    run.servers.watch(server, above_us=0)
                    for n in range(count):
                        job = _asking(f"{line}-{number}-{n}", instances)
                        await client.done(request("POST", "/v1/vm/", job))
                        await receiver.next()
                    passes = sorted(run.servers.ran(server, "admit.lua"))
                    # Those that found nobody to admit are the short ones.
                    if number:
                        found[line].append(statistics.median(passes[-count:]))
        await run.servers.end(server.name)
    return {line: Sides(ms) for line, ms in found.items()}


def _asking(request_id: str, instances: list[int]) -> dict[str, Any]:
    """A job whose instances ask for so much of each resource."""
    job = seed_job(request_id)
    job["data"]["instances"] = [dict.fromkeys(RESOURCES, amount) for amount in instances]
    return job
