"""Jobs of Kubernetes that wait their turn: created suspended, and unsuspended when rqueue calls.

A Job that has the label and `suspend: true` is put in line, by its uid, and waits for what its pods request.
It is confirmed when its pods are ready, so bound, and done when it has finished. What goes wrong in `main`
ends it: start it again, and it goes on where it was. Run one of it for a queue, which is all its own.
"""

import asyncio
import os
from typing import Any

from aiohttp import web
from kubernetes_asyncio import client, config
from kubernetes_asyncio.client import ApiException, BatchV1Api

from rqueue.client import Call, Client, Failed, NotWanted, connected, receiver

QUEUE = "gpu"
SELECTOR = f"example.com/queue={QUEUE}"
PORT = 8000
SECONDS = 5


class Controller:
    """Puts suspended Jobs in line, lets those go whose turn has come, and gives back what they held."""

    def __init__(self, rqueue: Client, batch: BatchV1Api, url: str) -> None:
        self._rqueue, self._batch, self._url = rqueue, batch, url

    async def look(self) -> None:
        in_line = {job.request_id: job async for job in self._rqueue.jobs(QUEUE)}
        for job in (await self._batch.list_job_for_all_namespaces(label_selector=SELECTOR)).items:
            known = in_line.pop(job.metadata.uid, None)
            if job.spec.suspend:
                if known is None:
                    await self._put_in_line(job)
            elif known is not None and known.status != "queued":
                if any(one.type in ("Complete", "Failed") for one in job.status.conditions or []):
                    await self._rqueue.done(QUEUE, known.request_id)
                elif job.status.ready == job.spec.parallelism:
                    await self._rqueue.confirm(QUEUE, known.request_id)
        # Those that are left have been deleted.
        for request_id in in_line:
            await self._rqueue.cancel(QUEUE, request_id)

    async def _put_in_line(self, job: Any) -> None:
        pod = {"pods": 1, **job.spec.template.spec.containers[0].resources.requests}
        try:
            await self._rqueue.create(
                QUEUE,
                request_id=job.metadata.uid,
                owner_id=job.metadata.namespace,
                data={"instances": [pod] * job.spec.parallelism, "job": job.metadata.name},
                callback=f"{self._url}/called/{job.metadata.uid}",
            )
        except Failed as failed:
            # It was in line before, and has ended there: who suspended it again is to look.
            if failed.code != "duplicate_request_id":
                raise

    async def admitted(self, call: Call) -> None:
        name, namespace = call.job.data["job"], call.job.owner_id
        try:
            await self._batch.patch_namespaced_job(name, namespace, {"spec": {"suspend": False}})
        except ApiException as error:
            if error.status == 404:
                raise NotWanted from None
            raise


async def main() -> None:
    app = web.Application()
    runner = web.AppRunner(app)
    config.load_incluster_config()  # type: ignore[no-untyped-call]
    async with connected() as rqueue, client.ApiClient() as api:
        controller = Controller(rqueue, BatchV1Api(api), os.environ["CONTROLLER_URL"])
        app.router.add_post("/called/{uid}", receiver(controller.admitted))
        try:
            await runner.setup()
            await web.TCPSite(runner, port=PORT).start()
            while True:
                await controller.look()
                await asyncio.sleep(SECONDS)
        finally:
            await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
