"""What the readers of live sources ask of Redis: who reads, what is read, and what was found.

All is fenced: what one says who is no longer the reader, or of a pool that was put anew, is refused.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import orjson

from rqueue import errors
from rqueue.domain.demand import MAX_AMOUNT
from rqueue.domain.job import MAX_NAME_BYTES
from rqueue.domain.policy import Settings
from rqueue.domain.pool import MAX_HOSTS, Observation, bounds_of
from rqueue.store.answers import answers, mapping
from rqueue.store.keys import Keys
from rqueue.store.pipeline import Redis
from rqueue.store.scripts import Scripts

log = logging.getLogger("rqueue.store")

DEFAULTS = Settings()
# Fields written by one script, and charges that one ends: a few milliseconds of Redis.
FIELDS_AT_ONCE = 1_000
CHARGES_AT_ONCE = 100
# So many more of the latter; what is still charged then is for the next observation.
CHARGING_STEPS = 9
TYPES_AT_ONCE = 500

Amounts = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to read the source of a type from `began` (µs) on; pool → how it is found (JSON)."""

    type: str
    began: int
    pools: Mapping[str, str]


class Live:
    """The live pools of one namespace, for one `replica` of the service; `now` as in Store.

    Every method may raise Unavailable; the others it raises are named.
    """

    def __init__(
        self, redis: Redis, namespace: str, replica: str, now: Callable[[], int] | None = None
    ) -> None:
        self._redis = redis
        self._keys = Keys(namespace)
        self._scripts = Scripts(redis, self._keys, now)
        self._replica = replica

    async def types(self) -> dict[str, str]:
        """The types that have live pools, each with its source."""
        with answers("", key=self._keys.types):
            types = sorted(map(str, await self._redis.call("SMEMBERS", self._keys.types)))
        found: dict[str, str] = {}
        for some in _parts(types, TYPES_AT_ONCE):
            # Sent down one connection, as all of one turn of the event loop.
            sources = await asyncio.gather(*map(self._source, some))
            found |= {type_: source for type_, source in zip(some, sources, strict=True) if source}
        return found

    async def _source(self, type_: str) -> str:
        """The source of a type that has live pools, else ""."""
        key = self._keys.of
        try:
            with answers(type_):
                pools, source = await self._redis.calls(
                    ("HLEN", key(type_, "sources")), ("HGET", key(type_, "settings"), "source")
                )
        except errors.Unavailable as error:
            # What a hand edit damaged, or a node of a cluster that is away, holds up no other type.
            log.warning("the pools of type %r are not read: %s", type_, error.message)
            return ""
        return source or DEFAULTS.source if pools else ""

    async def claim(self, type_: str, lease_ms: int) -> Claim:
        """Be the reader of a type for so long, or stay it. Raises LostClaim where another is."""
        with answers(type_):
            began, *found = await self._scripts.run(
                "claim_reader", type_, replica=self._replica, lease_ms=lease_ms
            )
        return Claim(type_, int(began), mapping(found))

    async def leave(self, type_: str) -> None:
        """Be the reader no more, so that another is at once. Raises LostClaim where another is."""
        await self.claim(type_, 0)

    async def observe(self, claim: Claim, pool: str, observation: Observation) -> bool:
        """Write what there is of a pool; whether it is to be examined.

        Raises LostClaim where another reads, or has read, the pool, or it was put anew; SourceUnavailable for
        what no pool can have.
        """
        _check(observation)
        key, type_ = self._keys.of, claim.type
        with answers(type_):
            was, capacity, seen, limits, *projects = await self._scripts.read(
                type_,
                ("HGET", key(type_, "observed"), pool),
                ("HGETALL", key(type_, "capacity:") + pool),
                ("HGETALL", key(type_, "seen:") + pool),
                ("HGETALL", key(type_, "limits:") + pool),
                *([("HGETALL", key(type_, "projects"))] if observation.projects is not None else []),
                of=pool,
            )
        if was is None:
            raise errors.LostClaim
        has, sees = mapping(capacity), mapping(seen)
        of_capacity = _changes(has, observation.capacity)
        of_seen = _changes(sees, observation.taken)
        of_limits = _changes(mapping(limits), observation.limits)
        growth = {
            field: _number(of_capacity.get(field, has.get(field)))
            - _number(has.get(field))
            - _number(of_seen.get(field, sees.get(field)))
            + _number(sees.get(field))
            for field in {*of_capacity, *of_seen}
        }
        gone, new = _of_projects(pool, mapping(projects[0] if projects else []), observation.projects or ())
        steps = list(_in_steps(of_capacity, of_seen, of_limits))
        wakes = 0
        # After those that write amounts, those that only end more charges.
        for at in range(len(steps) + CHARGING_STEPS):
            last = at >= len(steps) - 1
            capacity_changes, seen_changes, limits_changes = steps[at] if at < len(steps) else ({}, {}, {})
            with answers(type_):
                woken, more = await self._scripts.run(
                    "observe",
                    type_,
                    replica=self._replica,
                    pool=pool,
                    found_by=claim.pools[pool],
                    was=was if at == 0 else "0" if at < len(steps) else claim.began,
                    began=claim.began,
                    capacity_changes=orjson.dumps(capacity_changes).decode(),
                    seen_changes=orjson.dumps(seen_changes).decode(),
                    limits_changes=orjson.dumps(limits_changes).decode(),
                    growth=orjson.dumps(growth if at == len(steps) - 1 else {}).decode(),
                    bounds=orjson.dumps(bounds_of(observation.capacity, observation.limits)).decode(),
                    projects_gone=orjson.dumps(gone).decode(),
                    projects_new=orjson.dumps(new).decode(),
                    last=int(last),
                    most=CHARGES_AT_ONCE,
                )
            wakes = max(wakes, woken)
            if last and not more:
                break
        return bool(wakes)

    async def failed(self, claim: Claim, pool: str, said: str) -> None:
        """Say of a pool why it could not be read."""
        with answers(claim.type):
            await self._scripts.run(
                "source_failed",
                claim.type,
                replica=self._replica,
                pool=pool,
                found_by=claim.pools[pool],
                said=said,
            )


def _check(observation: Observation) -> None:
    hosts = {*observation.capacity, *observation.taken, *observation.limits}
    if len(hosts) > MAX_HOSTS:
        raise errors.SourceUnavailable(f"it has {len(hosts)} hosts; at most {MAX_HOSTS} are read of a pool")
    for host in hosts:
        if "/" in host or not 0 < len(host.encode()) <= MAX_NAME_BYTES:
            raise errors.SourceUnavailable(
                f"it has a host {host[:80]!r}; expected 1 to {MAX_NAME_BYTES} bytes, and no slash"
            )
    for amounts in (
        of for all_ in (observation.capacity, observation.taken, observation.limits) for of in all_.values()
    ):
        for resource, amount in amounts.items():
            if not 0 <= amount <= MAX_AMOUNT:
                raise errors.SourceUnavailable(f"it has {amount} of {resource[:80]!r}, which is no amount")


def _changes(was: Mapping[str, str], is_: Amounts) -> dict[str, str]:
    """The fields in which a hash differs from what is, each with what it should be, "" where it is gone."""
    should = {
        f"{host}/{resource}": str(amount)
        for host, amounts in is_.items()
        for resource, amount in amounts.items()
    }
    changes = {field: amount for field, amount in should.items() if was.get(field) != amount}
    return changes | dict.fromkeys(was.keys() - should.keys(), "")


def _number(written: str | None) -> int:
    try:
        return int(written or 0)
    except ValueError:
        return 0


def _of_projects(pool: str, held: Mapping[str, str], told: Sequence[str]) -> tuple[list[str], list[str]]:
    """The projects that a pool has no longer, and those that it has got; another pool's stay with that."""
    gone = [project for project, holder in held.items() if holder == pool and project not in set(told)]
    return gone, [project for project in told if project not in held]


def _in_steps(*changes: Mapping[str, str]) -> Iterator[tuple[dict[str, str], ...]]:
    """The changes of some hashes in parts of bounded size; at least one, which may be empty."""
    all_ = iter([(which, *change) for which, of in enumerate(changes) for change in of.items()])
    empty = True
    while (some := list(islice(all_, FIELDS_AT_ONCE))) or empty:
        empty = False
        part: tuple[dict[str, str], ...] = tuple({} for _ in changes)
        for which, field, amount in some:
            part[which][field] = amount
        yield part


def _parts(names: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (names[start : start + size] for start in range(0, len(names), size))
