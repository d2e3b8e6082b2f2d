"""When a waiting job will start: an estimate from what its pool released while others waited, or none.

While somebody waits in a pool of policy strict, whoever is the next goes as soon as enough was released.
So a job starts when as much was released as those before it and it itself ask for. All amounts are
dominant shares: the largest part that a demand is of all that the pool has of a resource.

Where releases come at random, n of them in a time s tell of their rate as a gamma variable, and the time
until k more is s times a ratio of two of these, a beta prime variable: k s / n times F with 2k and 2n
degrees of freedom (Aitchison and Dunsmore, "Statistical Prediction Analysis", 1975, chapter 2). The time
since the last release counts in s although nothing came of it, as a censored observation does. Releases
that are more regular than random ones count as more of them, or as fewer: k and n are divided by the
index of dispersion (Cox and Lewis, "The Statistical Analysis of Series of Events", 1966, chapter 4),
measured over as many in a row as are to come, as far as there are. Quantiles of F are Paulson's (Annals
of Mathematical Statistics 13, 1942).

Where demands differ, some room is left beside the one that waits, now and when the job starts, and some
of those ahead were not looked at: both make the spread wider.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import orjson

# A basis of fewer releases is none; of so many there is no more to be told from.
FEWEST = 8
MOST = 128
# Fewer than so many random ones, and the spread is so wide that it says nothing.
FEWEST_RANDOM = 3.0
# That releases are random is believed like one stretch of them that was measured.
PRIOR = 1.0
# What is measured of few stretches is too small more often than too large; found by calibration.
WIDER = 1.4
# The standard normal deviate that leaves 10 % on each side.
_TENTH = 1.2815515655446004
SHORT = 256


class Estimate(NamedTuple):
    """Moments in µs: the middle one, and those between which four of five jobs start; and what it is made
    from: so many releases in so many seconds.
    """

    start: int
    early: int
    late: int
    releases: int
    seconds: float

    def basis(self, pool: str) -> str:
        """What it is made from, in words."""
        minutes = self.seconds / 60
        time = f"{minutes:.0f} min" if minutes >= 1 else f"{self.seconds:.0f} s"
        return f"{self.releases} releases of pool {pool} in {time} in which others waited"


class Gap(NamedTuple):
    """The time between two releases while others waited, in µs, and the share that the second one freed."""

    time: int
    share: float


def estimate(
    now: int, ahead: int, demand: str, sampled: Sequence[str], ring: str, bounds: str
) -> Estimate | None:
    """The estimate for a job with so many `ahead` of it, of which some demands are `sampled`.

    None where there is too little to tell from.

    `ring` has a line for each release of a pool, oldest first; `bounds` are the pool's, as JSON.
    """
    gaps, last = gaps_of(ring, bounds)
    count = len(gaps)
    freed = sum(gap.share for gap in gaps)
    if count < FEWEST or freed <= 0:
        return None
    own = share_of(demand, bounds)
    shares = [share_of(one, bounds) for one in sampled]
    mean = sum(shares) / len(shares) if shares else 0.0
    # Up to so much room is left beside one that waits.
    beside = max([own, *shares]) - min([own, *shares])
    to_come = max(ahead * mean + own - beside / 2, own / 2)
    if to_come <= 0:
        return None
    observed = sum(gap.time for gap in gaps)
    span = observed + max(0, now - last)
    # In releases as they were in the mean.
    needed = max(to_come / (freed / count), 0.05)
    dispersion = WIDER * dispersion_of(gaps, needed)
    unknown = beside**2 / 2
    if 1 < len(shares) < ahead:
        # Of those that were not looked at.
        unknown += ahead**2 * sum((share - mean) ** 2 for share in shares) / (len(shares) - 1) / len(shares)
    known = count / dispersion
    if known < FEWEST_RANDOM or span <= 0:
        return None
    come = 1 / (dispersion / needed + unknown / to_come**2)
    middle = needed * span / count
    early, start, late = (now + int(middle * paulson(come, known, z)) for z in (-_TENTH, 0.0, _TENTH))
    return Estimate(start, early, late, count, observed / 1e6)


# Until the next release many ask about the same.
@lru_cache(maxsize=256)
def gaps_of(ring: str, bounds: str) -> tuple[tuple[Gap, ...], int]:
    """The gaps in a ring, and the moment of its last entry. What a hand edit made unreadable is left out."""
    gaps: list[Gap] = []
    last: int | None = None
    for entry in ring.split("\n")[-MOST - 1 :]:
        written, _, demand = entry.partition(" ")
        if not written.isdecimal() or len(written) > 18:
            last = None
            continue
        moment = int(written)
        # One without a demand says that from then on somebody waited.
        if demand and last is not None and moment >= last:
            gaps.append(Gap(moment - last, share_of(demand, bounds)))
        last = moment
    return tuple(gaps), last or 0


def dispersion_of(gaps: Sequence[Gap], needed: float) -> float:
    """How irregular releases are: 1 for random ones, 0 where each share takes the same time."""
    count = len(gaps)
    time, freed = sum(gap.time for gap in gaps), sum(gap.share for gap in gaps)
    if time <= 0:
        return 1.0
    length = max(1, min(round(needed), count // 4))
    pace = time / freed
    # Of each stretch of so many releases, how much longer it took than what it freed takes in the mean.
    sums = [0.0]
    for gap in gaps:
        sums.append(sums[-1] + gap.time - gap.share * pace)
    stretches = [sums[at + length] - sums[at] for at in range(count - length + 1)]
    variance = sum(over * over for over in stretches) / len(stretches)
    # The mean pace is from the same releases, which makes stretches of them look too regular.
    measured = variance / (1 - length / count) / length / (time / count) ** 2
    weight = count / length
    return (weight * measured + PRIOR) / (weight + PRIOR)


def paulson(k: float, n: float, z: float) -> float:
    """About that quantile of F with 2k and 2n degrees of freedom of which the normal deviate is z."""
    a, b = 1 / (9 * k), 1 / (9 * n)
    below = (1 - b) ** 2 - z * z * b
    root = math.sqrt(max(0.0, (1 - a) ** 2 * b + (1 - b) ** 2 * a - z * z * a * b))
    return float(max(0.0, ((1 - a) * (1 - b) + z * root) / below) ** 3)


def share_of(demand: str, bounds: str) -> float:
    """The dominant share of a demand (as it is kept) of what a pool has; 0 for what cannot be read."""
    return (_share if len(demand) <= SHORT else _share.__wrapped__)(demand, bounds)


@lru_cache(maxsize=4096)
def _share(demand: str, bounds: str) -> float:
    asked: dict[str, float] = {}
    try:
        limits = orjson.loads(bounds)
        for count, shape in orjson.loads(demand):
            for resource, amount in shape.items():
                asked[resource] = asked.get(resource, 0) + count * amount
        return float(max(amount / limits[resource][1] for resource, amount in asked.items()))
    except (ValueError, TypeError, AttributeError, LookupError, ZeroDivisionError):
        return 0.0
