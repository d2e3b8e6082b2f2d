"""docs/benchmarks.md and its plots, as a full run leaves them."""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from bench.report import as_markdown, number
from bench.rounds import Point, Run
from bench.servers import ROOT, Slow, peer_versions
from rqueue import __version__
from rqueue.store.embedded import server_binary

PAGE = ROOT / "docs" / "benchmarks.md"
PLOTS = ROOT / "docs" / "benchmarks"
TEMPLATE = Path(__file__).parent / "page.md"
NOTES = Path(__file__).parent / "notes.md"
BEGIN, END = "<!-- notes: begin -->", "<!-- notes: end -->"
MARKERS = {"median": "o", "p99": "^", "rqueue": "o", "bullmq": "^"}
GROWTH = {
    "create": "create",
    "get": "get one, with its position",
    "move": "move between two",
    "page": "a page of 100",
    "memory": "memory of a waiting job",
}


def write(run: Run, table: list[list[str]], tools: list[list[str]], seconds: float) -> None:
    """Write the page and its plots."""
    PLOTS.mkdir(parents=True, exist_ok=True)
    plotted = plot(run, PLOTS)
    scale = run.scale
    PAGE.write_text(
        TEMPLATE.read_text().format(
            date=f"{datetime.now(UTC):%Y-%m-%d}",
            minutes=f"{seconds / 60:.0f}",
            rounds=scale.rounds,
            seconds=f"{scale.seconds:g}",
            table=as_markdown(table),
            begin=BEGIN,
            notes=_notes(),
            end=END,
            sizes=", ".join(f"{size:,}" for size in scale.sizes),
            plots="\n\n".join(f"![{said}](benchmarks/{name}.svg)" for name, said in plotted.items()),
            numbers=as_markdown(*_numbers(run)),
            slow=slow(run.servers.slow),
            tools=as_markdown(tools, ("row", "by")),
            machine=as_markdown([[name, said] for name, said in machine().items()], ("what", "which")),
        )
    )


def put_notes() -> None:
    """Put bench/notes.md into the page as it stands."""
    old = PAGE.read_text()
    PAGE.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{_notes()}\n{END}", old, flags=re.DOTALL))


def _notes() -> str:
    return NOTES.read_text().strip() if NOTES.exists() else ""


def slow(entries: Sequence[Slow]) -> str:
    """What was slow: of each script in each stage how often, and the longest."""
    if not entries:
        return "none."
    groups: dict[tuple[str, str], list[float]] = {}
    for entry in entries:
        groups.setdefault((entry.what, entry.stage), []).append(entry.ms)
    return "\n".join(
        f"- {what}, {stage}: {len(ms):,} times, {number(max(ms))} ms at the most"
        for (what, stage), ms in sorted(groups.items())
    )


def _numbers(run: Run) -> tuple[list[list[str]], tuple[str, ...]]:
    """The dots of the growth plots as a table."""
    rows = []
    for work, said in GROWTH.items():
        for point in run.growth.get(work, []):
            p50, p99 = (number(median(values)) for values in (point.p50, point.p99))
            rows.append(
                [
                    said,
                    f"{point.size:,}",
                    *((f"{p50} bytes", "") if work == "memory" else (f"{p50} ms", f"{p99} ms")),
                ]
            )
    return rows, ("work", "waiting", "median", "p99")


def plot(run: Run, folder: Path) -> dict[str, str]:
    """Draw what the run knows, as PNG and SVG. Returns the plots' names and what they show."""
    import matplotlib as mpl

    mpl.use("agg")
    # The same names in the file at each run, so that a diff shows what changed.
    mpl.rcParams.update({"svg.hashsalt": "rqueue", "axes.grid": True, "grid.alpha": 0.3, "font.size": 9})
    from matplotlib.figure import Figure

    drawn = {}
    known = [work for work in GROWTH if work in run.growth]
    for work in known:
        figure = Figure(figsize=(5, 3), layout="constrained")
        axes = figure.add_subplot()
        if work == "memory":
            _line(axes, run.growth["memory"], "p50", "rqueue")
            if "memory of bullmq" in run.growth:
                _line(axes, run.growth["memory of bullmq"], "p50", "bullmq")
            axes.set_ylabel("bytes")
        else:
            _line(axes, run.growth[work], "p50", "median")
            _line(axes, run.growth[work], "p99", "p99")
            axes.set_ylabel("ms")
        axes.set(xscale="log", xlabel="waiting jobs", title=GROWTH[work])
        axes.set_ylim(bottom=0)
        axes.legend()
        _save(figure, folder, f"growth-{work}")
        drawn[f"growth-{work}"] = f"{GROWTH[work]}, by the number of waiting jobs"
    if run.soak:
        figure = Figure(figsize=(10, 3), layout="constrained")
        axes = figure.add_subplot()
        axes.plot([run.scale.soak_minutes * n / len(run.soak) for n in range(len(run.soak))], run.soak)
        axes.set(
            xlabel="minutes", ylabel="MiB", title="memory of rqueue's processes under create, move, release"
        )
        axes.set_ylim(0, 1.2 * max(run.soak))
        _save(figure, folder, "soak")
        drawn["soak"] = (
            "memory of rqueue's processes while jobs are created, moved and released at full speed"
        )
    return drawn


def _line(axes: Any, points: list[Point], which: str, label: str) -> None:
    """One line of a growth plot, with a band from the smallest to the largest of the rounds."""
    sizes, values = [point.size for point in points], [getattr(point, which) for point in points]
    axes.plot(sizes, [median(one) for one in values], marker=MARKERS[label], label=label)
    axes.fill_between(sizes, [min(one) for one in values], [max(one) for one in values], alpha=0.2)


def _save(figure: Any, folder: Path, name: str) -> None:
    figure.savefig(folder / f"{name}.png", dpi=120)
    # Without the date, so that a file changes only where its lines do.
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None})


def machine() -> dict[str, str]:
    """This machine, and the versions of all that was measured or measured with."""
    memory = re.search(r"MemTotal: +(\d+)", Path("/proc/meminfo").read_text())
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    said = {
        "processor": cpu[1] if cpu else platform.machine(),
        "cores": str(os.cpu_count()),
        "memory": f"{int(memory[1]) / 2**20:.0f} GiB" if memory else "",
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "rqueue": __version__,
        "python": platform.python_version(),
    }
    said |= {name: version(name) for name in ("aiohttp", "uvloop", "redis", "hiredis", "orjson")}
    said["server of all sides"] = _said([server_binary(), "--version"], r"^(.*) sha=").replace(
        "server v=", ""
    )
    said["node"] = _said(["node", "--version"], r"v(.*)")
    said |= peer_versions()
    said["wrk"] = _said(["wrk", "-v"], r"wrk (\S+)")
    said["redis-benchmark"] = _said(["redis-benchmark", "--version"], r"(\d[\d.]+)")
    return said


def _said(command: list[str], pattern: str) -> str:
    """What of a tool's words matches; empty where it is not there."""
    if not shutil.which(command[0]):
        return ""
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    found = re.search(pattern, done.stdout + done.stderr)
    return found[1] if found else ""
