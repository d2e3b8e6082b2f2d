"""Rows about lists, and how everything grows with the line."""

import random
from collections.abc import Iterator
from urllib.parse import quote

from bench.client import Client, Failed, all_done, request
from bench.line import LINES, lines
from bench.load import name, percentile, seed_job
from bench.rounds import Found, Point, Run, Sides
from bench.servers import Server, forget_peak, rss

PAGE = 100
LARGEST_PAGE = 10_000


async def everything(run: Run) -> Found:
    """A whole line in one answer. Of what the process grows the worst round counts, not the median.

    By a process that has done nothing else yet, so that memory which it had before hides nothing.
    """
    filled, size = await lines(run), run.scale.many
    grown, first, rate = [], [], []
    for _ in range(run.scale.rounds):
        server = await run.servers.rqueue("rqueue-list", REDIS_URL=f"unix://{filled.socket}")
        async with Client.to(server.port) as client:
            asked = f"/v1/{LINES[1]}/?status=queued"
            await client.done(request("GET", f"{asked}&limit=1"))
            before = rss(server.pid)
            forget_peak(server.pid)
            answer = await client.done(request("GET", asked))
        if answer.body.count(b'"RequestID"') != size:
            raise Failed("the list does not hold every job")
        grown.append(rss(server.pid, "VmHWM") - before)
        first.append(answer.first * 1000)
        rate.append(size / answer.last)
        await run.servers.end(server.name)
    return {"list": Sides(rate), "list.first": Sides(first), "list.memory": Sides([max(grown)])}


async def owner(run: Run) -> Found:
    """The jobs of one owner, among the most and among few: milliseconds of the median."""
    server = await lines(run)
    found: dict[str, list[float]] = {LINES[2]: [], LINES[0]: []}
    for number in run.numbers:
        for type_, medians in found.items():
            asked = request("GET", f"/v1/{type_}/?owner_id=z")
            seconds = await all_done(server.port, [asked] * run.scale.requests)
            if number:
                medians.append(percentile(seconds, 50) * 1000)
    return {"owner": Sides(found[LINES[2]], found[LINES[0]])}


async def growth(run: Run) -> Found:
    """Every kind of work at every size, by one client, one request after the other."""
    server = await lines(run)
    found: dict[str, list[Point]] = {
        work: [Point(size, [], []) for size in run.scale.sizes] for work in ("create", "get", "move", "page")
    }
    pages = [await _page(server, type_, size) for type_, size in zip(LINES, run.scale.sizes, strict=True)]
    for number in run.numbers:
        for at, type_ in enumerate(LINES):
            for work, points in found.items():
                point, count = points[at], run.scale.requests
                seconds = await all_done(
                    server.port, _asked(work, type_, point.size, number, count, pages[at])
                )
                if number:
                    point.p50.append(percentile(seconds, 50) * 1000)
                    point.p99.append(percentile(seconds, 99) * 1000)
            # What was created goes again, so that the line is as long as before.
            await all_done(server.port, _asked("delete", type_, 0, number, run.scale.requests))
    run.growth |= found
    return {f"growth.{work}": Sides(points[2].p50, points[0].p50) for work, points in found.items()}


def _asked(work: str, type_: str, size: int, number: int, count: int, page: bytes = b"") -> Iterator[bytes]:
    """The requests of one kind in one round."""
    chance = random.Random(number)
    for n in range(number * count, (number + 1) * count):
        one, pair = chance.randrange(size // 2 or 1), chance.randrange(size // 4 or 1) * 2
        if work == "create":
            yield request("POST", f"/v1/{type_}/", seed_job(name("g", n)))
        elif work == "delete":
            yield request("DELETE", f"/v1/{type_}/{name('g', n)}")
        elif work == "get":
            yield request("GET", f"/v1/{type_}/{name('j', one)}")
        elif work == "move":
            between = {"after": name("j", pair), "before": name("j", pair + 1)}
            yield request("POST", f"/v1/{type_}/{name('k', one)}", between)
        else:
            yield page


async def _page(server: Server, type_: str, size: int) -> bytes:
    """The request for a page from the middle of the line, or from as far in it as a cursor goes at once."""
    skipped = min(size // 2, LARGEST_PAGE)
    async with Client.to(server.port) as client:
        answer = await client.done(request("GET", f"/v1/{type_}/?status=queued&limit={skipped}"))
    cursor = quote(answer.json()["next"], safe="")
    return request("GET", f"/v1/{type_}/?status=queued&limit={PAGE}&cursor={cursor}")
