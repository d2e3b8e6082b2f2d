"""What handlers are given, by typed keys. The reaper and the callbacks are only functions here."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from rqueue.store.answers import Work
from rqueue.store.store import Store
from rqueue.traces import Traces
from rqueue.web.feed import Feeds

STORE = web.AppKey("STORE", Store)
WAKE: web.AppKey[Callable[[str, str], None]] = web.AppKey("WAKE")
# What followed from a change, with the moment (time.monotonic) before which it was asked for.
FOLLOW: web.AppKey[Callable[[str, Work, float], None]] = web.AppKey("FOLLOW")
# A pool of this live source is new: read it at once.
READ_SOURCE: web.AppKey[Callable[[str], None]] = web.AppKey("READ_SOURCE")
# For how many ms who is admitted by a handler's change is claimed; 0 where nobody is to be admitted.
CLAIM: web.AppKey[Callable[[], int]] = web.AppKey("CLAIM")
CHECK_CALLBACK: web.AppKey[Callable[[str], None]] = web.AppKey("CHECK_CALLBACK")
# The text of all metrics in the form that an Accept header asks for, and its content type.
METRICS: web.AppKey[Callable[[str], Awaitable[tuple[bytes, str]]]] = web.AppKey("METRICS")
FEEDS = web.AppKey("FEEDS", Feeds)
# Whether who sent a request, which lasts, may still do what it does.
STILL_KNOWN: web.AppKey[Callable[[web.Request], Awaitable[bool]]] = web.AppKey("STILL_KNOWN")
# None where nobody asked for traces.
TRACES: web.AppKey[Traces | None] = web.AppKey("TRACES")
# The OpenAPI document, as JSON.
OPENAPI = web.AppKey("OPENAPI", bytes)
READY: web.AppKey[Callable[[], Awaitable[None]]] = web.AppKey("READY")
