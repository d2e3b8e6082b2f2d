"""The examples, from an order to what is given back: on a running service, and clouds as far as there are."""

import asyncio
import importlib.util
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from rqueue import sources
from rqueue.client import Call, Client, Failed, NotWanted, connected, connected_sync
from tests import invariants
from tests import nova as novas
from tests import placement as placements
from tests.apiserver import node, pod
from tests.cluster import served
from tests.conftest import Service, config_of, serving
from tests.examples.batch import Batch

EXAMPLES = Path(__file__).parents[2] / "examples"
SECRET = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
FLAVOR = {"id": "f", "name": "m1.small", "vcpus": 2, "ram": 2048, "disk": 20, "links": []}


def example(name: str) -> Any:
    """The module of an example, which is none of a package."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@asynccontextmanager
async def running(module: Any, url_name: str, service: Service) -> AsyncIterator[str]:
    """An example as its user starts it, on a free port; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as free, pytest.MonkeyPatch.context() as patch:
        module.PORT, module.SECONDS = free.getsockname()[1], 0.02
        url = f"http://127.0.0.1:{module.PORT}"
        for name, value in (
            ("RQUEUE_URL", service.url),
            ("RQUEUE_CALLBACK_SECRETS", SECRET),
            (url_name, url),
        ):
            patch.setenv(name, value)
        free.close()
        main = asyncio.create_task(module.main())
        try:
            yield url
            assert not main.done(), main.result()
        finally:
            main.cancel()
            await asyncio.wait([main])


async def until(found: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await found():  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.02)


@asynccontextmanager
async def serving_with(
    redis_url: str, namespace: str, **settings: Any
) -> AsyncIterator[tuple[Service, Client]]:
    config = config_of(namespace, callback_secrets=(SECRET,), **settings)
    async with serving(config, redis_url) as service, connected(service.url, "") as client:
        yield service, client


# --- OpenStack ---------------------------------------------------------------------------------------


@pytest.fixture
async def nova(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[novas.Nova]:
    """A Nova that is the cloud of the environment, by clouds.yaml."""
    pytest.importorskip("openstack", reason="NO openstacksdk: the extra `openstack` is not installed")
    async with novas.running() as nova:
        nova.flavors["f"] = FLAVOR
        told = {
            "auth_type": "admin_token",
            "auth": {"endpoint": nova.url, "token": placements.TOKEN},
            "compute_endpoint_override": nova.url,
        }
        (tmp_path / "clouds.yaml").write_text(yaml.safe_dump({"clouds": {"test": told}}))
        monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(tmp_path / "clouds.yaml"))
        monkeypatch.setenv("OS_CLOUD", "test")
        yield nova


# openstacksdk warns of what it takes for a setting of its own, and of what it does itself.
@pytest.mark.filterwarnings("ignore:Support for InfluxDB", "ignore:.*(removed in a|for removal)")
async def test_openstack(nova: novas.Nova, redis_url: str, real_redis: Any, namespace: str) -> None:
    import openstack

    module = example("openstack_controller")

    def server(name: str) -> dict[str, Any] | None:
        return next((one for one in nova.servers.values() if one["name"] == name), None)

    async with (
        serving_with(redis_url, namespace) as (service, client),
        running(module, "PORTAL_URL", service) as url,
    ):
        # One fits beside none.
        await client.put_pool("vm", "default", {"hosts": {"n": {"VCPU": 3, "Memory": 8192, "Disk": 100}}})

        def orders() -> None:
            with connected_sync(service.url, "") as portal, openstack.connect() as cloud:
                controller = module.Controller(portal, cloud, url)
                job = controller.order("web-1", "m1.small", "image", "net", "p")
                assert job.data["instances"] == [{"VCPU": 2, "Memory": 2048, "Disk": 20}]
                controller.order("web-2", "f", "image", "net", "p")

        await asyncio.to_thread(orders)

        async def is_now(name: str, status: str) -> bool:
            return (await client.get("vm", name)).status == status

        await until(lambda: is_now("web-1", "running"))
        assert [one["name"] for one in nova.servers.values()] == ["web-1"]
        created = server("web-1")
        assert created is not None
        assert created["flavorRef"] == "f"
        built = (await client.get("vm", "web-1")).updated_at
        created["status"] = "ACTIVE"
        await until(lambda: _later(client, "vm", "web-1", built))
        assert (await client.get("vm", "web-2")).status == "queued"
        # Its owner deletes it, and the next one's turn has come; Nova refuses for a while.
        nova.refuses = True
        del nova.servers[created["id"]]
        await until(lambda: is_now("web-1", "done"))
        await until(lambda: _tried(client, "vm", "web-2"))
        nova.refuses = False
        await until(lambda: is_now("web-2", "running"))
        assert [one["name"] for one in nova.servers.values()] == ["web-2"]
    await invariants.check(real_redis, namespace)


async def _later(client: Client, type_: str, name: str, moment: Any) -> bool:
    return (await client.get(type_, name)).updated_at > moment


async def _tried(client: Client, type_: str, name: str) -> bool:
    return (await client.get(type_, name)).last_error == "the receiver answered 503"


# --- Kubernetes --------------------------------------------------------------------------------------


@pytest.fixture
async def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Batch]:
    """An API server with a node of four cores, whose pods rqueue and the example are."""
    pytest.importorskip("kubernetes_asyncio", reason="NO kubernetes_asyncio: the extra is not installed")
    monkeypatch.setattr(sources, "SHORTEST_SECONDS", 0.02)
    batch = Batch(tmp_path)
    async with served(batch):
        batch.is_ours(monkeypatch)
        batch.put(node("n", "4", allocatable={"memory": "8Gi"}))
        try:
            yield batch
        finally:
            batch.cut()


async def test_kubernetes(cluster: Batch, redis_url: str, real_redis: Any, namespace: str) -> None:
    module = example("kubernetes_controller")
    async with (
        serving_with(redis_url, namespace, source_seconds=1) as (service, client),
        running(module, "CONTROLLER_URL", service),
    ):
        await client.configure("gpu", {"source": "kubernetes"})
        await client.put_pool("gpu", "default", {"selector": ""})
        first = cluster.create("first", cpu="3", memory="1Gi")
        second = cluster.create("second", 2, cpu="1500m", memory="1Gi")
        third = cluster.create("third", cpu="3")

        async def is_now(job: dict[str, Any], status: str) -> bool:
            try:
                return (await client.get("gpu", job["metadata"]["uid"])).status == status
            except Failed:
                return False

        await until(lambda: is_now(first, "running"))
        assert [job["spec"]["suspend"] for job in (first, second, third)] == [False, True, True]
        # Its pod is bound, and then ready: it is confirmed, and counted once, as the cluster sees it.
        cluster.put(pod("first-0", "n", "3"))
        first["status"]["ready"] = 1

        async def is_charged_once() -> bool:
            host = (await client.pool("gpu", "default")).hosts["n"]
            return (host["seen"]["cpu"], host["used"]["cpu"]) == (3, 0)

        await until(is_charged_once)
        assert second["spec"]["suspend"]
        # It ends, and the next one's two pods fit.
        cluster.put(pod("first-0", "n", "3", "Succeeded"))
        first["status"] |= {"ready": 0, "conditions": [{"type": "Complete", "status": "True"}]}
        await until(lambda: is_now(first, "done"))
        await until(lambda: is_now(second, "running"))
        assert (second["spec"]["suspend"], third["spec"]["suspend"]) == (False, True)
        # Who deletes one that waits has it cancelled; one that runs gives back what it held.
        for job, end in ((third, "cancelled"), (second, "done")):
            del cluster.jobs["team", job["metadata"]["name"]]
            await until(lambda job=job, end=end: is_now(job, end))
        # One that is deleted when its call is under way is not wanted any more.
        job = await client.get("gpu", third["metadata"]["uid"])
        async with module.client.ApiClient() as api:
            controller = module.Controller(client, module.BatchV1Api(api), "")
            with pytest.raises(NotWanted):
                await controller.admitted(Call("id", "job.admitted", job.created_at, job, {}))
    await invariants.check(real_redis, namespace)
