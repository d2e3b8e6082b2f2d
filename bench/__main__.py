"""`make bench`: how fast rqueue is on this machine, beside a bare handler, a peer and Redis alone.

Everything is on loopback, bounded, and ends by itself.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import uvloop

from bench import page, scale
from bench.client import Failed
from bench.report import Result, as_text, cells, results
from bench.rounds import Found, Run, Sides, say
from bench.rows import ROWS, SLOWLOG, Row
from bench.scale import Scale
from bench.servers import ROOT, NotMeasured, Servers

FAILED = "failed: "
INTERRUPTED = 130


def main() -> int:
    """Read the arguments and run. Returns 1 where a row failed; goals that are not met are no failure."""
    options = argparse.ArgumentParser(prog="bench", description="Measure rqueue beside its references.")
    options.add_argument("--only", metavar="NAME[,NAME]", help="these rows, printed only")
    options.add_argument("--quick", action="store_true", help="one short round of each, printed only")
    options.add_argument("--toy", action="store_true", help="seconds in all: whether it works, not how fast")
    options.add_argument("--soak", type=float, metavar="MINUTES", help="how long the soak takes; 0: none")
    options.add_argument("--list", action="store_true", help="the names of the rows")
    options.add_argument(
        "--notes", action="store_true", help="put bench/notes.md into docs/benchmarks.md again"
    )
    asked = options.parse_args()
    names = [row.name for row in ROWS]
    if asked.list:
        print("\n".join(names))
        return 0
    if asked.notes:
        page.put_notes()
        return 0
    only = asked.only.split(",") if asked.only else names
    if unknown := set(only) - set(names):
        options.error(f"there is no row {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    size = scale.TOY if asked.toy else scale.QUICK if asked.quick else scale.FULL
    if asked.soak is not None:
        size = replace(size, soak_minutes=asked.soak)
    full = not (asked.only or asked.quick or asked.toy)
    with (
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop,
        suppress(KeyboardInterrupt, asyncio.CancelledError),
    ):
        return loop.run(_run(size, [row for row in ROWS if row.name in only], asked.toy, full))
    say("interrupted; all that was started has ended")
    return INTERRUPTED


async def _run(size: Scale, rows: list[Row], toy: bool, full: bool) -> int:
    """Measure rows, print the table, and write the page where it was all of them."""
    task = asyncio.current_task()
    assert task is not None
    # So that what was started is ended.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    started = time.monotonic()
    found: list[Result] = []
    sizes = size.shown()
    with tempfile.TemporaryDirectory(prefix="rqueue-bench-") as folder:
        async with Servers(Path(folder), may_install=not toy) as servers:
            run = Run(size, servers)
            for row in rows:
                say(f"{row.name}: {row.lines[0].work.format(**sizes)}")
                servers.begin(row.name)
                found += results(row.lines, await _measured(run, row))
    found += results((SLOWLOG,), {SLOWLOG.name: Sides([_slow_scripts(run)])})
    table = [cells(result, sizes) for result in found]
    print(as_text(table))
    print(f"\nSLOWLOG, over 10 ms:\n{page.slow(servers.slow)}")
    seconds = time.monotonic() - started
    say(f"{seconds:.0f} s in all")
    if full:
        tools = [[row.name, row.tool.format(**sizes)] for row in rows]
        page.write(run, table, tools, seconds)
        say(f"written: {page.PAGE.relative_to(ROOT)}")
    return int(any(result.missing.startswith(FAILED) for result in found))


async def _measured(run: Run, row: Row) -> Found | str:
    """What a row found, or why it found nothing: one row that fails must not cost the others."""
    try:
        return await row.measure(run)
    except NotMeasured as reason:
        say(f"{row.name}: NOT MEASURED: {reason}")
        return str(reason)
    except (Failed, OSError, ExceptionGroup) as error:
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        say(f"{row.name}: FAILED: {error!r}")
        return f"{FAILED}{error}"


def _slow_scripts(run: Run) -> float:
    """How many runs of rqueue's own scripts took too long."""
    return float(sum(entry.what.endswith(".lua") for entry in run.servers.slow))


if __name__ == "__main__":
    sys.exit(main())
