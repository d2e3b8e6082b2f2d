"""The store: a method for each script, values in, values out.

All that is decided is decided in Lua; here arguments are put in order and answers become values or
errors. Knows no HTTP and calls nobody back.
"""

import asyncio
import itertools
import logging
import math
import re
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import orjson
from redis.exceptions import RedisError

from rqueue import errors, metrics
from rqueue.domain.caller import ANYONE, Caller
from rqueue.domain.job import ENDED, Draft, Job, Moves, Reason, Status
from rqueue.domain.pool import Pool
from rqueue.domain.reason import Lack
from rqueue.domain.secret import key_of
from rqueue.store import steps
from rqueue.store.answers import (
    Page,
    Queue,
    Turn,
    Work,
    answers,
    by_host,
    by_owner,
    created,
    found_by_of,
    job_of,
    lack_of,
    mapping,
    moment_of,
    quotas_of,
    settings_of,
    turns_of,
)
from rqueue.store.dry import Dry
from rqueue.store.events import Events
from rqueue.store.keys import Keys
from rqueue.store.pipeline import Redis
from rqueue.store.scripts import ScriptError, Scripts, refused
from rqueue.store.steps import DEFAULTS
from rqueue.store.together import Together

log = logging.getLogger("rqueue.store")

# This changes nothing; a replica, a full server and one that cannot save refuse it all the same.
_MAY_WRITE = "return redis.call('SETRANGE', KEYS[1], 0, '')"

# What its user may do changes when a person changes it; to try all of it takes 0.1 ms of Redis.
MAY_RUN_SECONDS = 60.0

PAGE = 100
PASS = 100
SPREAD_STEP = 250
SPREAD_TRIES = 10
PAGE_BYTES = 1 << 20


class Store:
    """All that is in Redis under one namespace.

    `now` is a clock in microseconds for tests; without it the scripts ask Redis, so that no replica's
    own clock counts. Every method may raise Unavailable; the others it raises are named.
    """

    def __init__(self, redis: Redis, namespace: str, now: Callable[[], int] | None = None) -> None:
        self._redis = redis
        self._keys = Keys(namespace)
        self._scripts = Scripts(redis, self._keys, now)
        self._run = self._scripts.run
        self._step = self._scripts.step
        self._together = Together(self._create)
        self.dry = Dry(self._scripts, self._job, self._nonce)
        self.events = Events(self._scripts, self._keys)
        # From where no other store begins, and below 2^63: a number takes 12 bytes less of a job than a text.
        self._calls = itertools.count(secrets.randbits(62))
        # When the Redis user could last run all that is needed; monotonic time begins anywhere.
        self._may_run = -math.inf

    # --- jobs --------------------------------------------------------------------------------------

    async def create(
        self,
        type_: str,
        drafts: Sequence[Draft],
        indexed: bool = False,
        caller: Caller = ANYONE,
        traceparent: str = "",
    ) -> tuple[list[Job], list[str]]:
        """Put jobs in line, all or none; a `traceparent` is kept with each. Returns them in order, and the
        pools to wake.

        Raises DuplicateRequestID, DuplicateCallback or QueueFull; with `indexed`, the field it names
        begins with the job's index.
        """
        if len(drafts) == 1 and not indexed and not traceparent:
            return await self._together.create(type_, drafts[0], caller)
        return await self._create(type_, drafts, caller, indexed, traceparent)

    async def _create(
        self,
        type_: str,
        drafts: Sequence[Draft],
        caller: Caller,
        indexed: bool = False,
        traceparent: str = "",
    ) -> tuple[list[Job], list[str]]:
        step = steps.create(drafts, self._nonce(), caller, traceparent)
        with answers(type_, indexed=indexed):
            pools, at, *found = await self._step(type_, step, new_type=True)
        return created(type_, drafts, int(at), found), pools

    async def move(
        self,
        type_: str,
        request_id: str,
        where: str,
        first: str | int = "",
        second: str = "",
        want: bool = True,
        caller: Caller = ANYONE,
    ) -> tuple[Job | None, str, int]:
        """Move a waiting job; `where` as in move.lua.

        Returns it, where it is wanted, the pool to wake or "", and how many ranks were touched.

        Raises JobNotFound, IllegalTransition, NeighbourIsSelf, NeighbourNotQueued, NeighboursReversed.
        """
        spread = 0
        with answers(type_, request_id):
            for _ in range(SPREAD_TRIES):
                try:
                    pool, flat, touched = await self._step(
                        type_, steps.move(request_id, where, first, second, want, caller)
                    )
                    break
                except ScriptError as error:
                    if error.code != "crowded":
                        raise
                    spread += await self._spread(type_, *error.details)
            else:
                raise errors.RedisUnavailable("others move jobs to the same place all the time; try again")
        return self._job(type_, request_id, flat) if flat else None, pool, touched + spread

    async def _spread(self, type_: str, priority: str, low: str, size: str) -> int:
        """Spread a range of ranks in steps, between which Redis serves others; how many got another."""
        total = 0
        for side in ("right", "left"):
            done = "0"
            while done:
                step = steps.spread(priority, low, size, side, done, SPREAD_STEP)
                done, touched = await self._step(type_, step)
                total += touched
        return total

    async def update(
        self,
        type_: str,
        request_id: str,
        callback: str | None,
        draft: Draft | None,
        caller: Caller = ANYONE,
    ) -> tuple[Job, list[str]]:
        """Change a waiting job's callback, or its data as in the draft. Returns it and the pools to wake.

        Raises JobNotFound, IllegalTransition, DuplicateCallback.
        """
        with answers(type_, request_id):
            pools, flat = await self._step(type_, steps.update(request_id, callback, draft, caller))
        return self._job(type_, request_id, flat), pools

    async def transition(
        self,
        type_: str,
        request_id: str,
        moves: Moves,
        admission: str = "",
        error: str = "",
        want: bool = True,
        claim_ms: int = 0,
        caller: Caller = ANYONE,
    ) -> tuple[Job | None, Work]:
        """Give a job the status that `moves` has for its present one.

        Returns it, where it is wanted, and what follows: where that frees capacity and `claim_ms` is given,
        the pool is examined on the spot, as by `admit`; else it is among the pools to examine.

        Raises JobNotFound, IllegalTransition, and LostClaim when the admission is no longer its own.
        """
        step = steps.transition(request_id, moves, self._nonce(), caller, admission, error, want)
        if claim_ms:
            passing = {
                "call_deadline": DEFAULTS.call_deadline,
                "patience": DEFAULTS.patience,
                "stale_after": DEFAULTS.stale_after,
                "claim_ms": claim_ms,
                "most": PASS,
            }
            step = "release", (), {**step[2], **passing}
        with answers(type_, request_id):
            pool, flat, *found = await self._step(type_, step)
        job = self._job(type_, request_id, flat) if flat else None
        return job, Work(False, (pool,) if pool else (), turns_of(type_, found))

    async def redeliver(
        self, type_: str, request_id: str, want: bool = True, claim_ms: int = 0, caller: Caller = ANYONE
    ) -> tuple[Job | None, Work]:
        """Have a calling job called now, and not only at its next try; nothing changes of one that just is.

        Returns it, where it is wanted, and with `claim_ms` whom to call; else whoever comes first does.
        Raises JobNotFound and IllegalTransition.
        """
        step = steps.redeliver(request_id, self._nonce(), claim_ms, want, caller)
        with answers(type_, request_id):
            flat, *found = await self._step(type_, step)
        job = self._job(type_, request_id, flat) if flat else None
        return job, Work(False, (), turns_of(type_, found))

    async def get(self, type_: str, request_id: str, caller: Caller = ANYONE) -> Job:
        """One job; a waiting one with its position and the reason why it waits. Raises JobNotFound.

        Of the first in line, what it lacks is asked for apart: to look at hosts is not for every get.
        """
        lack = None
        with answers(type_, request_id):
            flat, *place = await self._step(type_, steps.get(request_id, caller))
            if place and place[2] == Reason.WAITING_FOR_CAPACITY:
                lack = lack_of(await self._step(type_, steps.explain(request_id)))
        return self._job(type_, request_id, flat, *place, lack=lack)

    async def page(
        self,
        type_: str,
        owner_id: str = "",
        status: Status | None = None,
        cursor: str = "",
        most: int = PAGE,
        caller: Caller = ANYONE,
        position: int | None = None,
        search: str = "",
    ) -> Page:
        """A page of jobs in order from a cursor on: live ones, or those of a status.

        Of the owner that is named, which must be one of the caller's; else of all that are. A `position`
        is where to start among all that wait. With `search` those that have it in their request_id, owner_id
        or Data, in small letters or capitals (of ASCII).

        May hold fewer than `most`, even none, before the end: only an empty cursor is the end.
        """
        owned = orjson.dumps([owner_id]).decode() if owner_id else caller.owned
        if status in ENDED:
            source = "ended"
        elif owned:
            source = "owner"
        else:
            source = {None: "live", Status.QUEUED: "queue"}.get(status, "running")
        with answers(type_):
            after, *found = await self._run(
                "list",
                type_,
                source=source,
                owners=owned,
                status=status or "",
                cursor=cursor,
                most=min(most, PAGE),
                looks=PAGE,
                bytes=PAGE_BYTES,
                position="" if position is None else position,
                # ASCII's alone, as Lua has it.
                search=search.encode().lower().decode(),
            )
        jobs = []
        for request_id, flat in found:
            try:
                jobs.append(self._job(type_, request_id, flat))
            except errors.StoreDamaged as error:
                # One job that a hand edit broke must not hide all others.
                log.warning("left out of the list: %s", error.message)
        return Page(jobs, after)

    async def standing(self, jobs: Sequence[Job], caller: Caller = ANYONE) -> list[Job]:
        """Of a page, each waiting or calling job as `get` has it, all asked for at once.

        One that has got another status meanwhile, or is gone, is left out.
        """
        return [
            found for found in await asyncio.gather(*(self._standing(job, caller) for job in jobs)) if found
        ]

    async def _standing(self, job: Job, caller: Caller) -> Job | None:
        if job.status not in (Status.QUEUED, Status.CALLING):
            return job
        with suppress(errors.JobNotFound, errors.StoreDamaged):
            found = await self.get(job.type, job.request_id, caller)
            return found if found.status is job.status else None
        return None

    # --- what the reaper does ----------------------------------------------------------------------

    async def admit(self, type_: str, pool: str, claim_ms: int, most: int = PASS) -> Work:
        """One pass over a pool: whose turn it is and who fits is charged and becomes calling."""
        with answers(type_):
            more, *found = await self._run(
                "admit",
                type_,
                pool=pool,
                nonce=self._nonce(),
                call_deadline=DEFAULTS.call_deadline,
                patience=DEFAULTS.patience,
                claim_ms=claim_ms,
                most=most,
                stale_after=DEFAULTS.stale_after,
            )
        return Work(bool(more), (pool,) if more else (), turns_of(type_, found))

    async def due(self, type_: str, claim_ms: int, most: int = 100) -> Work:
        """Do what time brings to at most so many jobs, and say who is to be called again."""
        with answers(type_):
            more, pools, failed, expired, damaged, quiet, *found = await self._run(
                "due", type_, claim_ms=claim_ms, most=most, retention=DEFAULTS.retention
            )
        for request_id, said in damaged:
            log.error("nothing can be done about %s: %s", self._keys.of(type_, "job:") + request_id, said)
        for status, number in ((Status.FAILED, failed), (Status.EXPIRED, expired)):
            if number:
                metrics.LAPSED.cell(type_, status)[0] += number
        return Work(bool(more), tuple(pools), turns_of(type_, found), bool(quiet))

    async def call(self, turn: Turn, claim_ms: int) -> tuple[Job, int]:
        """Write down that a delivery goes out, or that the first one goes out late.

        Returns the job and the new claim. Raises LostClaim.
        """
        with answers(turn.type, turn.request_id):
            claim, flat = await self._run(
                "call",
                turn.type,
                request_id=turn.request_id,
                admission=turn.admission,
                claim=turn.claim,
                claim_ms=claim_ms,
                nonce=self._nonce(),
                counts=int(not turn.first),
            )
        return self._job(turn.type, turn.request_id, flat), int(claim)

    async def retry(self, turn: Turn, delay_ms: int, error: str = "", called: bool = True) -> None:
        """Give the claim up, of one who was `called` or was not; the job is due again after the delay.

        Raises LostClaim.
        """
        with answers(turn.type, turn.request_id):
            await self._run(
                "retry",
                turn.type,
                request_id=turn.request_id,
                admission=turn.admission,
                claim=turn.claim,
                delay_ms=delay_ms,
                last_error=error,
                called=int(called or not turn.first),
            )

    # --- queues and pools --------------------------------------------------------------------------

    async def types(self) -> list[str]:
        """All types that have, or had, a job or a setting."""
        with answers("", key=self._keys.types):
            return sorted(map(str, await self._redis.call("SMEMBERS", self._keys.types)))

    async def queue(self, type_: str) -> Queue:
        """A queue's settings and counts; one that nobody has used yet has the defaults."""
        key = self._keys.of
        with answers(type_):
            settings, queued, running, ended, pools = await self._scripts.read(
                type_,
                ("HGETALL", key(type_, "settings")),
                *(("ZCARD", key(type_, counted)) for counted in ("queue", "running", "ended")),
                ("HKEYS", key(type_, "pools")),
            )
        return Queue(type_, settings_of(mapping(settings)), queued, running, ended, tuple(sorted(pools)))

    async def configure(self, type_: str, asked: dict[str, Any], caller: Caller = ANYONE) -> list[str]:
        """Change some settings; null gives one its default back. Returns the pools to wake.

        Raises UnknownField, Invalid and WrongSource.
        """
        settings = DEFAULTS.changed(asked)
        changes: list[str | int] = []
        for name in asked:
            value = getattr(settings, name)
            is_default = value == getattr(DEFAULTS, name)
            written = "" if is_default else int(value) if isinstance(value, bool) else value
            changes += [name, written, orjson.dumps(getattr(DEFAULTS, name)).decode()]
        with answers(type_):
            (pools,) = await self._run(
                "configure",
                type_,
                *changes,
                new_type=True,
                actor=caller.name,
            )
        return list(pools)

    async def put_pool(self, type_: str, pool: Pool, caller: Caller = ANYONE) -> None:
        """Declare a pool. Raises ProjectTaken and WrongSource."""
        amounts = {
            f"{host}/{resource}": str(amount)
            for host, resources in pool.capacity.items()
            for resource, amount in resources.items()
        }
        with answers(type_):
            await self._run(
                "put_pool",
                type_,
                new_type=True,
                pool=pool.name,
                source=pool.source,
                found_by=orjson.dumps(pool.found_by).decode() if pool.found_by else "",
                amounts_of=orjson.dumps(amounts).decode(),
                projects_of=orjson.dumps(pool.projects).decode(),
                quotas_of=orjson.dumps(
                    {owner: orjson.dumps(limits).decode() for owner, limits in pool.quotas.items()}
                ).decode(),
                bounds=orjson.dumps(pool.bounds()).decode(),
                actor=caller.name,
            )

    async def pool(self, type_: str, name: str) -> Pool:
        """A pool: capacity and used of each host. Raises PoolNotFound."""
        key = self._keys.of
        with answers(type_):
            there, capacity, used, projects, waiting, quotas, usage, *live = await self._scripts.read(
                type_,
                ("HEXISTS", key(type_, "pools"), name),
                ("HGETALL", key(type_, "capacity:") + name),
                ("HGETALL", key(type_, "used:") + name),
                ("HGETALL", key(type_, "projects")),
                ("ZCARD", key(type_, "pool:") + name),
                ("HGETALL", key(type_, "quotas:") + name),
                ("HGETALL", key(type_, "usage:") + name),
                ("HGETALL", key(type_, "seen:") + name),
                ("HGET", key(type_, "settings"), "source"),
                *(("HGET", key(type_, hash_), name) for hash_ in ("sources", "observed", "source_errors")),
                of=name,
            )
        if not there:
            raise errors.PoolNotFound(f"there is no pool {name!r} of type {type_!r}")
        own = tuple(sorted(project for project, pool in mapping(projects).items() if pool == name))
        pool = Pool(
            name,
            by_host(mapping(capacity)),
            own,
            by_host(mapping(used)),
            waiting,
            quotas=quotas_of(mapping(quotas)),
            usage=by_owner(mapping(usage)),
        )
        seen, source, found_by, observed, error = live
        if observed is None:
            return pool
        return replace(
            pool,
            source=source or DEFAULTS.source,
            found_by=found_by_of(found_by),
            seen=by_host(mapping(seen)),
            observed=moment_of(observed),
            error=error,
        )

    async def delete_pool(self, type_: str, name: str, caller: Caller = ANYONE) -> None:
        """Forget a pool. Raises PoolNotFound."""
        with answers(type_):
            await self._run("delete_pool", type_, pool=name, actor=caller.name)

    # --- the service -------------------------------------------------------------------------------

    async def callback_secret(self, made: str) -> str:
        """The signing secret that all replicas share: the one in Redis, else the one given, kept there.

        Raises StoreDamaged for one that is none.
        """
        key = self._keys.callback_secret
        with answers("", key=key):
            secret = await self._redis.call("GET", key)
            if secret is None:
                _, secret = await self._redis.calls(("SET", key, made, "NX"), ("GET", key), write=True)
        try:
            key_of(secret)
        except ValueError as error:
            raise errors.StoreDamaged(
                f"{key} is not what it should be: {error}; see rqueue check --repair"
            ) from None
        return str(secret)

    async def check(self) -> None:
        """Run a script that may write, and look at each server's settings and, once in MAY_RUN_SECONDS, at
        what the Redis user may do. Raises Unavailable, saying why.

        A server of a cluster may be away: types that are not there are served on.
        """
        with answers(""):
            await self._redis.call("EVAL", _MAY_WRITE, 1, self._keys.ready)
            servers = await self._redis.primaries()
            told = await asyncio.gather(
                *(server.call("INFO", "memory") for server in servers), return_exceptions=True
            )
            for info in told:
                if isinstance(info, RedisError) and len(servers) > 1:
                    continue
                if isinstance(info, BaseException):
                    raise info
                _keeps_all(info)
            if time.monotonic() - self._may_run >= MAY_RUN_SECONDS:
                if missing := await refused(self._redis, self._keys.ready):
                    raise errors.NotReady(
                        f"the Redis user may not run {', '.join(missing)}: see docs/settings.md"
                    )
                self._may_run = time.monotonic()

    async def put_arrival(self, arrived: str, kept: int) -> None:
        """Put what arrived in the inbox, which keeps only so many of the newest."""
        with answers("", key=self._keys.inbox):
            await self._redis.calls(
                ("LPUSH", self._keys.inbox, arrived), ("LTRIM", self._keys.inbox, 0, kept - 1), write=True
            )

    async def arrivals(self) -> list[str]:
        """What is in the inbox, newest first."""
        with answers("", key=self._keys.inbox):
            return list(map(str, await self._redis.call("LRANGE", self._keys.inbox, 0, -1)))

    def _job(
        self, type_: str, request_id: str, flat: Sequence[str], *place: Any, lack: Lack | None = None
    ) -> Job:
        """As job_of; the key of a damaged hash is named."""
        try:
            return job_of(type_, request_id, flat, *place, lack=lack)
        except errors.StoreDamaged as error:
            key = self._keys.of(type_, "job:") + request_id
            raise errors.StoreDamaged(f"{error.message}; see {key}, or rqueue check") from error

    def _nonce(self) -> str:
        """A name for one call that no other has. Counted: a random one is a system call, 6 µs of a create."""
        return str(next(self._calls))


def _keeps_all(info: str) -> None:
    policy = re.search(r"^maxmemory_policy:(\S*)", info, re.MULTILINE)
    found = policy[1] if policy else "that it does not tell"
    if found != "noeviction":
        raise errors.NotReady(
            f"Redis has maxmemory-policy {found}, which deletes jobs silently; set noeviction"
        )
