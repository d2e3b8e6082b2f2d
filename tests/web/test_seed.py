"""The seed's documented calls, replayed letter by letter: fields, their order, envelope, text of Data."""

import json
import re

import pytest

from tests.conftest import Service
from tests.web.wire import ask

CREATE = """{
  "request_id": "d",
  "owner_id": "y",
  "data": {
    "instances": [
      {
        "VCPU": 1,
        "Memory": 1,
        "Disk": 1
      }
    ],
    "project": "project id"
  },
  "callback": "abc"
}
"""
CREATED = r"""{
  "data": {
    "ID": 8,
    "CreatedAt": "2018-08-29T14:49:03.288817904+08:00",
    "UpdatedAt": "2018-08-29T14:49:03.288817904+08:00",
    "DeletedAt": null,
    "RequestID": "d",
    "Type": "vm",
    "OwnerID": "y",
    "Data": "{\"host_aggregate\":\"host1\",\"instances\":[{\"Disk\":1,\"Memory\":1,\"VCPU\":1}],\"project\":\"project id\"}",
    "Callback": "abc",
    "Priority": 2941082666988554,
    "Status": "queued"
  },
  "ok": true
}
"""  # noqa: E501
CHANGE = """{
  "priority": 83334
}
"""
CHANGED = """{
  "data": {},
  "ok": true
}
"""
ROOM_FOR_ONE = {"hosts": {"node-1": {"VCPU": 1, "Memory": 1, "Disk": 1}}, "projects": ["project id"]}
OTHER = CREATE.replace('"d"', '"a"').replace('"y"', '"x"').replace('"abc"', '"abd"')

_SEED = json.loads(CREATED)["data"]
FIELDS = list(_SEED)
QUEUED_FIELDS = ["Position", "Ahead", "Reason", "EstimatedStart"]
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+[+-]\d\d:\d\d")


def in_order(text: str) -> list:
    """JSON with every object as the list of its pairs, in the order of the text."""
    return json.loads(text, object_pairs_hook=lambda pairs: [list(pair) for pair in pairs])


def is_the_seeds(pairs: list, status: str, **changes: object) -> None:
    """Assert that a job has the seed's fields first, in order, with its values where they are not chance."""
    names, found = [name for name, _ in pairs], dict(pairs)
    assert names[: len(FIELDS)] == FIELDS
    chance = ("ID", "CreatedAt", "UpdatedAt", "Priority")
    same = {name: found[name] for name in FIELDS if name not in chance}
    assert same == {name: _SEED[name] for name in same} | {"Status": status} | changes
    assert MOMENT.fullmatch(found["CreatedAt"])
    assert MOMENT.fullmatch(found["UpdatedAt"])
    assert [type(found[name]) for name in ("ID", "Priority")] == [int, int]


@pytest.fixture
async def seeded(service: Service) -> Service:
    """A service with the pool of the seed: host1, for the project `project id`, with room for one job."""
    status, _ = await service.call("PUT", "/queues/vm/pools/host1", ROOM_FOR_ONE)
    assert status == 200
    return service


async def test_create(seeded):
    created = await ask(seeded, "POST", "/v1/vm/", CREATE)
    assert created.status == 201
    (data, job), *rest = in_order(created.text)
    assert (data, rest) == ("data", [["ok", True]])
    is_the_seeds(job, "queued")
    assert len(job) == len(FIELDS)


async def test_list(seeded):
    await ask(seeded, "POST", "/v1/vm/", CREATE)
    await ask(seeded, "POST", "/v1/vm/", OTHER)
    await seeded.settle()
    listed = await ask(seeded, "GET", "/v1/vm/")
    (data, (first, second)), *rest = in_order(listed.text)
    assert (listed.status, data, rest) == (200, "data", [["ok", True]])
    is_the_seeds(first, "running")
    is_the_seeds(second, "queued", RequestID="a", OwnerID="x", Callback="abd")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("owner_id=x&status=queued", [("queued", {"RequestID": "a", "OwnerID": "x", "Callback": "abd"})]),
        ("owner_id=y", [("running", {})]),
        ("owner_id=y&status=queued", []),
    ],
)
async def test_list_with_filters(seeded, query, found):
    await ask(seeded, "POST", "/v1/vm/", CREATE)
    await ask(seeded, "POST", "/v1/vm/", OTHER)
    await seeded.settle()
    listed = await ask(seeded, "GET", f"/v1/vm/?{query}")
    (data, jobs), *rest = in_order(listed.text)
    assert (listed.status, data, rest) == (200, "data", [["ok", True]])
    for pairs, (status, changes) in zip(jobs, found, strict=True):
        is_the_seeds(pairs, status, **changes)


@pytest.mark.parametrize("path", ["/v1/vm/d/", "/v1/vm/d"])
async def test_get(seeded, path):
    await ask(seeded, "POST", "/v1/vm/", CREATE)
    await seeded.settle()
    got = await ask(seeded, "GET", path, allow_redirects=False)
    (data, job), *rest = in_order(got.text)
    assert (got.status, data, rest) == (200, "data", [["ok", True]])
    is_the_seeds(job, "running")
    assert [name for name, _ in job[len(FIELDS) :]] == ["Placement", "Attempts"]


@pytest.mark.parametrize("path", ["/v1/vm/a", "/v1/vm/a/"])
async def test_change(seeded, path):
    await ask(seeded, "POST", "/v1/vm/", CREATE)
    await ask(seeded, "POST", "/v1/vm/", OTHER)
    await seeded.settle()
    changed = await ask(seeded, "POST", path, CHANGE, allow_redirects=False)
    assert (changed.status, in_order(changed.text)) == (200, in_order(CHANGED))
    after = in_order((await ask(seeded, "GET", path)).text)[0][1]
    is_the_seeds(after, "queued", RequestID="a", OwnerID="x", Callback="abd")
    assert dict(after)["Priority"] == 83334
    assert [name for name, _ in after[len(FIELDS) :]] == QUEUED_FIELDS
