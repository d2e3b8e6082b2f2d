"""A Redis Cluster under load: a primary that dies, and a slot that moves to another one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import invariants
from tests.conftest import redis_at
from tests.faults.cluster_servers import Nodes, clustered, until
from tests.faults.conftest import Record
from tests.faults.load import Load, loaded
from tests.process import Running, running

# As often as `make reliability` breaks things.
pytestmark = pytest.mark.timeout(900)

# Of two nodes.
TYPES = ("vm", "gpu")


@dataclass
class Scene:
    """A service with its cluster, and a load on it."""

    nodes: Nodes
    service: Running
    load: Load

    async def sound(self) -> None:
        """End the service, and assert that all keys agree and that no host is charged beyond what it has."""
        assert await self.service.end() == 0
        for type_ in TYPES:
            owner = await asyncio.to_thread(self.nodes.owner, f"{{{type_}}}")
            async with redis_at(f"redis://{owner.address}") as redis:
                assert await invariants.check(redis, "rqueue", type_)
                await invariants.capacity_kept(redis, "rqueue", type_)


@asynccontextmanager
async def scene(folder: Path, **settings: str) -> AsyncIterator[Scene]:
    settings = {"CALLBACK_TIMEOUT": "1", "CALLBACK_ALLOW": "127.0.0.0/8", **settings}
    with clustered(folder) as nodes:
        assert nodes.owner("{vm}") is not nodes.owner("{gpu}")
        async with (
            running(folder, REDIS_URL=nodes.url, **settings) as service,
            loaded(service.url, types=TYPES) as load,
        ):
            yield Scene(nodes, service, load)


async def test_a_primary_dies(tmp_path: Path, record: Record, thorough: bool) -> None:
    """Its replica has all that was answered and takes its place; whoever asks meanwhile waits, or is told."""
    times = 10 if thorough else 1
    async with scene(tmp_path, WAIT_REPLICAS="1") as on:
        for _ in range(times):
            await on.load.until_accepted(100)
            owner = on.nodes.owner("{vm}")
            owner.kill()
            await asyncio.to_thread(on.nodes.until_replaced, owner, "{vm}")
            # Without it there would be no replica to confirm anything.
            owner.start()
            await on.load.fault_is_over()
            await on.load.until_accepted(100)
            await asyncio.to_thread(until, on.nodes.whole)
        outcome = await on.load.finish()
        await on.sound()
    outcome.sound()
    record("a primary of a cluster is killed, with RQUEUE_WAIT_REPLICAS=1", times, outcome)


@pytest.mark.parametrize(
    ("how", "atomically"), [("key by key", False), ("at once, by CLUSTER MIGRATESLOTS", True)]
)
async def test_a_type_moves_to_another_node(
    how: str, atomically: bool, tmp_path: Path, record: Record, thorough: bool
) -> None:
    """Whoever asks meanwhile waits a moment."""
    times = 10 if thorough else 1
    async with scene(tmp_path) as on:
        for _ in range(times):
            await on.load.until_accepted(100)
            target = on.nodes.other("{vm}")
            await asyncio.to_thread(on.nodes.move_slot, "{vm}", target, atomically)
            await on.load.fault_is_over()
        await on.load.until_accepted(100)
        outcome = await on.load.finish()
        await on.sound()
    outcome.sound()
    assert not outcome.answers[503]
    record(f"a type moves to another node of a cluster, {how}", times, outcome)
