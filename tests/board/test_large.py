"""A line of 100,000: the page holds a window of it, and is as quick as with ten."""

import time

import pytest
from playwright.async_api import Page, expect

from rqueue.domain.job import Draft
from tests.board.conftest import Open
from tests.board.driver import drag, line, live, press, row, until
from tests.conftest import Service, new

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow]

COUNT = 100_000
BATCH = 1_000
FIRST_ROWS_SECONDS = 5.0
# Of a page that held a row for each job there would be millions.
MOST_NODES = 6_000
MOST_ROWS = 150


def name(number: int) -> str:
    return f"job-{number:06}"


async def crowd(service: Service) -> None:
    """Fill the line; those of one owner go in together, which is quick."""
    for start in range(0, COUNT, BATCH):
        drafts: list[Draft] = [new(name(n), f"owner-{start // BATCH}") for n in range(start, start + BATCH)]
        await service.store.create("vm", drafts, indexed=True)


async def names_at(service: Service, position: int, count: int) -> list[str]:
    path = f"/v1/vm/?status=queued&position={position}&limit={count}"
    return [job["RequestID"] for job in (await service.call("GET", path))[1]["data"]]


async def scroll_to(page: Page, share: float) -> None:
    """Scroll the line so that this share of it is above its window."""
    await page.evaluate(
        """(share) => {
            const line = document.getElementById('line');
            let box = line;
            while (box.scrollHeight <= box.clientHeight + 1 && box.parentElement) box = box.parentElement;
            box.scrollTop = share * (box.scrollHeight - box.clientHeight);
        }""",
        share,
    )


async def bounded(page: Page) -> None:
    assert await page.locator("#line [data-request-id]").count() <= MOST_ROWS
    assert await page.evaluate("document.querySelectorAll('*').length") <= MOST_NODES


@pytest.mark.timeout(180)
async def test_a_hundred_thousand_jobs_are_usable(service: Service, opened: Open) -> None:
    await crowd(service)
    began = time.monotonic()
    page = await opened(service.url)
    await expect(row(page, name(0))).to_be_visible()
    took = time.monotonic() - began
    assert took < FIRST_ROWS_SECONDS
    await live(page)
    # The row of headings is one too.
    await expect(page.locator("#line")).to_have_attribute("aria-rowcount", str(COUNT + 1))
    await bounded(page)

    await scroll_to(page, 0.5)
    middle = name(COUNT // 2)
    await expect(row(page, middle)).to_be_visible()
    await bounded(page)
    there = await line(page)
    assert there == [name(number) for number in range(int(there[0][4:]), int(there[-1][4:]) + 1)]
    await drag(page, middle, onto=name(COUNT // 2 - 3))
    near = [name(COUNT // 2 + by) for by in (-4, 0, -3, -2, -1, 1)]
    await until(lambda: names_at(service, COUNT // 2 - 4, 6), near)
    await until(lambda: among(page, near), near)

    await scroll_to(page, 1)
    last = name(COUNT - 1)
    await expect(row(page, last)).to_be_visible()
    await bounded(page)
    await press(page, "Move to the front", last)
    await until(lambda: names_at(service, 0, 2), [last, name(0)])
    # The window stays where it was: what moved away is gone from it.
    await expect(row(page, last)).to_have_count(0)
    await expect(row(page, name(COUNT - 2))).to_be_visible()
    await scroll_to(page, 0)
    await expect(row(page, last)).to_be_visible()
    await bounded(page)


async def among(page: Page, names: list[str]) -> list[str]:
    """These rows, in the order in which they stand on the page."""
    return [one for one in await line(page) if one in names]
