"""`rqueue apply`: what files say, made so over HTTP, and shown step by step."""

import asyncio
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console

from rqueue import config, declaration
from rqueue.client import Client, Failed, connected
from rqueue.declaration import Step, There, Wanted
from rqueue.errors import Refused


def run(files: Sequence[str], dry_run: bool, prune: bool, as_json: bool) -> int:
    """Apply files, or show what would change. Returns the exit status, as `rqueue apply --help` has it."""
    try:
        url, token = config.client()
        wanted: dict[str, Wanted] = {}
        for name in files:
            for type_, queue in _read(name).items():
                if type_ in wanted:
                    raise Refused(f"{name}: queue {type_} is in another file too")
                wanted[type_] = queue
        return asyncio.run(_apply(wanted, url, token, dry_run, prune, as_json))
    except (Refused, Failed) as error:
        click.echo(f"rqueue: {error.message}", err=True)
        return 2


def _read(name: str) -> dict[str, Wanted]:
    try:
        content = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        return declaration.read(content)
    except OSError as error:
        raise Refused(f"{name} cannot be read: {error.strerror}") from None
    except Refused as error:
        raise Refused(f"{name}: {error.message}") from None


async def _apply(
    wanted: Mapping[str, Wanted], url: str, token: str, dry_run: bool, prune: bool, as_json: bool
) -> int:
    console = Console()
    async with connected(url, token, tries=3) as client:
        there = {type_: await _there(client, type_) for type_ in wanted}
        steps = declaration.steps(there, wanted, prune)
        if not steps and not as_json:
            click.echo("nothing to change")
        for at, step in enumerate(steps):
            if not dry_run:
                try:
                    await _take(client, step)
                except Failed as error:
                    done = f"; {at} of {len(steps)} changes are made, and it can be run again"
                    raise Failed(f"{step.named}: {error.message}{done}", error.status) from None
            for line, colour in [(_json(step), "")] if as_json else _lines(step):
                console.print(line, style=colour, markup=False, highlight=False, soft_wrap=True, emoji=False)
    return 1 if dry_run and steps else 0


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


def _json(step: Step) -> str:
    ends = step.pool is not None and step.body is None
    changes = [] if ends else [{"what": what, "old": old, "new": new} for what, old, new in step.changes]
    return orjson.dumps({"queue": step.type, "pool": step.pool, "ends": ends, "changes": changes}).decode()
