"""seen: every waiting job says its position, why it waits, and an honest estimate or none."""

from typing import Any

from tests.conftest import Service


async def test_every_waiting_job_says_where_and_why(service: Service) -> None:
    async def create(name: str, pool: str, slots: int = 1) -> None:
        data = {"instances": [{"slots": slots}], "host_aggregate": pool}
        body = {"request_id": name, "owner_id": "y", "callback": f"http://127.0.0.1:9/{name}", "data": data}
        assert (await service.call("POST", "/v1/vm/", body))[0] == 201

    async def seen(name: str) -> tuple[Any, ...]:
        _, answer = await service.call("GET", f"/v1/vm/{name}")
        return tuple(answer["data"][field] for field in ("Position", "Ahead", "Reason", "EstimatedStart"))

    no_room = "waiting_for_capacity: pool p has no host with 2 slots free (most is 0 on n)"

    await service.call("PUT", "/queues/vm/pools/p", {"hosts": {"n": {"slots": 2}}})
    await create("huge", "p", 3)
    await create("first", "p", 2)
    await create("nowhere", "not declared")
    await service.reaper.drain()
    await create("second", "p", 2)
    await create("third", "p")
    await service.settle()
    assert await seen("huge") == (0, 0, "never_fits: no host of pool p has 3 slots (most is 2)", None)
    assert await seen("nowhere") == (1, 0, "no_pool: pool not declared is not declared", None)
    assert await seen("second") == (2, 1, no_room, None)
    assert await seen("third") == (3, 2, "behind: 2 jobs before it wait for pool p", None)
    await service.call("PUT", "/queues/vm", {"paused": True})
    assert await seen("third") == (3, 2, "paused: queue vm is paused", None)
