"""Every value is documented, has a schema and does something; what is no value is refused."""

import copy
import json
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest
import yaml
from helm_python import Chart
from helm_python.errors import HelmValuesError

from helm import readme
from rqueue.domain.policy import Settings
from rqueue.errors import Refused
from rqueue.guard import Guard
from rqueue.store.connect import connect
from tests.helm.chart import CASES, CHART, render, values

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())
PATHS = [path for path, _, _ in readme.documented()]


def refused(given: dict[str, Any]) -> bool:
    with Chart.load(CHART) as chart:
        try:
            chart.validate_schema(given)
        except HelmValuesError:
            return True
        return False


def maps(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where a map stands in some values."""
    if isinstance(value, dict):
        yield path
    for key, below in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(below, dict | list):
            yield from maps(below, (*path, key))


def test_the_readme_is_what_the_values_say() -> None:
    text = (CHART / "README.md").read_text()
    assert text == readme.page(text), "run `make chart`"
    assert len(PATHS) > 50


def test_the_schema_names_the_settings_that_have_no_value() -> None:
    text = (CHART / "values.schema.json").read_text()
    assert text == readme.schema(text), "run `make chart`"
    assert "RQUEUE_TOKEN_RATE" in SCHEMA["$defs"]["setting"]["enum"]
    assert not {"RQUEUE_PORT", "RQUEUE_REDIS_URL", "RQUEUE_CALLBACK_SECRETS"} & set(readme.settings())


def every_value() -> dict[str, Any]:
    """The defaults, and over them what every file in ci/ sets: all that can be set is set."""
    merged = copy.deepcopy(DEFAULTS)

    def over(below: dict[str, Any], above: dict[str, Any]) -> None:
        for key, value in above.items():
            if isinstance(value, dict) and isinstance(below.get(key), dict):
                over(below[key], value)
            elif value:
                below[key] = value

    for case in CASES:
        over(merged, values(case))
    return merged


FREE = {
    # Maps from names that the chart cannot know.
    *("service.annotations", "ingress.annotations", "httpRoute.annotations", "serviceAccount.annotations"),
    *("nodeSelector", "podAnnotations", "podLabels", "matchLabels"),
    *("serviceMonitor.labels", "prometheusRule.labels", "dashboard.labels"),
}
# What Kubernetes itself judges.
JUDGED = "affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution."


def closed_maps() -> list[tuple[str | int, ...]]:
    """Where a name that is none must be refused."""
    paths = {".".join(map(str, path)): path for path in maps(every_value())}
    return [
        path
        for name, path in paths.items()
        if not any(f".{name}".endswith(f".{free}") for free in FREE) and JUDGED not in name
    ]


@pytest.mark.parametrize("path", closed_maps(), ids=lambda path: ".".join(map(str, path)) or "top")
def test_a_misspelt_value_is_refused(path: tuple[str | int, ...]) -> None:
    given = every_value()
    assert not refused(given)
    place: Any = given
    for key in path:
        place = place[key]
    place["typo"] = "x"
    assert refused(given)


@pytest.mark.parametrize("path", PATHS)
def test_a_value_of_a_wrong_kind_is_refused(path: str) -> None:
    given: dict[str, Any] = {}
    place = given
    *above, last = path.split(".")
    for key in above:
        place = place.setdefault(key, {})
    place[last] = 0.5
    assert refused(given)


def test_the_schema_leaves_no_map_open() -> None:
    def closed(schema: Any, path: str) -> Iterator[str]:
        if isinstance(schema, dict):
            if schema.get("type") == "object" and "additionalProperties" not in schema:
                yield path
            for key, below in schema.items():
                yield from closed(below, f"{path}.{key}")

    # Helm's own for the values of parents.
    assert list(closed(SCHEMA, "")) == [".properties.global"]


def test_the_schema_knows_every_setting_of_a_queue() -> None:
    queue = SCHEMA["properties"]["queues"]["additionalProperties"]["properties"]
    assert set(queue["settings"]["properties"]) == {setting.name for setting in fields(Settings)}


@pytest.mark.parametrize(
    "given",
    [
        {"redis": {"url": "redis://user:secret@host:6379"}},
        {"redis": {"url": "redis://host:6379?password=secret"}},
        {"redis": {"url": "host:6379"}},
        {"redis": {"url": "http://host:6379"}},
        {"auth": {"tokens": [{"name": "a", "sha256": "0", "role": "client"}]}},
        {"auth": {"tokens": [{"name": "a", "sha256": "0" * 64, "role": "root"}]}},
        {"image": {"digest": "sha256:1"}},
        {"runAsUser": 0},
        {"replicaCount": 0},
        {"callbacks": {"deny": ["10.0.0.0/8, 11.0.0.0/8"]}},
        {"service": {"port": 0}},
        {"valkey": {"maxMemory": "1Gi"}},
        {"valkey": {"image": {"tag": ""}}},
        {"config": {"host": "127.0.0.1"}},
        {"config": {"host": "localhost"}},
        {"networkPolicy": {"callbacksTo": [{"ipBlock": {"cidr": "10.0.0.0"}}]}},
        # Of another value, and no setting at all.
        {"extraEnv": [{"name": "RQUEUE_PORT", "value": "80"}]},
        {"extraEnv": [{"name": "RQUEUE_AUTH_KEYSTONE", "value": "https://k/v3"}]},
        {"extraEnv": [{"name": "RQUEUE_TOKENRATE", "value": "10"}]},
        {"auth": {"tokens": [{"name": "a", "sha256": "0" * 64, "role": "client", "owners": [""]}]}},
        {"auth": {"tokens": [{"name": "a", "sha256": "0" * 64, "role": "client", "types": ["x" * 257]}]}},
        {"podLabels": {"app.kubernetes.io/component": "x"}},
    ],
    ids=str,
)
def test_a_wrong_value_is_refused(given: dict[str, Any]) -> None:
    assert refused(given)


GOOD = ["10.0.0.0/8", "10.1.2.3/8", "0.0.0.0/0", "1.2.3.4", "fd00::/8", "::ffff:10.0.0.0/104", "*.svc"]
BROKEN = [
    "10.0.0.0/33",
    "10.0.0/8",
    "10.0.0.300/8",
    "10.0.0.0/",
    "fd00::/129",
    "a.example/24",
    "*/8",
    "01.0.0.0/8",
]


@pytest.mark.parametrize("word", [*GOOD, *BROKEN])
@pytest.mark.parametrize("rule", ["allow", "deny"])
def test_a_rule_of_callbacks_is_taken_as_the_service_takes_it(word: str, rule: str) -> None:
    if word in GOOD:
        Guard([word], [])
    else:
        with pytest.raises(Refused):
            Guard([word], [])
    assert refused({"callbacks": {rule: [word]}}) == (word in BROKEN)


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("redis://host", True),
        ("rediss://host:6380/0", True),
        ("redis://[fd00::1]:6379/1", True),
        ("redis://host?db=1", True),
        ("redis://host/first", False),
        ("redis://host:port/0", False),
        ("redis://host/0#rest", False),
        ("rediss:///0/1", False),
    ],
)
def test_a_redis_url_is_taken_as_the_service_takes_it(url: str, good: bool) -> None:
    if good:
        connect(url)
    else:
        with pytest.raises(Refused):
            connect(url)
    assert refused({"redis": {"url": url}}) == (not good)


@pytest.mark.parametrize("path", sorted({".".join(map(str, path)) for path in maps(DEFAULTS)} | set(PATHS)))
def test_a_value_that_is_taken_away_is_refused_or_does_without(path: str) -> None:
    """null takes a default away. The chart says so, not a template that stumbles."""
    given: dict[str, Any] = {}
    place = given
    *above, last = path.split(".")
    for key in above:
        place = place.setdefault(key, {})
    if last:
        place[last] = None
    if not refused(given):
        assert render(given).objects


@pytest.mark.parametrize(
    "given",
    [
        {"redis": None},
        {"redis": {"passwordSecret": None}},
        {"redis": {"passwordSecret": {"name": "s", "key": None}}},
        {"config": {"workers": None}},
        {"valkey": {"persistence": {"size": None}}},
    ],
    ids=str,
)
def test_what_cannot_be_done_without_is_refused(given: dict[str, Any]) -> None:
    assert refused(given)


@pytest.mark.parametrize("path", PATHS)
def test_every_value_has_a_schema_and_is_used(path: str) -> None:
    schema: Any = SCHEMA
    for key in path.split("."):
        while "$ref" in schema:
            schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
        schema = schema["properties"][key]
    templates = "".join(file.read_text() for file in (CHART / "templates").rglob("*.*"))
    templates += (CHART / "files" / "valkey.conf").read_text()
    *above, last = path.split(".")
    # Within `with` or a helper that is given the map, only the last name is written.
    assert f".{last}" in templates
    assert not above or f".{above[-1]}" in templates
