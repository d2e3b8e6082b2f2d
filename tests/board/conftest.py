"""What the tests of the board are given: a browser, a service in real time, and pages that must not fail."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from tests.board import chromium
from tests.board.chromium import PATIENCE_MS, Watch
from tests.conftest import Service, config_of, redis_at, serving

Open = Callable[..., Awaitable[Page]]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """One Chromium for all tests of a process."""
    if chromium.binary() is None:
        pytest.skip("NO chromium on the PATH: Debian's package chromium is not installed")
    async with chromium.chromium() as browser:
        yield browser


@pytest.fixture
def watch() -> Watch:
    """What may go wrong in the pages of this test."""
    return Watch()


async def emptied(url: str, namespace: str) -> None:
    """Remove what a test wrote."""
    async with redis_at(url) as redis:
        keys = [key async for key in redis.scan_iter(f"{namespace}:*", count=1000)]
        for start in range(0, len(keys), 1000):
            await redis.unlink(*keys[start : start + 1000])


@pytest_asyncio.fixture(loop_scope="session")
async def service(valkey_url: str, namespace: str) -> AsyncIterator[Service]:
    """A running service on a real server, in real time."""
    async with serving(config_of(namespace), valkey_url) as service:
        yield service
    await emptied(valkey_url, namespace)


@pytest_asyncio.fixture(loop_scope="session")
async def opened(browser: Browser, watch: Watch) -> AsyncIterator[Open]:
    """Opens the board of a service in a browser profile of its own; `options` are those of Playwright.

    Fails the test afterwards for whatever went wrong in such a page.
    """
    async with AsyncExitStack() as stack:

        async def open_(url: str, type_: str = "vm", **options: Any) -> Page:
            context = await browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
            stack.push_async_callback(context.close)
            context.set_default_timeout(PATIENCE_MS)
            watch.over(context)
            page = await context.new_page()
            await page.goto(f"{url}/board/#queue={quote(type_, safe='')}")
            return page

        yield open_
    assert watch.faults == []
