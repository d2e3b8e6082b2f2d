"""A terminal that shows the same place anew, until somebody ends it."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

from rich.live import Live
from rich.text import Text

from rqueue.cli.output import Out, clean
from rqueue.client import Failed

# However much happens, nobody reads more often.
PAUSE_SECONDS = 0.4

Draw = Callable[[], Awaitable[list[str]]]
Work = Coroutine[Any, Any, Any]


async def keep_showing(out: Out, draw: Draw, seconds: float, woken: asyncio.Event, *beside: Work) -> None:
    """Fill the terminal with what is drawn, again after so many seconds or when woken, until Ctrl-C.

    What is to be done beside it is. A service that goes away is waited for, and said in the first line.
    Raises what ends the first look, or what is done beside; Failed for what the service refuses.
    """
    lines = await draw()
    asyncio.get_running_loop().add_signal_handler(signal.SIGWINCH, woken.set)
    with Live(console=out.console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:

        async def show() -> None:
            nonlocal lines
            while True:
                text = Text.from_ansi("\n".join(lines[: out.console.height]), no_wrap=True, overflow="crop")
                live.update(text, refresh=True)
                await asyncio.sleep(PAUSE_SECONDS)
                with suppress(TimeoutError):
                    await asyncio.wait_for(woken.wait(), seconds)
                woken.clear()
                try:
                    lines = await draw()
                except Failed as error:
                    if not is_away(error):
                        raise
                    lines[0] = out.paint(clean(f"away: {error.message}"), "red")

        await until_ended(show(), *beside)


async def until_ended(*work: Work) -> None:
    """Do all of it until Ctrl-C, or until some of it ends. Raises what that raises."""
    ended, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, ended.set)
    tasks = [asyncio.ensure_future(one) for one in (ended.wait(), *work)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


def is_away(error: Failed) -> bool:
    """Whether it may be there again soon."""
    return error.status in (0, 408, 429) or error.status >= 500
