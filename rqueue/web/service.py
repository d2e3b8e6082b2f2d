"""Handlers of the service itself: is it there, is it ready. Each answers for the process that is asked."""

from aiohttp import web

from rqueue.errors import NotReady
from rqueue.web import shapes
from rqueue.web.answers import answer
from rqueue.web.auth import caller_of
from rqueue.web.context import METRICS, OPENAPI, READY
from rqueue.web.operation import operation


@operation(data=shapes.NOTHING, asks_redis=False)
async def healthz(request: web.Request) -> web.Response:
    """GET /healthz: the process answers."""
    return answer({})


@operation(data=shapes.NOTHING, refuses=(NotReady,))
async def readyz(request: web.Request) -> web.Response:
    """GET /readyz: a script ran on Redis just now, and the reaper ticked lately; else 503 says why not."""
    await request.app[READY]()
    return answer({})


@operation(
    media={"text/plain": shapes.TEXT, "application/openmetrics-text": shapes.TEXT},
    refuses=(NotReady,),
)
async def metrics(request: web.Request) -> web.Response:
    """GET /metrics: what is counted and measured, in Prometheus's form or, by Accept, in OpenMetrics'."""
    caller_of(request).must_have_every_type()
    body, content_type = await request.app[METRICS](request.headers.get("Accept", ""))
    return web.Response(body=body, headers={"Content-Type": content_type})


@operation(media={"application/json": {"type": "object"}}, asks_redis=False)
async def openapi(request: web.Request) -> web.Response:
    """GET /openapi.json: this document."""
    return web.Response(body=request.app[OPENAPI], content_type="application/json")
