"""A Redis Cluster of its own for a test: three primaries and three replicas on loopback.

The nodes are joined by CLUSTER MEET, ADDSLOTSRANGE and REPLICATE, as `redis-cli --cluster create` does it,
and end with the tests. Everything here blocks: from a test that works meanwhile, asyncio.to_thread.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import RedisError
from redis.retry import Retry

from rqueue.store.embedded import ENVIRONMENT, OPTIONS, _die_with_parent, server_binary

HOST = "127.0.0.1"
PRIMARIES = 3
NODE_TIMEOUT_MS = 1000

T = TypeVar("T")


@dataclass
class Node:
    """One server, running or killed, and a client of its own."""

    port: int
    bus_port: int
    directory: Path
    id: str = ""
    process: "subprocess.Popen[bytes] | None" = None

    def __post_init__(self) -> None:
        once = Retry(NoBackoff(), 0)
        self.client = Redis(HOST, self.port, decode_responses=True, protocol=2, socket_timeout=5, retry=once)

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    def start(self) -> None:
        """Start it; after a kill it is what its files say it was. It ends with this thread."""
        options = {
            **OPTIONS,
            "bind": HOST,
            "port": str(self.port),
            "cluster-port": str(self.bus_port),
            "cluster-enabled": "yes",
            "cluster-node-timeout": str(NODE_TIMEOUT_MS),
            "repl-diskless-sync-delay": "0",
            "dir": str(self.directory),
            "logfile": "redis.log",
        }
        self.process = subprocess.Popen(
            [server_binary(), *(word for name, value in options.items() for word in (f"--{name}", value))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**ENVIRONMENT, **os.environ},
            preexec_fn=_die_with_parent(os.getpid()) if sys.platform == "linux" else None,  # noqa: PLW1509
        )

    def answers(self) -> bool:
        with suppress(RedisError):
            return bool(self.client.ping())
        return False

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9, as when its machine dies."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def cluster(self, *words: Any) -> Any:
        """The reply to a CLUSTER command."""
        return self.client.execute_command("CLUSTER", *words)

    def is_ok(self) -> bool:
        """Whether it serves: the cluster is whole in its eyes."""
        return "cluster_state:ok" in self.cluster("INFO")


@dataclass
class Nodes:
    """The nodes of a cluster."""

    all: list[Node] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Names two of the nodes; the others are to be found."""
        return f"redis+cluster://{self.all[0].address},{self.all[-1].address}"

    @property
    def alive(self) -> list[Node]:
        return [node for node in self.all if node.process is not None]

    def at(self, port: int) -> Node:
        return next(node for node in self.all if node.port == port)

    def shard(self, key: str) -> list[Node]:
        """The primary that holds a key, and its replicas, where all nodes that run agree; else none."""
        slot, said = key_slot(key.encode()), set()
        for node in self.alive:
            found = [row[2:] for row in node.cluster("SLOTS") if row[0] <= slot <= row[1]]
            said.add(tuple(one[1] for one in found[0]) if found else ())
        return [self.at(port) for port in said.pop()] if len(said) == 1 else []

    def owner(self, key: str) -> Node:
        """The primary that holds a key, once all nodes that run agree."""
        return until(lambda: self.shard(key))[0]

    def other(self, key: str) -> Node:
        """A primary that does not hold it."""
        owner = self.owner(key)
        return next(node for node in self.alive if node is not owner and node.client.role()[0] == "master")

    def whole(self) -> bool:
        """All nodes run, serve and know of no failure, and each primary has a replica that follows it."""

        def well(node: Node) -> bool:
            # A row is the first slot, the last one, the primary, and its replicas that can take its place.
            return (
                node.answers()
                and node.is_ok()
                and "fail" not in node.cluster("NODES")
                and all(len(row) > 3 for row in node.cluster("SLOTS"))
            )

        if not all(well(node) for node in self.all):
            return False
        roles = [node.client.role() for node in self.all]
        linked = [role for role in roles if role[0] == "slave" and role[3] == "connected"]
        return len(linked) == len(self.all) - PRIMARIES

    def until_replaced(self, owner: Node, key: str) -> None:
        """Wait until another node than this one, which is gone, holds a key."""
        until(lambda: self.owner(key) is not owner)

    def move_slot(self, key: str, target: Node, atomically: bool = False) -> None:
        """Reshard online: the slot of a key goes to another primary, key by key or (Valkey 9) at once."""
        source, slot = self.owner(key), key_slot(key.encode())
        if atomically:
            if "MIGRATESLOTS" not in "".join(map(str, source.cluster("HELP"))):
                pytest.skip("NO CLUSTER MIGRATESLOTS: this server is none of Valkey 9")
            source.cluster("MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", target.id)
        else:
            target.cluster("SETSLOT", slot, "IMPORTING", source.id)
            source.cluster("SETSLOT", slot, "MIGRATING", target.id)
            # One by one, so that there is a while in which it is on two nodes.
            while keys := source.cluster("GETKEYSINSLOT", slot, 1):
                source.client.execute_command("MIGRATE", HOST, target.port, keys[0], 0, 5000)
            for node in (target, source):
                node.cluster("SETSLOT", slot, "NODE", target.id)
        until(lambda: self.owner(key) is target)


def until(holds: Callable[[], T], seconds: float = 20) -> T:
    """Wait for servers to come to something by themselves; what it is. Fails when they have not in time."""
    end = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < end, f"{holds} does not hold after {seconds:g} s"
        time.sleep(0.02)
    return found


@contextmanager
def clustered(directory: Path) -> Iterator[Nodes]:
    """Run a cluster; its nodes have ended when this returns."""
    ports = _free_ports(4 * PRIMARIES)
    nodes = Nodes()
    try:
        for number, (port, bus_port) in enumerate(zip(ports[::2], ports[1::2], strict=True)):
            (directory / str(number)).mkdir()
            nodes.all.append(Node(port, bus_port, directory / str(number)))
            nodes.all[-1].start()
        until(lambda: all(node.answers() for node in nodes.all))
        _join(nodes)
        yield nodes
    finally:
        for node in nodes.all:
            node.kill()
            node.client.close()


def _join(nodes: Nodes) -> None:
    for number, node in enumerate(nodes.all):
        node.id = node.cluster("MYID")
        node.cluster("SET-CONFIG-EPOCH", number + 1)
        if number < PRIMARIES:
            first, last = (n * REDIS_CLUSTER_HASH_SLOTS // PRIMARIES for n in (number, number + 1))
            node.cluster("ADDSLOTSRANGE", first, last - 1)
        for other in nodes.all[:number]:
            node.cluster("MEET", HOST, other.port, other.bus_port)

    def met() -> bool:
        said = [node.cluster("NODES") for node in nodes.all]
        return all("handshake" not in one and all(n.id in one for n in nodes.all) for one in said)

    until(met)
    for primary, replica in zip(nodes.all, nodes.all[PRIMARIES:], strict=False):
        replica.cluster("REPLICATE", primary.id)
    until(nodes.whole)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
