"""The simulation behind docs/policies.md, small: nobody starves, and no host holds more than it has."""

import json

import pytest

from bench.policies import PATIENCE, POLICIES, SEED, figures, jain, run, table
from bench.workload import FLOODER, LONGEST_SECONDS, made


@pytest.fixture(scope="module")
def workload():
    return made(SEED, jobs=250, hosts=10, load=1.1)


async def test_all_go_under_every_policy_and_the_first_in_line_waits_a_bounded_time(workload, redis_url):
    found = {}
    for policy in POLICIES:
        # That no host holds more than it has is looked at in the simulation itself, at each admission.
        outcome = await run(workload, policy, PATIENCE, redis_url)
        found[policy] = figures(outcome)
        assert found[policy].went == len(workload.arrivals)
        assert found[policy].passed <= PATIENCE
        assert found[policy].first <= PATIENCE + LONGEST_SECONDS
        for arrival in workload.arrivals:
            bound = (outcome.ahead[arrival.request_id] + 1) * (PATIENCE + LONGEST_SECONDS)
            assert outcome.waits[arrival.request_id] <= bound
        if policy == "strict":
            assert list(outcome.started) == [arrival.request_id for arrival in workload.arrivals]
    assert found["backfill"].used >= found["strict"].used
    assert found["backfill"].mean < found["strict"].mean
    assert found["fair"].others < found["strict"].others
    assert found["fair"].flooder > found["fair"].others
    assert next(row[0] for row in table(found)) == "jobs that went"


def test_a_workload_is_the_same_for_the_same_seed(workload):
    again = made(SEED, jobs=250, hosts=10, load=1.1)
    assert again == workload
    assert made(SEED + 1, jobs=250, hosts=10, load=1.1) != workload
    owners = [arrival.owner_id for arrival in workload.arrivals]
    assert owners.count(FLOODER) > len(owners) / 3
    assert json.dumps(sorted(workload.hosts)).count("host-") == 10


def test_jains_index():
    assert jain([5.0, 5.0, 5.0]) == 1
    assert jain([9.0, 0.0, 0.0]) == pytest.approx(1 / 3)
    assert jain([0.0, 0.0]) == 1
