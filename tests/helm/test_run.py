"""What the chart renders, run: Valkey with its configuration, the service with its command and environment,
the probes by HTTP, and the command of `helm test`.

There is no cluster here, so that its part is played by the test: it writes the Secrets and ConfigMaps that
a pod mounts into a directory, and reads `/etc/…`, `/data` and the Services' names and ports as places in it
and ports of this machine. Nothing else of the rendered words is changed.
"""

import asyncio
import hashlib
import itertools
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, RedisError

from rqueue.config import PREFIX, SETTINGS
from rqueue.store.embedded import server_binary
from tests.helm.chart import CASES, NAMESPACE, RELEASE, Rendered, render, values

START_SECONDS = 30
RENDERED = render({})
KNOWN = {PREFIX + setting.name for setting in SETTINGS}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Machine:
    """The cluster's part: mounted files in a directory, and a port of this machine for each port there."""

    root: Path
    rendered: Rendered
    redis_port: int = field(default_factory=_free_port)
    http_port: int = field(default_factory=_free_port)

    def here(self, word: str) -> str:
        """A word of the manifest as it is said on this machine."""
        word = re.sub(r"(?<![\w./])/(etc|data)\b", rf"{self.root}/\1", word)
        word = word.replace(f"{RELEASE}-valkey:6379", f"127.0.0.1:{self.redis_port}")
        return word.replace(f"{RELEASE}.{NAMESPACE}.svc:8080", f"127.0.0.1:{self.http_port}")

    def mount(self, pod: dict[str, Any], container: dict[str, Any]) -> None:
        """Write what the pod's Secrets and ConfigMaps hold where the container mounts them."""
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        for mount in container["volumeMounts"]:
            place = Path(self.here(mount["mountPath"]))
            volume = volumes.get(mount["name"], {})
            for source in volume.get("projected", {}).get("sources", [volume]):
                for path, text in self._files(source).items():
                    (place / path).parent.mkdir(parents=True, exist_ok=True)
                    (place / path).write_text(text)

    def _files(self, source: dict[str, Any]) -> dict[str, str]:
        if secret := source.get("secret"):
            held = self.rendered.one("Secret", secret.get("secretName") or secret["name"])["stringData"]
            return {item["path"]: held[item["key"]] for item in secret["items"]}
        if named := source.get("configMap"):
            held = self.rendered.one("ConfigMap", named["name"])["data"]
            # Configuration names its files by where they are mounted.
            return {name: self.here(text) for name, text in held.items()}
        return {}


@pytest.fixture
def machine() -> Iterator[Machine]:
    # A short path: what is under it stands in Valkey's configuration.
    with tempfile.TemporaryDirectory(prefix="rqueue-chart-") as root:
        yield Machine(Path(root), RENDERED)


@contextmanager
def valkey(machine: Machine) -> Iterator[dict[str, Any]]:
    """The built-in Valkey, by its rendered command and configuration; yields its container."""
    pod = machine.rendered.one("StatefulSet")["spec"]["template"]["spec"]
    container = pod["containers"][0]
    machine.mount(pod, container)
    (machine.root / "data").mkdir()
    assert container["command"] == ["valkey-server"]
    words = [server_binary(), *map(machine.here, container["args"])]
    # Of this machine: a free port, and on loopback only.
    words += ["--port", str(machine.redis_port), "--bind", "127.0.0.1"]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, cwd=machine.root)
    try:
        yield container
    finally:
        server.terminate()
        server.wait(20)


async def until(ready: Any) -> None:
    """Wait until `await ready()` is true; fails when it is not in time."""
    async with asyncio.timeout(START_SECONDS):
        for _ in itertools.count():
            if await ready():
                return
            await asyncio.sleep(0.05)


@asynccontextmanager
async def client(machine: Machine) -> AsyncIterator["Redis"]:
    password = machine.rendered.one("Secret", f"{RELEASE}-valkey")["stringData"]["password"]
    async with Redis(port=machine.redis_port, password=password, decode_responses=True) as redis:

        async def answers() -> bool:
            with suppress(RedisError):
                return bool(await redis.ping())
            return False

        await until(answers)
        yield redis


async def test_valkey_keeps_what_it_is_told(machine: Machine) -> None:
    with valkey(machine):
        async with client(machine) as redis:
            kept = {
                "appendonly": "yes",
                "save": "",
                "maxmemory": str(1 << 30),
                "maxmemory-policy": "noeviction",
                "hash-max-listpack-value": "1024",
                "hash-max-listpack-entries": "512",
            }
            for name, value in kept.items():
                assert await redis.config_get(name) == {name: value}
            await redis.set("kept", "1")
    assert list((machine.root / "data" / "appendonlydir").glob("*.aof"))


async def test_valkey_asks_for_its_password(machine: Machine) -> None:
    with valkey(machine):
        async with client(machine):
            pass
        async with Redis(port=machine.redis_port) as stranger:
            with pytest.raises(AuthenticationError):
                await stranger.ping()


@pytest.mark.skipif(not shutil.which("redis-cli"), reason="NOT TRIED: redis-cli is not on the PATH")
async def test_valkeys_probe_passes_when_it_answers(machine: Machine) -> None:
    def probe(container: dict[str, Any]) -> int:
        words = [machine.here(word) for word in container["readinessProbe"]["exec"]["command"]]
        # Debian's name for the same program, and the port of this machine.
        words[-1] = words[-1].replace("valkey-cli", f"redis-cli -p {machine.redis_port}")
        return subprocess.run(words, capture_output=True, check=False).returncode

    with valkey(machine) as container:
        assert container["startupProbe"]["exec"] == container["readinessProbe"]["exec"]
        async with client(machine):
            assert probe(container) == 0
    assert probe(container) != 0


@asynccontextmanager
async def service(machine: Machine) -> AsyncIterator[dict[str, Any]]:
    """The service, by its rendered command and environment and no other; yields its container."""
    pod = machine.rendered.one("Deployment")["spec"]["template"]["spec"]
    container = pod["containers"][0]
    machine.mount(pod, container)
    rows = {row["name"]: machine.here(row["value"]) for row in container["env"]}
    assert rows["RQUEUE_PORT"] == str(container["ports"][0]["containerPort"])
    rows["RQUEUE_PORT"] = str(machine.http_port)
    # Its image puts the command on the PATH; here it is beside this interpreter.
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **rows}
    process = await asyncio.create_subprocess_exec(
        *container["command"], *container["args"], env=environment, cwd=machine.root
    )
    try:
        yield container
    finally:
        if process.returncode is None:
            process.terminate()
        status = await process.wait()
    assert status == 0, "SIGTERM ends it"


async def probed(machine: Machine, probe: dict[str, Any]) -> int:
    """The status that a probe sees; 0 where nobody answers."""
    get = probe["httpGet"]
    assert get["port"] == "http"
    url = f"{get['scheme'].lower()}://127.0.0.1:{machine.http_port}{get['path']}"
    async with aiohttp.ClientSession() as session:
        with suppress(aiohttp.ClientConnectionError):
            async with session.get(url) as response:
                return response.status
    return 0


@pytest.mark.parametrize("case", CASES)
def test_every_variable_is_a_setting(case: str) -> None:
    container = render(values(case)).one("Deployment")["spec"]["template"]["spec"]["containers"][0]
    written = [row["name"] for row in container["env"]]
    assert len(set(written)) == len(written)
    assert {name for name in written if name.startswith(PREFIX)} <= KNOWN


async def test_the_pods_work(machine: Machine) -> None:
    with valkey(machine):
        async with service(machine) as container:

            async def ready() -> bool:
                return await probed(machine, container["readinessProbe"]) == 200

            await until(ready)
            assert await probed(machine, container["startupProbe"]) == 200
            assert await probed(machine, container["livenessProbe"]) == 200
            said = await asyncio.to_thread(helm_test, machine)
            assert said.returncode == 0, said.stdout + said.stderr
            assert "the chart's service works" in said.stdout
            await prometheus_may_scrape(machine)
            await the_test_leaves_no_setting(machine)
            # Twice in a row, as after an upgrade.
            assert (await asyncio.to_thread(helm_test, machine)).returncode == 0


async def test_queues_are_declared_by_a_hook_that_waits_for_the_service(tmp_path: Path) -> None:
    machine = Machine(tmp_path, render(values("queues")))
    spec = machine.rendered.one("Job")["spec"]["template"]["spec"]
    # As an install does that waits for nothing.
    declared = asyncio.create_task(asyncio.to_thread(hook, machine, spec))
    with valkey(machine):
        async with service(machine):
            said = await declared
            assert said.returncode == 0, said.stdout + said.stderr
            token = machine.rendered.one("Secret", f"{RELEASE}-tokens")["stringData"]["admin-token"]
            url = f"http://127.0.0.1:{machine.http_port}/queues"
            async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
                async with session.get(f"{url}/vm") as response:
                    assert (await response.json())["data"]["lease_seconds"] == 86400
                async with session.get(f"{url}/vm/pools/host1") as response:
                    assert set((await response.json())["data"]["hosts"]) == {"node-1", "node-2"}
                async with session.get(f"{url}/gpu%2Fa100") as response:
                    assert response.status == 200


async def test_it_waits_for_redis_and_helm_test_fails_until_then(machine: Machine) -> None:
    async with service(machine) as container:

        async def alive() -> bool:
            return await probed(machine, container["livenessProbe"]) == 200

        await until(alive)
        assert await probed(machine, container["readinessProbe"]) == 503
        assert (await asyncio.to_thread(helm_test, machine)).returncode != 0
        with valkey(machine):

            async def ready() -> bool:
                return await probed(machine, container["readinessProbe"]) == 200

            await until(ready)


def helm_test(machine: Machine) -> "subprocess.CompletedProcess[str]":
    """Run the command of the test hook."""
    return hook(machine, machine.rendered.one("Pod")["spec"])


def hook(machine: Machine, spec: dict[str, Any]) -> "subprocess.CompletedProcess[str]":
    container = spec["containers"][0]
    machine.mount(spec, container)
    python, *words = [*container["command"], *map(machine.here, container["args"])]
    assert python == "python"
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=50, check=False)


async def prometheus_may_scrape(machine: Machine) -> None:
    """With the ServiceMonitor's credentials, whose role lets it do nothing else."""
    monitor = render(values("monitoring")).one("ServiceMonitor")["spec"]["endpoints"][0]
    credentials = monitor["authorization"]["credentials"]
    held = machine.rendered.one("Secret", credentials["name"])["stringData"][credentials["key"]]
    url = f"http://127.0.0.1:{machine.http_port}"
    token = {"Authorization": f"{monitor['authorization']['type']} {held}"}
    async with aiohttp.ClientSession(headers=token) as session:
        async with session.get(url + monitor["path"]) as response:
            assert response.status == 200
            assert "rqueue_redis_up 1" in await response.text()
        async with session.put(f"{url}/queues/helm-test", json={"paused": False}) as response:
            assert response.status == 403
    async with aiohttp.ClientSession() as session, session.get(url + monitor["path"]) as response:
        assert response.status == 401


async def the_test_leaves_no_setting(machine: Machine) -> None:
    """Its queue is as one that nobody has used; a paused one would look forgotten."""
    token = machine.rendered.one("Secret", f"{RELEASE}-tokens")["stringData"]["admin-token"]
    url = f"http://127.0.0.1:{machine.http_port}/queues"
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session,
        session.get(f"{url}/helm-test") as used,
        session.get(f"{url}/unused") as unused,
    ):
        there, default = (await used.json())["data"], (await unused.json())["data"]
    assert {**there, "type": "", "counts": {}} == {**default, "type": "", "counts": {}}
    assert there["counts"]["queued"] == 0


def test_the_tokens_file_holds_what_the_tokens_are() -> None:
    held = RENDERED.one("Secret", f"{RELEASE}-tokens")["stringData"]
    entries = {entry["name"]: entry for entry in yaml.safe_load(held["tokens.yaml"])["tokens"]}
    for name, role in (("admin", "admin"), ("metrics", "viewer")):
        sha256 = hashlib.sha256(held[f"{name}-token"].encode()).hexdigest()
        assert entries[name] == {"name": name, "role": role, "sha256": sha256}
    assert held["admin-token"] != held["metrics-token"]
    assert len(held["admin-token"]) > 40
    assert held["admin-token"] not in held["tokens.yaml"]
