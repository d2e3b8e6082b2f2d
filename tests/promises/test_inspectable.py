"""inspectable: all is readable and repairable with redis-cli, and a hand edit crashes nothing."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from aiohttp import web
from redis.asyncio import Redis

from rqueue.store.check import Check
from rqueue.store.connect import connect
from rqueue.store.keys import KEYS, Keys
from tests import invariants
from tests.conftest import Clock, Receiver, Service, config_of, serving

# A command with its words; "" as the key is that of the case.
Edit = Sequence[Any]
NONSENSE = ["", "nan", "inf", "-1", "1.5", "1e400", "9" * 30, "[[1", "null", b"\xff\xfe", "0x10", "x" * 3000]
# Two in the quick rings, all where there is time.
VALUES = pytest.mark.parametrize(
    "values",
    [["nan", b"\xff\xfe"], pytest.param(NONSENSE, marks=pytest.mark.thorough)],
    ids=["some", "all"],
)
SCORES = ["inf", "-inf", "0.5", "1e300", "-5", "9007199254740993"]
MEMBERS = [
    "",
    "stranger",
    "00000000100000:nobody",
    "zzzzzzzzzzzzzz:waits",
    b"\xff\xfe",
    b"00000000100000:\xff",
]
# What follows the prefixes, in a type as `prepared` leaves it.
NAMES = {"job:": "waits", "owner:": "y", "line:": "y/default", "history:": "called", "damaged:": "x"}
BY_OWNER = (
    "usage:",
    "quotas:",
    "passed:",
    "blocked:",
    "apart",
    "line:",
    "owners:",
    "shares:",
    "firsts:",
    "skipped:",
)
OF_KIND: dict[str, list[Edit]] = {
    "string": [("SET", "", "x")],
    "list": [("RPUSH", "", "x", "y")],
    "set": [("SADD", "", "x")],
    "hash": [("HSET", "", "x", "y")],
    "zset": [("ZADD", "", 1, "x")],
    "stream": [("XADD", "", "*", "x", "y")],
}
FIELDS = [
    *("ID", "CreatedAt", "UpdatedAt", "DeletedAt", "OwnerID", "Data", "Callback", "Priority", "Status"),
    *("Placement", "Attempts", "LastError", "Pool", "Demand", "Rank", "Admission", "AdmittedAt", "Deadline"),
    *("Nonce", "NextTry"),
]
JOBS = ["ran", "called", "waits", "ended"]


def calls(type_: str, url: str) -> list[tuple[str, str, Any]]:
    """Every route that reads or changes something, on jobs in every status."""
    jobs = f"/v1/{type_}"
    change = {"callback": f"{url}/changed/{type_}", "data": {"instances": [{"slots": 1}]}}
    return [
        ("GET", f"{jobs}/", None),
        ("GET", f"{jobs}/?owner_id=y", None),
        ("GET", f"{jobs}/?status=queued&limit=1", None),
        ("GET", f"{jobs}/?status=done", None),
        ("GET", f"/queues/{type_}", None),
        ("GET", "/queues/", None),
        ("GET", f"/queues/{type_}/pools/default", None),
        *(("GET", f"{jobs}/{job}", None) for job in JOBS),
        ("POST", f"{jobs}/waits", {"position": "front"}),
        ("POST", f"{jobs}/other", {"after": "waits"}),
        ("POST", f"{jobs}/waits", {"position": "back"}),
        ("POST", f"{jobs}/other", {"priority": 5}),
        ("POST", f"{jobs}/other", {"position": "front"}),
        (
            "POST",
            f"{jobs}/",
            {"request_id": "new", "owner_id": "y", "callback": f"{url}/new/{type_}"},
        ),
        ("POST", f"{jobs}/waits", change),
        ("GET", f"/queues/{type_}/events", None),
        ("GET", f"{jobs}/called/events", None),
        ("POST", f"{jobs}/called", {"status": "calling"}),
        ("POST", f"{jobs}/called", {"status": "running"}),
        ("POST", f"{jobs}/ran", {"status": "queued"}),
        ("POST", f"{jobs}/ended", {"status": "queued"}),
        ("PUT", f"/queues/{type_}", {"paused": False, "retention": 50}),
        ("DELETE", f"{jobs}/called", None),
        ("PUT", f"/queues/{type_}/pools/default", {"hosts": {"n": {"slots": 3}}, "projects": ["p"]}),
        *(("DELETE", f"{jobs}/{job}", None) for job in ("waits", "ran", "other")),
        ("DELETE", f"/queues/{type_}/pools/spare", None),
        ("GET", "/metrics", None),
    ]


class Case:
    """A service, and a type for each edit that is tried on it."""

    def __init__(self, service: Service, redis: "Redis", keys: Keys, receiver: Receiver) -> None:
        self.service, self.redis, self.keys, self.receiver = service, redis, keys, receiver
        self.count = 0
        # Whether types have quotas and the policy fair, so that the keys of those are there.
        self.fair = False

    async def prepared(self) -> str:
        """A new type: one job runs, one is called, two wait, one has ended; every key is there."""
        self.count += 1
        type_ = f"vm{self.count}"
        call = self.service.call
        for pool in ("default", "spare"):
            body = {"hosts": {"n": {"slots": 2}}, "projects": ["p"] if pool == "default" else []}
            body["quotas"] = {"*": {"slots": 100}} if self.fair else {}
            await call("PUT", f"/queues/{type_}/pools/{pool}", body)
        policy = "fair" if self.fair else "strict"
        await call("PUT", f"/queues/{type_}", {"lease_seconds": 100, "max_queued": 100, "policy": policy})
        bodies = [
            {"request_id": name, "owner_id": "y", "callback": f"{self.receiver.url}/{name}/{type_}"}
            for name in ("ended", "ran", "called", "waits", "other")
        ]
        assert (await call("POST", f"/v1/{type_}/", bodies))[0] == 201
        await self.service.settle()
        assert (await call("DELETE", f"/v1/{type_}/ended"))[0] == 200
        await self.service.settle()
        found = (await call("GET", f"/v1/{type_}/"))[1]["data"]
        assert [job["Status"] for job in found] == ["running", "calling", "queued", "queued"]
        return type_

    async def try_(self, type_: str, edits: Sequence[Edit], stops: bool) -> None:
        """All that the service does after these edits is done, refused, or said to be damaged, by its key.

        Unless the edit `stops` what is about the whole type, a job of the type still gets its turn.
        """
        for edit in edits:
            await self.redis.execute_command(*edit)
        await self.service.settle()
        for method, path, body in calls(type_, self.receiver.url):
            if path == "/metrics":
                async with self.service.client.get(self.service.url + path) as response:
                    assert response.status == 200
                continue
            status, answer = await self.service.call(method, path, body)
            if status >= 500:
                said = (status, answer["error"]["code"])
                assert said == (503, "store_damaged"), (edits, method, path, answer)
                assert self.keys.of(type_, "") in answer["error"]["message"], (edits, method, path, answer)
        await self.service.settle()
        # What a damaged job holds is held until that is mended.
        await self.service.call("PUT", f"/queues/{type_}/pools/default", {"hosts": {"n": {"slots": 1000}}})
        for of in ("kube",) if stops else ("kube", type_):
            name = f"sound-{of}-{self.count}"
            body = {"request_id": name, "owner_id": "y", "callback": f"{self.receiver.url}/{name}"}
            assert (await self.service.call("POST", f"/v1/{of}/", body))[0] == 201, edits
            await self.service.settle()
            assert f"/{name}" in {path for path, _, _ in self.receiver.calls}, (edits, of)
        self.receiver.calls.clear()

    async def mended(self, pipeline: Any, namespace: str, clock: Clock) -> None:
        """What is left of all that: found, mended, and then all keys agree and nothing is found."""
        async for _ in Check(pipeline, namespace, repair=True, now=clock).faults():
            pass
        left = [fault async for fault in Check(pipeline, namespace, now=clock).faults()]
        assert [fault for fault in left if fault.code not in ("foreign_key", "callback_shared")] == []
        # But of two jobs with one callback either may have it, and what is no text is left to a person.
        told = {fault.type for fault in left}
        for n in (n for n in range(1, self.count + 1) if f"vm{n}" not in told):
            await invariants.check(self.redis, namespace, f"vm{n}")


@pytest.fixture
async def case(
    redis_url: str,
    real_redis: "Redis",
    namespace: str,
    clock: Clock,
    receiver: Receiver,
    caplog: pytest.LogCaptureFixture,
) -> AsyncIterator[Case]:
    """The service, and at its end: no fault of its own in the log, and all that was broken is mended."""
    later = {"Retry-After": "5"}  # and no quick tries
    receiver.answer = lambda request: (
        web.Response(status=503, headers=later) if request.path.startswith("/called") else web.Response()
    )
    async with serving(config_of(namespace), redis_url, clock) as service:
        await service.call("PUT", "/queues/kube/pools/default", {"hosts": {"n": {"slots": 1000}}})
        case = Case(service, real_redis, Keys(namespace), receiver)
        yield case
        assert [record.getMessage() for record in caplog.records if record.exc_info] == []
        async with connect(redis_url) as pipeline:
            await case.mended(pipeline, namespace, clock)


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize(
    "kinds",
    [[None, "string"], pytest.param([*OF_KIND], marks=pytest.mark.thorough)],
    ids=["some", "all"],
)
async def test_a_key_may_be_gone_or_of_any_kind(case: Case, name: str, kinds: list[str | None]) -> None:
    kind = KEYS[name][0]
    for other in kinds:
        if other == kind:
            continue
        case.fair = name in BY_OWNER
        type_ = await case.prepared()
        key = case.keys.of(type_, name) + (NAMES.get(name, "default") if name.endswith(":") else "")
        edits: list[Edit] = [("DEL", key)]
        edits += [(edit[0], key, *edit[2:]) for edit in (OF_KIND[other] if other else [])]
        await case.try_(type_, edits, stops=name not in ("job:", "history:", "owner:", "events", "damaged:"))


@pytest.mark.parametrize("name", [name for name, (kind, _) in KEYS.items() if kind == "zset"])
async def test_members_and_scores_may_be_anything(case: Case, name: str) -> None:
    def edits(key: str, member: str) -> list[Edit]:
        return [
            *(("ZADD", key, score, member) for score in SCORES),
            *(("ZADD", key, score, made) for made, score in zip(MEMBERS, SCORES, strict=True)),
            ("ZREM", key, member),
        ]

    case.fair = name in BY_OWNER
    for n in range(len(edits("", ""))):
        type_ = await case.prepared()
        key = case.keys.of(type_, name) + (NAMES.get(name, "default") if name.endswith(":") else "")
        (member, *_) = await case.redis.zrange(key, 0, 0) or ["stranger"]
        await case.try_(type_, [edits(key, member)[n]], stops=True)


@pytest.mark.parametrize("field", FIELDS)
@VALUES
async def test_a_field_of_jobs_may_be_anything(case: Case, field: str, values: list[Any]) -> None:
    for value in [None, *values]:
        type_ = await case.prepared()
        keys = [case.keys.of(type_, "job:") + job for job in JOBS]
        edits = [("HDEL", key, field) if value is None else ("HSET", key, field, value) for key in keys]
        await case.try_(type_, edits, stops=False)


HASHES = [
    *(
        "capacity:",
        "used:",
        "usage:",
        "quotas:",
        "firsts:",
        "callbacks",
        "pools",
        "projects",
        "settings",
        "heads",
    ),
]


@pytest.mark.parametrize("name", HASHES)
@VALUES
async def test_fields_of_other_hashes_may_be_anything(case: Case, name: str, values: list[Any]) -> None:
    case.fair = name in BY_OWNER
    for value in [None, *values]:
        type_ = await case.prepared()
        key = case.keys.of(type_, name) + (NAMES.get(name, "default") if name.endswith(":") else "")
        fields = await case.redis.hkeys(key) + [b"\xff", "stranger", ""]
        edits = [("HDEL", key, f) if value is None else ("HSET", key, f, value) for f in fields]
        await case.try_(type_, edits, stops=True)


async def test_the_counter_may_be_anything(case: Case) -> None:
    for value in NONSENSE:
        type_ = await case.prepared()
        await case.try_(type_, [("SET", case.keys.of(type_, "seq"), value)], stops=True)


async def test_one_damaged_type_hides_no_other(case: Case) -> None:
    damaged, sound = await case.prepared(), await case.prepared()
    await case.redis.delete(key := case.keys.of(damaged, "ended"))
    await case.redis.set(key, "x")
    status, answer = await case.service.call("GET", "/queues/")
    assert status == 200
    shown = {queue["type"]: queue for queue in answer["data"]}
    assert shown[damaged]["error"]["code"] == "store_damaged"
    assert key in shown[damaged]["error"]["message"]
    assert shown[sound]["counts"] == {"queued": 2, "running": 2, "ended": 1}


async def test_without_the_types_those_that_were_known_go_on(case: Case) -> None:
    type_ = await case.prepared()
    await case.redis.delete(case.keys.types)
    await case.redis.set(case.keys.types, "x")
    status, answer = await case.service.call("GET", "/queues/")
    assert (status, answer["error"]["code"]) == (503, "store_damaged")
    assert case.keys.types in answer["error"]["message"]
    await case.service.call("DELETE", f"/v1/{type_}/ran")
    await case.redis.zadd(case.keys.of(type_, "due"), {"called": 0})
    case.receiver.calls.clear()
    await case.service.settle()
    assert {path.split("/")[1] for path, _, _ in case.receiver.calls} >= {"called"}
    body = {"request_id": "new", "owner_id": "y", "callback": f"{case.receiver.url}/new"}
    # Once a second the type is put there again.
    case.service.store._scripts._added.clear()
    status, answer = await case.service.call("POST", f"/v1/{type_}/", body)
    assert (status, answer["error"]["code"]) == (503, "store_damaged")
    assert case.keys.types in answer["error"]["message"]
    await case.redis.delete(case.keys.types)
    await case.redis.sadd(case.keys.types, type_, "kube")


async def test_a_list_behind_a_damaged_stamp_comes_to_its_end(case: Case) -> None:
    type_ = await case.prepared()
    await case.redis.hset(case.keys.of(type_, "job:waits"), "UpdatedAt", "nan")
    page = await case.service.store.page(type_, most=100, cursor="")
    assert page.cursor == ""
    seen, cursor = [], ""
    for _ in range(10):
        page = await case.service.store.page(type_, most=1, cursor=cursor)
        seen += [job.request_id for job in page.jobs]
        if not (cursor := page.cursor):
            break
    assert seen == ["ran", "called", "other"]


@pytest.mark.parametrize("score", ["1.5", "-inf", "inf", "1e300", "-1e-300"])
async def test_the_next_page_behind_any_score_is_there(case: Case, score: str) -> None:
    type_ = await case.prepared()
    key = case.keys.of(type_, "queue")
    (member, *_) = await case.redis.zrange(key, 0, 0)
    await case.redis.zadd(key, {member: score})
    seen, path = set(), f"/v1/{type_}/?status=queued&limit=1"
    for _ in range(3):
        status, answer = await case.service.call("GET", path)
        assert status == 200, answer
        seen |= {job["RequestID"] for job in answer["data"]}
        if not answer["next"]:
            break
        path = f"/v1/{type_}/?status=queued&limit=1&cursor={answer['next']}"
    else:
        pytest.fail("it does not end")
    assert seen == {"waits", "other"}
