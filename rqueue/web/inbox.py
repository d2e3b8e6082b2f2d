"""The service's own receiver, for trying out: it takes any callback and shows what arrived.

Only there on the embedded server. What arrived is in the store, so that it shows the same whichever
process is asked; the last ones only, and long bodies are cut.
"""

from contextlib import suppress
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

import orjson
from aiohttp import web

from rqueue.errors import Forbidden
from rqueue.web import examples, shapes
from rqueue.web.answers import answer, content
from rqueue.web.auth import caller_of
from rqueue.web.context import STORE
from rqueue.web.operation import operation

KEPT = 1000
BODY_KEPT = 16 * 1024
VALUE_KEPT = 1024


@operation(
    data=shapes.NOTHING,
    headers={name: shapes.text(said) for name, said in shapes.SIGNED.items()},
    refuses=(Forbidden,),
    statuses=(413,),
    answer_examples={"taken": examples.answered({})},
)
async def take_inbox(request: web.Request) -> web.Response:
    """POST /inbox/<anything>: take a callback; only the headers of the webhook scheme are of interest.

    The service's own only, which come from this machine; whoever else reaches it has no token to show here.
    """
    if not near(request):
        raise Forbidden("the inbox takes what the service itself sends")
    arrived = {
        "at": datetime.now(UTC).isoformat(),
        "path": request.path[:VALUE_KEPT],
        "headers": {
            name.lower(): _text(value[:VALUE_KEPT])
            for name, value in request.headers.items()
            if name.lower() in shapes.SIGNED
        },
        "body": (await content(request)).decode(errors="replace")[:BODY_KEPT],
    }
    await request.app[STORE].put_arrival(orjson.dumps(arrived).decode(), KEPT)
    return answer({})


@operation(
    data=shapes.list_of(
        shapes.record(
            {
                "at": shapes.MOMENT | {"description": "When it arrived."},
                "path": shapes.text("Where it arrived."),
                "headers": shapes.map_of(shapes.TEXT, description="Those of the webhook scheme."),
                "body": shapes.text("Its body, cut where it is long."),
            }
        )
    ),
    answer_examples={"one": examples.answered([examples.ARRIVED])},
)
async def show_inbox(request: web.Request) -> web.Response:
    """GET /inbox/: the last callbacks that the service sent to itself, newest first.

    At most 1,000. It is there on the embedded server only, for trying out.
    """
    caller_of(request).must_have_every_type()
    shown: list[Any] = []
    for arrived in await request.app[STORE].arrivals():
        with suppress(ValueError):  # what a hand edit broke hides no others
            shown.append(orjson.loads(arrived))
    return answer(shown)


def near(request: web.Request) -> bool:
    """Whether a request is of this machine: from loopback, or from the very address that it came to."""
    remote, transport = request.remote or "", request.transport
    with suppress(ValueError):
        address = ip_address(remote)
        if (getattr(address, "ipv4_mapped", None) or address).is_loopback:
            return True
        return transport is not None and transport.get_extra_info("sockname")[0] == remote
    return False


def _text(value: str) -> str:
    # aiohttp hands over what is no UTF-8 as surrogates, which JSON cannot hold.
    return value.encode(errors="replace").decode()
