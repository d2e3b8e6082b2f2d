"""The command line in process, in a process of its own, and on a terminal; the service is a real one."""

import asyncio
import fcntl
import os
import pty
import re
import struct
import sys
import termios
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from rqueue.cli import main
from tests.conftest import Service

COMMAND = (sys.executable, "-m", "rqueue")
# Of what a terminal obeys: a colour, or a place of the cursor.
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

Run = Callable[..., Awaitable[Result]]


@pytest.fixture
def rq(service: Service) -> Run:
    """Run a command in process; what it did not expect to happen fails the test."""

    async def run(*words: str, stdin: str | None = None, **environment: str) -> Result:
        known = {"RQUEUE_URL": service.url, "RQUEUE_TOKEN": "", **environment}
        result = await asyncio.to_thread(CliRunner().invoke, main, [*words], input=stdin, env=known)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert "Traceback" not in result.output
        return result

    return run


def documents(result: Result) -> list[Any]:
    """What was written, as JSON lines and nothing else."""
    return [orjson.loads(line) for line in result.stdout.splitlines()]


def environment(url: str, **more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "TERM": "xterm-256color", "RQUEUE_URL": url, **more}


@dataclass
class Terminal:
    """A terminal on which a command runs: what it has shown, and the keys."""

    process: asyncio.subprocess.Process
    master: int
    slave: int
    shown: str
    changed: asyncio.Event

    async def until(self, *texts: str, after: int = 0) -> None:
        """Wait until all of them have been shown, after so many characters."""
        async with asyncio.timeout(20):
            while not all(text in self.shown[after:] for text in texts):
                assert self.process.returncode is None, self.shown
                self.changed.clear()
                await self.changed.wait()

    async def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    async def end(self) -> int:
        async with asyncio.timeout(20):
            return await self.process.wait()

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    @property
    def settings(self) -> list[Any]:
        return termios.tcgetattr(self.slave)


On = Callable[..., AbstractAsyncContextManager[Terminal]]


@pytest.fixture
def on_terminal(service: Service) -> On:
    """Run a command on a terminal of 24 lines of 80 cells; it is ended where it has not."""

    @asynccontextmanager
    async def run(*words: str, url: str = service.url, **more: str) -> AsyncIterator[Terminal]:
        master, slave = pty.openpty()
        # The terminal is that of a session of its own, so that Ctrl-C reaches the command and nobody else.
        claim = f"import fcntl, termios, os; fcntl.ioctl({slave}, termios.TIOCSCTTY, 0); "
        claim += f"os.execv({COMMAND[0]!r}, {[*COMMAND, *words]!r})"
        terminal: Terminal | None = None
        loop = asyncio.get_running_loop()
        try:
            fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", claim),
                stdin=slave,
                stdout=slave,
                stderr=slave,
                pass_fds=[slave],
                start_new_session=True,
                env=environment(url, **more),
            )
            terminal = Terminal(process, master, slave, "", asyncio.Event())

            def read(terminal: Terminal = terminal) -> None:
                with suppress(OSError):
                    terminal.shown += os.read(master, 1 << 16).decode(errors="replace")
                terminal.changed.set()

            loop.add_reader(master, read)
            yield terminal
        finally:
            loop.remove_reader(master)
            if terminal is not None and terminal.process.returncode is None:
                terminal.process.kill()
                await terminal.process.wait()
            os.close(master)
            os.close(slave)

    return run
