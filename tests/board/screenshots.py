"""Pictures of the board for the documents: `python -m tests.board.screenshots` writes docs/images/board-*."""

import asyncio
import itertools
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.async_api import expect

from rqueue.store.embedded import embedded
from tests.board.chromium import chromium
from tests.board.driver import live
from tests.conftest import Service, config_of, receiving, serving

IMAGES = Path(__file__).parents[2] / "docs" / "images"
MOST_BYTES = 200_000
DESK: dict[str, Any] = {"viewport": {"width": 1280, "height": 720}}
PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
SHOTS = {
    "light": DESK,
    "dark": {**DESK, "color_scheme": "dark"},
    "phone": PHONE,
}
POOLS = {
    "gpu": {f"gpu-{number}": {"VCPU": 64, "Memory": 262144, "GPU": 8} for number in range(1, 5)},
    "cpu": {f"cpu-{number}": {"VCPU": 32} for number in range(1, 3)},
}
QUOTAS = {"gpu": {"vision": {"GPU": 12}}, "cpu": {}}
AWAY = "http://127.0.0.1:9"
OWNERS = ("vision", "speech", "physics", "genomics", "robotics")


class Past:
    """A clock that is behind, and is put forward from one job to the next until it is the machine's."""

    def __init__(self, minutes: int) -> None:
        self.behind_us = minutes * 60_000_000

    def __call__(self) -> int:
        return time.time_ns() // 1000 - self.behind_us

    def forward(self, minutes: float) -> None:
        self.behind_us = max(0, self.behind_us - int(minutes * 60_000_000))


async def furnish(service: Service, url: str, clock: Past) -> None:
    """A queue as on a working day: hosts that are nearly full, a receiver that is away, and a line."""
    for pool, hosts in POOLS.items():
        await service.call("PUT", f"/queues/vm/pools/{pool}", {"hosts": hosts, "quotas": QUOTAS[pool]})
    await post(service, AWAY, "sweep-16", "robotics", "cpu", VCPU=8)
    numbers = itertools.count(81)
    started = []
    for owner in OWNERS[:4] * 6:
        started.append(f"{owner}-run-{next(numbers)}")
        await post(service, url, started[-1], owner, "gpu", **gpus(4))
        clock.forward(3)
    for request_id in started[:12]:
        await service.call("DELETE", f"/v1/vm/{request_id}")
        await service.settle()
        clock.forward(6)
    for number in range(24):
        owner = OWNERS[number * 3 % 5]
        shape = gpus((4, 8, 1, 2)[number % 4])
        await post(service, url, f"{owner}-run-{next(numbers)}", owner, "gpu", 1 + number % 3, **shape)
        clock.forward(2 + number % 4)
    await post(service, url, "nightly-build", "speech", "cpu", VCPU=12)
    clock.forward(24 * 60)
    await post(service, AWAY, "sweep-17", "robotics", "cpu", 2, VCPU=8)
    await service.call("POST", f"/v1/vm/{OWNERS[2]}-run-119", {"position": "front"})
    await service.settle()


def gpus(count: int) -> dict[str, int]:
    return {"VCPU": count * 7, "Memory": count * 28672, "GPU": count}


async def post(
    service: Service, url: str, request_id: str, owner: str, pool: str, count: int = 1, **shape: int
) -> None:
    data = {"host_aggregate": pool, "instances": [shape] * count}
    job = {"request_id": request_id, "owner_id": owner, "data": data, "callback": f"{url}/{request_id}"}
    status, answer = await service.call("POST", "/v1/vm/", job)
    assert status == 201, answer
    await service.settle()


async def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    clock = Past(minutes=300)
    with tempfile.TemporaryDirectory() as folder, embedded(Path(folder)) as redis_url:
        async with (
            receiving() as receiver,
            serving(config_of("rqueue"), redis_url, clock) as service,
            chromium() as browser,
        ):
            await furnish(service, receiver.url, clock)
            for name, options in SHOTS.items():
                async with await browser.new_context(**options) as context:
                    page = await context.new_page()
                    await page.goto(f"{service.url}/board/")
                    await live(page)
                    await expect(page.locator("#line [data-request-id]").first).to_be_visible()
                    await expect(page.locator("#pools .host").first).to_be_visible()
                    file = IMAGES / f"board-{name}.png"
                    await page.screenshot(path=file, animations="disabled")
                    assert file.stat().st_size <= MOST_BYTES, f"{file} is larger than {MOST_BYTES} bytes"


if __name__ == "__main__":
    asyncio.run(main())
