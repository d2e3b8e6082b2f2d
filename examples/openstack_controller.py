"""A portal whose servers wait their turn: rqueue calls when there is room for one, and then it is created.

The portal calls `order`. A server has the name that its job has as request_id, so that each is found by the
other, after a restart too. What goes wrong in `main` ends it: start it again, and it goes on where it was.
openstacksdk blocks, so it is in threads; only the callbacks are taken by a loop.
"""

import asyncio
import os

import openstack
from aiohttp import web
from openstack.connection import Connection

from rqueue.client import Call, Job, SyncClient, connected_sync, receiver

QUEUE = "vm"
PORT = 8000
SECONDS = 10


class Controller:
    """Orders servers, creates those whose turn has come, and gives back what deleted ones held."""

    def __init__(self, rqueue: SyncClient, cloud: Connection, url: str) -> None:
        self._rqueue, self._cloud, self._url = rqueue, cloud, url

    def order(self, name: str, flavor: str, image: str, network: str, project: str) -> Job:
        size = self._cloud.compute.find_flavor(flavor, ignore_missing=False)
        needs = {"VCPU": size.vcpus, "Memory": size.ram, "Disk": size.disk}
        server = {"name": name, "flavor_id": size.id, "image_id": image, "networks": [{"uuid": network}]}
        return self._rqueue.create(
            QUEUE,
            request_id=name,
            owner_id=project,
            data={"instances": [needs], "project": project, "server": server},
            callback=f"{self._url}/called/{name}",
        )

    async def admitted(self, call: Call) -> None:
        await asyncio.to_thread(self._create, call.job)

    def _create(self, job: Job) -> None:
        # An earlier call may have created it.
        if not self._cloud.compute.find_server(job.request_id):
            self._cloud.compute.create_server(**job.data["server"])

    def look(self) -> None:
        for job in self._rqueue.jobs(QUEUE, status="running"):
            server = self._cloud.compute.find_server(job.request_id)
            if server is None:
                self._rqueue.done(QUEUE, job.request_id)
            elif server.status == "ACTIVE":
                self._rqueue.confirm(QUEUE, job.request_id)


async def main() -> None:
    app = web.Application()
    runner = web.AppRunner(app)
    with connected_sync() as rqueue, openstack.connect() as cloud:
        controller = Controller(rqueue, cloud, os.environ["PORTAL_URL"])
        app.router.add_post("/called/{name}", receiver(controller.admitted))
        try:
            await runner.setup()
            await web.TCPSite(runner, port=PORT).start()
            while True:
                await asyncio.to_thread(controller.look)
                await asyncio.sleep(SECONDS)
        finally:
            await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
