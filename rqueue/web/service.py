"""Handlers of the service itself: is it there, is it ready. Each answers for the process that is asked."""

from aiohttp import web

from rqueue.errors import Missing, NotReady
from rqueue.web import examples, shapes
from rqueue.web.answers import answer, names
from rqueue.web.assets import Assets
from rqueue.web.auth import caller_of
from rqueue.web.context import METRICS, OPENAPI, READY
from rqueue.web.operation import operation

# Swagger UI's own style sheet has its icons in it.
_DOCS = Assets("docs", img_src="'self' data:")


_WELL = {"yes": examples.answered({})}


@operation(data=shapes.NOTHING, answer_examples=_WELL, asks_redis=False)
async def healthz(request: web.Request) -> web.Response:
    """GET /healthz: the process answers.

    It says nothing of Redis: where it does not answer, the process is to be started again.
    """
    return answer({})


@operation(data=shapes.NOTHING, answer_examples=_WELL, refuses=(NotReady,))
async def readyz(request: web.Request) -> web.Response:
    """GET /readyz: a script ran on Redis just now, and the reaper ticked lately; else 503 says why not.

    While it answers 503 the process is to be given no requests.
    """
    await request.app[READY]()
    return answer({})


@operation(
    media={"text/plain": shapes.TEXT, "application/openmetrics-text": shapes.TEXT},
    refuses=(NotReady,),
)
async def metrics(request: web.Request) -> web.Response:
    """GET /metrics: what is counted and measured, in Prometheus's form or, by Accept, in OpenMetrics'.

    One scrape shows all workers of a service, and the queues and pools of its Redis.
    """
    caller_of(request).must_have_every_type()
    body, content_type = await request.app[METRICS](request.headers.get("Accept", ""))
    return web.Response(body=body, headers={"Content-Type": content_type})


@operation(media={"application/json": {"type": "object"}}, asks_redis=False)
async def openapi(request: web.Request) -> web.Response:
    """GET /openapi.json: this document.

    It is of the service that is asked: with the ways to say who one is where it has a tokens file, and with
    the inbox on the embedded server.
    """
    return web.Response(body=request.app[OPENAPI], content_type="application/json")


@operation(media={"text/html": shapes.TEXT}, unchanged=True, asks_redis=False)
async def show_docs(request: web.Request) -> web.Response:
    """GET /docs/: this document as a page to read, and to try calls out on.

    Its files are this service's own: it loads nothing from elsewhere.
    """
    return _DOCS.answer(request, "index.html")


@operation(
    media={f"text/{kind}": shapes.TEXT for kind in ("css", "html", "javascript", "plain")},
    unchanged=True,
    refuses=(Missing,),
    asks_redis=False,
)
async def get_docs_file(request: web.Request) -> web.Response:
    """GET /docs/<file>: a file of that page.

    Its scripts and styles, and the licences of what is not our own.
    """
    (name,) = names(request)
    return _DOCS.answer(request, name)
