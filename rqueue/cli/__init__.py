"""The command line: `main` is all of it. A room is imported when one of its commands is needed.

What commands end with is the same everywhere, see docs/cli.md: 0 done, 1 the answer is no, 2 wrongly asked or
not answered, 130 by Ctrl-C, 141 since nobody reads.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from rqueue import __version__

INTERRUPTED, UNREAD = 130, 141


class Rooms(click.Group):
    """A group of commands that are in modules of this package: title → module, its commands."""

    def __init__(self, rooms: Sequence[tuple[str, str, tuple[str, ...]]], **options: Any) -> None:
        super().__init__(**options)
        self._rooms = rooms

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for _, _, names in self._rooms for name in names]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for _, module, names in self._rooms:
            if cmd_name in names:
                command = getattr(import_module(f"{__name__}.{module}"), cmd_name)
                return command if isinstance(command, click.Command) else None
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.list_commands(ctx)))
        for title, _, names in self._rooms:
            commands = [(name, self.get_command(ctx, name)) for name in names]
            shown = [
                (name.ljust(width), command.get_short_help_str(formatter.width - width - 6))
                for name, command in commands
                if command is not None and not command.hidden
            ]
            with formatter.section(title):
                formatter.write_dl(shown)

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


main = Rooms(
    (
        ("The line", "jobs", ("ls", "show", "create", "update")),
        ("Moves", "moves", ("front", "back", "move", "cancel", "done", "confirm", "requeue", "redeliver")),
        ("Capacity", "capacity", ("pools", "pause", "resume", "simulate", "apply")),
        ("Live", "live", ("watch", "top", "events")),
        ("The service", "serving", ("serve", "worker", "healthcheck", "check", "demo")),
        ("This command", "shell", ("token", "completion")),
    ),
    name="rqueue",
    help="rqueue: the waiting line for scarce cluster capacity.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
click.version_option(__version__)(main)
