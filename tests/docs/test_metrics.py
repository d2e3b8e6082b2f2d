"""docs/metrics.md names every metric as the code does, and asks only for those that there are."""

import re

from rqueue.metrics import METRICS
from tests.docs.test_reference import DOCS, rows

SUFFIXES = "_bucket|_count|_sum"


def test_every_metric_is_there() -> None:
    expected = [
        [f"`{m.name}`", m.kind, " ".join(f"`{label}`" for label in m.labels), m.help] for m in METRICS
    ]
    assert rows("metrics.md", "rqueue_[a-z_]+") == expected


def test_no_other_metric_is_spoken_of() -> None:
    known = {metric.name for metric in METRICS}
    pages = "".join(page.read_text() for page in DOCS.rglob("*.md"))
    spoken = {re.sub(f"({SUFFIXES})$", "", name) for name in re.findall(r"rqueue_[a-z_]+", pages)}
    assert spoken <= known
