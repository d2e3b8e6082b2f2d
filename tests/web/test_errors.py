"""Bad input and wrong paths: each the right status, code and field, in the one shape."""

import json
from urllib.parse import quote

import pytest

from rqueue.app import build
from rqueue.errors import InvalidCallback
from rqueue.web.context import CHECK_CALLBACK
from tests.conftest import config_of, serving
from tests.web.wire import ask, ask_raw, job, refused, well_formed

BIG = 2**53


def as_written(**changes: str) -> str:
    """A create whose named fields are written exactly so, JSON or not."""
    fields = {name: json.dumps(value) for name, value in job().items()} | changes
    return "{" + ",".join(f'"{name}":{text}' for name, text in fields.items()) + "}"


def asking_for(instances: object) -> dict:
    return job(data={"instances": instances})


CREATES = [
    # not JSON
    *(
        (text, 400, "not_json", None)
        for text in ("", " ", "{", "{]", "{'a': 1}", "nonsense", "\ufeff{}", "{}{}")
    ),
    (b"\xff\xfe", 400, "not_json", None),
    (b'{"request_id": "\xc3"}', 400, "not_json", None),
    (as_written(request_id='"\\ud800"'), 400, "not_json", None),
    (as_written(data='{"a": "\\udc00x"}'), 400, "not_json", None),
    (as_written(priority="NaN"), 400, "not_json", None),
    (as_written(data='{"a": Infinity}'), 400, "not_json", None),
    ("[" * 100_000, 400, "not_json", None),
    # JSON, but no job
    *((text, 422, "invalid", None) for text in ("null", "true", "5", "1.5", '"text"')),
    # fields that are missing, unknown, or of another type
    ({}, 422, "invalid", "request_id"),
    *(({k: v for k, v in job().items() if k != n}, 422, "invalid", n) for n in job()),
    (job(extra=1), 422, "unknown_field", "extra"),
    (job(Priority=1), 422, "unknown_field", "Priority"),
    (job(status="queued"), 422, "unknown_field", "status"),
    (job(position="front"), 422, "unknown_field", "position"),
    *((job(**{n: v}), 422, "invalid", n) for n in job() for v in (None, 1, True, [], {}, "")),
    *((job(data=value), 422, "invalid", "data") for value in (None, 1, True, "{}", [], [{}])),
    # names that are too long, in bytes
    *((job(**{n: v}), 422, "invalid", n) for n in ("request_id", "owner_id") for v in ("a" * 257, "虛" * 86)),
    (job(callback="http://h/" + "a" * 2040), 422, "invalid", "callback"),
    # priorities
    *(
        (job(priority=p), 422, "invalid", "priority")
        for p in (5.5, 5.0, "5", "", True, False, [], {}, BIG, -BIG)
    ),
    *(
        (as_written(priority=p), 422, "invalid", "priority")
        for p in ("1e3", "-0.0", "9" * 30, "-9007199254740993")
    ),
    # The number is beyond any double: some readers call that no JSON.
    (as_written(priority="1e400"), 400, "not_json", None),
    # what it asks for
    *(
        (asking_for(x), 422, "invalid_demand", "data.instances")
        for x in (None, 1, "x", {}, [], [{"a": 1}] * 1001)
    ),
    *((asking_for([{"a": 1}, x]), 422, "invalid_demand", "data.instances.1") for x in (None, 1, "a", [], {})),
    *(
        (asking_for([{"VCPU": amount}]), 422, "invalid_demand", "data.instances.0.VCPU")
        for amount in (-1, -0.5, 1.5, 1.0, None, True, "", "x", "1 Gi", "-1", "500m", [], {}, BIG, 2**64 - 1)
    ),
    (asking_for([{"": 1}]), 422, "invalid_demand", "data.instances.0"),
    *(
        (job(data={"host_aggregate": x}), 422, "invalid", "data.host_aggregate")
        for x in (1, "", [], "a" * 257)
    ),
    # data that cannot be kept as it is
    (as_written(data='{"a":' + "[" * 300 + "]" * 300 + "}"), 422, "invalid", "data"),
    (as_written(data='{"a": 18446744073709551616}'), 422, "invalid", "data"),
    (as_written(data='{"z": [-9223372036854775809]}'), 422, "invalid", "data"),
]

CALLBACKS = [
    *(
        "ftp://h/x",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "mailto:a@b",
        "unix:///run/x",
        "ws://h/",
        "x:y",
    ),
    *(
        "http://",
        "https://",
        "http:///x",
        "http:h/x",
        "http:/h",
        "http://:80/",
        "http://?x",
        "//host/x",
        "///x",
    ),
    *("\\\\host\\x", "http://h:99999/", "http://h:-1/", "http://h:x/", "http://[::1", "http://[x]/"),
    *("http://h/a b", " http://h/", "http://h/ ", "http://h h/", "a b", "ht tp://h"),
    *(
        "http://h/a\nb",
        "http://h/a\tb",
        "http://h/\x00",
        "http://h/\x7f",
        "\thttp://h/",
        "ht\rtp://h/",
        "a\nb",
    ),
    *(
        "http://169.254.169.254/",
        "http://169.254.169.254:80/x",
        "HTTP://169.254.169.254",
        "https://169.254.0.1",
    ),
    *("http://0xa9fea9fe/", "http://2852039166/", "http://0251.0376.0251.0376/", "http://169.254.43518/"),
    *("http://0xA9.0xFE.0xA9.0xFE/", "http://user@169.254.169.254/", "http://a:b@169.254.169.254/"),
    *("http://[::ffff:169.254.169.254]/", "http://[::ffff:a9fe:a9fe]/", "http://[0:0:0:0:0:FFFF:A9FE:A9FE]/"),
    *("http://[fe80::1]/", "http://[FE80::1]/", "http://[fe80::1%25eth0]/", "http://[febf::1]/"),
    *("http://0.0.0.0/", "http://0/", "http://[::]/", "http://224.0.0.1/", "http://[ff02::1]/"),
    *("http://\uff11\uff16\uff19.254.169.254/", "http://255.255.255.255/"),
]


def named(value: object) -> str:
    return ascii(value)[:60]


@pytest.mark.parametrize(("body", "status", "code", "field"), CREATES, ids=named)
async def test_a_create_that_cannot_be_read_creates_nothing(service, body, status, code, field):
    refused(await ask(service, "POST", "/v1/vm/", body), status, code, field)
    assert (await ask(service, "GET", "/v1/vm/")).data == []


@pytest.mark.parametrize("callback", CALLBACKS, ids=named)
async def test_a_callback_that_must_not_be_called_is_refused(service, callback):
    made = await ask(service, "POST", "/v1/vm/", job("b", callback="before"))
    before = made.data["Callback"]
    answer = await ask(service, "POST", "/v1/vm/", job(callback=callback))
    refused(answer, 422, "invalid_callback", "callback")
    answer = await ask(service, "POST", "/v1/vm/b", {"callback": callback})
    refused(answer, 422, "invalid_callback", "callback")
    (left,) = (await ask(service, "GET", "/v1/vm/")).data
    assert (left["RequestID"], left["Callback"]) == ("b", before)


@pytest.mark.parametrize(
    "callback", ["http://127.0.0.1/", "http://127.1/", "http://2130706433/", "http://[::ffff:127.0.0.1]/"]
)
async def test_loopback_is_refused_unless_it_is_allowed(service, redis_url, namespace, callback):
    assert (await ask(service, "POST", "/v1/vm/", job(callback=callback))).status == 201
    app = build(config_of(namespace, callback_allow=()), redis_url)
    with pytest.raises(InvalidCallback):
        app[CHECK_CALLBACK](callback)


@pytest.mark.parametrize(
    ("bad", "status", "code", "field"),
    [
        (job("b", priority="5"), 422, "invalid", "1.priority"),
        (job("b", extra=1), 422, "unknown_field", "1.extra"),
        ({}, 422, "invalid", "1.request_id"),
        (None, 422, "invalid", "1"),
        ([job("b")], 422, "invalid", "1"),
        (job("b", callback="ftp://h"), 422, "invalid_callback", "1.callback"),
        (job("b", data={"instances": [{"a": -1}]}), 422, "invalid_demand", "1.data.instances.0.a"),
        (job("b", data={"host_aggregate": 5}), 422, "invalid", "1.data.host_aggregate"),
        (job("a", callback="other"), 409, "duplicate_request_id", "1.request_id"),
        (job("b", callback="cb-a"), 409, "duplicate_callback", "1.callback"),
        (job("there", callback="other"), 409, "duplicate_request_id", "1.request_id"),
        (job("b", callback="cb-there"), 409, "duplicate_callback", "1.callback"),
    ],
    ids=named,
)
async def test_one_bad_job_of_a_list_is_named_and_none_is_created(service, bad, status, code, field):
    await ask(service, "POST", "/v1/vm/", job("there"))
    refused(await ask(service, "POST", "/v1/vm/", [job("a"), bad, job("c")]), status, code, field)
    assert [found["RequestID"] for found in (await ask(service, "GET", "/v1/vm/")).data] == ["there"]


@pytest.mark.parametrize(
    ("bad", "status", "code", "field"),
    [
        (job("b", priority="5"), 422, "invalid", "0.priority"),
        (job("there", callback="other"), 409, "duplicate_request_id", "0.request_id"),
        (job("b", callback="cb-there"), 409, "duplicate_callback", "0.callback"),
    ],
    ids=named,
)
async def test_a_list_of_one_names_the_index_too(service, bad, status, code, field):
    await ask(service, "POST", "/v1/vm/", job("there"))
    refused(await ask(service, "POST", "/v1/vm/", [bad]), status, code, field)


@pytest.mark.parametrize("count", [0, 1001])
async def test_a_list_has_1_to_1000_jobs(service, count):
    body = [job(str(n)) for n in range(count)]
    assert "1000" in refused(await ask(service, "POST", "/v1/vm/", body), 422, "invalid")
    assert (await ask(service, "GET", "/v1/vm/")).data == []


@pytest.mark.parametrize(
    "type_", ["text/plain", "application/x-www-form-urlencoded", "application/xml", "x/y"]
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/vm"), ("POST", "/v1/vm/a"), ("PUT", "/queues/vm"), ("PUT", "/queues/vm/pools/p")],
)
async def test_a_body_of_another_type_is_refused(service, method, path, type_):
    answer = await ask(service, method, path, json.dumps(job()), headers={"Content-Type": type_})
    assert "application/json" in refused(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
async def test_a_body_that_is_not_coded_as_it_says_is_refused(service, coding):
    answer = await ask_raw(
        service,
        b"POST /v1/vm HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 2\r\n"
        b"Content-Encoding: " + coding.encode() + b"\r\n\r\n{}",
    )
    assert answer.split(b" ")[1] in (b"400", b"415", b"422")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["ok"] is False


@pytest.mark.parametrize(
    "head",
    [
        b"POST /v1/vm HTTP/1.1\r\nHost: h\r\nConnection: close\r\nExpect: the unexpected",
        b"GET /v1/" + b"a" * 10_000 + b" HTTP/1.1\r\nHost: h\r\nConnection: close",
        b"nonsense",
    ],
    ids=named,
)
async def test_what_http_itself_refuses_has_the_one_shape_too(service, head):
    status, _, body = (await ask_raw(service, head + b"\r\n\r\n")).partition(b"\r\n\r\n")
    assert b" 4" in status[:13]
    assert list(json.loads(body)) == ["ok", "error"]


@pytest.mark.parametrize(
    "line", [b"GET /v1/vm", b"GET /v1/vm HTTP/0.9", b"GET /v1/vm HTTP/1.0", b"GET /v1/vm HTTP/2.0"]
)
async def test_what_is_not_asked_in_http_1_is_answered_as_if_it_were(service, line):
    answer = await ask_raw(service, line + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.0 200 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {"data": [], "ok": True}


@pytest.mark.parametrize(
    "line",
    [b"POST /no/such/place", b"OPTIONS *", b"POST /", b"CONNECT h:80", b"PATCH /v1/vm", b"POST /v1/vm"],
)
@pytest.mark.parametrize("expect", [b"the unexpected", b"\xff"])
async def test_an_expectation_is_refused_in_the_one_shape_wherever_it_comes(service, line, expect):
    head = b" HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 0\r\nExpect: " + expect
    status, _, body = (await ask_raw(service, line + head + b"\r\n\r\n")).partition(b"\r\n\r\n")
    assert b" 417 " in status[:20]
    assert json.loads(body)["error"]["code"] == "bad_request"


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/vm"), ("POST", "/v1/vm/a"), ("PUT", "/queues/vm"), ("PUT", "/queues/vm/pools/p")],
)
async def test_a_body_has_at_most_max_body_bytes(redis_url, real_redis, namespace, method, path):
    async with serving(config_of(namespace, max_body=1024), redis_url) as service:
        for body in ("x" * 1025, "x" * 100_000):
            assert "1024" in refused(await ask(service, method, path, body), 413, "too_large")
        refused(await ask(service, method, path, "x" * 1024), 400, "not_json")


CHANGES = [
    ({}, 422, "invalid", None),
    *((text, 422, "invalid", None) for text in ("null", "[]", "5", '"front"', '[{"priority": 1}]')),
    ("", 400, "not_json", None),
    ("{", 400, "not_json", None),
    *(
        (body, 422, "invalid", None)
        for body in (
            {"priority": 1, "position": "front"},
            {"priority": 1, "before": "b"},
            {"position": "back", "after": "b"},
            {"status": "running", "priority": 1},
            {"status": "queued", "data": {}},
            {"data": {}, "priority": 1},
            {"before": "b", "after": "c", "position": "front"},
        )
    ),
    ({"extra": 1}, 422, "unknown_field", "extra"),
    ({"priority": 1, "request_id": "z"}, 422, "unknown_field", "request_id"),
    ({"owner_id": "z"}, 422, "unknown_field", "owner_id"),
    *(({"priority": p}, 422, "invalid", "priority") for p in (None, 5.5, 1.0, "5", True, BIG, -BIG, [])),
    *(({"position": p}, 422, "invalid", "position") for p in (None, "", "middle", "Front", 0, True, [])),
    *(({"status": s}, 422, "invalid", "status") for s in (None, "", "failed", "Running", 1, [])),
    *(({n: v}, 422, "invalid", n) for n in ("before", "after") for v in (None, "", 1, [], "a" * 257)),
    *(({"data": d}, 422, "invalid", "data") for d in (None, 1, "{}", [])),
    ({"data": {"instances": []}}, 422, "invalid_demand", "data.instances"),
    ({"data": {"instances": [{"a": "x"}]}}, 422, "invalid_demand", "data.instances.0.a"),
    ({"data": {"host_aggregate": ""}}, 422, "invalid", "data.host_aggregate"),
    *(({"callback": c}, 422, "invalid", "callback") for c in (None, "", 1, [], "a" * 2049)),
    ({"callback": "cb-b"}, 409, "duplicate_callback", "callback"),
    *(({n: "gone"}, 409, "neighbour_not_queued", None) for n in ("before", "after")),
    *(({n: "r"}, 409, "neighbour_not_queued", None) for n in ("before", "after")),
    *(({n: "a"}, 409, "neighbour_is_self", None) for n in ("before", "after")),
    ({"after": "b", "before": "gone"}, 409, "neighbour_not_queued", None),
    ({"after": "r", "before": "b"}, 409, "neighbour_not_queued", None),
    ({"after": "a", "before": "b"}, 409, "neighbour_is_self", None),
    ({"after": "b", "before": "a"}, 409, "neighbour_is_self", None),
    ({"after": "c", "before": "b"}, 409, "neighbours_reversed", None),
    ({"after": "b", "before": "b"}, 409, "neighbours_reversed", None),
    *(({"status": s}, 409, "illegal_transition", "status") for s in ("running", "done", "queued", "calling")),
]


async def _line(service) -> None:
    """r runs; a, b and c wait."""
    await service.call("PUT", "/queues/vm/pools/default", {"hosts": {"h": {"slots": 1}}})
    for name in "rabc":
        await service.call("POST", "/v1/vm/", job(name))
        await service.settle()


@pytest.mark.parametrize(("body", "status", "code", "field"), CHANGES, ids=named)
async def test_a_change_that_cannot_be_changes_nothing(service, body, status, code, field):
    await _line(service)
    before = (await ask(service, "GET", "/v1/vm/")).data
    assert [(j["RequestID"], j["Status"]) for j in before] == [
        *(("r", "running"), ("a", "queued"), ("b", "queued"), ("c", "queued"))
    ]
    refused(await ask(service, "POST", "/v1/vm/a", body), status, code, field)
    assert (await ask(service, "GET", "/v1/vm/")).data == before


@pytest.mark.parametrize(
    "body",
    [
        *({"priority": 1}, {"position": "front"}, {"position": "back"}, {"before": "a"}, {"after": "a"}),
        *({"after": "a", "before": "b"}, {"data": {}}, {"callback": "new"}),
    ],
    ids=named,
)
async def test_a_running_job_stays_as_it_is(service, body):
    await _line(service)
    before = (await ask(service, "GET", "/v1/vm/r")).data
    message = refused(await ask(service, "POST", "/v1/vm/r", body), 409, "illegal_transition", "status")
    assert "running" in message
    assert (await ask(service, "GET", "/v1/vm/r")).data == before


@pytest.mark.parametrize(
    ("method", "body"),
    [
        ("POST", {"status": "running"}),
        ("POST", {"status": "done"}),
        ("POST", {"status": "queued"}),
        ("POST", {"position": "front"}),
        ("DELETE", None),
    ],
    ids=named,
)
@pytest.mark.parametrize(("name", "status"), [("a", "cancelled"), ("r", "done")])
async def test_what_has_ended_stays_ended(service, name, status, method, body):
    await _line(service)
    assert (await ask(service, "DELETE", f"/v1/vm/{name}")).data == {}
    answer = await ask(service, method, f"/v1/vm/{name}", body)
    assert status in refused(answer, 409, "illegal_transition", "status")


@pytest.mark.parametrize(
    ("method", "body"),
    [
        ("GET", None),
        ("DELETE", None),
        ("POST", {"priority": 1}),
        ("POST", {"status": "done"}),
        ("POST", {"data": {}}),
    ],
    ids=named,
)
async def test_a_job_that_is_not_there_is_not_found(service, method, body):
    await service.call("POST", "/v1/other/", job("gone"))
    answer = await ask(service, method, "/v1/vm/gone", body)
    assert "'gone'" in refused(answer, 404, "job_not_found")


@pytest.mark.parametrize(
    ("query", "code", "field"),
    [
        *(
            (f"limit={text}", "invalid", "limit")
            for text in (
                *("0", "-1", "abc", "10001", "1.5", "", "1e2", "9" * 5000),
                *("1_0", "+5", "%2B5", "%205", "5%0A", "%D9%A5", "%EF%BC%95", "0x5"),
            )
        ),
        *((f"cursor={text}", "invalid", "cursor") for text in ("x", "!!!", "%C3%A9", "AAAA", "MQ==", "Og==")),
        *((f"status={text}", "invalid", "status") for text in ("queue", "Queued", "", "QUEUED", "live")),
        *((f"owner_id={text}", "invalid", "owner_id") for text in ("a" * 257, "%E8%99%9B" * 86)),
        ("page=2", "unknown_field", "page"),
        ("Limit=1", "unknown_field", "Limit"),
        ("limit=1&=", "unknown_field", ""),
    ],
    ids=named,
)
async def test_a_list_that_cannot_be_asked_for_is_refused(service, query, code, field):
    refused(await ask(service, "GET", f"/v1/vm/?{query}"), 422, code, field)


@pytest.mark.parametrize(
    "query",
    [
        "owner_id=%ff",
        "owner_id=a%C3",
        "cursor=%ED%A0%80",
        "%ff=1",
        "limit=1&status=%C0%AF",
        "a=1&" * 20 + "b",
    ],
    ids=named,
)
async def test_a_query_that_is_no_utf8_or_has_no_end_is_refused(service, query):
    refused(await ask(service, "GET", f"/v1/vm?{query}"), 400, "bad_request")


async def test_an_owner_in_a_query_is_told_from_one_that_is_encoded_alike(service):
    for name in ("%ff", "%FF", "+", "a b", "\x00"):
        await ask(service, "POST", "/v1/vm", job(name, owner_id=name, callback=f"cb-{quote(name)}"))
        found = (await ask(service, "GET", f"/v1/vm?owner_id={quote(name)}")).data
        assert [one["OwnerID"] for one in found] == [name]


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        ({"policy": "lottery"}, 422, "invalid", "policy"),
        ({"source": "vmware"}, 422, "invalid", "source"),
        ({"haste": 60}, 422, "unknown_field", "haste"),
        ({"hold_seconds": -1}, 422, "invalid", "hold_seconds"),
        ({"paused": "yes"}, 422, "invalid", "paused"),
        ({"max_queued": -1}, 422, "invalid", "max_queued"),
        ({"max_queued": BIG}, 422, "invalid", "max_queued"),
        ({"call_deadline": 0}, 422, "invalid", "call_deadline"),
        ({"lease_seconds": 1.5}, 422, "invalid", "lease_seconds"),
        ({"retention": "1h"}, 422, "invalid", "retention"),
        ({"default_pool": ""}, 422, "invalid", "default_pool"),
        ({"counts": {}}, 422, "unknown_field", "counts"),
        ({"max_queued": 5, "paused": 1}, 422, "invalid", "paused"),
        *((text, 422, "invalid", None) for text in ("null", "[]", "5", '"paused"')),
        ("", 400, "not_json", None),
    ],
    ids=named,
)
async def test_settings_that_cannot_be_change_nothing(service, body, status, code, field):
    before = (await ask(service, "GET", "/queues/vm")).data
    refused(await ask(service, "PUT", "/queues/vm", body), status, code, field)
    assert (await ask(service, "GET", "/queues/vm")).data == before
    assert (await ask(service, "GET", "/queues/")).data == []


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        ({}, 422, "invalid", "hosts"),
        *(({"hosts": h}, 422, "invalid", "hosts") for h in (None, [], ["node-1"], "node-1", 1)),
        *(({"hosts": {h: {"a": 1}}}, 422, "invalid", f"hosts.{h}") for h in ("a/b", "/", "")),
        *(({"hosts": {"h": v}}, 422, "invalid_demand", "hosts.h") for v in (None, [], {}, 5)),
        *(
            ({"hosts": {"h": {"a": v}}}, 422, "invalid_demand", "hosts.h.a")
            for v in (-1, 1.5, "x", None, BIG)
        ),
        *(
            ({"hosts": {}, "projects": p}, 422, "invalid", "projects")
            for p in ("p", [1], [""], {}, ["p" * 257])
        ),
        ({"hosts": {}, "projects": ["taken"]}, 409, "project_taken", "projects"),
        ({"hosts": {}, "quotas": {"*": {"a": -1}}}, 422, "invalid_demand", "quotas.*.a"),
        ({"hosts": {}, "selector": "gpu=yes"}, 422, "invalid", "selector"),
        *((text, 422, "invalid", None) for text in ("null", "[]", "5")),
        ("{", 400, "not_json", None),
    ],
    ids=named,
)
async def test_a_pool_that_cannot_be_stays_as_it_was(service, body, status, code, field):
    await service.call("PUT", "/queues/vm/pools/other", {"hosts": {}, "projects": ["taken"]})
    await service.call("PUT", "/queues/vm/pools/p", {"hosts": {"n": {"a": 1}}, "projects": ["own"]})
    before = (await ask(service, "GET", "/queues/vm/pools/p")).data
    refused(await ask(service, "PUT", "/queues/vm/pools/p", body), status, code, field)
    assert (await ask(service, "GET", "/queues/vm/pools/p")).data == before


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_pool_that_is_not_there_is_not_found(service, method):
    refused(await ask(service, method, "/queues/vm/pools/p"), 404, "pool_not_found")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v2/vm/", "/queues/vm/pools", "/queues/vm/pools/p/x", "/nope", "/%ff"]
)
async def test_an_unknown_path_is_not_found(service, method, path):
    answer = await ask(service, method, path)
    refused(answer, 404, "not_found")


_COLLECTION, _JOB, _POOL = (
    {"GET", "HEAD", "POST"},
    {"GET", "HEAD", "POST", "DELETE"},
    {"GET", "HEAD", "PUT", "DELETE"},
)


@pytest.mark.parametrize("last", ["", "/"])
@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/vm", _COLLECTION),
        ("/v1/vm/a", _JOB),
        ("/queues", {"GET", "HEAD"}),
        ("/queues/vm", {"GET", "HEAD", "PUT"}),
        ("/queues/vm/pools/p", _POOL),
        ("/healthz", {"GET", "HEAD"}),
        ("/readyz", {"GET", "HEAD"}),
    ],
)
async def test_a_method_that_is_not_there_is_refused_with_those_that_are(service, path, last, allowed):
    for method in sorted({"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} - allowed):
        answer = await ask(service, method, path + last, "{}")
        refused(answer, 405, "method_not_allowed")
        assert set(answer.headers["Allow"].replace(" ", "").split(",")) == allowed


async def test_a_success_has_the_one_shape_of_successes(service):
    for method, path, body in [
        ("POST", "/v1/vm/", job()),
        ("GET", "/v1/vm/", None),
        ("GET", "/v1/vm/?limit=1", None),
        ("GET", "/v1/vm/a", None),
        ("POST", "/v1/vm/a", {"priority": 1}),
        ("DELETE", "/v1/vm/a", None),
        ("PUT", "/queues/vm", {}),
        ("PUT", "/queues/vm/pools/p", {"hosts": {}}),
        ("DELETE", "/queues/vm/pools/p", None),
        ("GET", "/healthz", None),
    ]:
        assert well_formed(await ask(service, method, path, body))["ok"] is True
