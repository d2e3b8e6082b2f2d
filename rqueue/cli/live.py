"""A queue while one looks: its line as it changes, and what happens."""

import asyncio
from collections import deque
from collections.abc import AsyncIterable, Mapping
from typing import Any

import click

from rqueue.cli.asking import FORBIDDEN, Asking, asks
from rqueue.cli.jobs import STANDING, filters, listed
from rqueue.cli.names import TYPE, request_ids
from rqueue.cli.output import Table, clean
from rqueue.cli.screen import keep_showing, until_ended
from rqueue.cli.words import EVENT_COLUMNS, JOB_COLUMNS, event_row, job_row
from rqueue.client import Client, Event, Failed, Job

# Where nothing is heard of, it is looked at all the same: ages grow.
LOOK_SECONDS = 5.0
# How many events are shown before those to come, of all where none are to come, and at the most.
BEFORE, LAST, MOST = 10, 100, 1000


@click.command()
@TYPE
@filters
@asks
async def watch(ask: Asking, type_: str, **chosen: str | None) -> int:
    """Show a queue's line as it changes.

    And what happened last. Ctrl-C ends it. Where the output is no terminal, and with --json, the line is
    shown once.
    """
    if not ask.out.live:
        await listed(ask, type_, None, chosen)
        return 0
    woken = asyncio.Event()
    last = deque(await ask.client.last_events(type_, BEFORE), maxlen=BEFORE)

    async def follow() -> None:
        async for event in ask.client.events(type_, after=last[-1].id if last else None):
            last.append(event)
            woken.set()

    async def draw() -> list[str]:
        return await _line(ask, type_, chosen, list(last))

    await keep_showing(ask.out, draw, LOOK_SECONDS, woken, follow())
    return 0


async def _line(ask: Asking, type_: str, chosen: Mapping[str, Any], last: list[Event]) -> list[str]:
    height = ask.out.console.height
    below = last[-max(1, height // 5) :]
    # Beside them and the jobs there are a line about the queue, the titles, and an empty one before each.
    room = max(1, min(STANDING, height - 4 - len(below)))
    pages = ask.client.pages(type_, limit=room, standing=True, **chosen)
    head, jobs = await asyncio.gather(_counted(ask.client, type_), _all_of(pages))
    above = [ask.out.paint(head, "bold"), "", *Table(ask.out, *JOB_COLUMNS).lines([*map(job_row, jobs)])]
    # Titles would take the place of an event.
    events = [*Table(ask.out, *EVENT_COLUMNS).lines([*map(event_row, below)])][1:]
    return above + [""] * (height - len(above) - len(events)) + events


async def _counted(client: Client, type_: str) -> str:
    try:
        queue = await client.queue(type_)
    except Failed as error:
        if error.status != FORBIDDEN:
            raise
        # Who may see some of the jobs need not see how many there are.
        return clean(type_)
    state = ", paused" if queue.settings.get("paused") else ""
    return f"{clean(type_)}: {queue.queued} wait, {queue.running} run{state}"


async def _all_of(pages: AsyncIterable[list[Job]]) -> list[Job]:
    return [job async for page in pages for job in page]


@click.command()
@TYPE
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens, until Ctrl-C.")
@click.option(
    "--job",
    "request_id",
    metavar="ID",
    shell_complete=request_ids,
    help="What happened to this job, kept as long as the job.",
)
@click.option("--limit", type=click.IntRange(1, MOST), help=f"So many of the past; without it {LAST}.")
@asks
async def events(ask: Asking, type_: str, follow: bool, request_id: str | None, limit: int | None) -> int:
    """Show what happened, and with --follow what happens."""
    limit = limit or (BEFORE if follow else LAST)
    if request_id is None:
        past = await ask.client.last_events(type_, limit)
    else:
        past = (await ask.client.history(type_, request_id))[-limit:]
    table = Table(ask.out, *EVENT_COLUMNS)

    def write(some: list[Event]) -> None:
        if ask.out.json:
            for event in some:
                ask.out.document(event.document)
        else:
            table.write([*map(event_row, some)])
        ask.out.flush()

    async def go_on() -> None:
        after = past[-1].id if past else None
        async for event in ask.client.events(type_, after=after, request_id=request_id):
            write([event])

    write(past)
    if follow:
        await until_ended(go_on())
    return 0
