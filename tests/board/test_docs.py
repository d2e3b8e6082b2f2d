"""The page of the API in a real Chromium: from this service alone, under its policy, for all to read."""

from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from rqueue import tokens
from rqueue.domain.caller import Role
from tests.board.chromium import Watch, found_by_axe
from tests.conftest import config_of, serving

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]

# Swagger UI draws much at once, and others may be at work on the machine.
LONG_MS = 60_000


@pytest.mark.parametrize("colours", ["light", pytest.param("dark", marks=pytest.mark.thorough)])
async def test_a_call_is_tried_out_with_a_token(
    browser: Browser, watch: Watch, valkey_url: str, namespace: str, tmp_path: Path, colours: str
) -> None:
    token, entry = tokens.make("a", Role.VIEWER, (), ())
    tokens.add(tmp_path / "tokens", entry)
    config = config_of(namespace, tokens_file=tmp_path / "tokens")
    async with (
        serving(config, valkey_url) as service,
        await browser.new_context(color_scheme=colours) as context,
    ):
        context.set_default_timeout(LONG_MS)
        watch.over(context)
        # Said of each link to an operation whose name has an underscore.
        watch.expect("^console: Deprecated: escaping deep link whitespace")
        page = await context.new_page()
        await page.goto(f"{service.url}/docs#/jobs/get_job")
        operation = page.locator("#operations-jobs-get_job")
        await expect(operation.get_by_text("404", exact=True).first).to_be_visible(timeout=LONG_MS)
        is_dark = await page.evaluate("document.documentElement.classList.contains('dark-mode')")
        assert is_dark == (colours == "dark")
        assert [one for one in await found_by_axe(page) if one.startswith(("serious", "critical"))] == []

        await page.get_by_role("button", name="Authorize").click()
        form = page.get_by_role("dialog")
        await form.locator("#auth-bearer-value").fill(token)
        await form.get_by_role("button", name="Apply credentials").first.click()
        await form.get_by_role("button", name="Close").first.click()
        await operation.get_by_role("button", name="Try it out").click()
        await operation.get_by_label("type", exact=True).fill("vm")
        await operation.get_by_label("request_id", exact=True).fill("a/b")
        watch.expect("^404 GET /v1/vm/a%2Fb$")
        await operation.get_by_role("button", name="Execute").click()
        live = operation.locator(".live-responses-table")
        await expect(live).to_contain_text("there is no job 'a/b' of type 'vm'", timeout=LONG_MS)
    assert watch.faults == []
