"""What tests are given: real servers, an own namespace each, a clock that they turn, a running service.

`store` runs on every server there is and on fakeredis; `redis_url`, `service` and all that is built on
them run on a real server only. Nobody sleeps to be right: time is `clock`, and the reaper is driven by
`tick` and `drain`.
"""

import asyncio
import secrets
import shutil
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import fakeredis
import pytest
from aiohttp import web
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.exceptions import NoScriptError, ResponseError

from rqueue import app as composition
from rqueue import config as configuration
from rqueue.config import Config
from rqueue.domain.job import Draft
from rqueue.reaper import Reaper
from rqueue.sources import Factory
from rqueue.store import embedded as embedding
from rqueue.store.connect import connect
from rqueue.store.pipeline import Pipeline
from rqueue.store.store import Store
from rqueue.traces import Traces
from rqueue.web.context import FEEDS, STORE
from rqueue.web.feed import Feeds
from rqueue.web.schemas import draft as draft_of
from rqueue.web.server import listening
from tests.faults.cluster_servers import Nodes, clustered

START = 1_800_000_000_000_000  # the microsecond at which a test's clock starts


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption(
        "--thorough",
        action="store_true",
        help="break and try more, as docs/reliability.md says",
    )
    group.addoption(
        "--record", type=Path, metavar="FILE", help="append what the faults came to, a JSON line each"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--thorough"):
        for item in items:
            if item.get_closest_marker("thorough"):
                item.add_marker(pytest.mark.skip("NOT TRIED without --thorough: others try some of it"))
    # Files that take long come first, so that none of them is begun when all others are done.
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture
def thorough(request: pytest.FixtureRequest) -> bool:
    """Whether to break things as often as for docs/reliability.md, which takes a while."""
    return bool(request.config.getoption("--thorough"))


def _debian_redis() -> str | None:
    return shutil.which("redis-server")


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with embedding.embedded(tmp_path_factory.mktemp("valkey")) as url:
        yield url


@pytest.fixture(scope="session")
def debian_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    binary = _debian_redis()
    if binary is None:
        pytest.skip("NO redis-server on the PATH: Debian's package redis-server is not installed")
    path = tmp_path_factory.mktemp("redis") / "redis.sock"
    words = [w for name, value in embedding.OPTIONS.items() for w in (f"--{name}", value)]
    server = subprocess.Popen(
        [binary, *words, "--unixsocket", str(path), "--dir", str(path.parent)], stdout=subprocess.DEVNULL
    )
    try:
        for _ in range(500):
            if path.exists():
                break
            time.sleep(0.01)
        yield f"unix://{path}"
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture
def namespace() -> str:
    return f"test-{secrets.token_hex(6)}"


@pytest.fixture
def redis_url(valkey_url: str) -> str:
    """A real server: the embedded one."""
    return valkey_url


async def _emptied(redis: "Redis", namespace: str) -> None:
    keys = [key async for key in redis.scan_iter(f"{namespace}:*", count=1000)]
    for start in range(0, len(keys), 1000):
        await redis.unlink(*keys[start : start + 1000])


def redis_at(url: str) -> "Redis":
    """redis-py's own client, for a test to look into a server, or a cluster, beside the service."""
    if "+cluster://" in url:
        nodes = [ClusterNode(*host.rsplit(":", 1)) for host in url.partition("://")[2].split(",")]
        return RedisCluster(startup_nodes=nodes, decode_responses=True, encoding_errors="replace")
    return Redis.from_url(url, decode_responses=True, encoding_errors="replace")


class Faked:
    """fakeredis for the store: its client, without what redis-py makes of commands and replies."""

    def __init__(self, redis: "Redis") -> None:
        self._redis = redis

    async def call(self, *words: Any, write: bool = False) -> Any:
        return (await self.calls(words))[0]

    async def primaries(self) -> "tuple[Faked]":
        return (self,)

    async def calls(self, *commands: Any, write: bool = False) -> list[Any]:
        replies = []
        for words in commands:
            pool = self._redis.connection_pool
            connection = await pool.get_connection()
            try:
                await connection.send_command(*words)
                replies.append(await connection.read_response())
            except NoScriptError as error:
                raise ResponseError(f"NOSCRIPT {error}") from None
            finally:
                await pool.release(connection)
        return replies


@pytest.fixture(params=["valkey", "redis", pytest.param("fakeredis", marks=pytest.mark.thorough)])
def server(request: pytest.FixtureRequest) -> str:
    """The URL of every kind of server in turn; fakeredis has none."""
    if request.param == "fakeredis":
        return ""
    return str(request.getfixturevalue({"valkey": "valkey_url", "redis": "debian_url"}[request.param]))


@pytest.fixture(scope="session")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """A Redis Cluster. Who breaks it has one of their own."""
    with clustered(tmp_path_factory.mktemp("cluster")) as nodes:
        yield nodes


@pytest.fixture
async def redis(server: str, namespace: str) -> "AsyncIterator[Redis]":
    """A client on every kind of server in turn; what the test wrote is removed."""
    async with (
        redis_at(server) if server else fakeredis.FakeAsyncRedis(decode_responses=True, protocol=2) as redis
    ):
        yield redis
        if server:
            await _emptied(redis, namespace)


@pytest.fixture
async def pipeline(server: str, redis: "Redis") -> AsyncIterator[Pipeline | Faked]:
    """The store's way to the server of `redis`."""
    if not server:
        yield Faked(redis)
        return
    async with connect(server) as pipeline:
        yield pipeline


@pytest.fixture
async def real_redis(redis_url: str, namespace: str) -> "AsyncIterator[Redis]":
    """A client on a real server; what the test wrote is removed."""
    async with redis_at(redis_url) as redis:
        yield redis
        await _emptied(redis, namespace)


class Clock:
    """A clock in microseconds that stands until a test turns it."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += int(seconds * 1_000_000)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(pipeline: Pipeline | Faked, namespace: str, clock: Clock) -> Store:
    """A store on every kind of server in turn, with the test's clock."""
    return Store(pipeline, namespace, clock)


@pytest.fixture
async def real_store(
    redis_url: str, real_redis: "Redis", namespace: str, clock: Clock
) -> AsyncIterator[Store]:
    """A store on a real server, with the test's clock."""
    async with connect(redis_url) as pipeline:
        yield Store(pipeline, namespace, clock)


def new(
    request_id: str,
    owner_id: str = "y",
    priority: int | None = None,
    callback: str | None = None,
    **data: Any,
) -> Draft:
    """A draft with the usual values; `data` is the job's data."""
    return draft_of(data, request_id, owner_id, callback or f"http://127.0.0.1:9/{request_id}", priority)


@dataclass
class Receiver:
    """A client's end of the callbacks: a real server that keeps what arrives and answers as told."""

    url: str = ""
    calls: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    answer: Callable[[web.Request], Any] | None = None
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, request: web.Request) -> web.StreamResponse:
        self.calls.append((request.path, dict(request.headers), await request.read()))
        self.arrived.set()
        response = self.answer(request) if self.answer else web.Response()
        if asyncio.iscoroutine(response):
            response = await response
        assert isinstance(response, web.StreamResponse)
        return response

    async def until(self, count: int, seconds: float = 20) -> None:
        """Wait until so many calls have arrived; fails when they have not in time."""
        async with asyncio.timeout(seconds):
            while len(self.calls) < count:
                self.arrived.clear()
                await self.arrived.wait()


@asynccontextmanager
async def receiving(tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application(client_max_size=1 << 24)
    app.router.add_route("*", "/{path:.*}", receiver.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    host, port = runner.addresses[0][:2]
    receiver.url = f"{'https' if tls else 'http'}://{host}:{port}"
    try:
        yield receiver
    finally:
        await runner.cleanup()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@dataclass
class Service:
    """A running service: its URL, a client, and its parts for the driving."""

    url: str
    client: aiohttp.ClientSession
    store: Store
    reaper: Reaper
    feeds: Feeds

    async def call(self, method: str, path: str, body: Any = None, **options: Any) -> tuple[int, Any]:
        """One request; returns the status and the JSON. The path goes out as it is written."""
        from yarl import URL

        if body is not None:
            options["json"] = body
        async with self.client.request(method, URL(self.url + path, encoded=True), **options) as response:
            return response.status, await response.json()

    async def settle(self) -> None:
        """Everything that can happen now has happened: examined, called, written."""
        await self.reaper.tick()
        await self.reaper.drain()
        await self.reaper.tick()


def config_of(namespace: str, **changes: Any) -> Config:
    settings = configuration.read({"RQUEUE_NAMESPACE": namespace, "RQUEUE_PORT": "0"})
    return replace(settings, **{"callback_timeout": 2, "callback_allow": ("127.0.0.0/8",), **changes})


@asynccontextmanager
async def serving(
    config: Config,
    redis_url: str,
    now: Callable[[], int] | None = None,
    traces: Traces | None = None,
    factories: Mapping[str, Factory] | None = None,
) -> AsyncIterator[Service]:
    """The whole service on a free port, on a real server."""
    sock = composition.listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    app = composition.build(config, redis_url, f"{url}/inbox/", now, traces=traces, factories=factories)
    async with (
        listening(app, sock, grace=0.1),
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as client,
    ):
        yield Service(url, client, app[STORE], app[composition.REAPER], app[FEEDS])


@pytest.fixture
async def service(
    redis_url: str, real_redis: "Redis", namespace: str, clock: Clock
) -> AsyncIterator[Service]:
    """A running service on a real server with the test's clock; it may call loopback."""
    async with serving(config_of(namespace), redis_url, clock) as service:
        yield service


SEED_JOB = {
    "request_id": "d",
    "owner_id": "y",
    "data": {"instances": [{"VCPU": 1, "Memory": 1, "Disk": 1}], "project": "project id"},
    "callback": "abc",
}
