"""The one call of Kubernetes' API that is asked here, as its reference has it; and how a pod finds it.

There is no API server to install, so this one keeps to what the documentation says of TokenReview: who asks
shows a token of their own; with audiences the answer names those that the token shares with them, without it
is the API server's own; a token that shares none is not authenticated.
"""

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from aiohttp import web
from kubernetes_asyncio.config import incluster_config, kube_config

OWN_AUDIENCE = "https://kubernetes.default.svc"


@dataclass
class Cluster:
    """An API server: `users` by token with the audiences it is for, and the tokens that may ask it."""

    folder: Path
    port: int = 0
    users: dict[str, tuple[str, list[str]]] = field(default_factory=dict)
    may_ask: set[str] = field(default_factory=lambda: {"own"})
    asked: list[Any] = field(default_factory=list)
    answer: Callable[[], Any] | None = None

    async def review(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(await request.json())
        if self.answer:
            answer = self.answer()
            found: web.StreamResponse = await answer if hasattr(answer, "__await__") else answer
            return found
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if bearer not in self.may_ask:
            return web.json_response({"kind": "Status", "status": "Failure", "code": 401}, status=401)
        spec = self.asked[-1]["spec"]
        username, audiences = self.users.get(spec["token"], ("", []))
        shared = [one for one in spec.get("audiences") or [OWN_AUDIENCE] if one in audiences]
        status: dict[str, Any] = {"user": {}, "error": "[invalid bearer token, token lookup failed]"}
        if shared:
            status = {"authenticated": True, "user": {"username": username, "uid": "u"}, "audiences": shared}
        said = {"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "metadata": {}, "spec": spec}
        return web.json_response({**said, "status": status}, status=201)

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/apis/authentication.k8s.io/v1/tokenreviews", self.review)]

    def is_ours(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As a pod has it: the environment, and the mounted files of its own ServiceAccount."""
        (self.folder / "token").write_text("own")
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(self.port))
        for name, file in (("TOKEN", "token"), ("CERT", "ca.crt")):
            monkeypatch.setattr(incluster_config, f"SERVICE_{name}_FILENAME", str(self.folder / file))

    def is_in_kubeconfig(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As a person's machine has it."""
        server = {
            "server": f"https://127.0.0.1:{self.port}",
            "certificate-authority": str(self.folder / "ca.crt"),
        }
        written = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "clusters": [{"name": "c", "cluster": server}],
            "users": [{"name": "c", "user": {"token": "own"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
        }
        (self.folder / "config").write_text(yaml.safe_dump(written))
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(self.folder / "config"))


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Cluster]:
    """An API server that reviews tokens."""
    cluster = Cluster(folder)
    async with served(cluster):
        yield cluster


@asynccontextmanager
async def served(cluster: Cluster) -> AsyncIterator[None]:
    """Have it answer, behind a certificate of its own."""
    folder, authority = cluster.folder, trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.crt"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    app = web.Application()
    app.add_routes(cluster.routes())
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    cluster.port = runner.addresses[0][1]
    try:
        yield
    finally:
        await runner.cleanup()
