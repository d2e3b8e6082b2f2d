"""Jobs over HTTP: created, shown, changed, moved, released."""

import pytest
from aiohttp import web

from tests.conftest import START
from tests.invariants import capacity_kept, check
from tests.web.wire import ask, ask_raw, job, refused, well_formed

SEED_FIELDS = [
    *("ID", "CreatedAt", "UpdatedAt", "DeletedAt", "RequestID", "Type", "OwnerID", "Data", "Callback"),
    *("Priority", "Status"),
]
MOMENT = "2027-01-15T08:00:00.000000+00:00"  # at which the test's clock stands


async def order(service) -> list[str]:
    return [found["RequestID"] for found in (await ask(service, "GET", "/v1/vm/?status=queued")).data]


async def room(service, slots: int, **pool) -> None:
    body = {"hosts": {"h": {"slots": slots}}, **pool}
    assert (await ask(service, "PUT", "/queues/vm/pools/default", body)).status == 200


async def test_create_answers_with_the_job(service):
    made = (await ask(service, "POST", "/v1/vm/", job(data={"b": 1, "a": {"d": 1, "c": "é"}}))).data
    assert list(made) == SEED_FIELDS
    assert made == {
        "ID": 1,
        "CreatedAt": MOMENT,
        "UpdatedAt": MOMENT,
        "DeletedAt": None,
        "RequestID": "a",
        "Type": "vm",
        "OwnerID": "y",
        "Data": '{"a":{"c":"é","d":1},"b":1,"host_aggregate":"default"}',
        "Callback": "cb-a",
        "Priority": START,
        "Status": "queued",
    }


async def test_create_of_a_list_answers_with_a_list_in_its_order(service, real_redis, namespace):
    bodies = [job("c"), job("a", priority=5), job("b")]
    made = (await ask(service, "POST", "/v1/vm/", bodies)).data
    assert [(j["RequestID"], j["ID"], j["Priority"]) for j in made] == [
        *(("c", 1, START), ("a", 2, 5), ("b", 3, START + 1))
    ]
    assert await order(service) == ["a", "c", "b"]
    one = (await ask(service, "POST", "/v1/vm/", [job("d")])).data
    assert [j["RequestID"] for j in one] == ["d"]
    await check(real_redis, namespace)


async def test_a_thousand_jobs_are_created_at_once(service):
    bodies = [job(str(number)) for number in range(1000)]
    made = (await ask(service, "POST", "/v1/vm/", bodies)).data
    assert [j["RequestID"] for j in made] == await order(service) == [b["request_id"] for b in bodies]


@pytest.mark.parametrize("priority", [0, -1, 83334, 2**53 - 1, -(2**53 - 1), None])
async def test_create_takes_a_priority(service, priority):
    made = (await ask(service, "POST", "/v1/vm/", job(priority=priority))).data
    assert made["Priority"] == (START if priority is None else priority)
    assert (await ask(service, "GET", "/v1/vm/a")).data["Priority"] == made["Priority"]


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        (job("a", callback="other"), "duplicate_request_id", "request_id"),
        (job("b", callback="cb-a"), "duplicate_callback", "callback"),
        (job("a"), "duplicate_request_id", "request_id"),
    ],
)
@pytest.mark.parametrize("ended", [False, True])
async def test_a_duplicate_is_refused_and_the_holder_named(service, body, code, field, ended):
    await ask(service, "POST", "/v1/vm/", job())
    for _ in range(ended):
        await ask(service, "DELETE", "/v1/vm/a")
    assert "'a'" in refused(await ask(service, "POST", "/v1/vm/", body), 409, code, field)
    assert (await ask(service, "POST", "/v1/kube/", body)).status == 201


async def test_a_name_is_free_again_once_the_job_is_forgotten(service, clock):
    await ask(service, "POST", "/v1/vm/", job())
    await ask(service, "DELETE", "/v1/vm/a")
    clock.forward(24 * 3600 - 1)
    await service.settle()
    assert (await ask(service, "GET", "/v1/vm/a")).data["Status"] == "cancelled"
    clock.forward(2)
    await service.settle()
    refused(await ask(service, "GET", "/v1/vm/a"), 404, "job_not_found")
    assert (await ask(service, "POST", "/v1/vm/", job())).data["ID"] == 2


async def test_a_waiting_job_says_where_it_stands_and_why(service):
    await room(service, 1)
    await ask(
        service, "POST", "/v1/vm/", [job("r"), job("a"), job("b"), job("z", data={"host_aggregate": "none"})]
    )
    await service.settle()

    async def shown(name: str) -> dict:
        found = (await ask(service, "GET", f"/v1/vm/{name}")).data
        return {field: found[field] for field in list(found)[len(SEED_FIELDS) :]}

    wait = {"EstimatedStart": None}
    no_room = "waiting_for_capacity: pool default has no host with 1 slots free (most is 0 on h)"
    too_large = "never_fits: no host of pool default has 2 slots (most is 1)"
    assert await shown("a") == {"Position": 0, "Ahead": 0, "Reason": no_room, **wait}
    assert await shown("b") == {
        "Position": 1,
        "Ahead": 1,
        "Reason": "behind: 1 job before it waits for pool default",
        **wait,
    }
    assert await shown("z") == {
        "Position": 2,
        "Ahead": 0,
        "Reason": "no_pool: pool none is not declared",
        **wait,
    }
    assert await shown("r") == {"Placement": ["h"], "Attempts": 1}
    await ask(service, "POST", "/v1/vm/", job("huge", data={"instances": [{"slots": 2}]}, priority=1))
    await service.settle()
    assert await shown("huge") == {"Position": 0, "Ahead": 0, "Reason": too_large, **wait}
    await ask(service, "PUT", "/queues/vm", {"paused": True})
    assert (await shown("a"))["Reason"] == "paused: queue vm is paused"


async def test_a_placement_names_the_host_of_each_instance(service, real_redis, namespace):
    hosts = {"n1": {"gpu": 1, "cpu": "1500m"}, "n2": {"gpu": 2, "cpu": 4}}
    await ask(service, "PUT", "/queues/vm/pools/p", {"hosts": hosts})
    instances = [{"gpu": 2, "cpu": 2}, {"gpu": 1, "cpu": "1.5"}]
    await ask(service, "POST", "/v1/vm/", job(data={"host_aggregate": "p", "instances": instances}))
    await service.settle()
    assert (await ask(service, "GET", "/v1/vm/a")).data["Placement"] == ["n2", "n1"]
    await check(real_redis, namespace)
    await capacity_kept(real_redis, namespace)


async def test_a_failure_leaves_its_reason(service, receiver, clock, real_redis, namespace):
    receiver.answer = lambda request: web.Response(status=503, headers={"Retry-After": "60"})
    await room(service, 1)
    await ask(service, "PUT", "/queues/vm", {"call_deadline": 100})
    await ask(service, "POST", "/v1/vm/", job(callback=f"{receiver.url}/a"))
    await service.settle()
    tried = (await ask(service, "GET", "/v1/vm/a")).data
    assert (tried["Status"], tried["Attempts"], tried["Placement"]) == ("calling", 1, ["h"])
    assert "503" in tried["LastError"]
    for _ in range(2):
        clock.forward(61)
        await service.settle()
    failed = (await ask(service, "GET", "/v1/vm/a")).data
    assert (failed["Status"], failed["Attempts"]) == ("failed", 2)
    assert "503" in failed["LastError"]
    assert failed["DeletedAt"] == failed["UpdatedAt"] != MOMENT
    assert "Placement" not in failed
    await check(real_redis, namespace)
    assert (await ask(service, "POST", "/v1/vm/a", {"status": "queued"})).data == {}
    again = (await ask(service, "GET", "/v1/vm/a")).data
    assert (again["Status"] in ("queued", "calling"), again["DeletedAt"]) == (True, None)


@pytest.mark.parametrize(
    ("body", "after", "priorities"),
    [
        ({"position": "front"}, "bacd", {"b": 99}),
        ({"position": "back"}, "acdb", {"b": 401}),
        ({"before": "a"}, "bacd", {"b": 99}),
        ({"before": "d"}, "acbd", {"b": 350}),
        ({"after": "d"}, "acdb", {"b": 401}),
        ({"after": "c"}, "acbd", {"b": 350}),
        ({"after": "c", "before": "d"}, "acbd", {"b": 350}),
        ({"after": "a", "before": "d"}, "abcd", {"b": 200}),
        ({"priority": 400}, "acdb", {"b": 400}),
        ({"priority": 100}, "abcd", {"b": 100}),
        ({"priority": 83334}, "acdb", {"b": 83334}),
        ({"priority": 200}, "abcd", {"b": 200}),
        ({"before": "c"}, "abcd", {"b": 200}),
    ],
)
async def test_a_job_moves_where_it_is_asked_to_and_no_other_changes(
    service, real_redis, namespace, body, after, priorities
):
    before = {name: (n + 1) * 100 for n, name in enumerate("abcd")}
    await ask(service, "POST", "/v1/vm/", [job(name, priority=p) for name, p in before.items()])
    for _ in range(2):
        assert (await ask(service, "POST", "/v1/vm/b", body)).data == {}
        listed = (await ask(service, "GET", "/v1/vm/")).data
        assert "".join(found["RequestID"] for found in listed) == after
        assert {j["RequestID"]: j["Priority"] for j in listed} == before | priorities
    await check(real_redis, namespace)


@pytest.mark.parametrize("preference", ["return=representation", "respond-async, return=representation"])
async def test_a_change_answers_with_the_job_where_that_is_preferred(service, preference):
    await ask(service, "POST", "/v1/vm/", job())
    for method, body, status in (("POST", {"priority": 7}, "queued"), ("DELETE", None, "cancelled")):
        changed = await ask(service, method, "/v1/vm/a", body, headers={"Prefer": preference})
        assert list(changed.data)[: len(SEED_FIELDS)] == SEED_FIELDS
        assert (changed.data["Priority"], changed.data["Status"]) == (7, status)


@pytest.mark.parametrize(
    ("body", "data", "callback"),
    [
        ({"data": {"z": 1, "a": 2}}, '{"a":2,"host_aggregate":"default","z":1}', "cb-a"),
        ({"data": {}}, '{"host_aggregate":"default"}', "cb-a"),
        ({"callback": "new"}, '{"host_aggregate":"default","old":1}', "new"),
        ({"callback": "cb-a"}, '{"host_aggregate":"default","old":1}', "cb-a"),
        ({"data": {"project": "p"}, "callback": "new"}, '{"host_aggregate":"special","project":"p"}', "new"),
        ({"data": {"host_aggregate": "x/y"}}, '{"host_aggregate":"x/y"}', "cb-a"),
    ],
)
async def test_data_and_callback_change_while_a_job_waits(
    service, real_redis, namespace, body, data, callback
):
    await ask(service, "PUT", "/queues/vm/pools/special", {"hosts": {}, "projects": ["p"]})
    await ask(service, "POST", "/v1/vm/", [job(data={"old": 1}), job("b")])
    assert (await ask(service, "POST", "/v1/vm/a", body)).data == {}
    found = (await ask(service, "GET", "/v1/vm/a")).data
    assert (found["Data"], found["Callback"], found["Position"]) == (data, callback, 0)
    await check(real_redis, namespace)


async def test_a_callback_that_was_given_up_is_free(service):
    await ask(service, "POST", "/v1/vm/", job())
    await ask(service, "POST", "/v1/vm/a", {"callback": "new"})
    assert (await ask(service, "POST", "/v1/vm/", job("b", callback="cb-a"))).status == 201
    answer = await ask(service, "POST", "/v1/vm/", job("c", callback="new"))
    assert "'a'" in refused(answer, 409, "duplicate_callback", "callback")


async def test_less_demand_lets_a_job_go(service):
    await room(service, 1)
    await ask(service, "POST", "/v1/vm/", job(data={"instances": [{"slots": 2}]}))
    await service.settle()
    assert (await ask(service, "GET", "/v1/vm/a")).data["Reason"].startswith("never_fits: ")
    await ask(service, "POST", "/v1/vm/a", {"data": {"instances": [{"slots": 1}]}})
    await service.settle()
    assert (await ask(service, "GET", "/v1/vm/a")).data["Status"] == "running"


@pytest.mark.parametrize(
    ("method", "body"), [("DELETE", None), ("POST", {"status": "done"}), ("POST", {"status": "queued"})]
)
async def test_what_a_running_job_gives_back_goes_to_the_next(service, real_redis, namespace, method, body):
    await room(service, 1)
    await ask(service, "POST", "/v1/vm/", [job("a"), job("b", data={"host_aggregate": "default"})])
    await service.settle()
    assert (await ask(service, "POST", "/v1/vm/b", {"priority": 1})).data == {}
    assert (await ask(service, method, "/v1/vm/a", body)).data == {}
    await service.settle()
    first, second = [(await ask(service, "GET", f"/v1/vm/{name}")).data for name in "ab"]
    assert (first["Status"], second["Status"]) == (
        "queued" if body == {"status": "queued"} else "done",
        "running",
    )
    assert "Placement" not in first
    await check(real_redis, namespace)
    await capacity_kept(real_redis, namespace)


async def test_deleting_a_waiting_job_cancels_it(service, real_redis, namespace):
    await ask(service, "POST", "/v1/vm/", [job("a"), job("b")])
    assert (await ask(service, "DELETE", "/v1/vm/a")).data == {}
    ended = (await ask(service, "GET", "/v1/vm/a")).data
    assert (ended["Status"], ended["DeletedAt"]) == ("cancelled", MOMENT)
    assert list(ended) == SEED_FIELDS
    assert await order(service) == ["b"]
    await check(real_redis, namespace)


async def test_renewing_a_lease_keeps_a_job_running(service, clock):
    await room(service, 1)
    await ask(service, "PUT", "/queues/vm", {"lease_seconds": 60})
    await ask(service, "POST", "/v1/vm/", job())
    await service.settle()
    for _ in range(3):
        clock.forward(50)
        assert (await ask(service, "POST", "/v1/vm/a", {"status": "running"})).data == {}
        await service.settle()
    assert (await ask(service, "GET", "/v1/vm/a")).data["Status"] == "running"
    clock.forward(61)
    await service.settle()
    assert (await ask(service, "GET", "/v1/vm/a")).data["Status"] == "expired"


@pytest.mark.parametrize(("path", "status"), [("/v1/vm/a", 200), ("/v1/vm/a/", 200), ("/v1/vm/b", 404)])
async def test_head_is_get_without_the_body(service, path, status):
    await ask(service, "POST", "/v1/vm/", job())
    answer = await ask_raw(service, f"HEAD {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"Content-Type: application/json" in head
    assert body == b""


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("ID", value) for value in ("", "x", "1.5")),
        *(("Priority", value) for value in ("", "x", "1.5", "inf")),
        *(("Status", value) for value in ("", "lost")),
        *(("CreatedAt", value) for value in ("", "yesterday", "9" * 30)),
        *(("Placement", value) for value in ("{", "5", "null")),
        ("Attempts", "many"),
    ],
)
async def test_a_hand_edit_is_no_fault_of_the_service(service, real_redis, namespace, field, value):
    """It answers in the one shape and goes on with the others."""
    await ask(service, "POST", "/v1/vm/", [job("a"), job("b")])
    await real_redis.hset(f"{namespace}:{{vm}}:job:a", field, value)
    said = well_formed(await ask(service, "GET", "/v1/vm/a"))["error"]["code"]
    assert said in ("store_damaged", "job_not_found")
    for body in ({"priority": 5}, {"status": "done"}, {"data": {}}):
        answer = await ask(service, "POST", "/v1/vm/a", body, headers={"Prefer": "return=representation"})
        well_formed(answer)
        assert answer.status in (200, 404, 409, 503)
    await service.settle()
    assert (await ask(service, "GET", "/v1/vm/b")).data["Status"] == "queued"
