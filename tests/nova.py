"""As much of Nova as rqueue asks: the list of aggregates. A real one needs more than its package.

By https://docs.openstack.org/api-ref/compute/#list-aggregates: only from microversion 2.41 on an aggregate
has a `uuid`, and only who has a token is answered.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class Nova:
    """A running Nova: its URL, name → (UUID, metadata) of its aggregates, and how often it was asked."""

    url: str = ""
    aggregates: dict[str, tuple[str, Mapping[str, str]]] = field(default_factory=dict)
    asked: int = 0
    away: bool = False

    async def list(self, request: web.Request) -> web.Response:
        self.asked += 1
        if self.away:
            return web.json_response({"computeFault": {"code": 503, "message": "away"}}, status=503)
        if not request.headers.get("X-Auth-Token"):
            return web.json_response({"error": {"code": 401, "message": "who are you?"}}, status=401)
        version = request.headers.get("OpenStack-API-Version", "compute 2.1").removeprefix("compute ")
        with_uuid = tuple(map(int, version.split("."))) >= (2, 41)
        listed = [self._shown(number, name, with_uuid) for number, name in enumerate(self.aggregates, 1)]
        return web.json_response({"aggregates": listed})

    def _shown(self, number: int, name: str, with_uuid: bool) -> dict[str, Any]:
        uuid, metadata = self.aggregates[name]
        return {
            "availability_zone": None,
            "created_at": "2026-01-01T00:00:00.000000",
            "deleted": False,
            "deleted_at": None,
            "hosts": [],
            "id": number,
            "metadata": dict(metadata),
            "name": name,
            "updated_at": None,
            **({"uuid": uuid} if with_uuid else {}),
        }


@asynccontextmanager
async def running() -> AsyncIterator[Nova]:
    """Nova on a free port."""
    nova = Nova()
    app = web.Application()
    app.router.add_get("/v2.1/os-aggregates", nova.list)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        nova.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v2.1"
        yield nova
    finally:
        await runner.cleanup()
