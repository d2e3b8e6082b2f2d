"""The way to a Redis Cluster: a Pipeline to each primary, and the knowledge of which slot is whose.

All keys of a type lie in one slot, so a script is sent to one node, as to a Redis of its own. What the nodes
say of their slots is learnt from any of them, and again when one answers that it is not the one to ask, when
one is lost, and once a second. The protocol is that of https://valkey.io/topics/cluster-spec/.

Why this is not redis-py's RedisCluster: docs/decisions/0015-cluster.md.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import groupby
from time import monotonic
from typing import Any

from redis import exceptions
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import RedisError, ResponseError

from rqueue.store.pipeline import Pipeline, Word

# Commands of a slot that is not served are tried again until it has been away for so long, which is a
# failover; from then on they fail at once.
PATIENCE_SECONDS = 4.5
# Not more often is asked whose the slots are, however many commands fail.
REFRESH_SECONDS = 0.2
# And so often without a cause: commands on their way to a node that hangs go to who took its place.
WATCH_SECONDS = 1.0
ANSWER_SECONDS = 1.0

Address = tuple[str, int]

_SCRIPTS = ("EVALSHA", "EVAL")
# What a node says when the command may be asked of another one, or of the same one in a while.
_PASSING = re.compile("MOVED|ASK|TRYAGAIN|CLUSTERDOWN|LOADING|MASTERDOWN|READONLY")
_REDIRECTION = re.compile(r"(MOVED|ASK) (\d+) (.*):(\d+)$")
# Of so many hash tags, one lies in a slot of a node, however few it has.
TAGS = 1 << 18


class Cluster:
    """A Pipeline to each primary of a cluster, shared by everyone in this event loop.

    The seeds are asked for the others. `make` is given a node, and a hash tag of keys that lie there: what is
    written before a WAIT has to.
    """

    def __init__(self, seeds: Sequence[Address], make: Callable[[Address, str], Pipeline]) -> None:
        self._seeds = list(seeds)
        self._make = make
        self._pipelines: dict[Address, Pipeline] = {}
        # The slots of their hash tags, where they have one, and those that were seen moving.
        self._tagged: dict[Address, int | None] = {}
        self._moving: set[int] = set()
        self._owners: list[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        self._nodes: list[Address] = []
        self._turn = 0
        self._why = "nobody was asked"
        # slot → since when it is not served.
        self._away: dict[int, float] = {}
        self._refreshing: asyncio.Task[None] | None = None
        self._next_refresh = 0.0
        self._watching: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Cluster":
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [task for task in (self._watching, self._refreshing) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._close(list(self._pipelines))

    async def call(self, *words: Word, write: bool = False) -> Any:
        """As in Redis. A command that names no key is for `primaries`."""
        slot = slot_of(words)
        try:
            reply = await self._owner(slot).call(*words, write=write)
        except RedisError as error:
            return await self._call_again(slot, error, words, write)
        if self._away:
            self._away.pop(slot, None)
        return reply

    async def calls(self, *commands: Sequence[Word], write: bool = False) -> list[Any]:
        """As in Redis. Commands of another slot are sent when the replies to those before are there."""
        replies: list[Any] = []
        for slot, group in groupby(commands, slot_of):
            together = list(group)
            try:
                replies += await self._owner(slot).calls(*together, write=write)
            except RedisError as error:
                if not _passes(error):
                    raise
                # One by one, since the keys of a slot that moves may be on two nodes.
                replies += [await self.call(*words, write=write) for words in together]
        return replies

    async def primaries(self) -> list[Pipeline]:
        """As in Redis."""
        if not (owners := self._all_owners()):
            await self._refreshed()
            if not (owners := self._all_owners()):
                raise exceptions.ConnectionError(f"no node of the cluster answers: {self._why}")
        return [self._pipeline(address) for address in owners]

    # --- where to ask ------------------------------------------------------------------------------

    def _pipeline(self, address: Address) -> Pipeline:
        found = self._pipelines.get(address)
        if found is None:
            tag = self._tag(address)
            found = self._pipelines[address] = self._make(address, tag)
            self._tagged[address] = _slot(tag) if tag else None
        return found

    def _tag(self, address: Address) -> str:
        """A hash tag of one of a node's slots, if possible one that stays; "" where none is known."""
        found = ""
        for tag in map(str, range(TAGS) if address in self._owners else ()):
            slot = key_slot(tag.encode())
            if self._owners[slot] == address:
                found = found or tag
                if slot not in self._moving:
                    return tag
        return found

    def _owner(self, slot: int) -> Pipeline:
        address = self._owners[slot]
        if address is None:
            raise exceptions.ConnectionError(f"no node is known to have slot {slot}: {self._why}")
        return self._pipeline(address)

    def _all_owners(self) -> list[Address]:
        return sorted({address for address in self._owners if address is not None})

    async def _call_again(self, slot: int, error: RedisError, words: Sequence[Word], write: bool) -> Any:
        """Ask who is named in the error, or until the slot is served again, for a bounded time."""
        followed, began = False, monotonic()
        while _passes(error):
            # Others may have been answered meanwhile: a slot that moves is served in part.
            since = min(began, self._away.setdefault(slot, began))
            named = _REDIRECTION.match(str(error)) if isinstance(error, ResponseError) else None
            ask = False
            if named is not None and int(named[2]) != slot:
                # Not this command was sent away, but what was to be written before its WAIT.
                self._moving.add(int(named[2]))
                named = None
            if named is not None and named[1] == "MOVED" and not followed:
                followed = True
                self._owners[slot] = self._named(slot, named)
                self._refresh_soon()
            elif named is not None and named[1] == "ASK" and words[0] not in _SCRIPTS:
                ask = True
            elif monotonic() - since > PATIENCE_SECONDS:
                break
            else:
                await self._refreshed()
            try:
                if ask and named is not None:
                    asked = self._pipeline(self._named(slot, named))
                    reply = (await asked.calls(("ASKING",), words, write=write))[1]
                else:
                    reply = await self._owner(slot).call(*words, write=write)
                self._away.pop(slot, None)
                return reply
            except RedisError as next_error:
                error = next_error
        if isinstance(error, ResponseError) and not _passes(error):
            # An answer, such as that a script is not known there.
            self._away.pop(slot, None)
        else:
            self._refresh_soon()
        raise error

    def _named(self, slot: int, redirection: "re.Match[str]") -> Address:
        """The node of a redirection; one without a host is where the answer came from."""
        host, port = redirection[3], int(redirection[4])
        owner = self._owners[slot]
        return host or (owner[0] if owner else ""), port

    # --- whose the slots are -----------------------------------------------------------------------

    def _refresh_soon(self) -> "asyncio.Task[None]":
        """Learn anew whose the slots are; all who want it share one reading."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refresh())
        return self._refreshing

    async def _refreshed(self) -> None:
        await asyncio.shield(self._refresh_soon())

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            await self._refreshed()

    async def _refresh(self) -> None:
        await asyncio.sleep(self._next_refresh - monotonic())
        self._next_refresh = monotonic() + REFRESH_SECONDS
        # Primaries first and another one each time: a node that was left behind may not know that it was.
        owners = self._all_owners()
        self._turn += 1
        first = self._turn % len(owners) if owners else 0
        for address in dict.fromkeys([*owners[first:], *owners[:first], *self._nodes, *self._seeds]):
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    rows = await self._pipeline(address).call("CLUSTER", "SLOTS")
            except (RedisError, TimeoutError) as error:
                self._why = f"{address[0]}:{address[1]}: {error or 'no answer'}"
                continue
            if rows:
                self._learn(address, rows)
                break
            self._why = f"{address[0]}:{address[1]} knows of no slots"
        await self._close(
            [
                address
                for address, tagged in self._tagged.items()
                if tagged is None or self._owners[tagged] != address or tagged in self._moving
            ]
        )

    def _learn(self, asked: Address, rows: list[Any]) -> None:
        """Take over what a node says: rows of first slot, last slot, primary and replicas (host, port, …)."""
        owners: list[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        nodes: list[Address] = []
        for first, last, *servers in rows:
            # A host that is not named is the one that was asked.
            addresses = [(str(host or asked[0]), int(port)) for host, port, *_ in servers]
            owners[first : last + 1] = addresses[:1] * (last + 1 - first)
            nodes += addresses
        self._owners, self._nodes = owners, list(dict.fromkeys(nodes))

    async def _close(self, addresses: list[Address]) -> None:
        closed = [self._pipelines.pop(address) for address in addresses]
        for address in addresses:
            del self._tagged[address]
        await asyncio.gather(*(pipeline.__aexit__() for pipeline in closed))


def slot_of(words: Sequence[Word]) -> int:
    """The slot of a command's first key, or of the keys that a SCAN's pattern with a hash tag matches."""
    if words[0] in _SCRIPTS:
        return _slot(str(words[3]))
    if words[0] == "SCAN":
        return _slot(re.sub(r"\\(.)", r"\1", str(words[words.index("MATCH") + 1])))
    return _slot(str(words[1]))


@lru_cache(maxsize=4096)
def _slot(key: str) -> int:
    return key_slot(key.encode())


def _passes(error: RedisError) -> bool:
    """Whether it may be answered elsewhere or later. That a node hangs was waited for long enough."""
    if isinstance(error, ResponseError):
        return _PASSING.match(str(error)) is not None
    return isinstance(error, exceptions.ConnectionError)
