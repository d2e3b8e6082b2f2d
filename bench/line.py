"""The lines that rows measure in: of three sizes, each a type of its own, in one rqueue and in one peer.

They are filled once, when the first row needs them, so that the sizes can be measured in turn. What they
take of memory is measured on the way.
"""

from bench.load import fill, occupy
from bench.rounds import Found, Point, Run, Sides, say
from bench.servers import Server, settled_memory

LINES = ("few", "many", "most")
DEFAULT_LISTPACK_VALUE = 64


async def lines(run: Run) -> Server:
    """An rqueue with the lines."""
    server = await run.servers.rqueue("rqueue-lines")
    if "memory" not in run.growth:
        for type_ in LINES:
            await occupy(server, type_)
        run.growth["memory"] = await _filled(run, server)
    return server


async def peer_lines(run: Run) -> Server:
    """A peer with the lines. Raises NotMeasured where it cannot be had."""
    server = await run.servers.bullmq("bullmq-lines")
    if "memory of bullmq" not in run.growth:
        run.growth["memory of bullmq"] = await _filled(run, server)
    return server


async def memory(run: Run) -> Found:
    """Bytes a waiting job, all keys counted: what a line added to the server's used_memory.

    Also beside a peer whose server has Valkey's own defaults for hashes, as its user would leave them.
    """
    await lines(run)
    await peer_lines(run)
    ours, theirs = run.growth["memory"], run.growth["memory of bullmq"]
    untuned = await run.servers.bullmq("bullmq-untuned")
    with untuned.redis() as redis:
        redis.config_set("hash-max-listpack-value", DEFAULT_LISTPACK_VALUE)
    each = await _added(untuned, LINES[1], run.scale.many)
    await run.servers.end(untuned.name)
    return {"memory": Sides(ours[2].p50, theirs[2].p50), "memory.untuned": Sides(ours[1].p50, [each])}


async def _filled(run: Run, server: Server) -> list[Point]:
    points, stage = [], run.servers.stage
    for type_, size in zip(LINES, run.scale.sizes, strict=True):
        run.servers.begin(f"filling a line of {size:,}")
        each = await _added(server, type_, size)
        run.servers.begin(stage)
        points.append(Point(size, [each], [each]))
    return points


async def _added(server: Server, type_: str, size: int) -> float:
    """Fill a line; the bytes that each of its jobs added."""
    before = await settled_memory(server)
    rate = await fill(server, type_, size)
    each = (await settled_memory(server) - before) / size
    say(f"{server.name}: {size:,} jobs in line, filled at {rate:,.0f}/s, {each:,.0f} bytes each")
    return each
