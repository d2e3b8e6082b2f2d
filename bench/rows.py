"""All that is measured, in order, with what it must reach and what it aims at.

A row is one function; it may fill several lines of the table. What a figure is compared with, the
reference, is measured in the same rounds. A goal is a bound of the ratio of the two, or of the figure
where there is no reference; `at_most` where less is better.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bench import calls, line, lists, process, requests
from bench.rounds import Found, Run


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table. `size` in `work` and `reference` is replaced by the run's."""

    name: str
    work: str
    unit: str
    reference: str = ""
    must: float | None = None
    aim: float | None = None
    at_most: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """What is measured together, by what, and the lines that it fills."""

    measure: Callable[[Run], Awaitable[Found]]
    tool: str
    lines: tuple[Line, ...]

    @property
    def name(self) -> str:
        return self.lines[0].name.partition(".")[0]


WRK = "wrk, 32 connections"
CLIENT = "bench/client.py: the answers are read and their number is fixed"

ROWS = (
    Row(
        requests.create,
        WRK,
        (Line("create", "create, the seed's job, 1 process", "/s", "bare", 0.5),),
    ),
    Row(
        requests.workers,
        WRK,
        (Line("workers", "create, RQUEUE_WORKERS=2", "/s", "bullmq add", aim=1.0),),
    ),
    Row(
        requests.connections,
        "wrk, {connections} connections",
        (
            Line(
                "connections",
                "create at {connections} connections: p99",
                "ms",
                "its own p50",
                3.0,
                at_most=True,
            ),
        ),
    ),
    Row(
        requests.arrays,
        "wrk, 4 connections",
        (Line("arrays", "create in arrays of {array}", "jobs/s", "bullmq addBulk", 1.0, 2.0),),
    ),
    Row(
        requests.limit,
        f"{WRK}; redis-benchmark, 4 connections, 8 commands at once on each",
        tuple(
            line_
            for work, ran in (
                ("create", "the same"),
                ("get", "the same"),
                ("move", "the same, after one job"),
            )
            for line_ in (
                Line(f"limit.{work}", f"{work} beside Redis alone, {{many}} waiting", "/s", f"redis, {ran}"),
                Line(f"limit.{work}.cost", f"what Redis itself takes for one {work}", "µs"),
            )
        ),
    ),
    Row(
        process.start,
        "a GET of /readyz every 5 ms",
        (Line("start", "rqueue serve, embedded, to ready", "s", must=1.5, aim=0.7, at_most=True),),
    ),
    Row(
        calls.admission,
        "the SLOWLOG of Redis",
        (
            Line(
                "admission",
                "admission pass, {hosts} hosts, 4 equal instances: in Redis",
                "ms",
                must=5.0,
                aim=1.0,
                at_most=True,
            ),
            Line(
                "admission.mixed",
                "the same, 4 different instances",
                "ms",
                must=5.0,
                aim=1.0,
                at_most=True,
            ),
        ),
    ),
    Row(
        calls.release,
        CLIENT,
        (
            Line(
                "release",
                "release to callback received, {many} waiting, 100 hosts: p50",
                "ms",
                "bare loopback POST, p50",
                3.0,
                at_most=True,
            ),
            Line("release.p99", "the same: p99", "ms", "bare loopback POST, p50", 10.0, at_most=True),
        ),
    ),
    Row(
        calls.callbacks,
        "bench/caller.py, 32 at once, for the reference; both to the receiver of bench/client.py",
        (Line("callbacks", "callbacks to a fast receiver", "/s", "bare aiohttp client", 0.4, 0.7),),
    ),
    Row(
        line.memory,
        "used_memory before and after",
        (
            Line(
                "memory",
                "memory a waiting job, {most} waiting",
                "bytes",
                "bullmq",
                1.15,
                0.8,
                at_most=True,
            ),
            Line(
                "memory.untuned",
                "memory a waiting job, {many} waiting",
                "bytes",
                "bullmq, Valkey's default for hashes",
            ),
        ),
    ),
    Row(
        requests.move,
        WRK,
        (
            Line("move", "move between two, {most} waiting", "/s", "bullmq changePriority", 0.7, 1.0),
            Line("move.p99", "the same: p99", "ms", "p99 with {few} waiting", aim=1.3, at_most=True),
        ),
    ),
    Row(
        requests.get,
        WRK,
        (
            Line("get", "get one with its position, {most} waiting", "/s", "bare", 0.5),
            Line("get.bullmq", "the same", "/s", "bullmq getJob", aim=1.0),
        ),
    ),
    Row(
        lists.everything,
        CLIENT,
        (
            Line("list", "list {many}", "jobs/s", aim=50_000),
            Line("list.first", "the same: first byte", "ms", must=50, at_most=True),
            Line("list.memory", "the same: the most that the process grew", "MiB", must=32, at_most=True),
        ),
    ),
    Row(
        lists.owner,
        CLIENT,
        (
            Line(
                "owner",
                "list one owner's 10 among {most}: p50",
                "ms",
                "among {few}",
                1.3,
                at_most=True,
            ),
        ),
    ),
    Row(
        lists.growth,
        CLIENT,
        tuple(
            Line(f"growth.{work}", f"one {work} at a time, {{most}} waiting: p50", "ms", "{few} waiting")
            for work in ("create", "get", "move", "page")
        ),
    ),
    Row(
        process.soak,
        CLIENT,
        (
            Line(
                "soak",
                "create, move and release for {minutes} minutes: memory of the last",
                "MiB",
                "the second's, and 5 % or 8 MiB",
                1.0,
                at_most=True,
            ),
        ),
    ),
)
# Filled by the run itself, when all else is done.
SLOWLOG = Line("slowlog", "scripts of rqueue over 10 ms in any row", "times", must=0, at_most=True)
