"""Counts the requests: aiohttp tells its access log of each one that is answered, whatever answered it.

No middleware: one sees neither what aiohttp cannot parse nor the end of an answer that is streamed.
"""

import logging
from collections.abc import Callable
from time import monotonic
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger

from rqueue import metrics
from rqueue.web.routes import INBOX_ROUTES, LOGIN_ROUTES, ROUTES

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE"})
# aiohttp keeps no access log without a logger; nothing goes to it.
UNUSED = logging.getLogger("rqueue.web")

# The loop's own clock, by which aiohttp measures, ticks in milliseconds (uvloop).
BEGAN = web.RequestKey("BEGAN", float)
_PATTERNS = [path.replace(":.+", "") for _, path, *_ in (*ROUTES, *LOGIN_ROUTES, *INBOX_ROUTES)]
# A resource's path with and without a last slash → the route as it is written in the table.
_WRITTEN = {
    path: pattern for pattern in _PATTERNS for path in (pattern.rstrip("/"), pattern.rstrip("/") + "/")
}
# (resource's path, method, status) → the two cells to count in.
_cells: dict[tuple[str, str, int], tuple[metrics.Cell, metrics.Cell]] = {}


def timed(make: Callable[..., web.BaseRequest]) -> Callable[..., web.BaseRequest]:
    """A maker of requests that writes down when it made each."""

    def make_timed(*given: Any) -> web.BaseRequest:
        request = make(*given)
        request[BEGAN] = monotonic()
        return request

    return make_timed


class Counting(AbstractAccessLogger):
    """Made by aiohttp, one for each connection."""

    __slots__ = ()

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Count a request that was answered."""
        path, method = metrics.OTHER, request.method
        try:
            resource = request.match_info.route.resource  # type: ignore[attr-defined]
            if resource is not None:
                path = resource.canonical
        except (AssertionError, AttributeError):
            pass  # what could not be parsed never came to a route
        key = path, method if method in METHODS else metrics.OTHER, response.status
        cells = _cells.get(key)
        if cells is None:
            route = _WRITTEN.get(path, metrics.OTHER)
            requests = metrics.HTTP_REQUESTS.cell(key[1], route, str(key[2]))
            cells = _cells[key] = requests, metrics.HTTP_REQUEST.cell(route)
        cells[0][0] += 1
        metrics.HTTP_REQUEST.observe(cells[1], monotonic() - request[BEGAN])
