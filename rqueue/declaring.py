"""Makes queues what RQUEUE_QUEUES_FILE says, when the service starts and when the file changes.

Every replica does; what is so already is left alone, so that it does not matter how many do it at once.
Nothing is ever deleted.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict

from rqueue.declaration import There, Wanted, steps
from rqueue.domain.caller import Caller, Role
from rqueue.errors import NotReady, RqueueError
from rqueue.files import Watched
from rqueue.store.store import Store

AGAIN_SECONDS = 1.0
# Who is to be seen in the events.
WHO = Caller("RQUEUE_QUEUES_FILE", Role.ADMIN)

log = logging.getLogger("rqueue.declaring")


class Declaring:
    """Applies what was read from the file; `wake` is told of pools, `read_source` of sources to read."""

    def __init__(
        self,
        store: Store,
        file: Watched[dict[str, Wanted]],
        wake: Callable[[str, str], None],
        read_source: Callable[[str], None],
    ) -> None:
        self._store = store
        self._file = file
        self._wake = wake
        self._read_source = read_source
        self._applied: Mapping[str, Wanted] | None = None
        self._trouble = "it is not applied yet"

    def check(self) -> None:
        """Raises NotReady until the file was applied once, saying why it was not."""
        if self._applied is None:
            raise NotReady(f"RQUEUE_QUEUES_FILE: {self._trouble}")

    async def run(self) -> None:
        """Apply what the file says now, and again whenever it says something else, until cancelled."""
        while True:
            wanted = self._file.value
            if wanted is not self._applied:
                try:
                    await self.apply(wanted)
                except RqueueError as error:
                    if error.message != self._trouble:
                        log.error("RQUEUE_QUEUES_FILE could not be applied: %s", error.message)
                    self._trouble = error.message
                else:
                    self._applied, self._trouble = wanted, ""
            await asyncio.sleep(AGAIN_SECONDS)

    async def apply(self, wanted: Mapping[str, Wanted]) -> None:
        """Make it so. Raises what the store does, with a part of it done then."""
        there = {}
        for type_ in wanted:
            queue = await self._store.queue(type_)
            pools = {name: (await self._store.pool(type_, name)).document() for name in queue.pools}
            there[type_] = There(asdict(queue.settings), pools)
        for step in steps(there, wanted):
            if step.pool is None:
                for pool in await self._store.configure(step.type, dict(step.body or {}), WHO):
                    self._wake(step.type, pool)
            else:
                declared = wanted[step.type].pools[step.pool]
                await self._store.put_pool(step.type, declared, WHO)
                self._wake(step.type, step.pool)
                if declared.found_by:
                    self._read_source(declared.source)
            log.info("RQUEUE_QUEUES_FILE changed %s", step.named)
