"""The loader: a script's header is code, and a call that does not match it never reaches Redis."""

import re

import pytest

from rqueue import metrics
from rqueue.store import scripts
from rqueue.store.keys import KEYS, Keys
from rqueue.store.scripts import Scripts
from tests.store.line import create, line

NAMES = scripts.names()


def test_there_is_a_script_for_each_verb():
    assert [
        *("admit", "call", "claim_reader", "configure", "create", "delete_pool", "diagnose", "due"),
        *(
            "examine",
            "explain",
            "get",
            "history",
            "inspect",
            "list",
            "measure",
            "move",
            "observe",
            "put_pool",
        ),
        *("raise_seq", "recount", "redeliver", "release", "repaired", "retry", "set_aside", "set_hosts"),
        *("simulate", "source_failed", "spread", "transition", "update"),
    ] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_header_names_what_the_script_uses(name):
    script = scripts.load(name)
    text = re.sub(r"--.*", "", script.text)
    answered = set(re.findall(r'return \{ "(\w+)"', text)) - {"ok"}
    assert answered == script.errors
    assert len(set(script.keys)) == len(script.keys)
    assert set(script.keys) <= set(KEYS)
    for argument in script.arguments:
        # Once where it is taken from ARGV, and again where it is used, perhaps in what the script needs.
        assert len(re.findall(rf"\b{argument}\b", text)) > 1, argument


@pytest.mark.parametrize("name", NAMES)
def test_every_error_becomes_one_of_ours(name):
    from rqueue import errors

    codes = {
        kind.code
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.RqueueError)
    }
    # The store answers `crowded` itself: it spreads the range and moves again.
    assert scripts.load(name).errors <= codes | {"crowded"}


@pytest.mark.parametrize("name", NAMES)
def test_lines_in_errors_are_those_of_the_file(name):
    script = scripts.load(name)
    assert script.text.count("\n") == (scripts._LUA / f"{name}.lua").read_text().count("\n")


def test_who_only_looks_is_not_taken_for_one_that_writes():
    assert [name for name in NAMES if not scripts.load(name).writes] == [
        "explain",
        "get",
        "history",
        "list",
        "measure",
    ]


async def test_what_counts_as_reading_writes_nothing_whatever_the_server(redis, server):
    if not server:
        pytest.skip("fakeredis knows no COMMAND INFO")
    told = await redis.execute_command("COMMAND", "INFO", *scripts.READS)
    assert {name.upper() for name in told} == scripts.READS
    assert [name for name, of in told.items() if "write" in of["flags"]] == []


@pytest.mark.parametrize(
    ("line", "writes"),
    [
        ('redis.call("GET", queue)', True),
        ('redis.pcall("HSET", queue, "a", 1)', True),
        ("redis.call(ARGV[1], queue)", True),
        ("local f = redis.call f(queue)", True),
        ('redis.call("HGET", queue, "a") -- redis.call("HSET", queue)', False),
    ],
)
def test_a_script_writes_unless_all_that_it_calls_is_known_to_read(monkeypatch, tmp_path, line, writes):
    (tmp_path / "bad.lua").write_text(f"-- KEYS    queue\n{line}\n")
    monkeypatch.setattr(scripts, "_LUA", tmp_path)
    assert scripts.load.__wrapped__("bad").writes is writes


@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        ("-- KEYS    queue nonsense\n", "there is no key 'nonsense'"),
        ("-- KEYS    queue\n-- NEEDS   nothing\n", "_nothing.lua"),
    ],
)
def test_a_header_that_names_what_there_is_not_is_refused(monkeypatch, tmp_path, header, complaint):
    (tmp_path / "bad.lua").write_text(header + 'return { "ok" }\n')
    monkeypatch.setattr(scripts, "_LUA", tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=complaint):
        scripts.load.__wrapped__("bad")


@pytest.mark.parametrize(
    ("rest", "arguments"),
    [
        ((), {}),
        ((), {"request_id": "a", "stale_after": 60, "owners": "", "more": 1}),
        ((), {"request": "a"}),
        (("a",), {"request_id": "a", "stale_after": 60, "owners": ""}),
    ],
)
async def test_wrong_arguments_are_a_type_error(redis, pipeline, namespace, rest, arguments):
    with pytest.raises(TypeError, match=r"get\.lua takes \('request_id', 'stale_after', 'owners', 'now'\)"):
        await Scripts(pipeline, Keys(namespace)).run("get", "vm", *rest, **arguments)
    assert [key async for key in redis.scan_iter(f"{namespace}:*")] == []


async def test_an_error_has_its_code_and_details(store, pipeline, namespace, clock):
    await create(store, "a")
    with pytest.raises(scripts.ScriptError) as raised:
        await Scripts(pipeline, Keys(namespace)).run(
            *("move", "vm"),
            request_id="a",
            where="after",
            first="a",
            second="",
            want=1,
            actor="",
            now=clock(),
        )
    assert (raised.value.code, list(raised.value.details)) == ("neighbour_is_self", ["a"])


async def test_a_server_that_forgot_the_scripts_is_told_again(store, redis):
    """After a restart, a failover or SCRIPT FLUSH."""
    await create(store, "a")
    errors = metrics.REDIS_ERRORS.cell().copy()
    await redis.script_flush()
    await create(store, "b")
    await redis.script_flush()
    await store.move("vm", "b", "front")
    assert await line(store) == ["b", "a"]
    # Nothing to wake anybody for.
    assert metrics.REDIS_ERRORS.cell() == errors


async def test_without_a_clock_of_its_own_the_server_says_the_time(redis, pipeline, namespace):
    from rqueue.store.store import Store

    before = await redis.time()
    (job,) = await create(Store(pipeline, namespace), "a")
    after = await redis.time()
    low, high = (seconds * 1_000_000 + micros for seconds, micros in (before, after))
    assert low <= job.created_at == job.priority <= high
