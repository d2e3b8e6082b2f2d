"""Handlers of /board/: the files of the web board, which hold nothing secret."""

from aiohttp import web

from rqueue.errors import Missing
from rqueue.web import shapes
from rqueue.web.assets import Assets
from rqueue.web.operation import operation

# Marks on the page are drawings inside its CSS.
_PAGE = Assets("board", img_src="'self' data:")
_VENDOR = Assets("board/vendor", img_src="'self' data:")
_FILES: shapes.Shape = dict.fromkeys(
    ("text/html", "text/javascript", "text/css", "image/svg+xml"), shapes.TEXT
)


@operation(media={"text/html": shapes.TEXT}, unchanged=True, asks_redis=False)
async def board(request: web.Request) -> web.Response:
    """GET /board/: the web board, a page for browsers.

    It holds nothing secret: what it shows it asks this service for, as any client.
    """
    return _PAGE.answer(request, "index.html")


@operation(media=_FILES, unchanged=True, refuses=(Missing,), asks_redis=False)
async def board_file(request: web.Request) -> web.Response:
    """GET /board/<file>: a file of that page.

    Its scripts, styles and icon.
    """
    return _PAGE.answer(request, request.match_info["file"])


@operation(media={"text/javascript": shapes.TEXT}, unchanged=True, refuses=(Missing,), asks_redis=False)
async def board_vendor(request: web.Request) -> web.Response:
    """GET /board/vendor/<file>: a file of that page that others wrote.

    As they published it.
    """
    return _VENDOR.answer(request, request.match_info["file"])
