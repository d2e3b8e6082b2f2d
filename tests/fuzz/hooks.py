"""What schemathesis is told of this service beyond the document; it loads this by SCHEMATHESIS_HOOKS."""

import json
import zlib
from typing import Any

import schemathesis
from schemathesis import Case, CheckContext, GenerationMode, Response

from tests.web.wire import Answer, well_formed

THERE = {
    "type": ["vm"],
    "pool": ["p", "q"],
    "file": ["docs.css", "none"],
    **dict.fromkeys(("request_id", "before", "after"), "abcd"),
}


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """JSON Schema takes 5.0 for an integer, and the service, as the document says in words, does not."""
    if isinstance(body, dict):
        body = {name: _there(name, value) for name, value in body.items()}
    return _as_integers(body)


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: Any) -> Any:
    """Most names are of a few, so that what is asked for is there."""
    return {name: _there(name, value) for name, value in (path_parameters or {}).items()}


def _there(name: str, value: Any) -> Any:
    if name not in THERE or not isinstance(value, str) or not 0 < len(value) < 20:
        return value
    return THERE[name][zlib.crc32(value.encode(errors="replace")) % len(THERE[name])]


def _as_integers(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, dict):
        return {name: _as_integers(below) for name, below in value.items()}
    return [_as_integers(below) for below in value] if isinstance(value, list) else value


@schemathesis.check
def the_one_shape(ctx: CheckContext, response: Response, case: Case) -> None:
    """Every answer that is JSON has the one shape of its kind."""
    other = response.status_code < 400 and case.path in (
        "/metrics",
        "/openapi.json",
        "/docs/",
        "/docs/{file}",
    )
    if not other and case.method != "HEAD":
        headers = {name.title(): values[0] for name, values in response.headers.items()}
        well_formed(Answer(response.status_code, headers, response.text))


@schemathesis.check
def its_code_is_one_of_those_that_are_named(ctx: CheckContext, response: Response, case: Case) -> None:
    """An operation refuses by the codes that the document has for it and the status, and no others."""
    said = case.operation.definition.raw["responses"].get(str(response.status_code))
    if said is not None and response.status_code >= 400:
        code = json.loads(response.text)["error"]["code"]
        assert code in said["content"]["application/json"]["examples"], code


@schemathesis.check
def what_the_document_allows_is_taken(ctx: CheckContext, response: Response, case: Case) -> None:
    """A good body is not called invalid, but for what no schema can say: bytes, and what data cannot keep."""
    positive = case.meta is not None and case.meta.generation.mode == GenerationMode.POSITIVE
    if positive and response.status_code == 422:
        error = json.loads(response.text)["error"]
        said_in_words = "bytes" in error["message"] or error.get("field", "").split(".")[-1] in (
            "data",
            "cursor",
        )
        assert error["code"] not in ("invalid", "unknown_field") or said_in_words, error
