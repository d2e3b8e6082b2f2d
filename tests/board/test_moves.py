"""Jobs are moved on the board: by mouse, by buttons, by keyboard, from two tabs, and against others."""

import pytest
from playwright.async_api import Route, expect

from tests.board.chromium import Watch
from tests.board.conftest import Open
from tests.board.driver import drag, fill, held, live, press, row, said, shows, stands, until
from tests.conftest import Service

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow]


async def test_a_row_that_is_dragged_is_moved_and_the_move_undone(service: Service, opened: Open) -> None:
    await fill(service, "a", "b", "c", "d", "e", "f")
    page = await opened(service.url)
    await live(page)
    await shows(page, "a", "b", "c", "d", "e", "f")
    await drag(page, "e", onto="b")
    await stands(service, "a", "e", "b", "c", "d", "f")
    await shows(page, "a", "e", "b", "c", "d", "f")
    await said(page, "e")
    await drag(page, "a", onto="d")
    await stands(service, "e", "b", "c", "d", "a", "f")
    await page.get_by_role("button", name="Undo").click()
    await stands(service, "a", "e", "b", "c", "d", "f")
    await shows(page, "a", "e", "b", "c", "d", "f")


async def test_buttons_move_a_job(service: Service, opened: Open) -> None:
    await fill(service, "a", "b", "c", "d")
    page = await opened(service.url)
    await shows(page, "a", "b", "c", "d")
    await press(page, "Move to the front", "c")
    await stands(service, "c", "a", "b", "d")
    await press(page, "Move down", "c")
    await stands(service, "a", "c", "b", "d")
    await press(page, "Move up", "d")
    await stands(service, "a", "c", "d", "b")
    await press(page, "Move to the back", "a")
    await stands(service, "c", "d", "b", "a")
    await shows(page, "c", "d", "b", "a")


async def test_the_keyboard_alone_moves_jobs(service: Service, opened: Open) -> None:
    """From the first Tab on, with the focus on the row wherever it goes."""
    await fill(service, "a", "b", "c", "d", "e")
    page = await opened(service.url)
    await live(page)
    await shows(page, "a", "b", "c", "d", "e")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")  # skips to the line
    await page.keyboard.press("Tab")
    await expect(row(page, "a")).to_be_focused()
    for key, order in (
        ("Alt+ArrowDown", "bacde"),
        ("Alt+ArrowDown", "bcade"),
        ("Alt+End", "bcdea"),
        ("Alt+ArrowUp", "bcdae"),
        ("Alt+Home", "abcde"),
    ):
        await page.keyboard.press(key)
        await stands(service, *order)
        await shows(page, *order)
        await expect(row(page, "a")).to_be_focused()
    await page.keyboard.press("End")
    await expect(row(page, "e")).to_be_focused()
    await page.keyboard.press("Alt+ArrowUp")
    await stands(service, "a", "b", "c", "e", "d")
    await page.keyboard.press("Control+z")
    await stands(service, "a", "b", "c", "d", "e")
    await page.keyboard.press("Delete")
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await page.keyboard.press("ArrowUp")
    await page.keyboard.press("Delete")
    await page.get_by_role("dialog").get_by_role("button", name="Cancel the job").press("Enter")
    await stands(service, "a", "b", "c", "e")
    await shows(page, "a", "b", "c", "e")


async def test_a_job_goes_to_a_place_that_is_named(service: Service, opened: Open, watch: Watch) -> None:
    watch.expect("^409 POST /v1/vm/a")
    await fill(service, "a", "b", "c", "d", "e")
    page = await opened(service.url)
    await shows(page, "a", "b", "c", "d", "e")
    for kind, place, order in (
        ("to position", "3", "bcdae"),
        ("to position", "0", "abcde"),
        ("right before the job", "d", "bcade"),
        ("right behind the job", "d", "bcdae"),
    ):
        await press(page, "Move to another place", "a")
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Move it").select_option(kind)
        await dialog.get_by_label("Place").fill(place)
        await dialog.get_by_label("Place").press("Enter")
        await stands(service, *order)
        await shows(page, *order)
    await press(page, "Move to another place", "a")
    await page.get_by_role("dialog").get_by_label("Move it").select_option("right behind the job")
    await page.get_by_role("dialog").get_by_label("Place").fill("nobody")
    await page.get_by_role("dialog").get_by_role("button", name="Move").click()
    await said(page, "a was not moved", "nobody")


async def test_a_row_in_hand_may_be_lost(service: Service, opened: Open, watch: Watch) -> None:
    """While it is dragged nothing moves under it; what has happened is told when it is let go."""
    watch.expect("^409 POST /v1/vm/d")
    await fill(service, "a", "b", "c", "d")
    page = await opened(service.url)
    await live(page)
    await shows(page, "a", "b", "c", "d")
    async with held(page, "d", onto="b"):
        await service.call("DELETE", "/v1/vm/d")
        await service.call("POST", "/v1/vm/c", {"position": "front"})
        await until(page.locator("#events li").count, 6)
        await expect(row(page, "d").first).to_be_attached()
    await said(page, "d was not moved", "cancelled")
    await shows(page, "c", "a", "b")


async def test_undo_says_what_it_cannot_do(service: Service, opened: Open, watch: Watch) -> None:
    watch.expect("^409 POST /v1/vm/(b|d)")
    await fill(service, "a", "b", "c", "d")
    page = await opened(service.url)
    await live(page)
    await shows(page, "a", "b", "c", "d")
    undo = page.get_by_role("button", name="Undo")
    await expect(undo).to_be_disabled()
    await press(page, "Move to the front", "d")
    await press(page, "Move to the front", "b")
    await stands(service, "b", "d", "a", "c")
    # Those between which b stood are no neighbours any more.
    await service.call("POST", "/v1/vm/a", {"position": "back"})
    await shows(page, "b", "d", "c", "a")
    await undo.click()
    await said(page, "b is back at its old priority")
    await stands(service, "d", "b", "c", "a")
    await service.call("DELETE", "/v1/vm/d")
    await shows(page, "b", "c", "a")
    await undo.click()
    await said(page, "d cannot be taken back", "cancelled")
    await expect(undo).to_be_disabled()


async def test_jobs_are_found_by_owner_status_and_text(service: Service, opened: Open) -> None:
    await fill(service, "a1", "a2", owner="alice", note="Blue")
    await fill(service, "b1", "b2", owner="bob", note="green")
    await service.call("DELETE", "/v1/vm/b2")
    page = await opened(service.url)
    await shows(page, "a1", "a2", "b1")
    await page.get_by_label("Owner").fill("bob")
    await shows(page, "b1")
    await page.get_by_label("Status").select_option("cancelled")
    await shows(page, "b2")
    await page.get_by_role("button", name="Clear").click()
    await shows(page, "a1", "a2", "b1")
    await page.get_by_role("searchbox", name="Search").fill("bLUE")
    await shows(page, "a1", "a2")
    await fill(service, "c1", owner="carol", note="blue too")
    await shows(page, "a1", "a2", "c1")
    await press(page, "Move to the front", "c1")
    await stands(service, "c1", "a1", "a2", "b1")
    await shows(page, "c1", "a1", "a2")


async def test_a_move_in_one_tab_is_seen_in_another(service: Service, opened: Open) -> None:
    await fill(service, "a", "b", "c")
    one, other = await opened(service.url), await opened(service.url)
    for page in (one, other):
        await live(page)
        await shows(page, "a", "b", "c")
    await press(one, "Move to the front", "c")
    await shows(other, "c", "a", "b")
    await press(other, "Move to the back", "a")
    await shows(one, "c", "b", "a")


async def test_a_lost_race_is_told_and_the_truth_shown(service: Service, opened: Open, watch: Watch) -> None:
    """Between the drop and the service, the job's new neighbour is cancelled, or the job itself is."""
    await fill(service, "a", "b", "c", "d")
    page = await opened(service.url)
    await live(page)
    await shows(page, "a", "b", "c", "d")

    async def first(gone: str) -> None:
        async def cancel(route: Route) -> None:
            assert (await service.call("DELETE", f"/v1/vm/{gone}"))[0] == 200
            await route.continue_()

        await page.route("**/v1/vm/d", cancel, times=1)

    watch.expect("^409 POST /v1/vm/d")
    await first("b")
    await drag(page, "d", onto="b")
    await said(page, "d", "b")
    await shows(page, "a", "c", "d")
    await stands(service, "a", "c", "d")
    await first("d")
    await press(page, "Move to the front", "d")
    await said(page, "d", "cancelled")
    await shows(page, "a", "c")
