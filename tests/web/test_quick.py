"""The short way that a good body takes gives what marshmallow gives, and leaves every fault to it."""

import random
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rqueue.callbacks import Callbacks
from rqueue.domain.job import MAX_PRIORITY
from rqueue.errors import Invalid, RqueueError, UnknownField
from rqueue.guard import Guard
from rqueue.web import schemas

NAMES = ["a", "", "é" * 128, "é" * 129, "x" * 256, "x" * 257, "a/b{c}", " ", 5, None, True, ["a"]]
CALLBACKS = ["http://h/a", "", "c" * 2048, "c" * 2049, 0, None, {}]
PRIORITIES = [
    0,
    -1,
    MAX_PRIORITY,
    MAX_PRIORITY + 1,
    -MAX_PRIORITY - 1,
    1.0,
    1.5,
    True,
    False,
    "5",
    None,
    [],
    10**30,
]
MAPS = [{}, {"a": 1}, {"instances": []}, [], None, "a", 1]
WORDS = ["front", "back", "running", "done", "queued", "calling", "", None, 1, ["front"], {}]
FIELDS: dict[str, list[Any]] = {
    "request_id": NAMES,
    "owner_id": NAMES,
    "callback": CALLBACKS,
    "data": MAPS,
    "priority": PRIORITIES,
    "position": WORDS,
    "before": NAMES,
    "after": NAMES,
    "status": WORDS,
    "other": [1, None],
}
GOOD = {"request_id": "a", "owner_id": "y", "callback": "c", "data": {"a": 1}, "priority": 5}


def _told(schema: Any, body: Any) -> tuple[str, Any]:
    try:
        return "read", schemas.loaded(schema, body)
    except RqueueError as error:
        return error.code, error.field


def _compare(body: Any) -> tuple[bool, bool]:
    both = []
    for quick, schema in ((schemas.quick_job, schemas._JOB), (schemas.quick_change, schemas._CHANGE)):
        found, (code, read) = quick(body), _told(schema, body)
        # What the short way does not take may still be read: it is only slower then.
        if found is not None:
            assert code == "read", body
            assert found == read
            assert {name: type(value) for name, value in found.items()} == {
                name: type(value) for name, value in read.items()
            }
        both.append(found is not None)
    return both[0], both[1]


def test_both_ways_give_the_same_for_thousands_of_bodies():
    chance = random.Random(3)
    good = 0
    for _ in range(20_000):
        names = chance.sample(sorted(FIELDS), chance.randint(0, 4))
        base = dict(GOOD) if chance.random() < 0.5 else {}
        for name in chance.sample(sorted(base), chance.randint(0, 1)) if base else ():
            del base[name]
        body = base | {name: chance.choice(FIELDS[name]) for name in names}
        good += any(_compare(body))
    # Enough of both kinds for the comparison to say something.
    assert 2_000 < good < 18_000


@pytest.mark.parametrize("body", [None, [], "a", 1, True, [GOOD]])
def test_what_is_no_object_is_left_to_marshmallow(body):
    assert schemas.quick_job(body) is None
    assert schemas.quick_change(body) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=1000, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(FIELDS)) | st.text(max_size=5), JSON, max_size=6))
def test_both_ways_give_the_same_for_any_json(body):
    _compare(body)


PARTS = [
    *("http://", "https://", "HTTP://", "ftp://", "//", "", "\\", "http:/", "http:"),
    *("host", "10.0.0.1", "127.0.0.1", "127.1", "0x7f.1", "2130706433", "denied.example", "a..b", "-", "."),
    *(":80", ":0", ":65535", ":65536", ":99999", ":", ":x", "@", "user:pw@", "[::1]", "[::ffff:127.0.0.1]"),
    *("/", "/a/b", "/../..", "?q=1", "#f", "%41", "é", " ", "a", "a.b", "~", "a:b", "\n", "x" * 2048),
]


@pytest.mark.parametrize(
    "base", ["", "http://base.example/x/", "http://denied.example/", "http://127.0.0.1:8080/inbox/"]
)
def test_check_says_what_target_says_of_thousands_of_callbacks(base):
    callbacks = Callbacks(Guard((), ("denied.example",)), base, 1)
    chance = random.Random(4)
    seen = {True: 0, False: 0}
    for _ in range(5_000):
        callback = "".join(chance.choices(PARTS, k=chance.randint(1, 5)))
        said = []
        for look in (callbacks.check, callbacks.target):
            try:
                look(callback)
                said.append(None)
            except Invalid as error:
                said.append((error.code, error.field))
        assert said[0] == said[1], callback
        seen[said[0] is None] += 1
    assert seen[False] > 50
    assert seen[True] > 50


def test_a_megabyte_of_fields_that_do_not_exist_is_refused_at_once():
    many = {f"field-{number}": 1 for number in range(60_000)}
    for body in (many, GOOD | many):
        began = time.process_time()
        with pytest.raises(UnknownField):
            schemas.drafts(body, lambda callback: None)
        assert time.process_time() - began < 0.1
