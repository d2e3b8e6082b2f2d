"""Look at the line, and at a job."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import click
import orjson

from rqueue.cli.asking import Asking, asks
from rqueue.cli.names import ID, TYPE, types
from rqueue.cli.output import STYLES, Column, Table, age, at, clean, now, span
from rqueue.cli.words import EVENT_COLUMNS, JOB_COLUMNS, asked, event_row, job_row, pool_of
from rqueue.client import Event, Job, Queue
from rqueue.domain.job import Status

# So many jobs say where they stand at once.
STANDING = 200
# What a list has beside its rows: the titles, what is said of more, and the next prompt.
AROUND = 3
QUEUE_COLUMNS = (
    Column("QUEUE", least=12),
    Column("WAIT", right=True),
    Column("RUN", right=True),
    Column("ENDED", right=True),
    Column("POLICY"),
    Column("POOLS", least=8),
    Column("STATE", least=8),
)


def filters(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that choose jobs of a list: owner_id, status and search."""
    for option in (
        click.option("--search", metavar="TEXT", help="Only jobs with this in their ID, owner or data."),
        click.option(
            "--status",
            type=click.Choice([status.value for status in Status]),
            help="Only these; without it those that wait or run.",
        ),
        click.option("--owner", "owner_id", metavar="OWNER", help="Only the jobs of this owner."),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("type_", metavar="[TYPE]", required=False, shell_complete=types)
@filters
@click.option("--limit", type=click.IntRange(1), help="So many jobs; without it as many as the screen shows.")
@click.option("--all", "all_", is_flag=True, help="All jobs, as where the output is no terminal.")
@asks
async def ls(ask: Asking, type_: str | None, limit: int | None, all_: bool, **chosen: str | None) -> int:
    """Show the queues, or the jobs of one in order."""
    if type_ is None:
        if limit or all_ or any(chosen.values()):
            raise click.UsageError("which jobs there are is asked of one TYPE")
        _write_queues(ask, await ask.client.queues())
    else:
        if ask.out.height is not None and not all_:
            limit = limit or max(5, ask.out.height - AROUND)
        await listed(ask, type_, limit, chosen)
    return 0


async def listed(ask: Asking, type_: str, limit: int | None, chosen: Mapping[str, str | None]) -> None:
    """Write the jobs of a queue in order, or so many of them, those that are chosen.

    Up to STANDING of them say why they wait; of more each would take the service ten times as long.
    """
    if ask.out.json:
        stands = limit is not None and limit <= STANDING
        async for page in _pages(ask, type_, limit, stands, chosen):
            for job in page:
                ask.out.document(job.document)
        return
    table = Table(ask.out, *JOB_COLUMNS)
    if limit is None or limit < STANDING:
        # One more tells whether there are more.
        most = STANDING if limit is None else limit + 1
        jobs = [job async for page in _pages(ask, type_, most, True, chosen) for job in page]
        if limit is not None or len(jobs) < most:
            table.write([job_row(job) for job in jobs[:limit]])
            if limit is not None and len(jobs) > limit:
                click.echo("there are more: see --limit and --all", err=True)
            return
    position, counted = 0, not chosen["owner_id"] and not chosen["search"]
    async for page in _pages(ask, type_, limit, False, chosen):
        rows = []
        for job in page:
            waits = job.status == Status.QUEUED
            rows.append(job_row(job, position if waits and counted else None))
            position += waits
        table.write(rows)


async def _pages(
    ask: Asking, type_: str, limit: int | None, stands: bool, chosen: Mapping[str, str | None]
) -> AsyncIterator[list[Job]]:
    with ask.out.progress("jobs read") as advance:
        async for page in ask.client.pages(type_, limit=limit, standing=stands, **chosen):
            yield page
            advance(len(page))


def _write_queues(ask: Asking, queues: list[Queue]) -> None:
    if ask.out.json:
        for queue in queues:
            ask.out.document(queue.document)
        return
    if not queues:
        click.echo("no queue has been used", err=True)
    Table(ask.out, *QUEUE_COLUMNS).write([queue_row(queue) for queue in queues])


def queue_row(queue: Queue) -> tuple[str | tuple[str, str], ...]:
    """A queue as a row of QUEUE_COLUMNS."""
    if queue.error is not None:
        return (queue.type, "", "", "", "", "", (f"damaged: {queue.error}", "red"))
    counts = (str(queue.queued), str(queue.running), str(queue.ended))
    state = ("paused", "yellow") if queue.settings["paused"] else ""
    return (queue.type, *counts, queue.settings["policy"], ", ".join(queue.pools), state)


@click.command()
@TYPE
@ID
@asks
async def show(ask: Asking, type_: str, request_id: str) -> int:
    """Show a job: its place, why it waits, and what happened to it."""
    job = await ask.client.get(type_, request_id)
    if ask.out.json:
        ask.out.document(job.document)
        return 0
    history = await ask.client.history(type_, request_id)
    for line in _page(ask, job, history):
        ask.out.line(line)
    return 0


def _page(ask: Asking, job: Job, history: list[Event]) -> Iterator[str]:
    paint = ask.out.paint
    yield f"{paint(clean(job.request_id), 'bold')} of queue {clean(job.type)}"
    for name, text, style in _facts(job):
        yield f"  {name:<12}{paint(clean(text), style)}"
    yield "data"
    for line in orjson.dumps(dict(job.data), option=orjson.OPT_INDENT_2).decode().splitlines():
        yield f"  {clean(line)}"
    if history:
        yield "history"
        columns = [column for column in EVENT_COLUMNS if column.title != "JOB"]
        rows = [[cell for place, cell in enumerate(event_row(event)) if place != 2] for event in history]
        yield from (f"  {line}" for line in Table(ask.out, *columns).lines(rows))


def _facts(job: Job) -> Iterator[tuple[str, str, str]]:
    yield "status", job.status, STYLES.get(job.status, "")
    if job.position is not None:
        ahead = f", with {job.ahead} before it for pool {pool_of(job)}" if job.ahead else ""
        yield "position", f"{job.position}{ahead}", ""
    if job.reason is not None:
        yield "why", job.reason, "yellow"
    if job.estimated_start is not None:
        yield "starts", _estimate(job), ""
    yield "owner", job.owner_id, ""
    yield "pool", pool_of(job), ""
    yield "asks for", asked(job), ""
    if job.placement is not None:
        yield "hosts", ", ".join(job.placement), ""
    yield "priority", str(job.priority), ""
    yield "callback", job.callback, ""
    if job.attempts is not None:
        yield "attempts", str(job.attempts), ""
    if job.last_error is not None:
        yield "last error", job.last_error, "red"
    if (next_call := job.document.get("NextCall")) is not None:
        yield "next call", str(next_call), ""
    yield "created", f"{at(job.created_at)}, {age(job.created_at)} ago", ""
    if job.updated_at != job.created_at:
        yield "changed", f"{at(job.updated_at)}, {age(job.updated_at)} ago", ""
    if job.deleted_at is not None:
        yield "ended", f"{at(job.deleted_at)}, {age(job.deleted_at)} ago", ""


def _estimate(job: Job) -> str:
    said = []
    if job.estimated_start is not None:
        left = span((job.estimated_start - now()).total_seconds())
        said.append(f"{at(job.estimated_start)}, in {left}")
    if job.estimated_spread is not None:
        early, late = job.estimated_spread
        said.append(f"4 of 5 between {at(early)} and {at(late)}")
    return "; ".join([*said, *filter(None, (job.estimate_basis,))])
