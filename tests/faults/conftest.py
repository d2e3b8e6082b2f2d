"""What tests of faults are given: how often to break something, and where to write down what was seen."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.load import Outcome
from tests.faults.report import write

Record = Callable[[str, int, Outcome], None]


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """Writes a row of docs/reliability.md: the fault, how often, what the load saw."""

    def record(fault: str, times: int, outcome: Outcome) -> None:
        file: Path | None = request.config.getoption("--record")
        if file is not None:
            write(file, fault, times, outcome)

    return record
