"""Pictures of the board for the documents: `python -m tests.board.screenshots` writes docs/images/board-*."""

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.async_api import expect

from rqueue.store.embedded import embedded
from tests.board.chromium import chromium
from tests.board.driver import live, row
from tests.conftest import Service, config_of, receiving, serving

IMAGES = Path(__file__).parents[2] / "docs" / "images"
MOST_BYTES = 200_000
DESK: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}}
PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
SHOTS = {
    "light": DESK,
    "dark": {**DESK, "color_scheme": "dark"},
    "phone": PHONE,
}
HOSTS = {f"gpu-{number}": {"VCPU": 64, "Memory": 262144, "GPU": 8} for number in range(1, 5)}
MOVES = {"speech-run-118": {"position": "front"}}
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
    body = {"hosts": HOSTS, "quotas": {"vision": {"GPU": 16}}}
    await service.call("PUT", "/queues/vm/pools/gpu", body)
    await service.call("PUT", "/queues/vm", {"policy": "backfill", "patience": 600})
    for number in range(14):
        await post(
            service, f"{url}/{number}", f"{OWNERS[number % 4]}-run-{number + 81}", OWNERS[number % 4], 1, 4
        )
        clock.forward(5)
    for number in range(6):
        await service.call("DELETE", f"/v1/vm/{OWNERS[number % 4]}-run-{number + 81}")
        clock.forward(8)
        await service.settle()
    for number in range(14, 44):
        count, gpus = 1 + number % 3, (4, 8, 1, 2)[number % 4]
        owner = OWNERS[number * 3 % 5]
        await post(service, f"{url}/{number}", f"{owner}-run-{number + 81}", owner, count, gpus)
        clock.forward(2 + number % 4)
    for request_id, wish in MOVES.items():
        await service.call("POST", f"/v1/vm/{request_id}", wish)
    clock.forward(24 * 60)
    await post(service, "http://127.0.0.1:9/lost", "sweep-17", "robotics", 1, 1)
    await service.settle()


async def post(service: Service, callback: str, request_id: str, owner: str, count: int, gpus: int) -> None:
    shape = {"VCPU": gpus * 7, "Memory": gpus * 28672, "GPU": gpus}
    data = {"host_aggregate": "gpu", "instances": [shape] * count}
    job = {"request_id": request_id, "owner_id": owner, "data": data, "callback": callback}
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
                    await expect(row(page, "speech-run-118")).to_be_visible()
                    file = IMAGES / f"board-{name}.png"
                    await page.screenshot(path=file, animations="disabled")
                    assert file.stat().st_size <= MOST_BYTES, f"{file} is larger than {MOST_BYTES} bytes"


if __name__ == "__main__":
    asyncio.run(main())
