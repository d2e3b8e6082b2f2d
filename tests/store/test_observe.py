"""Live.claim, observe and failed: what a live source says, when it is believed, and which charges it ends."""

import pytest

from rqueue import errors
from rqueue.domain.job import ACCEPTED, CONFIRM, DELETE, FINISH, REQUEUE, Reason
from rqueue.domain.pool import Observation, Pool
from rqueue.store import live as module
from rqueue.store.keys import Keys
from rqueue.store.live import Live
from tests import invariants
from tests.conftest import new
from tests.store.line import CLAIM_MS, admit, create
from tests.store.live import LEASE_MS, declare_live, see


@pytest.fixture
def live(pipeline, namespace, clock):
    return Live(pipeline, namespace, "one", clock)


@pytest.fixture
def other(pipeline, namespace, clock):
    return Live(pipeline, namespace, "two", clock)


async def used(store, pool="default"):
    return (await store.pool("vm", pool)).used


async def call_accepted(store, request_id):
    """As the reaper does when the callback was answered 2xx."""
    job = await store.get("vm", request_id)
    await store.transition("vm", request_id, ACCEPTED, admission=job.admission)


# --- what is admitted --------------------------------------------------------------------------------


async def test_nobody_goes_before_the_first_observation(store, live, redis, namespace):
    await declare_live(store)
    await create(store, "a")
    assert await admit(store) == []
    assert (await store.get("vm", "a")).reason == Reason.SOURCE_STALE
    assert await see(live, n={"slots": 1}) is True
    assert await admit(store) == ["a"]
    await invariants.check(redis, namespace)


async def test_what_the_source_sees_is_taken(store, live):
    await declare_live(store)
    await create(store, "a", instances=[{"slots": 3}])
    await see(live, n={"slots": 4}, taken={"n": {"slots": 2}})
    assert await admit(store) == []
    assert (await store.get("vm", "a")).reason == Reason.WAITING_FOR_CAPACITY
    assert await see(live, n={"slots": 4}, taken={"n": {"slots": 1}}) is True
    assert await admit(store) == ["a"]


async def test_promised_and_seen_together_fill_a_host(store, live):
    await declare_live(store)
    await create(store, "a", "b", instances=[{"slots": 2}])
    await see(live, n={"slots": 5}, taken={"n": {"slots": 2}})
    assert await admit(store) == ["a"]
    pool = (await store.pool("vm", "default")).document()
    assert pool["hosts"] == {
        "n": {"capacity": {"slots": 5}, "seen": {"slots": 2}, "used": {"slots": 2}, "free": {"slots": 1}}
    }
    assert pool["source"] == {"aggregate": "a"}
    assert pool["error"] is None
    assert pool["observed"].startswith("2027-")


async def test_the_release_that_frees_a_host_looks_at_what_is_seen_too(store, live):
    await declare_live(store)
    await create(store, "a", instances=[{"slots": 2}])
    await see(live, n={"slots": 4})
    assert await admit(store) == ["a"]
    await create(store, "b", instances=[{"slots": 4}])
    assert await admit(store) == []
    await see(live, n={"slots": 4}, taken={"n": {"slots": 1}})
    _, work = await store.transition("vm", "a", FINISH, claim_ms=CLAIM_MS)
    assert work.turns == ()


# --- staleness ---------------------------------------------------------------------------------------


async def test_old_amounts_admit_nobody_and_the_next_observation_wakes(store, live, clock, redis, namespace):
    await declare_live(store)
    await see(live, n={"slots": 3})
    await create(store, "a")
    clock.forward(60)
    assert await admit(store) == ["a"]
    clock.forward(1)
    await create(store, "b")
    assert await admit(store) == []
    assert (await store.get("vm", "b")).reason == Reason.SOURCE_STALE
    # Who comes now is no reason to look.
    _, woken = await store.create("vm", [new("c")])
    assert woken == []
    _, work = await store.transition("vm", "a", FINISH, claim_ms=CLAIM_MS)
    assert work.turns == ()
    assert await see(live, n={"slots": 3}) is True
    assert await admit(store) == ["b", "c"]
    await invariants.check(redis, namespace)


async def test_how_old_they_may_be_is_a_setting(store, live, clock):
    await declare_live(store)
    await store.configure("vm", {"stale_after": 5})
    await see(live, n={"slots": 1})
    clock.forward(6)
    await create(store, "a")
    assert await admit(store) == []
    await store.configure("vm", {"stale_after": 6})
    assert (await store.get("vm", "a")).reason == Reason.WAITING_FOR_CAPACITY
    await see(live, n={"slots": 1})
    assert await admit(store) == ["a"]


async def test_the_age_counts_from_when_the_reading_began(store, live, clock):
    await declare_live(store)
    claim = await live.claim("vm", LEASE_MS)
    clock.forward(61)
    await live.observe(claim, "default", Observation({"n": {"slots": 1}}, {}))
    await create(store, "a")
    assert await admit(store) == []


# --- who is woken ------------------------------------------------------------------------------------


async def test_only_more_room_wakes(store, live):
    await declare_live(store)
    await see(live, n={"slots": 4})
    await create(store, "a", instances=[{"slots": 3}])
    await create(store, "b", instances=[{"slots": 3}])
    assert await admit(store) == ["a"]
    assert await see(live, n={"slots": 4}) is False
    assert await see(live, n={"slots": 4}, taken={"n": {"slots": 1}}) is False
    assert await see(live, n={"slots": 4}) is True
    await admit(store)
    assert await see(live, n={"slots": 5}) is True
    await admit(store)
    assert await see(live, n={"slots": 4}) is True
    await admit(store)
    assert await see(live, n={"slots": 4}, m={"slots": 1}) is True


async def test_a_charge_that_ends_as_the_use_is_seen_wakes_nobody(store, live, redis, namespace):
    await declare_live(store)
    await see(live, n={"slots": 4})
    await create(store, "a", instances=[{"slots": 3}])
    await create(store, "b", instances=[{"slots": 3}])
    assert await admit(store) == ["a"]
    await store.transition("vm", "a", CONFIRM)
    assert await see(live, n={"slots": 4}, taken={"n": {"slots": 3}}) is False
    assert await used(store) == {}
    assert await admit(store) == []
    await invariants.check(redis, namespace)


async def test_an_observation_of_a_pool_in_which_nobody_waits_wakes_nobody(store, live):
    await declare_live(store)
    assert await see(live, n={"slots": 4}) is False
    assert (await store.queue("vm")).pools == ("default",)


# --- charges that end --------------------------------------------------------------------------------


async def test_a_charge_ends_with_the_first_observation_that_began_after_the_confirm(
    store, live, clock, redis, namespace
):
    await declare_live(store)
    await see(live, n={"slots": 1})
    await create(store, "a", "b")
    assert await admit(store) == ["a"]
    clock.forward(1)
    early = await live.claim("vm", LEASE_MS)
    clock.forward(1)
    await store.transition("vm", "a", CONFIRM)
    # It began before: what it says may have been so before the client built.
    await live.observe(early, "default", Observation({"n": {"slots": 1}}, {}))
    assert await used(store) == {"n": {"slots": 1}}
    assert await admit(store) == []
    await see(live, n={"slots": 1}, taken={"n": {"slots": 1}})
    assert await used(store) == {}
    assert await admit(store) == []
    jobs = await invariants.check(redis, namespace)
    assert int(jobs["a"]["Observed"]) == clock.now
    # The client deletes what it built, and then its job: the source says the first, and that is what counts.
    assert await see(live, n={"slots": 1}) is True
    assert await admit(store) == ["b"]
    await store.transition("vm", "a", DELETE)
    assert await used(store) == {"n": {"slots": 1}}
    await invariants.check(redis, namespace)


async def test_one_that_does_not_confirm_is_charged_for_hold_seconds_after_its_callback(
    store, live, clock, redis, namespace
):
    await declare_live(store)
    await see(live, n={"slots": 1})
    await create(store, "a")
    await admit(store)
    clock.forward(100)
    await see(live, n={"slots": 1})
    assert await used(store) == {"n": {"slots": 1}}
    await call_accepted(store, "a")
    clock.forward(299)
    await see(live, n={"slots": 1}, taken={"n": {"slots": 1}})
    assert await used(store) == {"n": {"slots": 1}}
    clock.forward(1)
    await see(live, n={"slots": 1}, taken={"n": {"slots": 1}})
    assert await used(store) == {}
    await invariants.check(redis, namespace)


async def test_of_confirm_and_hold_seconds_the_earlier_counts(store, live, clock, redis, namespace):
    await declare_live(store)
    await store.configure("vm", {"hold_seconds": 10})
    await see(live, n={"slots": 2})
    await create(store, "a", "b")
    await admit(store)
    for job in ("a", "b"):
        await call_accepted(store, job)
    clock.forward(1)
    await store.transition("vm", "a", CONFIRM)
    await see(live, n={"slots": 2})
    assert await used(store) == {"n": {"slots": 1}}
    clock.forward(20)
    # As a renewal: it has been due for long.
    await store.transition("vm", "b", CONFIRM)
    held = Keys(namespace).of("vm", "held:") + "default"
    assert await redis.zscore(held, "b") == clock.now - 11_000_000
    await see(live, n={"slots": 2})
    assert await used(store) == {}
    await invariants.check(redis, namespace)


async def test_what_goes_back_in_line_is_not_taken_off_twice(store, live, redis, namespace):
    await declare_live(store)
    await see(live, n={"slots": 2})
    await create(store, "a", "b")
    await admit(store)
    await store.transition("vm", "a", CONFIRM)
    await see(live, n={"slots": 2}, taken={"n": {"slots": 1}})
    assert await used(store) == {"n": {"slots": 1}}
    await store.transition("vm", "a", REQUEUE)
    assert await used(store) == {"n": {"slots": 1}}
    jobs = await invariants.check(redis, namespace)
    assert "Observed" not in jobs["a"]
    await see(live, n={"slots": 2})
    assert await admit(store) == ["a"]
    assert await used(store) == {"n": {"slots": 2}}
    await invariants.check(redis, namespace)


async def test_a_lease_that_lapses_gives_back_what_is_charged_and_no_more(
    store, live, clock, redis, namespace
):
    await declare_live(store)
    await store.configure("vm", {"lease_seconds": 30})
    await see(live, n={"slots": 2})
    await create(store, "a", "b")
    await admit(store)
    await store.transition("vm", "a", CONFIRM)
    await call_accepted(store, "b")
    await see(live, n={"slots": 2}, taken={"n": {"slots": 1}})
    clock.forward(31)
    await store.due("vm", CLAIM_MS)
    assert await used(store) == {}
    assert await redis.exists(Keys(namespace).of("vm", "held:") + "default") == 0
    await invariants.check(redis, namespace)


async def test_a_bounded_number_of_charges_ends_at_once(store, live, monkeypatch, redis, namespace):
    monkeypatch.setattr(module, "CHARGES_AT_ONCE", 1)
    monkeypatch.setattr(module, "CHARGING_STEPS", 2)
    await declare_live(store)
    await see(live, n={"slots": 5})
    names = [f"j{n}" for n in range(5)]
    await create(store, *names)
    await admit(store)
    for name in names:
        await store.transition("vm", name, CONFIRM)
    taken = {"n": {"slots": 5}}
    await see(live, n={"slots": 5}, taken=taken)
    assert await used(store) == {"n": {"slots": 2}}
    await invariants.check(redis, namespace)
    await see(live, n={"slots": 5}, taken=taken)
    assert await used(store) == {}


async def test_when_a_pool_is_forgotten_its_jobs_are_charged_again(store, live, redis, namespace):
    """Nobody sees them any more: a pool declared under that name must not give their hosts away."""
    await declare_live(store)
    await see(live, n={"slots": 2})
    await create(store, "a")
    await admit(store)
    await store.transition("vm", "a", CONFIRM)
    await see(live, n={"slots": 2}, taken={"n": {"slots": 1}})
    await store.delete_pool("vm", "default")
    await invariants.check(redis, namespace)
    await store.configure("vm", {"source": "declared"})
    await store.put_pool("vm", Pool("default", {"n": {"slots": 2}}))
    await create(store, "b", "c")
    assert await admit(store) == ["b"]
    # Live once more, the source sees what runs there.
    await store.delete_pool("vm", "default")
    await declare_live(store)
    await see(live, n={"slots": 3}, taken={"n": {"slots": 1}})
    assert await used(store) == {"n": {"slots": 1}}
    await invariants.check(redis, namespace)


# --- what is written ---------------------------------------------------------------------------------


async def test_it_replaces_what_was_said_before(store, live):
    await declare_live(store)
    await see(live, a={"slots": 1, "gpu": 2}, b={"slots": 3}, taken={"a": {"gpu": 1}})
    await see(live, b={"slots": 4}, c={"slots": 1}, taken={"c": {"slots": 1}})
    pool = await store.pool("vm", "default")
    assert pool.capacity == {"b": {"slots": 4}, "c": {"slots": 1}}
    assert pool.seen == {"c": {"slots": 1}}


async def test_many_changes_are_written_in_steps_that_admit_nobody(
    store, live, monkeypatch, redis, namespace
):
    monkeypatch.setattr(module, "FIELDS_AT_ONCE", 10)
    await declare_live(store)
    await see(live, n={"slots": 1})
    hosts = {f"n{n}": {"slots": 1} for n in range(25)}
    key = Keys(namespace).of("vm", "observed")
    run, moments = live._scripts.run, []

    async def watched(name, *rest, **arguments):
        reply = await run(name, *rest, **arguments)
        moments.append(await redis.hget(key, "default"))
        return reply

    monkeypatch.setattr(live._scripts, "run", watched)
    claim = await live.claim("vm", LEASE_MS)
    moments.clear()
    await live.observe(claim, "default", Observation(hosts, {"n1": {"slots": 1}}))
    assert moments == ["0", "0", str(claim.began)]
    assert (await store.pool("vm", "default")).capacity == hosts
    await invariants.check(redis, namespace)


async def test_projects_that_the_source_tells_are_the_pools(store, live, redis, namespace):
    await declare_live(store, projects=("mine", "old"))
    await store.put_pool("vm", Pool("q", {}, ("theirs",), source="openstack", found_by={"aggregate": "b"}))
    claim = await live.claim("vm", LEASE_MS)
    await live.observe(claim, "default", Observation({}, {}, ("mine", "new", "theirs")))
    assert (await store.pool("vm", "default")).projects == ("mine", "new")
    assert (await store.pool("vm", "q")).projects == ("theirs",)
    await live.observe(await live.claim("vm", LEASE_MS), "default", Observation({}, {}))
    assert (await store.pool("vm", "default")).projects == ("mine", "new")


@pytest.mark.parametrize(
    "observation",
    [
        Observation({"a/b": {"slots": 1}}, {}),
        Observation({"": {"slots": 1}}, {}),
        Observation({"n" * 257: {"slots": 1}}, {}),
        Observation({"n": {"slots": -1}}, {}),
        Observation({"n": {"slots": 1}}, {"n": {"slots": 2**53}}),
        Observation({f"n{n}": {} for n in range(5_001)}, {}),
    ],
)
async def test_what_no_pool_can_have_is_refused(store, live, observation):
    await declare_live(store)
    with pytest.raises(errors.SourceUnavailable):
        await live.observe(await live.claim("vm", LEASE_MS), "default", observation)
    assert (await store.pool("vm", "default")).observed is None


async def test_an_error_is_shown_until_the_next_observation(store, live):
    await declare_live(store)
    claim = await live.claim("vm", LEASE_MS)
    await live.failed(claim, "default", "no such aggregate")
    assert (await store.pool("vm", "default")).document()["error"] == "no such aggregate"
    await see(live, n={"slots": 1})
    assert (await store.pool("vm", "default")).error is None


# --- what one instance takes -------------------------------------------------------------------------


async def see_limits(live, limits, **hosts):
    claim = await live.claim("vm", LEASE_MS)
    return await live.observe(claim, "default", Observation(hosts, {}, limits=limits))


async def test_an_instance_goes_where_it_may_take_so_much(store, live, redis, namespace):
    await declare_live(store)
    await see_limits(live, {"a": {"cpus": 4}}, a={"cpus": 32}, b={"cpus": 8})
    await create(store, "big", instances=[{"cpus": 5}])
    await create(store, "many", instances=[{"cpus": 4}] * 8)
    assert await admit(store) == ["big", "many"]
    assert (await store.get("vm", "big")).placement == ("b",)
    assert (await store.get("vm", "many")).placement == ("a",) * 8
    await store.delete_pool("vm", "default")
    await invariants.check(redis, namespace)


async def test_more_than_any_host_gives_one_instance_never_fits(store, live):
    await declare_live(store)
    await see_limits(live, {"a": {"cpus": 4}, "b": {"cpus": 6}}, a={"cpus": 32}, b={"cpus": 8})
    await create(store, "a", instances=[{"cpus": 7}])
    await create(store, "b", instances=[{"cpus": 5, "slots": 0}])
    assert await admit(store) == ["b"]
    assert (await store.get("vm", "a")).reason == Reason.NEVER_FITS
    # Each could be on b, and both of them cannot, though a is large enough.
    await create(store, "both", instances=[{"cpus": 5}, {"cpus": 6}])
    assert await admit(store) == []
    assert (await store.get("vm", "both")).reason == Reason.NEVER_FITS
    await store.transition("vm", "both", DELETE)
    # One more of those is for b, which has no room; then the source gives more.
    await create(store, "c", instances=[{"cpus": 5}])
    assert await admit(store) == []
    assert (await store.get("vm", "c")).reason == Reason.WAITING_FOR_CAPACITY
    assert await see_limits(live, {"a": {"cpus": 8}}, a={"cpus": 32}, b={"cpus": 8}) is True
    assert await admit(store) == ["a", "c"]


async def test_a_release_keeps_to_it_too(store, live):
    await declare_live(store)
    await see_limits(live, {"a": {"cpus": 4}}, a={"cpus": 8}, b={"cpus": 6})
    await create(store, "small", instances=[{"cpus": 4}, {"cpus": 4}])
    await create(store, "on-b", instances=[{"cpus": 6}])
    assert await admit(store) == ["small", "on-b"]
    await create(store, "next", instances=[{"cpus": 6}])
    assert await admit(store) == []
    _, work = await store.transition("vm", "small", DELETE, claim_ms=CLAIM_MS)
    assert work.turns == ()
    _, work = await store.transition("vm", "on-b", DELETE, claim_ms=CLAIM_MS)
    assert [turn.request_id for turn in work.turns] == ["next"]
    assert (await store.get("vm", "next")).placement == ("b",)


@pytest.mark.parametrize("written", ["nan", "inf", "nonsense", "-1", "1e400"])
async def test_a_limit_that_nobody_wrote_is_none_or_is_kept_to(store, live, redis, namespace, written):
    await declare_live(store)
    await see_limits(live, {}, a={"cpus": 8})
    await redis.hset(Keys(namespace).of("vm", "limits:") + "default", mapping={"a/cpus": written, "a": "1"})
    await create(store, "a", instances=[{"cpus": 6}])
    assert await admit(store) == ([] if written == "-1" else ["a"])


# --- fencing -----------------------------------------------------------------------------------------


async def test_one_reads_until_its_lease_ends(store, live, other, clock):
    await declare_live(store)
    claim = await live.claim("vm", LEASE_MS)
    with pytest.raises(errors.LostClaim):
        await other.claim("vm", LEASE_MS)
    clock.forward(20)
    assert (await live.claim("vm", LEASE_MS)).began == clock.now
    clock.forward(29)
    with pytest.raises(errors.LostClaim):
        await other.claim("vm", LEASE_MS)
    clock.forward(1)
    assert (await other.claim("vm", LEASE_MS)).pools == claim.pools
    with pytest.raises(errors.LostClaim):
        await live.claim("vm", LEASE_MS)


async def test_who_gives_up_is_followed_at_once_and_gives_up_only_its_own(store, live, other):
    await declare_live(store)
    await live.claim("vm", LEASE_MS)
    with pytest.raises(errors.LostClaim):
        await other.leave("vm")
    await live.leave("vm")
    await other.claim("vm", LEASE_MS)


async def test_who_lost_the_claim_writes_nothing(store, live, other, clock):
    await declare_live(store)
    late = await live.claim("vm", LEASE_MS)
    clock.forward(30)
    await other.claim("vm", LEASE_MS)
    with pytest.raises(errors.LostClaim):
        await live.observe(late, "default", Observation({"n": {"slots": 9}}, {}))
    assert (await store.pool("vm", "default")).capacity == {}


async def test_who_lost_the_claim_has_no_error_to_tell(store, live, other, clock):
    await declare_live(store)
    late = await live.claim("vm", LEASE_MS)
    clock.forward(30)
    await other.claim("vm", LEASE_MS)
    await live.failed(late, "default", "not now")
    assert (await store.pool("vm", "default")).error is None


async def test_a_longer_stale_after_lets_them_go(store, live, clock):
    await declare_live(store)
    await see(live, a={"slots": 1})
    await create(store, "a")
    clock.forward(100)
    assert await admit(store) == []
    assert await store.configure("vm", {"stale_after": 200}) == ["default"]
    assert await admit(store) == ["a"]


async def test_what_was_read_of_another_aggregate_is_refused(store, live):
    await declare_live(store)
    late = await live.claim("vm", LEASE_MS)
    await declare_live(store, aggregate="b")
    with pytest.raises(errors.LostClaim):
        await live.observe(late, "default", Observation({"n": {"slots": 9}}, {}))
    await live.failed(late, "default", "there is no a")
    assert (await store.pool("vm", "default")).error is None
    await store.delete_pool("vm", "default")
    with pytest.raises(errors.LostClaim):
        await live.observe(late, "default", Observation({"n": {"slots": 9}}, {}))
    await live.failed(late, "default", "there is no a")


async def test_what_was_compared_with_other_amounts_is_refused(
    store, live, redis, namespace, clock, monkeypatch
):
    await declare_live(store)
    await see(live, n={"slots": 1})
    claim, run = await live.claim("vm", LEASE_MS), live._scripts.run

    async def late(name, *rest, **arguments):
        # Somebody else has written between the look and this.
        await redis.hset(Keys(namespace).of("vm", "observed"), "default", clock.now + 1)
        return await run(name, *rest, **arguments)

    monkeypatch.setattr(live._scripts, "run", late)
    with pytest.raises(errors.LostClaim):
        await live.observe(claim, "default", Observation({"n": {"slots": 9}}, {}))
    assert (await store.pool("vm", "default")).capacity == {"n": {"slots": 1}}


async def test_to_put_the_same_again_forgets_nothing(store, live):
    await declare_live(store)
    await see(live, n={"slots": 9})
    await declare_live(store)
    assert (await store.pool("vm", "default")).observed is not None
    await declare_live(store, aggregate="b")
    assert (await store.pool("vm", "default")).observed is None


@pytest.mark.parametrize("written", ["", "nonsense", "-1:x", "99999999999999999999:x", "1e999:x", "5"])
async def test_a_reader_that_nobody_wrote_holds_nobody_up(store, live, redis, namespace, written):
    await declare_live(store)
    await redis.set(Keys(namespace).of("vm", "reader"), written)
    await live.claim("vm", LEASE_MS)


# --- sources and their pools -------------------------------------------------------------------------


async def test_a_pool_is_of_its_queues_source(store):
    live = Pool("p", {}, source="kubernetes", found_by={"selector": "a=b"})
    with pytest.raises(errors.WrongSource):
        await store.put_pool("vm", live)
    await store.configure("vm", {"source": "kubernetes"})
    with pytest.raises(errors.WrongSource):
        await store.put_pool("vm", Pool("p", {}))
    with pytest.raises(errors.WrongSource):
        await store.put_pool("vm", Pool("p", {}, source="openstack", found_by={"aggregate": "a"}))
    await store.put_pool("vm", live)
    for source in (None, "declared", "openstack"):
        with pytest.raises(errors.WrongSource) as refused:
            await store.configure("vm", {"source": source, "paused": True})
        assert refused.value.field == "source"
    assert not (await store.queue("vm")).settings.paused
    await store.configure("vm", {"source": "kubernetes", "paused": True})
    await store.delete_pool("vm", "p")
    await store.configure("vm", {"source": None})
    await store.put_pool("vm", Pool("p", {}))


async def test_types_with_live_pools(store, live):
    await store.put_pool("vm", Pool("p", {}))
    await store.configure("gpu", {"source": "kubernetes"})
    await store.put_pool("gpu", Pool("p", {}, source="kubernetes", found_by={"selector": "a"}))
    assert await live.types() == {"gpu": "kubernetes"}
