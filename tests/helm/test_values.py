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
from tests.helm.chart import CASES, CHART

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


def every_value() -> dict[str, Any]:
    """The defaults, and over them what every file in ci/ sets: all that can be set is set."""
    merged = copy.deepcopy(DEFAULTS)

    def over(below: dict[str, Any], above: dict[str, Any]) -> None:
        for key, value in above.items():
            if isinstance(value, dict) and isinstance(below.get(key), dict):
                over(below[key], value)
            elif value:
                below[key] = value

    for path in CASES:
        over(merged, yaml.safe_load(path.read_text()))
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
    ],
    ids=str,
)
def test_a_wrong_value_is_refused(given: dict[str, Any]) -> None:
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
