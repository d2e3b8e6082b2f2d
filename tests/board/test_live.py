"""The page follows what happens elsewhere, also when the way there is bad."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Page, Route, expect

from tests.board.chromium import Watch
from tests.board.conftest import Open, emptied
from tests.board.driver import fill, line, live, press, row, said, shows, stands, until
from tests.conftest import SEED_JOB, Service, config_of, redis_at, serving
from tests.faults.proxy import proxied
from tests.faults.server import Server, free_port, server
from tests.process import running

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow]


@pytest_asyncio.fixture(loop_scope="session")
async def own_redis(tmp_path: Path) -> AsyncIterator[Server]:
    """A server that a test may kill."""
    async with server(tmp_path, appendfsync="always") as one:
        yield one


async def test_an_outage_of_redis_is_told_and_so_is_its_end(
    own_redis: Server, namespace: str, opened: Open, watch: Watch
) -> None:
    watch.expect("^503 ")
    async with serving(config_of(namespace), own_redis.url) as service:
        await fill(service, "a", "b", "c")
        page = await opened(service.url)
        await live(page)
        await shows(page, "a", "b", "c")
        await own_redis.end()
        await expect(page.locator("#connection")).to_have_attribute("data-state", "away")
        # What was known stays there to read, and a move says that it could not be made.
        await shows(page, "a", "b", "c")
        await press(page, "Move to the front", "c")
        await said(page, "redis")
        await own_redis.start()
        async with own_redis.client() as redis:
            # By hand, so that no event tells of it: all is read anew.
            last = (await redis.zrange(f"{namespace}:{{vm}}:queue", -1, -1))[0]
            await redis.zadd(f"{namespace}:{{vm}}:queue", {last: 1})
            await redis.hset(f"{namespace}:{{vm}}:job:c", "Priority", 1)
        await live(page)
        await shows(page, "c", "a", "b")
        await fill(service, "d")
        await shows(page, "c", "a", "b", "d")


async def test_a_service_that_was_killed_is_found_again(tmp_path: Path, opened: Open, watch: Watch) -> None:
    watch.expect(
        "ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE"
    )
    port = str(free_port())
    async with running(tmp_path, PORT=port) as first, aiohttp.ClientSession(first.url) as client:
        await client.post("/v1/vm/", json={**SEED_JOB, "callback": "http://127.0.0.1:9/"})
        page = await opened(first.url)
        await live(page)
        await shows(page, "d")
        await first.kill()
        await expect(page.locator("#connection")).to_have_attribute("data-state", "away")
        async with running(tmp_path, PORT=port):
            await client.post(
                "/v1/vm/", json={**SEED_JOB, "request_id": "e", "callback": "http://127.0.0.1:9/e"}
            )
            await live(page)
            await shows(page, "d", "e")


@pytest.mark.thorough
@pytest.mark.timeout(120)
async def test_a_network_that_drops_everything_is_seen(service: Service, opened: Open, watch: Watch) -> None:
    """No connection ends, and none says anything: neither the page nor the browser is told."""
    watch.expect("ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_CONNECTION_REFUSED")  # when the wire is taken away
    await fill(service, "a", "b", "c")
    async with proxied(int(service.url.rsplit(":", 1)[1])) as proxy:
        page = await opened(f"http://127.0.0.1:{proxy.port}")
        await live(page)
        await shows(page, "a", "b", "c")
        proxy.hang()
        away = expect(page.locator("#connection"))
        await away.to_have_attribute("data-state", "away", timeout=30_000)
        await service.call("POST", "/v1/vm/c", {"position": "front"})
        proxy.flow()
        await live(page)
        await shows(page, "c", "a", "b")
        await fill(service, "d")
        await shows(page, "c", "a", "b", "d")


async def test_slow_and_failed_answers_are_borne(service: Service, opened: Open, watch: Watch) -> None:
    """Moves are made one after the other, however late an answer is; what fails is told, not hidden."""
    await fill(service, "a", "b", "c", "d")
    page = await opened(service.url)
    await live(page)
    await shows(page, "a", "b", "c", "d")
    late = asyncio.Event()

    async def held(route: Route) -> None:
        await late.wait()
        await route.continue_()

    await page.route("**/v1/vm/d", held, times=1)
    await press(page, "Move to the front", "d")
    await press(page, "Move to the front", "c")
    await page.get_by_role("searchbox", name="Search").fill("still at hand")
    await shows(page)
    await page.get_by_role("searchbox", name="Search").fill("")
    await stands(service, "a", "b", "c", "d")
    late.set()
    await stands(service, "c", "d", "a", "b")
    await shows(page, "c", "d", "a", "b")

    watch.expect("^500 POST /v1/vm/a")
    broken = {"ok": False, "error": {"code": "internal", "message": "it broke", "field": None}}
    await page.route("**/v1/vm/a", lambda route: route.fulfill(status=500, json=broken), times=1)
    await press(page, "Move to the front", "a")
    await said(page, "it broke")
    await shows(page, "c", "d", "a", "b")
    await page.route("**/v1/vm/a", lambda route: route.fulfill(status=502, body="<html>Bad Gateway"), times=1)
    watch.expect("^502 POST /v1/vm/a")
    await press(page, "Move to the front", "a")
    await said(page, "502")
    await shows(page, "c", "d", "a", "b")


async def test_what_is_done_by_hand_is_seen_too(
    service: Service, opened: Open, valkey_url: str, namespace: str
) -> None:
    """No event tells that a queue was deleted with redis-cli, nor of data of a megabyte written there."""
    await fill(service, "a", "b")
    page = await opened(service.url)
    await live(page)
    await shows(page, "a", "b")
    async with redis_at(valkey_url) as redis:
        await redis.hset(f"{namespace}:{{vm}}:job:b", "Data", json.dumps({"note": "x" * (1 << 20)}))
        await row(page, "b").get_by_role("button", name="b", exact=True).click()
        await expect(page.get_by_role("dialog")).to_contain_text("xxxx")
        await page.keyboard.press("Escape")
        await press(page, "Move to the front", "b")
        await shows(page, "b", "a")
        await emptied(valkey_url, namespace)
    await until(lambda: line(page), [], seconds=20)
    await expect(page.locator("#line")).to_contain_text("Nobody waits.")
    await fill(service, "c")
    await shows(page, "c")


async def test_a_flood_of_events_leaves_the_page_usable(service: Service, opened: Open) -> None:
    """1,000 events a second for some seconds: a press is answered in time, and the page does not grow."""
    await fill(service, *(f"job-{number:03}" for number in range(200)))
    page = await opened(service.url)
    await live(page)
    await expect(row(page, "job-000")).to_be_visible()
    going = True

    async def flood() -> int:
        count = 0
        while going:
            moves = (service.store.move("vm", f"job-{100 + n % 100:03}", "back") for n in range(100))
            await asyncio.gather(*moves, asyncio.sleep(0.1))
            count += 100
        return count

    task = asyncio.create_task(flood())
    nodes = await page.evaluate("document.querySelectorAll('*').length")
    try:
        for name in ("job-005", "job-006", "job-007"):
            await press(page, "Move to the front", name)
            await until(lambda name=name: front(service), name, seconds=3)
            await until(lambda: first_row(page), name, seconds=3)
    finally:
        going = False
    assert await task > 500
    assert await page.evaluate("document.querySelectorAll('*').length") < nodes + 2_000


async def front(service: Service) -> str:
    return str((await service.call("GET", "/v1/vm/?status=queued&limit=1"))[1]["data"][0]["RequestID"])


async def first_row(page: Page) -> str:
    return (await line(page) or [""])[0]
