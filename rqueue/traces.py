"""Traces: one job from the POST that created it to its callback, within the client's own trace.

On only where OpenTelemetry's own variables name a receiver, and then only for jobs whose POST came with a
`traceparent` (https://www.w3.org/TR/trace-context/); all else costs nothing. What travels with a job is a
traceparent that is written here, 55 characters, and nothing that a client chose but its numbers.
OpenTelemetry is imported only where it is on: it is an extra, `rqueue[traces]`.
"""

import asyncio
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rqueue import __version__
from rqueue.domain.job import Job

log = logging.getLogger("rqueue.traces")

END_SECONDS = 3.0
# As much as the standard asks to be taken; OpenTelemetry logs what is longer.
MAX_TRACEPARENT = 512


def exported() -> "Traces | None":
    """Traces that go where OTEL_EXPORTER_OTLP_ENDPOINT and the like say; None, and a warning, without the
    extra.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        log.warning("OTEL_… asks for traces, and OpenTelemetry is not there: pip install 'rqueue[traces]'")
        return None
    return Traces(BatchSpanProcessor(OTLPSpanExporter()))


class Traces:
    """Spans of creates, waits and calls. `processor` is a SpanProcessor of OpenTelemetry's SDK."""

    def __init__(self, processor: Any) -> None:
        from opentelemetry import trace
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        own = Resource({"service.name": "rqueue", "service.version": __version__})
        self._provider = TracerProvider(
            resource=own.merge(OTELResourceDetector().detect()), shutdown_on_exit=False
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("rqueue", __version__)
        self._trace = trace
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def create(self, traceparent: str, type_: str, route: str) -> Iterator[str]:
        """A span around a create; gives the traceparent for what follows from it, "" where the client's
        cannot be read.

        An error goes through, and its code into the span.
        """
        parent = self._parent(traceparent)
        if parent is None:
            yield ""
            return
        attributes = {"http.request.method": "POST", "http.route": route, "rqueue.type": type_}
        kind = self._trace.SpanKind.SERVER
        span = self._tracer.start_span(f"POST {route}", parent, kind, attributes)
        try:
            yield self._written(span)
        except Exception as error:
            span.set_attribute("error.type", getattr(error, "code", type(error).__name__))
            raise
        finally:
            span.end()

    @contextmanager
    def call(self, job: Job) -> Iterator["Call"]:
        """A span around a round of calls; at the first one also one for the wait that came before it."""
        parent = self._parent(job.traceparent or "")
        if parent is None:
            yield Call("", None)
            return
        attributes: dict[str, Any] = {
            "rqueue.type": job.type,
            "rqueue.request_id": job.request_id,
            "rqueue.pool": job.pool,
            "rqueue.attempt": job.attempts or 1,
        }
        if job.attempts == 1 and job.admitted_at is not None:
            waited = self._tracer.start_span(
                "wait", parent, attributes=attributes, start_time=job.created_at * 1000
            )
            waited.end(job.admitted_at * 1000)
        span = self._tracer.start_span("call", parent, self._trace.SpanKind.CLIENT, attributes)
        try:
            yield Call(self._written(span), span)
        finally:
            span.end()

    async def end(self) -> None:
        """Send what is not sent yet, for a few seconds at most."""
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()

        def end() -> None:
            self._provider.shutdown()
            if not loop.is_closed():
                loop.call_soon_threadsafe(ended.set)

        # Not asyncio.to_thread: the loop would wait at its own end for a receiver that hangs.
        threading.Thread(target=end, daemon=True).start()
        try:
            async with asyncio.timeout(END_SECONDS):
                await ended.wait()
        except TimeoutError:
            log.warning("the last traces could not be sent within %g s", END_SECONDS)

    def _parent(self, traceparent: str) -> Any:
        """The context that a traceparent names, or None where it is none."""
        if not 0 < len(traceparent) <= MAX_TRACEPARENT:
            return None
        context = self._propagator.extract({"traceparent": traceparent})
        found = self._trace.get_current_span(context).get_span_context()
        return context if found.is_valid else None

    def _written(self, span: Any) -> str:
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, self._trace.set_span_in_context(span))
        return carrier["traceparent"]


class Call:
    """The span of one round of calls; `traceparent` is for the request, "" where there is no trace."""

    def __init__(self, traceparent: str, span: Any) -> None:
        self.traceparent = traceparent
        self._span = span

    def came_to(self, outcome: str) -> None:
        """Say how it ended."""
        if self._span is not None:
            self._span.set_attribute("rqueue.outcome", outcome)
