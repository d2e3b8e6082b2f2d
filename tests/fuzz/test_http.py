"""Whatever bytes come: an answer that is HTTP, in the one shape, no fault of ours, and nothing broken."""

import asyncio
import hashlib
import json
import logging
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rqueue.web.routes import INBOX_ROUTES, LOGIN_ROUTES, ROUTES
from tests import invariants
from tests.conftest import Service, _emptied, config_of, redis_at, serving
from tests.fuzz.raw import Request, encoded, exchange, no_fault, written
from tests.web.wire import ask, refused

LONGER = int(os.environ.get("RQUEUE_TEST_FUZZ_SECONDS", "0"))
pytestmark = pytest.mark.timeout(120 + LONGER * 10)


def examples(most: int) -> Any:
    """So many, always the same; more and others where it is to take longer."""
    return settings(
        max_examples=most + LONGER * 30,
        derandomize=not LONGER,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )


Fuzzed = Callable[[Callable[[Service], Awaitable[None]]], None]


@pytest.fixture
def fuzzed(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    redis_url: str,
    namespace: str,
    caplog: pytest.LogCaptureFixture,
) -> Iterator[Fuzzed]:
    """Runs coroutines against one service, which afterwards is whole, has logged no fault, and serves."""

    async def after(service: Service) -> None:
        async with redis_at(redis_url) as redis:
            await service.settle()
            for type_ in await service.store.types():
                await invariants.check(redis, namespace, type_)
            status, _ = await service.call("POST", "/v1/last/", JOB)
            assert status == 201
            await _emptied(redis, namespace)

    @contextmanager
    def run() -> Iterator[Fuzzed]:
        with asyncio.Runner() as runner:
            guards: dict[str, Any] = {}
            if getattr(request, "param", "") == "guarded":
                (tmp_path / "t").write_text(TOKENS_FILE)
                guards = {"tokens_file": tmp_path / "t", "token_rate": 1_000_000}
            manager = serving(config_of(namespace, **guards), redis_url)
            service = runner.run(manager.__aenter__())
            service.client.headers["Authorization"] = f"Bearer {TOKEN}"
            try:
                yield lambda do: runner.run(do(service))
                runner.run(after(service))
            finally:
                runner.run(manager.__aexit__(None, None, None))

    with run() as do:
        yield do
    faults = [
        record
        for when in ("call", "teardown")
        for record in caplog.get_records(when)
        if record.levelno >= logging.ERROR
    ]
    assert not faults, [record.getMessage() for record in faults]


TOKEN = "a token of the test's own, which is long enough"
TOKENS_FILE = f"tokens: [{{name: a, role: admin, sha256: {hashlib.sha256(TOKEN.encode()).hexdigest()}}}]"
JOB = {"request_id": "a", "owner_id": "y", "callback": "last"}

# --- bytes -------------------------------------------------------------------------------------------

_nasty = st.sampled_from(
    [
        *(
            b"\xff",
            b"\xc3",
            b"\xed\xa0\x80",
            "é虛‮".encode(),
            b"%",
            b"%zz",
            b"%ff",
            b"%ED%A0%80",
            b"%00",
            b"%0A",
        ),
        *(
            b"%2F",
            b"..",
            b"%2e%2e",
            b"{}",
            b"*?[",
            b":",
            b";",
            b"#",
            b"?",
            b"\\",
            b'"',
            b"'",
            b" ",
            b"\t",
            b"\x00",
        ),
        *(b"\x7f", b"\x0b", b"%E8%99", b"a" * 257, b"%E8%99%9B" * 86, b"__proto__", b"a", b"vm"),
    ]
)
_bytes = st.lists(_nasty | st.binary(max_size=4), min_size=1, max_size=4).map(b"".join)
_line = _bytes.map(lambda value: value.translate(None, b"\r\n"))
_methods = st.sampled_from([b"GET", b"HEAD", b"POST", b"PUT", b"DELETE"])
_odd_methods = st.sampled_from(
    [b"OPTIONS", b"TRACE", b"PATCH", b"get", b"BREW", b"CONNECT", b"PRI", b"", b"\xff"]
)
_routes = st.sampled_from([path for _, path, _, _ in (*ROUTES, *LOGIN_ROUTES, *INBOX_ROUTES)])
_query = st.sampled_from(
    [b"owner_id", b"status", b"limit", b"cursor", b"x", b"limit=1", b"status=done", b"status=queued&limit"]
)


# What stands for a name: mostly what HTTP lets through, so that it comes to what reads it.
_part = st.sampled_from(
    [st.sampled_from([b"a", b"vm", b"%ff", b"a%C3", b"%ED%A0%80", b"%00", b"%", b"%zz"])] * 3
    + [_bytes.map(quote_from_bytes).map(str.encode)] * 5
    + [_line]
).flatmap(lambda chosen: chosen)


@st.composite
def _targets(draw: st.DrawFn) -> bytes:
    path = b""
    for part in draw(_routes).split("/")[1:]:
        path += b"/" + (draw(_part) if part.startswith("{") else part.encode())
    path += draw(st.sampled_from([b"", b"", b"/", b"//"]))
    if draw(st.booleans()):
        pairs = draw(st.lists(st.tuples(_query, _part), max_size=2))
        path += b"?" + b"&".join(b"=".join(pair) for pair in pairs)
    return draw(st.sampled_from([path] * 20 + [b"http://h" + path, b"*", b"h:80", b"", path + b" x"]))


_header = st.one_of(
    st.tuples(
        st.sampled_from(
            [
                *(b"Authorization", b"X-Auth-Token", b"X-CSRF-Token", b"Cookie", b"Content-Type", b"Prefer"),
                *(b"Content-Encoding", b"Expect", b"traceparent", b"Accept", b"X-Forwarded-Proto", b"Host"),
                *(
                    b"Upgrade",
                    b"Range",
                    b"If-Match",
                    b"Accept-Encoding",
                    b"Connection",
                    b"TE",
                    b"Via",
                    b"Trailer",
                ),
            ]
        ),
        st.sampled_from(
            [
                *(
                    b"Bearer x",
                    b"Bearer \xff",
                    b"application/json",
                    b"application/json; charset=\xff",
                    b"text/plain",
                ),
                *(
                    b"return=representation",
                    b"100-continue",
                    b"rqueue_session=\xff",
                    b"gzip",
                    b"identity",
                    b"",
                    b",",
                ),
                *(
                    b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01",
                    b"a\r\n b",
                    b"websocket",
                    b"close",
                    b"x" * 5000,
                ),
            ]
        )
        | _line,
    ),
    st.tuples(_line, _line),
)
_lengths = st.sampled_from(
    [
        *(
            [(b"Content-Length", value)]
            for value in (b"-1", b"1", b"99", b"+2", b"2, 2", b"2,3", b"x", b"0x2", b"9" * 30)
        ),
        [(b"Content-Length", b"2"), (b"Content-Length", b"3")],
        [(b"Content-Length", b"2"), (b"Transfer-Encoding", b"chunked")],
        *(
            [(b"Transfer-Encoding", value)]
            for value in (b"chunked", b"gzip, chunked", b"chunked, gzip", b"x", b"\xff")
        ),
    ]
)
_bodies = st.sampled_from(
    [b"{}", b"", b"[]", b"null", b"\xef\xbb\xbf{}", b"2\r\n{}\r\n0\r\n\r\n", b"zz\r\n{}", b"2;\xff\r\n{}"]
)


@st.composite
def _requests(draw: st.DrawFn) -> Request:
    method = draw(st.sampled_from([_methods] * 9 + [_odd_methods]).flatmap(lambda chosen: chosen))
    headers = draw(st.lists(_header, max_size=draw(st.sampled_from([0, 0, 1, 3]))))
    if draw(st.booleans()):
        headers.append((b"Authorization", b"Bearer " + TOKEN.encode()))
    if draw(st.integers(0, 9)):
        headers.append((b"Host", b"h"))
    body = draw(_bodies | _bytes)
    lies = draw(st.sampled_from([st.none()] * 4 + [_lengths]).flatmap(lambda chosen: chosen))
    if lies is not None:
        sent = written(method, draw(_targets()), [*headers, *lies], None) + body
        return Request(sent, False, method)
    sent = written(method, draw(_targets()), headers, body)
    # A connection that is upgraded, or held open by what is in a header, has no end that can be waited for.
    whole = not any(b"\r" in value or name.lower() in (b"upgrade", b"connection") for name, value in headers)
    return Request(sent, whole, method)


@pytest.mark.parametrize("fuzzed", ["open", "guarded"], indirect=True)
def test_whatever_bytes_come_the_answer_is_http_in_the_one_shape(fuzzed: Fuzzed) -> None:
    @examples(400)
    @given(request=_requests())
    def try_one(request: Request) -> None:
        async def send(service: Service) -> None:
            answers = await exchange(service, request)
            for answer in answers:
                no_fault(answer, request)
            assert answers or not request.whole or b"HTTP/1.1" not in request.sent, request

        fuzzed(send)

    try_one()


# --- JSON --------------------------------------------------------------------------------------------

ODD = [
    *("1e400", "1e-400", "-0", "-0.0", "5.0", "1E5", "0.1", "1e308", "1", "5", "-5", "true", "false", "null"),
    *("9007199254740991", "9007199254740992", "-9007199254740993", "18446744073709551615"),
    *("18446744073709551616", "-9223372036854775809", "9" * 400, "9" * 5000, "[]", "{}", '""', '"a"', '"b"'),
    *(
        '"\\ud83d\\ude00"',
        '"\\u0000"',
        '"\\n"',
        '"‮abc"',
        '"é"',
        f'"{"é" * 128}"',
        f'"{"é" * 129}"',
        f'"{"x" * 257}"',
    ),
    *('"a/b"', '"{a}"', '"*"', '"[a"', '"a:b"', '"__proto__"', '"front"', '"running"', '"done"', '"queued"'),
    *(
        "[" * 260 + "]" * 260,
        "[" * 2000 + "]" * 2000,
        '{"a":' * 300 + "1" + "}" * 300,
        '{"a":1,"a":2}',
        '{"":1}',
    ),
    *('{"__proto__":{"a":1}}', '{"\\u0000":1}', '[{"a":1},5]', '[{"slots":1},{"slots":"x"}]', '{"slots":4}'),
    *(
        '[{"cpu":"500m"}]',
        '[{"slots":9007199254740991}]',
        '[{"slots":1e3}]',
        '[{"slots":"1Ei"}]',
        '[{"slots":0}]',
    ),
    *(
        '"http://127.0.0.1:9/"',
        '"//h"',
        '"http://["',
        '"x y"',
        '"500m"',
        '"2Gi"',
        '"-1"',
        "[null]",
        '["a",["a"]]',
    ),
]
NO_JSON = [
    *(
        "NaN",
        "Infinity",
        "-Infinity",
        "01",
        "+1",
        ".5",
        "1.",
        "nul",
        "[1,]",
        "'a'",
        '"\x00"',
        '"\x1f"',
        '"\\x"',
    ),
    *(
        '"\\ud800"',
        '"\\udc00x"',
        "\ufeff1",
        "\ud800",
        "1 2",
        "/**/1",
        "{1:2}",
        '{"a"}',
    ),
]
_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
_value = st.one_of(
    st.sampled_from(ODD),
    st.sampled_from(ODD),
    st.sampled_from(ODD + NO_JSON),
    _json.map(json.dumps),
    _json.map(lambda value: json.dumps(value, ensure_ascii=False)),
)
_create = ("request_id", "owner_id", "callback", "data", "priority")
_data = ("instances", "project", "host_aggregate", "x")
_change = ("priority", "position", "before", "after", "status", "data", "callback")
_setting = (
    *(
        "policy",
        "paused",
        "call_deadline",
        "lease_seconds",
        "retention",
        "default_pool",
        "source",
        "max_queued",
    ),
)


def _mostly(good: st.SearchStrategy[str], other: st.SearchStrategy[str] = _value) -> st.SearchStrategy[str]:
    return st.sampled_from([good] * 9 + [other]).flatmap(lambda chosen: chosen)


@st.composite
def _objects(draw: st.DrawFn, names: tuple[str, ...], good: dict[str, str], most: int = 4) -> str:
    """An object with good fields, of which one may be missing, another value, or there twice."""
    fields = dict(good)
    if draw(st.sampled_from(range(10))) == 0 and good:
        del fields[draw(st.sampled_from(sorted(good)))]
    changed = draw(st.lists(st.sampled_from(names), max_size=most))
    pairs = [*fields.items(), *((name, draw(_value)) for name in changed)]
    if draw(st.sampled_from(range(10))) == 0:
        pairs.append((draw(st.sampled_from(["__proto__", "", "é", "ID", "x" * 99])), draw(_value)))
    return "{" + ",".join(f"{json.dumps(name)}:{value}" for name, value in pairs) + "}"


@st.composite
def _jobs(draw: st.DrawFn) -> str:
    name = draw(st.sampled_from("abcdef"))
    good = {"request_id": json.dumps(name), "owner_id": '"y"', "callback": json.dumps(f"cb-{name}")}
    if draw(st.booleans()):
        good["data"] = draw(_objects(_data, {}))
    return draw(_objects(_create, good, draw(st.sampled_from([0, 0, 1]))))


_hosts = st.dictionaries(
    st.sampled_from(["n", "m", "", "a/b", "é" * 129, "‮", "\x00", "*", "{x}"]),
    _objects(("slots", "cpu", "a/b", ""), {"slots": "4"}, 2),
    max_size=3,
).map(lambda hosts: "{" + ",".join(f"{json.dumps(name)}:{value}" for name, value in hosts.items()) + "}")


@st.composite
def _calls(draw: st.DrawFn) -> tuple[str, str, str]:
    kind = draw(
        st.sampled_from(["create", "create", "array", "change", "change", "queue", "pool", "login", "end"])
    )
    name = draw(st.sampled_from("abcdef"))
    if kind == "create":
        return "POST", "/v1/vm/", draw(_mostly(_jobs()))
    if kind == "array":
        return "POST", "/v1/vm/", "[" + ",".join(draw(st.lists(_mostly(_jobs()), max_size=4))) + "]"
    if kind == "change":
        one = st.sampled_from(_change).flatmap(lambda field: _objects((field,), {}, 1))
        return "POST", f"/v1/vm/{name}", draw(_mostly(one, _objects(_change, {}, 2) | _value))
    if kind == "queue":
        return "PUT", "/queues/vm", draw(_mostly(_objects(_setting, {})))
    if kind == "pool":
        hosts = draw(_hosts)
        pool = draw(st.sampled_from(["default", "a", "b", "%00", "%7B%7D"]))
        return (
            "PUT",
            f"/queues/vm/pools/{pool}",
            draw(_objects(("hosts", "projects", "quotas"), {"hosts": hosts}, 1)),
        )
    if kind == "login":
        return "POST", "/inbox/x", draw(_value)
    return "DELETE", f"/v1/vm/{name}", draw(st.sampled_from(["", "{}", "x"]))


def test_whatever_json_comes_the_answer_is_no_fault(fuzzed: Fuzzed) -> None:
    @examples(200)
    @given(call=_calls())
    def try_one(call: tuple[str, str, str]) -> None:
        async def send(service: Service) -> None:
            method, path, body = call
            sent = body.encode(errors="surrogatepass")
            headers = [(b"Host", b"h"), (b"Content-Type", b"application/json")]
            request = Request(written(method.encode(), path.encode(), headers, sent))
            (answer,) = await exchange(service, request)
            no_fault(answer, request)

        fuzzed(send)

    try_one()


def _each(method: str, path: str, around: str, names: tuple[str, ...]) -> list[tuple[str, str, str]]:
    return [(method, path, around.replace("NAME", name)) for name in names]


# Where a VALUE may stand in a body: the method, the path, and the body; N is another number each time.
_NEW = '"request_id":"N","owner_id":"y","callback":"N"'
PLACES = [
    ("POST", "/v1/vm", "VALUE"),
    ("POST", "/v1/vm", "[VALUE]"),
    *_each("POST", "/v1/vm", f'{{{_NEW},"NAME":VALUE}}', _create),
    *_each("POST", "/v1/vm", f'{{{_NEW},"data":{{"NAME":VALUE}}}}', _data),
    ("POST", "/v1/vm", f'{{{_NEW},"data":{{"instances":[{{"slots":1}},VALUE]}}}}'),
    ("POST", "/v1/vm", f'{{{_NEW},"data":{{"instances":[{{"slots":VALUE}}]}}}}'),
    ("POST", "/v1/vm", f'[{{{_NEW}}},{{"request_id":VALUE,"owner_id":"y","callback":"cN"}}]'),
    ("POST", "/v1/vm/a", "VALUE"),
    *_each("POST", "/v1/vm/a", '{"NAME":VALUE}', _change),
    ("POST", "/v1/vm/a", '{"after":"b","before":VALUE}'),
    ("POST", "/v1/vm/a", '{"data":{"instances":[{"slots":VALUE}]}}'),
    ("PUT", "/queues/vm", "VALUE"),
    *_each("PUT", "/queues/vm", '{"NAME":VALUE}', _setting),
    ("PUT", "/queues/vm/pools/p", "VALUE"),
    ("PUT", "/queues/vm/pools/p", '{"hosts":VALUE}'),
    ("PUT", "/queues/vm/pools/p", '{"hosts":{"h":VALUE}}'),
    ("PUT", "/queues/vm/pools/p", '{"hosts":{"h":{"slots":VALUE}}}'),
    ("PUT", "/queues/vm/pools/p", '{"hosts":{},"projects":VALUE}'),
    ("PUT", "/queues/vm/pools/p", '{"hosts":{},"projects":["a",VALUE]}'),
]


def test_every_place_in_every_body_takes_or_refuses_every_value(fuzzed: Fuzzed) -> None:
    async def all_of_them(service: Service) -> None:
        for name in "ab":
            await service.call("POST", "/v1/vm", {**JOB, "request_id": name, "callback": name})
        taken = 0
        for number, ((method, path, around), value) in enumerate(product(PLACES, ODD)):
            body = around.replace("N", str(number)).replace("VALUE", value)
            answer = await ask(service, method, path, body)
            no_fault(answer, Request(body.encode()))
            taken += answer.status < 300
        # Else all were refused for something else.
        assert taken > 300
        for (method, path, around), value in product(PLACES[:3] + PLACES[-4:], NO_JSON):
            body = around.replace("VALUE", value).encode(errors="surrogatepass")
            refused(await ask(service, method, path, body), 400, "not_json")

    fuzzed(all_of_them)


# --- what is taken comes back ------------------------------------------------------------------------

_letters = st.sampled_from("a{}%:/*?[]\\\"'<> \n\t\x00\x7f\u202e\u0301é虛😀\ufeff\ufffd.~+&=#;")
_name = st.text(_letters | st.characters(codec="utf-8"), min_size=1, max_size=12).filter(
    lambda name: len(name.encode()) <= 256
)
_long = st.sampled_from(["é" * 128, "虛" * 85, "😀" * 64, "x" * 256, "%" * 256, "\x00" * 256])
_names = _name | _name | _name | _long
_kept = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(_letters | st.characters(codec="utf-8"), max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def strictly(value: Any) -> str:
    """As text that tells 1 from 1.0 and from true."""
    return json.dumps(value, sort_keys=True)


def test_what_a_job_was_created_with_comes_back_as_it_was(fuzzed: Fuzzed) -> None:
    @examples(150)
    @given(
        type_=_names,
        name=_names,
        owner=_names,
        callback=_names,
        data=st.dictionaries(st.text(max_size=5), _kept, max_size=3),
        pool=st.none() | _names,
        project=st.none() | _names,
    )
    def try_one(
        type_: str,
        name: str,
        owner: str,
        callback: str,
        data: dict[str, Any],
        pool: str | None,
        project: str | None,
    ) -> None:
        data.pop("instances", None)
        data |= {"host_aggregate": pool} if pool else {}
        data |= {"project": project} if project else {}
        line, job = f"/v1/{encoded(type_)}", f"/v1/{encoded(type_)}/{encoded(name)}"

        async def there_and_back(service: Service) -> None:
            where = f"/queues/{encoded(type_)}/pools/{encoded(pool or 'default')}"
            written_pool = {
                "hosts": {name.replace("/", "|"): {owner: 5, "slots": 9}},
                "projects": [project or "x"],
            }
            status, shown = await service.call("PUT", where, written_pool)
            assert status in (200, 409), shown
            status, queue = await service.call("PUT", f"/queues/{encoded(type_)}", {"default_pool": pool})
            assert (status, queue["data"]["default_pool"]) == (200, pool or "default")
            body = {"request_id": name, "owner_id": owner, "callback": callback, "data": data}
            status, made = await service.call("POST", line, body)
            if status != 201:
                assert made["error"]["code"] in (
                    "invalid_callback",
                    "duplicate_request_id",
                    "duplicate_callback",
                ), made
                return
            await service.reaper.drain()
            status, found = await service.call("GET", job)
            assert status == 200
            for document in (made["data"], found["data"]):
                assert (document["Type"], document["RequestID"]) == (type_, name)
                assert (document["OwnerID"], document["Callback"]) == (owner, callback)
                kept = json.loads(document["Data"])
                assert pool in (None, kept["host_aggregate"])
                kept["host_aggregate"] = data.get("host_aggregate", kept["host_aggregate"])
                assert strictly(kept) == strictly({**data, "host_aggregate": kept["host_aggregate"]})
            _, listed = await service.call("GET", f"{line}/?owner_id={encoded(owner)}")
            assert name in [one["RequestID"] for one in listed["data"]]
            status, page = await service.call("GET", f"{line}/?limit=1")
            if page["next"]:
                status, _ = await service.call("GET", f"{line}/?limit=1&cursor={page['next']}")
            assert status == 200
            await service.call("POST", job, {"status": "done"})
            status, _ = await service.call("DELETE", job)
            assert status in (200, 409)

        fuzzed(there_and_back)

    try_one()


# --- amounts -----------------------------------------------------------------------------------------

_most = 2**53 - 1
_amounts = st.one_of(
    st.sampled_from([0, 1, 2, 3, 1000, _most, _most - 1, _most // 1000, _most // 2 + 1, 2**31, 2**32]),
    st.sampled_from(
        ["1500m", "1Ki", "2Gi", "7Pi", "9P", "0.5k", "1.5Gi", "9007199254740991", "8191Ti", "0", "0m"]
    ),
    st.integers(0, 5),
)
_bad_amounts = st.sampled_from(
    [-1, 1.0, 0.5, True, None, "", "-1", "1e3", "1 Gi", "8Pi", "16Ei", "1n", 2**53, [], {}]
)
_resources = st.sampled_from(
    ["slots", "cpu", "Memory", "nvidia.com/gpu", "é", "{x}", "\x00", "a:b", "1", "__proto__"]
)
_shapes = st.dictionaries(_resources, _amounts, min_size=1, max_size=3)
_host_names = st.sampled_from(["n", "m", "1", "a b", "é", "{x}", "*", "\x00", "\n", "虛", ":", "%2F"])


def test_no_amount_charges_a_host_beyond_what_it_has(fuzzed: Fuzzed, redis_url: str, namespace: str) -> None:
    types = iter(range(1_000_000))

    @examples(60)
    @given(
        hosts=st.dictionaries(_host_names, _shapes, max_size=4),
        asked=st.lists(st.lists(_shapes, min_size=1, max_size=4), min_size=1, max_size=5),
        smaller=st.dictionaries(_host_names, _shapes, max_size=2),
        bad=st.tuples(_resources, _bad_amounts),
    )
    def try_one(hosts: Any, asked: Any, smaller: Any, bad: tuple[str, Any]) -> None:
        type_ = f"t{next(types)}"
        pool = f"/queues/{type_}/pools/default"

        async def admitted(service: Service) -> None:
            status, refusal = await service.call("PUT", pool, {"hosts": {"n": dict([bad])}})
            assert (status, refusal["error"]["code"]) == (422, "invalid_demand")
            status, _ = await service.call("PUT", pool, {"hosts": hosts})
            if status == 422:
                return
            for number, instances in enumerate(asked):
                body = {
                    **JOB,
                    "request_id": str(number),
                    "callback": str(number),
                    "data": {"instances": instances},
                }
                status, said = await service.call("POST", f"/v1/{type_}/", body)
                assert status == 201 or said["error"]["code"] == "invalid_demand"
            await service.settle()
            async with redis_at(redis_url) as redis:
                await invariants.check(redis, namespace, type_)
                await invariants.capacity_kept(redis, namespace, type_)
            status, _ = await service.call("PUT", pool, {"hosts": smaller})
            status, shown = await service.call("GET", pool)
            assert status == 200, shown
            for number in range(len(asked)):
                await service.call("POST", f"/v1/{type_}/{number}", {"status": "done"})
            await service.settle()

        fuzzed(admitted)

    try_one()


async def test_a_pool_of_thousands_of_oddly_named_hosts_is_like_any(
    service: Service, real_redis: Any, namespace: str
) -> None:
    hosts = {
        f"{number}{odd}": {"slots": 2, "a/b": 1}
        for number in range(1250)
        for odd in ("\x00", "{é}", "*:", "\n")
    }
    projects = [f"{number}‮" for number in range(10_000)]
    for name in ("p", "p/{}\x00"):
        path = f"/queues/vm/pools/{encoded(name)}"
        status, shown = await service.call("PUT", path, {"hosts": hosts})
        assert (status, len(shown["data"]["hosts"])) == (200, 5000)
        data = {"instances": [{"slots": 2}] * 1000, "host_aggregate": name}
        status, _ = await service.call(
            "POST", "/v1/vm", {**JOB, "request_id": name, "callback": encoded(name), "data": data}
        )
        assert status == 201
        await service.settle()
        status, job = await service.call("GET", f"/v1/vm/{encoded(name)}")
        assert len(set(job["data"]["Placement"])) == 1000
        assert set(job["data"]["Placement"]) <= set(hosts)
        await invariants.check(real_redis, namespace)
        status, refusal = await service.call("PUT", path, {"hosts": {**hosts, "one more": {"slots": 1}}})
        assert (status, refusal["error"]["field"]) == (422, "hosts")
        status, shown = await service.call("PUT", path, {"hosts": {}, "projects": projects})
        assert (status, shown["data"]["projects"]) == (200, sorted(projects))
        assert (await service.call("DELETE", f"/v1/vm/{encoded(name)}"))[0] == 200
        assert (await service.call("DELETE", path))[0] == 200
