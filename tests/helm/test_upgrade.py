"""What is random is made once: an upgrade finds in the cluster what the install has put there.

There is no cluster here, so that a small server keeps the Secrets, and answers as the API server does to
what Helm's `lookup` asks: which resources there are, and one Secret by its name.
"""

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml
from aiohttp import web
from helm_python import Chart
from helm_python.config import Config

from tests.helm.chart import CHART, NAMESPACE, RELEASE

RESOURCES = [{"name": "secrets", "kind": "Secret", "namespaced": True, "verbs": ["get"], "singularName": ""}]
TOKENS, VALKEY = f"{RELEASE}-tokens", f"{RELEASE}-valkey"


@dataclass
class Cluster:
    """An API server's Secrets: those of one namespace, by name."""

    url: str = ""
    secrets: dict[str, dict[str, str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def resources(self, request: web.Request) -> web.Response:
        return web.json_response(
            {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "v1", "resources": RESOURCES}
        )

    async def secret(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        self.asked.append(name)
        if request.match_info["namespace"] != NAMESPACE or name not in self.secrets:
            gone = {
                "kind": "Status",
                "apiVersion": "v1",
                "status": "Failure",
                "reason": "NotFound",
                "code": 404,
            }
            return web.json_response(gone, status=404)
        data = {key: base64.b64encode(value.encode()).decode() for key, value in self.secrets[name].items()}
        metadata = {"name": name, "namespace": NAMESPACE}
        return web.json_response({"kind": "Secret", "apiVersion": "v1", "metadata": metadata, "data": data})

    async def apply(self, upgrade: bool = False, **given: Any) -> dict[str, dict[str, str]]:
        """Render as `helm install` or `upgrade` does, and keep the Secrets; returns them."""

        def rendered() -> dict[str, str]:
            with (
                Config(kube_apiserver=self.url, namespace=NAMESPACE, kubeconfig_content=NOWHERE) as config,
                Chart.load(CHART) as chart,
            ):
                return config.render(
                    chart,
                    given,
                    name=RELEASE,
                    namespace=NAMESPACE,
                    is_install=not upgrade,
                    is_upgrade=upgrade,
                )

        text = (await asyncio.to_thread(rendered))["rqueue/templates/secrets.yaml"]
        made = {o["metadata"]["name"]: o["stringData"] for o in yaml.safe_load_all(text) if o}
        self.secrets.update(made)
        return made


NOWHERE = yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "clusters": [], "users": [], "contexts": []})


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    cluster = Cluster()
    app = web.Application()
    app.router.add_get("/api/v1", cluster.resources)
    app.router.add_get("/api/v1/namespaces/{namespace}/secrets/{name}", cluster.secret)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    cluster.url = f"http://{host}:{port}"
    yield cluster
    await runner.cleanup()


async def test_tokens_and_password_stay(cluster: Cluster) -> None:
    installed = await cluster.apply()
    assert set(installed) == {TOKENS, VALKEY}
    assert set(cluster.asked) == {TOKENS, VALKEY}
    assert await cluster.apply(upgrade=True) == installed


async def test_a_token_that_is_added_changes_no_other(cluster: Cluster) -> None:
    installed = (await cluster.apply())[TOKENS]
    token = {"name": "portal", "sha256": "0" * 64, "role": "client"}
    upgraded = (await cluster.apply(upgrade=True, auth={"tokens": [token]}))[TOKENS]
    assert upgraded["admin-token"] == installed["admin-token"]
    before, after = (yaml.safe_load(held["tokens.yaml"])["tokens"] for held in (installed, upgraded))
    assert after == [*before, token]


async def test_a_secret_that_was_deleted_is_made_anew(cluster: Cluster) -> None:
    installed = await cluster.apply()
    del cluster.secrets[TOKENS]
    upgraded = await cluster.apply(upgrade=True)
    assert upgraded[TOKENS]["admin-token"] != installed[TOKENS]["admin-token"]
    assert upgraded[VALKEY] == installed[VALKEY]


async def test_secrets_of_ones_own_are_left_alone(cluster: Cluster) -> None:
    own = {"auth": {"existingSecret": "own-tokens"}, "valkey": {"existingSecret": "own-valkey"}}
    assert await cluster.apply(**own) == {}
    assert cluster.asked == []
