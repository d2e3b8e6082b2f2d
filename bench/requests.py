"""Rows about single requests under load: create, move, get, and the limit of the store below them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from bench.client import request
from bench.line import LINES, lines, peer_lines
from bench.load import (
    ARRAY_CONNECTIONS,
    RANDOM,
    Load,
    command_of,
    fill,
    name,
    occupy,
    redis_benchmark,
    seed_job,
    wrk,
)
from bench.rounds import Found, Run, Sides, rates, say
from bench.servers import NotMeasured, Server

NAMES_A_ROUND = 10**8  # so that no round makes a name that another has made
CALLS_A_SECOND = 20_000  # redis-benchmark is told how many, not how long
Side = Callable[[int, float], Awaitable[Load]]


def creating(server: Server, type_: str = "vm", array: int = 0, **options: int) -> Side:
    """Creates on a server, single or in arrays; of a type whose pool is full, on rqueue."""

    async def side(number: int, seconds: float) -> Load:
        first = number * NAMES_A_ROUND
        return await wrk(server, "create", type_, first, array, seconds=seconds, **options)

    return side


async def create(run: Run) -> Found:
    """One job a request, at 32 connections, by one process."""
    rqueue, bare = await run.servers.rqueue("rqueue-plain"), await run.servers.bare()
    await occupy(rqueue, "vm")
    found = await run.alternately(bare=creating(bare), rqueue=creating(rqueue))
    return {"create": Sides(rates(found["rqueue"]), rates(found["bare"]))}


async def workers(run: Run) -> Found:
    """The same by two processes, against the peer."""
    bullmq = await run.servers.bullmq("bullmq-plain")
    rqueue = await run.servers.rqueue("rqueue-two", WORKERS="2")
    await occupy(rqueue, "vm")
    found = await run.alternately(bullmq=creating(bullmq), rqueue=creating(rqueue))
    await run.servers.end("rqueue-two")
    return {"workers": Sides(rates(found["rqueue"]), rates(found["bullmq"]))}


async def connections(run: Run) -> Found:
    """The same at many connections: no error, and nobody waits much longer than the others."""
    rqueue = await run.servers.rqueue("rqueue-many")
    await occupy(rqueue, "vm")
    found = await run.alternately(rqueue=creating(rqueue, connections=run.scale.connections))
    await run.servers.end("rqueue-many")
    loads = found["rqueue"]
    return {"connections": Sides([load.p99 for load in loads], [load.p50 for load in loads])}


async def arrays(run: Run) -> Found:
    """Arrays, counted in jobs."""
    size = run.scale.array
    bullmq, rqueue = await run.servers.bullmq("bullmq-plain"), await run.servers.rqueue("rqueue-plain")
    await occupy(rqueue, "arrays")
    side = partial(creating, type_="arrays", array=size, connections=ARRAY_CONNECTIONS)
    found = await run.alternately(bullmq=side(bullmq), rqueue=side(rqueue))
    jobs = {name: [rate * size for rate in rates(loads)] for name, loads in found.items()}
    return {"arrays": Sides(jobs["rqueue"], jobs["bullmq"])}


def in_line(server: Server, script: str, type_: str, size: int) -> Side:
    """Gets or moves in a line of so many."""

    async def side(number: int, seconds: float) -> Load:
        return await wrk(server, script, type_, size // 2, number, seconds=seconds)

    return side


async def move(run: Run) -> Found:
    """Moves between two neighbours, in the longest line and in the shortest."""
    few, _, most = run.scale.sizes
    sides = {}
    rqueue = await lines(run)
    try:
        bullmq = await peer_lines(run)
        sides["bullmq"] = in_line(bullmq, "move", LINES[2], most)
        missing = ""
    except NotMeasured as error:
        missing = str(error)
    sides |= {
        "most": in_line(rqueue, "move", LINES[2], most),
        "few": in_line(rqueue, "move", LINES[0], few),
    }
    found = await run.alternately(**sides)
    p99 = {name: [load.p99 for load in loads] for name, loads in found.items()}
    return {
        "move": missing or Sides(rates(found["most"]), rates(found["bullmq"])),
        "move.p99": Sides(p99["most"], p99["few"]),
    }


async def get(run: Run) -> Found:
    """Gets with the position, in the longest line."""
    most = run.scale.most
    rqueue, bare = await lines(run), await run.servers.bare()
    sides = {"bare": in_line(bare, "get", LINES[2], most), "rqueue": in_line(rqueue, "get", LINES[2], most)}
    try:
        sides["bullmq"] = in_line(await peer_lines(run), "get", LINES[2], most)
        missing = ""
    except NotMeasured as error:
        missing = str(error)
    found = await run.alternately(**sides)
    figure = rates(found["rqueue"])
    return {
        "get": Sides(figure, rates(found["bare"])),
        "get.bullmq": missing or Sides(figure, rates(found["bullmq"])),
    }


async def limit(run: Run) -> Found:
    """What the service makes of Redis: the same scripts over HTTP and by redis-benchmark."""
    rqueue, size = await run.servers.rqueue("rqueue-plain"), run.scale.many
    await occupy(rqueue, "limit")
    say(f"limit: filled at {await fill(rqueue, 'limit', size):,.0f} jobs/s")
    half = size // 2
    result: Found = {}
    for work, example, families, below, http in (
        (
            "create",
            request("POST", "/v1/limit/", seed_job(name("b", 0))),
            "b",
            2**31 - 1,
            creating(rqueue, "limit"),
        ),
        (
            "get",
            request("GET", f"/v1/limit/{name('j', 0)}"),
            "j",
            half,
            in_line(rqueue, "get", "limit", size),
        ),
        (
            "move",
            request("POST", f"/v1/limit/{name('k', 0)}", {"after": name("j", 0)}),
            "jk",
            half,
            in_line(rqueue, "move", "limit", size),
        ),
    ):
        marks = {name(family, 0): f"{family}1{RANDOM}" for family in families}
        store = Store(rqueue, await command_of(rqueue, example, marks), below)
        found = await run.alternately(redis=store, http=http)
        result[f"limit.{work}"] = Sides(rates(found["http"]), rates(found["redis"]))
        result[f"limit.{work}.cost"] = Sides(store.costs[-run.scale.rounds :])
    return result


@dataclass
class Store:
    """The side that is Redis alone: one command, again and again; keeps the microseconds that each took."""

    server: Server
    words: list[bytes]
    below: int
    costs: list[float] = field(default_factory=list)

    async def __call__(self, number: int, seconds: float) -> Load:
        load, cost = await redis_benchmark(self.server, self.words, int(seconds * CALLS_A_SECOND), self.below)
        self.costs.append(cost)
        return load
