"""The command line: `main` is all of it. A room is imported only when one of its commands is run.

What commands end with is the same everywhere, see docs/cli.md: 0 done, 1 the answer is no, 2 wrongly asked or
not answered, 130 by Ctrl-C, 141 since nobody reads.
"""

import os
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem

from rqueue import __version__

INTERRUPTED, UNREAD = 130, 141

# Title → module → its commands, each with a line of help; without one it is not shown.
Rooms = Mapping[str, Mapping[str, Mapping[str, str]]]
ROOMS: Rooms = {
    "The line": {
        "jobs": {
            "ls": "Show the queues, or the jobs of one in order.",
            "show": "Show a job: its place, why it waits, and what happened to it.",
        },
        "changes": {
            "create": "Put jobs into the line.",
            "update": "Change what a waiting job asks for, or whom it calls.",
            "front": "Make waiting jobs the next ones.",
            "back": "Make waiting jobs the last ones.",
            "move": "Move waiting jobs next to another one, or to a priority.",
            "cancel": "Cancel waiting jobs, release running ones.",
            "confirm": "Say that called jobs run, or renew their leases.",
            "done": "Give back what called or running jobs hold.",
            "requeue": "Put jobs that run, failed or expired back in line.",
            "redeliver": "Call jobs now, and not only at their next try.",
        },
    },
    "Capacity": {
        "capacity": {
            "pools": "Show pools: what their hosts have, and what is used.",
            "pause": "Admit nobody; all else goes on.",
            "resume": "Admit again.",
            "simulate": "Show who would be admitted if some things were different.",
        },
        "files": {"apply": "Make queues and pools what files say."},
    },
    "Live": {
        "live": {
            "watch": "Show a queue's line as it changes.",
            "events": "Show what happened, and with --follow what happens.",
        },
        "overview": {
            "top": "Show all queues as they change.",
        },
    },
    "The service": {
        "serving": {
            "serve": "Run the service.",
            "worker": "",
            "healthcheck": "Ask whether the service that runs here is ready.",
            "check": "Find what the keys in Redis do not agree about.",
            "demo": "Show the main job on a service of its own.",
        },
        "tokens": {"token": "Make tokens for RQUEUE_TOKENS_FILE."},
        "shell": {"completion": "Print what has a shell complete commands and jobs."},
    },
}


class Main(click.Group):
    """All commands, by the table above."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._helps())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for room in ROOMS.values():
            for module, commands in room.items():
                if cmd_name in commands:
                    found = getattr(import_module(f"{__name__}.{module}"), cmd_name)
                    return found if isinstance(found, click.Command) else None
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        helps = self._helps()
        for title, room in ROOMS.items():
            with formatter.section(title):
                names = [name for commands in room.values() for name in commands if helps[name]]
                formatter.write_dl([(name.ljust(max(map(len, helps))), helps[name]) for name in names])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        # Without a look at the commands themselves, which would import all of them at each TAB.
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [
            CompletionItem(name, help=said)
            for name, said in self._helps().items()
            if said and name.startswith(incomplete)
        ]

    def invoke(self, ctx: click.Context) -> Any:
        if hasattr(sys.stdout, "reconfigure"):
            # A name that the terminal's encoding does not have must not end a list.
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            try:
                return super().invoke(ctx)
            finally:
                sys.stdout.flush()
        except BrokenPipeError:
            # What is still to be written at the end of the process would complain again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(UNREAD)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)

    @staticmethod
    def _helps() -> dict[str, str]:
        return {
            name: said
            for room in ROOMS.values()
            for commands in room.values()
            for name, said in commands.items()
        }


@click.group(cls=Main, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """rqueue: the waiting line for scarce cluster capacity.

    Commands that ask the service find it by RQUEUE_URL (http://127.0.0.1:8080), and show it the token
    RQUEUE_TOKEN. They end with 0 when it is done, 1 when the answer is no, 2 when it was not asked.
    """
