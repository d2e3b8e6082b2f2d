"""How the page is for a screen reader, on a phone, in the dark, and with names that are to break it."""

import re

import pytest
from playwright.async_api import Page, expect

from tests.board.chromium import Watch, found_by_axe
from tests.board.conftest import Open
from tests.board.driver import fill, live, order, press, row, shows, stands, until
from tests.conftest import Service

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow]

HOSTILE = (
    "<img src=x onerror=\"document.title='broken'\">",
    "\"quoted\" 'and' `ticks` \\ & &amp; {{x}} ${y}",
    "‮drawkcab‬ مرحبا בְּרֵאשִׁית",
    "名" * 85,
    "a/b:c?d#e%2F f",
    "w" * 256,
    "line\nbreak\ttab",
    "__proto__",
)
PHONE = {
    "viewport": {"width": 360, "height": 740},
    "has_touch": True,
    "is_mobile": True,
    "device_scale_factor": 2,
}


async def furnished(service: Service) -> None:
    """A queue with something in every part of the page."""
    hosts = {f"node-{number}": {"VCPU": 8, "Memory": 16384} for number in range(3)}
    body = {"hosts": hosts, "quotas": {"alice": {"VCPU": 12}}}
    assert (await service.call("PUT", "/queues/vm/pools/host1", body))[0] == 200
    small = {"host_aggregate": "host1", "instances": [{"VCPU": 2, "Memory": 2048}]}
    large = {"host_aggregate": "host1", "instances": [{"VCPU": 8, "Memory": 2048}] * 2}
    await fill(service, "runs-1", "runs-2", **small)
    await fill(service, "big-1", owner="bob", **large)
    await fill(service, "big-2", "big-3", owner="carol", **large)
    await fill(service, "never", owner="dave", host_aggregate="host1", instances=[{"VCPU": 99}])
    await service.call("POST", "/v1/vm/runs-1", {"status": "running"})


async def overflow(page: Page) -> int:
    """How many pixels the page is wider than its window."""
    return max(0, await page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing(service: Service, opened: Open, scheme: str) -> None:
    """On the page, in each dialog, and of a table that is unfolded."""
    await furnished(service)
    page = await opened(service.url, color_scheme=scheme)
    await live(page)
    await shows(page, "big-2", "big-3", "never")
    await expect(page.locator("#running")).to_contain_text("runs-1")
    await expect(page.locator("#pools")).to_contain_text("host1")
    await page.get_by_text("As a table").click()
    await page.get_by_text("Quotas", exact=True).click()
    await press(page, "Move to the front", "big-3")
    await shows(page, "big-3", "big-2", "never")
    assert await found_by_axe(page) == []
    for opens in ("big-2", "Move to another place: big-2", "Cancel: big-2"):
        await row(page, "big-2").get_by_role("button", name=opens, exact=True).click()
        await expect(page.get_by_role("dialog")).to_be_visible()
        assert await found_by_axe(page) == [], opens
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("dialog")).to_have_count(0)
    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog")).to_be_visible()
    assert await found_by_axe(page) == []


async def test_a_phone_has_all_of_it_in_reach(service: Service, opened: Open) -> None:
    await furnished(service)
    page = await opened(service.url, **PHONE)
    await live(page)
    await shows(page, "big-2", "big-3", "never")
    assert await overflow(page) == 0
    assert await found_by_axe(page) == []
    button = row(page, "never").get_by_role("button", name="Move to the front")
    box = await button.bounding_box()
    assert box is not None
    assert min(box["width"], box["height"]) >= 44
    await button.tap()
    await stands(service, "never", "big-2", "big-3")
    await shows(page, "never", "big-2", "big-3")
    for section in ("#pools", "#running", "#deliveries", "#events"):
        await page.locator(section).scroll_into_view_if_needed()
        await expect(page.locator(section)).to_be_in_viewport()


async def test_nothing_is_cut_off_at_any_width(service: Service, opened: Open) -> None:
    await furnished(service)
    page = await opened(service.url)
    await shows(page, "big-2", "big-3", "never")
    for width in (320, 360, 760, 761, 1140, 1141, 1280, 1440, 1920):
        await page.set_viewport_size({"width": width, "height": 900})
        assert await overflow(page) <= 0, width
        assert await page.locator("#line").evaluate("(line) => line.scrollWidth - line.clientWidth") == 0, (
            width
        )
        await row(page, "never").get_by_role("button", name="Cancel").click(trial=True)


async def test_a_finger_that_rests_takes_a_row_along(service: Service, opened: Open) -> None:
    await fill(service, "a", "b", "c", "d")
    page = await opened(service.url, **PHONE)
    await live(page)
    await shows(page, "a", "b", "c", "d")
    await drag_by_finger(page, "c", onto="a")
    await stands(service, "c", "a", "b", "d")
    await shows(page, "c", "a", "b", "d")


async def drag_by_finger(page: Page, request_id: str, onto: str) -> None:
    """Hold a row until it comes along, and let it go where another stands; Playwright itself only taps."""
    one, other = await row(page, request_id).bounding_box(), await row(page, onto).bounding_box()
    assert one is not None
    assert other is not None
    x, start, end = one["x"] + 40, one["y"] + 15, other["y"] + 10
    session = await page.context.new_cdp_session(page)

    async def touch(type_: str, *points: float) -> None:
        at = [{"x": x, "y": y} for y in points]
        await session.send("Input.dispatchTouchEvent", {"type": type_, "touchPoints": at})

    await touch("touchStart", start)
    await expect(row(page, request_id)).to_have_class(re.compile("sortable-chosen"))
    for step in range(1, 13):
        await touch("touchMove", start + (end - start) * step / 12)
    await touch("touchEnd")


async def test_names_are_text_whatever_they_hold(service: Service, opened: Open, watch: Watch) -> None:
    """In the line, the dialogs, the events and the address: nothing of them is run, and each can be moved."""
    type_ = "q/<b>&'\"?#"
    await fill(
        service,
        *HOSTILE,
        type_=type_,
        owner=HOSTILE[0],
        note="</pre><script>document.title='broken'</script>",
    )
    page = await opened(service.url, type_=type_)
    await live(page)
    await shows(page, *HOSTILE)
    assert await overflow(page) == 0
    for request_id in reversed(HOSTILE):
        await press(page, "Move to the front", request_id)
        await until(lambda request_id=request_id: first(service, type_), request_id)
    await shows(page, *HOSTILE)
    await row(page, HOSTILE[0]).get_by_role("button", name=HOSTILE[0], exact=True).click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("</pre><script>")
    await expect(dialog).to_contain_text("moved")
    await page.keyboard.press("Escape")
    await press(page, "Cancel", HOSTILE[5])
    await page.get_by_role("dialog").get_by_role("button", name="Cancel the job").click()
    await shows(page, *(one for one in HOSTILE if one != HOSTILE[5]))
    await page.get_by_label("Owner").fill(HOSTILE[0])
    await shows(page, *(one for one in HOSTILE if one != HOSTILE[5]))
    assert "broken" not in await page.title()
    assert await page.locator("#board img, #board script").count() == 0


async def first(service: Service, type_: str) -> str:
    return (await order(service, type_))[0]


async def test_nothing_moves_for_who_wants_no_motion(service: Service, opened: Open) -> None:
    await fill(service, "a", "b", "c")
    page = await opened(service.url, reduced_motion="reduce")
    await live(page)
    await shows(page, "a", "b", "c")
    await press(page, "Move to the front", "c")
    assert (
        await page.evaluate(
            "document.getAnimations().filter((one) => one.effect.getComputedTiming().duration > 1).length"
        )
        == 0
    )
    await shows(page, "c", "a", "b")
