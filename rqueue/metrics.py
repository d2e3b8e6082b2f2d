"""What the service counts and measures, for Prometheus: every metric, and nothing that knows Redis or HTTP.

Counts are plain numbers in lists that the event loop alone changes, so that one costs a tenth of a
microsecond (see docs/decisions/0012-counts-are-plain-numbers.md); prometheus-client writes them down at
a scrape. Whoever counts asks for a cell once and keeps it. Names that clients choose are bounded: those
beyond the first SERIES count as `other`, so no client can make a scrape grow without end.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.utils import floatToGoString

SERIES = 1000
OTHER = "other"
# The labels whose values clients choose; all others have a few that the service knows.
POOLS = ("type", "pool", "resource")
CHOSEN = frozenset(POOLS)

Labels = tuple[str, ...]
# One number of a counter; of a histogram, how many were in each bucket and beyond the last, and their sum.
Cell = list[float]
Gauges = dict["Gauge", dict[Labels, float]]
# What a process has counted, as JSON can hold it: metric → its labels and cells.
Counts = dict[str, list[tuple[Sequence[str], Cell]]]

QUICK = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
CALLS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30, 60)
WAITS = (0.01, 0.1, 1, 10, 60, 300, 900, 3600, 3 * 3600, 6 * 3600, 86400, 3 * 86400, 7 * 86400, 30 * 86400)


class Counted:
    """A metric that processes count up: a counter, or with `buckets` (upper bounds) a histogram."""

    def __init__(self, name: str, help_: str, *labels: str, buckets: Sequence[float] = ()) -> None:
        self.name, self.help, self.labels, self.buckets = name, help_, labels, tuple(buckets)
        self.kind = "histogram" if buckets else "counter"
        self._cells: dict[Labels, Cell] = {}
        METRICS.append(self)
        if not labels:
            self.cell()

    def cell(self, *values: str) -> Cell:
        """The numbers of these labels, to be counted up by `count` or `observe`."""
        found = self._cells.get(values)
        if found is None:
            if len(self._cells) >= SERIES:
                values = tuple(
                    OTHER if label in CHOSEN else value
                    for label, value in zip(self.labels, values, strict=True)
                )
            found = self._cells.setdefault(values, self._zero())
        return found

    def count(self, *values: str) -> None:
        """One more."""
        self.cell(*values)[0] += 1

    def observe(self, cell: Cell, value: float) -> None:
        """One more of this size in a histogram's cell."""
        cell[bisect_left(self.buckets, value)] += 1
        cell[-1] += value

    def counts(self) -> list[tuple[Sequence[str], Cell]]:
        """The labels, and a copy of each cell."""
        return [(values, cell.copy()) for values, cell in self._cells.items()]

    def go_on_from(self, counts: Iterable[tuple[Sequence[str], Cell]]) -> None:
        """Add what another process has counted."""
        for values, numbers in counts:
            add(self.cell(*values), numbers)

    def family(self, counted: Mapping[Labels, Cell]) -> Metric:
        """The numbers in Prometheus's form."""
        if not self.buckets:
            counter = CounterMetricFamily(self.name, self.help, labels=self.labels)
            for values, (number, *_) in counted.items():
                counter.add_metric(values, number)
            return counter
        histogram = HistogramMetricFamily(self.name, self.help, labels=self.labels)
        bounds = [*map(floatToGoString, self.buckets), "+Inf"]
        for values, numbers in counted.items():
            below = list(zip(bounds, accumulate(numbers[:-1]), strict=True))
            histogram.add_metric(values, below, sum_value=numbers[-1])
        return histogram

    def _zero(self) -> Cell:
        return [0] * (len(self.buckets) + 2 if self.buckets else 1)


class Gauge:
    """A metric that is read at a scrape; its values are the reader's."""

    kind = "gauge"

    def __init__(self, name: str, help_: str, *labels: str) -> None:
        self.name, self.help, self.labels = name, help_, labels
        METRICS.append(self)

    def family(self, read: Mapping[Labels, float]) -> Metric:
        """The values in Prometheus's form."""
        gauge = GaugeMetricFamily(self.name, self.help, labels=self.labels)
        for values, number in read.items():
            gauge.add_metric(values, number)
        return gauge


def add(cell: Cell, numbers: Cell) -> None:
    """Add numbers to a cell."""
    for place, number in enumerate(numbers):
        cell[place] += number


METRICS: list[Counted | Gauge] = []

# --- the whole table, in the order of docs/metrics.md ------------------------------------------------

QUEUE_JOBS = Gauge("rqueue_queue_jobs", "Jobs that wait.", "type", "pool")
OLDEST_AGE = Gauge(
    "rqueue_queue_oldest_age_seconds",
    "Since the creation of the job that has waited longest, of the first of each of the 8 smallest and 8"
    " largest priorities of the line; 0 where nobody waits.",
    *("type", "pool"),
)
RUNNING = Gauge("rqueue_running_jobs", "Jobs that hold capacity: called, or running.", "type")
PAUSED = Gauge("rqueue_queue_paused", "1 where the queue is paused.", "type")
CAPACITY = Gauge(
    "rqueue_capacity",
    "What a declared pool's hosts have, in the resource's unit (cpu in thousandths).",
    *POOLS,
)
USED = Gauge("rqueue_used", "What calling and running jobs hold of it.", *POOLS)
FREE = Gauge(
    "rqueue_free", "What its hosts have left; a host that holds more than it has counts as 0.", *POOLS
)
SOURCE_AGE = Gauge(
    "rqueue_source_age_seconds",
    "Since the last observation of a live pool began; since 1970 where there was none.",
    *("type", "pool"),
)
LATE = Gauge(
    "rqueue_due_late_seconds", "How late the most overdue job of a queue is to be looked at.", "type"
)
DAMAGED = Gauge("rqueue_queue_damaged", "1 where a key of the queue is not what it should be.", "type")
LEFT_OUT = Gauge("rqueue_metrics_left_out", "Types, pools and resources that a scrape has no room for.")
REDIS_UP = Gauge(
    "rqueue_redis_up", "1 where Redis answered the scrape; else what is read from it is missing."
)
REAPER_LAG = Gauge("rqueue_reaper_lag_seconds", "Since the end of the reaper's last whole tick.")
EVENT_STREAMS = Gauge("rqueue_event_streams", "Streams of events that are open.")
OF_QUEUES = (QUEUE_JOBS, OLDEST_AGE, RUNNING, PAUSED, CAPACITY, USED, FREE, SOURCE_AGE, LATE, DAMAGED)

ADMISSIONS = Counted(
    "rqueue_admissions_total", "Jobs whose turn came and who got their capacity.", "type", "pool"
)
WAIT = Counted("rqueue_wait_seconds", "From a job's creation to its admission.", "type", buckets=WAITS)
DELIVERIES = Counted(
    "rqueue_deliveries_total",
    "Rounds of calls: accepted, unwanted (410), refused (tried again) or forbidden (by the guard).",
    *("type", "outcome"),
)
DELIVERY = Counted("rqueue_delivery_seconds", "How long a round of calls took.", "outcome", buckets=CALLS)
LAPSED = Counted(
    "rqueue_lapsed_total",
    "Jobs that time ended: failed (not called within call_deadline) or expired (the lease lapsed).",
    *("type", "status"),
)
SOURCE = Counted(
    "rqueue_source_seconds", "How long a live source was read for all its pools.", "source", buckets=CALLS
)
SOURCE_ERRORS = Counted(
    "rqueue_source_errors_total", "Pools that could not be read of a live source, each time.", "source"
)
HTTP_REQUESTS = Counted("rqueue_http_requests_total", "Requests answered.", "method", "route", "status")
HTTP_REQUEST = Counted(
    "rqueue_http_request_seconds", "From a request's head to the end of its answer.", "route", buckets=QUICK
)
CONNECTIONS_DROPPED = Counted(
    "rqueue_connections_dropped_total",
    "Connections cut off: head (it took too long), room (for others) or memory (their bodies took too much).",
    "reason",
)
EVENT_STREAMS_DROPPED = Counted(
    "rqueue_event_streams_dropped_total",
    "Streams of events cut off: stalled (the client took nothing) or lagging (it took less than there was).",
    "reason",
)
REDIS = Counted("rqueue_redis_seconds", "Round trips to Redis, the wait for a turn included.", buckets=QUICK)
REDIS_ERRORS = Counted(
    "rqueue_redis_errors_total", "Commands that Redis did not answer, or refused with an error."
)


def counts() -> Counts:
    """What this process has counted."""
    return {metric.name: metric.counts() for metric in METRICS if isinstance(metric, Counted)}


def go_on_from(counted: Counts) -> None:
    """Count on from where another process ended."""
    for metric in METRICS:
        if isinstance(metric, Counted):
            metric.go_on_from(counted.get(metric.name, ()))


def text(accept: str, counted: Collection[Counts], gauges: Gauges, process: bool) -> tuple[bytes, str]:
    """All of it in the form that `accept` asks for, Prometheus's or OpenMetrics', and its content type.

    `counted` is from one process or from several, whose counts are added; with `process`, what the
    operating system says of this process (process_…) is there too. May run in a thread.
    """
    try:
        encode, content_type = choose_encoder(accept)
    except (TypeError, ValueError):
        # A version that is none.
        encode, content_type = choose_encoder("")
    return encode(_Families(counted, gauges, process)), content_type


class _Families:
    """What prometheus-client collects from."""

    def __init__(self, counted: Collection[Counts], gauges: Gauges, process: bool) -> None:
        self._counted, self._gauges, self._process = counted, gauges, process

    def collect(self) -> Iterable[Metric]:
        for metric in METRICS:
            if isinstance(metric, Gauge):
                if metric in self._gauges:
                    yield metric.family(self._gauges[metric])
                continue
            sums: dict[Labels, Cell] = {}
            for counted in self._counted:
                for values, numbers in counted.get(metric.name, ()):
                    there = sums.get(tuple(values))
                    if there is None:
                        sums[tuple(values)] = list(numbers)
                    else:
                        add(there, numbers)
            yield metric.family(sums)
        if self._process:
            yield from _PROCESS.collect()


_PROCESS: Any = ProcessCollector(registry=None)
