"""Store.create and create.lua."""

from tests import invariants
from tests.conftest import new


async def test_create(store, redis, namespace):
    jobs, pools = await store.create("vm", [new("a"), new("b", priority=5)])
    assert [j.id for j in jobs] == [1, 2]
    assert pools == ["default"]
    await store.move("vm","a","front")
    await store.move("vm","a","after","b")
    for i in range(40):
        await store.create("vm",[new(f"x{i}")])
        r= await store.move("vm",f"x{i}","between","b","a" if i==0 else f"x{i-1}")
        print(r[0].priority,r[2], end=" ")
    print([j.request_id for j in (await store.page("vm")).jobs])
    await invariants.check(redis, namespace)
