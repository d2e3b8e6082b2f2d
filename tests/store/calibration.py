"""How well estimates hold: a simulation with known service times, on the real store and the test's clock.

Run as `python -m tests.store.calibration` it prints the table of docs/estimates.md.
"""

import asyncio
import heapq
import math
import random
import secrets
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

from rqueue.domain.job import FINISH, Status
from rqueue.domain.pool import Pool
from rqueue.store.connect import connect
from rqueue.store.embedded import embedded
from rqueue.store.store import Store
from tests.conftest import Clock, new

# Service times in seconds, all with the mean 600.
TIMES: dict[str, Callable[[random.Random], float]] = {
    "exponential": lambda chance: chance.expovariate(1 / 600),
    "constant": lambda chance: 600.0,
    # A lognormal with a standard deviation of twice its mean.
    "heavy-tailed": lambda chance: chance.lognormvariate(
        math.log(600) - math.log(5) / 2, math.sqrt(math.log(5))
    ),
}
SIZES = {"homogeneous": [4], "mixed": [1, 2, 4, 8]}


@dataclass(frozen=True)
class Found:
    """Of the jobs that waited and had an estimate, how many started within it, before and after it."""

    waited: int
    estimated: int
    within: int
    before: int
    after: int

    @property
    def share(self) -> float:
        return self.within / self.estimated


async def calibrate(
    store: Store, clock: Clock, type_: str, service: str, load: float, sizes: str, jobs: int, seed: int
) -> Found:
    """So many jobs come at random to 8 hosts of 16 slots; who waits is asked for once, when it comes."""
    chance = random.Random(seed)
    await store.put_pool(type_, Pool("default", {f"h{n}": {"slots": 16} for n in range(8)}))
    mean = sum(SIZES[sizes]) / len(SIZES[sizes])
    rate = load * 128 / mean / 600
    begin, at = clock.now, 0.0
    events: list[tuple[float, int, str]] = []
    for number in range(jobs):
        at += chance.expovariate(rate)
        events.append((at, number, f"j{number}"))
    heapq.heapify(events)
    said: dict[str, tuple[int, int, int]] = {}
    started: dict[str, int] = {}
    serial = jobs
    waited = 0
    while events:
        at, number, name = heapq.heappop(events)
        clock.now = begin + int(at * 1e6)
        if name in started:
            _, work = await store.transition(type_, name, FINISH, want=False, claim_ms=1000)
        else:
            size = chance.choice(SIZES[sizes])
            await store.create(type_, [new(name, instances=[{"slots": size}])])
            work = await store.admit(type_, "default", 1000)
        turns = work.turns
        while work.more:
            work = await store.admit(type_, "default", 1000)
            turns += work.turns
        for turn in turns:
            started[turn.request_id] = clock.now
            serial += 1
            heapq.heappush(events, (at + TIMES[service](chance), serial, turn.request_id))
        if name not in started:
            waited += 1
            job = await store.get(type_, name)
            if job.status == Status.QUEUED and job.estimate:
                said[name] = (job.estimate.early, job.estimate.start, job.estimate.late)
    assert len(started) == jobs
    before = sum(started[name] < early for name, (early, _, _) in said.items())
    after = sum(started[name] > late for name, (_, _, late) in said.items())
    return Found(waited, len(said), len(said) - before - after, before, after)


LOADS = (0.9, 1.05, 1.5)


async def table(url: str, jobs: int, seeds: int) -> None:
    """Print a row for each kind of service times, load and sizes."""
    click.echo("| service times | load | sizes | waited | had an estimate | within | before | after |")
    click.echo("| --- | --- | --- | --- | --- | --- | --- | --- |")
    async with connect(url) as pipeline:
        for service in TIMES:
            for load in LOADS:
                for sizes in SIZES:
                    runs = []
                    for seed in range(seeds):
                        clock = Clock()
                        store = Store(pipeline, f"calibration-{secrets.token_hex(4)}", clock)
                        runs.append(await calibrate(store, clock, "vm", service, load, sizes, jobs, seed))
                    waited, estimated, within, before, after = (
                        sum(getattr(run, field) for run in runs)
                        for field in ("waited", "estimated", "within", "before", "after")
                    )
                    shares = " | ".join(f"{part / estimated:.0%}" for part in (within, before, after))
                    click.echo(
                        f"| {service} | {load:.0%} | {sizes} | {waited} | {estimated} | {shares} |",
                        flush=True,
                    )


if __name__ == "__main__":
    with embedded(Path(tempfile.mkdtemp())) as server:
        asyncio.run(table(server, int(sys.argv[1]), int(sys.argv[2])))
