"""`rqueue top`: all queues at once."""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

import click
from prometheus_client.parser import text_string_to_metric_families

from rqueue import metrics
from rqueue.cli.asking import FORBIDDEN, Asking, asks
from rqueue.cli.capacity import style_of
from rqueue.cli.jobs import AROUND
from rqueue.cli.output import Cell, Column, Table, bar, now, span
from rqueue.cli.screen import keep_showing
from rqueue.client import Client, Event, Failed, Queue
from rqueue.domain.job import ENDED

# Rates are those of the last minute, from so many events at the most.
RATE_SECONDS = 60.0
EVENTS = 200
COLUMNS = (
    Column("QUEUE", least=8),
    Column("WAIT", right=True),
    Column("RUN", right=True),
    Column("OLDEST", right=True),
    Column("NEW/m", right=True),
    Column("ADM/m", right=True),
    Column("END/m", right=True),
    Column("FULLEST", least=10),
)
# Metric → the labels behind the type → its value; of one type.
Gauges = Mapping[str, Mapping[tuple[str, ...], float]]


@click.command()
@click.option(
    "--interval",
    type=click.FloatRange(0.5, 3600),
    default=2.0,
    show_default=True,
    help="Seconds from one look to the next.",
)
@asks
async def top(ask: Asking, interval: float) -> int:
    """Show all queues as they change.

    Who waits, and for how long; new, admitted and ended jobs a minute; the pool and resource of which the
    least is free. Ctrl-C ends it. Where the output is no terminal, and with --json, they are shown once.
    """

    async def draw() -> list[str]:
        return await _overview(ask)

    if ask.out.json:
        for queue in await ask.client.queues():
            ask.out.document(queue.document)
    elif ask.out.live:
        await keep_showing(ask.out, draw, interval, asyncio.Event())
    else:
        for line in await draw():
            ask.out.line(line)
    return 0


async def _overview(ask: Asking) -> list[str]:
    queues, gauges = await asyncio.gather(ask.client.queues(), _gauges(ask.client))
    queues.sort(key=lambda queue: (-queue.queued, queue.type))
    shown = queues if ask.out.height is None else queues[: max(1, ask.out.height - AROUND)]
    rows = await asyncio.gather(*(_row(ask.client, queue, gauges.get(queue.type, {})) for queue in shown))
    wait, run = sum(queue.queued for queue in queues), sum(queue.running for queue in queues)
    noun = "queue" if len(queues) == 1 else "queues"
    lines = [ask.out.paint(f"{len(queues)} {noun}: {wait} wait, {run} run", "bold")]
    lines += Table(ask.out, *COLUMNS).lines(rows)
    return [*lines, f"{len(queues) - len(shown)} more queues"] if len(queues) > len(shown) else lines


async def _gauges(client: Client) -> Mapping[str, Gauges]:
    """What the service measures, by type; nothing for who may not see all types."""
    try:
        text = await client.metrics()
    except Failed as error:
        if error.status != FORBIDDEN:
            raise
        return {}
    found: dict[str, dict[str, dict[tuple[str, ...], float]]] = defaultdict(lambda: defaultdict(dict))
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if (type_ := sample.labels.pop("type", None)) is not None:
                found[type_][sample.name][tuple(sample.labels.values())] = sample.value
    return found


async def _row(client: Client, queue: Queue, gauges: Gauges) -> Sequence[str | Cell]:
    if queue.error is not None:
        return (queue.type, *[""] * 6, ("damaged", "red"))
    events = await client.last_events(queue.type, EVENTS)
    oldest = max(gauges.get(metrics.OLDEST_AGE.name, {}).values(), default=0)
    rates = (_rate(events, what) for what in (("created",), ("admitted",), ENDED))
    state: Cell = ("paused", "yellow") if queue.settings["paused"] else _fullest(gauges)
    counts = (str(queue.queued), str(queue.running))
    return (queue.type, *counts, span(oldest) if queue.queued else "", *rates, state)


def _rate(events: Sequence[Event], what: Collection[str]) -> str:
    """How many of these events there are a minute."""
    ages = [(now() - event.at).total_seconds() for event in events]
    # Where there are more than were read, the time from the oldest of them on.
    over = min(RATE_SECONDS, max(ages)) if len(events) == EVENTS else RATE_SECONDS
    counted = sum(age <= over and event.what in what for age, event in zip(ages, events, strict=True))
    return f"{counted * 60 / max(over, 1):.0f}" if counted else ""


def _fullest(gauges: Gauges) -> Cell:
    """The pool and the resource of which the least is free."""
    free = gauges.get(metrics.FREE.name, {})
    shares = {
        labels: 1 - free.get(labels, 0) / has
        for labels, has in gauges.get(metrics.CAPACITY.name, {}).items()
        if has
    }
    if not shares:
        return "", ""
    labels = max(shares, key=lambda labels: shares[labels])
    share = shares[labels]
    return f"{bar(share)} {share:4.0%} {' '.join(labels)}", style_of(share)
