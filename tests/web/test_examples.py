"""What the OpenAPI document shows of refusals is what the service says, word for word."""

from typing import Any

import pytest

from rqueue import errors
from rqueue.domain.caller import Caller, Right, Role
from rqueue.web.examples import REFUSED
from tests.conftest import Service
from tests.web.wire import ask, job

LONG = "a" * 257
# Code → a call that is refused by it, after those of `line`.
CALLS: dict[str, tuple[str, str, Any]] = {
    "bad_request": ("GET", "/v1/vm%FF/", None),
    "duplicate_callback": ("POST", "/v1/vm/", job("e", callback="abc")),
    "duplicate_request_id": ("POST", "/v1/vm/", job("d")),
    "illegal_transition": ("DELETE", "/v1/gone/d", None),
    "invalid": ("POST", "/v1/vm/", job("e", owner_id=LONG)),
    "invalid_callback": ("POST", "/v1/vm/", job("e", callback="ftp://host/")),
    "invalid_demand": ("POST", "/v1/vm/", job("e", data={"instances": [{}]})),
    "job_not_found": ("GET", "/v1/other/d", None),
    "neighbour_is_self": ("POST", "/v1/vm/d", {"before": "d"}),
    "neighbour_not_queued": ("POST", "/v1/vm/d", {"before": "x"}),
    "neighbours_reversed": ("POST", "/v1/vm/d", {"after": "z", "before": "y"}),
    "not_found": ("GET", "/v2/", None),
    "method_not_allowed": ("PATCH", "/v1/vm/d", None),
    "not_json": ("POST", "/v1/vm/", b""),
    "pool_not_found": ("GET", "/queues/vm/pools/p9", None),
    "project_taken": ("PUT", "/queues/vm/pools/p2", {"hosts": {}, "projects": ["project id"]}),
    "queue_full": ("POST", "/v1/full/", job("e")),
    "unknown_field": ("POST", "/v1/vm/", job("e", colour="red")),
    "wrong_source": ("PUT", "/queues/vm", {"source": "openstack"}),
}


@pytest.fixture
async def line(service: Service) -> Service:
    await service.store.configure("full", {"max_queued": 0})
    await ask(service, "PUT", "/queues/vm/pools/p1", {"hosts": {}, "projects": ["project id"]})
    for type_, request_id, callback in (
        ("vm", "d", "abc"),
        ("vm", "y", "y"),
        ("vm", "z", "z"),
        ("gone", "d", "d"),
    ):
        await ask(service, "POST", f"/v1/{type_}/", job(request_id, callback=callback))
    await ask(service, "DELETE", "/v1/gone/d")
    return service


async def test_what_is_shown_of_refusals_is_what_is_said(line: Service) -> None:
    differ = {}
    for code, (method, path, body) in CALLS.items():
        error = (await ask(line, method, path, body)).json["error"]
        message, field = REFUSED[code]
        # A finished job stands in a type of its own here.
        said = error["message"].replace("'gone'", "'vm'").replace("'other'", "'vm'").replace("'full'", "'vm'")
        if (error["code"], said, error.get("field", "")) != (code, message, field):
            differ[code] = error
    assert differ == {}


def test_who_may_not_is_told_so() -> None:
    with pytest.raises(errors.Forbidden) as refused:
        Caller("alice", Role.OPERATOR).must(Right.WRITE_QUEUES, "patience")
    assert (refused.value.message, refused.value.field) == REFUSED["forbidden"]
