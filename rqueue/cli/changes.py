"""Put jobs into the line, move them, and end them."""

from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Any

import click
import orjson

from rqueue.cli.asking import Asking, amounts, asks, each, read_json, read_text
from rqueue.cli.names import ID, IDS, TYPE, request_ids
from rqueue.cli.output import clean
from rqueue.cli.words import place
from rqueue.client import Failed, Job
from rqueue.errors import Refused

BATCH = 1000
DRY = click.option("--dry-run", is_flag=True, help="Show what would be, and change nothing.")
UNCHANGED = " (nothing was changed)"

Change = Callable[[str], Awaitable[Job]]


# --- into the line -----------------------------------------------------------------------------------


@click.command()
@TYPE
@click.option("--id", "request_id", metavar="ID", help="Its name; without it the job gets one.")
@click.option("--owner", "owner_id", metavar="OWNER", help="Whose it is.")
@click.option("--callback", metavar="URL", help="Whom to call when its turn has come.")
@click.option(
    "--instance",
    "instances",
    multiple=True,
    metavar="AMOUNTS",
    help="What one instance takes of one host, such as VCPU=4,Memory=8192; again for more of them.",
)
@click.option("--pool", help="The pool to wait for; without it the project, the owner or the queue decides.")
@click.option("--project", help="The project that it is for.")
@click.option("--data", metavar="JSON", help="What else the job says of itself; @FILE reads it from a file.")
@click.option("--priority", type=int, help="Behind those that have this priority; without it: the last.")
@click.option(
    *("-f", "--file"),
    help="Jobs as the API has them: a JSON object, an array or JSON lines; - is the standard input.",
)
@DRY
@asks
async def create(ask: Asking, type_: str, file: str | None, dry_run: bool, **given: Any) -> int:
    """Put jobs into the line.

    One by options, or those of a file, a thousand at a time.
    """
    if file is not None:
        if dry_run or any(value not in (None, ()) for value in given.values()):
            raise click.UsageError("--file says all of its jobs; the other options are for one")
        return await _create_all(ask, type_, _jobs_in(file))
    for name in ("owner_id", "callback"):
        if not given[name]:
            raise click.UsageError(f"expected --{name.removesuffix('_id')}, or --file")
    job = await ask.client.create(
        type_,
        owner_id=given["owner_id"],
        callback=given["callback"],
        request_id=given["request_id"],
        priority=given["priority"],
        data=_data(given),
        dry_run=dry_run,
    )
    if ask.out.json:
        ask.out.document(job.document)
    else:
        # As it is by now: it may be called already.
        now = job if dry_run else await ask.client.get(type_, job.request_id)
        ask.out.line(f"{clean(job.request_id)}: {clean(place(now))}{UNCHANGED * dry_run}")
    return 0


def _data(given: dict[str, Any]) -> dict[str, Any]:
    data = read_json(given["data"], "--data") if given["data"] else {}
    if not isinstance(data, dict):
        raise Refused("--data is no JSON object")
    if given["instances"]:
        data["instances"] = [amounts(written) for written in given["instances"]]
    if given["pool"]:
        data["host_aggregate"] = given["pool"]
    if given["project"]:
        data["project"] = given["project"]
    return data


def _jobs_in(file: str) -> list[Any]:
    text = read_text(file)
    try:
        written = orjson.loads(text)
    except ValueError:
        return [_line_of(line, f"{file}, line {at}") for at, line in enumerate(text.splitlines(), 1) if line]
    return written if isinstance(written, list) else [written]


def _line_of(line: str, whence: str) -> Any:
    try:
        return orjson.loads(line)
    except ValueError as error:
        raise Refused(f"{whence}: not JSON: {error}") from None


async def _create_all(ask: Asking, type_: str, drafts: list[Any]) -> int:
    left, done = iter(drafts), 0
    if not all(isinstance(draft, dict) for draft in drafts):
        raise Refused("expected a JSON object for each job")
    with ask.out.progress("jobs created") as advance:
        while batch := list(islice(left, BATCH)):
            try:
                jobs = await ask.client.create_many(type_, batch)
            except Failed as error:
                error.message += f"; {done} of {len(drafts)} jobs are created, and those after them are not"
                raise
            for job in jobs:
                _say(ask, job, f"{clean(job.request_id)}: {job.status}")
            done += len(jobs)
            advance(len(jobs))
    return 0


@click.command()
@TYPE
@ID
@click.option("--data", metavar="JSON", help="All that the job says of itself; @FILE reads it from a file.")
@click.option("--callback", metavar="URL", help="Whom to call when its turn has come.")
@DRY
@asks
async def update(
    ask: Asking, type_: str, request_id: str, data: str | None, callback: str | None, dry_run: bool
) -> int:
    """Change what a waiting job asks for, or whom it calls.

    It keeps its place.
    """
    if data is None and callback is None:
        raise click.UsageError("expected --data, --callback or both")
    read = None if data is None else read_json(data, "--data")
    job = await ask.client.update(type_, request_id, data=read, callback=callback, dry_run=dry_run)
    _say(ask, job, f"{clean(job.request_id)}: {'would be ' * dry_run}updated{UNCHANGED * dry_run}")
    return 0


# --- moves -------------------------------------------------------------------------------------------


@click.command()
@TYPE
@IDS
@DRY
@asks
async def front(ask: Asking, type_: str, request_ids: tuple[str, ...], dry_run: bool) -> int:
    """Make waiting jobs the next ones.

    Several stand there in the order in which they are named.
    """
    change = _with(ask.client.front, type_, dry_run)
    # The last one that goes to the front is the first.
    return await _moved(ask, type_, request_ids[::-1], change, dry_run)


@click.command()
@TYPE
@IDS
@DRY
@asks
async def back(ask: Asking, type_: str, request_ids: tuple[str, ...], dry_run: bool) -> int:
    """Make waiting jobs the last ones.

    Several stand there in the order in which they are named.
    """
    return await _moved(ask, type_, request_ids, _with(ask.client.back, type_, dry_run), dry_run)


@click.command()
@TYPE
@IDS
@click.option("--after", metavar="ID", shell_complete=request_ids, help="Right behind this waiting job.")
@click.option("--before", metavar="ID", shell_complete=request_ids, help="Right before this waiting job.")
@click.option("--priority", type=int, help="Behind those that have this priority.")
@DRY
@asks
async def move(
    ask: Asking,
    type_: str,
    request_ids: tuple[str, ...],
    after: str | None,
    before: str | None,
    priority: int | None,
    dry_run: bool,
) -> int:
    """Move waiting jobs next to another one, or to a priority.

    With --after and --before they go between the two. Several stand there in the order in which they are
    named.
    """
    if (priority is None) == (after is None and before is None):
        raise click.UsageError("expected --after, --before or both, or --priority")

    async def change(request_id: str) -> Job:
        nonlocal before
        job = await ask.client.move(
            type_, request_id, after=after, before=before, priority=priority, dry_run=dry_run
        )
        if after is not None and before is not None and not dry_run:
            before = request_id
        return job

    # What stands right behind another comes before those that stood there already.
    names = request_ids if after is None else request_ids[::-1]
    return await _moved(ask, type_, names, change, dry_run)


async def _moved(ask: Asking, type_: str, names: Sequence[str], change: Change, dry_run: bool) -> int:
    async def one(request_id: str) -> None:
        if ask.out.json:
            ask.out.document((await change(request_id)).document)
            return
        before = await ask.client.get(type_, request_id)
        moved = await change(request_id)
        # A move says where it led to only where it is tried.
        after = moved if dry_run else await ask.client.get(type_, request_id)
        led = f"position {before.position} → {after.position}"
        if after.position is None or before.position is None:
            led = f"{place(before)} → {place(after)}"
        elif after.position == before.position:
            led = f"position {after.position}, as before"
        ask.out.line(f"{clean(request_id)}: {clean(led)}{UNCHANGED * dry_run}")

    return await each(names, one)


# --- ends, and what a called job may be told ------------------------------------------------------------


@click.command()
@TYPE
@IDS
@DRY
@asks
async def cancel(ask: Asking, type_: str, request_ids: tuple[str, ...], dry_run: bool) -> int:
    """Cancel waiting jobs, release running ones.

    A running one gives back what it holds, and is done.
    """
    return await _changed(ask, type_, request_ids, _with(ask.client.cancel, type_, dry_run), dry_run)


@click.command()
@TYPE
@IDS
@DRY
@asks
async def done(ask: Asking, type_: str, request_ids: tuple[str, ...], dry_run: bool) -> int:
    """Give back what called or running jobs hold."""
    return await _changed(ask, type_, request_ids, _with(ask.client.done, type_, dry_run), dry_run)


@click.command()
@TYPE
@IDS
@DRY
@asks
async def requeue(ask: Asking, type_: str, request_ids: tuple[str, ...], dry_run: bool) -> int:
    """Put jobs that run, failed or expired back in line.

    They get their old places.
    """
    return await _changed(ask, type_, request_ids, _with(ask.client.requeue, type_, dry_run), dry_run)


@click.command()
@TYPE
@IDS
@DRY
@asks
async def confirm(ask: Asking, type_: str, request_ids: tuple[str, ...], dry_run: bool) -> int:
    """Say that called jobs run, or renew their leases."""
    return await _changed(ask, type_, request_ids, _with(ask.client.confirm, type_, dry_run), dry_run)


@click.command()
@TYPE
@IDS
@asks
async def redeliver(ask: Asking, type_: str, request_ids: tuple[str, ...]) -> int:
    """Call jobs now, and not only at their next try.

    Those whose call is still tried; one that failed is put back in line by `requeue`.
    """
    return await _changed(ask, type_, request_ids, lambda name: ask.client.redeliver(type_, name), False)


def _with(call: Callable[..., Awaitable[Job]], type_: str, dry_run: bool) -> Change:
    return lambda request_id: call(type_, request_id, dry_run=dry_run)


async def _changed(ask: Asking, type_: str, names: Sequence[str], change: Change, dry_run: bool) -> int:
    async def one(request_id: str) -> None:
        if ask.out.json:
            ask.out.document((await change(request_id)).document)
            return
        before = await ask.client.get(type_, request_id)
        after = await change(request_id)
        ask.out.line(f"{clean(request_id)}: {before.status} → {after.status}{UNCHANGED * dry_run}")

    return await each(names, one)


def _say(ask: Asking, job: Job, words: str) -> None:
    if ask.out.json:
        ask.out.document(job.document)
    else:
        ask.out.line(words)
