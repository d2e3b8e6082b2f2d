"""`rqueue check`: what the keys of a namespace do not agree about, found and mended while the service runs.

A sweep in steps of a millisecond or so: it asks for some keys, or some members, and each job is judged by one
script together with all that is about it (examine.lua, inspect.lua). So what the service does between two
steps is no fault, and what is mended is mended in the state in which it was judged.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson

from rqueue import errors
from rqueue.domain.demand import demand
from rqueue.domain.policy import Settings
from rqueue.domain.secret import key_of
from rqueue.store.answers import answers, mapping, setting_of
from rqueue.store.keys import KEYS, Keys
from rqueue.store.pipeline import Redis
from rqueue.store.scripts import ADD_TYPE_SECONDS, Scripts

DEFAULTS = Settings()
# Of one step: of so many, none takes long.
KEYS_AT_ONCE = 500
JOBS_AT_ONCE = 20
MEMBERS_AT_ONCE = 100
RUNNING_AT_ONCE = 100
SCRIPTS_AT_ONCE = 4
# What is mended may show what was hidden behind it.
ROUNDS = 4
MAX_NAMED = 1_000_000

# code → what is wrong, and what --repair does about it.
FAULTS = {
    "wrong_kind": (
        "a key is of another kind than it should be",
        "put aside; what it held is made anew from the jobs",
    ),
    "foreign_key": ("a key of a type that the service does not know", "put aside"),
    "expires": ("a key that would vanish by itself", "it stays (PERSIST)"),
    "no_job": (
        "a job's hash that cannot be read",
        "put aside, out of every line; its request_id and callback are free",
    ),
    "field": (
        "a field of a job that cannot be read, or is too many",
        "made again from where the job stands, or taken away; what it held is put aside",
    ),
    "demand": (
        "a job's Demand that cannot be read",
        "made again from its Data; where that cannot be read either, as `no_job`",
    ),
    "placement": (
        "a calling or running job of which nobody can say where",
        "it ends, failed or expired, and LastError says why",
    ),
    "missing": ("a job does not stand where it should", "put there"),
    "score": ("a job stands there by another priority or time than its own", "by its own"),
    "stranger": (
        "a member without a job, or whose job does not belong there, or a history of none",
        "taken out; a history is put aside",
    ),
    "due": (
        "a job at which nobody would ever look again",
        "due: now, an ended one after its retention, a running one after a lease",
    ),
    "callback": (
        "a callback that leads to no job or to another one, or is missing",
        "taken out, or put there",
    ),
    "callback_shared": ("two jobs with the same callback", "nothing: change or cancel one of them"),
    "used": (
        "`used` or `usage` is not the sum of what calling and running jobs hold",
        "summed anew; the pool is examined",
    ),
    "amount": ("an amount of a host that cannot be read", "put aside; declare the pool again"),
    "bounds": (
        "what `pools` says of a pool is not what its hosts have",
        "made again from `capacity`; the pool is examined",
    ),
    "quota": ("a quota that cannot be read", "put aside; declare the pool again"),
    "apart": (
        "waiting jobs do not stand by owner, and quotas or the policy ask for it",
        "they are sorted anew",
    ),
    "observed": (
        "when a live pool was observed cannot be read",
        "never, so that it admits nobody until it is read again",
    ),
    "unread": (
        "a live pool of which nothing says how its source finds it",
        "nothing: put the pool again, until then it admits nobody",
    ),
    "project": ("a project that belongs to a pool that is not there", "put aside"),
    "setting": ("a setting that cannot be read, or is none", "put aside; its default is in force, as before"),
    "head": ("a pool stands still at no place, or where one before could go", "examined afresh"),
    "asleep": ("jobs wait in a pool that nobody would examine", "the pool is woken"),
    "seq": ("the ID counter is no number, or behind the largest ID", "put aside, and set to the largest ID"),
    "not_listed": ("a type that is not among `types`: no replica looks at it", "put there"),
    "empty_type": ("a type without any key", "taken from `types`"),
    "secret": (
        "a signing secret that cannot be read",
        "put aside; restart the service, which makes a new one",
    ),
}
UNMENDED = frozenset({"callback_shared", "unread"})
# What may end in Redis by another way than by the jobs: those first on which others depend.
_FIXED = (
    "capacity:",
    "pools",
    "projects",
    "queue",
    "running",
    "ended",
    "due",
    "callbacks",
    "seq",
    "wake",
    "events",
    "settings",
    "apart",
    "sources",
    "observed",
    "source_errors",
    "reader",
)
_SWEPT = (
    *("history:", "owner:", "pool:", "capacity:", "used:", "usage:", "quotas:", "passed:", "blocked:"),
    *("line:", "owners:", "shares:", "firsts:", "skipped:", "seen:", "limits:", "held:", "releases:"),
)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is not as it should be: `key` where, `name` the job or the pool that it is about."""

    code: str
    type: str
    key: str
    name: str
    about: str
    mended: bool


class Check:
    """One run over a namespace, or over some types of it. `now` as in Store; `looked` is told of each job."""

    def __init__(
        self,
        redis: Redis,
        namespace: str,
        repair: bool = False,
        types: Sequence[str] = (),
        now: Callable[[], int] | None = None,
        looked: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._redis = redis
        self._keys = Keys(namespace)
        self._namespace = namespace
        self._run = Scripts(redis, self._keys, now).run
        self._repair = repair
        self._asked = tuple(types)
        self._looked = looked
        self._named: set[int] = set()
        self._given_back: set[tuple[str, str]] = set()

    async def faults(self) -> AsyncIterator[Fault]:
        """Each fault once, with `repair` after it was mended.

        Raises Unavailable where Redis is away, Refused for a type that there is not.
        """
        mended_of: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for _ in range(ROUNDS if self._repair else 1):
            mended = False
            async for fault in self._round():
                mended = mended or fault.mended
                if fault.mended and fault.code != "empty_type":
                    mended_of[fault.type][fault.code] += 1
                words = hash((fault.code, fault.key, fault.name, fault.about))
                if words in self._named:
                    continue
                if len(self._named) < MAX_NAMED:
                    self._named.add(words)
                yield fault
            if not mended:
                break
        for type_ in filter(None, mended_of):
            said = ", ".join(f"{number} {code}" for code, number in sorted(mended_of[type_].items()))
            with answers(type_):
                await self._run("repaired", type_, repair=int(self._repair), said=said)

    async def _round(self) -> AsyncIterator[Fault]:
        async for fault in self._global_keys():
            yield fault
        listed = set(self._asked or await self._listed())
        held: defaultdict[str, set[str]] = defaultdict(set)
        async for type_, names in self._batches():
            held[type_].update(
                name.partition(":")[2] for name in names if name.startswith(("used:", "usage:"))
            )
            async for fault in self._look_at_keys(type_, names):
                yield fault
        for type_ in listed - set(held) - set(await self._listed()) if self._asked else ():
            raise errors.Refused(f"there is no type {type_!r} in {self._keys.types}, nor a key of it")
        async for fault in self._look_at_types(listed, set(held)):
            yield fault
        types = sorted(listed | set(held))
        for type_ in types:
            for name in _FIXED[1:]:
                async for fault in self._inspect(type_, name, KEYS[name][0]):
                    yield fault
            async for fault in self._settings(type_):
                yield fault
        largest: defaultdict[str, int] = defaultdict(int)
        async for type_, names in self._batches():
            ids = [name.removeprefix("job:") for name in names if name.startswith("job:")]
            for some in _parts(ids, JOBS_AT_ONCE):
                last, found = await self._examine(type_, some)
                largest[type_] = max(largest[type_], last)
                for fault in found:
                    yield fault
                self._looked(len(some))
        for type_ in types:
            async for fault in self._at_last(type_, largest[type_], held[type_]):
                yield fault

    # --- the keys there are ------------------------------------------------------------------------

    async def _servers(self) -> Sequence[Redis]:
        """The servers that share the keys, each to be asked for those that it has."""
        return await self._redis.primaries()

    async def _batches(self) -> AsyncIterator[tuple[str, list[str]]]:
        """The names of all keys of the types that are asked for, some at a time, by type."""
        begins = [self._keys.of(type_, "") for type_ in self._asked] or [f"{self._namespace}:{{"]
        for server in await self._servers():
            for begin in begins:
                cursor: Any = 0
                while True:
                    with answers(""):
                        cursor, found = await server.call(
                            *("SCAN", cursor, "MATCH", f"{_literally(begin)}*", "COUNT", KEYS_AT_ONCE)
                        )
                    by_type: defaultdict[str, list[str]] = defaultdict(list)
                    for key in found:
                        if of := self._keys.type_of(key):
                            by_type[of[0]].append(of[1])
                    for type_, names in by_type.items():
                        yield type_, names
                    if cursor in (0, "0"):
                        break

    async def _look_at_keys(self, type_: str, names: Iterable[str]) -> AsyncIterator[Fault]:
        swept = []
        for name in names:
            if "\ufffd" in name and not await self._is_there(type_, name):
                # No call of the service leads to it, and none of ours.
                yield Fault(
                    "foreign_key", type_, self._keys.of(type_, name), "", "its name is not UTF-8", False
                )
                continue
            base = name[: name.find(":") + 1] or name
            if base in _SWEPT:
                swept.append((name, KEYS[base][0]))
            elif base not in KEYS and await self._set_aside(type_, name):
                yield self._fault(type_, "foreign_key", name, "", "")
        for some in _parts(swept, SCRIPTS_AT_ONCE):
            # One after the other for large ones, since each is asked for in parts.
            for found in await asyncio.gather(*(self._all_of(type_, *one) for one in some)):
                for fault in found:
                    yield fault

    async def _all_of(self, type_: str, name: str, kind: str) -> list[Fault]:
        return [fault async for fault in self._inspect(type_, name, kind)]

    async def _listed(self) -> list[str]:
        with answers(""):
            kind = await self._redis.call("TYPE", self._keys.types)
            return list(await self._redis.call("SMEMBERS", self._keys.types)) if kind == "set" else []

    async def _global_keys(self) -> AsyncIterator[Fault]:
        kinds = {self._keys.types: "set"}
        if not self._asked:
            kinds |= {self._keys.callback_secret: "string", self._keys.inbox: "list"}
        for key, kind in kinds.items():
            with answers("", key=key):
                is_, lives_ms = await self._redis.calls(("TYPE", key), ("PTTL", key))
                secret = await self._redis.call("GET", key) if is_ == kind == "string" else None
                if lives_ms >= 0:
                    if self._repair:
                        await self._redis.call("PERSIST", key, write=True)
                    yield Fault("expires", "", key, "", "", self._repair)
            if is_ not in (kind, "none"):
                yield Fault("wrong_kind", "", key, "", f"{is_}, not {kind}", await self._key_aside(key))
            elif secret is not None and not _is_secret(secret):
                yield Fault("secret", "", key, "", "", await self._key_aside(key))

    async def _key_aside(self, key: str) -> bool:
        """Rename a key of no type's to one in its own slot, whose name is free."""
        if not self._repair:
            return False
        to, at = f"{{{key}}}:damaged", 1
        with answers(""):
            while not await self._redis.call("RENAMENX", key, to, write=True):
                at += 1
                to = f"{{{key}}}:damaged:{at}"
        return True

    async def _look_at_types(self, listed: set[str], seen: set[str]) -> AsyncIterator[Fault]:
        # Again, since a type may have come while the keys were looked at; it is listed before it has any.
        if self._asked:
            listed = set(await self._listed())
            seen = seen.intersection(self._asked)
        for type_ in sorted(seen - listed - set(await self._listed())):
            if self._repair:
                with answers(""):
                    await self._redis.call("SADD", self._keys.types, type_, write=True)
            yield Fault("not_listed", type_, self._keys.types, type_, "", self._repair)
        unseen = sorted(listed - seen) if not self._asked else ()
        empty = [type_ for type_ in unseen if await self._is_empty(type_)]
        mended = await self._unlist(empty) if self._repair and empty else set()
        for type_ in empty:
            yield Fault("empty_type", type_, self._keys.types, type_, "", type_ in mended)

    async def _unlist(self, empty: Sequence[str]) -> set[str]:
        """Take empty types from the list, but for those to which someone comes meanwhile; those taken."""
        unlisted = set(empty)
        with answers(""):
            for some in _parts(empty, KEYS_AT_ONCE):
                await self._redis.call("SREM", self._keys.types, *some, write=True)
            # Whoever has put one there just before does not do it again for so long.
            await asyncio.sleep(2 * ADD_TYPE_SECONDS)
            for type_ in empty:
                if not await self._is_empty(type_):
                    await self._redis.call("SADD", self._keys.types, type_, write=True)
                    unlisted.remove(type_)
        return unlisted

    async def _is_there(self, type_: str, name: str) -> bool:
        with answers(type_):
            return bool(await self._redis.call("EXISTS", self._keys.of(type_, name)))

    async def _is_empty(self, type_: str) -> bool:
        with answers(""):
            there = await self._redis.call(
                "EXISTS", *(self._keys.of(type_, name) for name in KEYS if not name.endswith(":"))
            )
        return not there

    # --- what is in them ---------------------------------------------------------------------------

    async def _inspect(self, type_: str, name: str, kind: str) -> AsyncIterator[Fault]:
        cursor = "0"
        while True:
            with answers(type_):
                cursor, *found = await self._run(
                    *("inspect", type_),
                    repair=int(self._repair),
                    place=name,
                    kind=kind,
                    cursor=cursor,
                    count=MEMBERS_AT_ONCE,
                )
            for code, where, about, more in found:
                if code == "field":
                    self._given_back.add((type_, about))
                yield self._fault(type_, code, where, about, more)
            if cursor == "0":
                return

    async def _examine(self, type_: str, ids: Sequence[str]) -> tuple[int, list[Fault]]:
        """The largest ID among some jobs, and their faults. Raises Unavailable."""
        if not self._repair:
            # What their places give back to them is told already, and was not given back.
            ids = [id_ for id_ in ids if (type_, id_) not in self._given_back]
        last, *found = await self._examined(type_, ids)
        faults = []
        for code, where, id_, more in found:
            if code == "demand" and self._repair:
                await self._examined(type_, [id_], _demand_of(more))
            said = "" if code == "demand" else more
            faults.append(self._fault(type_, code, where, id_, said))
        return int(last or 0), faults

    async def _examined(self, type_: str, ids: Sequence[str], asked: str = "") -> list[Any]:
        with answers(type_):
            return await self._run(
                *("examine", type_, *ids),
                repair=int(self._repair),
                retention=DEFAULTS.retention,
                call_deadline=DEFAULTS.call_deadline,
                demand=asked,
            )

    async def _settings(self, type_: str) -> AsyncIterator[Fault]:
        try:
            with answers(type_):
                flat = await self._redis.call("HGETALL", self._keys.of(type_, "settings"))
        except errors.StoreDamaged:
            async for fault in self._inspect(type_, "settings", "hash"):
                yield fault
            return
        for name, value in mapping(flat).items():
            try:
                DEFAULTS.changed({name: setting_of(name, value)})
                if name != "paused" or value in ("0", "1"):
                    continue
            except errors.Invalid:
                pass
            if await self._set_aside(type_, "settings", name, value):
                yield self._fault(type_, "setting", "settings", name, f"{name} is {value[:200]}")

    async def _at_last(self, type_: str, largest: int, held: set[str]) -> AsyncIterator[Fault]:
        """What is about all jobs of a type."""
        async for fault in self._inspect(type_, "heads", "hash"):
            yield fault
        if largest:
            with answers(type_):
                (was,) = await self._run("raise_seq", type_, repair=int(self._repair), least=largest)
            if was:
                yield self._fault(type_, "seq", "seq", "", f"{was}, and there is a job with ID {largest}")
        # All that run are summed in one go, which takes long, only where a sum in steps does not agree.
        sums = await self._sums(type_)
        pools = sorted(held | {name.partition(":")[2] for name in sums})
        doubtful = []
        for pool in pools:
            for name in (f"used:{pool}", f"usage:{pool}"):
                if await self._held(type_, name) != sums.get(name, {}):
                    doubtful.append(pool)
                    break
        if doubtful:
            with answers(type_):
                _, *found = await self._recount(type_, 0, doubtful)
            for code, where, pool, more in found:
                yield self._fault(type_, code, where, pool, more)

    async def _sums(self, type_: str) -> dict[str, dict[str, str]]:
        """What jobs hold, by the keys that say so; while others change it, only about."""
        sums: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
        at = 0
        while True:
            with answers(type_):
                looked, *found = await self._recount(type_, at, ())
            for _, name, field, amount in found:
                sums[name][field] += int(amount)
            at += int(looked)
            if int(looked) < RUNNING_AT_ONCE:
                return {name: {field: str(n) for field, n in of.items()} for name, of in sums.items()}

    async def _recount(self, type_: str, at: int, pools: Sequence[str]) -> list[Any]:
        return await self._run(
            *("recount", type_, *pools), repair=int(self._repair), first=at, most=RUNNING_AT_ONCE
        )

    async def _held(self, type_: str, name: str) -> dict[str, str] | None:
        try:
            with answers(type_):
                return mapping(await self._redis.call("HGETALL", self._keys.of(type_, name)))
        except errors.StoreDamaged:
            return None

    async def _set_aside(self, type_: str, name: str, field: str = "", value: str = "") -> bool:
        """Whether a key, or a field with this value, is still there; with `repair` it is put aside."""
        with answers(type_):
            (there,) = await self._run(
                "set_aside", type_, repair=int(self._repair), place=name, field=field, value=value
            )
        return bool(there)

    def _fault(self, type_: str, code: str, where: str, name: str, about: str) -> Fault:
        mended = self._repair and code not in UNMENDED
        return Fault(code, type_, self._keys.of(type_, where), name, about, mended)


def _demand_of(data: str) -> str:
    """A job's demand, made again from its Data; "-" where that cannot be read."""
    with suppress(ValueError, errors.Invalid):
        if isinstance(read := orjson.loads(data), dict):
            return demand(read)
    return "-"


def _is_secret(written: str) -> bool:
    try:
        key_of(written)
    except ValueError:
        return False
    return True


def _literally(text: str) -> str:
    """A pattern that matches this text only."""
    for character in "\\*?[]":
        text = text.replace(character, "\\" + character)
    return text


def _parts(all_: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    return (all_[start : start + size] for start in range(0, len(all_), size))
