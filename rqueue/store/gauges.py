"""What a scrape shows of Redis: the lines, the pools, what is late.

Read when it is asked for and shared by all who ask soon after: a scrape costs Redis a bounded number of
commands, a storm of them not more than one. What is beyond the bounds is counted, and a type that a hand
edit damaged is named and left out; neither fails the others.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from rqueue import metrics
from rqueue.errors import StoreDamaged, Unavailable
from rqueue.metrics import OTHER, SERIES
from rqueue.store.answers import answers, by_host, mapping, moment_of
from rqueue.store.keys import Keys
from rqueue.store.pipeline import Redis
from rqueue.store.scripts import Scripts

FRESH_SECONDS = 1.0
# What was long to read is good for so many times as long, so that scrapes are never most of the work.
FRESH_TIMES = 10
READ_SECONDS = 5.0
TYPES_AT_ONCE = 32
# Of one script, which looks at up to 16 jobs of each: under a millisecond of Redis.
POOLS_AT_ONCE = 8
RESOURCES = 32

T = TypeVar("T")


class GaugeReader:
    """Reads the gauges of one namespace; `now` as in Store."""

    def __init__(self, redis: Redis, namespace: str, now: Callable[[], int] | None = None) -> None:
        self._redis = redis
        self._keys = Keys(namespace)
        self._run = Scripts(redis, self._keys, now).run
        self._reading = asyncio.Lock()
        self._found: metrics.Gauges = {}
        self._fresh_until = 0.0

    async def read(self) -> metrics.Gauges:
        """The gauges as they are now, or were a second ago. Never raises for what Redis does."""
        async with self._reading:
            began = time.monotonic()
            if began >= self._fresh_until:
                took = 0.0
                try:
                    async with asyncio.timeout(READ_SECONDS):
                        self._found = await _Scrape(self._redis, self._keys, self._run).read()
                    took = time.monotonic() - began
                except (Unavailable, TimeoutError):
                    # However long that took, Redis may be back at once.
                    self._found = {metrics.REDIS_UP: {(): 0}}
                self._fresh_until = time.monotonic() + max(FRESH_SECONDS, FRESH_TIMES * took)
            return self._found


class _Scrape:
    """One reading."""

    def __init__(self, redis: Redis, keys: Keys, run: Callable[..., Awaitable[list[Any]]]) -> None:
        self._redis = redis
        self._keys = keys
        self._run = run
        self._room = SERIES
        self._left_out = 0
        self._found: metrics.Gauges = {gauge: {} for gauge in metrics.OF_QUEUES}

    async def read(self) -> metrics.Gauges:
        with answers(""):
            types = sorted(map(str, await self._redis.call("SMEMBERS", self._keys.types)))
        self._left_out = max(0, len(types) - SERIES)
        for some in _in_parts(types[:SERIES], TYPES_AT_ONCE):
            names = await asyncio.gather(*(self._if_sound(self._pools_of, type_) for type_ in some))
            chosen = [self._chosen(*found) if found else None for found in names]
            await asyncio.gather(
                *(
                    self._if_sound(self._measure, type_, *pools)
                    for type_, pools in zip(some, chosen, strict=True)
                    if pools is not None
                )
            )
        return self._found | {metrics.REDIS_UP: {(): 1}, metrics.LEFT_OUT: {(): self._left_out}}

    async def _if_sound(self, read: Callable[..., Awaitable[T]], type_: str, *pools: list[str]) -> T | None:
        try:
            return await read(type_, *pools)
        except (StoreDamaged, ValueError, OverflowError):
            # The last two for numbers that no hand but a person's has written.
            self._found[metrics.DAMAGED][type_,] = 1
            return None

    async def _pools_of(self, type_: str) -> tuple[set[str], set[str], int]:
        """The declared pools and others in which jobs may wait: of many, some, and how many there are."""
        key = self._keys.of
        with answers(type_):
            (_, declared), (_, examined), (_, woken), *counts = await self._redis.calls(
                ("HSCAN", key(type_, "pools"), 0, "COUNT", SERIES),
                ("HSCAN", key(type_, "heads"), 0, "COUNT", SERIES),
                ("SSCAN", key(type_, "wake"), 0, "COUNT", SERIES),
                ("HLEN", key(type_, "pools")),
                ("HLEN", key(type_, "heads")),
            )
        others = {*examined[::2], *woken}.difference(declared[::2])
        return set(declared[::2]), others, max(counts[0], counts[1], len(declared) // 2 + len(others))

    def _chosen(self, declared: set[str], others: set[str], count: int) -> tuple[list[str], list[str]]:
        """Of these pools those for which there is room, declared ones first."""
        first = sorted(declared)[: self._room]
        then = sorted(others)[: self._room - len(first)]
        self._room -= len(first) + len(then)
        self._left_out += count - len(first) - len(then)
        return first, then

    async def _measure(self, type_: str, declared: list[str], others: list[str]) -> None:
        pools = declared + others
        now, queued, running, paused, due, *measured = await self._lines(type_, pools[:POOLS_AT_ONCE])
        for some in _in_parts(pools[POOLS_AT_ONCE:], POOLS_AT_ONCE):
            measured += (await self._lines(type_, some))[5:]
        found = self._found
        found[metrics.RUNNING][type_,] = running
        found[metrics.PAUSED][type_,] = paused
        found[metrics.LATE][type_,] = max(0.0, int(now) / 1e6 - float(due) / 1e3) if due else 0.0
        jobs, ages = found[metrics.QUEUE_JOBS], found[metrics.OLDEST_AGE]
        for pool, waiting, oldest in zip(pools, measured[::2], measured[1::2], strict=True):
            if waiting or pool in declared:
                jobs[type_, pool] = jobs.get((type_, pool), 0) + waiting
                ages[type_, pool] = max(0.0, (int(now) - int(oldest)) / 1e6) if oldest else 0.0
        # Jobs of pools that are left out, or that nobody declares or examines any more.
        if (rest := queued - sum(measured[::2])) > 0:
            jobs[type_, OTHER] = jobs.get((type_, OTHER), 0) + rest
        for some in _in_parts(declared, POOLS_AT_ONCE):
            await self._amounts(type_, some, int(now))

    async def _lines(self, type_: str, pools: Sequence[str]) -> list[Any]:
        with answers(type_):
            return await self._run("measure", type_, *pools)

    async def _amounts(self, type_: str, pools: Sequence[str], now: int) -> None:
        key = self._keys.of
        kinds = ("capacity:", "used:", "seen:")
        asked = [("HGETALL", key(type_, kind) + pool) for pool in pools for kind in kinds]
        with answers(type_):
            observed, *flat = await self._redis.calls(("HMGET", key(type_, "observed"), *pools), *asked)
        capacity, used, free = (self._found[g] for g in (metrics.CAPACITY, metrics.USED, metrics.FREE))
        for pool, at, has, holds, sees in zip(
            pools, observed, flat[::3], flat[1::3], flat[2::3], strict=True
        ):
            if at is not None:
                self._found[metrics.SOURCE_AGE][type_, pool] = max(
                    0.0, now / 1e6 - (moment_of(at) or 0) / 1e6
                )
            hosts, held, seen = (by_host(mapping(of)) for of in (has, holds, sees))
            resources = sorted({name for amounts in (*hosts.values(), *held.values()) for name in amounts})
            self._left_out += max(0, len(resources) - RESOURCES)
            for name in resources[:RESOURCES]:
                labels = (type_, pool, name)
                capacity[labels] = float(sum(amounts.get(name, 0) for amounts in hosts.values()))
                used[labels] = float(sum(amounts.get(name, 0) for amounts in held.values()))
                free[labels] = float(
                    sum(
                        max(0, amounts.get(name, 0) - _of(held, host, name) - _of(seen, host, name))
                        for host, amounts in hosts.items()
                    )
                )


def _of(hosts: Mapping[str, Mapping[str, int]], host: str, resource: str) -> int:
    return hosts.get(host, {}).get(resource, 0)


def _in_parts(names: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (names[start : start + size] for start in range(0, len(names), size))
