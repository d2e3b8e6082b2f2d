"""A pool that OpenStack's Placement fills, shown: `make demo-openstack`.

A real Placement, with servers as Nova would make them, and `rqueue serve` as a user would start it. It checks
what it tells, and exits with 1 when something of it is not so.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import yaml
from rich.table import Table

from rqueue.demo import Receiver, Story, console, shown
from tests import placement as placements
from tests.placement import Placement

# How often rqueue reads Placement here, and for how long a call may be under way after that.
POLL_SECONDS = 1
CALL_SECONDS = 1
POOL = "/queues/vm/pools/hosts"
WAIT_SECONDS = 20
HAS = {"VCPU": 8, "MEMORY_MB": 16384, "DISK_GB": 200}
# VCPU of the servers that stay.
USED = {"node-1": 0, "node-2": 1, "node-3": 3}


class OpenStackStory(Story):
    """Four hosts, one of them disabled; what is free is in pieces; a job of three instances."""

    PATHS = ("/v1/vm/", POOL)

    def __init__(self, placement: Placement, client: aiohttp.ClientSession, receiver: Receiver) -> None:
        super().__init__(client, receiver)
        self._placement = placement
        self._aggregate = str(uuid4())
        self._hosts: dict[str, str] = {}
        self._deleted_at = 0.0

    async def tell(self) -> None:
        console.rule("1. A cloud of four hosts with servers on them; node-4 is disabled")
        for name in ("node-1", "node-2", "node-3", "node-4"):
            self._hosts[name] = await self._cloud(self._placement.host, self._aggregate, name, **HAS)
        old = await self._built("node-1", 5)
        await self._built("node-2", USED["node-2"])
        await self._built("node-3", USED["node-3"])
        await self._cloud(self._placement.disable, self._hosts["node-4"])

        console.rule("2. An operator makes its aggregate a pool")
        await self._ask("PUT", "/queues/vm", {"source": "openstack"})
        await self._ask("PUT", POOL, {"aggregate": self._aggregate, "projects": ["project"]})
        await self._polls(1)
        await self._show_pool()
        await self._check_free(
            "node-4 is none of them", {"node-1": 3, **{name: 8 - USED[name] for name in ("node-2", "node-3")}}
        )

        console.rule("3. A job of three instances waits: 15 VCPU are free, but in pieces")
        await self._post("train", 3, 4)
        await self._post("next", 1, 5)
        await self._polls(2)
        await self._show_line()
        self._check("nobody is called", self._receiver.arrived.empty())

        console.rule("4. A server is deleted on node-1, and the job is called within a poll")
        await self._deleted(old)
        placement = await self._called_in_time("train")
        room = {name: (8 - used) // 4 for name, used in USED.items()}
        self._check("on hosts that hold it", all(placement.count(name) <= room[name] for name in placement))

        console.rule("5. Its client is slow to build: what it was promised stays promised")
        free = {name: 8 - used - 4 * placement.count(name) for name, used in USED.items()}
        await self._polls(2)
        await self._check_free("two polls later, with nothing built", free)
        servers = [await self._built(name, 4) for name in placement]
        await self._polls(2)
        found = await self._free()
        self._check(
            f"what is built and not confirmed is not free either: {found}",
            all(found[name] <= free[name] for name in free),
        )
        await self._ask("POST", "/v1/vm/train", {"status": "running"})
        await self._polls(2)
        await self._check_free("confirmed: what Placement sees is counted once", free)
        await self._show_pool()
        self._check("nobody else was called meanwhile", self._receiver.arrived.empty())

        console.rule("6. Its servers are deleted, and the next one is called within a poll")
        await self._release("train")
        await self._deleted(*servers)
        await self._called_in_time("next")
        await self._show_line()

    async def refill(self) -> None:
        """A job that waits."""
        await self._post("huge", 3, 8)

    # --- the cloud -----------------------------------------------------------------------------------

    async def _cloud(self, function: Callable[..., Any], *arguments: Any, **amounts: int) -> Any:
        return await asyncio.to_thread(function, *arguments, **amounts)

    async def _built(self, host: str, count: int) -> str:
        amounts = {"VCPU": count, "MEMORY_MB": 1024, "DISK_GB": 10}
        return str(await self._cloud(self._placement.build, self._hosts[host], **amounts))

    async def _deleted(self, *servers: str) -> None:
        for server in servers:
            await self._cloud(self._placement.delete, server)
        self._deleted_at = time.monotonic()

    # --- rqueue --------------------------------------------------------------------------------------

    async def _post(self, request_id: str, count: int, cpus: int) -> None:
        data = {"instances": [{"VCPU": cpus, "Memory": 1024, "Disk": 10}] * count, "project": "project"}
        callback = f"{self._receiver.url}/{request_id}"
        body = {"request_id": request_id, "owner_id": "alice", "data": data, "callback": callback}
        await self._ask("POST", "/v1/vm/", body)

    async def _polls(self, count: int) -> None:
        """Wait until so many readings that began after now are written."""
        async with asyncio.timeout(WAIT_SECONDS * (count + 1)):
            for _ in range(count + 1):
                was = (await self._ask("GET", POOL))["observed"]
                while (await self._ask("GET", POOL))["observed"] == was:  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(0.05)

    async def _called_in_time(self, request_id: str) -> list[str]:
        """Wait for a callback; the hosts. It is to come within a poll of the last deletion."""
        async with asyncio.timeout(WAIT_SECONDS):
            job = await self._receiver.arrived.get()
        took = time.monotonic() - self._deleted_at
        hosts = ", ".join(job["Placement"])
        console.print(f"[green]callback[/] for [b]{job['RequestID']}[/] on {hosts}, {took:.2f} s after it")
        self._check(f"{request_id} is called", job["RequestID"] == request_id)
        self._check(f"within {POLL_SECONDS} s and a call", took <= POLL_SECONDS + CALL_SECONDS)
        return list(job["Placement"])

    async def _free(self) -> dict[str, int]:
        hosts = (await self._ask("GET", POOL))["hosts"]
        return {name: amounts["free"]["VCPU"] for name, amounts in hosts.items()}

    async def _check_free(self, what: str, free: dict[str, int]) -> None:
        found = await self._free()
        self._check(f"{what}: {found} VCPU are free", found == free)

    def _check(self, what: str, true: bool) -> None:
        console.print(f"{'[green]so it is[/]' if true else '[red]NOT SO[/]'}: {what}", highlight=False)
        if not true:
            raise aiohttp.ClientError(f"not so: {what}")

    # --- tables --------------------------------------------------------------------------------------

    async def _show_pool(self) -> None:
        kinds = ("capacity", "seen", "used", "free")
        table = Table("host", *kinds, title="The pool's VCPU", title_justify="left")
        for host, amounts in (await self._ask("GET", POOL))["hosts"].items():
            table.add_row(host, *(str(amounts[kind]["VCPU"]) for kind in kinds))
        console.print(table)

    async def _show_line(self) -> None:
        table = Table("job", "status", "why, or where", title="The line", title_justify="left")
        for listed in await self._ask("GET", "/v1/vm/"):
            job = await self._ask("GET", f"/v1/vm/{listed['RequestID']}")
            table.add_row(job["RequestID"], job["Status"], job.get("Reason") or ", ".join(job["Placement"]))
        console.print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", action="store_true", help="end when it is told")
    once = parser.parse_args().once
    if not placements.INSTALLED.exists():
        console.print(f"[red]{placements.MISSING}[/]")
        return 1
    with (
        tempfile.TemporaryDirectory(prefix="rqueue-demo-") as folder,
        placements.running(Path(folder)) as placement,
        suppress(KeyboardInterrupt),
    ):
        clouds = Path(folder) / "clouds.yaml"
        auth = {"endpoint": placement.url, "token": placements.TOKEN}
        clouds.write_text(yaml.safe_dump({"clouds": {"demo": {"auth_type": "admin_token", "auth": auth}}}))
        console.print(f"Placement serves at [bold]{placement.url}[/] on SQLite")
        environment = {
            "OS_CLIENT_CONFIG_FILE": str(clouds),
            "RQUEUE_OPENSTACK_CLOUD": "demo",
            "RQUEUE_SOURCE_SECONDS": str(POLL_SECONDS),
        }
        return asyncio.run(shown(partial(OpenStackStory, placement), once, environment))
    return 0


if __name__ == "__main__":
    sys.exit(main())
