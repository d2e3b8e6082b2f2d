"""The same client for code that is not async: each method does its call on a loop in a thread of its own.

Threads may share one client: their calls are under way at the same time.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AsyncExitStack, contextmanager, suppress
from typing import Any, TypeVar

from rqueue.client.calling import TRIES
from rqueue.client.client import Body, Client, connected
from rqueue.client.values import Event, Job, Pool, Queue

T = TypeVar("T")


class _Loop:
    """An event loop that runs in a thread until it is closed."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        # Taken again by a thread that has it, where memory is tidied up in the middle of it.
        self._lock = threading.RLock()
        self._closed = False
        # A program that ends without closing it is not held up.
        self._thread = threading.Thread(target=self._loop.run_forever, name="rqueue-client", daemon=True)
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Have it done. Raises RuntimeError once the loop is closed."""
        with self._lock:
            if self._closed:
                work.close()
                raise RuntimeError("the client is closed")
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What it comes to, whichever thread asks. Raises as `start` does."""
        future = self.start(work)
        try:
            return future.result()
        finally:
            # Who was interrupted while it waited, as by Ctrl-C, leaves nothing behind.
            future.cancel()

    def close(self, last: Coroutine[Any, Any, None]) -> None:
        """End the thread, after this. What other threads wait for is cancelled."""
        with self._lock:
            self._closed = True
        try:
            asyncio.run_coroutine_threadsafe(self._end(last), self._loop).result()
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _end(self, last: Coroutine[Any, Any, None]) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._loop.shutdown_asyncgens()
        await last


class SyncClient:
    """Calls one service, as Client does, and waits; made by `connected_sync`."""

    def __init__(self, client: Client, loop: _Loop) -> None:
        self._client = client
        self._loop = loop

    # --- jobs ----------------------------------------------------------------------------------------

    def create(
        self,
        type_: str,
        *,
        owner_id: str,
        data: Body,
        callback: str,
        request_id: str | None = None,
        priority: int | None = None,
        dry_run: bool = False,
    ) -> Job:
        """As Client.create."""
        return self._loop.run(
            self._client.create(
                type_,
                owner_id=owner_id,
                data=data,
                callback=callback,
                request_id=request_id,
                priority=priority,
                dry_run=dry_run,
            )
        )

    def create_many(self, type_: str, drafts: Iterable[Body]) -> list[Job]:
        """As Client.create_many."""
        return self._loop.run(self._client.create_many(type_, drafts))

    def get(self, type_: str, request_id: str) -> Job:
        """As Client.get."""
        return self._loop.run(self._client.get(type_, request_id))

    def jobs(
        self,
        type_: str,
        *,
        owner_id: str | None = None,
        status: str | None = None,
        search: str | None = None,
        limit: int | None = None,
        standing: bool = False,
    ) -> Iterator[Job]:
        """As Client.jobs."""
        for page in self.pages(
            type_, owner_id=owner_id, status=status, search=search, limit=limit, standing=standing
        ):
            yield from page

    def pages(
        self,
        type_: str,
        *,
        owner_id: str | None = None,
        status: str | None = None,
        search: str | None = None,
        limit: int | None = None,
        standing: bool = False,
    ) -> Iterator[list[Job]]:
        """As Client.pages."""
        return self._iterate(
            self._client.pages(
                type_, owner_id=owner_id, status=status, search=search, limit=limit, standing=standing
            )
        )

    def front(self, type_: str, request_id: str, *, dry_run: bool = False) -> Job:
        """As Client.front."""
        return self._loop.run(self._client.front(type_, request_id, dry_run=dry_run))

    def back(self, type_: str, request_id: str, *, dry_run: bool = False) -> Job:
        """As Client.back."""
        return self._loop.run(self._client.back(type_, request_id, dry_run=dry_run))

    def move(
        self,
        type_: str,
        request_id: str,
        *,
        after: str | None = None,
        before: str | None = None,
        priority: int | None = None,
        dry_run: bool = False,
    ) -> Job:
        """As Client.move."""
        return self._loop.run(
            self._client.move(
                type_, request_id, after=after, before=before, priority=priority, dry_run=dry_run
            )
        )

    def update(
        self,
        type_: str,
        request_id: str,
        *,
        data: Body | None = None,
        callback: str | None = None,
        dry_run: bool = False,
    ) -> Job:
        """As Client.update."""
        return self._loop.run(
            self._client.update(type_, request_id, data=data, callback=callback, dry_run=dry_run)
        )

    def confirm(self, type_: str, request_id: str, *, dry_run: bool = False) -> Job:
        """As Client.confirm."""
        return self._loop.run(self._client.confirm(type_, request_id, dry_run=dry_run))

    def done(self, type_: str, request_id: str, *, dry_run: bool = False) -> Job:
        """As Client.done."""
        return self._loop.run(self._client.done(type_, request_id, dry_run=dry_run))

    def cancel(self, type_: str, request_id: str, *, dry_run: bool = False) -> Job:
        """As Client.cancel."""
        return self._loop.run(self._client.cancel(type_, request_id, dry_run=dry_run))

    def requeue(self, type_: str, request_id: str, *, dry_run: bool = False) -> Job:
        """As Client.requeue."""
        return self._loop.run(self._client.requeue(type_, request_id, dry_run=dry_run))

    def redeliver(self, type_: str, request_id: str) -> Job:
        """As Client.redeliver."""
        return self._loop.run(self._client.redeliver(type_, request_id))

    # --- queues and pools ----------------------------------------------------------------------------

    def queues(self) -> list[Queue]:
        """As Client.queues."""
        return self._loop.run(self._client.queues())

    def queue(self, type_: str) -> Queue:
        """As Client.queue."""
        return self._loop.run(self._client.queue(type_))

    def configure(self, type_: str, settings: Body) -> Queue:
        """As Client.configure."""
        return self._loop.run(self._client.configure(type_, settings))

    def pool(self, type_: str, name: str) -> Pool:
        """As Client.pool."""
        return self._loop.run(self._client.pool(type_, name))

    def put_pool(self, type_: str, name: str, body: Body) -> Pool:
        """As Client.put_pool."""
        return self._loop.run(self._client.put_pool(type_, name, body))

    def delete_pool(self, type_: str, name: str) -> None:
        """As Client.delete_pool."""
        self._loop.run(self._client.delete_pool(type_, name))

    def simulate(
        self,
        type_: str,
        *,
        moves: Sequence[Body] = (),
        pools: Body | None = None,
        jobs: Sequence[Body] = (),
        pool: str | None = None,
    ) -> dict[str, Any]:
        """As Client.simulate."""
        return self._loop.run(self._client.simulate(type_, moves=moves, pools=pools, jobs=jobs, pool=pool))

    # --- events --------------------------------------------------------------------------------------

    def history(self, type_: str, request_id: str) -> list[Event]:
        """As Client.history."""
        return self._loop.run(self._client.history(type_, request_id))

    def last_events(self, type_: str, limit: int = 100, before: str | None = None) -> list[Event]:
        """As Client.last_events."""
        return self._loop.run(self._client.last_events(type_, limit, before))

    def events(
        self,
        type_: str,
        *,
        after: str | None = None,
        request_id: str | None = None,
        owner_id: str | None = None,
    ) -> Iterator[Event]:
        """As Client.events."""
        return self._iterate(
            self._client.events(type_, after=after, request_id=request_id, owner_id=owner_id)
        )

    # --- the service ---------------------------------------------------------------------------------

    def metrics(self) -> str:
        """As Client.metrics."""
        return self._loop.run(self._client.metrics())

    def _iterate(self, found: AsyncIterator[T]) -> Iterator[T]:
        """What comes, one by one; given up where its reader stops."""
        try:
            while (one := self._loop.run(_next(found))) is not None:
                yield one
        finally:
            # Not waited for: this may run in the loop's own thread, when memory is tidied up there.
            with suppress(RuntimeError):
                self._loop.start(_close(found))


async def _next(found: AsyncIterator[T]) -> T | None:
    return await anext(found, None)


async def _close(found: Any) -> None:
    await found.aclose()


@contextmanager
def connected_sync(
    url: str | None = None, token: str | None = None, *, tries: int = TRIES
) -> Iterator[SyncClient]:
    """As `connected`, for code that is not async. What other threads wait for when it ends is cancelled."""
    loop, stack = _Loop(), AsyncExitStack()
    try:
        client = loop.run(stack.enter_async_context(connected(url, token, tries=tries)))
        yield SyncClient(client, loop)
    finally:
        loop.close(stack.aclose())
