"""Around every handler: whatever happens, the client gets the one error shape."""

import logging

from aiohttp import web
from aiohttp.typedefs import Handler

from rqueue.errors import RqueueError, Unavailable
from rqueue.web.answers import refusal, refused

log = logging.getLogger("rqueue.web")

CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large", 415: "unsupported_media_type"}


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


async def expectation(request: web.Request) -> web.Response | None:
    """Answer an Expect header, which aiohttp asks about before any middleware."""
    if request.headers["Expect"].lower() != "100-continue":
        return refusal("bad_request", "the only expectation that can be met is 100-continue", 417)
    if request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    return None


async def nothing_here(request: web.Request) -> web.StreamResponse:
    """Any path that is no route's."""
    raise web.HTTPNotFound


async def other_method(request: web.Request) -> web.StreamResponse:
    """A route's path with a method that is not the route's."""
    resource = request.match_info.route.resource
    allowed = {route.method for route in resource or ()} - {"*"}
    raise web.HTTPMethodNotAllowed(request.method, allowed)


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
