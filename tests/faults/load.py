"""A mixed load of well-behaved clients while something breaks, and what it proves afterwards.

Clients do what the documents tell them: who got no answer, or a 503, asks again with the same request_id, and
takes a 409 that names it for a late 201. What they were told is compared with what arrived at the receiver:
every job that was accepted is called, no host is given out beyond what it has, nobody is admitted twice. That
is known from outside, without a look into Redis; `tests.invariants` looks there.
"""

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
from aiohttp import web

from tests.conftest import Receiver, receiving

HOSTS, SLOTS = ("n0", "n1", "n2"), 48
# Ended jobs go while the load is on.
RETENTION_SECONDS = 60
# An answer of any kind takes no longer, whatever is broken.
ANSWER_SECONDS = 15.0
# A client that is told 503 for so long has not been served again.
PATIENCE = 60.0
PAUSE = 0.05
# Creators wait for the callbacks where so many jobs wait, so that what is left at the end is soon called.
WAITING = 300
HOLD_SECONDS = 0.4
ANSWERED_SECONDS = 0.1
# Such a part of the receivers does not do well at first; one that hangs does so longer than it is waited for.
MISBEHAVE, HANG_SECONDS = 0.05, 1.5
# Such a part of the clients keeps what it holds until the service says that it is running.
CONFIRMED = 0.2


@dataclass
class Outcome:
    """What a load saw: counts of jobs, of answers, and seconds."""

    accepted: int = 0
    # Accepted and not called though there was room, or gone.
    lost: list[str] = field(default_factory=list)
    # Calls at which a host held more than it has.
    beyond: int = 0
    # Jobs that were admitted again though nobody had put them back in line.
    admitted_again: int = 0
    # Calls of an admission that was called before.
    called_again: int = 0
    answers: Counter[int] = field(default_factory=Counter)
    # Of those that were 503, why.
    codes: set[str] = field(default_factory=set)
    no_answer: int = 0
    # Answers that no client should get.
    wrong: list[str] = field(default_factory=list)
    slowest: float = 0.0
    seconds: float = 0.0
    # From the end of each fault to the first job that was accepted after it.
    recovered: list[float] = field(default_factory=list)

    def sound(self) -> None:
        """Assert what must hold whatever was broken."""
        assert not self.wrong, self.wrong[:5]
        assert not self.lost, (len(self.lost), self.lost[:5])
        assert self.beyond == 0
        assert self.admitted_again == 0
        assert self.slowest < ANSWER_SECONDS
        assert self.accepted > 0


class Load:
    """Clients of services at some URLs, of which each answers for all. Made by `loaded`."""

    def __init__(
        self, urls: Sequence[str], receiver: Receiver, types: Sequence[str], clients: int, waiting: int
    ):
        self.urls = list(urls)
        self.outcome = Outcome()
        self._types = types
        self._rng = random.Random(1)
        self._waiting = waiting
        self._receiver = receiver
        receiver.answer = self._take
        self._ending = asyncio.Event()
        self._names = itertools.count()
        self._accepted: set[tuple[str, str]] = set()
        self._unwanted: set[tuple[str, str]] = set()
        # Accepted, wanted, and not called yet.
        self._waited_for: set[tuple[str, str]] = set()
        self._calls: dict[tuple[str, str], Counter[str]] = {}
        # Those whose first call was answered 503.
        self._refused: set[tuple[str, str]] = set()
        self._holds: dict[tuple[str, str], Counter[str]] = {}
        self._held: Counter[tuple[str, str]] = Counter()
        self._built: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._finished: set[tuple[str, str]] = set()
        self._heard = asyncio.Condition()
        self._last_accepted = 0.0
        self._client = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS))
        self._clients = clients
        self._tasks: list[asyncio.Task[None]] = []
        self._began = time.monotonic()

    # --- driving it --------------------------------------------------------------------------------

    async def start(self) -> None:
        """Declare the pools, and begin."""
        for type_ in self._types:
            await self.ask("PUT", f"/queues/{type_}", {"retention": RETENTION_SECONDS})
            await self.ask(
                "PUT", f"/queues/{type_}/pools/default", {"hosts": {h: {"slots": SLOTS} for h in HOSTS}}
            )
        self._began = time.monotonic()
        self._tasks = [asyncio.create_task(self._creates()) for _ in range(self._clients)]
        self._tasks += [asyncio.create_task(self._finishes()) for _ in range(len(HOSTS) * SLOTS)]

    async def until_accepted(self, more: int, seconds: float = 30) -> None:
        """Wait until so many more jobs were accepted."""
        wanted = len(self._accepted) + more
        async with asyncio.timeout(seconds), self._heard:
            await self._heard.wait_for(lambda: len(self._accepted) >= wanted or self._failed())

    async def fault_is_over(self, seconds: float = 30) -> float:
        """Wait for a job that is asked for from now on to be accepted; how many seconds that took."""
        began = time.monotonic()
        async with asyncio.timeout(seconds), self._heard:
            await self._heard.wait_for(lambda: self._last_accepted > began or self._failed())
        took = time.monotonic() - began
        self.outcome.recovered.append(took)
        return took

    async def finish(self, seconds: float = 60) -> Outcome:
        """Create no more, wait until all that was accepted is called and given back; what was seen."""
        self._ending.set()
        outcome = self.outcome
        outcome.seconds = time.monotonic() - self._began
        creators, finishers = self._tasks[: self._clients], self._tasks[self._clients :]
        try:
            await asyncio.gather(*creators)
            wanted = self._accepted - self._unwanted
            try:
                async with asyncio.timeout(seconds), self._heard:
                    await self._heard.wait_for(lambda: wanted <= self._finished or self._failed())
            except TimeoutError:
                for type_, name in sorted(wanted - self._finished):
                    found = await self._told("GET", f"/v1/{type_}/{name}")
                    outcome.lost.append(f"{type_}/{name}: {found}")
            for task in finishers:
                if task.done():
                    task.result()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        outcome.accepted = len(self._accepted)
        for of, ids in self._calls.items():
            outcome.called_again += sum(ids.values()) - len(ids) - (of in self._refused and of in self._holds)
        return outcome

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.close()

    def _failed(self) -> bool:
        return any(task.done() and not task.cancelled() and task.exception() for task in self._tasks)

    # --- what clients do ---------------------------------------------------------------------------

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any, bool]:
        """The answer to a request, repeated until it has one: status, JSON, whether it was repeated."""
        outcome, repeated, until = self.outcome, False, time.monotonic() + PATIENCE
        while True:
            began = time.monotonic()
            try:
                async with self._client.request(
                    method, self._rng.choice(self.urls) + path, json=body
                ) as response:
                    answer, status = await response.json(), response.status
                    retry_after = response.headers.get("Retry-After")
            except (aiohttp.ClientError, ConnectionError) as error:
                status, answer, retry_after = 0, repr(error), None
                outcome.no_answer += 1
            except TimeoutError:
                status, answer, retry_after = 0, "no answer in time", None
                outcome.wrong.append(f"{method} {path}: no answer within {ANSWER_SECONDS:g} s")
            outcome.slowest = max(outcome.slowest, time.monotonic() - began)
            if status:
                outcome.answers[status] += 1
            if status == 503:
                outcome.codes.add(answer["error"]["code"])
            if status >= 500 and (status != 503 or retry_after is None):
                outcome.wrong.append(f"{method} {path}: {status} {answer}")
            if status not in (0, 503):
                return status, answer, repeated
            assert time.monotonic() < until, (method, path, answer)
            repeated = True
            # Sooner than Retry-After says, so that it is seen how soon it goes on.
            await asyncio.sleep(PAUSE)

    async def _told(self, method: str, path: str) -> Any:
        try:
            return (await self.ask(method, path))[:2]
        except AssertionError as error:
            return error

    async def _creates(self) -> None:
        rng, own = random.Random(self._rng.random()), []
        while not self._ending.is_set():
            type_ = rng.choice(list(self._types))
            names = [f"j{next(self._names)}" for _ in range(rng.choice((1, 1, 1, 5)))]
            await self._create(type_, names, rng)
            own = [*own[-20:], *((type_, name) for name in names)]
            of, name = rng.choice(own)
            where = rng.choice(
                [
                    {"position": "front"},
                    {"position": "back"},
                    {"priority": rng.randint(0, 9)},
                    {"after": names[0]},
                ]
            )
            if of == type_ or "after" not in where:
                await self._expect({200, 409, 404}, "POST", f"/v1/{of}/{name}", where)
            await self._expect({200}, "GET", f"/v1/{type_}/{names[0]}")
            if rng.random() < 0.05 and (of, name) not in self._holds:
                # What it is called about from here on it does not want.
                self._unwanted.add((of, name))
                self._waited_for.discard((of, name))
                await self._expect({200, 409, 404}, "DELETE", f"/v1/{of}/{name}")
            async with self._heard:
                await self._heard.wait_for(
                    lambda: len(self._waited_for) < self._waiting or self._ending.is_set()
                )

    async def _expect(self, statuses: set[int], method: str, path: str, body: Any = None) -> Any:
        status, answer, _ = await self.ask(method, path, body)
        if status not in statuses:
            self.outcome.wrong.append(f"{method} {path} {body}: {status} {answer}")
        return answer

    async def _create(self, type_: str, names: list[str], rng: random.Random) -> None:
        bodies = [
            {
                "request_id": name,
                "owner_id": f"o{rng.randint(0, 4)}",
                "callback": f"{self._receiver.url}/{type_}/{name}",
                "data": {"instances": [{"slots": rng.randint(1, 4)}] * rng.randint(1, 2)},
            }
            for name in names
        ]
        began = time.monotonic()
        status, answer, repeated = await self.ask(
            "POST", f"/v1/{type_}/", bodies if len(bodies) > 1 else bodies[0]
        )
        there = status == 409 and repeated and answer["error"]["code"] == "duplicate_request_id"
        if status != 201 and not there:
            self.outcome.wrong.append(f"POST /v1/{type_}/ {names}: {status} {answer}")
            return
        async with self._heard:
            accepted = {(type_, name) for name in names}
            self._accepted |= accepted
            self._waited_for |= accepted.difference(self._calls, self._unwanted)
            self._last_accepted = max(self._last_accepted, began)
            self._heard.notify_all()

    # --- what is done with what was promised ---------------------------------------------------------

    async def _take(self, request: web.Request) -> web.Response:
        """A callback: the capacity is the client's from here on, until it gives it back."""
        _, headers, body = self._receiver.calls.pop()
        admission, job = headers["webhook-id"], orjson.loads(body)["data"]
        of = job["Type"], job["RequestID"]
        ids = self._calls.setdefault(of, Counter())
        self._waited_for.discard(of)
        if not ids and self._rng.random() < MISBEHAVE:
            ids[admission] += 1
            self._refused.add(of)
            return await self._misbehave(request)
        if admission not in ids and ids:
            self.outcome.admitted_again += 1
        ids[admission] += 1
        if of in self._unwanted and of not in self._holds:
            return web.Response(status=410)
        if of not in self._holds:
            holds: Counter[str] = Counter()
            shapes = itertools.chain.from_iterable(
                [shape["slots"]] for shape in orjson.loads(job["Data"])["instances"]
            )
            # All instances of a job are equal here, so the order of the two does not matter.
            for host, slots in zip(job["Placement"], shapes, strict=True):
                holds[host] += slots
            self._holds[of] = holds
            for host, slots in holds.items():
                self._held[of[0], host] += slots
                if self._held[of[0], host] > SLOTS:
                    self.outcome.beyond += 1
            self._built.put_nowait(of)
        async with self._heard:
            self._heard.notify_all()
        # So that there are some on their way whenever something breaks.
        await asyncio.sleep(self._rng.random() * ANSWERED_SECONDS)
        return web.Response()

    async def _misbehave(self, request: web.Request) -> web.Response:
        """As a receiver that restarts, hangs, or is not there yet: the next try finds it well."""
        how = self._rng.choice(("refuse", "refuse", "reset", "hang"))
        if how == "hang":
            await asyncio.sleep(HANG_SECONDS)
        if how != "refuse" and request.transport is not None:
            request.transport.abort()
        return web.Response(status=503, headers={"Retry-After": "0"})

    async def _finishes(self) -> None:
        while True:
            of = await self._built.get()
            await asyncio.sleep(self._rng.random() * HOLD_SECONDS)
            if self._rng.random() < CONFIRMED:
                await self._until_running(of)
            for host, slots in self._holds[of].items():
                self._held[of[0], host] -= slots
            await self._expect({200, 409}, "DELETE", f"/v1/{of[0]}/{of[1]}")
            async with self._heard:
                self._finished.add(of)
                self._heard.notify_all()

    async def _until_running(self, of: tuple[str, str]) -> None:
        """Wait until what the receiver answered is written down, by whichever replica."""
        until, path = time.monotonic() + PATIENCE, f"/v1/{of[0]}/{of[1]}"
        while time.monotonic() < until:
            status, answer, _ = await self.ask("GET", path)
            if status != 200 or answer["data"]["Status"] == "running":
                return
            await asyncio.sleep(PAUSE)
        self.outcome.wrong.append(f"{path}: not running within {PATIENCE:g} s of its call")


@asynccontextmanager
async def loaded(
    *urls: str, types: Sequence[str] = ("vm",), clients: int = 12, waiting: int = WAITING
) -> AsyncIterator[Load]:
    """A load on services that are there already; it ends on leaving, finished or not."""
    async with receiving() as receiver:
        load = Load(urls, receiver, types, clients, waiting)
        try:
            await load.start()
            yield load
        finally:
            await load.close()
