"""The story: what is due, who goes next, call them.

One task looks at pools that were woken and, once a second, at what time brings; each delivery is a
task of its own. Decides nothing that another replica could decide at the same moment: the scripts
do, so any number of replicas may run this. Holds nothing that would be lost with it: a claim that is
not used lapses, and `due` and `wake` in Redis say the rest.
"""

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import replace

from rqueue import metrics
from rqueue.callbacks import Callbacks, Verdict, full_jitter
from rqueue.domain.job import ACCEPTED, UNREACHABLE, UNWANTED, Job
from rqueue.errors import (
    IllegalTransition,
    InvalidCallback,
    JobNotFound,
    LostClaim,
    NotReplicated,
    RqueueError,
    StoreDamaged,
    Unavailable,
)
from rqueue.store.answers import Turn, Work
from rqueue.store.store import Store

log = logging.getLogger("rqueue.reaper")

TICK_SECONDS = 1.0
TYPES_AT_ONCE = 32
# A type to which time can bring nothing is looked at in each so many ticks only. Less than a claim: what a
# replica that died there had claimed is taken over when the claim lapses, or this much later.
IDLE_TICKS = 5
# So many of those that were woken are admitted between two batches of types, so that the tick has an end.
WOKEN_AT_ONCE = 32
CALLS_PER_TARGET = 32
# A claim outlasts the delivery that it covers, so that no other replica calls meanwhile.
CLAIM_MARGIN = 5.0
# Who was admitted so long ago is not called on the strength of that any more: the claim is renewed first.
FRESH_SECONDS = 2.5
# So many that stand in line for a call are remembered in whole; of the others, only who they are.
KEPT_JOBS = 10_000
KEPT_DATA = 4096
# An answer that Redis did not take is offered again for so long as the claim holds.
SETTLE_PAUSE = 0.2


async def ended(tasks: Iterable["asyncio.Task[None]"]) -> None:
    """Cancel tasks until they are done.

    Once is not enough: asyncio.wait_for, in which redis-py waits, loses a cancellation that comes at
    the moment at which the wait is over (https://github.com/python/cpython/issues/86296).
    """
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=0.2)


def _admitted(turn: Turn) -> None:
    """Count an admission; of a job that a hand edit damaged, only that there was one."""
    job = turn.job
    metrics.ADMISSIONS.count(turn.type, job.pool if job else metrics.OTHER)
    if job and job.admitted_at is not None:
        metrics.WAIT.observe(metrics.WAIT.cell(turn.type), max(0, job.admitted_at - job.created_at) / 1e6)


def _fresh_seconds(claim: int, job: Job) -> float:
    """How long after its admission a job is called without asking again: never beyond its deadline, which
    bounds the claim.
    """
    return min(FRESH_SECONDS, claim / 1e3 - job.updated_at / 1e6)


class Reaper:
    """Admits, calls and ends jobs. `run` until cancelled, or drive it by `tick` and `drain` in a test."""

    def __init__(self, store: Store, callbacks: Callbacks) -> None:
        self._store = store
        self._callbacks = callbacks
        self._claim_ms = int((callbacks.round_seconds + CLAIM_MARGIN) * 1000)
        self._types: list[str] = []
        self._woken: dict[tuple[str, str], None] = {}
        self._ticks = 0
        # Types to which time can bring nothing; those in which this replica did something since its look.
        self._quiet: set[str] = set()
        self._stirred: set[str] = set()
        self._bell = asyncio.Event()
        self._passing = asyncio.Lock()
        self._last_tick = 0.0
        self._made = time.monotonic()
        # With each the moment before which it was claimed.
        self._waiting: dict[tuple[str, str], tuple[Turn, float]] = {}
        self._lines: dict[str, deque[tuple[str, str]]] = {}
        self._calling: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._confirmed = True
        # Types that Redis does not serve while it serves others.
        self._away: set[str] = set()

    # --- from outside ------------------------------------------------------------------------------

    def wake(self, type_: str, pool: str) -> None:
        """Something may go in this pool: look at once. Costs nothing and never fails."""
        self._stirred.add(type_)
        self._woken[type_, pool] = None
        self._bell.set()

    def claim_ms(self) -> int:
        """How long a claim lasts of who is admitted by a change; 0 when nobody is to be called from here."""
        return self._claim_ms if self._callbacks.signs and not self._stopping else 0

    def follow(self, type_: str, work: Work, asked: float) -> None:
        """Take on what a script found to do: calls, claimed after the moment `asked`, and pools."""
        self._stirred.add(type_)
        self._take(work.turns, asked)
        for pool in work.pools:
            self.wake(type_, pool)

    @property
    def seconds_since_tick(self) -> float:
        """How long ago the last whole tick ended."""
        return time.monotonic() - self._last_tick

    @property
    def ticked(self) -> float:
        """The moment (time.monotonic) at which the last whole tick ended, or at which there was none yet."""
        return self._last_tick or self._made

    async def run(self) -> None:
        """Wake up for pools and ticks until cancelled. Redis may go away and come back meanwhile."""
        away = False
        next_tick = time.monotonic()
        while True:
            try:
                if time.monotonic() >= next_tick:
                    # From now, not from the last one: a slow tick is followed by a pause, not by a burst.
                    next_tick = time.monotonic() + TICK_SECONDS
                    await self.tick(idle_ones=False)
                    if away:
                        log.info("redis is back")
                    away = False
                await self._admit_woken()
            except Unavailable as error:
                if not away:
                    log.warning("redis is away: %s", error.message)
                away = True
            except RqueueError as error:
                log.error("the reaper met %s: %s", error.code, error.message)
            except Exception:
                log.exception("the reaper met a fault of its own and goes on")
            pause = max(0.0, next_tick - time.monotonic())
            if away:
                # What was woken stays woken, in memory and in Redis.
                await asyncio.sleep(pause)
                continue
            try:
                async with asyncio.timeout(pause):
                    await self._bell.wait()
            except TimeoutError:
                pass

    async def tick(self, idle_ones: bool = True) -> None:
        """Do what time brings to every type: redeliver, fail, expire, purge; examine what was woken.

        Without `idle_ones`, a type to which time can bring nothing has its turn once in IDLE_TICKS.
        """
        try:
            self._types = types = await self._store.types()
        except StoreDamaged as error:
            # Until it is mended, with those that were there when it was whole.
            log.error("%s: %s", error.code, error.message)
            types = self._types
        self._quiet.intersection_update(types)
        self._stirred.intersection_update(types)
        self._ticks += 1
        if not idle_ones:
            types = [type_ for type_ in types if self._has_turn(type_)]
        admitting = True
        for start in range(0, len(types), TYPES_AT_ONCE):
            some = types[start : start + TYPES_AT_ONCE]
            found = await asyncio.gather(*map(self._look_at_due, some), return_exceptions=True)
            self._go_on_without(dict(zip(some, found, strict=True)))
            try:
                if admitting:
                    await self._admit_woken(WOKEN_AT_ONCE)
            except Unavailable:
                # It stays woken, and must not keep the tick from its end.
                admitting = False
            except Exception:
                log.exception("the reaper met a fault of its own and goes on")
        self._last_tick = time.monotonic()
        await self._admit_woken()

    def _has_turn(self, type_: str) -> bool:
        # A hash, so that not all have it in the same tick.
        return (
            type_ not in self._quiet
            or type_ in self._stirred
            or bool(self._away)
            or (hash(type_) + self._ticks) % IDLE_TICKS == 0
        )

    def _go_on_without(self, found: dict[str, BaseException | None]) -> None:
        """A node of a cluster that is away keeps its own types from being served, and no others."""
        failed = {type_: error for type_, error in found.items() if error is not None}
        for error in failed.values():
            if not isinstance(error, Unavailable) or len(failed) == len(found):
                # Whether others are served is seen only where they are looked at.
                self._quiet.clear()
                raise error
        for type_ in self._away.intersection(found).difference(failed):
            log.info("type %r is served again", type_)
        for type_ in set(failed) - self._away:
            log.warning("type %r is not served: %s", type_, failed[type_])
        self._away = self._away.difference(found).union(failed)

    async def drain(self) -> None:
        """Wait until every delivery that this process has taken on is settled."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def stop(self, grace: float) -> None:
        """Finish the calls that are out; give up the other claims, so that a replica takes them at once."""
        self._stopping = True
        async with self._passing:
            # What a pass has begun is in line now, and no other begins.
            await self._give_up()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        await ended(self._tasks)
        # Who was admitted by what was just then being written down.
        await self._give_up()

    async def _give_up(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for turn, _ in waiting.values():
            try:
                await self._store.retry(turn, delay_ms=0, called=False)
            except LostClaim:
                continue
            except RqueueError:
                break

    async def _look_at_due(self, type_: str) -> None:
        more = True
        self._quiet.discard(type_)
        # What is done from now on may come after the look, which does not see it then.
        self._stirred.discard(type_)
        # Whoever stops takes nothing on: what it gives up is for the others.
        while more and not self._stopping:
            asked = time.monotonic()
            try:
                work = await self._store.due(type_, self._claim_ms)
            except StoreDamaged as error:
                log.error("%s: %s", error.code, error.message)
                return
            except NotReplicated as error:
                self._say_confirmed(False, error.message)
                return
            self._say_confirmed(True)
            if work.quiet:
                self._quiet.add(type_)
            else:
                self.follow(type_, work, asked)
            more = work.more

    def _say_confirmed(self, confirmed: bool, why: str = "") -> None:
        """Log once that replicas do not confirm, and once that they do again.

        Who was claimed or admitted by what they did not confirm is not called on the strength of it: another
        primary may know nothing of it. The claim lapses, and `due` brings the job again.
        """
        if confirmed is not self._confirmed:
            self._confirmed = confirmed
            if confirmed:
                log.info("replicas confirm again")
            else:
                log.warning("nobody is called meanwhile: %s", why)

    # --- who goes next -----------------------------------------------------------------------------

    async def _admit_woken(self, most: int | None = None) -> None:
        # One at a time, so that whoever comes second finds done what the first has begun.
        async with self._passing:
            self._bell.clear()
            # Those that are woken meanwhile come next time: under load there is no end of them, and
            # what time brings must not wait for one.
            for _ in range(0 if self._stopping else min(len(self._woken), most or len(self._woken))):
                type_, pool = next(iter(self._woken))
                del self._woken[type_, pool]
                # It stays in `wake`; `due` says so when the type is served again.
                if type_ not in self._away:
                    await self._admit(type_, pool)

    async def _admit(self, type_: str, pool: str) -> None:
        asked = time.monotonic()
        try:
            work = await self._store.admit(type_, pool, self._claim_ms)
        except StoreDamaged as error:
            # It stays in `wake`, so each tick tries again until it is mended; the others go on.
            log.error("%s: %s", error.code, error.message)
            return
        except NotReplicated as error:
            # The pool is examined, or still in `wake`.
            self._say_confirmed(False, error.message)
            return
        except Unavailable:
            self.wake(type_, pool)
            raise
        self.follow(type_, work, asked)

    # --- call them ---------------------------------------------------------------------------------

    def _take(self, turns: tuple[Turn, ...], asked: float) -> None:
        """Take on deliveries: at most so many to one host and port at once, the others stand in its line."""
        for turn in turns:
            if turn.first:
                _admitted(turn)
            key = (turn.type, turn.request_id)
            earlier, _ = self._waiting.get(key, (None, 0))
            crowded = turn.job and (len(self._waiting) >= KEPT_JOBS or len(turn.job.data) > KEPT_DATA)
            kept = replace(turn, job=None) if crowded else turn
            if earlier and earlier.admission == turn.admission:
                # Its claim lapsed before it was called: that attempt is still to be made, and is counted.
                kept = replace(kept, first=earlier.first)
            self._waiting[key] = kept, asked
            if earlier:
                # From an earlier claim: only the claim is new.
                continue
            target = self._target(turn)
            self._lines.setdefault(target, deque()).append(key)
            self._call_next(target)

    def _target(self, turn: Turn) -> str:
        try:
            return self._callbacks.line(turn.callback)
        except InvalidCallback:
            return ""

    def _call_next(self, target: str) -> None:
        line = self._lines.get(target)
        while line and self._calling[target] < CALLS_PER_TARGET and not self._stopping:
            claimed = self._waiting.pop(line.popleft(), None)
            if claimed is None:
                continue
            self._calling[target] += 1
            task = asyncio.create_task(self._call(*claimed))
            self._tasks.add(task)
            task.add_done_callback(lambda task: self._called(target, task))
        if not line:
            self._lines.pop(target, None)

    def _called(self, target: str, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        self._calling[target] -= 1
        if not self._calling[target]:
            del self._calling[target]
        if not task.cancelled() and (error := task.exception()):
            log.error("a delivery met a fault of the service's own", exc_info=error)
        self._call_next(target)

    async def _call(self, turn: Turn, asked: float) -> None:
        """One round of one delivery: write, unless the admission did, call, write."""
        context = {"type": turn.type, "request_id": turn.request_id}
        job = turn.job
        if job is None or time.monotonic() - asked > _fresh_seconds(turn.claim, job):
            asked = time.monotonic()
            try:
                job, claim = await self._store.call(turn, self._claim_ms)
            except LostClaim:
                return
            except RqueueError as error:
                log.warning("not called: %s", error.message, extra=context)
                return
            turn = replace(turn, claim=claim)
        began = time.monotonic()
        verdict = await self._callbacks.deliver(job, asked)
        metrics.DELIVERIES.count(turn.type, verdict.outcome)
        metrics.DELIVERY.observe(metrics.DELIVERY.cell(verdict.outcome), time.monotonic() - began)
        if verdict.outcome == "accepted":
            # One line for each would be a tenth of a delivery; the events have them.
            log.debug("called: accepted", extra=context)
        else:
            log.info("called: %s", verdict.error, extra=context)
        until = time.monotonic() + CLAIM_MARGIN
        while True:
            try:
                await self._settle(turn, verdict, job.attempts or 1)
                return
            except (LostClaim, IllegalTransition, JobNotFound):
                # The client confirmed or ended it meanwhile, or another replica has it: nothing is owed.
                return
            except Unavailable as error:
                if time.monotonic() > until:
                    log.warning("the answer could not be kept: %s", error.message, extra=context)
                    return
            await asyncio.sleep(SETTLE_PAUSE)

    async def _settle(self, turn: Turn, verdict: Verdict, attempts: int) -> None:
        if verdict.outcome == "refused":
            delay = full_jitter(attempts) if verdict.retry_after is None else verdict.retry_after
            await self._store.retry(turn, int(delay * 1000), verdict.error)
            return
        moves = {"accepted": ACCEPTED, "unwanted": UNWANTED, "forbidden": UNREACHABLE}[verdict.outcome]
        asked = time.monotonic()
        _, work = await self._store.transition(
            turn.type,
            turn.request_id,
            moves,
            admission=turn.admission,
            error=verdict.error,
            want=False,
            claim_ms=0 if moves is ACCEPTED else self.claim_ms(),
        )
        self.follow(turn.type, work, asked)
