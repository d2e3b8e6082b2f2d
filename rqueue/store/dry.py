"""What changes would do: the very scripts that make them are run, and what they wrote is taken back.

See lua/_dry.lua for how. Nothing is woken and nobody is called.
"""

from collections.abc import Callable, Sequence

from rqueue.domain.caller import Caller
from rqueue.domain.job import Draft, Job, Moves
from rqueue.errors import RedisUnavailable
from rqueue.store import steps
from rqueue.store.answers import answers, lack_of
from rqueue.store.scripts import ScriptError, Scripts, Step

# So many members of the line get another rank for a move that is only tried.
SPREAD_AT_ONCE = 1000


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
            raise RedisUnavailable(
                "too many ranks would have to be spread for this; a dry run does not"
            ) from None
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
