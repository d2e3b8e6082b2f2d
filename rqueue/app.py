"""The composition root: who is made from what."""

import asyncio
import base64
import gc
import ipaddress
import logging
import os
import resource
import secrets
import signal
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TypedDict

from aiohttp import web
from yarl import URL

from rqueue import declaration, identity, metrics, tls, tokens
from rqueue.callbacks import Callbacks
from rqueue.capacity import kubernetes, openstack
from rqueue.config import Config, traced, words
from rqueue.declaring import Declaring
from rqueue.errors import NotReady, Refused, RqueueError
from rqueue.files import Files, Watched
from rqueue.guard import Guard
from rqueue.reaper import TICK_SECONDS, Reaper, ended
from rqueue.sources import Factory, Sources
from rqueue.store.check import Check, Fault
from rqueue.store.cluster import Cluster
from rqueue.store.connect import connect
from rqueue.store.embedded import embedded, running
from rqueue.store.gauges import GaugeReader
from rqueue.store.keys import Keys
from rqueue.store.live import Live
from rqueue.store.pipeline import Pipeline, Replicas
from rqueue.store.store import Store
from rqueue.supervisor import Line, supervise
from rqueue.traces import Traces, exported
from rqueue.web import openapi, routes
from rqueue.web.auth import AUTH, Auth
from rqueue.web.connections import Limits
from rqueue.web.context import (
    CHECK_CALLBACK,
    CLAIM,
    FEEDS,
    FOLLOW,
    METRICS,
    OPENAPI,
    READ_SOURCE,
    READY,
    STILL_KNOWN,
    STORE,
    TRACES,
    WAKE,
)
from rqueue.web.feed import Feeds
from rqueue.web.middleware import one_error_shape
from rqueue.web.server import listening

log = logging.getLogger("rqueue.app")

READY_SECONDS = 2.0
# How often a worker says what it has counted: so much is lost of one that is killed.
TELL_SECONDS = 1.0
LATE_TICKS = 5
# Objects made before the collector looks at the young ones, and so many times more for the older ones: with
# Python's own numbers it takes a twelfth of a delivery.
GC_THRESHOLDS = (20_000, 20, 20)
# What is open besides connections that clients opened: Redis, callbacks, files.
OTHER_FILES = 1024
# For all bodies of requests that are not answered yet; of the largest that are allowed there is room for 4.
HELD_BYTES = 64 << 20
LOOPBACK = ("127.0.0.0/8", "::1/128")
REAPER = web.AppKey("REAPER", Reaper)
FILES = web.AppKey("FILES", Files)


class Said(TypedDict):
    """What one process says of itself for a scrape; `ticked` as in Reaper, `streams` as in Feeds."""

    counts: metrics.Counts
    ticked: float
    streams: int


def build(
    config: Config,
    redis_url: str,
    inbox_url: str = "",
    now: Callable[[], int] | None = None,
    line: Line | None = None,
    traces: Traces | None = None,
    factories: Mapping[str, Factory] | None = None,
) -> web.Application:
    """The application for a Redis; `now` is the clock of a test, in microseconds.

    With an `inbox_url`, as on the embedded server, it serves an inbox there and may call loopback. One of
    several workers is given its `line`, and shows what all of them count. `traces` are ended with it.
    `factories` make live sources, where not those of the configuration.
    """
    app = web.Application(middlewares=[one_error_shape], client_max_size=config.max_body)
    files = Files()
    redis = _redis(config, redis_url, files)
    store = Store(redis, config.namespace, now)
    # For trying out by oneself: others, as clients, are not to call what runs beside the service.
    open_to_all = bool(inbox_url) and not config.tokens_file
    allow = (*config.callback_allow, *(LOOPBACK if open_to_all else ()))
    guard = Guard(allow, config.callback_deny, URL(inbox_url).origin() if inbox_url else None)
    callbacks = _callbacks(config, guard, inbox_url, files, traces)
    reaper = Reaper(store, callbacks)
    gauges = GaugeReader(redis, config.namespace, now)
    live = Live(redis, config.namespace, secrets.token_hex(8), now)
    makers = _factories(config) if factories is None else factories
    sources = Sources(live, makers, reaper.wake, config.source_seconds)
    feeds = Feeds(store.events.after)

    declaring = None
    if (path := config.queues_file) is not None:
        queues = files.watched("RQUEUE_QUEUES_FILE", declaration.read, path)
        declaring = Declaring(store, queues, reaper.wake, sources.wake)

    async def ready() -> None:
        try:
            async with asyncio.timeout(READY_SECONDS):
                await store.check()
        except TimeoutError:
            raise NotReady(f"Redis did not answer within {READY_SECONDS:g} s") from None
        if declaring:
            declaring.check()
        if reaper.seconds_since_tick > LATE_TICKS * TICK_SECONDS:
            raise NotReady("the reaper has not ticked lately")

    def said() -> Said:
        return {"counts": metrics.counts(), "ticked": reaper.ticked, "streams": feeds.open}

    async def scrape(accept: str) -> tuple[bytes, str]:
        own = said()
        try:
            all_ = [own, *(await line.exchange(own) if line else ())]
        except TimeoutError:
            # Without the others the sums would go down, which would be taken for a restart.
            raise NotReady(
                "the process that watches the workers did not say what they have counted"
            ) from None
        # The moments are comparable: the clock is the machine's.
        lag = time.monotonic() - min(of_one["ticked"] for of_one in all_)
        streams = sum(of_one["streams"] for of_one in all_)
        read = await gauges.read() | {metrics.REAPER_LAG: {(): lag}, metrics.EVENT_STREAMS: {(): streams}}
        counts = [of_one["counts"] for of_one in all_]
        # In a thread, since thousands of series take longer to write than a request may wait.
        return await asyncio.to_thread(metrics.text, accept, counts, read, process=line is None)

    async def telling(_: web.Application) -> AsyncIterator[None]:
        async def tell(line: Line) -> None:
            while True:
                await line.tell(said())
                await asyncio.sleep(TELL_SECONDS)

        task = asyncio.create_task(tell(line)) if line else None
        yield
        await ended([task] if task else [])

    async def closing(_: web.Application) -> None:
        # Before what is in flight is waited for: streams have no end of their own.
        feeds.close()

    async def tracing(_: web.Application) -> AsyncIterator[None]:
        yield
        if traces:
            await traces.end()

    async def redis_client(_: web.Application) -> AsyncIterator[None]:
        async with redis:
            yield

    async def watching(_: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(files.run())
        yield
        await ended([task])

    async def story(_: web.Application) -> AsyncIterator[None]:
        async with callbacks:
            task = asyncio.create_task(_story(store, callbacks, reaper))
            yield
            await ended([task])
            await reaper.stop(grace=config.callback_timeout)

    async def declared(_: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(declaring.run()) if declaring else None
        yield
        await ended([task] if task else [])

    async def reading(_: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(sources.run())
        yield
        await ended([task])
        await sources.stop()

    app[STORE], app[REAPER], app[FILES] = store, reaper, files
    app[WAKE], app[FOLLOW], app[CLAIM] = reaper.wake, reaper.follow, reaper.claim_ms
    app[READ_SOURCE] = sources.wake
    app[CHECK_CALLBACK], app[READY], app[METRICS] = callbacks.check, ready, scrape
    app[TRACES], app[FEEDS], app[STILL_KNOWN] = traces, feeds, _anyone
    # Telling ends last: a worker that says nothing for long is killed, also while it finishes its work.
    app.cleanup_ctx.extend([telling, tracing, watching, redis_client, story, reading, declared])
    app.on_shutdown.append(closing)
    served = routes.ROUTES
    if config.tokens_file:
        _ask_who(app, config, config.tokens_file, files)
        served += routes.LOGIN_ROUTES
    if inbox_url:
        served += routes.INBOX_ROUTES
    routes.add(app.router, served)
    app[OPENAPI] = openapi.document(served, guarded=bool(config.tokens_file))
    return app


async def _anyone(_: web.Request) -> bool:
    return True


def _factories(config: Config) -> dict[str, Factory]:
    """The live sources, by their names in a queue's settings; made when a queue first names one."""
    cloud, resources = config.openstack_cloud, dict(config.openstack_resources)
    return {"kubernetes": kubernetes.source, "openstack": partial(openstack.source, cloud, resources)}


def _ask_who(app: web.Application, config: Config, path: Path, files: Files) -> None:
    """From now on the application lets in only who is known. Raises Refused for a bad tokens file."""
    file = files.watched("RQUEUE_TOKENS_FILE", tokens.read, path)
    if file.value.by_account and config.auth_kubernetes != "true":
        log.warning(
            "RQUEUE_TOKENS_FILE names ServiceAccounts, and RQUEUE_AUTH_KUBERNETES is not true: none gets in"
        )
    reviews: list[identity.Review] = []
    app[AUTH] = Auth(lambda: file.value, reviews, config.token_rate)
    app[STILL_KNOWN] = app[AUTH].still_known
    app.middlewares.append(app[AUTH].middleware(routes.RIGHTS))

    async def others(_: web.Application) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            if config.auth_kubernetes == "true":
                review = identity.kubernetes(config.auth_kubernetes_audience)
                reviews.append(await stack.enter_async_context(review))
            if config.auth_keystone:
                review = identity.keystone(config.auth_keystone, config.auth_keystone_role)
                reviews.append(await stack.enter_async_context(review))
            yield

    app.cleanup_ctx.append(others)


def _redis(config: Config, url: str, files: Files) -> Pipeline | Cluster:
    password = context = None
    if (path := config.redis_password_file) is not None:
        # The end of a line is the editor's, spaces may be the password's.
        password = files.watched(
            "RQUEUE_REDIS_PASSWORD_FILE", lambda content: content.decode().rstrip("\r\n"), path
        )
    ca, certificate, key = config.redis_ca_file, config.redis_cert_file, config.redis_key_file
    named = {
        "RQUEUE_REDIS_CA_FILE": ca,
        "RQUEUE_REDIS_CERT_FILE": certificate,
        "RQUEUE_REDIS_KEY_FILE": key,
    }
    if there := {name: path for name, path in named.items() if path is not None}:
        context = files.watched(
            ", ".join(there), lambda *_: tls.client(ca, certificate, key), *there.values()
        )
    replicas = None
    if config.wait_replicas:
        replicas = Replicas(config.wait_replicas, config.wait_timeout_ms, Keys(config.namespace).replicated)
    return connect(url, config.redis_username, password, context, replicas)


def _callbacks(
    config: Config, guard: Guard, inbox_url: str, files: Files, traces: Traces | None
) -> Callbacks:
    base_url, trust = config.callback_base_url or inbox_url, None
    if (ca := config.callback_ca_file) is not None:
        trust = files.watched("RQUEUE_CALLBACK_CA_FILE", lambda _: tls.client(ca, system=True), ca)
    callbacks = Callbacks(guard, base_url, config.callback_timeout, trust, traces)
    callbacks.sign_with(config.callback_secrets)
    if (path := config.callback_secrets_file) is not None:

        def sign(content: bytes) -> None:
            secrets = words(content.decode())
            if not secrets:
                raise Refused("expected whsec_ and base64, the newest first")
            callbacks.sign_with(secrets)

        files.watched("RQUEUE_CALLBACK_SECRETS_FILE", sign, path)
    return callbacks


async def _story(store: Store, callbacks: Callbacks, reaper: Reaper) -> None:
    """Run the reaper, once it is known with which secrets all replicas sign."""
    while not callbacks.signs:
        try:
            made = f"whsec_{base64.b64encode(secrets.token_bytes(24)).decode()}"
            callbacks.sign_with([await store.callback_secret(made)])
            break
        except RqueueError as error:
            log.error(
                "%s; until that is over there is no signing secret, and nobody is called", error.message
            )
            await asyncio.sleep(TICK_SECONDS)
    await reaper.run()


@dataclass(frozen=True, slots=True)
class Place:
    """Where the service is and where its Redis; `inbox_url` only on the embedded server."""

    url: str
    redis_url: str
    inbox_url: str = ""


def serve(config: Config, started: Callable[[str, str], None]) -> None:
    """Run the service until SIGTERM or SIGINT; `started` is told its URL and Redis's once it listens.

    Raises Refused where it must not or cannot start.
    """
    sock = listen(config.host, config.port, bool(config.tokens_file))
    host, port = sock.getsockname()[:2]
    scheme = "https" if config.tls_cert_file else "http"
    url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    if config.redis_url:
        _serve(config, sock, Place(url, config.redis_url), started)
    else:
        died = threading.Event()

        def stop() -> None:
            died.set()
            os.kill(os.getpid(), signal.SIGTERM)

        with embedded(config.data_dir, died=stop) as redis_url:
            # An address that stands for all of them is none to call.
            near = url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
            _serve(config, sock, Place(url, redis_url, f"{near}/inbox/"), started)
        if died.is_set():
            raise Refused(f"the embedded server ended by itself; its log is in {config.data_dir}/redis.log")


def check(
    config: Config,
    found: Callable[[Fault], None],
    repair: bool = False,
    types: Sequence[str] = (),
    looked: Callable[[int], None] = lambda _: None,
) -> None:
    """Look for what the keys do not agree about, and with `repair` mend it; `found` is told of each fault.

    Raises Refused or Unavailable where Redis cannot be looked at.
    """
    url = config.redis_url or running(config.data_dir)

    async def main() -> None:
        async with _redis(config, url, Files()) as redis:
            async for fault in Check(redis, config.namespace, repair, types, looked=looked).faults():
                found(fault)

    asyncio.run(main())


def _serve(config: Config, sock: socket.socket, place: Place, started: Callable[[str, str], None]) -> None:
    def listens() -> None:
        started(place.url, place.redis_url)

    if config.workers == 1:
        _run(config, sock, place, listens)
    else:
        supervise(config.workers, sock, asdict(place), listens)


def work(config: Config, line: Line) -> None:
    """Be one of the workers of `serve`, until SIGTERM. Raises Refused where it cannot start."""
    if line.counts:
        metrics.go_on_from(line.counts["counts"])
    _run(config, line.sock, Place(**line.told), line.listens, line)


def _run(
    config: Config,
    sock: socket.socket,
    place: Place,
    started: Callable[[], None],
    line: Line | None = None,
) -> None:
    async def main() -> None:
        stop, task = asyncio.Event(), asyncio.current_task()
        assert task is not None  # noqa: S101

        def on_signal() -> None:
            # The second one does not wait for what is in flight. A worker may get the first one twice,
            # from its supervisor and from who signals all processes there are; the supervisor kills.
            if stop.is_set() and line is None:
                task.cancel()
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, on_signal)
        application = build(
            config, place.redis_url, place.inbox_url, line=line, traces=exported() if traced() else None
        )
        port_tls = _port_tls(config, application[FILES])
        async with listening(application, sock, config.callback_timeout, port_tls, _limits(config)):
            # What is there now stays; of what requests leave behind, little is a circle.
            gc.freeze()
            gc.set_threshold(*GC_THRESHOLDS)
            started()
            await stop.wait()
            log.info("stopping: what is in flight is finished, the rest stays in due")

    with asyncio.Runner(loop_factory=_loop) as loop, suppress(asyncio.CancelledError):
        loop.run(main())


def _limits(config: Config) -> Limits:
    """What its connections may take, with as many file descriptors as that needs and the system gives."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = config.max_connections + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        files = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
            soft = files
        connections = min(config.max_connections, soft - min(OTHER_FILES, soft // 2))
    else:
        connections = config.max_connections
    if connections < config.max_connections:
        log.warning(
            "RQUEUE_MAX_CONNECTIONS is %d, and %d open files are allowed: room for %d connections",
            *(config.max_connections, soft, connections),
        )
    return Limits(
        connections=connections,
        keepalive_seconds=config.keepalive_timeout,
        held_bytes=max(HELD_BYTES, 4 * config.max_body),
    )


def _port_tls(config: Config, files: Files) -> Watched[ssl.SSLContext] | None:
    certificate, key = config.tls_cert_file, config.tls_key_file
    if certificate is None or key is None:
        return None
    return files.watched(
        "RQUEUE_TLS_CERT_FILE, RQUEUE_TLS_KEY_FILE", lambda *_: tls.server(certificate, key), certificate, key
    )


def _loop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()


def listen(host: str, port: int, guarded: bool = False) -> socket.socket:
    """A socket to listen on. Raises Refused for others than loopback, unless callers say who they are."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Refused(f"RQUEUE_HOST is {host!r}: {error}") from None
    family, _, _, _, address = found[0]
    if not guarded and not ipaddress.ip_address(address[0]).is_loopback:
        raise Refused(
            f"RQUEUE_HOST is {host!r}, which others can reach, and without RQUEUE_TOKENS_FILE the API asks"
            " nobody who they are; set it, or expect a loopback address"
        )
    try:
        # `::` is all addresses, those of IPv4 too.
        both = address[0] == "::" and socket.has_dualstack_ipv6()
        return socket.create_server(address[:2], family=family, dualstack_ipv6=both)
    except OSError as error:
        raise Refused(f"cannot listen on {host} port {port}: {error}") from None
