"""What happened in a type, as its stream and a job's history tell it.

The ID of an event is that of its entry in the stream, `<ms since 1970>-<n>`: later events have larger ones.
"""

import re
from dataclasses import dataclass
from typing import Any, NamedTuple

from rqueue.domain.job import MAX_MOMENT, written

# A type's stream is capped at about so many.
KEPT = 10_000
# A job's history at so many, the newest.
KEPT_OF_JOB = 100
# Said to who follows a stream in place of events that are not there any more.
MISSED = "missed"
# What came before the first one.
START = "0-0"

# No stream comes so far, and Redis refuses what is behind its largest.
ID = "[0-9]{1,18}(?:-[0-9]{1,18})?"


class Event(NamedTuple):
    """One event; what does not apply is empty."""

    id: str
    what: str
    request_id: str = ""
    owner_id: str = ""
    from_: str = ""
    to: str = ""
    actor: str = ""
    why: str = ""

    def document(self) -> dict[str, Any]:
        """The event as clients see it; `at` is the moment that its ID tells, in milliseconds."""
        milliseconds, _ = place(self.id)
        return {
            "id": self.id,
            "at": written(min(milliseconds * 1000, MAX_MOMENT)),
            "what": self.what,
            "request_id": self.request_id,
            "owner_id": self.owner_id,
            "from": self.from_,
            "to": self.to,
            "actor": self.actor,
            "why": self.why,
        }


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events somebody is told: of one job where it is named, of some owners' jobs where they are."""

    request_id: str = ""
    owners: frozenset[str] | None = None

    def takes(self, event: Event) -> bool:
        """Whether this is one of them. Those of no job are of no owner."""
        if self.owners is not None and event.owner_id not in self.owners:
            return False
        return not self.request_id or event.request_id == self.request_id


def is_id(text: str) -> bool:
    """Whether this may be an event's ID, or its milliseconds alone."""
    return re.fullmatch(ID, text) is not None


def place(id_: str) -> tuple[int, int]:
    """An ID by which events are in order."""
    milliseconds, _, number = id_.partition("-")
    return int(milliseconds), int(number or 0)
