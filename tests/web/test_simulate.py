"""POST /queues/<type>/simulate: what would be, by the same scripts, and nothing of it is."""

from typing import Any

import pytest

from rqueue.domain.caller import Role
from tests.store.test_dry import everything
from tests.web.test_auth import OTHER, OWN, Guarded, api  # noqa: F401 - a fixture
from tests.web.wire import ask, job, refused

PATH = "/queues/vm/simulate"


def two(slots: int = 2) -> dict[str, Any]:
    return {"instances": [{"slots": slots}]}


@pytest.fixture
async def busy(service, receiver):
    """A host with 2 of 3 slots taken; `a` waits for 2, `b` and `c` behind it for 1."""
    await ask(service, "PUT", "/queues/vm/pools/default", {"hosts": {"h": {"slots": 3}}})
    await ask(service, "POST", "/v1/vm/", job("r", callback=receiver.url, data=two()))
    await service.settle()
    await ask(service, "POST", "/v1/vm/", [job("a", data=two()), job("b"), job("c", owner_id="z")])
    await service.settle()
    return service


async def simulate(service, namespace, real_redis, **body) -> tuple[list[str], list[str], bool]:
    before = await everything(real_redis, namespace)
    data = (await ask(service, "POST", PATH, body)).data
    assert await everything(real_redis, namespace) == before
    for found in data["admitted"]:
        assert set(found) == {"RequestID", "OwnerID", "Pool", "Placement"}
    for found in data["waiting"]:
        assert set(found) == {"RequestID", "OwnerID", "Pool", "Position", "Ahead", "Reason"}
    return (
        [found["RequestID"] for found in data["admitted"]],
        [f"{found['RequestID']} {found['Reason'].partition(':')[0]}" for found in data["waiting"]],
        data["more"],
    )


BLOCKED = ["a waiting_for_capacity", "b behind", "c behind"]


@pytest.mark.parametrize(
    ("asked", "admitted", "waiting"),
    [
        ({}, [], BLOCKED),
        ({"pool": "default"}, [], BLOCKED),
        (
            {"moves": [{"request_id": "b", "position": "front"}]},
            ["b"],
            ["a waiting_for_capacity", "c behind"],
        ),
        ({"moves": [{"request_id": "a", "after": "b"}]}, ["b"], ["a waiting_for_capacity", "c behind"]),
        (
            {"moves": [{"request_id": "c", "priority": 1}, {"request_id": "b", "before": "c"}]},
            ["b"],
            ["c waiting_for_capacity", "a behind"],
        ),
        ({"pools": {"default": {"hosts": {"n": {"slots": 3}}}}}, ["a", "b", "c"], []),
        (
            {"pools": {"default": {"hosts": {"h": {"slots": 4}}}}},
            ["a"],
            ["b waiting_for_capacity", "c behind"],
        ),
        (
            {"pools": {"default": {"hosts": {"h": None}}}},
            [],
            ["a never_fits", "b never_fits", "c never_fits"],
        ),
        (
            {"jobs": [{"request_id": "new", "owner_id": "y", "priority": 1}]},
            ["new"],
            BLOCKED,
        ),
        (
            {"jobs": [{"request_id": "new", "owner_id": "y"}], "pools": {"q": {"hosts": {"n": {"gpu": 1}}}}},
            [],
            ["new behind", *BLOCKED],
        ),
        (
            {
                "jobs": [{"request_id": "new", "owner_id": "y", "data": {"host_aggregate": "q"}}],
                "pools": {"q": {"hosts": {"n": {"slots": 1}}}},
            },
            ["new"],
            BLOCKED,
        ),
        (
            {"jobs": [{"request_id": "new", "owner_id": "y", "data": two(9)}]},
            [],
            ["new never_fits", *BLOCKED],
        ),
    ],
)
async def test_it_says_who_would_go_and_who_would_wait(busy, namespace, real_redis, asked, admitted, waiting):
    assert await simulate(busy, namespace, real_redis, **asked) == (admitted, waiting, False)


async def test_what_it_says_is_what_then_happens(busy, namespace, real_redis):
    would, _, _ = await simulate(
        busy, namespace, real_redis, moves=[{"request_id": "b", "position": "front"}]
    )
    await ask(busy, "POST", "/v1/vm/b", {"position": "front"})
    await busy.settle()
    now = {j["RequestID"]: j["Status"] for j in (await ask(busy, "GET", "/v1/vm/")).data}
    assert [name for name, status in now.items() if status != "queued" and name != "r"] == would == ["b"]


async def test_there_is_more_than_it_looks_at(busy, namespace, real_redis):
    jobs = [{"request_id": f"n{n}", "owner_id": "y", "data": {"host_aggregate": f"p{n}"}} for n in range(30)]
    pools = {f"p{n}": {"hosts": {"n": {"slots": 1}}} for n in range(30)}
    admitted, _, more = await simulate(busy, namespace, real_redis, jobs=jobs, pools=pools)
    assert (len(admitted), more) == (20, True)


@pytest.mark.parametrize(
    ("asked", "status", "code", "field"),
    [
        ([], 422, "invalid", None),
        ({"nonsense": 1}, 422, "unknown_field", "nonsense"),
        ({"moves": {}}, 422, "invalid", "moves"),
        ({"moves": [{}] * 101}, 422, "invalid", "moves"),
        ({"moves": [5]}, 422, "invalid", "moves.0"),
        ({"moves": [{"request_id": "a"}]}, 422, "invalid", "moves.0"),
        ({"moves": [{"request_id": "a", "status": "done"}]}, 422, "unknown_field", "moves.0.status"),
        (
            {"moves": [{"request_id": "b", "position": "front"}, {"request_id": "x", "priority": 1}]},
            404,
            "job_not_found",
            "moves.1",
        ),
        ({"moves": [{"request_id": "r", "priority": 1}]}, 409, "illegal_transition", "moves.0.status"),
        ({"moves": [{"request_id": "a", "after": "a"}]}, 409, "neighbour_is_self", "moves.0"),
        ({"pools": {"p": {}}}, 422, "invalid", "pools.p"),
        ({"pools": {"p": None}}, 422, "invalid", "pools.p"),
        ({"pools": {"": {"hosts": {}}}}, 422, "invalid", "pool"),
        ({"pools": {"p": {"hosts": {"a/b": {"slots": 1}}}}}, 422, "invalid", "pools.p.hosts.a/b"),
        ({"pools": {"p": {"hosts": {"h": {"slots": -1}}}}}, 422, "invalid_demand", "pools.p.hosts.h.slots"),
        ({"pools": {"p": {"hosts": {"h": {}}}}}, 422, "invalid_demand", "pools.p.hosts.h"),
        ({"jobs": [{"request_id": "n"}]}, 422, "invalid", "jobs.0.owner_id"),
        (
            {"jobs": [{"request_id": "n", "owner_id": "y", "callback": "c"}]},
            422,
            "unknown_field",
            "jobs.0.callback",
        ),
        ({"jobs": [{"request_id": "a", "owner_id": "y"}]}, 409, "duplicate_request_id", "jobs.0.request_id"),
        (
            {"jobs": [{"request_id": "n", "owner_id": "y", "data": two(-1)}]},
            422,
            "invalid_demand",
            "jobs.0.data.instances.0.slots",
        ),
        ({"pool": ""}, 422, "invalid", "pool"),
        ({"pool": 5}, 422, "invalid", "pool"),
    ],
)
async def test_what_is_refused(busy, namespace, real_redis, asked, status, code, field):
    before = await everything(real_redis, namespace)
    answer = await ask(busy, "POST", PATH, asked)
    refused(answer, status, code, field)
    assert await everything(real_redis, namespace) == before


@pytest.mark.parametrize("role", Role)
async def test_each_is_told_what_they_may_know(api: Guarded, role: str) -> None:  # noqa: F811
    service = api.service
    await service.store.configure("vm", {"paused": None})
    await api.ask("admin", "POST", "/v1/vm/", [job(OTHER, owner_id=OTHER), job("o2", owner_id=OTHER)])
    await api.ask("admin", "POST", "/v1/vm/", job(OWN, owner_id=OWN))
    await service.settle()
    client = role == Role.CLIENT
    assert (await api.ask(role, "POST", PATH, {})).data["admitted"] == []
    for body, who in (
        ({"moves": [{"request_id": OTHER, "position": "back"}]}, (Role.OPERATOR, Role.ADMIN)),
        ({"pools": {"default": {"hosts": {"h": {"slots": 9}}}}}, (Role.VIEWER, Role.OPERATOR, Role.ADMIN)),
        ({"jobs": [{"request_id": "n", "owner_id": OTHER}]}, (Role.OPERATOR, Role.ADMIN)),
        ({"jobs": [{"request_id": "n", "owner_id": OWN}]}, (Role.CLIENT, Role.OPERATOR, Role.ADMIN)),
        (
            {"jobs": [{"request_id": "n", "owner_id": OWN, "priority": 1}]},
            (Role.OPERATOR, Role.ADMIN),
        ),
    ):
        answer = await api.ask(role, "POST", PATH, body)
        assert answer.status == (200 if role in who else 403), (body, answer.text)
    await api.ask("admin", "PUT", "/queues/vm/pools/default", {"hosts": {"h": {"slots": 1}}})
    await api.ask("admin", "POST", "/v1/vm/", [job("last", owner_id=OTHER), job("mine", owner_id=OWN)])
    await service.settle()
    shown = (await api.ask(role, "POST", PATH, {"pool": "default"})).data["waiting"]
    assert {found["OwnerID"] for found in shown} == ({OWN} if client else {OWN, OTHER})
