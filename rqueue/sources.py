"""Live sources of capacity: read all the time, each by one replica, and written where the passes look.

Who reads a type is settled in Redis, by a lease: when its holder dies another takes over. Pools that share
a source are read together, once in a period, or when the source says that something has changed. Nothing is
kept here that Redis does not know better: a reader that has lost its lease is refused what it writes.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any
from urllib.parse import quote

from rqueue import metrics
from rqueue.callbacks import full_jitter
from rqueue.capacity.source import Source
from rqueue.domain.pool import Observation
from rqueue.errors import LostClaim, RqueueError, SourceUnavailable, Unavailable
from rqueue.reaper import ended
from rqueue.store.answers import found_by_of
from rqueue.store.live import Claim, Live

log = logging.getLogger("rqueue.sources")

# A source that tells of changes all the time is not read more often than that.
SHORTEST_SECONDS = 1.0
LONGEST_PAUSE = 60.0
# The least for which one reading is waited for.
READ_SECONDS = 10.0
LEASE_MARGIN = 5.0

Factory = Callable[[], AbstractAsyncContextManager[Source]]


class Reading:
    """One live source, read for all types that this replica may read.

    `run` until cancelled, or `read` in a test; then `stop`.
    """

    def __init__(
        self, name: str, make: Factory, live: Live, wake: Callable[[str, str], None], period: float
    ) -> None:
        self._name = name
        self._make = make
        self._live = live
        self._wake = wake
        self._period = period
        self._timeout = max(2 * period, READ_SECONDS)
        # Until the next claim of who reads for as long as it may, and is late.
        self._lease_ms = int((self._timeout + period + LEASE_MARGIN) * 1000)
        self._entered = AsyncExitStack()
        self._source: Source | None = None
        self._types: set[str] = set()
        self._failures = 0
        self._not_before = 0.0
        self._failing: dict[tuple[str, str], str] = {}
        self._bell = asyncio.Event()
        self._away = False

    def wake(self) -> None:
        """Read at once, or as soon as may be."""
        self._not_before = 0.0
        self._bell.set()

    async def run(self) -> None:
        """Read in each period, and when something has changed, until cancelled."""
        while True:
            began = time.monotonic()
            self._bell.clear()
            try:
                await self.read()
                self._say_away(None)
            except Unavailable as error:
                self._say_away(error)
            except Exception:
                log.exception("the reader of %s met a fault of its own and goes on", self._name)
            await self._pause(began)

    async def stop(self) -> None:
        """Let go of the source, and of what is read, so that another replica takes it over at once."""
        for type_ in sorted(self._types):
            try:
                await self._live.leave(type_)
            except LostClaim:
                continue
            except RqueueError:
                break
        self._types.clear()
        await self._leave_source()

    async def read(self) -> None:
        """Read once what this replica may read. Raises Unavailable where Redis is away."""
        types = [type_ for type_, source in (await self._live.types()).items() if source == self._name]
        # Sent down one connection, as all of one turn of the event loop.
        claims = [claim for claim in await asyncio.gather(*map(self._claimed, types)) if claim]
        self._types = {claim.type for claim in claims}
        if not claims:
            await self._leave_source()
        elif time.monotonic() >= self._not_before:
            await self._read(claims)

    async def _claimed(self, type_: str) -> Claim | None:
        try:
            return await self._live.claim(type_, self._lease_ms)
        except LostClaim:
            return None
        except Unavailable as error:
            # As one that a hand edit damaged, or whose node is away: the others are read.
            log.error("%s of type %r is not read: %s", self._name, type_, error.message)
            return None

    async def _read(self, claims: list[Claim]) -> None:
        pools = {
            # A name that is one word, whatever a type and a pool are called.
            f"{quote(claim.type, safe='')}/{quote(pool, safe='')}": (claim, pool, found_by_of(written))
            for claim in claims
            for pool, written in claim.pools.items()
        }
        wanted = {name: found_by for name, (_, _, found_by) in pools.items() if found_by}
        began = time.monotonic()
        try:
            found = await self._observed(wanted) if wanted else {}
            self._failures = 0
        except SourceUnavailable as error:
            found = dict.fromkeys(wanted, error)
            self._failures += 1
            self._not_before = time.monotonic() + full_jitter(self._failures, LONGEST_PAUSE)
        metrics.SOURCE.observe(metrics.SOURCE.cell(self._name), time.monotonic() - began)
        broken = SourceUnavailable("how the pool is found cannot be read; put the pool again")
        missing = SourceUnavailable("the source says nothing of it")
        for name, (claim, pool, found_by) in pools.items():
            told = found.get(name, missing) if found_by else broken
            try:
                await self._write(claim, pool, told)
            except LostClaim:
                continue
            except Unavailable as error:
                log.warning("pool %r of type %r is not written: %s", pool, claim.type, error.message)
        gone = self._failing.keys() - {(claim.type, pool) for claim, pool, _ in pools.values()}
        for key in gone:
            del self._failing[key]

    async def _observed(
        self, wanted: Mapping[str, Mapping[str, Any]]
    ) -> Mapping[str, Observation | SourceUnavailable]:
        """What the source says. Raises SourceUnavailable for whatever goes wrong with it."""
        try:
            async with asyncio.timeout(self._timeout):
                if self._source is None:
                    self._source = await self._entered.enter_async_context(self._make())
                return await self._source.observe(wanted)
        except TimeoutError:
            raise SourceUnavailable(f"it did not answer within {self._timeout:g} s") from None
        except SourceUnavailable:
            raise
        except RqueueError as error:
            raise SourceUnavailable(error.message) from error
        except Exception as error:
            log.debug("what %s met", self._name, exc_info=True)
            raise SourceUnavailable(f"{type(error).__name__}: {error}") from error

    async def _write(self, claim: Claim, pool: str, told: Observation | SourceUnavailable) -> None:
        where = (claim.type, pool)
        if isinstance(told, Observation):
            try:
                if await self._live.observe(claim, pool, told):
                    self._wake(claim.type, pool)
                if self._failing.pop(where, None) is not None:
                    log.info("pool %r of type %r is read again from %s", pool, claim.type, self._name)
                return
            except SourceUnavailable as error:
                told = error
        metrics.SOURCE_ERRORS.count(self._name)
        if where not in self._failing:
            log.warning(
                "pool %r of type %r is not read from %s: %s", pool, claim.type, self._name, told.message
            )
        self._failing[where] = told.message
        await self._live.failed(claim, pool, told.message)

    async def _pause(self, began: float) -> None:
        """Wait for the next period, or for what comes before it, but not less than SHORTEST_SECONDS."""
        waits = [asyncio.create_task(self._rung())]
        if self._source is not None and not self._failures:
            waits.append(asyncio.create_task(self._changed(self._source)))
        try:
            left = began + self._period - time.monotonic()
            await asyncio.wait(waits, timeout=max(0.0, left), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await ended(waits)
        await asyncio.sleep(began + SHORTEST_SECONDS - time.monotonic())

    async def _rung(self) -> None:
        await self._bell.wait()

    async def _changed(self, source: Source) -> None:
        try:
            await source.changed()
        except Exception:
            # Then it is read in each period.
            log.debug("%s does not tell of changes", self._name, exc_info=True)
            await asyncio.Event().wait()

    async def _leave_source(self) -> None:
        entered, self._entered, self._source = self._entered, AsyncExitStack(), None
        try:
            await entered.aclose()
        except Exception:
            log.debug("%s was not left well", self._name, exc_info=True)

    def _say_away(self, error: Unavailable | None) -> None:
        """Log once that Redis is away, and once that it is back."""
        if error is not None and not self._away:
            log.warning("%s is not read: %s", self._name, error.message)
        elif error is None and self._away:
            log.info("%s is read again", self._name)
        self._away = error is not None


class Sources:
    """All live sources. `run` until cancelled, then `stop`."""

    def __init__(
        self,
        live: Live,
        factories: Mapping[str, Factory],
        wake: Callable[[str, str], None],
        period: float,
    ) -> None:
        self.readings = {name: Reading(name, make, live, wake, period) for name, make in factories.items()}

    def wake(self, name: str) -> None:
        """A pool of this source is new: read it at once. Never fails."""
        if (reading := self.readings.get(name)) is not None:
            reading.wake()

    async def run(self) -> None:
        """Read all of them, none held up by another."""
        async with asyncio.TaskGroup() as group:
            for reading in self.readings.values():
                group.create_task(reading.run())

    async def stop(self) -> None:
        """Let go of all, so that other replicas take over at once."""
        await asyncio.gather(*(reading.stop() for reading in self.readings.values()))
