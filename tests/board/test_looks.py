"""What the page looks like to people, to a screen reader, on a phone, and to those who name jobs to break it."""

import pytest
from playwright.async_api import Page, expect

from tests.board.chromium import found_by_axe
from tests.board.conftest import Open
from tests.board.driver import fill, live, press, row, shows, stands
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
    return int(await page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))
