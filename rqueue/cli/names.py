"""The names that commands are given, completed by the shell from what the service has."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import click

SECONDS = 1.0
MOST = 100
# What every shell takes as it is. It inserts what is completed without quotes, and clients choose the names:
# one such as `a;reboot` would be a command.
SAFE = re.compile(r"[A-Za-z0-9_./@+][-A-Za-z0-9_./@+:,=%]*")


def _completer(
    names: Callable[[Any, str, str], Awaitable[list[str]]],
) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        from rqueue.cli.asking import read_token
        from rqueue.client import Failed, connected
        from rqueue.errors import Refused

        # Before an option that still lacks its value, click leaves the arguments unread.
        type_ = ctx.params.get("type_") or next(iter(ctx.args), "")

        async def ask() -> list[str]:
            token = read_token(ctx.params.get("token_file"))
            async with asyncio.timeout(SECONDS), connected(ctx.params.get("url"), token, tries=1) as client:
                return await names(client, type_, incomplete)

        try:
            found = asyncio.run(ask())
        except (Failed, Refused, TimeoutError):
            return []
        return [name for name in found if name.startswith(incomplete) and SAFE.fullmatch(name)]

    return complete


async def _types(client: Any, type_: str, incomplete: str) -> list[str]:
    return [queue.type for queue in await client.queues()]


async def _request_ids(client: Any, type_: str, incomplete: str) -> list[str]:
    search = incomplete or None
    return [job.request_id async for job in client.jobs(type_, search=search, limit=MOST)]


async def _pools(client: Any, type_: str, incomplete: str) -> list[str]:
    return list((await client.queue(type_)).pools)


types, request_ids, pools = _completer(_types), _completer(_request_ids), _completer(_pools)

TYPE = click.argument("type_", metavar="TYPE", shell_complete=types)
TYPES = click.argument("types_", metavar="TYPE...", nargs=-1, required=True, shell_complete=types)
ID = click.argument("request_id", metavar="ID", shell_complete=request_ids)
IDS = click.argument("request_ids", metavar="ID...", nargs=-1, required=True, shell_complete=request_ids)
