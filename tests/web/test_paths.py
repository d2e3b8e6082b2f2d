"""Types and request_ids may hold anything: all are distinct, and found again at their encoded path."""

import json
from urllib.parse import quote

import pytest

from tests.invariants import check
from tests.web.wire import ask, ask_raw, job, refused

NAMES = [
    *("a/b", "/", "//", "a/", "/a", "a//b", "{x}", "}{", "{", "}", "{}", "{type}", "虛擬機", "機擬虛", "🙂"),
    *("..", ".", "...", "../..", "%", "%%", "%41", "%2F", "%2f", "%25", "A", "a", "a b", "a+b", " ", "  "),
    *(
        "a%2Fb",
        "a%2fb",
        ":",
        "::",
        "?",
        "#",
        "&",
        "=",
        "a?b=c#d",
        ";",
        ",",
        "*",
        "[a]",
        "\\",
        "\\x",
        '"',
        "'",
    ),
    *("a\x00b", "\x00", "\n", "\r\n", "\t", "\x7f", "\x85", "\u2028", "\u202e", "\ufeff"),
    *("\u00e9", "e\u0301", "\u00c5", "\u212b", "A\u030a", "\ufb01", "fi"),
    *("a" * 256, "a" * 255, "虛" * 85 + "a", "/" * 256, "%" * 256, "job:a", "queue", "null", "-1", "0"),
]


def encoded(name: str) -> str:
    return quote(name, safe="")


def body(name: str) -> dict:
    return job(name, callback="cb-" + name.encode().hex())


async def test_all_are_distinct_as_a_request_id_and_as_an_owner(service, real_redis, namespace):
    for name in NAMES:
        created = await ask(service, "POST", "/v1/vm/", {**body(name), "owner_id": name})
        assert (created.data["RequestID"], created.data["OwnerID"]) == (name, name)
    assert [found["RequestID"] for found in (await ask(service, "GET", "/v1/vm/")).data] == NAMES
    for place, name in enumerate(NAMES):
        for last in ("", "/"):
            path = f"/v1/vm/{encoded(name)}{last}"
            found = (await ask(service, "GET", path, allow_redirects=False)).data
            assert (found["RequestID"], found["Position"]) == (name, place)
        owned = (await ask(service, "GET", f"/v1/vm/?owner_id={encoded(name)}")).data
        assert [found["RequestID"] for found in owned] == [name]
    await check(real_redis, namespace)
    for name in NAMES:
        path = f"/v1/vm/{encoded(name)}"
        assert (await ask(service, "POST", path, {"position": "front"})).data == {}
        assert (await ask(service, "GET", path)).data["Position"] == 0
    assert [found["RequestID"] for found in (await ask(service, "GET", "/v1/vm")).data] == NAMES[::-1]
    for name in NAMES:
        assert (await ask(service, "DELETE", f"/v1/vm/{encoded(name)}/")).data == {}
        assert (await ask(service, "GET", f"/v1/vm/{encoded(name)}")).data["Status"] == "cancelled"
    await check(real_redis, namespace)


async def test_all_are_distinct_as_a_type(service, real_redis, namespace):
    for name in NAMES:
        created = await ask(service, "POST", f"/v1/{encoded(name)}", job("d", owner_id=name))
        assert (created.data["Type"], created.data["ID"]) == (name, 1)
    for name in NAMES:
        for last in ("", "/"):
            (found,) = (await ask(service, "GET", f"/v1/{encoded(name)}{last}", allow_redirects=False)).data
            assert (found["Type"], found["OwnerID"]) == (name, name)
            got = (await ask(service, "GET", f"/v1/{encoded(name)}/d{last}", allow_redirects=False)).data
            assert (got["Type"], got["OwnerID"]) == (name, name)
    for name in NAMES:
        path = f"/v1/{encoded(name)}/d"
        assert (await ask(service, "POST", path, {"priority": 5})).data == {}
        assert (await ask(service, "DELETE", path)).data == {}
        await check(real_redis, namespace, name)
    listed = (await ask(service, "GET", "/queues/")).data
    assert [queue["type"] for queue in listed] == sorted(NAMES)
    assert all(queue["counts"] == {"queued": 0, "running": 0, "ended": 1} for queue in listed)


async def test_all_are_distinct_as_a_pool(service, real_redis, namespace):
    hosts = {"hosts": {"h": {"slots": 1}}}
    for name in NAMES:
        path = f"/queues/vm/pools/{encoded(name)}"
        assert (await ask(service, "PUT", path, {**hosts, "projects": [name]})).data["pool"] == name
    for number, name in enumerate(NAMES):
        made = await ask(service, "POST", "/v1/vm", job(str(number), data={"project": name}))
        assert json.loads(made.data["Data"]) == {"host_aggregate": name, "project": name}
    await service.settle()
    for name in NAMES:
        shown = (await ask(service, "GET", f"/queues/vm/pools/{encoded(name)}/")).data
        assert (shown["pool"], shown["projects"]) == (name, [name])
        assert shown["hosts"]["h"]["used"] == {"slots": 1}
    await check(real_redis, namespace)
    for name in NAMES:
        assert (await ask(service, "DELETE", f"/queues/vm/pools/{encoded(name)}")).data == {}
    assert (await ask(service, "GET", "/queues/vm")).data["pools"] == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("%2F", "%2f"),
        ("a", "%61"),
        ("..", "%2E%2e"),
        ("~", "%7E"),
        ("%E8%99%9B", "%e8%99%9b"),
        ("a:b@c", "a%3Ab%40c"),
        ("a+b", "a%2Bb"),
        ("%", "%25"),
        ("%zz", "%25zz"),
    ],
)
async def test_two_spellings_of_a_name_are_one(service, one, other):
    name = await _created_at(service, one)
    for path in (f"/v1/{one}/{other}", f"/v1/{other}/{one}/"):
        found = (await ask(service, "GET", path, allow_redirects=False)).data
        assert (found["Type"], found["RequestID"]) == (name, name)


async def test_dots_are_no_steps_in_the_tree(service):
    """Byte by byte, since a client may tidy a path before it sends it."""
    await ask(service, "POST", "/v1/vm", job(".."))
    for path in ("/v1/vm/..", "/v1/vm/../", "/v1/vm/%2e."):
        answer = await ask_raw(
            service, f"GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode()
        )
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b'"RequestID":".."' in answer


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/{}", "type"),
        ("/v1/{}/a", "type"),
        ("/v1/vm/{}", "request_id"),
        ("/queues/{}", "type"),
        ("/queues/vm/pools/{}", "pool"),
    ],
)
@pytest.mark.parametrize("name", ["a" * 257, "虛" * 86])
async def test_a_name_of_more_than_256_bytes_is_refused(service, path, field, name):
    for last in ("", "/"):
        answer = await ask(service, "GET", path.format(encoded(name)) + last)
        assert "256" in refused(answer, 422, "invalid", field)


@pytest.mark.parametrize("path", ["/v1/{}", "/v1/{}/a", "/v1/vm/{}", "/queues/{}", "/queues/vm/pools/{}/"])
@pytest.mark.parametrize("name", ["%ff", "a%C3", "%ed%a0%80", "%C0%AF"])
async def test_a_path_that_is_no_utf8_is_refused(service, path, name):
    refused(await ask(service, "GET", path.format(name)), 400, "bad_request")


@pytest.mark.parametrize(
    "path", ["/v1/", "/v1//", "/v1//a", "/v1/vm//", "//v1/vm", "/v1/vm/a/b", "/v1/vm/a//"]
)
async def test_an_empty_name_or_one_too_many_leads_nowhere(service, path):
    refused(await ask(service, "GET", path), 404, "not_found")


async def _created_at(service, spelling: str) -> str:
    """Create a job whose type and request_id are what a path says, as the service reads it."""
    name = (await ask(service, "GET", f"/queues/{spelling}")).data["type"]
    assert (await ask(service, "POST", f"/v1/{spelling}/", job(name, callback="x"))).data["Type"] == name
    return name
