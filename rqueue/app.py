"""The composition root: who is made from what."""

import asyncio
import base64
import gc
import ipaddress
import logging
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TypedDict

from aiohttp import web

from rqueue import metrics
from rqueue.callbacks import Callbacks
from rqueue.config import Config, traced
from rqueue.errors import NotReady, Refused, RqueueError
from rqueue.guard import Guard
from rqueue.reaper import TICK_SECONDS, Reaper, ended
from rqueue.store.embedded import embedded
from rqueue.store.gauges import GaugeReader
from rqueue.store.pipeline import connect
from rqueue.store.store import Store
from rqueue.supervisor import Line, supervise
from rqueue.traces import Traces, exported
from rqueue.web import routes
from rqueue.web.context import CHECK_CALLBACK, CLAIM, FOLLOW, METRICS, READY, STORE, TRACES, WAKE
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
LOOPBACK = ("127.0.0.0/8", "::1/128")
REAPER = web.AppKey("REAPER", Reaper)


class Said(TypedDict):
    """What one process says of itself for a scrape; `ticked` as in Reaper."""

    counts: metrics.Counts
    ticked: float


def build(
    config: Config,
    redis_url: str,
    inbox_url: str = "",
    now: Callable[[], int] | None = None,
    line: Line | None = None,
    traces: Traces | None = None,
) -> web.Application:
    """The application for a Redis; `now` is the clock of a test, in microseconds.

    With an `inbox_url`, as on the embedded server, it serves an inbox there and may call loopback. One of
    several workers is given its `line`, and shows what all of them count. `traces` are ended with it.
    """
    app = web.Application(middlewares=[one_error_shape], client_max_size=config.max_body)
    redis = connect(redis_url)
    store = Store(redis, config.namespace, now)
    guard = Guard((*config.callback_allow, *(LOOPBACK if inbox_url else ())), config.callback_deny)
    callbacks = Callbacks(guard, config.callback_base_url or inbox_url, config.callback_timeout, traces)
    callbacks.sign_with(config.callback_secrets)
    reaper = Reaper(store, callbacks)
    gauges = GaugeReader(redis, config.namespace, now)

    async def ready() -> None:
        try:
            async with asyncio.timeout(READY_SECONDS):
                await store.check()
        except TimeoutError:
            raise NotReady(f"Redis did not answer within {READY_SECONDS:g} s") from None
        if reaper.seconds_since_tick > LATE_TICKS * TICK_SECONDS:
            raise NotReady("the reaper has not ticked lately")

    def said() -> Said:
        return {"counts": metrics.counts(), "ticked": reaper.ticked}

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
        read = await gauges.read() | {metrics.REAPER_LAG: {(): lag}}
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

    async def tracing(_: web.Application) -> AsyncIterator[None]:
        yield
        if traces:
            await traces.end()

    async def redis_client(_: web.Application) -> AsyncIterator[None]:
        async with redis:
            yield

    async def story(_: web.Application) -> AsyncIterator[None]:
        async with callbacks:
            task = asyncio.create_task(_story(config, store, callbacks, reaper))
            yield
            await ended([task])
            await reaper.stop(grace=config.callback_timeout)

    app[STORE], app[REAPER] = store, reaper
    app[WAKE], app[FOLLOW], app[CLAIM] = reaper.wake, reaper.follow, reaper.claim_ms
    app[CHECK_CALLBACK], app[READY], app[METRICS] = callbacks.check, ready, scrape
    app[TRACES] = traces
    app.cleanup_ctx.extend([tracing, redis_client, story, telling])
    routes.add(app.router, routes.ROUTES)
    if inbox_url:
        routes.add(app.router, routes.INBOX_ROUTES)
    return app


async def _story(config: Config, store: Store, callbacks: Callbacks, reaper: Reaper) -> None:
    """Run the reaper, once it is known with which secrets all replicas sign."""
    while not config.callback_secrets:
        try:
            made = f"whsec_{base64.b64encode(secrets.token_bytes(24)).decode()}"
            callbacks.sign_with([await store.callback_secret(made)])
            break
        except RqueueError as error:
            log.error("nobody is called yet, since there is no signing secret: %s", error.message)
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
    sock = listen(config.host, config.port)
    host, port = sock.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    if config.redis_url:
        _serve(config, sock, Place(url, config.redis_url), started)
    else:
        died = threading.Event()

        def stop() -> None:
            died.set()
            os.kill(os.getpid(), signal.SIGTERM)

        with embedded(config.data_dir, died=stop) as redis_url:
            _serve(config, sock, Place(url, redis_url, f"{url}/inbox/"), started)
        if died.is_set():
            raise Refused(f"the embedded server ended by itself; its log is in {config.data_dir}/redis.log")


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
        async with listening(application, sock, grace=config.callback_timeout):
            # What is there now stays; of what requests leave behind, little is a circle.
            gc.freeze()
            gc.set_threshold(*GC_THRESHOLDS)
            started()
            await stop.wait()
            log.info("stopping: what is in flight is finished, the rest stays in due")

    with asyncio.Runner(loop_factory=_loop) as loop, suppress(asyncio.CancelledError):
        loop.run(main())


def _loop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()


def listen(host: str, port: int) -> socket.socket:
    """A socket to listen on. Raises Refused for others than loopback, since the API is open to all."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Refused(f"RQUEUE_HOST is {host!r}: {error}") from None
    family, _, _, _, address = found[0]
    if not ipaddress.ip_address(address[0]).is_loopback:
        raise Refused(
            f"RQUEUE_HOST is {host!r}, which others can reach, and the API asks nobody who they are yet;"
            " expected a loopback address"
        )
    try:
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise Refused(f"cannot listen on {host} port {port}: {error}") from None
