"""`rqueue apply`: what files say, made so over HTTP, and shown step by step."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import orjson

from rqueue import declaration
from rqueue.cli.asking import UNASKED, Asking, asks, told
from rqueue.cli.output import clean
from rqueue.client import Client, Failed
from rqueue.declaration import Step, There, Wanted
from rqueue.errors import Refused

WOULD_CHANGE = 1


@click.command()
@click.option(
    *("-f", "--file", "files"),
    multiple=True,
    required=True,
    help="YAML of queues and pools; again for more; - is the standard input.",
)
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@click.option("--prune", is_flag=True, help="End pools, and reset settings, that the queues do not name.")
@asks
async def apply(ask: Asking, files: Sequence[str], dry_run: bool, prune: bool) -> int:
    """Make queues and pools what files say.

    \b
    Status 0: it is so now; with --dry-run: it is so already.
    Status 1: with --dry-run: something would change.
    Status 2: it could not be done, or not all of it; what was done is shown.
    """
    wanted: dict[str, Wanted] = {}
    for name in files:
        for type_, queue in _read(name).items():
            if type_ in wanted:
                raise Refused(f"{name}: queue {type_} is in another file too")
            wanted[type_] = queue
    try:
        there = {type_: await _there(ask.client, type_) for type_ in wanted}
    except Failed as error:
        told(error)
        return UNASKED
    steps = declaration.steps(there, wanted, prune)
    if not steps and not ask.out.json:
        ask.out.line("nothing to change")
    for at, step in enumerate(steps):
        if not dry_run:
            try:
                await _take(ask.client, step)
            except Failed as error:
                done = f"; {at} of {len(steps)} changes are made, and it can be run again"
                error.message = f"{step.named}: {error.message}{done}"
                told(error)
                return UNASKED
        if ask.out.json:
            ask.out.document(_document(step))
        else:
            for line, style in _lines(step):
                ask.out.line(ask.out.paint(clean(line), style))
    return WOULD_CHANGE if dry_run and steps else 0


def _read(name: str) -> dict[str, Wanted]:
    try:
        content = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        return declaration.read(content)
    except OSError as error:
        raise Refused(f"{name} cannot be read: {error.strerror}") from None
    except Refused as error:
        raise Refused(f"{name}: {error.message}") from None


async def _there(client: Client, type_: str) -> There:
    queue = await client.queue(type_)
    pools = {name: (await client.pool(type_, name)).document for name in queue.pools}
    return There({name: queue.settings[name] for name in declaration.SETTINGS}, pools)


async def _take(client: Client, step: Step) -> None:
    if step.pool is None:
        await client.configure(step.type, step.body or {})
    elif step.body is None:
        await client.delete_pool(step.type, step.pool)
    else:
        await client.put_pool(step.type, step.pool, step.body)


def _lines(step: Step) -> Iterator[tuple[str, str]]:
    if step.pool is not None and step.body is None:
        yield f"- {step.named}", "red"
        return
    yield step.named, "bold"
    for what, old, new in step.changes:
        if old is None and step.pool is not None:
            yield f"  + {what}{_shown(new)}", "green"
        elif new is None and step.pool is not None:
            yield f"  - {what}{_shown(old)}", "red"
        else:
            yield f"  ~ {what}{_shown(old)} -> {orjson.dumps(new).decode()}", "yellow"


def _shown(value: Any) -> str:
    # That a project is there says its name.
    return "" if value is True else f": {orjson.dumps(value).decode()}"


def _document(step: Step) -> dict[str, Any]:
    ends = step.pool is not None and step.body is None
    changes = [] if ends else [{"what": what, "old": old, "new": new} for what, old, new in step.changes]
    return {"queue": step.type, "pool": step.pool, "ends": ends, "changes": changes}
