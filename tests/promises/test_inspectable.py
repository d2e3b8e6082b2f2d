"""inspectable: all is readable and repairable with redis-cli, and a hand edit crashes nothing."""

from collections.abc import Awaitable, Callable

import pytest
from redis.asyncio import Redis

from tests.conftest import Receiver, Service

EDITS: dict[str, Callable[["Redis", str], Awaitable[object]]] = {
    "a hash is gone": lambda redis, key: redis.delete(f"{key}:job:broken"),
    "a hash is cut": lambda redis, key: redis.hdel(f"{key}:job:broken", "Status", "OwnerID"),
    "a status is none": lambda redis, key: redis.hset(f"{key}:job:broken", "Status", "sleeping"),
    "a priority is none": lambda redis, key: redis.hset(f"{key}:job:broken", "Priority", "high"),
    "a demand is none": lambda redis, key: redis.hset(f"{key}:job:broken", "Demand", "[[1"),
    "a job is a string": lambda redis, key: redis.set(f"{key}:job:broken", "x"),
    "a stranger waits": lambda redis, key: redis.zadd(f"{key}:queue", {"stranger": 1}),
    "a stranger is in the pool": lambda redis, key: redis.zadd(f"{key}:pool:default", {"stranger": 1}),
    "a stranger is due": lambda redis, key: redis.zadd(f"{key}:due", {"stranger": 1}),
    "a setting is nonsense": lambda redis, key: redis.hset(f"{key}:settings", "call_deadline", "soon"),
    "an amount is nonsense": lambda redis, key: redis.hset(f"{key}:capacity:default", "n/slots", "many"),
    "the place is nonsense": lambda redis, key: redis.hset(f"{key}:heads", "default", "nowhere"),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
async def test_a_hand_edit_crashes_nothing(
    service: Service,
    real_redis: "Redis",
    namespace: str,
    receiver: Receiver,
    edit: Callable[..., Awaitable[object]],
) -> None:
    """Every answer stays below 500 or is a 503 that names what is wrong, and another type's jobs go on."""
    await service.call("PUT", "/queues/vm/pools/default", {"hosts": {"n": {"slots": 1}}})
    await service.call("PUT", "/queues/kube/pools/default", {"hosts": {"n": {"slots": 1}}})
    for name in ("holder", "broken", "other"):
        body = {"request_id": name, "owner_id": "y", "callback": f"{receiver.url}/{name}"}
        assert (await service.call("POST", "/v1/vm/", body))[0] == 201
    await service.settle()
    await edit(real_redis, f"{namespace}:{{vm}}")

    calls = [
        ("GET", "/v1/vm/", None),
        ("GET", "/v1/vm/?owner_id=y", None),
        ("GET", "/v1/vm/broken", None),
        ("POST", "/v1/vm/broken", {"position": "front"}),
        ("POST", "/v1/vm/other", {"after": "broken"}),
        ("POST", "/v1/vm/other", {"position": "front"}),
        ("GET", "/queues/vm", None),
        ("DELETE", "/v1/vm/holder", None),
        ("DELETE", "/v1/vm/broken", None),
    ]
    for method, path, body in calls:
        status, answer = await service.call(method, path, body)
        assert status < 500 or (status, answer["error"]["code"]) == (503, "store_damaged"), (
            method,
            path,
            answer,
        )

    body = {"request_id": "sound", "owner_id": "y", "callback": f"{receiver.url}/sound"}
    assert (await service.call("POST", "/v1/kube/", body))[0] == 201
    await service.settle()
    assert "/sound" in {path for path, _, _ in receiver.calls}
