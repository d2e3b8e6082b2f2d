"""The service as a client sees it: one method for each call, values in, values out.

All raise Failed for an answer that is an error, with what the service says, and for a service that cannot be
asked. A call whose answer was lost is sent again (calling.py says when), so what changes a job may be done
twice: each says what that comes to.
"""

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar
from uuid import uuid4

import orjson

from rqueue import config
from rqueue.client.calling import TRIES, Calling, Request, pause
from rqueue.client.values import Event, Failed, Job, Pool, Queue
from rqueue.errors import Refused

# The most jobs of a page, and of one whose jobs say where they stand.
PAGE = 1000
STANDING_PAGE = 200
BEGINNING = "0-0"

log = logging.getLogger("rqueue.client")

T = TypeVar("T")
Body = Mapping[str, Any]


class Client:
    """Calls one service; made by `connected`."""

    def __init__(self, calling: Calling) -> None:
        self._calling = calling

    # --- jobs ----------------------------------------------------------------------------------------

    async def create(
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
        """Create a job; without a request_id it gets one that nobody else has.

        Sent again with the same request_id: where that is taken by now, by a job with this owner and
        callback, an earlier try created it, and it is returned as it is. At the first try that is Failed
        (409, duplicate_request_id).
        """
        draft: dict[str, Any] = {"request_id": request_id or _new(), "owner_id": owner_id}
        draft |= {"data": data, "callback": callback}
        if priority is not None:
            draft["priority"] = priority
        try:
            return await self._one(Job.read, Request("POST", ("v1", type_), draft, _dry(dry_run)))
        except Failed as failed:
            if dry_run:
                raise
            return (await self._created(type_, [draft], failed))[0]

    async def create_many(self, type_: str, drafts: Iterable[Body]) -> list[Job]:
        """Create up to 1,000 jobs, all or none; drafts are as the API has them, and as in `create`."""
        bodies = [{"request_id": _new(), **draft} for draft in drafts]
        try:
            return await self._all(Job.read, Request("POST", ("v1", type_), bodies))
        except Failed as failed:
            return await self._created(type_, bodies, failed)

    async def _created(self, type_: str, drafts: Sequence[Body], failed: Failed) -> list[Job]:
        """The jobs that an earlier try has created. Raises the failure where it has not."""
        if failed.tries < 2 or failed.code != "duplicate_request_id":
            raise failed
        jobs = [await self.get(type_, draft["request_id"]) for draft in drafts]
        for job, draft in zip(jobs, drafts, strict=True):
            # A callback is unique within the type, so that this job is no other's.
            if (job.owner_id, job.callback) != (draft["owner_id"], draft["callback"]):
                raise failed
        return jobs

    async def get(self, type_: str, request_id: str) -> Job:
        """One job; a waiting one with its position, why it waits, and when it may start."""
        return await self._one(Job.read, Request("GET", ("v1", type_, request_id)))

    async def jobs(
        self,
        type_: str,
        *,
        owner_id: str | None = None,
        status: str | None = None,
        search: str | None = None,
        limit: int | None = None,
        standing: bool = False,
    ) -> AsyncIterator[Job]:
        """The jobs in order, or so many of them; without a status the live ones.

        Read page by page, as they are taken: one that is moved meanwhile may be there twice, or not at all.
        With `standing` a waiting job says where it stands, as in `get`.
        """
        async for page in self.pages(
            type_, owner_id=owner_id, status=status, search=search, limit=limit, standing=standing
        ):
            for job in page:
                yield job

    async def pages(
        self,
        type_: str,
        *,
        owner_id: str | None = None,
        status: str | None = None,
        search: str | None = None,
        limit: int | None = None,
        standing: bool = False,
    ) -> AsyncIterator[list[Job]]:
        """As `jobs`, in the pages that they are read in. With `search` a page may be empty before the end."""
        asked = {"owner_id": owner_id, "status": status, "search": search}
        query = {name: value for name, value in asked.items() if value is not None}
        if standing:
            query["standing"] = "true"
        most, left = STANDING_PAGE if standing else PAGE, limit
        while left is None or left > 0:
            query["limit"] = str(most if left is None else min(left, most))
            answer = await self._calling.ask(Request("GET", ("v1", type_), query=query))
            page = self._read_all(Job.read, answer)
            yield page
            if left is not None:
                left -= len(page)
            if not (cursor := answer.get("next")):
                return
            query["cursor"] = str(cursor)

    async def front(self, type_: str, request_id: str, *, dry_run: bool = False) -> Job:
        """Make a waiting job the next one. Twice: it stays there, or is there again."""
        return await self._change(type_, request_id, {"position": "front"}, dry_run)

    async def back(self, type_: str, request_id: str, *, dry_run: bool = False) -> Job:
        """Make a waiting job the last one. Twice: it stays there, or is there again."""
        return await self._change(type_, request_id, {"position": "back"}, dry_run)

    async def move(
        self,
        type_: str,
        request_id: str,
        *,
        after: str | None = None,
        before: str | None = None,
        priority: int | None = None,
        dry_run: bool = False,
    ) -> Job:
        """Move a waiting job after or before another one, between two, or behind those of a priority.

        Twice: it stays where it is asked to be; with a priority it goes behind those that came meanwhile.
        """
        asked = {"after": after, "before": before, "priority": priority}
        where = {name: value for name, value in asked.items() if value is not None}
        return await self._change(type_, request_id, where, dry_run)

    async def update(
        self,
        type_: str,
        request_id: str,
        *,
        data: Body | None = None,
        callback: str | None = None,
        dry_run: bool = False,
    ) -> Job:
        """Have a waiting job ask for something else, or call somebody else. Twice is as once."""
        asked = {"data": data, "callback": callback}
        changes = {name: value for name, value in asked.items() if value is not None}
        return await self._change(type_, request_id, changes, dry_run)

    async def confirm(self, type_: str, request_id: str, *, dry_run: bool = False) -> Job:
        """Say that a called job runs, or renew the lease of a running one. Twice is as once."""
        return await self._change(type_, request_id, {"status": "running"}, dry_run)

    async def done(self, type_: str, request_id: str, *, dry_run: bool = False) -> Job:
        """Give back what a job holds. One that is done already is returned as it is."""
        request = self._changing(type_, request_id, {"status": "done"}, dry_run)
        return await self._ended(request, type_, request_id, ("done",))

    async def cancel(self, type_: str, request_id: str, *, dry_run: bool = False) -> Job:
        """Cancel a waiting job, release a running one. One that is cancelled or done is returned as it is."""
        request = Request("DELETE", ("v1", type_, request_id), None, _dry(dry_run), _REPRESENTED)
        return await self._ended(request, type_, request_id, ("cancelled", "done"))

    async def requeue(self, type_: str, request_id: str, *, dry_run: bool = False) -> Job:
        """Put a running, failed or expired job back in line, at its old place.

        Not sent again where it may have been done: by then the job may run again, and would be taken back.
        """
        request = self._changing(type_, request_id, {"status": "queued"}, dry_run)
        return await self._one(Job.read, replace(request, again=False))

    async def redeliver(self, type_: str, request_id: str) -> Job:
        """Call a calling job now, and not only at its next try. Twice: it may be called twice."""
        return await self._change(type_, request_id, {"status": "calling"})

    async def _change(self, type_: str, request_id: str, body: Body, dry_run: bool = False) -> Job:
        return await self._one(Job.read, self._changing(type_, request_id, body, dry_run))

    def _changing(self, type_: str, request_id: str, body: Body, dry_run: bool = False) -> Request:
        return Request("POST", ("v1", type_, request_id), body, _dry(dry_run), _REPRESENTED)

    async def _ended(self, request: Request, type_: str, request_id: str, ends: Sequence[str]) -> Job:
        try:
            return await self._one(Job.read, request)
        except Failed as failed:
            if failed.code != "illegal_transition":
                raise
            job = await self.get(type_, request_id)
            if job.status not in ends:
                raise failed from None
            return job

    # --- queues and pools ----------------------------------------------------------------------------

    async def queues(self) -> list[Queue]:
        """Every queue there is, of those that the token may see."""
        return await self._all(Queue.read, Request("GET", ("queues",)))

    async def queue(self, type_: str) -> Queue:
        """One queue; one that nobody has used yet has the defaults."""
        return await self._one(Queue.read, Request("GET", ("queues", type_)))

    async def configure(self, type_: str, settings: Body) -> Queue:
        """Change the settings that are named; None gives one its default back. Twice is as once."""
        return await self._one(Queue.read, Request("PUT", ("queues", type_), settings))

    async def pool(self, type_: str, name: str) -> Pool:
        """A pool as it is."""
        return await self._one(Pool.read, Request("GET", ("queues", type_, "pools", name)))

    async def put_pool(self, type_: str, name: str, body: Body) -> Pool:
        """Declare a pool, in place of what was declared. Twice is as once."""
        return await self._one(Pool.read, Request("PUT", ("queues", type_, "pools", name), body))

    async def delete_pool(self, type_: str, name: str) -> None:
        """Forget a pool. Where it is sent again and there is none by now, an earlier try did it."""
        try:
            await self._calling.ask(Request("DELETE", ("queues", type_, "pools", name)))
        except Failed as failed:
            if failed.tries < 2 or failed.code != "pool_not_found":
                raise

    async def simulate(
        self,
        type_: str,
        *,
        moves: Sequence[Body] = (),
        pools: Body | None = None,
        jobs: Sequence[Body] = (),
        pool: str | None = None,
    ) -> dict[str, Any]:
        """Who would be `admitted` and who would be `waiting`, if this were so; nothing happens.

        What goes in and what comes out is as the API has it.
        """
        body: dict[str, Any] = {"moves": list(moves), "pools": dict(pools or {}), "jobs": list(jobs)}
        if pool is not None:
            body["pool"] = pool
        return await self._one(_map, Request("POST", ("queues", type_, "simulate"), body))

    # --- events --------------------------------------------------------------------------------------

    async def history(self, type_: str, request_id: str) -> list[Event]:
        """What happened to a job, oldest first; kept as long as the job."""
        return await self._all(Event.read, Request("GET", ("v1", type_, request_id, "events")))

    async def last_events(self, type_: str, limit: int = 100, before: str | None = None) -> list[Event]:
        """The newest events of a queue, or those before an id; oldest first, at most 1,000."""
        query = {"limit": str(limit)} | ({} if before is None else {"before": before})
        return await self._all(Event.read, Request("GET", ("queues", type_, "events"), query=query))

    async def events(
        self,
        type_: str,
        *,
        after: str | None = None,
        request_id: str | None = None,
        owner_id: str | None = None,
    ) -> AsyncIterator[Event]:
        """What happens from now on, or since an id, without end: a connection that breaks is made again.

        Nothing is lost between two connections, unless it is so much that the service has dropped it: then
        comes an event that is `missed`, after which one reads anew. Raises Failed where the service refuses,
        and where it cannot be asked at the beginning.
        """
        # With a place to go on from, a connection that breaks before the first event loses none either.
        newest = await self.last_events(type_, limit=1)
        after = after or (newest[-1].id if newest else BEGINNING)
        asked = {"request_id": request_id, "owner_id": owner_id}
        query = {name: value for name, value in asked.items() if value is not None}
        attempt = 0
        while True:
            headers = {"Accept": "text/event-stream", "Last-Event-ID": after}
            try:
                request = Request("GET", ("queues", type_, "events"), query=query, headers=headers)
                async with self._calling.stream(request) as lines:
                    async for id_, data in messages(lines):
                        attempt, after = 0, id_ or after
                        yield self._read(lambda text: Event.read(orjson.loads(text)), data)
            except Failed as failed:
                if failed.status not in _GONE_FOR_NOW:
                    raise
                log.info("the events of %s go on after %s: %s", type_, after, failed.message)
            attempt += 1
            await asyncio.sleep(pause(attempt))

    # --- the service ---------------------------------------------------------------------------------

    async def metrics(self) -> str:
        """What the service counts and measures, in Prometheus's text format; one try."""
        async with self._calling.stream(Request("GET", ("metrics",))) as lines:
            return b"".join([line async for line in lines]).decode()

    # --- answers -------------------------------------------------------------------------------------

    async def _one(self, read: Callable[[Any], T], request: Request) -> T:
        return self._read(read, (await self._calling.ask(request))["data"])

    async def _all(self, read: Callable[[Any], T], request: Request) -> list[T]:
        return self._read_all(read, await self._calling.ask(request))

    def _read_all(self, read: Callable[[Any], T], answer: Body) -> list[T]:
        return [self._read(read, document) for document in self._read(list, answer["data"])]

    def _read(self, read: Callable[[Any], T], document: Any) -> T:
        try:
            return read(document)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise self._calling.unreadable() from None


_REPRESENTED = {"Prefer": "return=representation"}
# No answer, and those of a service, or of a proxy before one, that is there again soon.
_GONE_FOR_NOW = (0, 408, 429, 502, 503, 504)


async def messages(lines: AsyncIterable[bytes]) -> AsyncIterator[tuple[str, str]]:
    """The id and the data of each message of a stream of server-sent events; "" where it has no id.

    https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
    """
    id_ = ""
    data: list[str] = []
    async for line in lines:
        name, _, value = line.decode(errors="replace").rstrip("\r\n").partition(":")
        value = value.removeprefix(" ")
        if not name and not value and line in (b"\n", b"\r\n"):
            if data:
                yield id_, "\n".join(data)
            data = []
        elif name == "id" and "\0" not in value:
            id_ = value
        elif name == "data":
            data.append(value)


def _new() -> str:
    return uuid4().hex


def _dry(dry_run: bool) -> dict[str, str]:
    return {"dry_run": "true"} if dry_run else {}


def _map(document: Any) -> dict[str, Any]:
    return dict(document)


@asynccontextmanager
async def connected(
    url: str | None = None, token: str | None = None, *, tries: int = TRIES
) -> AsyncIterator[Client]:
    """A client of the service at a URL, who shows this token; by default RQUEUE_URL and RQUEUE_TOKEN.

    A call is sent `tries` times at the most. Raises Failed for what is no URL.
    """
    try:
        url, token = config.client(url=url, token=token)
    except Refused as error:
        raise Failed(error.message) from None
    async with Calling(url, token, tries) as calling:
        yield Client(calling)
