"""A pool as operators see it, and as they declare it."""

import pytest

from rqueue.capacity.declared import read
from rqueue.domain.pool import Pool
from rqueue.errors import Invalid, InvalidDemand, UnknownField


def test_a_document_shows_capacity_used_and_free_of_each_host():
    pool = Pool(
        "p",
        {"b": {"cpu": 4000, "Memory": 10}, "a": {"cpu": 1}},
        projects=("x", "y"),
        used={"b": {"cpu": 1500}},
        waiting=3,
        quotas={"o": {"cpu": 500, "Memory": 0}, "*": {"Memory": 5}},
        usage={"o": {"cpu": 1500}},
    )
    assert pool.document() == {
        "pool": "p",
        "hosts": {
            "a": {"capacity": {"cpu": "1m"}, "used": {"cpu": 0}, "free": {"cpu": "1m"}},
            "b": {
                "capacity": {"Memory": 10, "cpu": 4},
                "used": {"Memory": 0, "cpu": "1500m"},
                "free": {"Memory": 10, "cpu": "2500m"},
            },
        },
        "projects": ["x", "y"],
        "waiting": 3,
        "quotas": {"*": {"Memory": 5}, "o": {"Memory": 0, "cpu": "500m"}},
        "usage": {"o": {"cpu": "1500m"}},
    }
    assert list(pool.document()["hosts"]) == ["a", "b"]


@pytest.mark.parametrize(
    ("capacity", "used", "shown"),
    [
        ({}, {}, {}),
        ({}, {"gone": {"a": 2}}, {"gone": {"capacity": {"a": 0}, "used": {"a": 2}, "free": {"a": -2}}}),
        (
            {"h": {"a": 1}},
            {"h": {"a": 3, "b": 1}},
            {"h": {"capacity": {"a": 1, "b": 0}, "used": {"a": 3, "b": 1}, "free": {"a": -2, "b": -1}}},
        ),
        (
            {"h": {"cpu": 1000}},
            {"h": {"cpu": 2500}},
            {"h": {"capacity": {"cpu": 1}, "used": {"cpu": "2500m"}, "free": {"cpu": "-1500m"}}},
        ),
    ],
)
def test_what_is_charged_stays_visible_whatever_the_hosts_are_now(capacity, used, shown):
    assert Pool("p", capacity, used=used).document()["hosts"] == shown


@pytest.mark.parametrize(
    ("body", "capacity", "projects"),
    [
        ({"hosts": {}}, {}, ()),
        ({"hosts": {"n": {"cpu": "500m", "memory": "1Ki"}}}, {"n": {"cpu": 500, "memory": 1024}}, ()),
        ({"hosts": {}, "projects": ["b", "a", "b"]}, {}, ("b", "a")),
        ({"hosts": {"虛擬機": {"nvidia.com/gpu": 0}}}, {"虛擬機": {"nvidia.com/gpu": 0}}, ()),
    ],
)
def test_a_declared_pool_is_what_was_written(body, capacity, projects):
    assert read("p", body) == Pool("p", capacity, projects)


@pytest.mark.parametrize(
    ("body", "error", "field"),
    [
        ({}, Invalid, "hosts"),
        *(({"hosts": value}, Invalid, "hosts") for value in (None, [], "h", 1, True)),
        *(({"hosts": {host: {"a": 1}}}, Invalid, f"hosts.{host}") for host in ("", "a/b", "/", "a/")),
        ({"hosts": {"h" * 257: {"a": 1}}}, Invalid, "hosts." + "h" * 40),
        ({"hosts": {str(n): {"a": 1} for n in range(10_001)}}, Invalid, "hosts"),
        *(({"hosts": {"h": value}}, InvalidDemand, "hosts.h") for value in (None, [], {}, 1)),
        ({"hosts": {"h": {"a": -1}}}, InvalidDemand, "hosts.h.a"),
        ({"hosts": {"h": {"a": 1.5}}}, InvalidDemand, "hosts.h.a"),
        *(
            ({"hosts": {}, "projects": value}, Invalid, "projects")
            for value in (None, "x", {}, [1], [""], [None])
        ),
        ({"hosts": {}, "projects": ["p" * 257]}, Invalid, "projects"),
        ({"hosts": {}, "projects": ["p"] * 10_001}, Invalid, "projects"),
        *(
            ({"hosts": {}, "quotas": value}, Invalid, "quotas")
            for value in (None, "x", [], {"": {}}, {"o" * 257: {}})
        ),
        ({"hosts": {}, "quotas": {"o": {}}}, InvalidDemand, "quotas.o"),
        ({"hosts": {}, "quotas": {"o": {"cpu": "x"}}}, InvalidDemand, "quotas.o.cpu"),
        ({"hosts": {}, "quotas": {str(n): {"a": 1} for n in range(10_001)}}, Invalid, "quotas"),
        ({"hosts": {}, "Hosts": {}}, UnknownField, "Hosts"),
    ],
)
def test_a_pool_that_cannot_be_read_is_refused_and_the_place_named(body, error, field):
    with pytest.raises(error) as refused:
        read("p", body)
    assert refused.value.field == field
    assert len(refused.value.message) < 300
