"""The OpenAPI document, held against what a service really answers, and what it answers against the document.

Every answer that `ask` gets goes through `hold`: its operation names that status, its body is what the schema
says and has no field that the schema does not name, and a refusal has one of the codes that are named for it.
What was seen of the document on the way is in `seen`.
"""

import json
from functools import cache
from typing import Any
from urllib.parse import unquote_to_bytes

import jsonschema_rs

from rqueue.web import openapi
from rqueue.web.routes import INBOX_ROUTES, LOGIN_ROUTES, ROUTES

JSON = "application/json"
SOME = frozenset(handler.__name__ for _, _, handler, _ in (*LOGIN_ROUTES, *INBOX_ROUTES))


def closed(value: Any) -> Any:
    """A document in which objects have no fields but those that are named."""
    if isinstance(value, list):
        return [closed(below) for below in value]
    if not isinstance(value, dict):
        return value
    made = {name: closed(below) for name, below in value.items()}
    if made.get("type") == "object" and "properties" in made:
        made.setdefault("additionalProperties", False)
    return made


class Contract:
    """A document, and what was seen of it: `(operation, status)`, codes, and the place of each field."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.seen: set[Any] = set()
        self._closed = closed(document)
        self._validators: dict[str, Any] = {}

    def hold(self, method: str, path: str, status: int, content_type: str, body: str) -> None:
        """Assert that an answer is one of those that the document has for its operation."""
        found = self._operation("get" if method == "HEAD" else method.lower(), path.partition("?")[0])
        # Not every service has logins and an inbox.
        gone = status == 404 and found is not None and found["operationId"] in SOME
        if found is None or gone:
            assert status in (400, 404, 405, 414, 417, 431), (method, path, status)
            return
        said = found["responses"].get(str(status))
        assert said is not None, f"{method} {path} is {status}, which {found['operationId']} does not have"
        self.seen.add((found["operationId"], status))
        if method == "HEAD" or "content" not in said:
            assert body == ""
            return
        kind = content_type.partition(";")[0]
        assert kind in said["content"], f"{method} {path} is {content_type}"
        if kind != JSON or found["operationId"] == "openapi":
            return
        content = said["content"][kind]
        value = json.loads(body)
        self._valid(content["schema"], value)
        self._see(content["schema"], value, f"{found['operationId']} {status}")
        if status >= 400:
            assert value["error"]["code"] in content["examples"], value
            self.seen.add(value["error"]["code"])

    def fields(self) -> set[str]:
        """The place of every field that a good answer may have."""
        found: set[str] = set()
        for of_path in self._closed["paths"].values():
            for said in of_path.values():
                for status, answer in said["responses"].items():
                    schema = answer.get("content", {}).get(JSON, {}).get("schema")
                    if schema and int(status) < 400 and said["operationId"] != "openapi":
                        self._fields(schema, f"{said['operationId']} {status}", found)
        return found

    def _operation(self, method: str, path: str) -> Any:
        segments = path.removesuffix("/").split("/")[1:]
        best: tuple[int, Any] = (-1, None)
        for template, of_path in self._closed["paths"].items():
            wanted = template.strip("/").split("/")
            if "{path}" in wanted:
                fits = all(segments) and len(segments) >= len(wanted) and segments[0] == wanted[0]
            else:
                fits = len(segments) == len(wanted) and all(
                    (want.startswith("{") and segment) or unquote_to_bytes(segment) == want.encode()
                    for want, segment in zip(wanted, segments, strict=True)
                )
            literal = sum(not want.startswith("{") for want in wanted)
            if fits and method in of_path and literal > best[0]:
                best = literal, of_path[method]
        return best[1]

    def _valid(self, schema: Any, value: Any) -> None:
        key = json.dumps(schema)
        if key not in self._validators:
            whole = {**schema, "components": self._closed["components"]}
            self._validators[key] = jsonschema_rs.Draft202012Validator(whole, validate_formats=True)
        error = next(self._validators[key].iter_errors(value), None)
        assert error is None, f"{error}"

    def _resolved(self, schema: Any, place: str) -> tuple[Any, str]:
        if "$ref" not in schema:
            return schema, place
        name = schema["$ref"].rpartition("/")[2]
        return self._closed["components"]["schemas"][name], name

    def _see(self, schema: Any, value: Any, place: str) -> None:
        schema, place = self._resolved(schema, place)
        for one in schema.get("oneOf", ()):
            if self._is(self._resolved(one, place)[0], value):
                self._see(one, value, place)
        if isinstance(value, dict):
            for name, below in value.items():
                if name in schema.get("properties", {}):
                    self.seen.add(f"{place}.{name}")
                    self._see(schema["properties"][name], below, f"{place}.{name}")
                elif isinstance(schema.get("additionalProperties"), dict):
                    self._see(schema["additionalProperties"], below, f"{place}.*")
        elif isinstance(value, list) and "items" in schema:
            for below in value:
                self._see(schema["items"], below, place)
        elif value in schema.get("enum", ()):
            self.seen.add(f"{place}={value}")

    def _is(self, schema: Any, value: Any) -> bool:
        if not isinstance(value, dict):
            return isinstance(value, list) == (schema.get("type") == "array")
        required, named = set(schema.get("required", ())), set(schema.get("properties", {}))
        return schema.get("type") == "object" and required <= set(value) <= named

    def _fields(self, schema: Any, place: str, found: set[str]) -> None:
        schema, place = self._resolved(schema, place)
        for one in schema.get("oneOf", ()):
            self._fields(one, place, found)
        for name, below in schema.get("properties", {}).items():
            found.add(f"{place}.{name}")
            self._fields(below, f"{place}.{name}", found)
        for kind in ("items", "additionalProperties"):
            if isinstance(schema.get(kind), dict):
                self._fields(schema[kind], f"{place}.*" if kind == "additionalProperties" else place, found)


@cache
def contract() -> Contract:
    """That of a service with all routes; one for all tests of a process."""
    return Contract(json.loads(openapi.document((*ROUTES, *LOGIN_ROUTES, *INBOX_ROUTES), True)))
