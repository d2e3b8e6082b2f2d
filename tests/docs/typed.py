"""A reader who types what a page says: its files are written, its commands run, its answers compared."""

import asyncio
import os
import re
import shutil
import socket
import sys
import time
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

# A fenced block: its language, the name of the file that it is, and its text.
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
# A command, which a backslash may continue, and what is shown below it.
COMMAND = re.compile(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
# What is another thing each time.
VARIES = re.compile(r"[0-9]{4}-[0-9-]+T[^\"]+|[0-9]{16}|[0-9]{4}-[0-9]{2}-[0-9]{2}")
# What goes on until somebody ends it.
READS = re.compile(r"curl (?!-X|--json)|redis-cli |(\.venv/bin/)?rqueue (ls|show|pools|events) ")
STAYS = re.compile(r"rqueue serve$|receiver\.py$|^redis-server ")
PORT = re.compile(
    r"(?<=127\.0\.0\.1:)[0-9]{4}\b|(?<=(?:port|PORT)[= ])[0-9]{4}\b|(?<=redis-cli -p )[0-9]{4}\b"
)
WAIT_SECONDS, PAUSE_SECONDS = 15, 0.05


def needs(*programs: str) -> pytest.MarkDecorator:
    """Leave out what types these where they are not installed."""
    missing = [program for program in programs if not shutil.which(program)]
    return pytest.mark.skipif(bool(missing), reason=f"NOT TRIED: {' and '.join(missing)}: not installed")


def free_port() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return str(taken.getsockname()[1])


def _listens_on(command: str) -> str:
    """The page's port of a program that stays."""
    if command.endswith("serve"):
        named = re.search("(?<=RQUEUE_PORT=)[0-9]{4}", command)
        return named[0] if named else "8080"
    named = PORT.search(command)
    return named[0] if named else "9000"


def parts(shown: str) -> list[str]:
    """What must be there of an answer that is shown: what is between the ellipses."""
    return [part.strip() for part in re.split("…|\n", VARIES.sub("…", shown)) if part.strip()]


@dataclass
class Reader:
    """Types in `directory`, whose ports are others than the page's, so that nobody else is in the way."""

    directory: Path
    ports: dict[str, str] = field(default_factory=lambda: {"8080": free_port()})
    left_out: tuple[str, ...] = ()
    stays: list[tuple[Process, Path, str]] = field(default_factory=list)

    def _own(self, text: str) -> str:
        return PORT.sub(lambda found: self.ports.setdefault(found[0], free_port()), text)

    @property
    def _environment(self) -> Mapping[str, str]:
        others = {name: value for name, value in os.environ.items() if not name.startswith("RQUEUE_")}
        return {
            **others,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "RQUEUE_PORT": self.ports["8080"],
            "RQUEUE_URL": f"http://127.0.0.1:{self.ports['8080']}",
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }

    async def reads(self, page: str) -> int:
        """Do all that a page says; returns how many commands that was."""
        typed = 0
        for language, name, text in BLOCK.findall(page):
            if name:
                (self.directory / name).write_text(self._own(text))
            elif language == "console":
                for command, shown in COMMAND.findall(text):
                    if not command.startswith(self.left_out):
                        await self.types(command, shown)
                        typed += 1
        return typed

    async def types(self, command: str, shown: str) -> None:
        """Run a command until it answers what is shown; one that only reads may be asked again for that."""
        words = self._own(command).replace(".venv/bin/", "").replace("curl ", "curl -sS ", 1)
        # As on a terminal, where its answers have numbers.
        words = re.sub("^redis-cli ", "redis-cli --no-raw ", words)
        if STAYS.search(command):
            await self._starts(words, shown, self.ports[_listens_on(command)])
            return
        until = time.monotonic() + (WAIT_SECONDS if READS.match(command) else 0)
        while True:
            process = await self._run(words, PIPE)
            said = (await process.communicate())[0].decode()
            assert process.returncode == 0, (command, said)
            assert '"ok":false' not in said, (command, said)
            if all(part in VARIES.sub("…", said) for part in parts(shown)):
                return
            assert time.monotonic() < until, f"{command}\nshows\n{shown}\nand not\n{said}"
            await asyncio.sleep(PAUSE_SECONDS)

    async def _run(self, words: str, output: int) -> Process:
        return await asyncio.create_subprocess_shell(
            words, cwd=self.directory, env=self._environment, stdout=output, stderr=STDOUT
        )

    async def _starts(self, words: str, shown: str, port: str) -> None:
        """Run what goes on until the end, and come back when it listens."""
        said = self.directory / f"{len(self.stays)}.said"
        with said.open("wb") as output:
            process = await self._run(f"exec env {words}", output.fileno())
        self.stays.append((process, said, shown))
        until = time.monotonic() + WAIT_SECONDS
        while True:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", int(port))
                writer.close()
                return
            assert process.returncode is None, said.read_text()
            assert time.monotonic() < until, f"{words} does not listen: {said.read_text()}"
            await asyncio.sleep(PAUSE_SECONDS)

    async def ends(self) -> None:
        for process, _, _ in reversed(self.stays):
            with suppress(ProcessLookupError):
                process.terminate()
            await process.wait()

    async def hears(self, text: str, number: int = 0, times: int = 1) -> None:
        """Wait until the program that was started as this one has said something so many times."""
        said = self.stays[number][1]
        until = time.monotonic() + WAIT_SECONDS
        while said.read_text().count(text) < times:
            assert time.monotonic() < until, (text, said.read_text())
            await asyncio.sleep(PAUSE_SECONDS)

    async def sees(self) -> None:
        """Wait until the programs that go on have said what is shown of it."""
        for number, (_, _, shown) in enumerate(self.stays):
            for part in parts(self._own(shown)):
                await self.hears(part, number)


@asynccontextmanager
async def reader(directory: Path, *left_out: str) -> AsyncIterator[Reader]:
    """A reader who leaves out the commands that begin so."""
    someone = Reader(directory, left_out=left_out)
    try:
        yield someone
        await someone.sees()
    finally:
        await someone.ends()
