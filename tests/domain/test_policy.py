"""A queue's settings: what may be changed, to what, and back."""

import pytest

from rqueue.domain.policy import Settings
from rqueue.errors import Invalid, UnknownField

YEAR = 366 * 24 * 3600


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"policy": "strict"},
        {"paused": True},
        {"call_deadline": 1},
        {"call_deadline": YEAR, "lease_seconds": 1, "retention": 0},
        {"lease_seconds": YEAR, "retention": YEAR},
        {"default_pool": "a/b", "source": "declared"},
        {"default_pool": "虛" * 85 + "a"},
        {"max_queued": 0},
        {"max_queued": 2**53 - 1},
    ],
)
def test_what_is_asked_for_changes_and_all_else_stays(asked):
    before = Settings(paused=False, call_deadline=7, lease_seconds=8, max_queued=9)
    after = before.changed(asked)
    assert {name: getattr(after, name) for name in asked} == asked
    untouched = set(Settings.__slots__) - set(asked)
    assert all(getattr(after, name) == getattr(before, name) for name in untouched)


@pytest.mark.parametrize("name", Settings.__slots__)
def test_null_gives_a_setting_its_default_back(name):
    changed = Settings("strict", True, 1, 2, 3, "other", "openstack", 5, 6, 4)
    assert getattr(changed.changed({name: None}), name) == getattr(Settings(), name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("policy", value) for value in ("lottery", "Strict", "", 1, True, [], {}, ["strict"])),
        *(("source", value) for value in ("Declared", "vmware", "", 1, {})),
        *(("hold_seconds", value) for value in (-1, YEAR + 1, 1.0, "1", True)),
        *(("stale_after", value) for value in (0, YEAR + 1, 1.0, "1", True)),
        *(("paused", value) for value in (0, 1, "true", "", [], {})),
        *(("call_deadline", value) for value in (0, -1, YEAR + 1, 1.0, 1.5, "600", True, [], {}, 2**64)),
        *(("lease_seconds", value) for value in (0, -1, YEAR + 1, 1.0, "1", True)),
        *(("retention", value) for value in (-1, YEAR + 1, 0.0, "0", False)),
        *(("max_queued", value) for value in (-1, 2**53, 1.0, "1", True)),
        *(("default_pool", value) for value in ("", "a" * 257, "虛" * 86, 1, True, [], {})),
    ],
)
def test_a_bad_value_is_refused_and_named(name, value):
    with pytest.raises(Invalid) as refused:
        Settings().changed({"paused": True, name: value})
    assert refused.value.field == name
    assert refused.value.code == "invalid"


@pytest.mark.parametrize("name", ["haste", "Policy", "changed", "", "x" * 500])
def test_a_setting_that_is_not_there_is_refused_by_name(name):
    with pytest.raises(UnknownField) as refused:
        Settings().changed({name: None})
    assert refused.value.field == name
    assert "max_queued" in refused.value.message
    assert len(refused.value.message) < 300
