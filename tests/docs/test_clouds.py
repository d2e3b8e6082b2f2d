"""docs/howto/connect-openstack.md and connect-kubernetes.md, typed at a cloud."""

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest
import yaml

from tests import apiserver, nova, placement
from tests.apiserver import node, pod
from tests.docs.typed import needs, reader

HOWTO = Path(__file__).parents[2] / "docs" / "howto"

pytestmark = [needs("curl"), pytest.mark.thorough, pytest.mark.timeout(180)]


async def test_openstack(tmp_path: Path) -> None:
    """The cloud is a real Placement, and a Nova that lists aggregates."""
    if not placement.INSTALLED.exists():
        pytest.skip(placement.MISSING)
    aggregate = str(uuid4())
    (tmp_path / "placement").mkdir()
    with placement.running(tmp_path / "placement") as cloud:
        async with nova.running() as computes, reader(tmp_path, ".venv/bin/pip") as someone:
            computes.aggregates["gpu-hosts"] = (aggregate, {})
            host = await asyncio.to_thread(cloud.host, aggregate, "node-1", VCPU=8)
            await asyncio.to_thread(cloud.build, host, VCPU=5)
            told = {
                "auth_type": "admin_token",
                "auth": {"endpoint": cloud.url, "token": cloud.token},
                "compute_endpoint_override": computes.url,
            }
            (tmp_path / "clouds.yaml").write_text(yaml.safe_dump({"clouds": {"rqueue": told}}))
            assert await someone.reads((HOWTO / "connect-openstack.md").read_text()) == 6


async def test_kubernetes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cluster is a small API server that keeps to the rules of one."""
    taint = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
    async with apiserver.running(tmp_path) as cluster, reader(tmp_path, ".venv/bin/pip") as someone:
        cluster.is_in_kubeconfig(monkeypatch)
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
        cluster.put(
            node("n1", labels={"pool": "gpu"}, taints=[taint]), node("other"), pod("there", "n1", "3")
        )
        assert await someone.reads((HOWTO / "connect-kubernetes.md").read_text()) == 6
