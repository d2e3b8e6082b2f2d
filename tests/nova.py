"""As much of Nova as rqueue asks: the list of aggregates; and servers and flavors, for the example.

A real one needs more than its package. By https://docs.openstack.org/api-ref/compute/: only from microversion
2.41 on an aggregate has a `uuid`, a server is at first building, and only who has a token is answered.
"""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from aiohttp import web


@dataclass
class Nova:
    """A running Nova: its URL, name → (UUID, metadata) of its aggregates, and how often it was asked.

    `flavors` and `servers` are those that it has, by ID; `refuses` creates none.
    """

    url: str = ""
    aggregates: dict[str, tuple[str, Mapping[str, str]]] = field(default_factory=dict)
    asked: int = 0
    away: bool = False
    flavors: dict[str, dict[str, Any]] = field(default_factory=dict)
    servers: dict[str, dict[str, Any]] = field(default_factory=dict)
    refuses: bool = False

    async def version(self, _: web.Request) -> web.Response:
        told = {"id": "v2.1", "status": "CURRENT", "version": "2.96", "min_version": "2.1"}
        return web.json_response({"version": {**told, "links": [{"rel": "self", "href": f"{self.url}/"}]}})

    async def flavor(self, request: web.Request) -> web.Response:
        found = self.flavors.get(request.match_info["id"])
        return web.json_response({"flavor": found}) if found else _missing()

    async def list_flavors(self, _: web.Request) -> web.Response:
        return web.json_response({"flavors": list(self.flavors.values())})

    async def server(self, request: web.Request) -> web.Response:
        found = self.servers.get(request.match_info["id"])
        return web.json_response({"server": found}) if found else _missing()

    async def list_servers(self, request: web.Request) -> web.Response:
        name = re.compile(request.query.get("name", ""))
        found = [server for server in self.servers.values() if name.search(server["name"])]
        return web.json_response({"servers": found})

    async def create_server(self, request: web.Request) -> web.Response:
        if self.refuses:
            return web.json_response({"forbidden": {"code": 403, "message": "Quota exceeded"}}, status=403)
        asked, id_ = (await request.json())["server"], str(uuid4())
        self.servers[id_] = {"id": id_, "status": "BUILD", "links": [], **asked}
        return web.json_response({"server": {"id": id_, "links": []}}, status=202)

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


def _missing() -> web.Response:
    return web.json_response({"itemNotFound": {"code": 404, "message": "no such thing"}}, status=404)


@asynccontextmanager
async def running() -> AsyncIterator[Nova]:
    """Nova on a free port."""
    nova = Nova()
    app = web.Application()
    app.add_routes(
        [
            web.get("/v2.1", nova.version),
            web.get("/v2.1/", nova.version),
            web.get("/v2.1/os-aggregates", nova.list),
            web.get("/v2.1/flavors/detail", nova.list_flavors),
            web.get("/v2.1/flavors/{id}", nova.flavor),
            web.get("/v2.1/servers/detail", nova.list_servers),
            web.get("/v2.1/servers/{id}", nova.server),
            web.post("/v2.1/servers", nova.create_server),
        ]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        nova.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v2.1"
        yield nova
    finally:
        await runner.cleanup()
