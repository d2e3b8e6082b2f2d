"""Redis goes away, hangs, refuses, and comes back: under load, and nobody restarts the service."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import Record
from tests.faults.faults import AWAY, SILENT, configured
from tests.faults.stage import staged

# As often as `make reliability` breaks things.
pytestmark = pytest.mark.timeout(900)

READY_SECONDS = 2.0
# /readyz is asked again and again; so much longer takes the last answer.
TOLD_SECONDS = 0.5
LASTS = 1.5
# Longer than Redis may take over a reply, so that who waits for one is told.
SILENT_LASTS = 6.0


# The soak has all of them in turn; make reliability has each as often as its page says.
RARER = ("READONLY", "LOADING", "BUSY")


def _param(fault: str) -> Any:
    rarer = any(word in fault for word in RARER)
    return pytest.param(fault, marks=pytest.mark.thorough) if rarer else fault


@pytest.mark.parametrize("fault", [_param(fault) for fault in AWAY])
async def test_redis_is_away_and_back(fault: str, tmp_path: Path, record: Record, thorough: bool) -> None:
    """503 with Retry-After meanwhile, not ready within 2 s, and on as before."""
    times = 5 if thorough else 1
    async with staged(tmp_path) as on:
        for _ in range(times):
            await on.load.until_accepted(100)
            async with AWAY[fault](on):
                assert await on.until_ready(False) < READY_SECONDS + TOLD_SECONDS
                before = on.load.outcome.answers[503]
                await asyncio.sleep(SILENT_LASTS if fault in SILENT else LASTS)
                # Whoever waits for a reply is told; one that reads its file answers when it comes to it.
                assert on.load.outcome.answers[503] > before or fault not in SILENT
            await on.load.fault_is_over()
            await on.load.until_accepted(100)
            assert await on.until_ready(True) < READY_SECONDS
        outcome = await on.load.finish()
        await on.sound()
    outcome.sound()
    assert outcome.codes == {"redis_unavailable"}
    record(fault, times, outcome)


async def test_a_policy_that_deletes_jobs_is_not_ready(tmp_path: Path) -> None:
    """Nothing is lost as long as there is memory, so clients are served; operators are told within 2 s."""
    async with staged(tmp_path) as on:
        assert await on.until_ready(True) < READY_SECONDS
        async with configured("maxmemory-policy", "allkeys-lru", "noeviction")(on):
            assert await on.until_ready(False) < READY_SECONDS
            await on.load.fault_is_over()
        assert await on.until_ready(True) < READY_SECONDS
        (await on.load.finish()).sound()
