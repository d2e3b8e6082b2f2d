"""called: an admitted job's callback is delivered at least once, or the job ends visibly failed."""

import asyncio
import base64
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import aiohttp
import orjson
import pytest
from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

from tests import invariants
from tests.conftest import Clock, Receiver, Service, receiving, redis_at
from tests.process import running

JOBS = 300
KILLED_AT = 100


@pytest.mark.timeout(120)
async def test_a_kill_while_300_jobs_are_called_loses_none(tmp_path: Path) -> None:
    async with receiving() as receiver:
        answering = asyncio.Event()

        async def slowly(request: web.Request) -> web.Response:
            # The first ones are answered, the others hang until the service was killed.
            if len(receiver.calls) > KILLED_AT // 2:
                await answering.wait()
            return web.Response()

        receiver.answer = slowly
        settings = {"CALLBACK_TIMEOUT": "2"}
        async with running(tmp_path, **settings) as first, aiohttp.ClientSession(first.url) as session:
            hosts = {f"n{n}": {"VCPU": JOBS} for n in range(2)}
            await session.put("/queues/vm/pools/default", json={"hosts": hosts})
            shape = {"instances": [{"VCPU": 1}]}
            bodies = [
                {"request_id": f"j{n}", "owner_id": "y", "callback": f"{receiver.url}/j{n}", "data": shape}
                for n in range(JOBS)
            ]
            async with session.post("/v1/vm/", json=bodies) as response:
                assert response.status == 201
            await receiver.until(KILLED_AT // 2 + 32)
            await first.kill()
        answering.set()
        async with running(tmp_path, **settings) as second, aiohttp.ClientSession(second.url) as session:
            await receiver.until(JOBS + 32, seconds=60)
            async with asyncio.timeout(60):
                while True:
                    async with session.get("/v1/vm/?status=calling&limit=1") as response:
                        if not (await response.json())["data"]:
                            break
                    await asyncio.sleep(0.2)
            async with redis_at(second.redis_url) as redis:
                jobs = await invariants.check(redis, "rqueue")
                used = await redis.hgetall("rqueue:{vm}:used:default")
    assert {job["Status"] for job in jobs.values()} == {"running"}
    assert sum(map(int, used.values())) == JOBS
    ids = defaultdict(set)
    for path, headers, body in receiver.calls:
        ids[path].add(headers["webhook-id"])
        assert orjson.loads(body)["data"]["RequestID"] == path[1:]
    assert {path: len(of) for path, of in ids.items()} == {f"/j{n}": 1 for n in range(JOBS)}


@pytest.mark.timeout(120)
async def test_rotating_the_signing_secrets_under_load_loses_no_callback(tmp_path: Path) -> None:
    """The old one, both, the new one: without a restart, and every call verifies with one of them."""
    old, new = (f"whsec_{base64.b64encode(bytes([n]) * 24).decode()}" for n in (1, 2))
    names = {old: "old", new: "new"}
    signed: dict[str, set[str]] = {}  # path → the secrets with which its call verifies
    kinds: set[frozenset[str]] = set()

    def verify(request: web.Request) -> web.Response:
        path, headers, body = receiver.calls[-1]
        assert path == request.path
        found = set()
        for secret, name in names.items():
            with suppress(WebhookVerificationError):
                Webhook(secret).verify(body, headers)
                found.add(name)
        signed.setdefault(path, set()).update(found)
        kinds.add(frozenset(found))
        return web.Response(status=200 if found else 401)

    file = tmp_path / "secrets"
    file.write_text(old)

    def replaced(content: str) -> None:
        # By a rename: written in place, it would be empty for a moment, and that is logged.
        (tmp_path / "next").write_text(content)
        (tmp_path / "next").replace(file)

    async with receiving() as receiver:
        receiver.answer = verify
        async with (
            running(tmp_path / "data", CALLBACK_SECRETS_FILE=str(file), WORKERS="2") as service,
            aiohttp.ClientSession(service.url) as session,
        ):
            await session.put("/queues/vm/pools/default", json={"hosts": {"n": {"slots": 1_000_000}}})
            posted, ending = [], asyncio.Event()

            async def load(client: int) -> None:
                n = 0
                while not ending.is_set():
                    name = f"j{client}-{n}"
                    body = {"request_id": name, "owner_id": "y", "callback": f"{receiver.url}/{name}"}
                    async with session.post("/v1/vm/", json=body) as response:
                        assert response.status == 201
                    posted.append(name)
                    n += 1

            async def until_signed_with(*wanted: str) -> None:
                count = 0
                async with asyncio.timeout(30):
                    while frozenset(wanted) not in kinds or len(receiver.calls) < count + 50:
                        count = count or len(receiver.calls)
                        await asyncio.sleep(0.01)

            clients = [asyncio.create_task(load(client)) for client in range(4)]
            await until_signed_with("old")
            replaced(f"{new}\n{old}\n")
            await until_signed_with("old", "new")
            replaced(new)
            await until_signed_with("new")
            ending.set()
            await asyncio.gather(*clients)
            async with asyncio.timeout(30):
                waiting = True
                while waiting:
                    async with session.get("/v1/vm/?status=running") as response:
                        waiting = len((await response.json())["data"]) < len(posted)
    assert kinds == {frozenset(["old"]), frozenset(["old", "new"]), frozenset(["new"])}
    assert set(signed) == {f"/{name}" for name in posted}
    assert not [event for event in service.log if event["level"] in ("ERROR", "WARNING")]


async def test_a_client_that_is_gone_frees_its_capacity_for_the_next(
    service: Service, receiver: Receiver, clock: Clock
) -> None:
    receiver.answer = lambda request: web.Response(status=200 if request.path == "/next" else 503)
    await service.call("PUT", "/queues/vm", {"call_deadline": 60})
    await service.call("PUT", "/queues/vm/pools/default", {"hosts": {"n": {"slots": 1}}})
    for name in ("gone", "next"):
        body = {"request_id": name, "owner_id": "y", "callback": f"{receiver.url}/{name}"}
        assert (await service.call("POST", "/v1/vm/", body))[0] == 201
    for _ in range(70):
        await service.settle()
        clock.forward(1)
    await service.settle()
    _, gone = await service.call("GET", "/v1/vm/gone")
    _, following = await service.call("GET", "/v1/vm/next")
    assert (gone["data"]["Status"], gone["data"]["LastError"]) == ("failed", "the receiver answered 503")
    assert gone["data"]["Attempts"] > 3
    assert following["data"]["Status"] == "running"
    assert len({headers["webhook-id"] for path, headers, _ in receiver.calls if path == "/gone"}) == 1
