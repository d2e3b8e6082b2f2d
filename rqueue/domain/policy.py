"""How a queue behaves: its settings, their defaults and their bounds.

The one table of queue settings. A setting that is designed but not built is not in it, so that
nobody relies on what would be ignored.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

from rqueue.domain.job import MAX_NAME_BYTES
from rqueue.errors import Invalid, UnknownField

SOURCES = ("declared", "kubernetes", "openstack")
_YEAR = 366 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Settings:
    """A queue's settings; times in whole seconds, None where there is no limit.

    policy          strict: the first waiting job of a pool blocks that pool, and only that pool;
                    backfill: those behind it that fit may go;
                    fair: the owner with the smallest dominant share goes first
    patience        for how long others may go before the first one in line (backfill, fair)
    paused          nothing is admitted; all else goes on
    call_deadline   how long a callback is tried before the job fails and its capacity is freed
    lease_seconds   how long a running job keeps its capacity without renewing; None: until it ends
    retention       how long an ended job can still be read, and its request_id stays taken
    default_pool    the pool of a job that neither names one nor belongs to one by its project
    source          declared: capacity is what operators say it is; else what the cluster says
    hold_seconds    after how long since its callback was answered a job's use is known to its source
    stale_after     how old what a source said may be; older, nobody is admitted
    max_queued      how many jobs may wait; None: as many as there is memory for
    """

    policy: str = "strict"
    patience: int = 600
    paused: bool = False
    call_deadline: int = 600
    lease_seconds: int | None = None
    retention: int = 24 * 3600
    default_pool: str = "default"
    source: str = "declared"
    hold_seconds: int = 300
    stale_after: int = 60
    max_queued: int | None = None

    def changed(self, asked: dict[str, Any]) -> "Settings":
        """These settings with those that are asked for; null gives one its default back.

        Raises UnknownField or Invalid, naming the field.
        """
        known = {field.name: field for field in fields(self)}
        values: dict[str, Any] = {}
        for name, value in asked.items():
            if name not in known:
                raise UnknownField(f"there is no setting {name[:40]!r}; there are {', '.join(known)}", name)
            values[name] = known[name].default if value is None else _checked(name, value)
        return replace(self, **values)


# setting → its smallest and its largest value.
BOUNDS = {
    "patience": (0, _YEAR),
    "call_deadline": (1, _YEAR),
    "lease_seconds": (1, _YEAR),
    "retention": (0, _YEAR),
    "hold_seconds": (0, _YEAR),
    "stale_after": (1, _YEAR),
    "max_queued": (0, 2**53 - 1),
}
CHOICES = {"policy": ("strict", "backfill", "fair"), "source": SOURCES}


def _checked(name: str, value: object) -> object:
    if name in BOUNDS:
        low, high = BOUNDS[name]
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise Invalid(f"expected a whole number from {low} to {high}", name)
    elif name in CHOICES:
        if value not in CHOICES[name]:
            raise Invalid(f"expected one of: {', '.join(CHOICES[name])}", name)
    elif name == "paused":
        if not isinstance(value, bool):
            raise Invalid("expected true or false", name)
    elif not isinstance(value, str) or not 0 < len(value.encode()) <= MAX_NAME_BYTES:
        raise Invalid(f"expected a string of 1 to {MAX_NAME_BYTES} bytes", name)
    return value
