"""The source `kubernetes` against an API server that lists and watches as the reference has it, and is slow,
forgetful, cut off and broken.

RQUEUE_TEST_KUBECONFIG=<file> has the last test ask a real cluster: it lists and watches nodes and pods, and
creates one pod in a namespace that it makes, and deletes both.
"""

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from rqueue.capacity import watched
from rqueue.capacity.kubernetes import Kubernetes
from rqueue.domain.pool import Observation
from rqueue.errors import SourceUnavailable
from tests import apiserver
from tests.apiserver import ApiServer, node, pod
from tests.cluster import kube_config

ALL = {"p": {"selector": "", "tolerations": []}}


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ApiServer]:
    async with apiserver.running(tmp_path) as server:
        server.is_ours(monkeypatch)
        server.put(node("n1"), node("n2"), pod("a", "n1"))
        yield server


@pytest.fixture
async def source(server: ApiServer) -> AsyncIterator[Kubernetes]:
    async with Kubernetes() as source:
        yield source


async def seen(source: Kubernetes, selector: str = "", *tolerations: dict[str, str]) -> Observation:
    found = (await source.observe({"p": {"selector": selector, "tolerations": list(tolerations)}}))["p"]
    assert isinstance(found, Observation)
    return found


async def cpu(source: Kubernetes) -> dict[str, int]:
    """Of each host, what is free."""
    found = await seen(source)
    return {
        host: amounts["cpu"] - found.taken[host].get("cpu", 0) for host, amounts in found.capacity.items()
    }


async def refusal(source: Kubernetes) -> str:
    with pytest.raises(SourceUnavailable) as refused:
        await source.observe(ALL)
    return refused.value.message


def lists(server: ApiServer, kind: str = "pods") -> int:
    """How often all were listed, from the first page on."""
    path = f"/api/v1/{kind}?"
    return sum(one.startswith(path) and "limit=" in one and "continue=" not in one for one in server.requests)


# --- what there is --------------------------------------------------------------------------------------


async def test_nodes_have_what_is_allocatable_and_bound_pods_take_what_they_ask_for(
    source: Kubernetes, server: ApiServer
) -> None:
    server.put(
        node("g", "8", allocatable={"memory": "16Gi", "nvidia.com/gpu": "4"}),
        pod("b", "g", "1500m", memory="1Gi", **{"nvidia.com/gpu": "1"}),
        pod("c", "g", "1"),
        pod("waits", None, "1"),
        pod("through", "g", "1", "Succeeded"),
        pod("broken", "g", "1", "Failed"),
    )
    found = await seen(source, "kubernetes.io/hostname=g")
    assert found == Observation(
        {"g": {"cpu": 8000, "memory": 16 * 2**30, "nvidia.com/gpu": 4, "pods": 110}},
        {"g": {"cpu": 2500, "memory": 2**30, "nvidia.com/gpu": 1, "pods": 2}},
    )


async def test_each_pool_has_its_nodes_and_a_damaged_one_harms_no_other(
    source: Kubernetes, server: ApiServer
) -> None:
    taint = {"key": "gpu", "effect": "NoSchedule"}
    server.put(node("g", labels={"pool": "gpu"}, taints=[taint]), node("h", labels={"pool": "gpu"}))
    found = await source.observe(
        {
            "gpu": {"selector": "pool=gpu", "tolerations": [{"key": "gpu", "operator": "Exists"}]},
            "plain": {"selector": "pool=gpu", "tolerations": []},
            "rest": {"selector": "!pool", "tolerations": []},
            "none": {"selector": "pool=x", "tolerations": []},
            "bad": {"selector": "a b", "tolerations": []},
            "worse": {"aggregate": "x"},
        }
    )
    hosts = {name: set(one.capacity) for name, one in found.items() if isinstance(one, Observation)}
    assert hosts == {"gpu": {"g", "h"}, "plain": {"h"}, "rest": {"n1", "n2"}, "none": set()}
    assert all(isinstance(found[name], SourceUnavailable) for name in ("bad", "worse"))


async def test_what_happens_is_told_and_seen(source: Kubernetes, server: ApiServer) -> None:
    assert await cpu(source) == {"n1": 3000, "n2": 4000}
    for change, free in (
        (lambda: server.delete("pods", "a"), {"n1": 4000, "n2": 4000}),
        (lambda: server.put(pod("b", "n2", "3")), {"n1": 4000, "n2": 1000}),
        (lambda: server.put(pod("b", "n2", "2")), {"n1": 4000, "n2": 2000}),
        (lambda: server.put(pod("b", "n2", "2", "Succeeded")), {"n1": 4000, "n2": 4000}),
        (lambda: server.put(node("n1", cordoned=True)), {"n2": 4000}),
        (lambda: server.put(node("n1", taints=[{"key": "k", "effect": "NoExecute"}])), {"n2": 4000}),
        (lambda: server.put(node("n1", ready="Unknown")), {"n2": 4000}),
        (lambda: server.put(node("n1", "6")), {"n1": 6000, "n2": 4000}),
        (lambda: server.delete("nodes", "n2"), {"n1": 6000}),
    ):
        told = asyncio.create_task(source.changed())
        await asyncio.sleep(0)
        assert not told.done()
        change()
        await asyncio.wait_for(told, 5)
        assert await cpu(source) == free


async def test_what_concerns_no_pool_wakes_nobody(source: Kubernetes, server: ApiServer) -> None:
    await seen(source, "kubernetes.io/hostname=n1")
    told = asyncio.create_task(source.changed())
    # Another host's pod, one that is bound to none, a node that is still there, a pod that is as it was.
    beat = node("n1")
    beat["status"]["conditions"][0]["lastHeartbeatTime"] = "now"
    server.put(pod("b", "n2"), pod("c"), beat, pod("a", "n1"))
    await seen(source, "kubernetes.io/hostname=n1")
    assert not told.done()
    server.put(pod("d", "n1"))
    await asyncio.wait_for(told, 5)


async def test_a_pod_that_ends_counts_until_it_is_gone(source: Kubernetes, server: ApiServer) -> None:
    ends = pod("a", "n1")
    ends["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    server.put(ends)
    assert await cpu(source) == {"n1": 3000, "n2": 4000}


# --- what is told was so after the call began -----------------------------------------------------------


async def test_no_answer_is_older_than_its_question(source: Kubernetes, server: ApiServer) -> None:
    """Else a job's charge would end by an observation that does not see its pod yet."""
    await seen(source)
    server.flowing.clear()
    server.put(pod("b", "n2"))
    asked = asyncio.create_task(cpu(source))
    for _ in range(2):
        # Nothing that the server does now lets it answer: the watch says nothing.
        server.elsewhere()
        done, _pending = await asyncio.wait([asked], timeout=0.3)
        assert not done
    server.flowing.set()
    assert await asyncio.wait_for(asked, 5) == {"n1": 3000, "n2": 3000}
    assert lists(server) == 1


async def test_what_happens_elsewhere_costs_a_bookmark_and_not_a_list(
    source: Kubernetes, server: ApiServer
) -> None:
    await seen(source)
    for _ in range(3):
        server.elsewhere()
        assert await cpu(source) == {"n1": 3000, "n2": 4000}
    assert (lists(server), lists(server, "nodes")) == (1, 1)


async def test_a_cache_that_does_not_know_how_far_it_is_costs_a_list(
    source: Kubernetes, server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched, "BOOKMARK_SECONDS", 0.5)
    server.progress = False
    await seen(source)
    server.elsewhere()
    assert await cpu(source) == {"n1": 3000, "n2": 4000}
    assert (lists(server), lists(server, "nodes")) == (2, 2)


async def test_a_watch_that_tells_nothing_is_not_believed(
    source: Kubernetes, server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched, "BOOKMARK_SECONDS", 0.5)
    await seen(source)
    server.flowing.clear()
    server.delete("pods", "a")
    assert await cpu(source) == {"n1": 4000, "n2": 4000}


async def test_a_cluster_that_was_restored_is_listed_again(source: Kubernetes, server: ApiServer) -> None:
    await seen(source)
    server.put(pod("b", "n2"))
    await seen(source)
    server.version -= 100
    server.kinds["pods"].objects.clear()
    server.compact()
    server.cut()
    assert await cpu(source) == {"n1": 4000, "n2": 4000}


# --- what breaks ----------------------------------------------------------------------------------------


async def test_a_long_list_comes_in_pages_and_one_that_expires_begins_anew(
    source: Kubernetes, server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched, "PAGE", 2)
    server.put(*[pod(f"x{n}", "n2", "100m") for n in range(7)])
    expired = []

    def expires(request: Any) -> None:
        if "continue" in request.query and "/pods" in request.path and not expired:
            expired.append(request.query["continue"])
            server.delete("pods", "x0")
            server.compact()

    server.refuses = expires
    assert await cpu(source) == {"n1": 3000, "n2": 3400}
    assert lists(server) == 2


@pytest.mark.parametrize("in_stream", [True, False])
async def test_a_history_that_is_too_short_costs_a_list(
    source: Kubernetes, server: ApiServer, in_stream: bool
) -> None:
    await seen(source)
    server.gone_in_stream = in_stream
    server.flowing.clear()
    server.put(pod("b", "n2"))
    server.compact()
    server.cut()
    server.flowing.set()
    # At once, and not when no bookmark has come for long.
    assert await asyncio.wait_for(cpu(source), watched.BOOKMARK_SECONDS - 1) == {"n1": 3000, "n2": 3000}
    assert lists(server) == 2


async def test_a_watch_that_is_cut_goes_on_from_where_it_was(source: Kubernetes, server: ApiServer) -> None:
    await seen(source)
    for n in range(3):
        server.cut()
        server.put(pod(f"b{n}", "n2"))
        assert await cpu(source) == {"n1": 3000, "n2": 3000 - n * 1000}
    assert lists(server) == 1


@pytest.mark.parametrize("status", [401, 403, 429, 500])
async def test_a_refusal_is_told_and_forgotten(
    source: Kubernetes, server: ApiServer, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    server.refuses = lambda _: status
    assert f"{status} the test refuses" in await refusal(source)
    server.refuses = lambda _: None
    assert await cpu(source) == {"n1": 3000, "n2": 4000}
    # And in the middle of things.
    server.refuses = lambda _: status
    server.cut()
    assert str(status) in await refusal(source)
    server.put(pod("b", "n2"))
    server.refuses = lambda _: None
    assert await cpu(source) == {"n1": 3000, "n2": 3000}
    assert not [one for one in caplog.records if one.levelno > logging.WARNING]


async def test_a_server_that_hangs_or_is_gone_is_told(
    source: Kubernetes, server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await seen(source)
    monkeypatch.setattr(watched, "NOW_SECONDS", 0.3)
    server.answering.clear()
    assert "TimeoutError" in await refusal(source)
    server.answering.set()
    assert await cpu(source) == {"n1": 3000, "n2": 4000}


async def test_what_may_be_listed_and_not_watched_is_no_answer(
    source: Kubernetes, server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is it one the other way round."""
    for name in ("BOOKMARK_SECONDS", "LISTED_SECONDS"):
        monkeypatch.setattr(watched, name, 0.3)
    server.refuses = lambda request: 403 if "limit" in request.query else None
    assert "lags: 403 the test refuses" in await refusal(source)


async def test_a_pod_that_cannot_be_counted_is_named(
    source: Kubernetes, server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await seen(source)
    for name in ("BOOKMARK_SECONDS", "LISTED_SECONDS"):
        monkeypatch.setattr(watched, name, 0.5)
    server.put(pod("odd", "n2", "many"))
    assert "pod default/odd: 'many' is not a quantity" in await refusal(source)
    server.delete("pods", "odd")
    monkeypatch.undo()
    assert await cpu(source) == {"n1": 3000, "n2": 4000}


async def test_a_kubeconfig_is_read_again_when_its_token_is_refused(
    source: Kubernetes, server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.is_in_kubeconfig(monkeypatch)
    await seen(source)
    server.may_ask = {"new"}
    assert "401" in await refusal(source)
    written = (tmp_path / "config").read_text()
    (tmp_path / "config").write_text(written.replace("token: own", "token: new"))
    assert await cpu(source) == {"n1": 3000, "n2": 4000}


async def test_without_a_cluster_or_the_extra_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    async with Kubernetes() as source:
        assert "no cluster to ask" in await refusal(source)
        (tmp_path / "none").write_text("{")
        assert "kubeconfig" in await refusal(source)
        monkeypatch.setitem(sys.modules, "kubernetes_asyncio", None)
        assert "pip install 'rqueue[kubernetes]'" in await refusal(source)


# --- a real one -----------------------------------------------------------------------------------------


@pytest.mark.skipif("RQUEUE_TEST_KUBECONFIG" not in os.environ, reason="no real cluster is given for it")
@pytest.mark.timeout(180)
async def test_a_real_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    from kubernetes_asyncio import client, config

    file = os.environ["RQUEUE_TEST_KUBECONFIG"]
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", file)
    settings = client.Configuration()
    await config.load_kube_config(config_file=file, client_configuration=settings)
    async with Kubernetes() as source, client.ApiClient(settings) as api:
        before = await seen(source)
        host = min(before.capacity, key=lambda host: before.taken[host].get("cpu", 0))
        core = client.CoreV1Api(api)
        meta = {"generateName": "rqueue-test-"}
        name = (await core.create_namespace({"metadata": meta})).metadata.name
        try:
            container = {
                "name": "c",
                "image": "registry.k8s.io/pause:3.10",
                "resources": {"requests": {"cpu": "10m", "memory": "1Mi"}},
            }
            spec = {
                "nodeName": host,
                "containers": [container],
                "automountServiceAccountToken": False,
                "terminationGracePeriodSeconds": 0,
            }
            asked = {"metadata": {"name": "p"}, "spec": spec}
            await core.create_namespaced_pod(name, asked)
            # What others do there meanwhile may hide it, so it is looked for where it is kept.
            await seen(source)
            assert source._pods is not None
            assert (host, (("cpu", 10), ("memory", 2**20), ("pods", 1))) in source._pods.kept.values()
        finally:
            await core.delete_namespace(name)
