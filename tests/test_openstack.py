"""The source openstack, on a real Placement, and a Nova that lists aggregates."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from rqueue.capacity import openstack
from rqueue.capacity.openstack import OpenStack
from rqueue.domain.pool import Observation
from rqueue.errors import SourceUnavailable
from tests import keystone as keystones
from tests import nova as novas
from tests import placement as placements

pytest.importorskip("openstack", reason="NO openstacksdk: the extra `openstack` is not installed")
# openstacksdk warns of what it takes for a setting of its own.
pytestmark = pytest.mark.filterwarnings("ignore:Support for InfluxDB")

RESOURCES = {"VCPU": "VCPU", "Memory": "MEMORY_MB", "Disk": "DISK_GB", "GPU": "PGPU"}
STORY = (sys.executable, "-m", "tests.demo_openstack", "--once")


@pytest.fixture(scope="module")
def placement(tmp_path_factory: pytest.TempPathFactory) -> Iterator[placements.Placement]:
    if not placements.INSTALLED.exists():
        pytest.skip(placements.MISSING)
    with placements.running(tmp_path_factory.mktemp("placement")) as placement:
        yield placement


@pytest.fixture
def aggregate() -> str:
    return str(uuid4())


@pytest.fixture
async def nova() -> AsyncIterator[novas.Nova]:
    async with novas.running() as nova:
        yield nova


@pytest.fixture
def cloud(placement: Any, nova: novas.Nova, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clouds.yaml of one cloud, `test`."""
    path = tmp_path / "clouds.yaml"
    written(path, placement.url, nova.url)
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(path))
    return path


def written(path: Path, url: str, nova_url: str = "", **more: Any) -> None:
    told = {
        "auth_type": "admin_token",
        "auth": {"endpoint": url, "token": placements.TOKEN},
        **({"compute_endpoint_override": nova_url} if nova_url else {}),
        **more,
    }
    path.write_text(yaml.safe_dump({"clouds": {"test": told}}))


@pytest.fixture
async def source(cloud: Path) -> AsyncIterator[OpenStack]:
    async with openstack.source("test", RESOURCES) as source:
        yield source


async def seen(source: OpenStack, aggregate: str) -> Observation:
    found = (await source.observe({"p": {"aggregate": aggregate}}))["p"]
    assert isinstance(found, Observation), found
    return found


# --- amounts -----------------------------------------------------------------------------------------


async def test_what_a_host_has_is_what_placement_would_give(source, placement, aggregate):
    ratio = {"total": 8, "reserved": 1, "allocation_ratio": 1.5}
    # In binary 1.15 is a little less, and Placement refuses the 115th.
    binary = {"total": 100, "allocation_ratio": 1.15}
    host = placement.host(aggregate, "n1", VCPU=ratio, MEMORY_MB=binary, VGPU={"total": 3})
    placement.build(host, VCPU=2, VGPU=1)
    found = await seen(source, aggregate)
    assert found.capacity == {"n1": {"VCPU": 10, "Memory": 114}}
    assert found.limits == {}
    assert found.taken == {"n1": {"VCPU": 2}}
    query = f"/allocation_candidates?resources=VCPU:1&member_of={aggregate}"
    summary = placement.call("GET", query)["provider_summaries"][host]["resources"]
    assert {name: summary[name]["capacity"] for name in ("VCPU", "MEMORY_MB")} == {
        "VCPU": 10,
        "MEMORY_MB": 114,
    }
    with pytest.raises(AssertionError, match="409"):
        placement.build(host, MEMORY_MB=115)
    placement.build(host, MEMORY_MB=114)
    assert (await seen(source, aggregate)).taken == {"n1": {"VCPU": 2, "Memory": 114}}


async def test_full_hosts_are_there_and_disabled_ones_are_not(source, placement, aggregate):
    full = placement.host(aggregate, "full", VCPU=4)
    placement.build(full, VCPU=4)
    disabled = placement.host(aggregate, "disabled", VCPU=4)
    placement.disable(disabled)
    assert await seen(source, aggregate) == Observation({"full": {"VCPU": 4}}, {"full": {"VCPU": 4}})
    placement.disable(disabled, False)
    assert (await seen(source, aggregate)).capacity.keys() == {"full", "disabled"}


async def test_a_deletion_is_seen_although_the_generation_stays(source, placement, aggregate):
    host = placement.host(aggregate, "n2", VCPU=4)
    server = placement.build(host, VCPU=3)
    assert (await seen(source, aggregate)).taken == {"n2": {"VCPU": 3}}
    generation = placement.call("GET", f"/resource_providers/{host}")["generation"]
    placement.delete(server)
    assert placement.call("GET", f"/resource_providers/{host}")["generation"] == generation
    assert (await seen(source, aggregate)).taken == {"n2": {}}
    placement.inventory(host, VCPU=6)
    assert (await seen(source, aggregate)).capacity == {"n2": {"VCPU": 6}}


async def test_what_is_below_a_host_is_its_own_and_shared_storage_is_nobodys(source, placement, aggregate):
    host = placement.host(aggregate, "n3", VCPU=4)
    child = placement.host("", "n3_gpu0", host, PGPU=1)
    placement.host(aggregate, "n3_gpu1", host, PGPU=2)
    placement.build(child, PGPU=1)
    shared = placement.host(aggregate, "storage", DISK_GB=1000)
    placement.put(shared, "traits", traits=["MISC_SHARES_VIA_AGGREGATE"])
    assert await seen(source, aggregate) == Observation(
        {"n3": {"VCPU": 4, "GPU": 3}}, {"n3": {"GPU": 1}}, limits={"n3": {"GPU": 2}}
    )


async def test_one_instance_takes_no_more_than_max_unit(source, placement, aggregate):
    placement.host(aggregate, "m1", VCPU={"total": 8, "allocation_ratio": 4.0, "max_unit": 8}, MEMORY_MB=64)
    host = placement.host(aggregate, "m2", VCPU={"total": 8, "allocation_ratio": 2.0, "max_unit": 6})
    found = await seen(source, aggregate)
    assert found.capacity == {"m1": {"VCPU": 32, "Memory": 64}, "m2": {"VCPU": 16}}
    assert found.limits == {"m1": {"VCPU": 8}, "m2": {"VCPU": 6}}
    with pytest.raises(AssertionError, match="constraints"):
        placement.build(host, VCPU=7)
    placement.build(host, VCPU=6)


async def test_a_name_with_a_slash_is_a_host(source, placement, aggregate):
    placement.host(aggregate, "rack/1", VCPU=4)
    assert (await seen(source, aggregate)).capacity == {"rack%2F1": {"VCPU": 4}}


async def test_each_pool_is_its_own_aggregate(source, placement, aggregate):
    other = str(uuid4())
    host = placement.host(aggregate, "n4", VCPU=1)
    placement.put(host, "aggregates", aggregates=[aggregate, other])
    placement.host(other, "n5", VCPU=2)
    found = await source.observe(
        {
            "a": {"aggregate": aggregate},
            "again": {"aggregate": aggregate.upper()},
            "b": {"aggregate": other},
            "none": {"aggregate": str(uuid4())},
        }
    )
    hosts = {name: sorted(told.capacity) for name, told in found.items()}
    assert hosts == {"a": ["n4"], "again": ["n4"], "b": ["n4", "n5"], "none": []}


async def test_how_often_placement_is_asked(cloud, placement, aggregate, tmp_path_factory):
    """For 20 hosts: two lists and each usage; each inventory once, and when the generation is another."""
    hosts = [placement.host(aggregate, VCPU=4) for _ in range(20)]
    async with openstack.source("test", RESOURCES) as source:
        # Signed in, and Nova was asked.
        await source.observe({})
        assert await asked(source, aggregate) == 42
        assert await asked(source, aggregate) == 22
        placement.build(hosts[0], VCPU=1)
        assert await asked(source, aggregate) == 23


async def asked(source: OpenStack, aggregate: str) -> int:
    """How many questions an observation took."""
    count = 0

    def one_more(*_: Any, **__: Any) -> None:
        nonlocal count
        count += 1

    source._ways.http.hooks["response"].append(one_more)
    await source.observe({"p": {"aggregate": aggregate}})
    source._ways.http.hooks["response"].remove(one_more)
    return count


# --- aggregates by name, and projects ----------------------------------------------------------------


async def test_nova_knows_names_and_projects(source, placement, nova, aggregate):
    placement.host(aggregate, "n6", VCPU=1)
    metadata = {"filter_tenant_id": "a, b", "filter_tenant_id_2": "c", "gpu": "true"}
    nova.aggregates = {"gpu hosts": (aggregate, metadata), "all": (str(uuid4()), {})}
    found = await source.observe(
        {name: {"aggregate": name} for name in ("gpu hosts", "all", "nowhere", aggregate)}
    )
    assert found["gpu hosts"] == Observation({"n6": {"VCPU": 1}}, {"n6": {}}, ("a", "b", "c"))
    assert found[aggregate] == found["gpu hosts"]
    assert found["all"] == Observation({}, {}, None)
    assert str(found["nowhere"]) == "no aggregate is known by the name 'nowhere'; Nova has none"


async def test_nova_is_asked_seldom_unless_a_name_is_new(source, placement, nova, aggregate):
    nova.aggregates = {"a": (aggregate, {})}
    for _ in range(3):
        await seen(source, "a")
    assert nova.asked == 1
    nova.aggregates["b"] = (str(uuid4()), {})
    await seen(source, "b")
    assert nova.asked == 2


async def test_without_nova_uuids_go_on_and_names_are_what_they_were(
    source, placement, nova, aggregate, monkeypatch
):
    monkeypatch.setattr(openstack, "AGGREGATES_SECONDS", 0.0)
    nova.away = True
    found = await source.observe({"uuid": {"aggregate": aggregate}, "name": {"aggregate": "a"}})
    assert found["uuid"] == Observation({}, {}, None)
    assert isinstance(found["name"], SourceUnavailable)
    assert "no aggregate is known by the name 'a'; names cannot be looked up: Nova: " in str(found["name"])
    assert "503" in str(found["name"])
    nova.away, nova.aggregates = False, {"a": (aggregate, {"filter_tenant_id": "x"})}
    assert (await seen(source, "a")).projects == ("x",)
    nova.away = True
    assert (await seen(source, "a")).projects == ("x",)


# --- signing in --------------------------------------------------------------------------------------


async def test_openstacks_own_variables_will_do(placement, aggregate, monkeypatch, tmp_path):
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(tmp_path / "none.yaml"))
    for name, value in placement.environment.items():
        monkeypatch.setenv(name, value)
    placement.host(aggregate, "n7", VCPU=1)
    async with openstack.source("", RESOURCES) as source:
        assert (await seen(source, aggregate)).capacity == {"n7": {"VCPU": 1}}


async def test_what_is_wrong_is_said_and_gone_when_it_is_mended(source, placement, aggregate, cloud):
    placement.host(aggregate, "n8", VCPU=1)
    for url, auth, words in (
        ("http://127.0.0.1:9", {}, "Unable to establish connection"),
        (placement.url, {"auth": {"endpoint": placement.url, "token": "a secret"}}, "401|403"),
        (placement.url, {"auth_type": "nonsense"}, "nonsense"),
        (placement.url, {"auth_type": "v3password", "auth": {}}, "."),
    ):
        written(cloud, url, **auth)
        with pytest.raises(SourceUnavailable, match=words) as refused:
            await seen(source, aggregate)
        assert "a secret" not in str(refused.value)
    written(cloud, placement.url)
    assert (await seen(source, aggregate)).capacity == {"n8": {"VCPU": 1}}


async def test_the_only_cloud_needs_no_name(cloud, placement, aggregate):
    placement.host(aggregate, "n9", VCPU=1)
    async with openstack.source("", RESOURCES) as source:
        assert (await seen(source, aggregate)).capacity == {"n9": {"VCPU": 1}}


async def test_a_cloud_that_is_not_there_is_named(cloud):
    async with openstack.source("another", RESOURCES) as source:
        with pytest.raises(SourceUnavailable, match="another"):
            await seen(source, str(uuid4()))


async def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "openstack", None)
    async with openstack.source("", RESOURCES) as source:
        with pytest.raises(SourceUnavailable, match=r"pip install 'rqueue\[openstack\]'"):
            await seen(source, str(uuid4()))


async def test_a_cloud_that_hangs_is_not_waited_for(cloud, aggregate):
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        written(cloud, f"http://127.0.0.1:{hanging.getsockname()[1]}", api_timeout=1)
        async with openstack.source("test", RESOURCES) as source, asyncio.timeout(20):
            with pytest.raises(SourceUnavailable, match="timed out"):
                await seen(source, aggregate)


# --- with Keystone -----------------------------------------------------------------------------------


@pytest.fixture
def keystone(tmp_path: Path) -> Iterator[keystones.Keystone]:
    if not keystones.INSTALLED.exists():
        pytest.skip("NO Keystone: `make .venv-keystone/.installed` puts it there")
    if not placements.INSTALLED.exists():
        pytest.skip(placements.MISSING)
    with keystones.running(tmp_path) as keystone:
        yield keystone


@pytest.mark.thorough
@pytest.mark.timeout(120)
async def test_a_service_user_finds_placement_in_keystones_catalogue(keystone, tmp_path, monkeypatch):
    """Its role is `service`, as Placement asks; its tokens are Fernet, and one that ends is replaced."""
    aggregate, path = str(uuid4()), tmp_path / "clouds.yaml"
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(path))
    project = keystone.project()
    user, stranger = keystone.user(project, "service"), keystone.user(project, "member")
    settings = {
        "OS_API__AUTH_STRATEGY": "keystone",
        **{
            f"OS_KEYSTONE_AUTHTOKEN__{name}": value
            for name, value in {
                "AUTH_TYPE": "password",
                "AUTH_URL": keystone.url,
                "WWW_AUTHENTICATE_URI": keystone.url,
                "USERNAME": "admin",
                "PASSWORD": keystones.PASSWORD,
                "PROJECT_NAME": "admin",
                "USER_DOMAIN_ID": "default",
                "PROJECT_DOMAIN_ID": "default",
                "INTERFACE": "public",
                # Without this one that was revoked would be good for another 5 minutes.
                "TOKEN_CACHE_TIME": "-1",
            }.items()
        },
    }
    with placements.running(tmp_path, **settings) as placement:
        placement.token = keystone.admin
        placement.host(aggregate, "n1", VCPU=4)
        keystone.endpoint("placement", placement.url)

        def cloud(user: str) -> None:
            auth = {"auth_url": keystone.url, "user_id": user, "password": keystones.PASSWORD}
            told = {"auth": {**auth, "project_id": project}, "region_name": keystones.REGION}
            path.write_text(yaml.safe_dump({"clouds": {"test": told}}))

        cloud(stranger)
        async with openstack.source("test", RESOURCES) as source:
            with pytest.raises(SourceUnavailable, match="403"):
                await seen(source, aggregate)
            cloud(user)
            assert (await seen(source, aggregate)).capacity == {"n1": {"VCPU": 4}}
            # Tokens of before are good no more.
            keystone.call("PATCH", f"/users/{user}", {"user": {"enabled": False}})
            with pytest.raises(SourceUnavailable, match="401"):
                await seen(source, aggregate)
            keystone.call("PATCH", f"/users/{user}", {"user": {"enabled": True}})
            assert (await seen(source, aggregate)).capacity == {"n1": {"VCPU": 4}}


# --- the whole ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(100)
async def test_the_story(placement):
    """The service from outside, by `make demo-openstack`, which checks what it tells."""
    told = await asyncio.to_thread(subprocess.run, STORY, capture_output=True, text=True, timeout=90)
    assert told.returncode == 0, told.stdout + told.stderr
