"""spread.lua: a range of ranks that is too large for one script is spread in steps."""

import pytest

from rqueue import errors
from rqueue.domain.caller import ANYONE
from rqueue.store import dry
from rqueue.store import store as module
from tests import invariants
from tests.conftest import new
from tests.store.line import line


@pytest.fixture
async def crowded(store, redis):
    """600 jobs whose ranks follow one another without a gap, as no move leaves them: 599 halvings would."""
    names = [f"j{n}" for n in range(600)]
    await store.create("vm", [new(name, priority=5) for name in names])
    key = store._keys.of
    for at, name in enumerate(names):
        old, rank = f"{(at + 1) << 20:014x}:{name}", f"{(1 << 40) + at:014x}"
        for zset in ("queue", "owner:y", "pool:default"):
            await redis.zrem(key("vm", zset), old)
            await redis.zadd(key("vm", zset), {f"{rank}:{name}": 5})
        await redis.hset(key("vm", "job:") + name, "Rank", rank)
    return names


@pytest.mark.parametrize("at", [0, 1, 300, 597])
async def test_a_move_into_a_crowd_spreads_it_first(store, redis, namespace, crowded, at):
    await store.create("vm", [new("x")])
    job, _, touched = await store.move("vm", "x", "between", crowded[at], crowded[at + 1])
    assert job.priority == 5
    assert 0 < touched <= 1200
    assert await line(store) == [*crowded[: at + 1], "x", *crowded[at + 1 :]]
    jobs = await invariants.check(redis, namespace)
    assert {found["Priority"] for found in jobs.values()} == {"5"}


async def test_a_move_into_a_crowd_is_tried_where_little_is_to_be_spread(store, redis, namespace, crowded):
    await store.create("vm", [new("x")])
    before = await invariants.check(redis, namespace)
    where = ("between", crowded[300], crowded[301])
    would = await store.dry.move("vm", "x", *where, caller=ANYONE)
    assert await invariants.check(redis, namespace) == before
    await store.move("vm", "x", *where)
    assert await store.get("vm", "x") == would


async def test_a_move_into_a_larger_crowd_is_not_tried(store, redis, namespace, crowded, monkeypatch):
    await store.create("vm", [new("x")])
    before = await invariants.check(redis, namespace)
    monkeypatch.setattr(dry, "SPREAD_AT_ONCE", 1)
    with pytest.raises(errors.RedisUnavailable, match="dry run"):
        await store.dry.move("vm", "x", "between", crowded[300], crowded[301], caller=ANYONE)
    assert await invariants.check(redis, namespace) == before


async def test_no_step_touches_more_than_it_may(store, redis, namespace, crowded):
    """Each step leaves the same order, whoever looks between two of them."""
    low, size = (1 << 40) - (1 << 30), 1 << 31
    sides = []
    for side in ("right", "left"):
        done = "0"
        while done:
            before = dict(await redis.zrange(store._keys.of("vm", "queue"), 0, -1, withscores=True))
            done, touched = await store._run(
                "spread",
                "vm",
                priority="5",
                low=low,
                size=size,
                side=side,
                done=done,
                most=module.SPREAD_STEP,
            )
            after = dict(await redis.zrange(store._keys.of("vm", "queue"), 0, -1, withscores=True))
            assert len(set(after) - set(before)) == touched <= module.SPREAD_STEP
            assert await line(store) == crowded
            sides.append(side)
    assert sides == ["right"] * 3 + ["left"] * 3
    ranks = sorted(int(member[:14], 16) for member in after)
    step = size // 601
    assert ranks == [low + step * n for n in range(1, 601)]
    await invariants.check(redis, namespace)


async def test_others_may_move_between_two_steps(store, redis, namespace, crowded):
    low, size = (1 << 40) - (1 << 30), 1 << 31
    order = list(crowded)
    await store.create("vm", [new(f"x{n}") for n in range(6)])
    for side in ("right", "left"):
        done, number = "0", 0
        while done:
            done, _ = await store._run(
                "spread", "vm", priority="5", low=low, size=size, side=side, done=done, most=250
            )
            mover = f"x{number + 3 * (side == 'left')}"
            neighbour = order[(97 * (number + 1)) % len(order)]
            await store.move("vm", mover, "after", neighbour)
            order.insert(order.index(neighbour) + 1, mover)
            number += 1
            assert [name for name in await line(store) if name in order] == order
    await invariants.check(redis, namespace)
