"""Handlers of /board/: the files of the web board. They hold nothing secret; the page asks the API as anybody does."""

from aiohttp import web

from rqueue.web import shapes
from rqueue.web.assets import Assets
from rqueue.web.operation import operation

# Marks on the page are drawings inside its CSS.
_PAGE = Assets("board", img_src="'self' data:")
_VENDOR = Assets("board/vendor", img_src="'self' data:")
_SCRIPTS: shapes.Shape = {"text/javascript": shapes.TEXT, "text/css": shapes.TEXT}


@operation(media={"text/html": shapes.TEXT}, asks_redis=False)
async def board(request: web.Request) -> web.Response:
    """GET /board/: the web board, a page for browsers."""
    return _PAGE.answer(request, "index.html")


@operation(media=_SCRIPTS, statuses=(404,), asks_redis=False)
async def board_file(request: web.Request) -> web.Response:
    """GET /board/<file>: a file of that page."""
    return _PAGE.answer(request, request.match_info["file"])


@operation(media={"text/javascript": shapes.TEXT}, statuses=(404,), asks_redis=False)
async def board_vendor(request: web.Request) -> web.Response:
    """GET /board/vendor/<file>: a file of that page that others wrote."""
    return _VENDOR.answer(request, request.match_info["file"])
