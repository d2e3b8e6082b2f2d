"""Store.create and create.lua."""
from tests.conftest import new
from tests import invariants


async def test_create(store, redis, namespace):
    jobs, pools = await store.create("vm", [new("a"), new("b", priority=5)])
    assert [j.id for j in jobs] == [1, 2]
    assert pools == ["default"]
    await invariants.check(redis, namespace)


async def test_service(service, receiver):
    await service.call("PUT", "/queues/vm/pools/default", {"hosts": {"n": {"slots": 1}}})
    print(await service.call("POST", "/v1/vm/", {"request_id": "a", "owner_id": "o", "callback": receiver.url + "/x"}))
    await receiver.until(1)
    await service.settle()
    print(receiver.calls, await service.call("GET", "/v1/vm/a"))
