"""A receiver's end: what is verified and what is not, and the handler on a running service."""

import asyncio
import base64
import io
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from standardwebhooks import Webhook

from rqueue.client import Call, Client, NotVerified, NotWanted, connected, receiver, verify, webhooks
from tests.conftest import Service, config_of, serving

OLD, NEW, OTHER = (f"whsec_{base64.b64encode(bytes([n]) * 24).decode()}" for n in range(3))
JOB: dict[str, Any] = {
    "ID": 1,
    "CreatedAt": "2026-11-23T18:50:37.624764+00:00",
    "UpdatedAt": "2026-11-23T18:50:37.624764+00:00",
    "DeletedAt": None,
    "RequestID": "d",
    "Type": "vm",
    "OwnerID": "y",
    "Data": '{"n":"ü"}',
    "Callback": "abc",
    "Priority": 1,
    "Status": "calling",
    "Placement": ["n1"],
}
BODY = orjson.dumps({"type": "job.admitted", "timestamp": "2026-11-23T18:50:37.759462+00:00", "data": JOB})


def signed(body: bytes = BODY, *secrets: str, id_: str = "adm_1-1", age: float = 0) -> dict[str, str]:
    at = int(time.time() - age)
    moment = datetime.fromtimestamp(at, UTC)
    signatures = [Webhook(secret).sign(id_, moment, body.decode()) for secret in secrets or (NEW,)]
    return {
        "Webhook-Id": id_,
        "webhook-timestamp": str(at),
        "WEBHOOK-SIGNATURE": " ".join(signatures),
        "Content-Type": "application/json",
    }


def test_a_call_is_read() -> None:
    call = verify(signed(), BODY, NEW)
    assert (call.id, call.type, call.job.request_id) == ("adm_1-1", "job.admitted", "d")
    assert (call.job.data, call.job.placement, call.timestamp.year) == ({"n": "ü"}, ("n1",), 2026)
    assert call.document["data"] == JOB


def test_two_secrets_while_rotating() -> None:
    # The receiver has both, the sender the old one; then the sender has both, the receiver one of them.
    assert verify(signed(BODY, OLD), BODY, [NEW, OLD])
    assert verify(signed(BODY, NEW, OLD), BODY, [OLD])
    assert verify(signed(BODY, NEW, OLD), BODY, (NEW,))
    with pytest.raises(NotVerified, match="No matching signature"):
        verify(signed(BODY, OTHER), BODY, [NEW, OLD])


def test_five_minutes_are_tolerated() -> None:
    assert verify(signed(age=290), BODY, NEW)
    assert verify(signed(age=-290), BODY, NEW)
    for age in (310, -310):
        with pytest.raises(NotVerified, match="too"):
            verify(signed(age=age), BODY, NEW)


@pytest.mark.parametrize("name", ["Webhook-Id", "webhook-timestamp", "WEBHOOK-SIGNATURE"])
@pytest.mark.parametrize(
    "value",
    [None, "", "x", "v1", "v1,", "v1,====", "v1,ü", "v2,AAAA", "nan", "1e999", "-1", "0", "v1,a b", ","],
)
def test_headers_that_are_not_as_they_must_be(name: str, value: str | None) -> None:
    headers = signed()
    if value is None:
        del headers[name]
    else:
        headers[name] = value
    with pytest.raises(NotVerified):
        verify(headers, BODY, NEW)


@pytest.mark.parametrize("body", [b"", b"\xff", BODY + b" ", BODY.replace(b"vm", b"gp")])
def test_another_body_than_was_signed(body: bytes) -> None:
    with pytest.raises(NotVerified):
        verify(signed(), body, NEW)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"5",
        orjson.dumps({"type": "t", "timestamp": "x", "data": JOB}),
        orjson.dumps({"type": "t", "timestamp": "2026-11-23T18:50:37Z", "data": {}}),
    ],
)
def test_what_is_signed_and_no_callback(body: bytes) -> None:
    with pytest.raises(NotVerified, match="no callback"):
        verify(signed(body), body, NEW)


def test_secrets_are_the_environments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RQUEUE_CALLBACK_SECRETS", "RQUEUE_CALLBACK_SECRETS_FILE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="no secret"):
        verify(signed(), BODY)
    with pytest.raises(ValueError, match="no secret"):
        verify(signed(), BODY, [])
    with pytest.raises(ValueError, match="whsec_"):
        receiver(lambda _: asyncio.sleep(0), "whsec_short")
    monkeypatch.setenv("RQUEUE_CALLBACK_SECRETS", f"{OLD}, {NEW}")
    assert verify(signed(), BODY)
    monkeypatch.setenv("RQUEUE_CALLBACK_SECRETS", OLD)
    with pytest.raises(NotVerified):
        verify(signed(), BODY)
    path = tmp_path / "secrets"
    monkeypatch.setenv("RQUEUE_CALLBACK_SECRETS_FILE", str(path))
    with pytest.raises(ValueError, match="both set"):
        verify(signed(), BODY)
    monkeypatch.delenv("RQUEUE_CALLBACK_SECRETS")
    with pytest.raises(ValueError, match="cannot be read"):
        verify(signed(), BODY)
    path.write_text(f"{NEW}\n{OTHER}\n")
    assert verify(signed(), BODY)


# --- the handler -------------------------------------------------------------------------------------


@asynccontextmanager
async def handling(handler: Callable[[web.Request], Any]) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/called/{id}", handler)
    # As some have it: who goes away ends the handler.
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/called"
    finally:
        await runner.cleanup()


class Portal:
    """What a receiver does: it keeps its calls, and raises what it is told to."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.raises: BaseException | None = None
        self.goes_on = asyncio.Event()
        self.goes_on.set()

    async def admitted(self, call: Call) -> None:
        self.calls.append(call)
        await self.goes_on.wait()
        if self.raises is not None:
            raise self.raises


async def send(url: str, headers: dict[str, str] | None = None, body: bytes = BODY) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/d", data=io.BytesIO(body), headers=headers or signed(body)) as response,
    ):
        return response.status


async def test_a_call_that_comes_again_is_handed_over_once() -> None:
    portal = Portal()
    async with handling(receiver(portal.admitted, [NEW])) as url:
        assert [await send(url) for _ in range(3)] == [204] * 3
        assert len(portal.calls) == 1
        # Meanwhile, too: the service gives up waiting, and calls again.
        portal.goes_on.clear()
        sending = [asyncio.create_task(send(url, signed(id_="adm_2-1"))) for _ in range(3)]
        async with asyncio.timeout(20):
            while len(portal.calls) < 2:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)
        sending[0].cancel()
        # Time for the server to see that nobody waits there any more.
        await asyncio.sleep(0.1)
        portal.goes_on.set()
        assert await asyncio.gather(*sending[1:]) == [204, 204]
        assert [call.id for call in portal.calls] == ["adm_1-1", "adm_2-1"]


async def test_what_a_receiver_raises_is_the_answer(caplog: pytest.LogCaptureFixture) -> None:
    portal = Portal()
    async with handling(receiver(portal.admitted, [NEW])) as url:
        portal.raises = RuntimeError("the cloud is away")
        assert [await send(url), await send(url)] == [503, 503]
        assert "on_admitted failed for job 'd' of type 'vm'" in caplog.text
        # It failed, so that it is handed over again.
        portal.raises = None
        assert [await send(url), await send(url)] == [204, 204]
        assert len(portal.calls) == 3
        portal.raises = NotWanted()
        assert [await send(url, signed(id_="b")), await send(url, signed(id_="b"))] == [410, 410]
        assert len(portal.calls) == 4


async def test_what_is_not_verified_is_not_handed_over() -> None:
    portal = Portal()
    async with handling(receiver(portal.admitted, [NEW], max_body=2000)) as url:
        assert await send(url, signed(BODY, OTHER)) == 401
        assert await send(url, {"x": "y"}) == 401
        assert await send(url, body=BODY + b" " * 2000) == 413
    async with handling(receiver(portal.admitted, [NEW])) as url:
        # More than aiohttp takes by itself.
        assert await send(url, body=BODY + b" " * (2 << 20)) == 204
        assert await send(url, body=BODY + b" " * webhooks.MAX_BODY) == 413
    assert len(portal.calls) == 1


async def test_as_many_are_remembered_as_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "REMEMBERED", 2)
    portal = Portal()
    async with handling(receiver(portal.admitted, [NEW])) as url:
        for id_ in "abcb":
            assert await send(url, signed(id_=id_)) == 204
        assert [call.id for call in portal.calls] == ["a", "b", "c"]
        assert await send(url, signed(id_="a")) == 204
        assert len(portal.calls) == 4


@pytest.fixture
async def service(redis_url: str, real_redis: Any, namespace: str, clock: Any) -> AsyncIterator[Service]:
    async with serving(config_of(namespace, callback_secrets=(NEW, OLD)), redis_url) as service:
        yield service


async def test_the_services_own_calls(service: Service) -> None:
    portal = Portal()

    async def wanted(client: Client, name: str, url: str) -> str:
        await client.create(
            "vm", owner_id="y", data={"n": "ü" * 1000}, callback=f"{url}/{name}", request_id=name
        )
        await service.settle()
        return (await client.get("vm", name)).status

    async with connected(service.url, "") as client, handling(receiver(portal.admitted, OLD)) as url:
        await client.put_pool("vm", "default", {"hosts": {"n": {"slots": 9}}})
        assert await wanted(client, "a", url) == "running"
        assert portal.calls[0].job.placement == ("n",)
        portal.raises = NotWanted()
        assert await wanted(client, "b", url) == "cancelled"
        portal.raises = ValueError()
        assert await wanted(client, "c", url) == "calling"
        assert (await client.get("vm", "c")).last_error == "the receiver answered 503"
