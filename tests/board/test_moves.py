"""Jobs are moved on the board: by mouse, by buttons, by keyboard, from two tabs, and against others."""

import pytest
from playwright.async_api import Route

from tests.board.chromium import Watch
from tests.board.conftest import Open
from tests.board.driver import drag, fill, live, press, said, shows, stands
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
