"""What the tests do with a board, as an operator would, and with the service behind it."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

from playwright.async_api import Locator, Page, expect

from tests.conftest import Service

PATIENCE_SECONDS = 10.0
# The waiting line as it stands on the page, from the top; rows may be placed by other means than their order.
_LINE = """
() => [...document.querySelectorAll('#line [data-request-id]')]
    .map((row) => [row.getBoundingClientRect().top, row.dataset.requestId])
    .sort((one, other) => one[0] - other[0]).map(([, name]) => name)
"""


async def until(seen: Callable[[], Awaitable[Any]], wanted: Any, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until something is as wanted; fails with what it was last."""
    last = None
    try:
        async with asyncio.timeout(seconds):
            while (last := await seen()) != wanted:  # noqa: ASYNC110 - a page tells nobody
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"expected {wanted!r}, and it stayed {last!r}") from None


# --- the service -----------------------------------------------------------------------------------


async def fill(
    service: Service, *request_ids: str, type_: str = "vm", owner: str = "alice", **data: Any
) -> None:
    """Put jobs in line, in this order; without a pool that could take them, they stay there."""
    jobs = [
        {
            "request_id": one,
            "owner_id": owner,
            "data": data,
            "callback": f"http://127.0.0.1:9/{quote(one, safe='')}",
        }
        for one in request_ids
    ]
    assert (await service.call("POST", f"/v1/{quote(type_, safe='')}/", jobs))[0] == 201


async def order(service: Service, type_: str = "vm") -> list[str]:
    """The request_ids of the waiting jobs, as the service has them."""
    path = f"/v1/{quote(type_, safe='')}/?status=queued"
    return [job["RequestID"] for job in (await service.call("GET", path))[1]["data"]]


async def stands(service: Service, *request_ids: str) -> None:
    """Wait until the service has the line in this order."""
    await until(lambda: order(service), list(request_ids))


# --- the page --------------------------------------------------------------------------------------


async def line(page: Page) -> list[str]:
    """The request_ids of the rows that are on the page, from the top."""
    found: list[str] = await page.evaluate(_LINE)
    return found


async def shows(page: Page, *request_ids: str) -> None:
    """Wait until the page has exactly these rows, in this order."""
    await until(lambda: line(page), list(request_ids))


async def live(page: Page) -> None:
    """Wait until the page hears of what happens."""
    await expect(page.locator("#connection")).to_have_attribute("data-state", "live")


def row(page: Page, request_id: str) -> Locator:
    """The row of a job in the waiting line."""
    written = re.sub(r'[\x00-\x1f"\\]', lambda found: f"\\{ord(found[0]):x} ", request_id)
    return page.locator(f'#line [data-request-id="{written}"]')


async def press(page: Page, name: str, request_id: str) -> None:
    """Press one of a row's buttons, found by the beginning of its accessible name."""
    await row(page, request_id).get_by_role("button", name=re.compile(f"^{name}")).click()


async def said(page: Page, *words: str) -> None:
    """Wait until the page has said something with all these words."""
    told = page.get_by_role("status")
    for word in words:
        await expect(told.filter(has_text=re.compile(word, re.IGNORECASE)).first).to_be_visible()


async def drag(page: Page, request_id: str, onto: str) -> None:
    """Drag a row to where another stands."""
    async with held(page, request_id, onto):
        pass


@asynccontextmanager
async def held(page: Page, request_id: str, onto: str) -> AsyncIterator[None]:
    """A row is in hand where another stands, dragged there in steps, so that it pushes that one away."""
    one, other = row(page, request_id), row(page, onto)
    start, end = await one.bounding_box(), await other.bounding_box()
    assert start is not None
    assert end is not None
    x, y = start["x"] + 60, start["y"] + start["height"] / 2
    up = end["y"] < start["y"]
    target = end["y"] + end["height"] * (0.2 if up else 0.8)
    await page.mouse.move(x, y)
    await page.mouse.down()
    await page.mouse.move(x, y + (-4 if up else 4))
    await page.mouse.move(x, target, steps=12)
    yield
    await page.mouse.up()
