"""Handlers of the service itself: is it there, is it ready, and the inbox."""

from aiohttp import web

from rqueue.web.answers import answer
from rqueue.web.context import INBOX, READY


async def healthz(request: web.Request) -> web.Response:
    """GET /healthz: the process answers."""
    return answer({})


async def readyz(request: web.Request) -> web.Response:
    """GET /readyz: a script ran on Redis just now, and the reaper ticked lately; else 503 says why not."""
    await request.app[READY]()
    return answer({})


async def show_inbox(request: web.Request) -> web.Response:
    """GET /inbox/: the last callbacks that the service sent to itself, newest first."""
    return answer(request.app[INBOX].shown())


async def take_inbox(request: web.Request) -> web.Response:
    """POST /inbox/<anything>: take a callback."""
    request.app[INBOX].take(
        request.path, dict(request.headers), (await request.read()).decode(errors="replace")
    )
    return answer({})
