"""The words of a reason, from numbers."""

import pytest

from rqueue.domain import reason
from rqueue.domain.demand import demand
from rqueue.domain.reason import Lack

BOUNDS = '{"VCPU":[64,100],"cpu":[4000,8000]}'
SHAPE = '{"Memory":8192,"VCPU":4}'


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (reason.paused("vm"), "queue vm is paused"),
        (reason.no_pool("p9"), "pool p9 is not declared"),
        (reason.behind(1, "p1"), "1 job before it waits for pool p1"),
        (reason.behind(3, "p1"), "3 jobs before it wait for pool p1"),
        (
            reason.over_quota("bob", "p1", "VCPU", 8, 8, 2),
            "bob holds 8 of 8 VCPU in pool p1, and asks for 2",
        ),
        (
            reason.over_quota("bob", "p1", "cpu", 1500, 2000, 1000),
            "bob holds 1500m of 2 cpu in pool p1, and asks for 1",
        ),
    ],
)
def test_words(words: str, expected: str) -> None:
    assert words == expected


@pytest.mark.parametrize(
    ("instances", "expected"),
    [
        ([{"VCPU": 128}], "no host of pool p has 128 VCPU (most is 64)"),
        ([{"gpu": 1}], "no host of pool p has 1 gpu (most is 0)"),
        ([{"cpu": "4500m"}], "no host of pool p has 4500m cpu (most is 4)"),
        ([{"VCPU": 60}] * 2, "all hosts of pool p together have 100 VCPU, and it asks for more"),
        ([{"VCPU": 60, "cpu": 4}], "the hosts of pool p could not take it if they were empty"),
    ],
)
def test_what_never_fits(instances: list[dict[str, object]], expected: str) -> None:
    assert reason.never_fits("p", demand({"instances": instances}), BOUNDS) == expected


@pytest.mark.parametrize(
    ("lack", "expected"),
    [
        (None, "pool p has no room for it"),
        (Lack(1, 0, SHAPE, "VCPU", 3, "n2"), "pool p has no host with 4 VCPU free (most is 3 on n2)"),
        (Lack(1, 0, SHAPE, "VCPU", 0, ""), "pool p has no host with 4 VCPU free"),
        (Lack(1, 0, SHAPE, "", 0, ""), "pool p has no host with 4 VCPU, 8192 Memory free at once"),
        (
            Lack(3, 2, SHAPE, "", 0, ""),
            "pool p has room for 2 of 3 instances of 4 VCPU, 8192 Memory",
        ),
        (Lack(0, 1, "{}", "", 0, ""), "pool p has room for it, and it is about to be admitted"),
        (Lack(0, 0, "{}", "", 0, ""), "pool p has room for some of its instances, and not for all at once"),
    ],
)
def test_what_the_first_in_line_lacks(lack: Lack | None, expected: str) -> None:
    assert reason.waiting_for_capacity("p", lack) == expected
