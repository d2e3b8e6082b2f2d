"""The README's commands, typed as they stand there, do what it says."""

import asyncio
import json
import re
import shutil
from pathlib import Path

import pytest

from tests.process import running

README = Path(__file__).parents[2] / "README.md"
# A command, which a backslash may continue, and the line below it: its answer, where one is shown.
COMMAND = re.compile(r"^\$ ((?:curl|redis-cli) (?:.*\\\n)*.*)\n(?=(.*))", re.MULTILINE)
VARIES = re.compile(r'[0-9]{4}-[0-9-]+T[^"]+|[0-9]{16}')
NEEDED = ("curl", "redis-cli")


@pytest.mark.skipif(
    not all(map(shutil.which, NEEDED)), reason=f"NOT TRIED: {' and '.join(NEEDED)} are not both installed"
)
async def test_every_command_answers_what_is_shown(tmp_path: Path) -> None:
    commands = COMMAND.findall(README.read_text())
    assert len(commands) > 10
    async with running(tmp_path / "rqueue-data") as service:
        for command, shown in commands:
            typed = command.replace("http://127.0.0.1:8080", service.url).replace("curl ", "curl -sS ", 1)
            process = await asyncio.create_subprocess_shell(
                typed, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
            )
            said = (await process.communicate())[0].decode()
            assert process.returncode == 0, (command, said)
            assert said.strip(), command
            assert command.startswith("redis-cli") or json.loads(said)["ok"], said
            answer = shown if shown.startswith("{") else ""
            for part in VARIES.sub("…", answer).split(" … "):
                assert part in VARIES.sub("…", said), command
