"""The table: medians with their spread, ratios, verdicts; as text and as markdown."""

from dataclasses import dataclass
from statistics import median

from bench.rounds import Found, Sides
from bench.rows import Line

MUST, AIM, NOT, NONE = "must met", "aim met", "not met", ""
HEADINGS = ("work", "figure", "reference", "ratio", "must", "aim", "verdict")


@dataclass(frozen=True, slots=True)
class Result:
    """A line of the table with what was found: of each a value for every round.

    `missing` says why there is nothing, and then the others are empty.
    """

    line: Line
    figure: list[float]
    reference: list[float]
    missing: str = ""

    @property
    def ratios(self) -> list[float]:
        """Figure by reference, round by round: a machine that slows down slows both."""
        return (
            [one / other for one, other in zip(self.figure, self.reference, strict=True)]
            if self.reference
            else []
        )

    @property
    def verdict(self) -> str:
        """How the median of the ratios, or of the figures, stands to the goals."""
        if self.missing or self.line.must is self.line.aim is None:
            return NONE
        judged = median(self.ratios or self.figure)
        if self.line.aim is not None and self._reaches(judged, self.line.aim):
            return AIM
        if self.line.must is not None and self._reaches(judged, self.line.must):
            return MUST
        return NOT

    def _reaches(self, value: float, goal: float) -> bool:
        return value <= goal if self.line.at_most else value >= goal


def results(lines: tuple[Line, ...], found: Found | str) -> list[Result]:
    """The lines of a row with what it found, or the reason why it found nothing."""
    result = []
    for line in lines:
        sides = found if isinstance(found, str) else found[line.name]
        if isinstance(sides, Sides):
            result.append(Result(line, sides.figure, sides.reference))
        else:
            result.append(Result(line, [], [], sides))
    return result


def number(value: float) -> str:
    """Three digits that count, or all before the point."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def spread(values: list[float], unit: str = "") -> str:
    """The median, and where there are several the smallest and the largest."""
    if not values:
        return ""
    middle = f"{number(median(values))}{unit if unit.startswith('/') else f' {unit}' if unit else ''}"
    return f"{middle} ({number(min(values))}..{number(max(values))})" if len(values) > 1 else middle


def cells(result: Result, sizes: dict[str, object]) -> list[str]:
    """A line of the table, under HEADINGS."""
    line = result.line
    sign = "≤" if line.at_most else "≥"
    goals = ["" if goal is None else f"{sign} {goal:,g}" for goal in (line.must, line.aim)]
    work = line.work.format(**sizes)
    if result.missing:
        return [work, "not measured", result.missing, "", *goals, ""]
    named = line.reference.format(**sizes)
    reference = f"{named}: {spread(result.reference, line.unit)}" if named else ""
    return [work, spread(result.figure, line.unit), reference, spread(result.ratios), *goals, result.verdict]


def as_text(table: list[list[str]], headings: tuple[str, ...] = HEADINGS) -> str:
    """The table for a terminal, its columns as wide as they must be."""
    rows = [list(headings), *table]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def as_markdown(table: list[list[str]], headings: tuple[str, ...] = HEADINGS) -> str:
    """The table for the docs."""
    rows = [list(headings), ["---"] * len(headings), *table]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
