"""The OpenAPI document: valid, of this service, and it names what there is and nothing else."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from schemathesis.specs.openapi import definitions

from rqueue import errors, tokens, web
from rqueue.domain.caller import Role
from rqueue.domain.estimate import Estimate
from rqueue.domain.job import Job, Reason, Status
from rqueue.domain.pool import Pool
from rqueue.web import openapi, shapes
from rqueue.web.operation import OPERATIONS
from rqueue.web.routes import INBOX_ROUTES, LOGIN_ROUTES, ROUTES
from rqueue.web.schemas import ChangeBody, JobBody, ListQuery
from tests.conftest import SEED_JOB, config_of, serving
from tests.web.contract import closed
from tests.web.wire import ask, job

ALL = (*ROUTES, *LOGIN_ROUTES, *INBOX_ROUTES)


def read(guarded: bool = True, routes: Any = ALL) -> dict[str, Any]:
    return json.loads(openapi.document(routes, guarded))


def operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method.upper(), path): said
        for path, of_path in document["paths"].items()
        for method, said in of_path.items()
    }


def validator(document: dict[str, Any], name: str) -> jsonschema.Draft202012Validator:
    root = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    return jsonschema.Draft202012Validator(root)


@pytest.mark.parametrize("guarded", [False, True])
def test_it_is_valid_openapi_and_its_schemas_are_valid_too(guarded: bool) -> None:
    document = read(guarded)
    assert document["openapi"] == "3.1.0"
    jsonschema.Draft202012Validator(definitions.OPENAPI_31).validate(document)
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)

    def look(value: Any) -> None:
        if isinstance(value, dict):
            if "$ref" in value:
                found: Any = document
                for part in value["$ref"].removeprefix("#/").split("/"):
                    found = found[part]
            if isinstance(schema := value.get("schema"), dict):
                jsonschema.Draft202012Validator.check_schema(schema)
        for below in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            look(below)

    look(document)


@pytest.mark.parametrize("routes", [ROUTES, (*ROUTES, *LOGIN_ROUTES), (*ROUTES, *INBOX_ROUTES)])
def test_every_route_that_is_served_is_in_it_and_no_other(routes: Any) -> None:
    found = operations(read(routes=routes))
    assert set(found) == {(method, re.sub(":[^}]*", "", path)) for method, path, _, _ in routes}
    assert len({said["operationId"] for said in found.values()}) == len(found)
    for (_, path), said in found.items():
        named = {one["name"] for one in said["parameters"] if one["in"] == "path"}
        assert named == set(re.findall(r"{(\w+)}", path))
        assert len(said["summary"]) > 10
        assert {"400", "417", "500"} < set(said["responses"])


def test_a_handler_says_what_it_is_by_its_docstring_and_what_it_takes_by_its_operation() -> None:
    for method, path, handler, _ in ALL:
        written = path.replace("{path:.+}", "<anything>")
        written = re.sub(r"{(\w+)(:[^}]*)?}", r"<\1>", written)
        assert (handler.__doc__ or "").startswith(f"{method} {written}: ")
        assert handler in OPERATIONS


def test_every_parameter_and_field_of_a_body_is_there() -> None:
    document = read()
    found = operations(document)
    query = {one["name"] for one in found["GET", "/v1/{type}/"]["parameters"] if one["in"] == "query"}
    assert query == set(ListQuery().fields)
    schemas = document["components"]["schemas"]
    assert set(schemas["JobBody"]["properties"]) == set(JobBody().fields)
    ways = [set(way["properties"]) for way in schemas["ChangeBody"]["oneOf"]]
    assert ways == list(ChangeBody.WAYS)


def test_every_code_is_named_and_each_answer_has_a_status_of_its_own() -> None:
    def below(kind: type[errors.RqueueError]) -> set[str]:
        return {kind.code}.union(*(below(child) for child in kind.__subclasses__()))

    document = read()
    code = document["components"]["schemas"]["Error"]["properties"]["error"]["properties"]["code"]
    never_seen = {kind.code for kind in openapi.UNSEEN}
    assert below(errors.RqueueError) - never_seen <= set(code["enum"]) <= set(openapi.codes())
    for named in code["enum"]:
        assert f"`{named}`" in code["description"]
    used = set()
    for said in operations(document).values():
        for status, answer in said["responses"].items():
            if int(status) < 400:
                continue
            codes = answer["content"]["application/json"]["examples"]
            assert codes
            assert all(status == "417" or str(openapi.codes()[code][0]) == status for code in codes)
            used |= set(codes)
    assert used == set(document["components"]["examples"])
    # What no operation answers: other methods, and kinds that only their children are.
    assert set(code["enum"]) - used == {"method_not_allowed", "conflict", "full", "unavailable"}


def test_who_may_ask_is_said_where_one_has_to_say_who_one_is() -> None:
    open_, guarded = read(guarded=False), operations(read())
    assert "securitySchemes" not in open_["components"]
    assert not any("security" in said for said in operations(open_).values())
    for method, path, _, right in ALL:
        said = guarded[method, re.sub(":[^}]*", "", path)]
        assert bool(said["security"]) == (right is not None)
        assert {"bearer": []} in said["security"] or right is None
        assert ({"session": [], "csrf": []} in said["security"]) == (right is not None and method != "GET")
        assert ("403" in said["responses"]) == (right is not None or path.startswith("/inbox/{"))


def test_the_fields_of_what_is_answered_are_there() -> None:
    schemas = read()["components"]["schemas"]
    moment, place = 5, ("n",)
    full = Job(
        *(1, moment, moment, moment, "d", "vm", "y", "{}", "abc", 5, Status.QUEUED, "p", place, 1, "x", "a"),
        *(moment, 0, 0, Reason.BEHIND, None, "words", Estimate(moment, moment, moment, 9, 9.0), moment),
    )
    assert list(full.document()) == list(schemas["Job"]["properties"])
    live = Pool("p", {}, source="openstack", found_by={"aggregate": "a"})
    assert set(live.document()) == set(schemas["Pool"]["properties"])


# Those of HTTP itself, about which OpenAPI says nothing.
OF_HTTP = {"Accept", "Authorization", "Content-Encoding", "Content-Type", "Expect"}


def test_every_header_that_is_read_is_there_and_no_other() -> None:
    document, read_ = read(), set(OF_HTTP)
    for module in Path(web.__file__).parent.glob("*.py"):
        source = module.read_text()
        read_ |= set(re.findall(r'request\.headers(?:\.get\(|\[)"([\w-]+)"', source))
        read_ |= set(re.findall(r'"([\w-]+)" (?:not )?in request\.headers', source))
    said = {
        one["name"]
        for operation in operations(document).values()
        for one in operation["parameters"]
        if one["in"] == "header"
    }
    schemes = document["components"]["securitySchemes"].values()
    said |= {scheme["name"] for scheme in schemes if scheme.get("in") == "header"}
    # The first is read by aiohttp, the others in a loop.
    assert said == read_ - OF_HTTP | {"If-None-Match", *shapes.SIGNED}


def described(value: Any, place: str = "") -> Iterator[str]:
    """Where a field has no description, below a value of the document."""
    if isinstance(value, dict):
        fields = value.get("properties", {})
        for name, shape in fields.items() if isinstance(fields, dict) else ():
            if "description" not in shape and "$ref" not in shape and name not in ("data", "ok"):
                yield f"{place}.{name}"
        for name, below in value.items():
            yield from described(below, f"{place}/{name}")
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from described(below, f"{place}/{index}")


def test_a_reader_is_told_what_everything_is() -> None:
    document = read()
    assert list(described(document)) == []
    for (method, path), said in operations(document).items():
        assert len(said["description"]) > 20, path
        assert "\n    " not in said["description"], path
        assert all(len(one["description"]) > 8 for one in said["parameters"]), path
        if "requestBody" in said:
            assert all(content["examples"] for content in said["requestBody"]["content"].values()), path
        for status, answer in said["responses"].items():
            content = answer.get("content", {}).get("application/json", {})
            assert (
                content.get("examples")
                or "application/json" not in answer.get("content", {})
                or (path == "/openapi.json")
            ), (method, path, status)


def test_names_of_operations_stay_since_they_are_those_of_generated_clients() -> None:
    names = {said["operationId"] for said in operations(read()).values()}
    assert names == {
        *("list_jobs", "create_jobs", "get_job", "change_job", "delete_job"),
        *("list_queues", "get_queue", "put_queue", "simulate", "get_pool", "put_pool", "delete_pool"),
        *("list_events", "list_job_events"),
        *("show_session", "login", "logout", "show_inbox", "take_inbox"),
        *("board", "board_file", "board_vendor"),
        *("healthz", "readyz", "metrics", "openapi", "show_docs", "get_docs_file"),
    }


def test_every_example_is_one() -> None:
    document = read()
    strict = closed(document)
    # What a client sends is its own.
    strict["components"]["schemas"]["Data"] = document["components"]["schemas"]["Data"]
    tried = 0

    def look(value: Any) -> None:
        nonlocal tried
        if isinstance(value, dict):
            if isinstance(schema := value.get("schema"), dict):
                check = jsonschema.Draft202012Validator({**schema, "components": strict["components"]})
                given = list(schema.get("examples", ()))
                for example in (value.get("examples") or {}).values():
                    name = example.get("$ref", "").rpartition("/")[2]
                    given.append((document["components"]["examples"][name] if name else example)["value"])
                for one in given:
                    check.validate(one)
                    tried += 1
            for below in value.values():
                look(below)
        elif isinstance(value, list):
            for below in value:
                look(below)

    look(strict["paths"])
    assert tried > 300


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("JobBody", SEED_JOB, {**SEED_JOB, "more": 1}),
        ("JobBody", job(priority=2**53 - 1), job(priority=2**53)),
        ("JobBody", job(data={"instances": [{"cpu": "500m"}]}), job(data={"instances": [{"cpu": "5 m"}]})),
        ("JobBody", job("a" * 256), job("a" * 257)),
        ("ChangeBody", {"after": "x", "before": "y"}, {"after": "x", "position": "front"}),
        ("ChangeBody", {"priority": 83334}, {"priority": 5.5}),
        ("Settings", {"lease_seconds": None, "paused": True}, {"lease_seconds": 0}),
        ("PoolBody", {"hosts": {"n": {"VCPU": 1}}}, {"hosts": {"n/m": {"VCPU": 1}}}),
        ("PoolBody", {"selector": "a", "tolerations": []}, {"hosts": {}, "tolerations": []}),
        ("PoolBody", {"aggregate": "a", "projects": ["p"]}, {"aggregate": "a", "selector": "b"}),
    ],
)
def test_what_the_service_takes_it_allows_and_what_is_refused_it_does_not(
    name: str, good: Any, bad: Any
) -> None:
    check = validator(read(), name)
    assert check.is_valid(good)
    assert not check.is_valid(bad)


async def test_it_is_served_to_all_and_is_of_the_service_that_is_asked(
    service: Any, tmp_path: Any, redis_url: str, namespace: str
) -> None:
    answer = await ask(service, "GET", "/openapi.json")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.json == read(False, (*ROUTES, *INBOX_ROUTES))
    _, entry = tokens.make("a", Role.ADMIN, (), ())
    tokens.add(tmp_path / "t", entry)
    async with serving(config_of(namespace, tokens_file=tmp_path / "t"), redis_url) as guarded:
        answer = await ask(guarded, "GET", "/openapi.json/")
        assert answer.json == read(True, ALL)
