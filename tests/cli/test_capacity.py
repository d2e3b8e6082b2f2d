"""Commands about pools, and about what would be."""

import orjson

from rqueue.cli.output import bar
from tests.cli.conftest import Run, documents
from tests.conftest import Service, new

HOSTS = {
    "hosts": {"n1": {"VCPU": 4, "cpu": "2"}, "n2": {"VCPU": 4, "cpu": "2"}},
    "projects": ["p", "q"],
    "quotas": {"*": {"VCPU": 6}, "y": {"VCPU": 8}},
}


def test_bars_are_full_only_where_all_is_taken() -> None:
    assert bar(0) == "░" * 10
    assert bar(0.001) == "█" + "░" * 9
    assert bar(0.999) == "█" * 9 + "░"
    assert bar(1) == bar(1.5) == "█" * 10


async def test_pools_show_hosts_with_what_is_used(rq: Run, service: Service) -> None:
    assert (await rq("pools", "vm")).stderr == "no pool is declared\n"
    await service.call("PUT", "/queues/vm/pools/p1", HOSTS)
    await service.store.create("vm", [new("a", host_aggregate="p1", instances=[{"VCPU": 3, "cpu": "500m"}])])
    await service.store.create("vm", [new("b", host_aggregate="p1", instances=[{"VCPU": 9}])])
    await service.settle()
    title, *lines = (await rq("pools", "vm")).stdout.splitlines()
    assert title == "p1: 1 waits, for p, q"
    assert [line.split() for line in lines] == [
        ["HOST", "cpu", "VCPU"],
        ["n1", "███░░░░░░░", "500m/2", "████████░░", "3/4"],
        ["n2", "░░░░░░░░░░", "0/2", "░░░░░░░░░░", "0/4"],
    ]
    one = (await rq("pools", "vm", "p1")).stdout
    assert one.endswith("y      500m cpu, 3 VCPU  8 VCPU\n")
    (document,) = documents(await rq("pools", "vm", "--json"))
    assert document == (await service.call("GET", "/queues/vm/pools/p1"))[1]["data"]


async def test_what_would_be_is_shown(rq: Run, service: Service) -> None:
    await service.call("PUT", "/queues/vm/pools/default", {"hosts": {"n1": {"VCPU": 4}}})
    await service.store.create("vm", [new(name, instances=[{"VCPU": 8}]) for name in "ab"])
    words = ["--move", "b", "front", "--host", "default", "n2", "VCPU=8", "--job", "c", "z", "VCPU=1"]
    told = (await rq("simulate", "vm", *words)).stdout.splitlines()
    assert told[0] == "would be admitted"
    assert [line.split() for line in told[2:4]] == [["b", "y", "default", "n2"], []]
    assert told[4] == "would wait"
    assert [line.split()[:4] for line in told[6:]] == [["0", "a", "y", "default"], ["1", "c", "z", "default"]]
    (found,) = documents(await rq("simulate", "vm", *words, "--json"))
    body = {
        "moves": [{"request_id": "b", "position": "front"}],
        "pools": {"default": {"hosts": {"n2": {"VCPU": 8}}}},
        "jobs": [{"request_id": "c", "owner_id": "z", "data": {"instances": [{"VCPU": 1}]}}],
    }
    assert found == (await service.call("POST", "/queues/vm/simulate", body))[1]["data"]
    (same,) = documents(await rq("simulate", "vm", "-f", "-", "--json", stdin=orjson.dumps(body).decode()))
    assert same == found
    gone = await rq("simulate", "vm", "--host", "default", "n1", "gone", "--move", "b", "after:a")
    assert gone.stdout.startswith("nobody would be admitted\n")
    assert "never_fits" in gone.stdout
    assert (await rq("simulate", "vm", "-f", "-", stdin="[]")).exit_code == 2


async def test_pause_and_resume_take_several(rq: Run, service: Service) -> None:
    result = await rq("pause", "vm", "gpu")
    assert result.stdout == "queue vm is paused; 0 wait, 0 run\nqueue gpu is paused; 0 wait, 0 run\n"
    assert [queue["paused"] for queue in documents(await rq("ls", "--json"))] == [True, True]
    (queue,) = documents(await rq("resume", "vm", "--json"))
    assert (queue["type"], queue["paused"]) == ("vm", False)
