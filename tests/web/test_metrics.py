"""GET /metrics: what a scrape shows, held to what happened, read by Prometheus's own parsers."""

import asyncio
from collections.abc import Mapping
from itertools import pairwise

import pytest
import uvloop
from aiohttp import web
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from rqueue import metrics
from tests.conftest import config_of, serving
from tests.web.wire import ask, ask_raw, job

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]
POOL = {"hosts": {"h": {"slots": 1}}}
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def series(text: str, parse=prometheus) -> Series:
    """name and labels → value; fails where a series is there twice."""
    samples = [sample for family in parse(text) for sample in family.samples]
    found = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
    assert len(found) == len(samples)
    return found


async def scraped(service) -> Series:
    answer = await ask(service, "GET", "/metrics")
    assert answer.status == 200
    return series(answer.text)


def value(found: Series, name: str, labels: Mapping[str, str] | None = None) -> float:
    return found.get((name, frozenset((labels or {}).items())), 0.0)


async def test_both_formats_are_what_they_say_they_are(service):
    plain = await ask(service, "GET", "/metrics/")
    assert plain.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert {name for name, _ in series(plain.text)} >= {
        "rqueue_redis_errors_total",
        "process_cpu_seconds_total",
    }
    modern = await ask(service, "GET", "/metrics", headers={"Accept": OPENMETRICS})
    assert modern.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert modern.text.endswith("# EOF\n")
    assert "rqueue_redis_errors_total" in {name for name, _ in series(modern.text, openmetrics)}


@pytest.mark.parametrize(
    "accept", ["application/openmetrics-text; version=x.y", "text/plain; version=", "é", "*/*"]
)
async def test_whatever_is_accepted_something_is_answered(service, accept):
    answer = await ask(service, "GET", "/metrics", headers={"Accept": accept})
    assert answer.status == 200
    assert "rqueue_redis_errors_total" in answer.text


async def test_requests_count_by_route_never_by_path(service, namespace):
    before = await scraped(service)
    path = f"/v1/{namespace}%2F{{"
    for name in ("a", "b"):
        assert (await ask(service, "POST", path, job(name))).status == 201
    await ask(service, "POST", path + "/", job("a"))
    await ask(service, "GET", f"{path}/")
    await ask(service, "GET", "/no/such/place")
    await ask(service, "OPTIONS", f"{path}/")
    await ask_raw(service, b"nonsense\r\nConnection: close\r\n\r\n")
    after = await scraped(service)

    def more(method: str, route: str, status: int) -> float:
        labels = {"method": method, "route": route, "status": str(status)}
        return value(after, "rqueue_http_requests_total", labels) - value(
            before, "rqueue_http_requests_total", labels
        )

    assert more("POST", "/v1/{type}/", 201) == 2
    assert more("POST", "/v1/{type}/", 409) == 1
    assert more("GET", "/v1/{type}/", 200) == 1
    assert more("GET", "other", 404) == 1
    assert more("other", "other", 405) == 1
    assert more("other", "other", 400) == 1
    assert more("GET", "/metrics", 200) == 1
    assert not [labels for name, labels in after if namespace in str(labels) and "http" in name]
    route = {"route": "/v1/{type}/"}
    assert (
        value(after, "rqueue_http_request_seconds_count", route)
        - value(before, "rqueue_http_request_seconds_count", route)
        >= 4
    )
    assert value(after, "rqueue_redis_seconds_count") > value(before, "rqueue_redis_seconds_count")


async def test_admissions_waits_and_deliveries_count(service, receiver, namespace, clock):
    answers = iter([503, 200, 410])
    receiver.answer = lambda _: web.Response(status=next(answers), headers={"Retry-After": "0"})
    await ask(service, "PUT", f"/queues/{namespace}/pools/p", POOL)
    for name in ("a", "b"):
        body = job(name, data={"host_aggregate": "p"}) | {"callback": f"{receiver.url}/{name}"}
        assert (await ask(service, "POST", f"/v1/{namespace}/", body)).status == 201
        clock.forward(100 if name == "a" else 0)
    await service.settle()
    await service.settle()
    await ask(service, "DELETE", f"/v1/{namespace}/a")
    await service.settle()
    found = await scraped(service)
    of = {"type": namespace}
    assert value(found, "rqueue_admissions_total", {**of, "pool": "p"}) == 2
    assert value(found, "rqueue_wait_seconds_count", of) == 2
    outcomes = {
        outcome: value(found, "rqueue_deliveries_total", {**of, "outcome": outcome})
        for outcome in ("refused", "accepted", "unwanted", "forbidden")
    }
    assert outcomes == {"refused": 1, "accepted": 1, "unwanted": 1, "forbidden": 0}
    assert value(found, "rqueue_delivery_seconds_count", {"outcome": "unwanted"}) >= 1


async def test_no_client_makes_a_scrape_grow_without_end():
    counted = metrics.Counted("rqueue_try_total", "Tried.", "type", "outcome")
    metrics.METRICS.remove(counted)
    for number in range(metrics.SERIES + 50):
        counted.count(f"t{number}", "accepted")
    cells = {tuple(labels): cell for labels, cell in counted.counts()}
    assert len(cells) == metrics.SERIES + 1
    assert cells["other", "accepted"] == [50]
    assert cells["t0", "accepted"] == [1]


async def test_redis_away_is_counted(namespace):
    async with serving(config_of(namespace), "redis://127.0.0.1:1") as service:
        before = await scraped(service)
        assert (await ask(service, "GET", "/v1/vm/a")).status == 503
        after = await scraped(service)
        assert value(after, "rqueue_redis_errors_total") > value(before, "rqueue_redis_errors_total")
        assert value(after, "rqueue_redis_up") == 0
        assert not [name for name, _ in after if name.startswith("rqueue_queue_")]
        assert ("rqueue_reaper_lag_seconds", frozenset()) in after


async def test_a_scrape_shows_the_line_the_pool_and_the_reaper(service, namespace):
    odd = 'a "quoted"\nname\\'
    await ask(service, "PUT", "/queues/a%20%22quoted%22%0Aname%5C/pools/p", POOL)
    await ask(
        service, "POST", "/v1/a%20%22quoted%22%0Aname%5C/", job(data={"host_aggregate": "p", "slots": 2})
    )
    await service.reaper.tick()
    found = await scraped(service)
    of = {"type": odd, "pool": "p"}
    assert value(found, "rqueue_redis_up") == 1
    assert ("rqueue_queue_jobs", frozenset(of.items())) in found
    assert value(found, "rqueue_capacity", {**of, "resource": "slots"}) == 1
    assert 0 <= value(found, "rqueue_reaper_lag_seconds") < 60
    assert not {label for _, labels in found for label, _ in labels} & {"host", "owner", "owner_id"}


async def test_what_time_ends_is_counted(service, namespace, receiver, clock):
    receiver.answer = lambda request: web.Response(status=200 if request.path == "/runs" else 503)
    settings = {"call_deadline": 60, "lease_seconds": 600}
    await ask(service, "PUT", f"/queues/{namespace}", settings)
    await ask(service, "PUT", f"/queues/{namespace}/pools/default", {"hosts": {"h": {"slots": 2}}})
    for name in ("runs", "fails"):
        await ask(service, "POST", f"/v1/{namespace}/", job(name) | {"callback": f"{receiver.url}/{name}"})
    await service.settle()
    clock.forward(100)
    await service.settle()
    clock.forward(600)
    await service.settle()
    found = await scraped(service)
    for status in ("failed", "expired"):
        assert value(found, "rqueue_lapsed_total", {"type": namespace, "status": status}) == 1


def test_what_takes_less_than_a_tick_of_the_loops_clock_is_measured(redis_url, namespace):
    """On uvloop, as the service runs: its clock counts in milliseconds."""

    async def main() -> list[float]:
        sums = []
        async with serving(config_of(namespace), redis_url) as service:
            for _ in range(4):
                await ask(service, "GET", "/healthz")
                found = await scraped(service)
                sums.append(1000 * value(found, "rqueue_http_request_seconds_sum", {"route": "/healthz"}))
        return [after - before for before, after in pairwise(sums)]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        took = loop.run(main())
    assert all(0 < milliseconds < 60_000 for milliseconds in took)
    assert any(abs(milliseconds - round(milliseconds)) > 1e-4 for milliseconds in took)
