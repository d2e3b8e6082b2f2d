"""What the other tests of the board rely on: a page in which something goes wrong does not pass."""

import pytest
from playwright.async_api import Browser

from tests.board.chromium import Watch, found_by_axe
from tests.conftest import Service

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow]

GOES_WRONG = """
async () => {
    console.warn('a warning');
    setTimeout(() => { throw new Error('thrown later'); });
    await fetch('http://192.0.2.1/').catch(() => {});
    await fetch('/v1/vm/nobody');
    const image = document.createElement('img');
    image.src = 'data:image/gif;base64,R0lGODlhAQABAAAAACw=';
    document.body.append(image);
    await new Promise((resolve) => setTimeout(resolve, 1));
}
"""


async def test_what_goes_wrong_in_a_page_is_seen(browser: Browser, service: Service) -> None:
    watch = Watch()
    async with await browser.new_context() as context:
        watch.over(context)
        page = await context.new_page()
        await page.goto(f"{service.url}/readyz")
        await page.evaluate(
            "document.head.innerHTML = '<meta http-equiv=Content-Security-Policy content=\"img-src none\">'"
        )
        await page.evaluate(GOES_WRONG)
        found = await found_by_axe(page)
    assert {"console: a warning", "thrown: thrown later", "404 GET /v1/vm/nobody"} <= set(watch.seen)
    assert "asked another host: http://192.0.2.1/" in watch.seen
    assert any("img-src none" in one for one in watch.seen), watch.seen
    assert any("image-alt" in one for one in found)
    watch.expect("^404 GET /v1/vm/nobody$")
    assert len(watch.faults) == len(watch.seen) - 1
