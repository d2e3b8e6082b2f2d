"""After anything at all, in any order, all keys agree, and only legal transitions have happened."""

import pytest
from hypothesis import event
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from rqueue import errors
from rqueue.domain.job import (
    ACCEPTED,
    CONFIRM,
    DELETE,
    FINISH,
    REQUEUE,
    UNREACHABLE,
    UNWANTED,
    Status,
)
from rqueue.domain.pool import Pool
from tests.conftest import new
from tests.store.machine import Machine, drive

LEGAL = {
    *{("", "queued"), ("queued", "calling"), ("queued", "cancelled")},
    *{("calling", to) for to in ("running", "done", "cancelled", "failed")},
    *{("running", to) for to in ("done", "queued", "expired")},
    *{("failed", "queued"), ("expired", "queued")},
}
NAMES = st.sampled_from([f"j{n}" for n in range(9)])
OWNERS = st.sampled_from(["x", "y"])
POOLS = st.sampled_from(["one", "two"])
PRIORITIES = st.sampled_from([None, 1, 1, 2, -1])
SIZES = st.sampled_from([1, 1, 2, 5])
CALLBACKS = st.sampled_from([None, None, "http://c/1", "http://c/2"])
MOVES = st.sampled_from([CONFIRM, FINISH, DELETE, REQUEUE, ACCEPTED, UNWANTED, UNREACHABLE])
CLAIM_MS = 5000


def drafts(name):
    return st.builds(
        lambda name, owner, priority, callback, pool, sizes: new(
            name,
            owner,
            priority,
            callback,
            instances=[{"slots": n} for n in sizes],
            **({"host_aggregate": pool} if pool else {}),
        ),
        *(
            name,
            OWNERS,
            PRIORITIES,
            CALLBACKS,
            st.one_of(st.none(), POOLS),
            st.lists(SIZES, min_size=1, max_size=3),
        ),
    )


class Anything(Machine):
    """Everything that clients, operators, time and receivers may do, to few names in two pools."""

    @initialize()
    def begin(self):
        self.turns = []
        self.attempt(self.store.configure("vm", {"lease_seconds": 40, "retention": 100, "call_deadline": 30}))

    def attempt(self, coroutine):
        """Do it; to be refused is an outcome like another."""
        try:
            return self.run(coroutine)
        except (errors.Conflict, errors.Missing, errors.Full) as refused:
            event(refused.code)
            return None

    @rule(written=st.lists(drafts(NAMES), min_size=1, max_size=1))
    def create(self, written):
        self.attempt(self.store.create("vm", written))

    @rule(written=st.lists(drafts(NAMES), min_size=1, max_size=5))
    def create_many(self, written):
        self.attempt(self.store.create("vm", written))

    @rule(name=NAMES, where=st.sampled_from(["front", "back"]))
    def move_to_an_end(self, name, where):
        self.attempt(self.store.move("vm", name, where))

    @rule(name=NAMES, where=st.sampled_from(["after", "before", "between"]), first=NAMES, second=NAMES)
    def move_beside(self, name, where, first, second):
        self.attempt(self.store.move("vm", name, where, first, second))

    @rule(name=NAMES, priority=st.sampled_from([1, 2, -1, 2**53 - 1]))
    def move_to_a_priority(self, name, priority):
        self.attempt(self.store.move("vm", name, "priority", priority))

    @rule(name=NAMES, callback=CALLBACKS, draft=st.one_of(st.none(), drafts(st.just(""))))
    def update(self, name, callback, draft):
        self.attempt(self.store.update("vm", name, callback, draft))

    @rule(name=NAMES, moves=MOVES)
    def transition(self, name, moves):
        self.attempt(self.store.transition("vm", name, moves))

    @rule(pool=POOLS, most=st.sampled_from([1, 2, 100]))
    def admit(self, pool, most):
        self.turns += self.run(self.store.admit("vm", pool, CLAIM_MS, most)).turns

    @rule(seconds=st.sampled_from([0, 1, 6, 31, 41, 101]), most=st.sampled_from([1, 100]))
    def time_goes_on(self, seconds, most):
        self.clock.forward(seconds)
        self.turns += self.run(self.store.due("vm", CLAIM_MS, most)).turns

    @rule(at=st.integers(0, 99), what=st.sampled_from(["call", "retry", ACCEPTED, UNWANTED, UNREACHABLE]))
    def a_delivery_goes_on(self, at, what):
        """Of any turn there was, those long lost included."""
        if not self.turns:
            return
        turn = self.turns[-1 - at % len(self.turns)]
        if what == "call":
            self.attempt(self.store.call(turn, CLAIM_MS))
        elif what == "retry":
            self.attempt(self.store.retry(turn, 2000, "refused"))
        else:
            self.attempt(self.store.transition("vm", turn.request_id, what, turn.admission))

    @rule(pool=POOLS, slots=st.lists(st.integers(0, 6), max_size=3))
    def put_pool(self, pool, slots):
        hosts = {f"host-{n}": {"slots": count} for n, count in enumerate(slots)}
        self.attempt(self.store.put_pool("vm", Pool(pool, hosts, ("x",))))

    @rule(pool=POOLS)
    def delete_pool(self, pool):
        self.attempt(self.store.delete_pool("vm", pool))

    @rule(
        changed=st.sampled_from([{"paused": True}, {"paused": None}, {"max_queued": 4}, {"max_queued": None}])
    )
    def configure(self, changed):
        self.run(self.store.configure("vm", changed))

    @invariant()
    def all_keys_agree(self):
        found = self.check()
        page = self.run(self.store.page("vm"))
        live = {name for name, job in found.items() if job["Status"] in ("queued", "calling", "running")}
        assert {job.request_id for job in page.jobs} == live

    def at_end(self):
        status = {}
        for _, written in self.run(self.redis.xrange(f"{self.namespace}:{{vm}}:events")):
            if written["what"] not in ("created", "admitted", *Status):
                continue
            name, was, to = written["request_id"], written.get("from", ""), written["to"]
            assert (was, to) in LEGAL
            assert written["what"] == "created" or status[name] == was
            status[name] = to
        assert {name: job["Status"] for name, job in self.check().items()}.items() <= status.items()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_all_keys_agree_after_anything_at_all(redis_url):
    drive(Anything, redis_url, runs=25, steps=40)
