"""What a handler says of itself for the OpenAPI document, beyond what follows from its route.

Its docstring says the rest: what comes first is the summary, and the paragraphs below are the description, in
words for who calls it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from aiohttp.typedefs import Handler
from marshmallow import Schema

from rqueue.errors import RqueueError
from rqueue.web.shapes import Shape

_H = TypeVar("_H", bound=Handler)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What one handler takes and answers.

    data             the schema of `data` in its good answer; None where that is no envelope
    media            what its good answer may be besides: media type → schema
    status           of that answer
    beside           fields that may stand beside `data`
    body             the schema of its body, a marshmallow one or JSON Schema
    query            the marshmallow schema of its query
    headers          those that it reads: name → schema
    refuses          errors beyond those that follow from the route: names in a path, a body, a token, Redis
    statuses         those of HTTP itself that it may answer, beyond those that follow
    unchanged        whether it answers 304 to who has it already
    asks_redis       whether it does
    body_examples, answer_examples, links and callbacks are as OpenAPI has them.
    """

    data: Shape | None = None
    media: Shape | None = None
    status: int = 200
    beside: Shape | None = None
    body: type[Schema] | Shape | None = None
    query: type[Schema] | None = None
    headers: Shape | None = None
    refuses: tuple[type[RqueueError], ...] = ()
    statuses: tuple[int, ...] = ()
    unchanged: bool = False
    asks_redis: bool = True
    body_examples: Shape | None = None
    answer_examples: Shape | None = None
    links: Shape | None = None
    callbacks: Shape | None = None


OPERATIONS: dict[Handler, Operation] = {}


def operation(**said: Any) -> Callable[[_H], _H]:
    """Say so of a handler; the arguments are Operation's."""

    def remember(handler: _H) -> _H:
        OPERATIONS[handler] = Operation(**said)
        return handler

    return remember
