"""The benchmark: its arithmetic, and that a toy run of it works. How fast anything is, no test says."""

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bench import page
from bench.client import Client, Failed, all_done, receiving, request
from bench.load import job_of_line, percentile
from bench.report import Result, as_markdown, as_text, cells, number, results, spread
from bench.rounds import Point, Run, Sides
from bench.rows import ROWS, SLOWLOG, Line
from bench.scale import FULL, QUICK, TOY, Scale
from bench.servers import Servers, Slow, peer_versions, what_ran
from rqueue.store import scripts

ROOT = Path(__file__).parents[1]
TOOLS = ("wrk", "redis-benchmark")
LEAST = Line("least", "work", "/s", "bare", must=0.5, aim=1.0)
MOST = Line("most", "work", "ms", must=5.0, aim=1.0, at_most=True)


@pytest.mark.parametrize(
    ("line", "figure", "reference", "verdict"),
    [
        (LEAST, [50.0], [100.0], "must met"),
        (LEAST, [49.0], [100.0], "not met"),
        (LEAST, [100.0], [100.0], "aim met"),
        # By the median of the rounds' ratios: 0.4, 0.6, 0.1.
        (LEAST, [40.0, 60.0, 10.0], [100.0, 100.0, 100.0], "not met"),
        # Those are 1, 0.5 and 0.5, though the medians of the two are alike.
        (LEAST, [10.0, 20.0, 20.0], [10.0, 40.0, 40.0], "must met"),
        (MOST, [0.9], [], "aim met"),
        (MOST, [5.0], [], "must met"),
        (MOST, [5.1, 5.1, 0.1], [], "not met"),
        (Line("aim", "work", "/s", "bare", aim=1.0), [9.0], [10.0], "not met"),
        (Line("none", "work", "/s", "bare"), [9.0], [10.0], ""),
    ],
)
def test_the_verdict_is_that_of_the_median(
    line: Line, figure: list[float], reference: list[float], verdict: str
) -> None:
    assert Result(line, figure, reference).verdict == verdict


def test_a_ratio_is_taken_in_each_round() -> None:
    assert Result(LEAST, [1.0, 9.0], [2.0, 3.0]).ratios == [0.5, 3.0]
    assert Result(MOST, [1.0], []).ratios == []


@pytest.mark.parametrize(("percent", "value"), [(50, 5), (99, 10), (90, 9), (91, 10), (1, 1)])
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(percent: int, value: int) -> None:
    assert percentile([float(n) for n in (7, 3, 9, 1, 5, 10, 2, 8, 6, 4)], percent) == value


@pytest.mark.parametrize(
    ("value", "shown"), [(0.4567, "0.46"), (12.34, "12.3"), (123.4, "123"), (12345.6, "12,346")]
)
def test_numbers_have_the_digits_that_count(value: float, shown: str) -> None:
    assert number(value) == shown


def test_a_spread_is_the_median_with_the_smallest_and_the_largest() -> None:
    assert spread([3.0, 1.0, 2.0], "ms") == "2.00 ms (1.00..3.00)"
    assert spread([250.0], "/s") == "250/s"
    assert spread([]) == ""


def test_a_line_of_the_table() -> None:
    found = results((LEAST, MOST), {"least": Sides([50.0, 60.0], [100.0, 100.0]), "most": "no wrk"})
    table = [cells(result, {}) for result in found]
    assert table == [
        [
            "work",
            "55.0/s (50.0..60.0)",
            "bare: 100/s (100..100)",
            "0.55 (0.50..0.60)",
            "≥ 0.5",
            "≥ 1",
            "must met",
        ],
        ["work", "not measured", "no wrk", "", "≤ 5", "≤ 1", ""],
    ]
    assert as_markdown(table).splitlines()[3] == "| work | not measured | no wrk |  | ≤ 5 | ≤ 1 |  |"
    first, second, third = as_text(table).splitlines()
    assert first.index("reference") == second.index("bare") == third.index("no wrk")


def test_a_row_that_found_nothing_says_so_in_each_of_its_lines() -> None:
    assert [result.missing for result in results((LEAST, MOST), "why")] == ["why", "why"]


def test_the_names_of_the_lines_are_unique_and_begin_with_their_rows() -> None:
    lines = [line.name for row in ROWS for line in row.lines]
    assert len({*lines, SLOWLOG.name}) == len(lines) + 1
    assert all(line.name.partition(".")[0] == row.name for row in ROWS for line in row.lines)


@pytest.mark.parametrize("scale", [FULL, QUICK, TOY])
def test_every_line_can_be_shown_at_every_scale(scale: Scale) -> None:
    assert all(size % 4 == 0 for size in scale.sizes)
    for line in (SLOWLOG, *(line for row in ROWS for line in row.lines)):
        assert "{" not in "".join(cells(Result(line, [1.0], [1.0]), scale.shown()))


def test_a_line_of_jobs_is_of_two_families_and_every_so_manieth_is_zs() -> None:
    jobs = [job_of_line(number, every=4) for number in range(8)]
    assert [job["request_id"][0] + job["request_id"][-1] for job in jobs] == [
        "j0",
        "j1",
        "k0",
        "k1",
        "j2",
        "j3",
        "k2",
        "k3",
    ]
    assert [job["owner_id"] for job in jobs] == list("zyyyzyyy")


def test_a_slow_command_has_the_name_of_its_script() -> None:
    admit = scripts.load("admit")
    assert what_ran(f"EVALSHA {admit.sha} 3 a b c") == "admit.lua"
    assert what_ran(f"EVAL {admit.text[:110]}... (999 more bytes) 3".encode()) == "admit.lua"
    assert what_ran("EVALSHA 0123 0") == "EVALSHA"
    assert what_ran("BGREWRITEAOF") == "BGREWRITEAOF"


def test_slow_commands_are_counted_by_what_was_measured() -> None:
    entries = [
        Slow("admit.lua", 12.0, "release"),
        Slow("admit.lua", 15.0, "release"),
        Slow("PING", 11.0, "get"),
    ]
    assert page.slow(entries) == (
        "- PING, get: 1 times, 11.0 ms at the most\n- admit.lua, release: 2 times, 15.0 ms at the most"
    )
    assert page.slow([]) == "none."


@asynccontextmanager
async def answering(*pieces: bytes) -> AsyncIterator[Client]:
    """A client of a server that answers anything by these pieces, a moment apart."""

    closed = asyncio.Event()

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)
        writer.close()
        await writer.wait_closed()
        closed.set()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        async with Client.to(server.sockets[0].getsockname()[1]) as client:
            yield client
        await closed.wait()


async def test_the_client_reads_an_answer_in_pieces() -> None:
    head = (b"HTTP/1.1 200 OK\r\nTransfer-", b"Encoding: chunked\r\n\r\n3\r\nab")
    async with answering(*head, b"c\r\nA\r\n0123456789\r\n0\r\n\r\n") as client:
        answered = await client.done(request("GET", "/"))
    assert answered.body == b"abc0123456789"
    assert 0 < answered.first < answered.last


async def test_an_answer_that_is_not_2xx_counts_as_failed() -> None:
    async with answering(b"HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\n\r\nno") as client:
        with pytest.raises(Failed, match="was answered 409: b'no'"):
            await client.done(request("GET", "/"))


async def test_an_answer_that_breaks_off_counts_as_failed() -> None:
    async with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nno") as client:
        with pytest.raises(Failed, match="the connection broke"):
            await client.done(request("GET", "/"))


async def test_the_receiver_takes_what_arrives_in_any_pieces() -> None:
    async with receiving() as receiver:
        sent = [request("POST", f"/called/{n}", {"n": n}) for n in range(3)]
        assert len(await all_done(receiver.port, sent)) == 3
        assert [(await receiver.next())[0] for _ in sent] == ["0", "1", "2"]
        assert receiver.body == b'{"n":2}'
        with pytest.raises(Failed, match="no callback"):
            await receiver.next(0.01)


def test_the_page_holds_what_was_found_and_keeps_the_notes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib", reason="NOT TRIED: matplotlib comes with the extra `bench`")
    for name, value in (("PAGE", "page.md"), ("PLOTS", "plots"), ("NOTES", "notes.md")):
        monkeypatch.setattr(page, name, tmp_path / value)
    (tmp_path / "notes.md").write_text("Where the time goes: \\1 into tests.\n")
    points = [Point(size, [1.0, 2.0], [3.0, 4.0]) for size in TOY.sizes]
    works = (*page.GROWTH, "memory of bullmq")
    run = Run(TOY, Servers(tmp_path, may_install=False), dict.fromkeys(works, points), [50.0, 51.0])
    page.write(run, [["a row", *[""] * 6]], [["create", "wrk"]], 60)
    written = (tmp_path / "page.md").read_text()
    for expected in (
        "| a row |",
        "Where the time goes: \\1",
        "| create | wrk |",
        "| aiohttp |",
        "in 1 minutes",
    ):
        assert expected in written
    for drawn in (*(f"growth-{work}" for work in page.GROWTH), "soak"):
        assert f"benchmarks/{drawn}.svg" in written
        assert (tmp_path / "plots" / f"{drawn}.png").stat().st_size > 1000
        assert (tmp_path / "plots" / f"{drawn}.svg").stat().st_size > 1000
    (tmp_path / "notes.md").write_text("Another.\n")
    page.put_notes()
    assert (tmp_path / "page.md").read_text() == written.replace(
        "Where the time goes: \\1 into tests.", "Another."
    )


# --- the run ------------------------------------------------------------------------------------------


async def bench(*arguments: str, folder: Path) -> tuple[int, str, str]:
    """Run it as users do; returns its status, what it printed, and what it said meanwhile."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench",
        *arguments,
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        printed, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, printed.decode(), said.decode()


@pytest.mark.thorough
@pytest.mark.skipif(
    not all(map(shutil.which, TOOLS)), reason=f"NOT TRIED: {' and '.join(TOOLS)} are not both installed"
)
async def test_a_toy_run_measures_every_row_and_leaves_nothing(tmp_path: Path) -> None:
    status, printed, said = await bench("--toy", folder=tmp_path)
    assert status == 0, said
    assert os.listdir(tmp_path) == []
    table = printed.split("\n\n")[0].splitlines()[1:]
    works = [line.work.format(**TOY.shown()) for row in ROWS for line in row.lines] + [SLOWLOG.work]
    assert len(table) == len(works)
    # What may be missing, and only for this reason: the peer.
    excuses = [] if peer_versions() else ["the peer is not installed"]
    for shown, work in zip(table, works, strict=True):
        assert shown.startswith(work)
        figure = shown.removeprefix(work).strip()
        assert figure[:1].isdigit() or any(excuse in figure for excuse in excuses), shown


async def test_a_row_that_there_is_not_is_refused(tmp_path: Path) -> None:
    status, _, said = await bench("--only", "nonsense", folder=tmp_path)
    assert status == 2
    assert "there is no row nonsense; there are create, workers" in said


async def test_the_rows_are_listed(tmp_path: Path) -> None:
    status, printed, _ = await bench("--list", folder=tmp_path)
    assert status == 0
    assert printed.split() == [row.name for row in ROWS]
