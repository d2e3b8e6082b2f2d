"""Lists: streamed whole, or page by page from a cursor, by owner and by status."""

import asyncio
from itertools import chain

import aiohttp
import pytest
from aiohttp import web

from tests.web.wire import ask, ask_raw, job, refused

STATUSES = ["queued", "calling", "running", "done", "cancelled", "failed", "expired"]


async def names(service, query: str = "") -> list[str]:
    return [found["RequestID"] for found in (await ask(service, "GET", f"/v1/vm/{query}")).data]


def together(pages: list[list[str]]) -> list[str]:
    return list(chain.from_iterable(pages))


async def walk(service, query: str) -> list[list[str]]:
    """The pages of a list, followed by their cursors to the end."""
    pages, cursor = [], ""
    while cursor is not None:
        said = (await ask(service, "GET", f"/v1/vm/?{query}&cursor={cursor}")).json
        assert list(said) == ["data", "ok", "next"]
        pages.append([found["RequestID"] for found in said["data"]])
        cursor = said["next"]
    return pages


@pytest.fixture
async def crowd(service) -> list[str]:
    """1,500 jobs of 3 owners, whose places are not those of their creation."""
    created = [str(number) for number in range(1500)]
    for first in range(0, 1500, 500):
        body = [
            job(name, owner_id=f"o{int(name) % 3}", priority=-(int(name) // 7), data={"note": "n" * 200})
            for name in created[first : first + 500]
        ]
        assert (await ask(service, "POST", "/v1/vm/", body)).status == 201
    return sorted(created, key=lambda name: (-(int(name) // 7), int(name)))


async def test_without_a_limit_all_are_streamed_in_order(service, crowd):
    answer = await ask(service, "GET", "/v1/vm/")
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert list(answer.json) == ["data", "ok"]
    assert [found["RequestID"] for found in answer.data] == crowd


@pytest.mark.parametrize("limit", [1, 99, 100, 101, 250, 499, 500, 1499, 1500, 1501, 10_000])
async def test_pages_are_the_list_in_pieces(service, crowd, limit):
    expected = crowd if limit > 1 else crowd[:20]
    pages, cursor = [], ""
    while cursor is not None and sum(map(len, pages)) < len(expected):
        said = (await ask(service, "GET", f"/v1/vm/?limit={limit}&cursor={cursor}")).json
        pages.append([found["RequestID"] for found in said["data"]])
        cursor = said["next"]
    assert together(pages) == expected
    assert {len(page) for page in pages[:-1]} <= {limit}


@pytest.mark.parametrize("limit", [7, 100, 1000])
async def test_the_last_page_has_no_next(service, crowd, limit):
    pages = await walk(service, f"owner_id=o1&limit={limit}")
    assert together(pages) == [name for name in crowd if int(name) % 3 == 1]
    assert all(len(page) <= limit for page in pages)


async def test_a_page_goes_on_where_the_last_one_ended_whatever_moved(service):
    await ask(service, "POST", "/v1/vm/", [job(name) for name in "abcdefgh"])
    said = (await ask(service, "GET", "/v1/vm/?limit=4")).json
    assert [found["RequestID"] for found in said["data"]] == list("abcd")
    await ask(service, "DELETE", "/v1/vm/d")
    await ask(service, "POST", "/v1/vm/h", {"position": "front"})
    await ask(service, "POST", "/v1/vm/a", {"position": "back"})
    assert await names(service, f"?limit=9&cursor={said['next']}") == list("efga")


@pytest.mark.parametrize("query", ["", "?owner_id=nobody", "?status=running", "?status=done"])
async def test_an_empty_list_is_a_list(service, query):
    answer = await ask(service, "GET", f"/v1/vm/{query}")
    assert answer.text == '{"data":[],"ok":true}'
    paged = await ask(service, "GET", f"/v1/vm/{query}{'&' if query else '?'}limit=5")
    assert paged.json == {"data": [], "ok": True, "next": None}


@pytest.fixture
async def every_status(service, receiver, clock) -> dict[str, list[str]]:
    """Two jobs of each status, of the owners x and y. Returns status → their names."""
    made: dict[str, list[str]] = {}
    jobs = {f"{status}-{owner}": owner for status in STATUSES for owner in "xy"}
    await service.call("PUT", "/queues/vm", {"lease_seconds": 100, "call_deadline": 50})
    pools = {"open": 100, "shut": 0}
    for pool, slots in pools.items():
        await service.call("PUT", f"/queues/vm/pools/{pool}", {"hosts": {"h": {"slots": slots}}})

    def answer(request: web.Request) -> web.Response:
        late = request.path.startswith(("/calling", "/failed"))
        return web.Response(status=503 if late else 200, headers={"Retry-After": "3600"} if late else None)

    receiver.answer = answer

    async def create(*statuses: str) -> None:
        for name, owner in jobs.items():
            if name[:-2] in statuses:
                data = {"host_aggregate": "shut" if name[:-2] in ("queued", "cancelled") else "open"}
                body = job(name, owner_id=owner, callback=f"{receiver.url}/{name}", data=data)
                assert (await ask(service, "POST", "/v1/vm/", body)).status == 201
                made.setdefault(name[:-2], []).append(name)
        await service.settle()

    await create("failed", "expired")
    clock.forward(51)
    await service.settle()
    clock.forward(50)
    await service.settle()
    await create("queued", "calling", "running", "done", "cancelled")
    for name in made["done"] + made["cancelled"]:
        assert (await ask(service, "DELETE", f"/v1/vm/{name}")).data == {}
    return made


async def test_a_list_is_of_the_live_or_of_one_status_and_of_one_owner(service, every_status):
    live = [name for status in ("queued", "calling", "running") for name in every_status[status]]
    assert sorted(await names(service)) == sorted(live)
    assert sorted(await names(service, "?owner_id=x")) == sorted(n for n in live if n.endswith("-x"))
    for status in STATUSES:
        listed = (await ask(service, "GET", f"/v1/vm/?status={status}")).data
        assert {found["Status"] for found in listed} == {status}
        assert sorted(found["RequestID"] for found in listed) == every_status[status]
        assert await names(service, f"?status={status}&owner_id=y") == [f"{status}-y"]
        assert together(await walk(service, f"status={status}&limit=1")) == [
            found["RequestID"] for found in listed
        ]
        assert together(await walk(service, f"owner_id=y&status={status}&limit=1")) == [f"{status}-y"]


async def test_a_head_of_a_list_has_no_body(service):
    await ask(service, "POST", "/v1/vm/", job())
    answer = await ask_raw(service, b"HEAD /v1/vm/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert body == b""


@pytest.mark.parametrize("moment", ["yesterday", "", "9" * 30])
async def test_a_job_that_was_damaged_by_hand_is_left_out(service, crowd, real_redis, namespace, moment):
    await real_redis.hset(f"{namespace}:{{vm}}:job:{crowd[700]}", "CreatedAt", moment)
    assert await names(service) == crowd[:700] + crowd[701:]


async def test_what_is_no_job_at_all_is_left_out(service, crowd, real_redis, namespace):
    await real_redis.set(f"{namespace}:{{vm}}:job:{crowd[700]}", "no hash")
    assert await names(service) == crowd[:700] + crowd[701:]


async def test_a_list_that_cannot_be_finished_is_cut_and_not_ended(service, real_redis, namespace):
    """After the first byte there is no status to send: the client must see that something is missing."""
    for first in range(0, 1600, 80):
        body = [job(str(number), data={"n": "n" * 12_000}) for number in range(first, first + 80)]
        assert (await ask(service, "POST", "/v1/vm/", body)).status == 201
    # 19 MB are more than what the sockets between the two can hold, so the service waits for the reader.
    async with service.client.get(f"{service.url}/v1/vm/") as response:
        assert response.status == 200
        await real_redis.set(f"{namespace}:{{vm}}:queue", "a string")
        async with asyncio.timeout(10):
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()


async def test_what_is_given_twice_is_refused(service):
    answer = await ask(service, "GET", "/v1/vm/?owner_id=a&owner_id=b")
    assert refused(answer, 422, "invalid", "owner_id") == "given twice"


async def test_a_list_starts_at_a_position_of_the_line(service, crowd):
    for position in (0, 1, 99, 100, 777, 1499):
        listed = await names(service, f"?status=queued&position={position}&limit=120")
        assert listed == crowd[position : position + 120]
    assert await names(service, "?status=queued&position=1490") == crowd[1490:]
    assert await names(service, "?status=queued&position=1500&limit=5") == []
    first = (await ask(service, "GET", "/v1/vm/?status=queued&position=700&limit=30")).json
    assert await names(service, f"?status=queued&limit=9&cursor={first['next']}") == crowd[730:739]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("position=1", "position"),
        ("status=running&position=1", "position"),
        ("status=queued&position=1&owner_id=x", "position"),
        ("status=queued&position=1&search=x", "position"),
        ("status=queued&position=1&cursor=OjA6MDA6YQ==", "position"),
        ("status=queued&position=-1", "position"),
        ("status=queued&position=1e3", "position"),
        ("standing=true", "standing"),
        ("standing=true&limit=201", "standing"),
        ("standing=yes&limit=2", "standing"),
        ("search=", "search"),
        ("search=" + "x" * 257, "search"),
    ],
)
async def test_what_does_not_go_together_is_named(service, query, field):
    refused(await ask(service, "GET", f"/v1/vm/?{query}"), 422, "invalid", field)


async def test_each_of_a_list_says_where_it_stands_as_in_get(service, every_status):
    for query in ("limit=200", "status=queued&limit=200", "status=queued&position=1&limit=1"):
        listed = (await ask(service, "GET", f"/v1/vm/?{query}&standing=true")).data
        assert listed == [
            (await ask(service, "GET", f"/v1/vm/{found['RequestID']}")).data for found in listed
        ]
        assert [found["RequestID"] for found in listed] == await names(service, f"?{query}")
    calling = (await ask(service, "GET", "/v1/vm/?status=calling&limit=1&standing=true")).data
    assert calling[0]["NextCall"] > calling[0]["UpdatedAt"]
    assert "NextCall" not in (await ask(service, "GET", "/v1/vm/?status=calling&limit=1")).data[0]


async def test_a_search_looks_into_names_owners_and_data_whatever_the_case(service):
    await ask(
        service,
        "POST",
        "/v1/vm/",
        [
            job("Apple-1"),
            job("b", owner_id="appLe"),
            job("c", data={"note": {"deep": ["an APPLE a day"]}}),
            job("d", callback="apple-never"),
            job("%d.[a-z]*", data={"note": "Zürich"}),
        ],
    )
    assert await names(service, "?search=aPPle") == ["Apple-1", "b", "c"]
    assert await names(service, "?search=apple&owner_id=appLe&status=queued") == ["b"]
    assert await names(service, "?search=%25d.%5B") == ["%d.[a-z]*"]
    assert await names(service, "?search=Z%C3%BCRICH") == ["%d.[a-z]*"]
    assert await names(service, "?search=nothing") == []


async def test_a_page_of_a_search_ends_after_so_many_that_it_looked_at(service, crowd):
    said = (await ask(service, "GET", "/v1/vm/?search=1499&limit=3")).json
    assert crowd.index("1499") < 1000
    assert [found["RequestID"] for found in said["data"]] == ["1499"]
    assert said["next"] is not None
    said = (await ask(service, "GET", "/v1/vm/?search=nowhere&limit=3")).json
    assert said["data"] == []
    assert said["next"] is not None
    pages = await walk(service, "search=77&limit=3")
    assert together(pages) == [name for name in crowd if "77" in name]
    assert max(map(len, pages)) == 3
