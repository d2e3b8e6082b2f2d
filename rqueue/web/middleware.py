"""Around every handler: whatever happens, the client gets the one error shape."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import HttpVersion10, HttpVersion11, web
from aiohttp.http import RawRequestMessage
from aiohttp.typedefs import Handler

from rqueue.errors import RqueueError, Unavailable
from rqueue.web.answers import refusal, refused

log = logging.getLogger("rqueue.web")

Answering = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Making = Callable[..., web.BaseRequest]
VERSIONS = (HttpVersion11, HttpVersion10)
CODES = {
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "too_large",
    414: "uri_too_long",
    415: "unsupported_media_type",
    431: "headers_too_large",
}


@web.middleware
async def one_error_shape(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error into `{"ok": false, "error": …}`; no traceback leaves the service."""
    try:
        return await handler(request)
    except RqueueError as error:
        if isinstance(error, Unavailable):
            log.warning("%s: %s", error.code, error.message)
        return refused(error)
    except web.HTTPException as error:
        return _http(request, error)
    except ConnectionError:
        raise  # the client went away while it was answered
    except Exception:
        log.exception("a fault of the service's own")
        return refusal("internal", RqueueError.__doc__ or "", 500)


def answerable(make: Making) -> Making:
    """A maker of requests that can be answered: one in HTTP/0.9, or in 2.0, is taken for one in 1.0.

    aiohttp would answer in the version of the request, whichever it is.
    """

    def make_answerable(message: RawRequestMessage, *given: Any) -> web.BaseRequest:
        if message.version not in VERSIONS:
            message = message._replace(version=HttpVersion10)
        return make(message, *given)

    return make_answerable


def expecting(handler: Answering) -> Answering:
    """Refuse an expectation that cannot be met, whatever it comes with.

    aiohttp looks at Expect before any middleware, and at what is no route answers in a shape of its own.
    """

    def handle(request: web.BaseRequest) -> Awaitable[web.StreamResponse]:
        if request.headers.get("Expect", "100-continue").lower() != "100-continue":
            return _unexpected()
        return handler(request)

    return handle


async def _unexpected() -> web.StreamResponse:
    return refusal("bad_request", "the only expectation that can be met is 100-continue", 417)


def _http(request: web.Request, error: web.HTTPException) -> web.Response:
    message = error.text or error.reason
    if error.status == 404:
        message = f"there is nothing at {request.path}"
    elif error.status == 413:
        message = f"the body is larger than {request.client_max_size} bytes (RQUEUE_MAX_BODY)"
    response = refusal(CODES.get(error.status, "bad_request"), message, error.status)
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        response = refusal("method_not_allowed", f"{error.method} is not among {allowed}", 405)
        response.headers["Allow"] = allowed
    return response
