"""What commands show: tables, moments, amounts. What others wrote is shown, and never obeyed."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import click
import orjson
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TimeElapsedColumn

# After so long people wonder whether it hangs.
PROGRESS_SECONDS = 1.0
ROOMY = 100
# Text, and how it is coloured: by click.style's names.
Cell = tuple[str, str]
STYLES: Mapping[str, str] = {
    "queued": "yellow",
    "calling": "cyan",
    "running": "green",
    "done": "bright_black",
    "cancelled": "bright_black",
    "failed": "red",
    "expired": "red",
}


def clean(text: str) -> str:
    """Text as it can be shown: what a terminal would obey, or nobody would see, is escaped.

    Names may hold anything: the end of a line, an escape sequence, a change of direction.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def say(message: str) -> None:
    """One line on the standard error."""
    click.echo(f"rqueue: {clean(message)}", err=True)


def now() -> datetime:
    """By this machine's clock."""
    return datetime.now(UTC)


def span(seconds: float) -> str:
    """A time in at most two units: 42s, 12m, 3h20m, 2d4h."""
    whole = max(0, int(seconds))
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days}d{hours}h" if hours else f"{days}d"
    if whole >= 3600:
        return f"{hours}h{minutes}m" if minutes else f"{hours}h"
    return f"{minutes}m" if minutes else f"{whole}s"


def age(moment: datetime) -> str:
    """How long ago that was."""
    return span((now() - moment).total_seconds())


def at(moment: datetime) -> str:
    """A moment by the clock on the wall here."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def bar(share: float, width: int = 10) -> str:
    """A share from 0 to 1 as a bar: empty only at 0, full only at 1."""
    filled = min(width if share >= 1 else width - 1, -int(-share * width // 1))
    return "█" * filled + "░" * (width - filled)


@dataclass(frozen=True)
class Column:
    """A column; on a terminal that is too narrow it is cut to `least` cells, not at all where that is 0.

    One that is `roomy` is left out where a line has less than ROOMY cells.
    """

    title: str
    least: int = 0
    right: bool = False
    roomy: bool = False


class Out:
    """The standard output: for people, or JSON lines; coloured on a terminal only."""

    def __init__(self, as_json: bool = False, no_color: bool = False) -> None:
        self.json = as_json
        # Rich knows NO_COLOR, TERM and the size.
        self.console = Console(no_color=no_color or None, markup=False, highlight=False, emoji=False)
        self._coloured = self.console.color_system is not None and not self.console.no_color and not as_json

    @property
    def live(self) -> bool:
        """Whether somebody looks at a terminal that can show the same place anew."""
        return sys.stdout.isatty() and not self.console.is_dumb_terminal and not self.json

    @property
    def height(self) -> int | None:
        """How many lines there is room for; None where nothing limits them."""
        return self.console.height if sys.stdout.isatty() and not self.json else None

    @property
    def width(self) -> int | None:
        """How many cells a line has; None where nothing limits it."""
        return self.console.width if sys.stdout.isatty() else None

    def paint(self, text: str, style: str) -> str:
        """Coloured text, where there are colours."""
        if not style or not self._coloured or not text:
            return text
        return click.style(text, bold=True) if style == "bold" else click.style(text, fg=style)

    def line(self, text: str = "") -> None:
        """Write a line, as it is."""
        sys.stdout.write(text + "\n")

    def document(self, document: Any) -> None:
        """Write a line of JSON."""
        self.line(orjson.dumps(document).decode())

    def flush(self) -> None:
        """Have whoever reads see it now."""
        sys.stdout.flush()

    @contextmanager
    def progress(self, doing: str, few_lines: bool = False) -> Iterator[Callable[[int], None]]:
        """Show on the standard error how much of something is done, once it has taken a second.

        Where lines go to a terminal meanwhile they show it themselves, unless there are only a few.
        """
        console, seen = Console(stderr=True, markup=False), sys.stdout.isatty()
        columns = (SpinnerColumn(), "{task.description}", "{task.completed}", TimeElapsedColumn())
        shown = Progress(*columns, console=console, transient=True, redirect_stdout=seen)
        began, started = time.monotonic(), False
        task = shown.add_task(doing, total=None)
        possible = console.is_terminal and (few_lines or not seen)

        def advance(count: int) -> None:
            nonlocal started
            shown.advance(task, count)
            if possible and not started and time.monotonic() - began > PROGRESS_SECONDS:
                started = True
                shown.start()

        try:
            yield advance
        finally:
            if started:
                shown.stop()


class Table:
    """Rows in columns that are as wide as what was seen so far; on a terminal, cut to its width."""

    def __init__(self, out: Out, *columns: Column) -> None:
        self._out = out
        narrow = out.width is not None and out.width < ROOMY
        self._places = [place for place, column in enumerate(columns) if not (narrow and column.roomy)]
        self._columns = [columns[place] for place in self._places]
        self._widths = [cell_len(column.title) for column in self._columns]
        self._head = True

    def lines(self, rows: Sequence[Sequence[str | Cell]]) -> Iterator[str]:
        """The next rows as lines, before the first of them the titles."""
        cells = [[_cell(row[place]) for place in self._places] for row in rows]
        for place in range(len(self._columns)):
            self._widths[place] = max([self._widths[place], *(cell_len(row[place][0]) for row in cells)])
        self._shrink()
        if self._head:
            self._head = False
            yield self._row([(column.title, "bold") for column in self._columns])
        yield from map(self._row, cells)

    def write(self, rows: Sequence[Sequence[str | Cell]]) -> None:
        """Write the next rows."""
        for line in self.lines(rows):
            self._out.line(line)

    def _shrink(self) -> None:
        if self._out.width is None:
            return
        least = [column.least or width for column, width in zip(self._columns, self._widths, strict=True)]
        excess = sum(self._widths) + 2 * (len(self._widths) - 1) - self._out.width
        for _ in range(excess):
            spare = [max(0, width - most) for width, most in zip(self._widths, least, strict=True)]
            if not any(spare):
                return
            # Always the widest of those that may be narrower.
            widest = max(range(len(spare)), key=lambda place: self._widths[place] if spare[place] else 0)
            self._widths[widest] -= 1

    def _row(self, cells: Sequence[Cell]) -> str:
        shown = []
        for (text, style), width, column in zip(cells, self._widths, self._columns, strict=True):
            fits = cell_len(text) <= width
            padding = " " * (width - cell_len(text)) if fits else ""
            painted = self._out.paint(text if fits else set_cell_size(text, width - 1) + "…", style)
            shown.append(padding + painted if column.right else painted + padding)
        return "  ".join(shown).rstrip()


def _cell(cell: str | Cell) -> Cell:
    text, style = (cell, "") if isinstance(cell, str) else cell
    return clean(text), style
