"""Estimates from rings of releases that are written by hand."""

import random

import pytest

from rqueue.domain import estimate as module
from rqueue.domain.estimate import FEWEST, dispersion_of, estimate, gaps_of, paulson, share_of

BOUNDS = '{"slots":[4,8]}'
ONE = '[[1,{"slots":1}]]'
SECOND = 1_000_000
NOW = 1_800_000_000 * SECOND


def ring(*seconds_ago: float, demand: str = ONE) -> str:
    """A line that began to wait, and releases since."""
    first, *others = seconds_ago
    moments = [NOW - int(ago * SECOND) for ago in others]
    return "\n".join([str(NOW - int(first * SECOND)), *(f"{moment} {demand}" for moment in moments)])


def regular(count: int, every: float = 10) -> str:
    return ring(*(every * n for n in range(count, -1, -1)))


def seconds(moment: int) -> float:
    return (moment - NOW) / SECOND


def test_what_is_released_regularly_is_told_narrowly() -> None:
    found = estimate(NOW, 5, ONE, [ONE] * 5, regular(60), BOUNDS)
    assert found is not None
    assert seconds(found.start) == pytest.approx(60, rel=0.1)
    assert 35 < seconds(found.early) < seconds(found.start) < seconds(found.late) < 95
    assert (found.releases, found.seconds) == (60, 600)
    assert found.basis("p") == "60 releases of pool p in 10 min in which others waited"


def test_what_is_released_at_random_is_told_less_narrowly() -> None:
    chance = random.Random(1)
    moments = sorted(chance.uniform(0, 600) for _ in range(60))[::-1]
    found = estimate(NOW, 5, ONE, [ONE] * 5, ring(600, *moments), BOUNDS)
    narrow = estimate(NOW, 5, ONE, [ONE] * 5, regular(60), BOUNDS)
    assert found is not None
    assert narrow is not None
    assert found.late - found.early > 1.3 * (narrow.late - narrow.early)


def test_it_counts_what_those_ahead_ask_for() -> None:
    four = '[[2,{"slots":2}]]'
    small = estimate(NOW, 10, ONE, [ONE] * 10, regular(60), BOUNDS)
    large = estimate(NOW, 10, ONE, [four] * 10, regular(60), BOUNDS)
    assert small is not None
    assert large is not None
    assert seconds(large.start) == pytest.approx(4 * seconds(small.start), rel=0.15)


def test_a_long_time_without_a_release_counts() -> None:
    usual = estimate(NOW, 5, ONE, [ONE] * 5, regular(60), BOUNDS)
    later = estimate(NOW + 600 * SECOND, 5, ONE, [ONE] * 5, regular(60), BOUNDS)
    assert usual is not None
    assert later is not None
    assert later.start - NOW - 600 * SECOND == pytest.approx(2 * (usual.start - NOW), rel=0.05)


@pytest.mark.parametrize(
    "released",
    [
        "",
        regular(FEWEST - 1),
        "\n".join([str(NOW)] * 200),
        "\n".join(["nonsense", " ", f"{10**30} {ONE}", f"x {ONE}", "5"] * 20),
        ring(*range(60, -1, -1), demand="[[1,{}]]"),
        ring(*range(60, -1, -1), demand='[[1,{"gone":1}]]'),
        "\n".join([f"{NOW} {ONE}"] * 60),
    ],
)
def test_too_little_to_tell_from_is_no_estimate(released: str) -> None:
    assert estimate(NOW, 5, ONE, [ONE] * 5, released, BOUNDS) is None


@pytest.mark.parametrize(
    ("demand", "bounds"), [("", BOUNDS), (ONE, ""), (ONE, "[]"), ("[[1,[]]]", BOUNDS), ("5", "5")]
)
def test_what_cannot_be_read_is_no_share(demand: str, bounds: str) -> None:
    assert share_of(demand, bounds) == 0
    assert estimate(NOW, 5, demand, [demand] * 5, regular(60), bounds) is None


def test_a_time_in_which_nobody_waited_is_no_gap() -> None:
    """Behind a line that came to its end the next one begins with an entry of its own."""
    gaps, last = gaps_of(ring(100, 90, 80) + "\n" + ring(20, 15), BOUNDS)
    assert [gap.time / SECOND for gap in gaps] == [10, 10, 5]
    assert last == NOW - 15 * SECOND


def test_only_the_last_are_looked_at() -> None:
    gaps, _ = gaps_of(regular(500), BOUNDS)
    assert len(gaps) == module.MOST


def test_bursts_are_told_widely() -> None:
    """Twelve at once every 100 seconds, the last of them just now."""
    found = estimate(
        NOW, 5, ONE, [ONE] * 5, ring(*(float(100 * (n // 12)) for n in range(48, -1, -1))), BOUNDS
    )
    assert found is not None
    assert seconds(found.early) < 5
    assert seconds(found.late) > 100


def test_dispersion_is_low_for_regular_and_high_for_bursts() -> None:
    regular_ones, _ = gaps_of(regular(60), BOUNDS)
    bursts, _ = gaps_of(ring(*(float(100 * (n // 12)) for n in range(60, -1, -1))), BOUNDS)
    assert dispersion_of(regular_ones, 5) < 0.3
    assert dispersion_of(bursts, 5) > 3


@pytest.mark.parametrize(
    ("k", "n", "tenth", "median", "ninetieth"),
    # From tables of F with (2k, 2n) degrees of freedom.
    [(5, 10, 0.4543, 0.9663, 1.9367), (10, 10, 0.5575, 1.0, 1.7938), (1, 30, 0.1056, 0.7013, 2.3933)],
)
def test_quantiles(k: float, n: float, tenth: float, median: float, ninetieth: float) -> None:
    z = module._TENTH
    assert paulson(k, n, -z) == pytest.approx(tenth, rel=0.03, abs=0.02)
    assert paulson(k, n, 0) == pytest.approx(median, rel=0.03)
    assert paulson(k, n, z) == pytest.approx(ninetieth, rel=0.03)
