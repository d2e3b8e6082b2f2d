"""The table in docs/reliability.md: from docs/reliability.jsonl, to which a run with --record appends.

python -m tests.faults.report   # writes the table anew
"""

import json
import statistics
from pathlib import Path
from typing import Any

from tests.faults.load import Outcome

DOCS = Path(__file__).parents[2] / "docs"
RECORD, PAGE = DOCS / "reliability.jsonl", DOCS / "reliability.md"
BEGIN, END = "<!-- faults: made by `make reliability` -->", "<!-- end -->"
COLUMNS = (
    "what breaks",
    "times",
    "answers a second meanwhile",
    "jobs accepted",
    "lost",
    "beyond capacity",
    "admitted again",
    "called again",
    "503 answered",
    "slowest answer, s",
    "served again after, s",
)


def write(file: Path, fault: str, times: int, outcome: Outcome) -> None:
    """Append what a fault came to."""
    recovered = outcome.recovered
    row = {
        "fault": fault,
        "times": times,
        "rate": round((sum(outcome.answers.values()) - outcome.answers[503]) / outcome.seconds),
        "accepted": outcome.accepted,
        "lost": len(outcome.lost),
        "beyond": outcome.beyond,
        "admitted_again": outcome.admitted_again,
        "called_again": outcome.called_again,
        "unavailable": outcome.answers[503],
        "slowest": round(outcome.slowest, 2),
        "recovered": [round(of(recovered), 2) for of in (statistics.median, max)] if recovered else [],
    }
    with file.open("a") as rows:
        rows.write(json.dumps(row) + "\n")


def table(record: str) -> str:
    """The rows of a record, the newest of each fault, as a table."""
    newest: dict[str, dict[str, Any]] = {}
    for line in record.splitlines():
        row = json.loads(line)
        newest[row["fault"]] = row
    lines = [f"| {' | '.join(COLUMNS)} |", f"| --- |{' ---: |' * (len(COLUMNS) - 1)}"]
    for row in newest.values():
        cells = [
            row["fault"],
            *(f"{row[name]:,}" for name in ("times", "rate", "accepted", "lost", "beyond")),
            *(f"{row[name]:,}" for name in ("admitted_again", "called_again", "unavailable")),
            f"{row['slowest']:g}",
            " to ".join(f"{seconds:g}" for seconds in row["recovered"]) or "at once",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def placed(page: str, rows: str) -> str:
    """A page with this table between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{rows}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(placed(PAGE.read_text(), table(RECORD.read_text())))
