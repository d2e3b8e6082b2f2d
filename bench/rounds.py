"""What every row is given, and how its sides are measured in turn."""

import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from bench.load import Load
from bench.scale import Scale
from bench.servers import Servers


@dataclass(frozen=True, slots=True)
class Sides:
    """What a line of the table found: a figure, and where it has one a reference, for each round."""

    figure: list[float]
    reference: list[float] = field(default_factory=list)


# Of each line by its name: what was found, or why nothing was.
Found = dict[str, Sides | str]


@dataclass(frozen=True)
class Point:
    """One dot of a growth plot: waiting jobs, and the median and the 99th of each round."""

    size: int
    p50: list[float]
    p99: list[float]


@dataclass
class Run:
    """One run: how much, its servers, and what the plots show.

    `growth` is of each kind of work (milliseconds, for memory bytes); `soak` is MiB, second by second.
    """

    scale: Scale
    servers: Servers
    growth: dict[str, list[Point]] = field(default_factory=dict)
    soak: list[float] = field(default_factory=list)

    @property
    def numbers(self) -> range:
        """The numbers of the rounds, from 1; before them 0 to warm up, which does not count."""
        return range(0 if self.scale.warm_up else 1, self.scale.rounds + 1)

    async def alternately(self, **sides: Callable[[int, float], Awaitable[Load]]) -> dict[str, list[Load]]:
        """Measure every side once in each round, since the speed of a small machine drifts.

        A side is called with the number of the round, and the seconds that it may take.
        """
        found: dict[str, list[Load]] = {name: [] for name in sides}
        for number in self.numbers:
            for name, measure in sides.items():
                load = await measure(number, self.scale.seconds if number else self.scale.warm_up)
                if number:
                    found[name].append(load)
        return found


def rates(loads: list[Load]) -> list[float]:
    """Answers per second of each round."""
    return [load.rate for load in loads]


def say(what: str) -> None:
    """Tell whoever waits what happens now."""
    print(f"bench: {what}", file=sys.stderr, flush=True)
