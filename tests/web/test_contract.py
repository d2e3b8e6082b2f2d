"""Whatever the OpenAPI document has of good answers is really answered: no field of it is only on paper.

That nothing else is answered is seen by every test that asks by `ask`; see tests/web/contract.py.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from rqueue import tokens
from rqueue.domain.caller import Role
from rqueue.domain.job import ACCEPTED, FINISH
from tests.conftest import Clock, Service, config_of, serving
from tests.store.line import CLAIM_MS
from tests.web.contract import contract
from tests.web.wire import ask, job

# A toleration is written as a pod has it; what means nothing here is not kept.
ONLY_SENT = {"Toleration.tolerationSeconds"}


@pytest.fixture
async def guarded(
    tmp_path: Path, namespace: str, redis_url: str, real_redis: Any, clock: Clock
) -> AsyncIterator[tuple[Service, dict[str, str]]]:
    """A service that wants tokens and has an inbox, and an administrator's headers."""
    token, entry = tokens.make("a", Role.ADMIN, (), ())
    tokens.add(tmp_path / "tokens", entry)
    config = config_of(namespace, tokens_file=tmp_path / "tokens", callback_base_url=None)
    async with serving(config, redis_url, clock) as service:
        yield service, {"Authorization": f"Bearer {token}"}


async def test_every_field_of_an_answer_is_seen(
    guarded: tuple[Service, dict[str, str]], real_redis: Any, namespace: str, clock: Clock
) -> None:
    service, headers = guarded

    async def get(path: str) -> Any:
        return (await ask(service, "GET", path, headers=headers)).data

    async def send(method: str, path: str, body: Any = None, **more: str) -> Any:
        answer = await ask(service, method, path, body, headers={**headers, **more})
        assert answer.status < 300, answer.text
        return answer.data

    seen = contract().seen
    seen.clear()
    for path in ("/healthz", "/inbox/", "/board/session"):
        await get(path)
    await service.reaper.tick()
    await get("/readyz")
    token = headers["Authorization"].partition(" ")[2]
    assert (await ask(service, "POST", "/board/login", {"token": token})).status == 200
    await ask(service, "POST", "/board/logout", {})
    await ask(service, "POST", "/inbox/x", {})
    await get("/inbox/")

    # A line that moves, one host wide.
    await send("PUT", "/queues/vm", {"max_queued": 1000})
    pool = {"hosts": {"n": {"slots": 2}}, "projects": ["p"], "quotas": {"*": {"slots": 100}}}
    await send("PUT", "/queues/vm/pools/default", pool)
    await send("POST", "/v1/vm/", [job(f"j{n}") for n in range(30)])
    await service.store.admit("vm", "default", CLAIM_MS)
    for n in range(12):
        clock.forward(10)
        await service.store.transition("vm", f"j{n}", FINISH, claim_ms=CLAIM_MS)
    await service.store.transition("vm", "j12", ACCEPTED)
    await real_redis.hset(f"{namespace}:{{vm}}:job:j13", "LastError", "refused")
    for n in (12, 13, 20):
        await get(f"/v1/vm/j{n}")
    await get("/v1/vm/j12/events")
    await get("/v1/vm/?status=queued&limit=2&standing=true")
    await get("/queues/vm/pools/default")
    await get("/queues/vm/events?limit=2")
    await send("POST", "/v1/vm/j20", {"position": "back"}, Prefer="return=representation")
    await send("DELETE", "/v1/vm/j20")
    simulated = {"jobs": [job("new") | {"data": {}}], "pools": {"default": {"hosts": {"m": {"slots": 9}}}}}
    del simulated["jobs"][0]["callback"]
    await send("POST", "/queues/vm/simulate", simulated)
    await send("DELETE", "/queues/vm/pools/default")

    # Pools that a source fills, as its readers write them; and a queue that somebody broke.
    toleration = {
        "key": "gpu",
        "operator": "Equal",
        "value": "yes",
        "effect": "NoExecute",
        "tolerationSeconds": 5,
    }
    await send("PUT", "/queues/kube", {"source": "kubernetes"})
    await send("PUT", "/queues/kube/pools/p", {"selector": "a=b", "tolerations": [toleration]})
    await send("PUT", "/queues/cloud", {"source": "openstack"})
    await send("PUT", "/queues/cloud/pools/p", {"aggregate": "a"})
    for name, value in (("capacity:p", {"n/VCPU": "4"}), ("seen:p", {"n/VCPU": "1"})):
        await real_redis.hset(f"{namespace}:{{cloud}}:{name}", mapping=value)
    await get("/queues/cloud/pools/p")
    await real_redis.sadd(f"{namespace}:types", "broken")
    await real_redis.set(f"{namespace}:{{broken}}:settings", "x")
    await get("/queues/")
    await get("/queues/vm")
    assert contract().fields() - seen == ONLY_SENT
