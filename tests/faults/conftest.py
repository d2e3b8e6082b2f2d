"""What tests of faults are given: how often to break something, and where to write down what was seen."""

import json
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.load import Outcome

Record = Callable[..., None]


@pytest.fixture
def thorough(request: pytest.FixtureRequest) -> bool:
    """Whether to break things as often as for docs/reliability.md, which takes a while."""
    return bool(request.config.getoption("--thorough"))


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """Writes a row of docs/reliability.md: the fault, how often, what the load saw, why calls came again."""

    def record(fault: str, times: int, outcome: Outcome, why: str = "", guarantee: str = "") -> None:
        file: Path | None = request.config.getoption("--record")
        if file is None:
            return
        answered = sum(outcome.answers.values())
        row = {
            "fault": fault,
            "guarantee": guarantee,
            "times": times,
            "answers_per_second": round(answered / outcome.seconds),
            "accepted": outcome.accepted,
            "lost": len(outcome.lost),
            "beyond_capacity": outcome.beyond,
            "admitted_again": outcome.admitted_again,
            "called_again": outcome.called_again,
            "why": why,
            "unavailable": outcome.answers[503],
            "slowest_seconds": round(outcome.slowest, 2),
            "recovered_seconds": [round(of(outcome.recovered), 2) for of in (statistics.median, max)]
            if outcome.recovered
            else [],
        }
        with file.open("a") as rows:
            rows.write(json.dumps(row) + "\n")

    return record
