"""The OpenAPI document: made once from the table of routes, from the schemas, and from what handlers say.

What follows from a route is written here: its path, who may ask, what any body or any question to Redis may
be refused for. What only one handler takes and answers is said where that is, by `@operation`.
"""

import copy
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import orjson
from aiohttp.typedefs import Handler
from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow.fields import Field

from rqueue import __version__, errors
from rqueue.domain.caller import Right
from rqueue.web import auth, schemas, shapes
from rqueue.web.answers import HEADERS, STATUSES
from rqueue.web.middleware import CODES
from rqueue.web.operation import OPERATIONS, Operation
from rqueue.web.shapes import Shape

VERSION = "3.1.0"
JSON = "application/json"
# Kinds that no client sees: the service does not start, and what is the reaper's own.
UNSEEN = (errors.Refused, errors.LostClaim, errors.SourceUnavailable)

# What any request may be answered before it is anybody's.
OF_CONNECTIONS = (408, 414, 431)

Kind = type[errors.RqueueError]

ABOUT = """\
The waiting line for scarce cluster capacity.

Every path works with and without a last slash, without a redirect; what answers GET answers HEAD. Names in a
path are percent-encoded UTF-8: `/`, `{`, `:`, spaces and `..` are ordinary characters in them.

A good answer is `{"data": …, "ok": true}`, any other is an Error: branch on its `code`. Answers may get
further fields. A path that is not here is 404 `not_found`, a method that is not here 405
`method_not_allowed`, and an expectation other than `100-continue` is 417 `bad_request`.

A body is `application/json`, also where it does not say so; it is neither compressed nor larger than
`RQUEUE_MAX_BODY`. Numbers in it are taken as they are written: `5.0`, `"5"` and `true` are no integers.
Fields that are not named here are refused. Where a length is in bytes it is that of the UTF-8, and
`maxLength` is no more than a bound on it.
"""
TAGS = {
    "v1": ("jobs", "Jobs, in order."),
    "queues": ("queues", "Settings and counts of queues; their pools."),
    "board": ("board", "The session of the web board."),
    "inbox": ("inbox", "The service's own receiver of callbacks, for trying out."),
}
SERVICE = ("service", "The service itself.")
SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "openstack": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": auth.COOKIE,
        "description": "The board's cookie, which POST /board/login sets.",
    },
    "csrf": {
        "type": "apiKey",
        "in": "header",
        "name": "X-CSRF-Token",
        "description": "With every change that comes by cookie: `csrf` of GET /board/session.",
    },
}


@cache
def document(routes: Sequence[tuple[str, str, Handler, Right | None]], guarded: bool) -> bytes:
    """The document of a service with these routes, as JSON; `guarded` where one has to say who one is."""
    plugin = MarshmallowPlugin(schema_name_resolver=lambda schema: schema.__name__)
    spec = APISpec("rqueue", __version__, VERSION, [plugin], info={"description": ABOUT})
    converter = plugin.converter
    assert converter is not None  # noqa: S101 - the specification made it
    plugin.map_to_openapi_type(schemas.Priority, "integer", "int64")  # type: ignore[no-untyped-call]
    converter.add_attribute_function(_as_it_is)  # type: ignore[no-untyped-call]
    for name, shape in shapes.NAMED.items():
        spec.components.schema(name, copy.deepcopy(shape))
    spec.components.schemas["Error"]["properties"]["error"]["properties"]["code"] = _code()
    fields = converter.schema2jsonschema(schemas.ChangeBody)["properties"]  # type: ignore[no-untyped-call]
    spec.components.schema("ChangeBody", _one_of(fields, schemas.ChangeBody.WAYS))
    for name, scheme in SCHEMES.items() if guarded else ():
        spec.components.security_scheme(name, scheme)
    for tag, said in dict([*TAGS.values(), SERVICE]).items():
        spec.tag({"name": tag, "description": said})
    for method, path, handler, right in routes:
        plain = re.sub(r"{(\w+):[^}]*}", r"{\1}", path)
        made = _operation(method, path, handler, right if guarded else None, guarded)
        spec.path(plain, operations={method.lower(): made})
    return orjson.dumps(spec.to_dict())


def codes() -> dict[str, tuple[int, str]]:
    """Every code that a client may see → its status, and what it says by itself."""
    seen = {kind.code: (status_of(kind), _message(kind)) for kind in _below(errors.RqueueError)}
    return seen | {code: (status, "") for status, code in CODES.items()}


def _code() -> Shape:
    rows = [f"- `{code}` ({status}) {said}".rstrip() for code, (status, said) in codes().items()]
    return {"type": "string", "enum": list(codes()), "description": "\n".join(rows)}


def _below(kind: Kind) -> list[Kind]:
    found = [] if kind in UNSEEN else [kind]
    return found + [below for child in kind.__subclasses__() for below in _below(child)]


def status_of(kind: Kind) -> int:
    """The status of a kind of error."""
    return next(status for parent, status in STATUSES if issubclass(kind, parent))


def _message(kind: Kind) -> str:
    return (kind.__doc__ or "").split("\n")[0]


def _as_it_is(self: object, field: Field[Any], ret: Shape) -> Shape:
    """What apispec cannot know of a field, as one of its attribute functions."""
    # What a schema fills in is no value that a client could send.
    ret.pop("default", None)
    if isinstance(field, schemas.Map):
        ret.clear()
        ret.update(shapes.ref("Data"))
    return {}


def _one_of(fields: Shape, ways: Sequence[set[str]]) -> Shape:
    def way(names: set[str]) -> Shape:
        ordered = {name: shape for name, shape in fields.items() if name in names}
        return shapes.record(ordered, additionalProperties=False)

    return {"description": "One of the ways to change a job.", "oneOf": [way(names) for names in ways]}


def _operation(
    method: str, path: str, handler: Handler, right: Right | None, guarded: bool
) -> dict[str, Any]:
    said = OPERATIONS[handler]
    first = path.split("/")[1]
    summary = (handler.__doc__ or "").split("\n")[0].partition(": ")[2].rstrip(".")
    made: dict[str, Any] = {
        "operationId": handler.__name__,
        "summary": summary[:1].upper() + summary[1:],
        "tags": [TAGS.get(first, SERVICE)[0]],
        "parameters": _parameters(path, said),
        "responses": {str(said.status): _good(said), **_refusals(method, said, right, "{" in path)},
    }
    if said.body is not None:
        content: Shape = {"schema": copy.deepcopy(said.body)}
        if said.body_examples:
            content["examples"] = said.body_examples
        made["requestBody"] = {"required": True, "content": {JSON: content}}
    if said.callbacks:
        made["callbacks"] = copy.deepcopy(said.callbacks)
    if guarded:
        made["security"] = [] if right is None else _security(method)
    if right is not None:
        made["description"] = f"For who may {right}."
    return made


def _parameters(path: str, said: Operation) -> list[Any]:
    found: list[Any] = []
    for name, pattern in re.findall(r"{(\w+)(:[^}]*)?}", path):
        # One with a pattern of its own is no name.
        schema = {"type": "string", "minLength": 1} if pattern else dict(shapes.NAME)
        found.append({"in": "path", "name": name, "required": True, "schema": schema})
    if said.query is not None:
        found.append({"in": "query", "schema": said.query})
    for name, schema in (said.headers or {}).items():
        found.append({"in": "header", "name": name, "schema": dict(schema)})
    return found


def _security(method: str) -> list[dict[str, list[str]]]:
    by_cookie: dict[str, list[str]] = {"session": []}
    return [{"bearer": []}, {"openstack": []}, by_cookie if method == "GET" else by_cookie | {"csrf": []}]


def _good(said: Operation) -> Shape:
    content: Shape = {}
    if said.data is not None:
        shape = shapes.record({"data": said.data, "ok": {"const": True}}, said.beside)
        content[JSON] = {"schema": copy.deepcopy(shape)}
        if said.answer_examples:
            content[JSON]["examples"] = said.answer_examples
    for media_type, schema in (said.media or {}).items():
        content[media_type] = {"schema": copy.deepcopy(schema)}
    if said.streams:
        content["text/event-stream"] = {"schema": shapes.TEXT}
    good: Shape = {"description": "Done.", "content": content}
    if said.links:
        good["links"] = copy.deepcopy(said.links)
    return good


def _refusals(method: str, said: Operation, right: Right | None, has_names: bool) -> Shape:
    kinds: list[Kind] = [errors.Malformed, errors.RqueueError, *said.refuses]
    named: dict[int, set[str]] = {417: {errors.Malformed.code}}
    for status in OF_CONNECTIONS:
        named[status] = {CODES[status]}
    if has_names:
        kinds.append(errors.Invalid)
    if right is not None:
        kinds += [errors.Unauthenticated, errors.Forbidden, errors.RateLimited, errors.IdentityUnavailable]
    if said.asks_redis:
        kinds += [errors.RedisUnavailable, errors.StoreDamaged]
        if method != "GET":
            kinds.append(errors.NotReplicated)
    if said.query is not None:
        kinds += [errors.Invalid, errors.UnknownField]
    if said.body is not None:
        kinds += [errors.NotJson, errors.Invalid]
    for status in (*said.statuses, *((413, 415) if said.body is not None else ())):
        named[status] = {CODES[status]}
    for kind in kinds:
        named.setdefault(status_of(kind), set()).add(kind.code)
    return {str(status): _refusal(status, sorted(named[status])) for status in sorted(named)}


def _refusal(status: int, codes: list[str]) -> Shape:
    of_code = {"type": "object", "properties": {"code": {"enum": codes}}}
    schema = {"allOf": [shapes.ref("Error"), {"type": "object", "properties": {"error": of_code}}]}
    refusal: Shape = {"description": ", ".join(codes), "content": {JSON: {"schema": schema}}}
    if status in HEADERS:
        refusal["headers"] = {
            name: {"required": True, "schema": {"type": "integer" if name == "Retry-After" else "string"}}
            for name in HEADERS[status]
        }
    return refusal
