"""Commands that ask the service: what they share of options, of a way to it, and of ends."""

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import click
import orjson

from rqueue.cli.output import Out, say
from rqueue.client import Client, Failed, connected
from rqueue.errors import Refused

# The answer is no; or it was wrongly asked, or not answered.
NO, UNASKED = 1, 2
FORBIDDEN = 403
# A short restart is over by then, and nobody waits long for a service that is not there.
TRIES = 3
# Answers of something else than the service, or of none.
_NOWHERE = ("", "not_found")


@dataclass(frozen=True)
class Asking:
    """What a command has: the service, and where its answer goes."""

    client: Client
    out: Out


def asks(command: Callable[..., Coroutine[Any, Any, int]]) -> Callable[..., None]:
    """Make what click calls of a coroutine function that is given an Asking and returns what to end with."""

    @click.option("--json", "as_json", is_flag=True, help="JSON lines, as the API has it.")
    @click.option("--url", metavar="URL", help="The service; without it RQUEUE_URL says where it is.")
    @click.option(
        "--token-file",
        type=click.Path(path_type=Path),
        help="A file with the token to show; without it it is RQUEUE_TOKEN.",
    )
    @click.option("--no-color", is_flag=True, help="No colours on a terminal either; NO_COLOR does it too.")
    @wraps(command)
    def run(as_json: bool, url: str | None, token_file: Path | None, no_color: bool, **given: Any) -> None:
        async def ask() -> int:
            async with connected(url, read_token(token_file), tries=TRIES) as client:
                return await command(Asking(client, Out(as_json, no_color)), **given)

        try:
            status = asyncio.run(ask())
        except Refused as error:
            say(error.message)
            status = UNASKED
        except Failed as error:
            status = told(error)
        sys.exit(status)

    return run


def read_token(file: Path | None) -> str | None:
    """The token in a file; None without one. Raises Refused."""
    return None if file is None else read_text(str(file)).strip()


def told(error: Failed) -> int:
    """Say why a call did not succeed, and what to do; returns what to end with."""
    advice = ""
    if error.code in _NOWHERE and "RQUEUE_URL" not in error.message:
        advice = "; RQUEUE_URL or --url says where the service is"
    elif error.status == 401:
        advice = "; RQUEUE_TOKEN or --token-file has the token to show"
    say(error.message + advice)
    return NO if is_no(error) else UNASKED


def is_no(error: Failed) -> bool:
    """Whether the service did answer: there is no such thing, or it cannot be as things are."""
    return (error.status in (404, 409) and error.code not in _NOWHERE) or error.code == "queue_full"


async def each(names: Iterable[str], do: Callable[[str], Awaitable[None]]) -> int:
    """Do something to one after the other; where the answer is no, to the others all the same.

    Returns what to end with. Raises Failed where the service was not asked.
    """
    status = 0
    for name in names:
        try:
            await do(name)
        except Failed as error:
            if not is_no(error):
                raise
            status = told(error)
    return status


def read_text(file: str) -> str:
    """What is in a file, or with - on the standard input. Raises Refused."""
    try:
        return (sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()).decode()
    except OSError as error:
        raise Refused(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Refused(f"{file} is not UTF-8") from None


def read_json(text: str, whence: str) -> Any:
    """What JSON says, or @ and the name of a file with it. Raises Refused."""
    if text.startswith("@"):
        text, whence = read_text(text[1:]), text[1:]
    try:
        return orjson.loads(text)
    except ValueError as error:
        raise Refused(f"{whence} is not JSON: {error}") from None


def amounts(written: str) -> dict[str, int | str]:
    """Amounts such as `VCPU=4,Memory=2Gi`, as the API has them. Raises Refused."""
    read: dict[str, int | str] = {}
    for part in written.split(","):
        name, equals, amount = part.rpartition("=")
        if not equals or not name or name in read:
            raise Refused(f"{written!r} is no list of amounts; expected such as VCPU=4,Memory=2Gi")
        read[name] = int(amount) if re.fullmatch("[0-9]{1,18}", amount) else amount
    return read
