"""Replicas whose own clocks are an hour off: the clock that counts is Redis's, for all of them."""

import asyncio
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from standardwebhooks import Webhook

from tests.conftest import receiving
from tests.invariants import check
from tests.process import SERVE, running

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
OFF = {"ahead": "+3600s", "behind": "-3600s", "right": "+0s"}

pytestmark = pytest.mark.skipif(
    not (LIBRARY and shutil.which("faketime")),
    reason="NOT TRIED: replicas whose clocks are wrong; Debian's package faketime is not installed",
)


class Replica:
    """One replica over HTTP."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        async with self.session.request(method, path, json=body) as response:
            return response.status, (await response.json())["data"] if response.ok else None

    async def job(self, type_: str, name: str) -> dict[str, Any] | None:
        return (await self.call("GET", f"/v1/{type_}/{name}"))[1]


@asynccontextmanager
async def replicas(directory: Path, redis_url: str, namespace: str) -> AsyncIterator[dict[str, Replica]]:
    settings = {"REDIS_URL": redis_url, "NAMESPACE": namespace, "CALLBACK_ALLOW": "127.0.0.0/8"}
    async with AsyncExitStack() as stack:

        async def start(offset: str) -> Replica:
            faked = ("env", f"LD_PRELOAD={LIBRARY}", f"FAKETIME={offset}", "FAKETIME_DONT_FAKE_MONOTONIC=1")
            service = await stack.enter_async_context(running(directory, (*faked, *SERVE), **settings))
            return Replica(await stack.enter_async_context(aiohttp.ClientSession(service.url)))

        # One after another: a stack is no place for several at once.
        yield {name: await start(offset) for name, offset in OFF.items()}


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await condition():  # noqa: ASYNC110 - there is no event to wait for over HTTP
            await asyncio.sleep(0.05)


def at(written: str) -> datetime:
    return datetime.fromisoformat(written)


async def test_replicas_an_hour_off_behave_like_one_that_is_right(tmp_path, redis_url, real_redis, namespace):
    asked: Counter[str] = Counter()

    def answer(request: web.Request) -> web.Response:
        _, type_, _ = request.path.split("/")
        asked[request.path] += 1
        if type_ == "dead":
            return web.Response(status=500)
        if type_ == "late" and asked[request.path] == 1:
            moment = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
            return web.Response(status=503, headers={"Retry-After": moment})
        return web.Response()

    async with (
        receiving() as receiver,
        replicas(tmp_path, redis_url, namespace) as all_,
    ):
        receiver.answer = answer
        for name, replica in all_.items():
            async with replica.session.get("/healthz") as response:
                said = parsedate_to_datetime(response.headers["Date"]) - datetime.now(UTC)
            assert abs(said - timedelta(seconds=int(OFF[name][:-1]))) < timedelta(seconds=5)
        first, *others = all_.values()
        types = {
            "vm": {"paused": True},
            "late": {},
            "dead": {"call_deadline": 2},
            "lease": {"lease_seconds": 2},
            "gone": {"retention": 2},
        }
        for type_, settings in types.items():
            await first.call("PUT", f"/queues/{type_}/pools/default", {"hosts": {"n": {"slots": 100}}})
            assert (await first.call("PUT", f"/queues/{type_}", settings))[0] == 200

        async def post(replica: Replica, type_: str, name: str) -> None:
            body = {"request_id": name, "owner_id": "y", "callback": f"{receiver.url}/{type_}/{name}"}
            assert (await replica.call("POST", f"/v1/{type_}/", body))[0] == 201

        # In line in the order in which they came, to whichever replica.
        began = datetime.now(UTC) - timedelta(seconds=1)
        for turn in range(3):
            for name, replica in all_.items():
                await post(replica, "vm", f"{name}{turn}")
        waiting = (await others[0].call("GET", "/v1/vm/"))[1]
        assert [job["RequestID"] for job in waiting] == [f"{name}{n}" for n in range(3) for name in OFF]
        for job in waiting:
            assert began <= at(job["CreatedAt"]) <= datetime.now(UTC) + timedelta(seconds=1)
            assert abs(job["Priority"] - at(job["CreatedAt"]).timestamp() * 1e6) < 1e6

        # Each replica calls the jobs that it was given; they verify by the clock of whoever is called.
        for type_ in ("late", "dead", "lease", "gone"):
            for name, replica in all_.items():
                await post(replica, type_, name)
        await first.call("PUT", "/queues/vm", {"paused": False})
        await receiver.until(9 + 4 * 3)

        # Retried when the receiver's date says, leases, deadlines and retention: all in Redis's time.
        for name, replica in all_.items():
            await until(lambda n=name, r=replica: _is(r, "gone", n, "running"))
            assert (await replica.call("DELETE", f"/v1/gone/{name}"))[0] == 200
        for name in OFF:
            for replica in all_.values():
                await until(lambda n=name, r=replica: _is(r, "late", n, "running"))
                await until(lambda n=name, r=replica: _is(r, "dead", n, "failed"))
                await until(lambda n=name, r=replica: _is(r, "lease", n, "expired"))
                await until(lambda n=name, r=replica: _is(r, "gone", n, None))
            late, dead, lease = [await first.job(type_, name) for type_ in ("late", "dead", "lease")]
            assert late["Attempts"] == 2
            for job in (dead, lease):
                took = (at(job["DeletedAt"]) - at(job["CreatedAt"])).total_seconds()
                assert 2 <= took < 6, job
        secret = await real_redis.get(f"{namespace}:callback_secret")
        for _, headers, body in receiver.calls:
            Webhook(secret).verify(body, {name.lower(): value for name, value in headers.items()})
        await check(real_redis, namespace)


async def _is(replica: Replica, type_: str, name: str, status: str | None) -> bool:
    job = await replica.job(type_, name)
    return (job["Status"] if job else None) == status
