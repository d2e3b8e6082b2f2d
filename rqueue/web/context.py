"""What handlers are given, by typed keys. The reaper and the callbacks are only functions here."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from rqueue.store.store import Store

STORE = web.AppKey("STORE", Store)
WAKE: web.AppKey[Callable[[str, str], None]] = web.AppKey("WAKE")
CHECK_CALLBACK: web.AppKey[Callable[[str], None]] = web.AppKey("CHECK_CALLBACK")
READY: web.AppKey[Callable[[], Awaitable[None]]] = web.AppKey("READY")
