"""Everything at once, for a while."""

from pathlib import Path

import pytest

from tests.faults.soak import soak

# Three replicas that have served for a minute take some 60 MiB each.
MEMORY_MIB = 160


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_faults_one_after_the_other_break_no_promise(tmp_path: Path, thorough: bool) -> None:
    found = await soak(tmp_path, 60 if thorough else 25, seed=20, say=lambda _: None)
    # How many there is time for is the machine's.
    assert found.broken
    assert found.nonsense > 10
    assert max(found.memory_mib) < MEMORY_MIB
