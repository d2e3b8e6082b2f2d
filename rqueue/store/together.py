"""Jobs that are asked for one by one in the same turn of the event loop go in line together, by one script.

A script that puts a job in line costs as much again for being called as for what it does, on both sides of
the connection. Each job is still asked for by itself: where they are refused together, as one duplicate among
them does it, each is created alone, and only who is at fault hears of it.
"""

import asyncio
import copy
from collections.abc import Awaitable, Callable, Sequence

from rqueue.domain.caller import Caller
from rqueue.domain.job import Draft, Job
from rqueue.errors import Conflict, Full

# So many are not kept back until the turn ends, so that Redis works while others still ask.
AT_ONCE = 8

Created = tuple[list[Job], list[str]]


class Together:
    """`create` puts a caller's drafts of a type in line, all or none, by one script."""

    def __init__(self, create: Callable[[str, Sequence[Draft], Caller], Awaitable[Created]]) -> None:
        self._create = create
        self._turn: dict[tuple[str, Caller], list[tuple[Draft, asyncio.Future[Created]]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def create(self, type_: str, draft: Draft, caller: Caller) -> Created:
        """Put one job in line. Returns and raises what `create` does for it alone."""
        loop, of = asyncio.get_running_loop(), (type_, caller)
        asked = self._turn.get(of)
        if asked is None:
            asked = self._turn[of] = []
            # Runs after all that is ready now, so that everyone's draft of this turn is there by then.
            loop.call_soon(self._send, of, asked)
        future: asyncio.Future[Created] = loop.create_future()
        asked.append((draft, future))
        if len(asked) == AT_ONCE:
            self._send(of, asked)
        return await future

    def _send(self, of: tuple[str, Caller], asked: list[tuple[Draft, "asyncio.Future[Created]"]]) -> None:
        if self._turn.get(of) is asked:
            del self._turn[of]
            task = asyncio.get_running_loop().create_task(self._created(of, asked))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _created(
        self, of: tuple[str, Caller], asked: list[tuple[Draft, "asyncio.Future[Created]"]]
    ) -> None:
        asked = [(draft, future) for draft, future in asked if not future.cancelled()]
        if not asked:
            return
        type_, caller = of
        try:
            jobs, pools = await self._create(type_, [draft for draft, _ in asked], caller)
        except BaseException as error:
            if len(asked) > 1 and isinstance(error, Conflict | Full):
                await asyncio.gather(*(self._created(of, [one]) for one in asked))
                return
            for _, future in asked:
                if not future.done():
                    # Each gets one of its own, since raising it writes to it.
                    future.set_exception(copy.copy(error))
            if not isinstance(error, Exception):
                raise
            return
        for job, (_, future) in zip(jobs, asked, strict=True):
            if not future.done():
                future.set_result(([job], pools))
