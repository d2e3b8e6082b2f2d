"""Who may do what on the board: a token is asked for, and what its rights do not allow is not offered."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from rqueue import tokens
from tests.board.chromium import Watch, found_by_axe
from tests.board.conftest import Open, emptied
from tests.board.driver import live, press, row, shows, stands
from tests.conftest import Service, config_of, new, serving

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow]


@dataclass
class Guarded:
    """A service that asks for tokens; `token_of` a role, and of a client that is one owner."""

    service: Service
    token_of: dict[str, str] = field(default_factory=dict)


@pytest_asyncio.fixture(loop_scope="session")
async def guarded(valkey_url: str, namespace: str, tmp_path: Path) -> AsyncIterator[Guarded]:
    file, token_of = tmp_path / "tokens.yaml", {}
    for name, role, owners in (
        ("viewer", "viewer", ()),
        ("operator", "operator", ()),
        ("client", "client", ()),
        ("owner", "client", ("alice",)),
    ):
        token_of[name], entry = tokens.make(name, role, (), owners)
        tokens.add(file, entry)
    async with serving(config_of(namespace, tokens_file=file), valkey_url) as service:
        service.client.headers["Authorization"] = f"Bearer {token_of['operator']}"
        await service.store.create("vm", [new("a"), new("b", "alice"), new("c")], indexed=True)
        yield Guarded(service, token_of)
    await emptied(valkey_url, namespace)


async def log_in(page: Page, token: str) -> None:
    await page.get_by_label("Token").fill(token)
    await page.get_by_label("Token").press("Enter")


async def test_a_token_opens_the_board(guarded: Guarded, opened: Open, watch: Watch) -> None:
    watch.expect("^401 (GET|POST) ")
    page = await opened(guarded.service.url)
    await expect(page.get_by_label("Token")).to_be_visible()
    assert await found_by_axe(page) == []
    await log_in(page, "rq_nonsense")
    await expect(
        page.get_by_role("alert").or_(page.get_by_role("status")).filter(has_text="token")
    ).not_to_have_count(0)
    await log_in(page, guarded.token_of["operator"])
    await live(page)
    await shows(page, "a", "b", "c")
    # The token is nowhere that a script could read.
    kept = "JSON.stringify([document.cookie, {...localStorage}, {...sessionStorage}, location.href])"
    assert guarded.token_of["operator"] not in await page.evaluate(kept)
    await press(page, "Move to the front", "c")
    await shows(page, "c", "a", "b")


async def test_a_viewer_is_offered_nothing_that_changes(guarded: Guarded, opened: Open, watch: Watch) -> None:
    watch.expect("^401 GET ")
    page = await opened(guarded.service.url)
    await log_in(page, guarded.token_of["viewer"])
    await shows(page, "a", "b", "c")
    for name in ("Move", "Cancel", "Undo", "Pause", "Call now"):
        await expect(page.get_by_role("button", name=name)).to_have_count(0)
    await row(page, "c").focus()
    await page.keyboard.press("Alt+ArrowUp")
    await page.keyboard.press("Delete")
    await stands(guarded.service, "a", "b", "c")


@pytest.mark.parametrize(("name", "sees"), [("client", "abc"), ("owner", "b")])
async def test_a_client_sees_and_ends_its_jobs(
    guarded: Guarded, opened: Open, watch: Watch, name: str, sees: str
) -> None:
    """It may not read queues, so it names one in the address, and neither counts nor pools are shown."""
    watch.expect("^401 GET ")
    page = await opened(guarded.service.url)
    await log_in(page, guarded.token_of[name])
    await live(page)
    await shows(page, *sees)
    await expect(page.locator("#pools")).to_be_hidden()
    await expect(page.get_by_role("button", name="Move")).to_have_count(0)
    await press(page, "Cancel", "b")
    await page.get_by_role("dialog").get_by_role("button", name="Cancel the job").click()
    await shows(page, *sees.replace("b", ""))
    await stands(guarded.service, "a", "c")


async def test_a_session_that_ends_asks_for_the_token_again(
    guarded: Guarded, opened: Open, watch: Watch
) -> None:
    watch.expect("^40[13] ")
    page = await opened(guarded.service.url)
    await log_in(page, guarded.token_of["operator"])
    await shows(page, "a", "b", "c")
    await row(page, "c").focus()
    await page.context.clear_cookies()
    await page.keyboard.press("Alt+Home")
    await expect(page.get_by_label("Token")).to_be_visible()
    await log_in(page, guarded.token_of["operator"])
    await shows(page, "a", "b", "c")
    await press(page, "Move to the front", "c")
    await shows(page, "c", "a", "b")
    await live(page)
