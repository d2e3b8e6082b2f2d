"""What is the same of all commands: help that comes quickly, completion by the shell, names."""

import asyncio
import subprocess
import sys
from importlib import import_module

import click
from click.shell_completion import ShellComplete

from rqueue.cli import ROOMS, main
from rqueue.cli.output import clean, span
from rqueue.cli.shell import VARIABLE
from tests.cli.conftest import Run
from tests.conftest import Service, new

COMMANDS = {name: said for room in ROOMS.values() for found in room.values() for name, said in found.items()}


def test_every_command_is_one_and_begins_with_its_line_of_help() -> None:
    for room in ROOMS.values():
        for module, commands in room.items():
            for name, said in commands.items():
                command = getattr(import_module(f"rqueue.cli.{module}"), name)
                assert isinstance(command, click.Command)
                assert (command.help or "").startswith(said.rstrip(".")), name
                assert command.hidden is not bool(said)


def test_help_imports_nothing_that_is_slow() -> None:
    code = (
        "import sys; from rqueue.cli import main; main(['--help'], standalone_mode=False); "
        "print(sorted({'aiohttp', 'redis', 'rich', 'marshmallow', 'asyncio'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for name, said in COMMANDS.items():
        assert (f"  {name} " in done.stdout) is bool(said)


async def test_the_shell_completes_what_there_is(rq: Run, service: Service, monkeypatch) -> None:
    monkeypatch.setenv("RQUEUE_URL", service.url)
    await service.call("PUT", "/queues/vm/pools/p1", {"hosts": {}})
    await service.store.create("vm", [new(name) for name in ("job-1", "job-2", "other", "日本語")])
    # A shell would take what is completed as it stands.
    await service.store.create("vm", [new(name) for name in ("job;reboot", "job$(id)", "job two", "-job")])

    async def completed(*words: str) -> list[str]:
        *before, incomplete = words
        found = ShellComplete(main, {}, "rqueue", VARIABLE).get_completions
        return [item.value for item in await asyncio.to_thread(found, before, incomplete)]

    assert await completed("se") == ["serve"]
    assert await completed("worke") == []
    assert await completed("ls", "") == ["vm"]
    assert await completed("ls", "g") == []
    assert await completed("show", "vm", "job") == ["job-1", "job-2"]
    assert await completed("show", "vm", "") == ["job-1", "job-2", "other"]
    assert await completed("cancel", "vm", "other", "job-") == ["job-1", "job-2"]
    assert await completed("move", "vm", "job-1", "--after", "o") == ["other"]
    assert await completed("pools", "vm", "") == ["p1"]
    assert await completed("ls", "--status", "run") == ["running"]
    assert await completed("ls", "--url", "http://127.0.0.1:1", "") == []
    assert await completed("ls", "--token-file", "/nowhere", "") == []


async def test_each_shell_gets_its_script(rq: Run) -> None:
    for shell in ("bash", "zsh", "fish"):
        result = await rq("completion", shell)
        assert result.exit_code == 0
        assert VARIABLE in result.stdout
    assert (await rq("completion", "tcsh")).exit_code == 2


def test_times_are_short() -> None:
    seconds = {-5: "0s", 0: "0s", 59.9: "59s", 60: "1m", 3599: "59m", 3600: "1h", 5400: "1h30m"}
    seconds |= {86400: "1d", 90000: "1d1h", 10 * 86400 + 60: "10d"}
    assert {given: span(given) for given in seconds} == seconds


def test_what_cannot_be_seen_is_escaped() -> None:
    assert clean("日本語 [b] é") == "日本語 [b] é"
    assert clean("a\u200bb\x9b31m\ue000") == r"a\u200bb\x9b31m\ue000"
