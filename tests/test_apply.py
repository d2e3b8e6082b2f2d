"""`rqueue apply` and RQUEUE_QUEUES_FILE: what a file says, what has to change, and that it is made so."""

import asyncio
import dataclasses
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rqueue import declaration
from rqueue.client import Failed, connected
from rqueue.config import CLIENT, client, read
from rqueue.declaration import DEFAULTS, There, steps
from rqueue.domain.pool import Pool
from rqueue.errors import Refused
from tests.conftest import config_of, serving

FILE = b"""
queues:
  vm:
    settings: {policy: backfill, patience: 900}
    pools:
      p1:
        hosts: {n1: {VCPU: 64, cpu: 500m, Memory: 2Gi}}
        projects: [a, b]
        quotas: {"*": {VCPU: 32}}
      p2: {hosts: {}}
  "gpu/%":
"""


def _there(**pools):
    return There(dataclasses.asdict(DEFAULTS), pools)


def _shown(text, type_="vm"):
    return {name: pool.document() for name, pool in declaration.read(text)[type_].pools.items()}


def test_a_file_is_read_as_the_api_reads_it():
    wanted = declaration.read(FILE)
    assert list(wanted) == ["vm", "gpu/%"]
    assert wanted["vm"].settings == {"policy": "backfill", "patience": 900}
    assert wanted["vm"].pools["p1"] == Pool(
        "p1", {"n1": {"VCPU": 64, "cpu": 500, "Memory": 2 << 30}}, ("a", "b"), quotas={"*": {"VCPU": 32}}
    )
    assert declaration.read(b"queues: {}") == declaration.read(b"# nothing\n") == {}


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (
            "queues:\n  vm:\n    setings: {}\n",
            3,
            "queues.vm.setings: there is no such key; there are settings, pools",
        ),
        ("queue: {}\n", 1, "queue: there is no such key"),
        ("queues:\n  vm:\n    settings:\n      polcy: fair\n", 4, "polcy"),
        (
            "queues:\n  vm:\n    settings:\n      policy: lottery\n",
            4,
            "queues.vm.settings.policy: expected one of",
        ),
        ("queues:\n  vm:\n    pools:\n      p:\n        hosts:\n          n: {cpu: x}\n", 6, "hosts.n.cpu"),
        ("queues:\n  vm:\n    pools:\n      p:\n        hots: {}\n", 5, "queues.vm.pools.p.hots"),
        ("queues:\n  vm:\n    pools:\n      p: 5\n", 4, "queues.vm.pools.p: expected a map"),
        ("queues:\n  vm: {}\n  vm: {}\n", 3, "queues.vm: given twice"),
        ("queues:\n  5: {}\n", 2, "expected a text as key; quote it"),
        ("queues: &a {}\nx: *a\n", 2, "aliases are not read"),
        ("queues: !!python/object:os.system {}\n", 1, ""),
        ("queues: {vm: {pools: {p: {hosts: !!python/name:os.system x}}}}\n", 1, ""),
        ("queues: [}\n", 1, "not YAML"),
        ("queues:\n  vm: {settings: {patience: 2026-99-99}}\n", 2, "a value that cannot be read"),
        ("queues: {vm: {settings: {paused: !!bool maybe}}}\n", 1, "a value that cannot be read"),
        ('queues: {"\\ud800": {}}\n', 1, "a value that cannot be read"),
        ("queues: 5\n", 1, "queues: expected a map"),
        ("- 5\n", 1, "expected a map"),
        (
            "queues:\n  vm:\n    settings: {source: openstack}\n    pools: {p: {hosts: {}}}\n",
            4,
            "of the source declared",
        ),
        (f"queues:\n  {'x' * 300}: {{}}\n", 2, "a name must have 1 to 256 bytes"),
    ],
)
def test_what_is_wrong_is_said_with_its_line_and_place(text, line, said):
    with pytest.raises(Refused) as refused:
        declaration.read(text.encode())
    assert said in refused.value.message
    assert f"line {line}: " in refused.value.message


def test_a_file_is_bounded():
    with pytest.raises(Refused, match="larger than 10 MiB"):
        declaration.read(b"#" * ((10 << 20) + 1))
    with pytest.raises(Refused):
        declaration.read(b"queues: " + b"[" * 100_000)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content):
    with suppress(Refused):
        declaration.read(content)


def test_only_what_differs_is_changed_and_amounts_are_compared_as_amounts():
    wanted = declaration.read(FILE)
    there = {"vm": _there(), "gpu/%": _there()}
    first = steps(there, wanted)
    assert [(step.type, step.pool, step.body) for step in first] == [
        ("vm", None, {"policy": "backfill", "patience": 900}),
        ("vm", "p1", wanted["vm"].bodies["p1"]),
        ("vm", "p2", {"hosts": {}}),
    ]
    assert first[0].changes == [("policy", "strict", "backfill"), ("patience", 600, 900)]
    assert ("hosts.n1.cpu", None, "500m") in first[1].changes
    assert ("projects.a", None, True) in first[1].changes
    assert ("quotas.*.VCPU", None, 32) in first[1].changes
    settings = {**dataclasses.asdict(DEFAULTS), "policy": "backfill", "patience": 900}
    same = FILE.replace(b"500m", b'"0.5"').replace(b"2Gi", b"2147483648").replace(b"[a, b]", b"[b, a]")
    assert steps({"vm": There(settings, _shown(same)), "gpu/%": _there()}, wanted) == []
    (step,) = steps({"vm": There(settings, _shown(FILE.replace(b"64", b"32"))), "gpu/%": _there()}, wanted)
    assert step.changes == [("hosts.n1.VCPU", 32, 64)]


def test_what_is_not_named_stays_but_with_prune():
    wanted = declaration.read(b"queues: {vm: {settings: {patience: 5}, pools: {p: {hosts: {}}}}}")
    settings = {**dataclasses.asdict(DEFAULTS), "patience": 5, "policy": "fair"}
    there = {"vm": There(settings, {"p": Pool("p", {}).document(), "q": Pool("q", {}).document()})}
    assert steps(there, wanted) == []
    reset, ends = steps(there, wanted, prune=True)
    assert (reset.pool, reset.body) == (None, {"policy": None})
    assert (ends.pool, ends.body) == ("q", None)


def test_whose_a_live_pool_is_may_be_told_by_its_source():
    text = b"queues: {vm: {settings: {source: openstack}, pools: {p: {aggregate: a}}}}"
    wanted = declaration.read(text)
    settings = {**dataclasses.asdict(DEFAULTS), "source": "openstack"}
    shown = dataclasses.replace(wanted["vm"].pools["p"], projects=("told",)).document()
    assert steps({"vm": There(settings, {"p": shown})}, wanted) == []
    named = declaration.read(text.replace(b"aggregate: a", b"aggregate: a, projects: [mine]"))
    (step,) = steps({"vm": There(settings, {"p": shown})}, named)
    assert step.changes == [("projects.mine", None, True), ("projects.told", True, None)]


def test_another_source_needs_the_old_pools_to_end():
    wanted = declaration.read(b"queues: {vm: {settings: {source: openstack}, pools: {p: {aggregate: a}}}}")
    there = {"vm": _there(p=Pool("p", {"n": {"x": 1}}).document())}
    with pytest.raises(Refused, match="delete them first, or use --prune"):
        steps(there, wanted)
    ends, settings, put = steps(there, wanted, prune=True)
    assert (ends.pool, ends.body) == ("p", None)
    assert settings.body == {"source": "openstack"}
    assert (put.pool, put.body) == ("p", {"aggregate": "a"})


def test_the_commands_have_settings_of_their_own():
    assert client({}) == ("http://127.0.0.1:8080", "")
    assert client({"RQUEUE_URL": "https://q/x", "RQUEUE_TOKEN": "t"}) == ("https://q/x", "t")
    with pytest.raises(Refused, match="RQUEUE_URL"):
        client({"RQUEUE_URL": "q:80"})
    # A shell that has them can start the service.
    assert read(dict.fromkeys(CLIENT, "http://q")).port == 8080


async def _apply(url, *words, stdin=b""):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "rqueue", "apply", *words),
        env={"PATH": "/bin", "RQUEUE_URL": url},
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await process.communicate(stdin)
    return process.returncode, out.decode(), err.decode()


async def test_a_file_is_applied_shown_and_applied_again_to_no_effect(
    service, real_redis, namespace, tmp_path
):
    path = tmp_path / "queues.yaml"
    path.write_bytes(FILE)
    status, out, err = await _apply(service.url, "-f", str(path), "--dry-run")
    assert (status, err) == (1, "")
    assert (await service.call("GET", "/queues/vm"))[1]["data"]["policy"] == "strict"
    assert await _apply(service.url, "-f", str(path)) == (0, out, "")
    assert 'queue vm\n  ~ policy: "strict" -> "backfill"\n' in out
    assert "pool p1 of queue vm\n  + hosts.n1.Memory: 2147483648\n" in out
    shown = (await service.call("GET", "/queues/vm/pools/p1"))[1]["data"]
    assert shown["projects"] == ["a", "b"]
    events = await real_redis.xlen(f"{namespace}:{{vm}}:events")
    assert await _apply(service.url, "-f", "-", stdin=FILE) == (0, "nothing to change\n", "")
    assert await _apply(service.url, "-f", str(path), "--dry-run", "--json") == (0, "", "")
    assert await real_redis.xlen(f"{namespace}:{{vm}}:events") == events
    path.write_bytes(FILE.replace(b"      p2: {hosts: {}}\n", b"").replace(b"64", b"32"))
    status, out, err = await _apply(service.url, "-f", str(path), "--prune", "--json")
    assert (status, err) == (0, "")
    changed, ends = [orjson.loads(line) for line in out.splitlines()]
    assert changed["changes"] == [{"what": "hosts.n1.VCPU", "old": 64, "new": 32}]
    assert ends == {"queue": "vm", "pool": "p2", "ends": True, "changes": []}
    assert (await service.call("GET", "/queues/vm"))[1]["data"]["pools"] == ["p1"]


async def test_what_cannot_be_applied_says_how_far_it_came(service, tmp_path):
    path = tmp_path / "queues.yaml"
    path.write_text("queues: {vm: {pools: {p: {hosts: {}, projects: [a]}, q: {hosts: {}, projects: [a]}}}}")
    status, out, err = await _apply(service.url, "-f", str(path))
    assert status == 2
    assert "pool p of queue vm" in out
    assert (
        "pool q of queue vm: project 'a' belongs to pool 'p' (project_taken); 1 of 2 changes are made" in err
    )
    status, _, err = await _apply("http://127.0.0.1:1", "-f", str(path))
    assert (status, "cannot be asked" in err) == (2, True)
    path.write_text("queues: {vm: {pols: {}}}")
    status, _, err = await _apply(service.url, "-f", str(path))
    assert (status, f"{path}: line 1: queues.vm.pols" in err) == (2, True)
    assert (await _apply(service.url, "-f", "/nowhere"))[0] == 2


async def test_a_client_says_what_the_service_says(service):
    async with connected(service.url) as asking:
        with pytest.raises(Failed, match="there is no pool 'p'") as failed:
            await asking.pool("a/b", "p")
        assert (failed.value.status, failed.value.code) == (404, "pool_not_found")
        await asking.put_pool("a/b%", "..", {"hosts": {}})
        assert (await asking.queue("a/b%")).pools == ("..",)
        await asking.delete_pool("a/b%", "..")
        with pytest.raises(Failed) as failed:
            await asking.configure("vm", {"polcy": 1})
        assert (failed.value.status, failed.value.field) == (422, "polcy")


async def _ready(service):
    async with asyncio.timeout(20):
        while True:
            status, answer = await service.call("GET", "/readyz")
            if status == 200:
                return
            await asyncio.sleep(0.05)
            assert "error" in answer


async def test_the_service_applies_its_file_before_it_is_ready_and_again_when_it_changes(
    redis_url, real_redis, namespace, tmp_path
):
    path = tmp_path / "queues.yaml"
    path.write_bytes(FILE)
    config = config_of(namespace, queues_file=path)
    async with serving(config, redis_url) as service, serving(config, redis_url) as other:
        await asyncio.gather(_ready(service), _ready(other))
        _, answer = await service.call("GET", "/queues/vm")
        assert (answer["data"]["policy"], answer["data"]["pools"]) == ("backfill", ["p1", "p2"])
        (_, event), *_ = await real_redis.xrange(f"{namespace}:{{vm}}:events", count=1)
        assert event["actor"] == "RQUEUE_QUEUES_FILE"
        path.write_bytes(FILE.replace(b"900", b"901"))
        async with asyncio.timeout(20):
            while (await service.call("GET", "/queues/vm"))[1]["data"]["patience"] != 901:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.05)
        # A broken one changes nothing, and the service goes on.
        path.write_bytes(b"queues: {vm: 5}")
        await _ready(service)
        assert (await service.call("GET", "/queues/vm"))[1]["data"]["patience"] == 901


async def test_what_the_file_cannot_be_keeps_the_service_from_being_ready(
    redis_url, real_redis, namespace, tmp_path
):
    path = tmp_path / "queues.yaml"
    path.write_text("queues: {vm: {settings: {source: openstack}}}")
    async with serving(config_of(namespace), redis_url) as plain:
        await plain.call("PUT", "/queues/vm/pools/p", {"hosts": {}})
        async with serving(config_of(namespace, queues_file=path), redis_url) as service:
            async with asyncio.timeout(20):
                while "delete them first" not in str(await service.call("GET", "/readyz")):  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(0.05)
            await plain.call("DELETE", "/queues/vm/pools/p")
            await _ready(service)


def test_a_broken_file_refuses_the_start(namespace, redis_url, tmp_path):
    from rqueue.app import build

    path = tmp_path / "queues.yaml"
    path.write_text("queues:\n  vm: {polcy: 1}\n")
    with pytest.raises(Refused, match=r"RQUEUE_QUEUES_FILE: .*queues.yaml: line 2: queues.vm.polcy"):
        build(config_of(namespace, queues_file=path), redis_url)
