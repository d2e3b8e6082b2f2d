"""A minute of everything at once."""

from pathlib import Path

import pytest

from tests.faults.soak import soak

SECONDS = 60
# Three replicas that have served for a minute take some 60 MiB each.
MEMORY_MIB = 160


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_minute_of_faults_breaks_no_promise(tmp_path: Path) -> None:
    found = await soak(tmp_path, SECONDS, seed=20, say=lambda _: None)
    assert len(found.broken) > 3
    # How many there is time for is the machine's.
    assert found.nonsense > 10
    assert max(found.memory_mib) < MEMORY_MIB
