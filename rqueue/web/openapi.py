"""The OpenAPI document: made once from the table of routes, from the schemas, and from what handlers say.

What follows from a route is written here: its path, who may ask, what any body or any question to Redis may
be refused for. What only one handler takes and answers is said where that is, by `@operation`.
"""

import copy
import inspect
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
from rqueue.web import auth, examples, schemas, shapes
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
# What goes with some refusals.
SENT: Shape = {
    "Retry-After": {"type": "integer", "description": "Try again after so many seconds."},
    "WWW-Authenticate": {"type": "string", "description": "`Bearer`."},
}

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
# What the names in paths are.
NAMES: Shape = {
    "type": shapes.named("The queue's type.", "vm"),
    "request_id": shapes.named("The job's name within its type.", "d"),
    "pool": shapes.named("The pool's name within its type.", "p1"),
    "file": {"description": "The file's name.", "examples": ["index.html"]},
    "path": {"description": "Anything.", "examples": ["called/d"]},
}
SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A token: `Authorization: Bearer …`."},
    "openstack": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Auth-Token",
        "description": "A token, as OpenStack's clients have it.",
    },
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
    spec = APISpec(
        *("rqueue", __version__, VERSION, [plugin]),
        info={"description": ABOUT, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        servers=[{"url": "/", "description": "The service that answered this."}],
        # Each operation says for itself what it takes.
        security=[],
    )
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
    for tag, about in dict([*TAGS.values(), SERVICE]).items():
        spec.tag({"name": tag, "description": about})
    refused: set[str] = set()
    for method, path, handler, right in routes:
        plain = re.sub(r"{(\w+):[^}]*}", r"{\1}", path)
        made = _operation(method, path, handler, right if guarded else None, guarded)
        spec.path(plain, operations={method.lower(): made})
        for status, said in made["responses"].items():
            if int(status) >= 400:
                refused.update(said["content"][JSON]["examples"])
    for code in sorted(refused):
        spec.components.example(code, examples.refused(code, codes()[code][1]))
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
        title = f"Change{'And'.join(name.capitalize() for name in ordered)}"
        return shapes.record(ordered, title=title, additionalProperties=False)

    return {"description": "One of the ways to change a job.", "oneOf": [way(names) for names in ways]}


def _operation(
    method: str, path: str, handler: Handler, right: Right | None, guarded: bool
) -> dict[str, Any]:
    said = OPERATIONS[handler]
    first = path.split("/")[1]
    line, _, body = inspect.cleandoc(handler.__doc__ or "").partition("\n")
    summary = line.partition(": ")[2].rstrip(".")
    who = [] if right is None else [f"For who may {right}."]
    made: dict[str, Any] = {
        "operationId": handler.__name__,
        "summary": summary[:1].upper() + summary[1:],
        "description": "\n\n".join([*body.strip().split("\n\n"), *who]),
        "tags": [TAGS.get(first, SERVICE)[0]],
        "parameters": _parameters(path, said),
        "responses": {**_good(said), **_refusals(method, said, right, bool(re.search(r"{\w+}", path)))},
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
    return made


def _parameters(path: str, said: Operation) -> list[Any]:
    found: list[Any] = []
    for name, pattern in re.findall(r"{(\w+):?([^}]*)}", path):
        schema = shapes.TEXT | {"pattern": f"^{pattern}$"} if pattern else shapes.NAME
        found.append({"in": "path", "name": name, "required": True, **_described(schema | NAMES[name])})
    if said.query is not None:
        found.append({"in": "query", "schema": said.query})
    for name, schema in (said.headers or {}).items():
        found.append({"in": "header", "name": name, **_described(schema)})
    if said.unchanged:
        known = shapes.text("The ETag of the one that the client has.") | {"examples": ['"5d41402abc4b2a76"']}
        found.append({"in": "header", "name": "If-None-Match", **_described(known)})
    return found


def _described(schema: Shape) -> Shape:
    """The schema of a parameter, with what it says of itself beside it."""
    rest = {name: value for name, value in schema.items() if name != "description"}
    return {"description": schema["description"], "schema": rest}


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
    good: Shape = {"description": "Created." if said.status == 201 else "Done.", "content": content}
    if said.links:
        good["links"] = copy.deepcopy(said.links)
    if not said.unchanged:
        return {str(said.status): good}
    etag = {
        "ETag": {"description": "Changes with what is answered.", "required": True, "schema": shapes.TEXT}
    }
    unchanged = {"description": "It is the one that the client has.", "headers": etag}
    return {str(said.status): good | {"headers": etag}, "304": unchanged}


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
    shown = {code: {"$ref": f"#/components/examples/{code}"} for code in codes}
    content = {JSON: {"schema": shapes.ref("Error"), "examples": shown}}
    refusal: Shape = {"description": ", ".join(f"`{code}`" for code in codes), "content": content}
    if status in HEADERS:
        refusal["headers"] = {name: {"required": True, **_described(SENT[name])} for name in HEADERS[status]}
    return refusal
