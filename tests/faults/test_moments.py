"""Connections to Redis break, replies are lost, scripts are forgotten: under load, and nobody sees it."""

from pathlib import Path

import pytest

from tests.faults.conftest import Record
from tests.faults.faults import MOMENTS
from tests.faults.stage import staged

# As often as `make reliability` breaks things.
pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize("fault", MOMENTS)
async def test_what_lasts_a_moment_is_not_seen(
    fault: str, tmp_path: Path, record: Record, thorough: bool
) -> None:
    """Nobody is told 503, and nothing is done twice."""
    times = 100 if thorough else 5
    async with staged(tmp_path) as on:
        for _ in range(times):
            await on.load.until_accepted(10)
            async with MOMENTS[fault](on):
                pass
        await on.load.until_accepted(100)
        outcome = await on.load.finish()
        await on.sound()
        # Two that come at once are one.
        assert on.wire.connections > times / 2 or fault.startswith("scripts are forgotten")
    outcome.sound()
    assert not outcome.answers[503]
    assert not outcome.no_answer
    record(fault, times, outcome)
