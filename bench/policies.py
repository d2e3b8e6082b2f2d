"""What strict, backfill and fair make of the same day of a cluster: docs/policies.md and its plots.

`python -m bench.policies`: 10,000 jobs on 200 hosts by the store's own scripts on a real server. The clock is
the simulation's, so a day takes a minute and a run gives the same figures each time.
"""

import argparse
import asyncio
import secrets
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import mean

from bench.load import percentile
from bench.report import as_markdown, as_text
from bench.servers import ROOT
from bench.simulation import Clock, Outcome, simulate
from bench.workload import FLOODER, LONGEST_SECONDS, Workload, made
from rqueue.store.connect import connect
from rqueue.store.embedded import embedded
from rqueue.store.store import Store

POLICIES = ("strict", "backfill", "fair")
PATIENCE = 1800
SEED = 20260101
PAGE = ROOT / "docs" / "policies.md"
PLOTS = ROOT / "docs" / "policies"
TEMPLATE = Path(__file__).parent / "policies.md"
COLUMNS = ("", *POLICIES)


@dataclass(frozen=True, slots=True)
class Figures:
    """What is said of one run; seconds, and shares from 0 to 1.

    `used` is the mean share of VCPUs in use until the last job came. `evenness` is Jain's index of owners'
    mean waits: 1 where all wait alike, 1/n where one of n waits for all (Jain, Chiu and Hawe, "A Quantitative
    Measure of Fairness and Discrimination", 1984).
    """

    went: int
    used: float
    mean: float
    median: float
    p99: float
    worst: float
    flooder: float
    others: float
    evenness: float
    first: float
    passed: float


async def run(workload: Workload, policy: str, patience: int, url: str) -> Outcome:
    """One policy on a server, in a namespace of its own, which is left there."""
    clock = Clock()
    async with connect(url) as redis:
        return await simulate(
            Store(redis, f"policies-{secrets.token_hex(6)}", clock), clock, workload, policy, patience
        )


def figures(outcome: Outcome) -> Figures:
    """What an outcome comes to."""
    waits, of_owner = outcome.waits, defaultdict(list)
    for arrival in outcome.workload.arrivals:
        of_owner[arrival.owner_id].append(waits[arrival.request_id])
    ordered = sorted(waits.values())
    means = {owner: mean(of) for owner, of in of_owner.items()}
    return Figures(
        len(waits),
        used(outcome, outcome.workload.arrivals[-1].at),
        mean(ordered),
        percentile(ordered, 50),
        percentile(ordered, 99),
        ordered[-1],
        means.get(FLOODER, 0.0),
        mean(wait for owner, of in of_owner.items() if owner != FLOODER for wait in of),
        jain(means.values()),
        max(outcome.first.values()),
        max(outcome.passed.values(), default=0.0),
    )


def used(outcome: Outcome, until: float) -> float:
    """The mean share of VCPUs in use from the first job's coming to a moment."""
    area = sum(
        now.used["VCPU"] * (min(then.at, until) - now.at)
        for now, then in pairwise(outcome.moments)
        if now.at < until
    )
    return area / (until - outcome.moments[0].at)


def jain(values: Iterable[float]) -> float:
    """Jain's index of fairness."""
    numbers = list(values)
    squares = sum(number * number for number in numbers)
    return sum(numbers) ** 2 / (len(numbers) * squares) if squares else 1.0


def table(found: dict[str, Figures]) -> list[list[str]]:
    """A row for each figure, a column for each policy."""
    rows = [
        ("jobs that went", [f"{of.went:,}" for of in found.values()]),
        ("VCPUs in use until the last job came", [f"{of.used:.1%}" for of in found.values()]),
        ("wait, mean", [_minutes(of.mean) for of in found.values()]),
        ("wait, median", [_minutes(of.median) for of in found.values()]),
        ("wait, p99", [_minutes(of.p99) for of in found.values()]),
        ("wait, worst", [_minutes(of.worst) for of in found.values()]),
        ("mean wait of the owner that floods", [_minutes(of.flooder) for of in found.values()]),
        ("mean wait of the others", [_minutes(of.others) for of in found.values()]),
        ("Jain's index of the owners' mean waits", [f"{of.evenness:.2f}" for of in found.values()]),
        ("longest time as the first in line", [_minutes(of.first) for of in found.values()]),
        ("longest time for which others went before it", [_minutes(of.passed) for of in found.values()]),
    ]
    return [[said, *cells] for said, cells in rows]


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:,.1f} min"


def plot(outcomes: dict[str, Outcome], folder: Path) -> None:
    """use.png, waits.png and shares.png, each also as SVG."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "rqueue"
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)

    def save(name: str) -> None:
        pyplot.tight_layout()
        for kind in ("png", "svg"):
            pyplot.savefig(
                folder / f"{name}.{kind}", dpi=110, metadata={"Date": None} if kind == "svg" else None
            )
        pyplot.close()

    pyplot.figure(figsize=(9, 3.6))
    for policy, outcome in outcomes.items():
        hours, shares = _hourly([(m.at, m.used["VCPU"]) for m in outcome.moments], 900)
        pyplot.plot(hours, shares, label=policy, linewidth=1.4)
    pyplot.xlabel("hours")
    pyplot.ylabel("VCPUs in use")
    pyplot.ylim(0, 1.02)
    pyplot.legend()
    save("use")

    pyplot.figure(figsize=(9, 3.6))
    for policy, outcome in outcomes.items():
        ordered = sorted(outcome.waits.values())
        pyplot.plot(
            [wait / 60 for wait in ordered],
            [(n + 1) / len(ordered) for n in range(len(ordered))],
            label=policy,
        )
    pyplot.xlabel("minutes that a job waited")
    pyplot.ylabel("share of the jobs")
    pyplot.legend()
    save("waits")

    _, axes = pyplot.subplots(len(outcomes), 1, figsize=(9, 2.4 * len(outcomes)), sharex=True, squeeze=False)
    for (policy, outcome), (axis,) in zip(outcomes.items(), axes, strict=True):
        for owner in sorted(outcome.moments[0].shares):
            hours, shares = _hourly([(m.at, m.shares[owner]) for m in outcome.moments], 900)
            axis.plot(hours, shares, label=owner, linewidth=1.2)
        axis.set_title(policy, loc="left", fontsize=10)
        axis.set_ylabel("dominant share")
    axes[0][0].legend(ncols=5, fontsize=8)
    axes[-1][0].set_xlabel("hours")
    save("shares")


def _hourly(moments: Sequence[tuple[float, float]], width: float) -> tuple[list[float], list[float]]:
    """The mean in each so many seconds, of a value that changes at moments; the times in hours."""
    sums: defaultdict[int, float] = defaultdict(float)
    for (begin, value), (then, _) in pairwise(moments):
        now = begin
        while now < then:
            end = min(then, (int(now // width) + 1) * width)
            sums[int(now // width)] += value * (end - now)
            now = end
    places = range(min(sums), max(sums) + 1)
    return [(place + 0.5) * width / 3600 for place in places], [sums[place] / width for place in places]


async def _all(workload: Workload, patience: int, url: str) -> dict[str, Outcome]:
    outcomes = {}
    for policy in POLICIES:
        began = time.monotonic()
        outcomes[policy] = await run(workload, policy, patience, url)
        print(f"{policy}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    return outcomes


def main() -> None:
    """Run all policies, print the table, and write the page unless told otherwise."""
    words = argparse.ArgumentParser(prog="python -m bench.policies", description=__doc__)
    words.add_argument("--jobs", type=int, default=10_000)
    words.add_argument("--hosts", type=int, default=200)
    words.add_argument("--load", type=float, default=1.0, help="asked for, of all there is (default 1.0)")
    words.add_argument("--seed", type=int, default=SEED)
    words.add_argument("--no-page", action="store_true", help="print only")
    asked = words.parse_args()
    workload = made(asked.seed, asked.jobs, asked.hosts, asked.load)
    with tempfile.TemporaryDirectory() as folder, embedded(Path(folder)) as url:
        outcomes = asyncio.run(_all(workload, PATIENCE, url))
    found = {policy: figures(outcome) for policy, outcome in outcomes.items()}
    rows = table(found)
    print(f"seed {asked.seed}, {asked.jobs:,} jobs on {asked.hosts} hosts, load {asked.load:g}")
    print(as_text(rows, COLUMNS))
    if not asked.no_page:
        plot(outcomes, PLOTS)
        hours = workload.arrivals[-1].at / 3600
        PAGE.write_text(
            TEMPLATE.read_text().format(
                table=as_markdown(rows, COLUMNS),
                jobs=f"{asked.jobs:,}",
                hosts=asked.hosts,
                hours=f"{hours:.0f}",
                seed=asked.seed,
                load=f"{asked.load:g}",
                patience=PATIENCE // 60,
                longest=f"{LONGEST_SECONDS / 3600:g}",
            )
        )


if __name__ == "__main__":
    main()
