"""The alerts fire in the outages that they are for, stay silent otherwise, and lead to their runbooks.

By Prometheus' own promtool where Debian's package prometheus is installed; that expressions parse is tried
without it, too, and those of the dashboard with them.
"""

import copy
import functools
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from tests.helm.chart import NAMESPACE, RELEASE, ROOT, render, values

PROMTOOL = shutil.which("promtool")
RULE = render(values("monitoring")).one("PrometheusRule")["spec"]
ALERTS = {rule["alert"]: rule for group in RULE["groups"] for rule in group["rules"]}
DASHBOARD = json.loads((ROOT / "helm" / "rqueue" / "files" / "dashboard.json").read_text())
RUNBOOKS = (ROOT / "docs" / "runbooks.md").read_text()

HERE = {"job": RELEASE, "namespace": NAMESPACE}


@dataclass(frozen=True)
class Outage:
    """What Prometheus sees, minute by minute, and which alert is there when; with what labels."""

    alert: str
    series: dict[str, str]
    silent: str
    fires: str
    labels: dict[str, str]


def named(metric: str, **labels: str) -> str:
    """A series of this release."""
    pairs = ",".join(f'{name}="{value}"' for name, value in {**labels, **HERE}.items())
    return f"{metric}{{{pairs}}}"


UP = named("up", pod="a")
PAUSED = named("rqueue_queue_paused", type="vm", pod="a")
OLDEST = named("rqueue_queue_oldest_age_seconds", type="vm", pool="p", pod="a")
ADMISSIONS = named("rqueue_admissions_total", type="vm", pool="p", pod="a")
FREE = named("rqueue_free", type="vm", pool="p", resource="VCPU", pod="a")
CAPACITY = named("rqueue_capacity", type="vm", pool="p", resource="VCPU", pod="a")
WAITING = named("rqueue_queue_jobs", type="vm", pool="p", pod="a")
LAPSED = named("rqueue_lapsed_total", type="vm", status="expired", pod="a")
LEFT_OUT = named("rqueue_metrics_left_out", pod="a")
BUCKETS = ("0.1", "0.25", "0.5", "1", "+Inf")


def redis_seconds(*bounds: str) -> dict[str, str]:
    """Round trips of which, after ten minutes, each one is as long as the first of these bounds."""
    return {
        named(
            "rqueue_redis_seconds_bucket", le=le, pod="a"
        ): f"0+60x10 600{'+60' if le in bounds else '+0'}x60"
        for le in BUCKETS
    }


OUTAGES = [
    # Scraped for ten minutes, then away.
    Outage("RqueueDown", {UP: "1x10 0x60"}, "12m", "14m", HERE),
    Outage("RqueueDown", {}, "1m", "3m", HERE),
    Outage(
        "RqueueReplicaDown",
        {UP: "1x10 0x60", named("up", pod="b"): "1x70"},
        "19m",
        "22m",
        {**HERE, "pod": "a"},
    ),
    Outage("RqueueRedisDown", {named("rqueue_redis_up", pod="a"): "1x10 0x60"}, "11m", "13m", HERE),
    Outage(
        "RqueueRedisErrors", {named("rqueue_redis_errors_total", pod="a"): "0x10 0+60x60"}, "15m", "30m", HERE
    ),
    Outage("RqueueRedisSlow", redis_seconds("1", "+Inf"), "15m", "30m", HERE),
    Outage(
        "RqueueReaperLate",
        {named("rqueue_reaper_lag_seconds", pod="a"): "1x10 60+60x60"},
        "11m",
        "14m",
        {**HERE, "pod": "a"},
    ),
    Outage(
        "RqueueDueLate",
        {named("rqueue_due_late_seconds", type="vm", pod="a"): "0x10 90+60x60"},
        "14m",
        "17m",
        {**HERE, "type": "vm"},
    ),
    Outage(
        "RqueueDeliveriesFail",
        {
            named("rqueue_deliveries_total", type="vm", outcome="accepted", pod="a"): "0+60x20 1200x60",
            named("rqueue_deliveries_total", type="vm", outcome="refused", pod="a"): "0x20 0+60x60",
        },
        "35m",
        "50m",
        {**HERE, "type": "vm"},
    ),
    # Nobody is admitted any more, though a processor is free.
    Outage(
        "RqueueQueueStalled",
        {OLDEST: "0+60x240", ADMISSIONS: "0+1x30 30x210", FREE: "1x240", CAPACITY: "2x240", PAUSED: "0x240"},
        "90m",
        "110m",
        {**HERE, "type": "vm", "pool": "p"},
    ),
    # Nobody ever was.
    Outage(
        "RqueueQueueStalled",
        {OLDEST: "0+60x240", FREE: "1x240", CAPACITY: "2x240"},
        "60m",
        "80m",
        {**HERE, "type": "vm", "pool": "p"},
    ),
    # The first ever, which the counter begins with; a further one; the first that a new replica counts.
    Outage(
        "RqueueJobsLapse", {LAPSED: "_x10 1x60"}, "9m", "11m", {**HERE, "type": "vm", "status": "expired"}
    ),
    Outage(
        "RqueueJobsLapse", {LAPSED: "1x90 2x60"}, "90m", "92m", {**HERE, "type": "vm", "status": "expired"}
    ),
    Outage(
        "RqueueJobsLapse",
        {LAPSED: "1x100", named("rqueue_lapsed_total", type="vm", status="expired", pod="b"): "_x50 1x60"},
        "49m",
        "52m",
        {**HERE, "type": "vm", "status": "expired"},
    ),
    Outage(
        "RqueuePoolUndeclared",
        {
            WAITING: "0x10 1x60",
            named("rqueue_capacity", type="vm", pool="q", resource="VCPU", pod="a"): "2x70",
        },
        "24m",
        "27m",
        {**HERE, "type": "vm", "pool": "p"},
    ),
    Outage("RqueueMetricsLeftOut", {LEFT_OUT: "0x10 3x60"}, "24m", "27m", HERE),
    Outage(
        "RqueueSourceStale",
        {named("rqueue_source_age_seconds", type="vm", pool="p", pod="a"): "5x10 0+60x60"},
        "19m",
        "23m",
        {**HERE, "type": "vm", "pool": "p"},
    ),
    Outage(
        "RqueueQueuePaused",
        {PAUSED: "0x10 1x600", WAITING: "5x600"},
        "6h",
        "375m",
        {**HERE, "type": "vm"},
    ),
    Outage(
        "RqueueQueueDamaged",
        {named("rqueue_queue_damaged", type="vm", pod="a"): "0x10 1x60"},
        "14m",
        "17m",
        {**HERE, "type": "vm"},
    ),
    Outage(
        "RqueueHttpErrors",
        {
            named("rqueue_http_requests_total", route="/v1/{type}/", status="201", pod="a"): "0+60x80",
            named("rqueue_http_requests_total", route="/v1/{type}/", status="503", pod="a"): "0x10 0+6x60",
            # Probes and scrapes go on, and are no requests of anybody's.
            named("rqueue_http_requests_total", route="/healthz", status="200", pod="a"): "0+6000x80",
        },
        "15m",
        "30m",
        HERE,
    ),
]
# What looks like an outage, and is none.
CALM = [
    # A full pool whose jobs run for days.
    Outage("RqueueQueueStalled", {OLDEST: "0+60x240", CAPACITY: "2x240", FREE: "0x240"}, "110m", "", {}),
    Outage(
        "RqueueQueueStalled",
        {OLDEST: "0+60x240", CAPACITY: "2x240", FREE: "1x240", PAUSED: "1x240"},
        "110m",
        "",
        {},
    ),
    # Someone was admitted half an hour ago, as the first ever.
    Outage(
        "RqueueQueueStalled",
        {OLDEST: "0+60x240", CAPACITY: "2x240", FREE: "1x240", ADMISSIONS: "_x80 1x160"},
        "110m",
        "",
        {},
    ),
    # It lapsed long ago; and Prometheus was away for half an hour.
    Outage("RqueueJobsLapse", {LAPSED: "_x10 1x90"}, "30m", "", {}),
    Outage("RqueueJobsLapse", {LAPSED: "1x60 _x30 1x60"}, "95m", "", {}),
    Outage("RqueuePoolUndeclared", {WAITING: "1x60", CAPACITY: "2x60"}, "50m", "", {}),
    # Jobs in pools left out of the scrape, of which RqueueMetricsLeftOut tells.
    Outage(
        "RqueuePoolUndeclared",
        {named("rqueue_queue_jobs", type="vm", pool="other", pod="a"): "1x60"},
        "50m",
        "",
        {},
    ),
    # Another release in the same Prometheus.
    Outage("RqueueRedisDown", {'rqueue_redis_up{job="other",namespace="team"}': "0x60"}, "30m", "", {}),
    # Paused, and nobody waits.
    Outage(
        "RqueueQueuePaused",
        {PAUSED: "1x600", WAITING: "0x600"},
        "8h",
        "",
        {},
    ),
    # One replica of two is away from Redis.
    Outage(
        "RqueueRedisDown",
        {named("rqueue_redis_up", pod="a"): "0x60", named("rqueue_redis_up", pod="b"): "1x60"},
        "30m",
        "",
        {},
    ),
    Outage("RqueueRedisSlow", redis_seconds("0.25", "0.5", "1", "+Inf"), "30m", "", {}),
]


def expected(outage: Outage) -> dict[str, Any]:
    """The alert as Prometheus would send it."""
    rule = ALERTS[outage.alert]
    labels = {**rule["labels"], **outage.labels}
    # promtool adds the alert's name by itself.
    told = {
        name: re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: labels[found[1]], text)
        for name, text in rule["annotations"].items()
    }
    return {"exp_labels": labels, "exp_annotations": told}


def case(outage: Outage) -> dict[str, Any]:
    rows = [{"eval_time": outage.silent, "alertname": outage.alert, "exp_alerts": []}]
    if outage.fires:
        rows.append({"eval_time": outage.fires, "alertname": outage.alert, "exp_alerts": [expected(outage)]})
    series = [{"series": name, "values": seen} for name, seen in outage.series.items()]
    return {"interval": "1m", "input_series": series, "alert_rule_test": rows}


@pytest.mark.skipif(PROMTOOL is None, reason="NOT TRIED: no promtool; it is in Debian's package prometheus")
@pytest.mark.parametrize("outage", [*OUTAGES, *CALM], ids=lambda o: f"{o.alert}-{o.fires or 'calm'}")
def test_an_alert_fires_in_its_outage_and_not_before(outage: Outage, tmp_path: Path) -> None:
    assert PROMTOOL is not None
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(RULE))
    spec = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": [case(outage)]}
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(spec))
    run = subprocess.run(
        [PROMTOOL, "test", "rules", "tests.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.skipif(PROMTOOL is None, reason="NOT TRIED: no promtool; it is in Debian's package prometheus")
def test_a_wrong_expectation_fails(tmp_path: Path) -> None:
    """promtool looks indeed."""
    calm = CALM[0]
    with pytest.raises(AssertionError):
        test_an_alert_fires_in_its_outage_and_not_before(
            Outage(calm.alert, calm.series, "1m", "110m", {**HERE, "type": "vm", "pool": "p"}), tmp_path
        )


def test_every_alert_has_its_outage() -> None:
    assert {outage.alert for outage in OUTAGES} == set(ALERTS)


def expressions() -> dict[str, str]:
    """Every expression, by where it stands; Grafana's variables with values."""
    found = {name: rule["expr"] for name, rule in ALERTS.items()}
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            said = target["expr"].replace("$__rate_interval", "5m")
            said = said.replace("$namespace", NAMESPACE).replace("$job", RELEASE)
            assert "$" not in said
            found[f"{panel['title']} {target['refId']}"] = said
    return found


@pytest.mark.parametrize("name", expressions())
def test_expressions_parse(name: str) -> None:
    said = expressions()[name]
    promql_parser.parse(said)
    with pytest.raises(ValueError, match="unexpected right parenthesis"):
        promql_parser.parse(said + ")")


@pytest.mark.parametrize("name", expressions())
def test_expressions_ask_for_this_release_only(name: str) -> None:
    said = expressions()[name]
    for selector in re.findall(r"\b(?:up|rqueue_\w+)\b(\{[^}]*\})?", said):
        assert f'job="{RELEASE}"' in selector, said
        assert f'namespace="{NAMESPACE}"' in selector, said


@functools.cache
def metrics() -> frozenset[str]:
    """The names of the service's metrics, as its documentation has them; buckets and all."""
    page = (ROOT / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(rqueue_\w+)` \| (\w+) ", page, re.MULTILINE)
    assert rows
    named = {name for name, _ in rows}
    return frozenset(named | {f"{name}_bucket" for name, kind in rows if kind == "histogram"})


@pytest.mark.parametrize("name", expressions())
def test_expressions_name_metrics_that_there_are(name: str) -> None:
    used = set(re.findall(r"\brqueue_\w+", expressions()[name]))
    assert used <= metrics()


def test_every_alert_has_its_runbook_and_no_other_has() -> None:
    sections = re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", RUNBOOKS, re.MULTILINE | re.DOTALL)
    assert [name for name, _ in sections] == list(ALERTS)
    for name, text in sections:
        assert [f"**{part}.**" in text for part in ("Meaning", "Look", "Do")] == [True] * 3, name


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_is_wrong_and_links_to_its_runbook(name: str) -> None:
    rule = ALERTS[name]
    given = values("monitoring")["metrics"]["prometheusRule"]["runbooks"]
    assert rule["annotations"]["runbook_url"] == f"{given}#{name.lower()}"
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert rule["annotations"]["summary"].endswith(".")


def test_that_nothing_is_scraped_is_an_outage_only_where_the_chart_has_it_scraped() -> None:
    given = copy.deepcopy(values("monitoring"))
    given["metrics"]["serviceMonitor"]["enabled"] = False
    alone = render(given).one("PrometheusRule")["spec"]["groups"][0]["rules"]
    assert [rule["alert"] for rule in alone] == list(ALERTS)
    down = next(rule["expr"] for rule in alone if rule["alert"] == "RqueueDown")
    assert down == f'sum by (namespace, job) (up{{job="{RELEASE}",namespace="{NAMESPACE}"}}) == 0'
    assert ALERTS["RqueueDown"]["expr"].startswith(f"{down} or absent(")


def test_links_within_the_runbooks_lead_to_sections() -> None:
    for target in re.findall(r"\]\(#(\w+)\)", RUNBOOKS):
        assert target in {name.lower() for name in ALERTS}
