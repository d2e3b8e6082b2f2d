"""The line is a total order: what random creates, moves and releases leave is what a plain list says.

The list knows nothing of priorities and ranks but this: who was moved stands where it was asked to,
everybody else stands where it stood and has the priority it had.
"""

from itertools import pairwise

import pytest
from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from rqueue.domain.job import ACCEPTED, FINISH, MAX_PRIORITY, REQUEUE
from tests import invariants
from tests.conftest import new
from tests.store.line import CLAIM_MS, declare, jobs, line
from tests.store.machine import Machine, drive

# Few, so that ties are common.
PRIORITIES = st.sampled_from([None, None, 0, 1, 2, 3, 5, -1, -2, MAX_PRIORITY, -MAX_PRIORITY])
PLACES = st.integers(0, 10**6)


class Line(Machine):
    """The store beside a list of names and a map of their priorities."""

    taken = 0

    @initialize()
    def begin(self) -> None:
        self.line: list[str] = []
        self.priority: dict[str, int] = {}
        self.made = 0
        self.held: str | None = None
        self.after_held: set[str] = set()
        self.run(declare(self.store, 1))

    @rule(priority=PRIORITIES)
    def create(self, priority: int | None) -> None:
        self.clock.forward(0.001)
        self.made += 1
        name = f"j{self.made}"
        (job,), _ = self.run(self.store.create("vm", [new(name, priority=priority)]))
        if priority is None:
            at = len(self.line)
        else:
            at = sum(self.priority[other] <= priority for other in self.line)
            assert job.priority == priority
        self.line.insert(at, name)
        self.priority[name] = job.priority

    @precondition(lambda self: self.line)
    @rule(who=PLACES, front=st.booleans())
    def to_an_end(self, who: int, front: bool) -> None:
        name = self.line[who % len(self.line)]
        self.move(name, 0 if front else len(self.line) - 1, "front" if front else "back")

    @precondition(lambda self: len(self.line) > 1)
    @rule(who=PLACES, beside=PLACES, after=st.booleans())
    def beside_one(self, who: int, beside: int, after: bool) -> None:
        name, other = self.line[who % len(self.line)], self.line[beside % len(self.line)]
        assume(name != other)
        rest = [one for one in self.line if one != name]
        self.move(name, rest.index(other) + after, "after" if after else "before", other)

    @precondition(lambda self: len(self.line) > 2)
    @rule(who=PLACES, left=PLACES)
    def between_two(self, who: int, left: int) -> None:
        name = self.line[who % len(self.line)]
        rest = [one for one in self.line if one != name]
        left %= len(rest) - 1
        self.move(name, left + 1, "between", rest[left], rest[left + 1])

    @precondition(lambda self: self.line)
    @rule(who=PLACES, priority=PRIORITIES.filter(lambda priority: priority is not None))
    def to_a_priority(self, who: int, priority: int) -> None:
        name = self.line[who % len(self.line)]
        rest = [one for one in self.line if one != name]
        at = sum(self.priority[other] <= priority for other in rest)
        if self.priority[name] == priority:
            at = self.line.index(name)
        self.move(name, at, "priority", priority)
        assert self.priority[name] == priority

    @precondition(lambda self: len(self.line) > 1)
    @rule(place=PLACES, count=st.sampled_from([5, 30]))
    def crowd(self, place: int, count: int) -> None:
        """Many to the same place: there a rank is soon used up, and ranks around are spread."""
        left = self.line[place % len(self.line)]
        for _ in range(count):
            self.create(None)
            name = self.line[-1]
            at = self.line.index(left) + 1
            self.move(name, at if name != left else at - 1, *(("after", left) if name != left else ("back",)))

    @precondition(lambda self: self.line and not self.held)
    @rule()
    def admit(self) -> None:
        (turn,) = self.run(self.store.admit("vm", "default", CLAIM_MS)).turns
        self.held = self.line.pop(0)
        assert turn.request_id == self.held
        self.after_held = set(self.line)
        self.run(self.store.transition("vm", self.held, ACCEPTED))

    @precondition(lambda self: self.held)
    @rule()
    def done(self) -> None:
        self.run(self.store.transition("vm", self.held, FINISH))
        del self.priority[self.held]
        self.held = None

    @precondition(lambda self: self.held)
    @rule()
    def requeue(self) -> None:
        """Back at the old place: before all that stood behind it then, where they have not moved."""
        name, self.held = self.held, None
        self.run(self.store.transition("vm", name, REQUEUE))
        order = self.run(line(self.store))
        at = order.index(name)
        assert not self.after_held & set(order[:at])
        self.line.insert(at, name)

    def move(self, name: str, at: int, *asked: str | int) -> None:
        job, _, touched = self.run(self.store.move("vm", name, *asked))
        self.line.remove(name)
        self.line.insert(at, name)
        self.priority[name] = job.priority
        self.after_held.discard(name)
        Line.taken += touched

    @invariant()
    def the_store_says_the_same(self) -> None:
        Line.steps += 1
        found = self.run(jobs(self.store))
        assert [job.request_id for job in found] == self.line
        assert [job.priority for job in found] == [self.priority[name] for name in self.line]
        assert all(one.priority <= next_.priority for one, next_ in pairwise(found))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_line_is_what_a_plain_list_says(redis_url):
    Line.steps = Line.taken = 0
    drive(Line, redis_url, runs=30, steps=50)
    assert Line.steps >= 1000
    # Else the spreading of ranks would not have been looked at.
    assert Line.taken > 0


BLOCKS = 10


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_any_number_of_moves_to_the_same_place(real_store, real_redis, namespace, thorough):
    """Always after "x", which has its neighbour's priority: no priority is free, and soon no rank either."""
    block = 10_000 if thorough else 700
    names = [f"j{n}" for n in range(block * BLOCKS)]
    await real_store.create("vm", [new("x", priority=5), new("y", priority=5)])
    for start in range(0, len(names), 1000):
        await real_store.create("vm", [new(name) for name in names[start : start + 1000]])
    means = []
    for start in range(0, len(names), block):
        touched = 0
        for name in names[start : start + block]:
            job, _, ranks = await real_store.move("vm", name, "after", "x")
            touched += ranks
            assert job.priority == 5
        means.append(touched / block)
    found = await jobs(real_store)
    assert [job.request_id for job in found] == ["x", *reversed(names), "y"]
    assert {job.priority for job in found} == {5}
    assert means[-1] <= 3 * means[1], means
    assert max(means) < 40, means
    await invariants.check(real_redis, namespace)
