"""What changes would do: the very scripts that make them are run, and what they wrote is taken back.

See lua/_dry.lua for how. Nothing is woken and nobody is called.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rqueue.domain.caller import Caller
from rqueue.domain.job import Draft, Job, Moves
from rqueue.errors import RedisUnavailable, RqueueError
from rqueue.store import steps
from rqueue.store.answers import answers, lack_of, turns_of
from rqueue.store.scripts import ScriptError, Scripts, Step

# So many members of the line get another rank for a move that is only tried.
SPREAD_AT_ONCE = 1000
CROWDED = "too many ranks would have to be spread for this; a dry run does not"

# A job's name, and the place that it gets, as in move.lua.
Move = tuple[str, str, str | int, str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Who would be admitted, in order, and of those who would wait the ones that were named and the first of
    each pool; `more` where not all was looked at.
    """

    admitted: tuple[Job, ...]
    waiting: tuple[Job, ...]
    more: bool


class Dry:
    """The changes of the store that has it: they raise what the real ones raise, and answer the jobs as they
    would be, the waiting ones with their place.

    `job` makes a job of what a script replied, `nonce` a name for one call.
    """

    def __init__(self, scripts: Scripts, job: Callable[..., Job], nonce: Callable[[], str]) -> None:
        self._scripts = scripts
        self._job = job
        self._nonce = nonce

    async def create(self, type_: str, drafts: Sequence[Draft], indexed: bool, caller: Caller) -> list[Job]:
        """See Store.create."""
        step = steps.create(drafts, self._nonce(), caller)
        with answers(type_, indexed=indexed):
            return await self._changed(type_, [step], [draft.request_id for draft in drafts], caller)

    async def move(
        self,
        type_: str,
        request_id: str,
        where: str,
        first: str | int = "",
        second: str = "",
        *,
        caller: Caller,
    ) -> Job:
        """See Store.move. Raises RedisUnavailable where too many ranks had to be spread first."""
        step = steps.move(request_id, where, first, second, False, caller)
        with answers(type_, request_id):
            try:
                (job,) = await self._changed(type_, [step], [request_id], caller)
            except ScriptError as error:
                if error.code != "crowded":
                    raise
                job = await self._spread(type_, request_id, step, error.details, caller)
        return job

    async def _spread(
        self, type_: str, request_id: str, step: Step, crowded: Sequence[str], caller: Caller
    ) -> Job:
        priority, low, size = crowded
        spread = [steps.spread(priority, low, size, side, "0", SPREAD_AT_ONCE) for side in ("right", "left")]
        try:
            (job,) = await self._changed(type_, [*spread, step], [request_id], caller)
        except ScriptError as error:
            if error.code != "crowded":
                raise
            raise RedisUnavailable(CROWDED) from None
        return job

    async def update(
        self, type_: str, request_id: str, callback: str | None, draft: Draft | None, caller: Caller
    ) -> Job:
        """See Store.update."""
        step = steps.update(request_id, callback, draft, caller)
        with answers(type_, request_id):
            (job,) = await self._changed(type_, [step], [request_id], caller)
        return job

    async def transition(self, type_: str, request_id: str, moves: Moves, caller: Caller) -> Job:
        """See Store.transition."""
        step = steps.transition(request_id, moves, self._nonce(), caller, want=False)
        with answers(type_, request_id):
            (job,) = await self._changed(type_, [step], [request_id], caller)
        return job

    async def redeliver(self, type_: str, request_id: str, caller: Caller) -> Job:
        """See Store.redeliver."""
        step = steps.redeliver(request_id, self._nonce(), 0, False, caller)
        with answers(type_, request_id):
            (job,) = await self._changed(type_, [step], [request_id], caller)
        return job

    async def simulate(
        self,
        type_: str,
        moves: Sequence[Move],
        pools: Mapping[str, Mapping[str, Mapping[str, int]]],
        drafts: Sequence[Draft],
        pool: str,
        caller: Caller,
    ) -> Outcome:
        """Who would be admitted now after these moves, changes of hosts and creates, in this order, and who
        would wait. `pools` is pool → host → resource → amount, nothing for a host that is taken away; with a
        `pool`, only that one is examined.

        Raises what these raise, with the field that is to blame, and RedisUnavailable where too many ranks
        had to be spread.
        """
        changes = [
            *(steps.move(name, where, a, b, False, caller) for name, where, a, b in moves),
            *(steps.set_hosts(name, hosts) for name, hosts in pools.items()),
            *([steps.create(drafts, self._nonce(), caller)] if drafts else []),
        ]
        names = [move[0] for move in moves] + [draft.request_id for draft in drafts]
        final = steps.simulate(names, pool, self._nonce(), caller)
        with answers(type_):
            try:
                *_, (more, admitted, waiting) = await self._scripts.dry(
                    type_, *changes, final, asked=("admit", "get", "explain")
                )
            except ScriptError as error:
                raise self._refusal(type_, error, moves) from None
        found = [
            self._job(type_, name, flat, *place, lack=lack_of(lack))
            for name, (_, flat, *place), (_, *lack) in waiting
        ]
        jobs = [turn.job for turn in turns_of(type_, admitted) if turn.job]
        own = [job for job in jobs if caller.owners is None or job.owner_id in caller.owners]
        return Outcome(tuple(own), tuple(found), bool(more))

    def _refusal(self, type_: str, error: ScriptError, moves: Sequence[Move]) -> RqueueError:
        """The error of a change among several, with the field that is to blame."""
        if error.code == "crowded":
            return RedisUnavailable(CROWDED)
        at = error.step
        prefix = f"moves.{at}" if at < len(moves) else "jobs"
        try:
            with answers(type_, moves[at][0] if at < len(moves) else "", indexed=at >= len(moves)):
                raise error
        except RqueueError as refusal:
            refusal.field = f"{prefix}.{refusal.field}" if refusal.field else prefix
            return refusal

    async def _changed(
        self, type_: str, changes: Sequence[Step], request_ids: Sequence[str], caller: Caller
    ) -> list[Job]:
        """These jobs as they would be after some changes."""
        shown = [step for name in request_ids for step in (steps.get(name, caller), steps.explain(name))]
        replies = (await self._scripts.dry(type_, *changes, *shown))[len(changes) :]
        return [
            self._job(type_, name, flat, *place, lack=lack_of(lack))
            for name, (flat, *place), lack in zip(request_ids, replies[::2], replies[1::2], strict=True)
        ]
