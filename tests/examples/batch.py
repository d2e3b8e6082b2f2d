"""Jobs of Kubernetes, beside the nodes and pods of tests/apiserver.py, as far as its reference says how.

https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/job-v1/: lists by an equal label, and
patches by merge. There is no controller of Jobs here: a test says what becomes of one.
"""

from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.apiserver import ApiServer


@dataclass
class Batch(ApiServer):
    """`jobs` are those that it has, by namespace and name."""

    jobs: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    def routes(self) -> list[web.RouteDef]:
        return [
            *super().routes(),
            web.get("/apis/batch/v1/jobs", self.list_jobs),
            web.patch("/apis/batch/v1/namespaces/{namespace}/jobs/{name}", self.patch_job),
        ]

    def create(self, name: str, pods: int = 1, **requests: str) -> dict[str, Any]:
        """A Job as a user creates it: suspended, and with the label."""
        self.elsewhere()
        container = {"name": "c", "image": "i", "resources": {"requests": requests}}
        job = {
            "metadata": {
                "name": name,
                "namespace": "team",
                "uid": f"uid-{self.version}",
                "labels": {"example.com/queue": "gpu"},
            },
            "spec": {
                "suspend": True,
                "parallelism": pods,
                "template": {"spec": {"containers": [container], "restartPolicy": "Never"}},
            },
            "status": {},
        }
        self.jobs["team", name] = job
        return job

    async def list_jobs(self, request: web.Request) -> web.Response:
        name, _, value = request.query["labelSelector"].partition("=")
        found = [job for job in self.jobs.values() if job["metadata"]["labels"].get(name) == value]
        return web.json_response(
            {"kind": "JobList", "apiVersion": "batch/v1", "metadata": {}, "items": found}
        )

    async def patch_job(self, request: web.Request) -> web.Response:
        job = self.jobs.get((request.match_info["namespace"], request.match_info["name"]))
        if job is None:
            return web.json_response({"kind": "Status", "code": 404, "message": "not found"}, status=404)
        assert request.content_type in (
            "application/merge-patch+json",
            "application/strategic-merge-patch+json",
        )
        for part, changes in (await request.json()).items():
            job[part] |= changes
        return web.json_response(job)
