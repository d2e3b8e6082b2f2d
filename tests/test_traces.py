"""Traces: from the client's POST to its callback, whichever replica calls, and nothing where nobody asked."""

import asyncio
import sys

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from rqueue.config import traced
from rqueue.traces import Traces, exported
from tests.conftest import config_of, receiving, serving
from tests.process import running
from tests.web.wire import ask, job

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
POOL = {"hosts": {"h": {"slots": 10}}}
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


class Kept(Traces):
    """Traces whose spans stay here, to be looked at."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        super().__init__(SimpleSpanProcessor(self.exporter))

    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())


def identity(span: ReadableSpan) -> tuple[str, str, str]:
    """The trace, the parent and the span, as in a traceparent."""
    context, parent = span.context, span.parent
    assert context is not None
    assert parent is not None
    return f"{context.trace_id:032x}", f"{parent.span_id:016x}", f"{context.span_id:016x}"


async def test_a_job_is_followed_to_its_callback_that_another_replica_makes(
    redis_url, real_redis, namespace, receiver, clock
):
    answers = iter([503, 200])
    receiver.answer = lambda _: web.Response(status=next(answers), headers={"Retry-After": "0"})
    config, here, there = config_of(namespace), Kept(), Kept()
    async with serving(config, redis_url, clock, here) as service:
        await ask(service, "PUT", "/queues/vm", {"paused": True})
        await ask(service, "PUT", "/queues/vm/pools/default", POOL)
        body = job() | {"callback": f"{receiver.url}/a"}
        assert (await ask(service, "POST", "/v1/vm/", body, headers=TRACEPARENT)).status == 201
    created_at = clock.now
    clock.forward(60)
    (create,) = here.spans()
    assert (create.name, identity(create)[:2]) == ("POST /v1/{type}/", (TRACE, SPAN))
    created = identity(create)[2]
    kept = await real_redis.hget(f"{namespace}:{{vm}}:job:a", "Traceparent")
    assert kept == f"00-{TRACE}-{created}-01"
    async with serving(config, redis_url, clock, there) as service:
        await ask(service, "PUT", "/queues/vm", {"paused": False})
        await service.settle()
        await receiver.until(1)
        await service.settle()
        await receiver.until(2)
        await service.settle()
        assert "Traceparent" not in (await ask(service, "GET", "/v1/vm/a")).text
    wait, *calls = sorted(there.spans(), key=lambda span: span.name != "wait")
    assert (wait.start_time, wait.end_time) == (created_at * 1000, clock.now * 1000)
    assert [span.name for span in calls] == ["call", "call"]
    assert [span.attributes["rqueue.outcome"] for span in calls] == ["refused", "accepted"]
    assert {identity(span)[:2] for span in (wait, *calls)} == {(TRACE, created)}
    sent = [headers["traceparent"] for _, headers, _ in receiver.calls]
    assert sent == [f"00-{TRACE}-{identity(span)[2]}-01" for span in calls]


async def test_quick_tries_carry_it_too(redis_url, real_redis, namespace, receiver, clock):
    answers = iter([500, 500, 200])
    receiver.answer = lambda _: web.Response(status=next(answers))
    traces = Kept()
    async with serving(config_of(namespace), redis_url, clock, traces) as service:
        await ask(service, "PUT", "/queues/vm/pools/default", POOL)
        body = job() | {"callback": f"{receiver.url}/a"}
        await ask(service, "POST", "/v1/vm/", body, headers=TRACEPARENT)
        await receiver.until(3)
        await service.settle()
    (call,) = [span for span in traces.spans() if span.name == "call"]
    assert {headers["traceparent"] for _, headers, _ in receiver.calls} == {
        f"00-{TRACE}-{identity(call)[2]}-01"
    }


async def test_what_a_client_does_not_want_recorded_goes_on_unrecorded(
    redis_url, real_redis, namespace, receiver, clock
):
    traces = Kept()
    async with serving(config_of(namespace), redis_url, clock, traces) as service:
        await ask(service, "PUT", "/queues/vm/pools/default", POOL)
        headers = {"traceparent": f"00-{TRACE}-{SPAN}-00", "tracestate": "a=b"}
        body = [job("a") | {"callback": f"{receiver.url}/a"}, job("b") | {"callback": f"{receiver.url}/b"}]
        assert (await ask(service, "POST", "/v1/vm/", body, headers=headers)).status == 201
        await receiver.until(2)
        await service.settle()
    assert traces.spans() == []
    for _, headers, _ in receiver.calls:
        assert headers["traceparent"].startswith(f"00-{TRACE}-")
        assert headers["traceparent"].endswith("-00")
        assert "tracestate" not in headers


@pytest.mark.parametrize(
    "written",
    [
        "",
        "nonsense",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}",
        "0" * 7000,
        "a\tb",
    ],
)
async def test_what_is_no_traceparent_is_passed_over(
    redis_url, real_redis, namespace, clock, written, caplog
):
    traces = Kept()
    async with serving(config_of(namespace), redis_url, clock, traces) as service:
        answer = await ask(service, "POST", "/v1/vm/", job(), headers={"traceparent": written})
        assert answer.status == 201
    assert traces.spans() == []
    assert await real_redis.hget(f"{namespace}:{{vm}}:job:a", "Traceparent") is None
    assert caplog.text == ""


async def test_a_refusal_is_a_span_with_its_code(redis_url, real_redis, namespace, clock):
    traces = Kept()
    async with serving(config_of(namespace), redis_url, clock, traces) as service:
        for _ in range(2):
            answer = await ask(service, "POST", "/v1/vm/", job(), headers=TRACEPARENT)
    assert answer.status == 409
    assert [span.attributes.get("error.type") for span in traces.spans()] == [None, "duplicate_request_id"]


async def test_without_a_traceparent_nothing_is_traced(redis_url, real_redis, namespace, receiver, clock):
    traces = Kept()
    async with serving(config_of(namespace), redis_url, clock, traces) as service:
        await ask(service, "PUT", "/queues/vm/pools/default", POOL)
        await ask(service, "POST", "/v1/vm/", job() | {"callback": f"{receiver.url}/a"})
        await receiver.until(1)
        await service.settle()
    assert traces.spans() == []
    assert "traceparent" not in receiver.calls[0][1]


async def test_off_it_leaves_no_trace(service, real_redis, namespace, receiver):
    await ask(service, "PUT", "/queues/vm/pools/default", POOL)
    await ask(service, "POST", "/v1/vm/", job() | {"callback": f"{receiver.url}/a"}, headers=TRACEPARENT)
    await receiver.until(1)
    await service.settle()
    assert "traceparent" not in receiver.calls[0][1]
    assert await real_redis.hget(f"{namespace}:{{vm}}:job:a", "Traceparent") is None


async def test_a_field_that_a_hand_damaged_is_passed_over(redis_url, real_redis, namespace, receiver, clock):
    traces = Kept()
    async with serving(config_of(namespace), redis_url, clock, traces) as service:
        await ask(service, "POST", "/v1/vm/", job() | {"callback": f"{receiver.url}/a"}, headers=TRACEPARENT)
        await real_redis.hset(f"{namespace}:{{vm}}:job:a", "Traceparent", "x\r\ninjected: y")
        await ask(service, "PUT", "/queues/vm/pools/default", POOL)
        await receiver.until(1)
        await service.settle()
    assert "traceparent" not in receiver.calls[0][1]
    assert [span.name for span in traces.spans()] == ["POST /v1/{type}/"]


# --- as users start it -------------------------------------------------------------------------------


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for kind in ("", "TRACES_"):
        monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_{kind}ENDPOINT", raising=False)
    return monkeypatch


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_spans_arrive_at_a_receiver_of_otlp(tmp_path, clean, workers):
    async with receiving() as collector, receiving() as client:
        clean.setenv(ENDPOINT, collector.url)
        clean.setenv("OTEL_SERVICE_NAME", "line-of-vms")
        async with running(tmp_path, WORKERS=workers, CALLBACK_ALLOW="127.0.0.1") as service:
            await call(service.url, "PUT", "/queues/vm/pools/default", POOL)
            body = job() | {"callback": f"{client.url}/a"}
            await call(service.url, "POST", "/v1/vm/", body, TRACEPARENT)
            await client.until(1)
            assert await service.end() == 0
        spans = {}
        for path, _, sent in collector.calls:
            assert path == "/v1/traces"
            for resource in ExportTraceServiceRequest.FromString(sent).resource_spans:
                attributes = {a.key: a.value.string_value for a in resource.resource.attributes}
                assert attributes["service.name"] == "line-of-vms"
                for scope in resource.scope_spans:
                    spans |= {span.name: span for span in scope.spans}
        assert set(spans) == {"POST /v1/{type}/", "wait", "call"}
        assert {span.trace_id.hex() for span in spans.values()} == {TRACE}
        assert client.calls[0][1]["traceparent"] == f"00-{TRACE}-{spans['call'].span_id.hex()}-01"


async def test_a_receiver_that_hangs_holds_nothing_up(tmp_path, clean):
    hangs = asyncio.Event()

    async def hang(_: web.Request) -> web.Response:
        await hangs.wait()
        return web.Response()

    async with receiving() as collector:
        collector.answer = hang
        clean.setenv(ENDPOINT, collector.url)
        async with running(tmp_path) as service:
            await call(service.url, "POST", "/v1/vm/", job(), TRACEPARENT)
            async with asyncio.timeout(20):
                assert await service.end() == 0
        assert collector.calls
        hangs.set()


def test_without_the_extra_it_says_so_and_goes_on(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    assert exported() is None
    assert "rqueue[traces]" in caplog.text


async def call(url: str, method: str, path: str, body: object, headers: dict[str, str] | None = None) -> None:
    import aiohttp

    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url + path, json=body, headers=headers) as response,
    ):
        assert response.status in (200, 201), await response.text()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({ENDPOINT: "http://x:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x:4318/v1/traces"}, True),
        ({ENDPOINT: ""}, False),
        ({ENDPOINT: "http://x:4318", "OTEL_SDK_DISABLED": "true"}, False),
        ({ENDPOINT: "http://x:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_SERVICE_NAME": "x"}, False),
    ],
)
def test_otels_own_variables_say_whether(environment, expected):
    assert traced(environment) is expected
