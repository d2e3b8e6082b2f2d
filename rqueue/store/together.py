"""Jobs that are asked for one by one in the same turn of the event loop go in line together, by one script.

A script that puts a job in line costs as much again for being called as for what it does, on both sides of
the connection. Each job is still asked for by itself: where they are refused together, as one duplicate among
them does it, each is created alone, and only who is at fault hears of it.
"""

import asyncio
import copy
from collections.abc import Awaitable, Callable, Sequence

from rqueue.domain.job import Draft, Job
from rqueue.errors import Conflict, Full

# So many are not kept back until the turn ends, so that Redis works while others still ask.
AT_ONCE = 8

Created = tuple[list[Job], list[str]]


class Together:
    """`create` puts the drafts of a type in line, all or none: Store.create, on one of its own scripts."""

    def __init__(self, create: Callable[[str, Sequence[Draft]], Awaitable[Created]]) -> None:
        self._create = create
        self._turn: dict[str, list[tuple[Draft, asyncio.Future[Created]]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def create(self, type_: str, draft: Draft) -> Created:
        """Put one job in line. Returns and raises what `create` does for it alone."""
        loop = asyncio.get_running_loop()
        asked = self._turn.get(type_)
        if asked is None:
            asked = self._turn[type_] = []
            # Runs after all that is ready now, so that everyone's draft of this turn is there by then.
            loop.call_soon(self._send, type_, asked)
        future: asyncio.Future[Created] = loop.create_future()
        asked.append((draft, future))
        if len(asked) == AT_ONCE:
            self._send(type_, asked)
        return await future

    def _send(self, type_: str, asked: list[tuple[Draft, "asyncio.Future[Created]"]]) -> None:
        if self._turn.get(type_) is asked:
            del self._turn[type_]
            task = asyncio.get_running_loop().create_task(self._created(type_, asked))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _created(self, type_: str, asked: list[tuple[Draft, "asyncio.Future[Created]"]]) -> None:
        asked = [(draft, future) for draft, future in asked if not future.cancelled()]
        if not asked:
            return
        try:
            jobs, pools = await self._create(type_, [draft for draft, _ in asked])
        except BaseException as error:
            if len(asked) > 1 and isinstance(error, Conflict | Full):
                await asyncio.gather(*(self._created(type_, [one]) for one in asked))
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
