"""What handlers are given, by typed keys. The reaper and the callbacks are only functions here."""

from collections.abc import Awaitable, Callable

from aiohttp import web
from yarl import URL

from rqueue.store.store import Store

STORE = web.AppKey("STORE", Store)
WAKE: web.AppKey[Callable[[str, str], None]] = web.AppKey("WAKE")
TARGET: web.AppKey[Callable[[str], URL]] = web.AppKey("TARGET")
READY: web.AppKey[Callable[[], Awaitable[None]]] = web.AppKey("READY")
