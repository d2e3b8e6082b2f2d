"""A workload through the store's own scripts, as fast as they go: arrivals and ends, and whom they let go.

The clock stands at each event until nothing more can happen in that moment. What the service does between
scripts is done here too: a pool that was woken is examined until there is no more, and an admitted job is
confirmed at once.
"""

import heapq
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from bench.workload import Arrival, Workload
from rqueue.domain.job import ACCEPTED, FINISH
from rqueue.domain.pool import Pool
from rqueue.store.answers import Turn, Work
from rqueue.store.store import Store
from rqueue.web.schemas import draft

TYPE, POOL = "vm", "default"
CLAIM_MS = 35_000
_START = 1_800_000_000_000_000


class Clock:
    """Microseconds, for the store; `seconds` since the simulation began."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> int:
        return _START + round(self.seconds * 1_000_000)


class Exceeded(AssertionError):
    """A job was put where there is no room for it."""


@dataclass(frozen=True, slots=True)
class Moment:
    """How it stands after an event: seconds, the share of each resource and the dominant share of each owner
    that is used, how many wait, and the owners of those who wait."""

    at: float
    used: dict[str, float]
    shares: dict[str, float]
    waiting: int
    waiting_owners: frozenset[str]


@dataclass
class Outcome:
    """What became of a workload.

    `started` is request_id → the second at which it went, in the order of admission; `ahead` how many waited
    when it came. `first` is for how long a job was the first in line, `passed` how long others went before
    it while it was.
    """

    workload: Workload
    started: dict[str, float] = field(default_factory=dict)
    ahead: dict[str, int] = field(default_factory=dict)
    first: dict[str, float] = field(default_factory=dict)
    passed: dict[str, float] = field(default_factory=dict)
    moments: list[Moment] = field(default_factory=list)

    @property
    def waits(self) -> dict[str, float]:
        """request_id → seconds from its coming to its going, of those that went."""
        return {
            a.request_id: self.started[a.request_id] - a.at
            for a in self.workload.arrivals
            if a.request_id in self.started
        }


class _Cluster:
    """The hosts as they are, charged by what the store says, beside the store's own books."""

    def __init__(self, workload: Workload) -> None:
        self.totals = workload.totals
        self.free = {host: Counter(amounts) for host, amounts in workload.hosts.items()}
        self.used: Counter[str] = Counter()
        self.by_owner: dict[str, Counter[str]] = {a.owner_id: Counter() for a in workload.arrivals}
        self.placed: dict[str, tuple[str, ...]] = {}

    def take(self, arrival: Arrival, placement: tuple[str, ...]) -> None:
        if len(placement) != arrival.count:
            raise Exceeded(f"{arrival.request_id} is {arrival.count} instances on {len(placement)} hosts")
        self.placed[arrival.request_id] = placement
        self._change(arrival, -1)
        for host in placement:
            if any(self.free[host][resource] < 0 for resource in arrival.shape):
                raise Exceeded(
                    f"{arrival.request_id} is on {host}, which has no room for it: {self.free[host]}"
                )

    def give_back(self, arrival: Arrival) -> None:
        self._change(arrival, 1)

    def _change(self, arrival: Arrival, sign: int) -> None:
        for resource, amount in arrival.shape.items():
            for host in self.placed[arrival.request_id]:
                self.free[host][resource] += sign * amount
            self.used[resource] -= sign * amount * arrival.count
            self.by_owner[arrival.owner_id][resource] -= sign * amount * arrival.count

    def shares(self) -> tuple[dict[str, float], dict[str, float]]:
        used = {resource: self.used[resource] / total for resource, total in self.totals.items()}
        dominant = {
            owner: max(held[resource] / total for resource, total in self.totals.items())
            for owner, held in self.by_owner.items()
        }
        return used, dominant


class _Line:
    """Who waits, in the order of coming; and of the first, since when, and since when it is passed over."""

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self._came: list[Arrival] = []
        self._at = 0
        self._first_since = self._passed_since = 0.0
        self._is_passed = False
        self.owners: Counter[str] = Counter()

    def __len__(self) -> int:
        return self.owners.total()

    def join(self, arrival: Arrival, now: float) -> None:
        self._outcome.ahead[arrival.request_id] = len(self)
        if not len(self):
            self._first_since = now
        self._came.append(arrival)
        self.owners[arrival.owner_id] += 1

    def leave(self, arrival: Arrival, now: float) -> None:
        self._outcome.started[arrival.request_id] = now
        self.owners[arrival.owner_id] -= 1
        first = self._came[self._at]
        if arrival is not first:
            if not self._is_passed:
                self._is_passed, self._passed_since = True, now
            self._outcome.passed[first.request_id] = now - self._passed_since
            return
        self._outcome.first[first.request_id] = now - self._first_since
        while self._at < len(self._came) and self._came[self._at].request_id in self._outcome.started:
            self._at += 1
        self._first_since, self._is_passed = now, False


async def simulate(store: Store, clock: Clock, workload: Workload, policy: str, patience: int) -> Outcome:
    """Run a workload under a policy until nothing is left to happen. Raises Exceeded."""
    settings = {"policy": policy} if policy == "strict" else {"policy": policy, "patience": patience}
    await store.configure(TYPE, settings)
    await store.put_pool(TYPE, Pool(POOL, workload.hosts))
    outcome = Outcome(workload)
    cluster, line = _Cluster(workload), _Line(outcome)
    by_id = {arrival.request_id: arrival for arrival in workload.arrivals}
    # The moment, 0 for one that ends and 1 for one that comes, and where it stands in the workload.
    events = [(arrival.at, 1, n) for n, arrival in enumerate(workload.arrivals)]
    number = {arrival.request_id: n for n, arrival in enumerate(workload.arrivals)}
    heapq.heapify(events)

    async def follow(work: Work) -> None:
        await start(work.turns)
        pools = work.pools
        while pools:
            (pool,) = pools
            work = await store.admit(TYPE, pool, CLAIM_MS)
            await start(work.turns)
            pools = work.pools

    async def start(turns: Iterable[Turn]) -> None:
        for turn in turns:
            arrival = by_id[turn.request_id]
            assert turn.job
            cluster.take(arrival, turn.job.placement or ())
            line.leave(arrival, clock.seconds)
            await store.transition(TYPE, turn.request_id, ACCEPTED, turn.admission, want=False)
            heapq.heappush(events, (clock.seconds + arrival.seconds, 0, number[turn.request_id]))

    while events:
        clock.seconds, comes, n = heapq.heappop(events)
        arrival = workload.arrivals[n]
        if comes:
            line.join(arrival, clock.seconds)
            asked = draft(
                {"instances": arrival.instances},
                arrival.request_id,
                arrival.owner_id,
                f"http://127.0.0.1:9/{arrival.request_id}",
                None,
            )
            _, pools = await store.create(TYPE, [asked])
            await follow(Work(bool(pools), tuple(pools), ()))
        else:
            cluster.give_back(arrival)
            _, work = await store.transition(TYPE, arrival.request_id, FINISH, want=False, claim_ms=CLAIM_MS)
            await follow(work)
        used, shares = cluster.shares()
        waiting = frozenset(owner for owner, count in line.owners.items() if count)
        outcome.moments.append(Moment(clock.seconds, used, shares, len(line), waiting))
    return outcome
