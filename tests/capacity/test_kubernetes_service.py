"""The whole service on an API server: who is called when pods come and go."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from rqueue import sources
from tests import apiserver, invariants
from tests.apiserver import ApiServer, node, pod
from tests.conftest import Receiver, Service, config_of, serving


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ApiServer]:
    async with apiserver.running(tmp_path) as server:
        server.is_ours(monkeypatch)
        yield server


@pytest.fixture
async def service(
    server: ApiServer, redis_url: str, real_redis: Any, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Service]:
    """It reads each minute, and as often as it is told of something."""
    monkeypatch.setattr(sources, "SHORTEST_SECONDS", 0.02)
    server.put(node("n1", labels={"pool": "gpu"}), node("n2", labels={"pool": "gpu"}, cordoned=True))
    server.put(node("other"), pod("there", "n1", "1"))
    async with serving(config_of(namespace, source_seconds=60), redis_url) as service:
        settings = {"source": "kubernetes", "default_pool": "gpu"}
        assert (await service.call("PUT", "/queues/vm", settings))[0] == 200
        put = await service.call("PUT", "/queues/vm/pools/gpu", {"selector": "pool=gpu"})
        assert put[0] == 200, put[1]
        yield service
        await invariants.check(real_redis, namespace)


async def post(service: Service, receiver: Receiver, name: str, cpu: int) -> None:
    body = {"request_id": name, "owner_id": "y", "callback": f"{receiver.url}/{name}"}
    status, answer = await service.call("POST", "/v1/vm/", {**body, "data": {"instances": [{"cpu": cpu}]}})
    assert status == 201, answer


async def test_a_job_waits_until_a_pod_is_gone_or_a_node_is_back(
    service: Service, receiver: Receiver, server: ApiServer
) -> None:
    server.put(pod("big", "n1", "3"))
    await post(service, receiver, "one", 2)
    await post(service, receiver, "two", 4)
    began = time.monotonic()
    server.delete("pods", "big")
    await receiver.until(1)
    # By the watch: it is read once a minute only.
    assert time.monotonic() - began < 5
    server.put(node("n2", labels={"pool": "gpu"}))
    await receiver.until(2)
    _, answer = await service.call("GET", "/queues/vm/pools/gpu")
    hosts = answer["data"]["hosts"]
    assert {name: hosts[name]["free"]["cpu"] for name in hosts} == {"n1": 1, "n2": 0}
    assert answer["data"]["source"] == {"selector": "pool=gpu", "tolerations": []}


async def test_nothing_is_promised_twice_while_a_client_is_slow_and_the_watch_lags(
    service: Service, receiver: Receiver, server: ApiServer
) -> None:
    await post(service, receiver, "one", 3)
    await receiver.until(1)
    await post(service, receiver, "two", 1)
    await post(service, receiver, "three", 3)
    # It builds slowly, and what it builds is not told at once.
    server.flowing.clear()
    server.put(pod("built", "n1", "3"))
    status, _ = await service.call("POST", "/v1/vm/one", {"status": "running"})
    assert status == 200
    server.elsewhere()
    await asyncio.sleep(0.3)
    assert len(receiver.calls) == 1
    server.flowing.set()
    async with asyncio.timeout(10):
        while True:
            _, answer = await service.call("GET", "/queues/vm/pools/gpu")
            host = answer["data"]["hosts"]["n1"]
            if host["seen"]["cpu"] == 4:
                break
            await asyncio.sleep(0.02)
    # By the same reading that sees its pod the charge is over.
    assert (host["used"]["cpu"], host["free"]["cpu"]) == (0, 0)
    assert len(receiver.calls) == 1
    await service.call("POST", "/v1/vm/one", {"status": "done"})
    await asyncio.sleep(0.1)
    assert len(receiver.calls) == 1
    server.delete("pods", "built")
    await receiver.until(2)


async def test_a_cluster_that_refuses_shows_in_the_pool(
    service: Service, receiver: Receiver, server: ApiServer
) -> None:
    await post(service, receiver, "one", 1)
    await receiver.until(1)
    server.refuses = lambda _: 403
    server.delete("pods", "there")
    async with asyncio.timeout(10):
        while True:
            _, answer = await service.call("GET", "/queues/vm/pools/gpu")
            if answer["data"]["error"]:
                break
            await asyncio.sleep(0.02)
    assert answer["data"]["error"] in ("nodes: 403 the test refuses", "pods: 403 the test refuses")
