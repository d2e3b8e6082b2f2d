"""Several replicas on one Redis under load: they die, stop, wake up again, and are rolled."""

from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import Record
from tests.faults.faults import REPLICAS
from tests.faults.stage import staged

# As often as `make reliability` breaks things.
pytestmark = pytest.mark.timeout(900)


def _param(fault: str) -> Any:
    # It takes half a minute; tests/faults/test_takeover.py has one that wakes up.
    return pytest.param(fault, marks=pytest.mark.thorough) if "SIGSTOP" in fault else fault


@pytest.mark.parametrize("fault", [_param(fault) for fault in REPLICAS])
async def test_replicas_come_and_go(fault: str, tmp_path: Path, record: Record, thorough: bool) -> None:
    """Nothing is admitted twice, no callback is lost, and what a dead one had begun others end."""
    times = 10 if thorough else 1
    async with staged(tmp_path, replicas=3) as on:
        for _ in range(times):
            await on.load.until_accepted(100)
            async with REPLICAS[fault](on):
                pass
            await on.load.fault_is_over()
        await on.load.until_accepted(100)
        outcome = await on.load.finish()
        await on.sound()
    outcome.sound()
    assert not outcome.answers[503]
    record(fault, times, outcome)
