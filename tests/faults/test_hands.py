"""Hands in Redis under load: what they broke is found, mended, and nobody is the worse for it."""

from pathlib import Path

import pytest

from tests.faults.conftest import Record
from tests.faults.faults import HANDS, checked
from tests.faults.stage import staged

# As often as `make reliability` breaks things.
pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize("fault", HANDS)
async def test_keys_are_edited_and_mended(fault: str, tmp_path: Path, record: Record, thorough: bool) -> None:
    """Jobs that nobody would have called any more are called, and capacity that nobody held is free."""
    times = 10 if thorough else 1
    async with staged(tmp_path, replicas=2) as on:
        for _ in range(times):
            await on.load.until_accepted(100)
            async with HANDS[fault](on):
                assert await checked(on) == 1
            await on.load.fault_is_over()
        await on.load.until_accepted(100)
        outcome = await on.load.finish()
        assert await checked(on) == 0
        await on.sound()
    outcome.sound()
    record(fault, times, outcome)
