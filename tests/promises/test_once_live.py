"""once, of a live source: capacity is never promised twice, however slow clients and readings are.

A cluster of which all is known, clients that build early, late or never and delete early or late, readings
that begin before these things and end after them. What runs there and what is still to be built there fit on
each host, always, as long as clients keep to docs/sources.md: they confirm when it is built, build within
hold_seconds of their answer, and do not say `done` of what no reading has shown before it is gone.
"""

import json
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from rqueue.domain.job import ACCEPTED, CONFIRM, FINISH, REQUEUE
from rqueue.domain.pool import Observation
from rqueue.store.live import Live
from tests.conftest import new
from tests.store.live import LEASE_MS, declare_live
from tests.store.machine import Machine, drive

CLAIM_MS = 20_000
HOLD_SECONDS = 60
STALE_SECONDS = 300
HOSTS = {"n0": 4, "n1": 4}
Amounts = dict[str, int]


class Cluster(Machine):
    """`vms` is what our clients have built, `others` what is not ours; `reading` is under way."""

    @initialize(others=st.fixed_dictionaries({host: st.integers(0, 3) for host in HOSTS}))
    def begin(self, others: Amounts) -> None:
        self.live = Live(self.pipeline, self.namespace, "one", self.clock)
        self.others = others
        self.vms: dict[str, Amounts] = {}
        self.built_at: dict[str, int] = {}
        self.giving_up: dict[str, int] = {}
        self.count = 0
        self.reading: dict[str, Any] | None = None
        self.shown = 0
        self.run(declare_live(self.store))
        settings = {"hold_seconds": HOLD_SECONDS, "stale_after": STALE_SECONDS, "call_deadline": 10**7}
        self.run(self.store.configure("vm", settings))

    # --- what is so ----------------------------------------------------------------------------------

    def used(self) -> Amounts:
        used = dict(self.others)
        for vm in self.vms.values():
            for host, amount in vm.items():
                used[host] += amount
        return used

    def owed(self, job: dict[str, str]) -> Amounts:
        ((count, shape),) = json.loads(job["Demand"])
        amounts: Amounts = {}
        for host in json.loads(job["Placement"]):
            amounts[host] = amounts.get(host, 0) + shape.get("slots", 0)
        assert sum(amounts.values()) == count * shape["slots"]
        return amounts

    def jobs(self, *statuses: str) -> dict[str, dict[str, str]]:
        async def read() -> dict[str, dict[str, str]]:
            key = f"{self.namespace}:{{vm}}:job:"
            names = sorted([name async for name in self.redis.scan_iter(f"{key}*", count=1000)])
            return {name[len(key) :]: await self.redis.hgetall(name) for name in names}

        return {name: job for name, job in self.run(read()).items() if job["Status"] in statuses}

    def pick(self, data: st.DataObject, names: Any) -> str | None:
        names = sorted(names)
        return data.draw(st.sampled_from(names)) if names else None

    def fits(self) -> None:
        """Nothing runs, or is still to be built, for which there is no room."""
        all_ = self.used()
        for name, job in self.jobs("calling", "running").items():
            if name in self.built_at or self.giving_up.get(name, self.clock.now + 1) <= self.clock.now:
                continue
            for host, amount in self.owed(job).items():
                all_[host] += amount
        assert all(all_[host] <= HOSTS[host] for host in HOSTS), all_

    # --- clients -------------------------------------------------------------------------------------

    @rule(count=st.integers(1, 3), slots=st.integers(1, 4))
    def create(self, count: int, slots: int) -> None:
        self.count += 1
        draft = new(f"j{self.count:03}", instances=[{"slots": slots}] * count)
        self.run(self.store.create("vm", [draft]))
        self.admit()

    @rule()
    def admit(self) -> None:
        self.run(self.store.admit("vm", "default", CLAIM_MS))
        self.fits()

    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        if name := self.pick(data, calling := self.jobs("calling")):
            admission = calling[name]["Admission"]
            self.run(self.store.transition("vm", name, ACCEPTED, admission=admission))
            # From then on it never builds.
            self.giving_up[name] = self.clock.now + HOLD_SECONDS * 1_000_000

    @rule(data=st.data())
    def build(self, data: st.DataObject) -> None:
        jobs = {
            name: job
            for name, job in self.jobs("calling", "running").items()
            if name not in self.built_at and self.giving_up.get(name, self.clock.now + 1) > self.clock.now
        }
        if name := self.pick(data, jobs):
            self.vms[name] = self.owed(jobs[name])
            self.built_at[name] = self.clock.now
            assert all(used <= HOSTS[host] for host, used in self.used().items())

    @rule(data=st.data())
    def confirm(self, data: st.DataObject) -> None:
        if name := self.pick(data, set(self.jobs("calling", "running")) & set(self.built_at)):
            self.run(self.store.transition("vm", name, CONFIRM))

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        if name := self.pick(data, self.vms):
            del self.vms[name]

    @rule(data=st.data(), moves=st.sampled_from([FINISH, FINISH, REQUEUE]))
    def end(self, data: st.DataObject, moves: Any) -> None:
        """It says so before what it built is gone only where a reading has shown that."""
        jobs = self.jobs("calling", "running") if moves is FINISH else self.jobs("running")
        may = [name for name in jobs if name not in self.vms or self.built_at[name] < self.shown]
        if moves is REQUEUE:
            may = [name for name in may if name not in self.vms]
        if name := self.pick(data, may):
            self.run(self.store.transition("vm", name, moves, claim_ms=CLAIM_MS))
            self.built_at.pop(name, None)
            self.giving_up.pop(name, None)
            if name in self.vms:
                # It is nobody's that we know of any more, and still there.
                self.vms[f"{name} {self.clock.now} {len(self.vms)}"] = self.vms.pop(name)
            self.fits()

    # --- the rest of the world -----------------------------------------------------------------------

    @rule(seconds=st.sampled_from([1, 5, 30, HOLD_SECONDS, STALE_SECONDS]))
    def pass_time(self, seconds: int) -> None:
        self.clock.forward(seconds)

    @rule(host=st.sampled_from(sorted(HOSTS)))
    def others_leave(self, host: str) -> None:
        self.others[host] = max(0, self.others[host] - 1)

    @rule(data=st.data())
    def begin_reading(self, data: st.DataObject) -> None:
        if self.reading is None:
            self.clock.forward(1e-6)
            self.reading = {"claim": self.run(self.live.claim("vm", LEASE_MS))}
            self.clock.forward(1e-6)

    @precondition(lambda self: self.reading and "used" not in self.reading)
    @rule()
    def see(self) -> None:
        assert self.reading is not None
        self.reading["used"] = self.used()
        self.reading["at"] = self.clock.now
        self.clock.forward(1e-6)

    @precondition(lambda self: self.reading and "used" in self.reading)
    @rule()
    def write(self) -> None:
        assert self.reading is not None
        taken = {host: {"slots": amount} for host, amount in self.reading["used"].items() if amount}
        hosts = {host: {"slots": amount} for host, amount in HOSTS.items()}
        self.run(self.live.observe(self.reading["claim"], "default", Observation(hosts, taken)))
        self.shown = self.reading["at"]
        self.reading = None
        self.admit()

    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        """All of it at once, as most are."""
        self.begin_reading(data)
        if self.reading and "used" not in self.reading:
            self.see()
        self.write()

    def at_end(self) -> None:
        """When all are gone, all is free again."""
        if not self.count:
            return
        for name in self.jobs("calling", "running"):
            self.run(self.store.transition("vm", name, FINISH))
        self.vms.clear()
        claim = self.run(self.live.claim("vm", LEASE_MS))
        hosts = {host: {"slots": amount} for host, amount in HOSTS.items()}
        self.run(self.live.observe(claim, "default", Observation(hosts, {})))
        pool = self.run(self.store.pool("vm", "default"))
        assert (pool.used, pool.seen) == ({}, {})
        self.check()


def test_never_twice_with_slow_clients(redis_url: str) -> None:
    drive(Cluster, redis_url, 40, 40)


@pytest.mark.thorough
@pytest.mark.timeout(1800)
def test_never_twice_with_many_slow_clients(redis_url: str) -> None:
    drive(Cluster, redis_url, 1500, 80)
