"""Keys: every type has keys of its own, all in one slot of a cluster."""

import pytest
from redis.cluster import key_slot

from rqueue.store.keys import KEYS, Keys
from tests import invariants
from tests.conftest import new
from tests.store.line import CLAIM_MS

TYPES = [
    *(
        "vm",
        "kube",
        "a/b",
        "a:b",
        "{x}",
        "}{",
        "{",
        "}",
        "{}",
        "x}",
        "{x",
        "{{x}}",
        "虛擬機",
        "..",
        " ",
        "\n",
    ),
    *("%", "%41", "A", "%7B", "%7b", "%257B", "%25", "vm}:queue", "vm:queue", "*", "?", "[a]", "\\", "\0"),
    "t" * 256,
]


def test_every_type_has_keys_of_its_own():
    keys = Keys("rqueue")
    built = [keys.of(type_, name) for type_ in TYPES for name in KEYS]
    assert len(set(built)) == len(TYPES) * len(KEYS)


@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("namespace", ["rqueue", "a:b", "test-1"])
def test_all_keys_of_a_type_are_in_one_slot(namespace, type_):
    keys = Keys(namespace)
    suffixes = ("", "x", "}", "{y}", "{", "虛擬機")
    built = [
        keys.of(type_, name) + suffix
        for name in KEYS
        for suffix in (suffixes if name.endswith(":") else ("",))
    ]
    assert len({key_slot(key.encode()) for key in built}) == 1
    # And the tag is the type's own, not the empty one, which Redis would not see as a tag.
    tag = built[0].split("{", 1)[1].split("}", 1)[0]
    assert tag
    assert {key_slot(key.encode()) for key in built} == {key_slot(b"{" + tag.encode() + b"}")}


def test_types_are_spread_over_the_slots():
    keys = Keys("rqueue")
    assert len({key_slot(keys.of(f"type-{n}", "queue").encode()) for n in range(100)}) > 90


def test_an_ordinary_type_is_written_as_it_is():
    assert Keys("rqueue").of("vm", "queue") == "rqueue:{vm}:queue"
    assert Keys("rqueue").of("a:b/虛擬機", "job:") == "rqueue:{a:b/虛擬機}:job:"


NAMES = ["a/b", "{x}", "}{", "虛擬機", "..", "%41", "A", ":", "a:b", " ", "n" * 256]


async def test_types_and_names_of_any_kind_are_kept_apart(store, redis, namespace):
    for type_ in NAMES:
        await store.create(type_, [new(name, owner_id=name) for name in NAMES])
    for type_ in NAMES:
        page = await store.page(type_)
        assert [job.request_id for job in page.jobs] == NAMES
        assert [job.type for job in page.jobs] == [type_] * len(NAMES)
        for name in NAMES:
            assert (await store.get(type_, name)).request_id == name
            assert [job.request_id for job in (await store.page(type_, owner_id=name)).jobs] == [name]
        await store.move(type_, NAMES[5], "between", NAMES[0], NAMES[1])
        await store.due(type_, CLAIM_MS)
        await invariants.check(redis, namespace, type_)
    assert set(await store.types()) == set(NAMES)
