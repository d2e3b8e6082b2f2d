"""Reading requests and writing answers: one envelope, one error shape."""

import asyncio
import json
from typing import Any
from urllib.parse import parse_qsl, unquote

import orjson
from aiohttp import web

from rqueue.domain.job import MAX_NAME_BYTES
from rqueue.errors import (
    Conflict,
    Forbidden,
    Full,
    Invalid,
    Malformed,
    Missing,
    NotJson,
    RateLimited,
    RqueueError,
    Unauthenticated,
    Unavailable,
)

# The only place where a kind of error gets its status.
STATUSES: tuple[tuple[type[RqueueError], int], ...] = (
    (Malformed, 400),
    (Unauthenticated, 401),
    (Forbidden, 403),
    (Missing, 404),
    (Conflict, 409),
    (Invalid, 422),
    (Full, 429),
    (Unavailable, 503),
    (RqueueError, 500),
)
# What goes with a status, whatever was wrong.
HEADERS = {
    401: {"WWW-Authenticate": "Bearer"},
    429: {"Retry-After": "1"},
    503: {"Retry-After": "1"},
}
BODY_SECONDS = 20
MAX_PARAMETERS = 20
_DIGITS = bytes(ord("0") if chr(byte).isdecimal() and byte < 128 else byte & 15 for byte in range(256))
_LONG_NUMBER = b"0" * 19


def answer(data: Any, status: int = 200, **beside: Any) -> web.Response:
    """`{"data": …, "ok": true}`, and what is to stand beside."""
    body = orjson.dumps({"data": data, "ok": True, **beside})
    return web.Response(body=body, status=status, content_type="application/json")


def refusal(code: str, message: str, status: int, field: str | None = None) -> web.Response:
    """`{"ok": false, "error": {"code": …, "message": …, "field": …}}`; `field` only where one is to blame."""
    error = {"code": code, "message": message}
    if field is not None:
        error["field"] = field
    body = orjson.dumps({"ok": False, "error": error})
    headers = HEADERS.get(status)
    return web.Response(body=body, status=status, content_type="application/json", headers=headers)


def refused(error: RqueueError) -> web.Response:
    """The answer to an error of ours."""
    status = next(status for kind, status in STATUSES if isinstance(error, kind))
    response = refusal(error.code, error.message, status, error.field)
    if isinstance(error, RateLimited):
        response.headers["Retry-After"] = str(error.retry_after)
    return response


def names(request: web.Request) -> tuple[str, ...]:
    """The values in the path, decoded once, in the order of the route. Raises Malformed or Invalid.

    Read from the raw path: in the router's own, an encoded slash or a stray percent sign is no longer
    to be told from others, and `a%2Fb`, `..` and `%25` are names like any.
    """
    raw = request.rel_url.raw_path
    if "%" not in raw and len(raw) <= MAX_NAME_BYTES:
        return tuple(request.match_info.values())
    resource = request.match_info.route.resource
    pattern = resource.canonical.split("/") if resource is not None else []
    parts = raw.split("/")
    values = []
    for place, part in zip(pattern, parts, strict=False):
        if place.startswith("{"):
            try:
                name = unquote(part, errors="strict")
            except UnicodeDecodeError:
                raise Malformed("the path is not percent-encoded UTF-8") from None
            if len(name.encode()) > MAX_NAME_BYTES:
                raise Invalid(f"longer than {MAX_NAME_BYTES} bytes", place.strip("{}"))
            values.append(name)
    return tuple(values)


async def content(request: web.Request) -> bytes:
    """The request's body. Raises what the middleware answers 408 and 413 for."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout(text=f"the body did not arrive within {BODY_SECONDS} s") from None


def query(request: web.Request) -> list[tuple[str, str]]:
    """The parameters in the query, decoded. Raises Malformed.

    Read from the raw one: in yarl's own, what is no UTF-8 stays encoded, and is another name's text.
    """
    raw = request.rel_url.raw_query_string
    try:
        return parse_qsl(raw, keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS)
    except UnicodeDecodeError:
        raise Malformed("the query is not percent-encoded UTF-8") from None
    except ValueError:
        raise Malformed(f"more than {MAX_PARAMETERS} parameters in the query") from None


async def body(request: web.Request) -> Any:
    """The request's JSON. Raises NotJson, or what the middleware answers 408, 413 and 415 for."""
    if request.headers.get("Content-Type") != "application/json" and request.content_type not in (
        "application/json",
        "application/octet-stream",
    ):
        # aiohttp says octet-stream where no type is given; that is taken for JSON.
        raise web.HTTPUnsupportedMediaType(text=f"expected application/json, got {request.content_type}")
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise web.HTTPUnsupportedMediaType(text="expected a body that is not compressed")
    if request.content.is_eof():
        # All of it is there already, as most bodies are when their request is handled: the short way.
        raw = request.content.read_nowait()
        if len(raw) > request.client_max_size:
            raise web.HTTPRequestEntityTooLarge(request.client_max_size)
    else:
        raw = await content(request)
    try:
        read = orjson.loads(raw)
        if _LONG_NUMBER in raw.translate(_DIGITS):
            # orjson makes a float of what is beyond 64 bits, and the client's number would be another.
            read = json.loads(raw)
    except (ValueError, RecursionError) as error:
        said = f"the body is not JSON: {error}" if raw else "the body is empty; expected JSON"
        raise NotJson(said) from None
    return read
