"""The chart, linted and rendered by Helm's own code, without a cluster and without a helm to install."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from helm_python import Chart

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "rqueue"
NAMESPACE = "team"
RELEASE = "rqueue"


def values(case: str) -> dict[str, Any]:
    """The values of a file in ci/, by its name without `-values.yaml`."""
    read = yaml.safe_load((CHART / "ci" / f"{case}-values.yaml").read_text())
    assert isinstance(read, dict)
    return read


CASES = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml"))


@dataclass
class Rendered:
    """What the chart makes of some values: every object, and the notes."""

    objects: list[dict[str, Any]]
    notes: str

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [found for found in self.objects if found["kind"] == kind]

    def one(self, kind: str, name: str = "") -> dict[str, Any]:
        """The object of this kind and name; fails where there is not exactly one."""
        found = [o for o in self.of(kind) if not name or o["metadata"]["name"] == name]
        assert len(found) == 1, (kind, name, [o["metadata"]["name"] for o in found])
        return found[0]


def render(given: dict[str, Any], release: str = RELEASE) -> Rendered:
    """Render as `helm install` does, but that `lookup` finds nothing."""
    with Chart.load(CHART) as chart:
        chart.validate_schema(given)
        texts = chart.render(given, name=release, namespace=NAMESPACE)
    notes = texts.pop("rqueue/templates/NOTES.txt")
    return Rendered([o for text in texts.values() for o in yaml.safe_load_all(text) if o], notes)


def pods(rendered: Rendered) -> list[dict[str, Any]]:
    """The spec of every pod that the objects make."""
    found = [
        o["spec"]["template"]["spec"]
        for kind in ("Deployment", "StatefulSet", "Job")
        for o in rendered.of(kind)
    ]
    return found + [o["spec"] for o in rendered.of("Pod")]
