"""rqueue.callbacks: what goes out, to whom it may go, and what an answer means.

Against real receivers on loopback. A delivery is made with the job given; nothing is in Redis.
"""

import asyncio
import base64
import ipaddress
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import orjson
import pytest
from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

from rqueue.callbacks import Callbacks, full_jitter, judge
from rqueue.domain.job import Job, Status
from rqueue.errors import InvalidCallback, Refused
from rqueue.guard import Guard
from tests.conftest import START, Receiver, receiving

OLD, NEW = (f"whsec_{base64.b64encode(bytes([n]) * 24).decode()}" for n in (1, 2))
LOOPBACK = ("127.0.0.0/8", "::1")
NOW = datetime(2027, 1, 15, 8, tzinfo=UTC)


def job_for(callback: str) -> Job:
    """A job that is being called; its names hold dots, which must not get into the signed form."""
    return Job(
        id=7,
        created_at=START,
        updated_at=int(time.time() * 1e6),
        deleted_at=None,
        request_id="a.b",
        type="v.m",
        owner_id="y.z",
        data="{}",
        callback=callback,
        priority=1,
        status=Status.CALLING,
        pool="default",
        placement=("n1",),
        attempts=1,
        admission="0123456789abcdef-7",
        admitted_at=START,
    )


@asynccontextmanager
async def calling(
    allow: tuple[str, ...] = LOOPBACK,
    deny: tuple[str, ...] = (),
    timeout: float = 5,  # noqa: ASYNC109 - a setting, not this function's own
    secrets: tuple[str, ...] = (NEW,),
    base_url: str = "",
    guard: Guard | None = None,
) -> AsyncIterator[Callbacks]:
    callbacks = Callbacks(guard or Guard(allow, deny), base_url, timeout)
    callbacks.sign_with(secrets)
    async with callbacks:
        yield callbacks


def port_of(receiver: Receiver) -> str:
    return receiver.url.rpartition(":")[2]


def verified(secret: str, call: tuple[str, dict[str, str], bytes], **changed: str) -> dict:
    _, headers, body = call
    signed = {name.lower(): value for name, value in headers.items() if name.lower().startswith("webhook-")}
    return Webhook(secret).verify(body, signed | changed)


@asynccontextmanager
async def raw(respond) -> AsyncIterator[tuple[str, list[int]]]:
    """A server that speaks as badly as it likes. Yields its URL and a list with one entry a request."""
    requests: list[int] = []
    tasks: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            requests.append(1)
            await respond(writer)
        finally:
            writer.transport.abort()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.create_task(serve(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", requests
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# --- what goes out -----------------------------------------------------------------------------------


async def test_the_call_is_a_signed_event_that_holds_the_job(receiver):
    job = job_for(f"{receiver.url}/x?y=1")
    async with calling() as callbacks:
        verdict = await callbacks.deliver(job)
    assert verdict.outcome == "accepted"
    ((path, headers, body),) = receiver.calls
    assert path == "/x"
    assert headers["Content-Type"] == "application/json"
    event = orjson.loads(body)
    assert list(event) == ["type", "timestamp", "data"]
    assert event["type"] == "job.admitted"
    assert event["timestamp"] == "2027-01-15T08:00:00.000000+00:00"
    assert event["data"] == orjson.loads(orjson.dumps(job.document()))
    assert verified(NEW, receiver.calls[0]) == event


async def test_what_was_changed_on_the_way_does_not_verify(receiver):
    async with calling() as callbacks:
        await callbacks.deliver(job_for(receiver.url))
    path, headers, body = receiver.calls[0]
    for secret, call, changed in [
        (OLD, (path, headers, body), {}),
        (NEW, (path, headers, body + b" "), {}),
        (NEW, (path, headers, body), {"webhook-id": "adm_0"}),
    ]:
        with pytest.raises(WebhookVerificationError):
            verified(secret, call, **changed)


async def test_while_secrets_rotate_either_verifies(receiver):
    async with calling(secrets=(NEW, OLD)) as callbacks:
        await callbacks.deliver(job_for(receiver.url))
    (call,) = receiver.calls
    signatures = call[1]["webhook-signature"].split(" ")
    assert len(set(signatures)) == 2
    assert verified(NEW, call) == verified(OLD, call)
    assert verified(NEW, call, **{"webhook-signature": signatures[0]})
    assert verified(OLD, call, **{"webhook-signature": signatures[1]})


async def test_the_id_is_the_same_at_every_try_and_the_timestamp_is_that_of_the_try(receiver):
    async def slowly_fail(request: web.Request) -> web.Response:
        await asyncio.sleep(1.1)  # a timestamp counts in whole seconds
        return web.Response(status=500)

    def answer(request: web.Request):
        return slowly_fail(request) if len(receiver.calls) == 1 else web.Response()

    receiver.answer = answer
    async with calling() as callbacks:
        assert (await callbacks.deliver(job_for(receiver.url))).outcome == "accepted"
    first, second = receiver.calls
    assert first[1]["webhook-id"] == second[1]["webhook-id"]
    assert int(first[1]["webhook-timestamp"]) < int(second[1]["webhook-timestamp"])
    assert verified(NEW, first) == verified(NEW, second)


async def test_the_timestamp_is_of_the_clock_that_handed_the_job_out(receiver):
    """Redis's, when the script was asked, and as much later as has passed; whatever this machine's says."""
    async with calling() as callbacks:
        job = job_for(receiver.url)._replace(updated_at=START + 900_000)
        await callbacks.deliver(job, time.monotonic() - 7.2)
        await callbacks.deliver(job)
    (_, late, _), (_, at_once, _) = receiver.calls
    assert int(late["webhook-timestamp"]) in (START // 10**6 + 8, START // 10**6 + 9)
    assert int(at_once["webhook-timestamp"]) in (START // 10**6, START // 10**6 + 1)


async def test_the_id_holds_nothing_that_a_client_chose(receiver):
    job = job_for(f"{receiver.url}/a.b")
    async with calling() as callbacks:
        await callbacks.deliver(job)
    message_id = receiver.calls[0][1]["webhook-id"]
    assert "." not in message_id
    for name in (job.request_id, job.type, job.owner_id):
        assert name not in message_id


@pytest.mark.parametrize(
    "secret",
    [
        *(
            "",
            "whsec_",
            "whsec_a",
            "whsec_!!!!",
            "whsec_ü",
            "not base64",
            base64.b64encode(b"x" * 24).decode(),
        ),
        *(f"whsec_{base64.b64encode(b'x' * size).decode()}" for size in (1, 23, 65)),
    ],
)
def test_a_bad_secret_is_refused(secret):
    with pytest.raises(Refused, match="RQUEUE_CALLBACK_SECRETS"):
        Callbacks(Guard((), ()), "", 1).sign_with((NEW, secret))


# --- how often ---------------------------------------------------------------------------------------


async def test_a_server_error_is_tried_again_at_once_and_then_left(receiver):
    receiver.answer = lambda _: web.Response(status=500)
    async with calling() as callbacks:
        verdict = await callbacks.deliver(job_for(receiver.url))
    assert (verdict.outcome, verdict.error) == ("refused", "the receiver answered 500")
    assert len(receiver.calls) == 3


async def test_a_reset_connection_is_tried_again_at_once_and_then_left():
    async def nothing(writer: asyncio.StreamWriter) -> None:
        pass

    async with raw(nothing) as (url, requests), calling() as callbacks:
        verdict = await callbacks.deliver(job_for(url))
    assert verdict.outcome == "refused"
    assert len(requests) == 3


async def test_a_refused_connection_is_tried_again_at_once_and_then_left(receiver):
    class Watching(Guard):
        asked: list[str]

        def refuses(self, address, trusted=False):
            self.asked.append(str(address))
            return super().refuses(address, trusted)

    guard = Watching(LOOPBACK, ())
    guard.asked = []
    async with receiving() as gone:
        url = f"http://localhost:{port_of(gone)}/"
    async with calling(guard=guard) as callbacks:
        verdict = await callbacks.deliver(job_for(url))
    assert verdict.outcome == "refused"
    assert "cannot connect" in verdict.error
    assert guard.asked.count("127.0.0.1") == 3


async def test_a_receiver_that_recovers_is_reached_by_a_quick_try(receiver):
    receiver.answer = lambda _: web.Response(status=503 if len(receiver.calls) < 3 else 204)
    async with calling() as callbacks:
        assert (await callbacks.deliver(job_for(receiver.url))).outcome == "accepted"
    assert len(receiver.calls) == 3


async def test_a_receiver_that_hangs_is_called_once_and_given_up_after_the_timeout():
    async def never(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    async with raw(never) as (url, requests), calling(timeout=0.3) as callbacks:
        async with asyncio.timeout(5):
            verdict = await callbacks.deliver(job_for(url))
    assert (verdict.outcome, verdict.error) == ("refused", "no answer within 0.3 s")
    assert len(requests) == 1


async def test_a_receiver_that_drips_its_headers_is_given_up_after_the_timeout():
    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nX: ")
        while not writer.is_closing():
            writer.write(b"x")
            await asyncio.sleep(0.02)

    async with raw(drip) as (url, requests), calling(timeout=0.3) as callbacks:
        async with asyncio.timeout(5):
            verdict = await callbacks.deliver(job_for(url))
    assert verdict.outcome == "refused"
    assert len(requests) == 1


@pytest.mark.parametrize(
    "said", [b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000]
)
async def test_what_is_no_http_is_refused(said):
    async def speak(writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await writer.drain()

    async with raw(speak) as (url, _), calling() as callbacks:
        verdict = await callbacks.deliver(job_for(url))
    assert verdict.outcome == "refused"
    assert 0 < len(verdict.error) <= 200


async def test_retry_after_stops_the_quick_tries(receiver):
    receiver.answer = lambda _: web.Response(status=503, headers={"Retry-After": "7"})
    async with calling() as callbacks:
        verdict = await callbacks.deliver(job_for(receiver.url))
    assert (verdict.outcome, verdict.retry_after) == ("refused", 7)
    assert len(receiver.calls) == 1


async def test_410_is_final(receiver):
    receiver.answer = lambda _: web.Response(status=410)
    async with calling() as callbacks:
        assert (await callbacks.deliver(job_for(receiver.url))).outcome == "unwanted"
    assert len(receiver.calls) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(receiver, status):
    async with receiving() as elsewhere, calling() as callbacks:
        receiver.answer = lambda _: web.Response(status=status, headers={"Location": elsewhere.url})
        verdict = await callbacks.deliver(job_for(receiver.url))
        assert elsewhere.calls == []
    assert (verdict.outcome, verdict.error) == ("refused", f"the receiver answered {status}")


async def test_an_answer_that_never_ends_is_not_read(receiver):
    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while request.transport is not None and not request.transport.is_closing():
            await response.write(b"x" * 65536)
        return response

    receiver.answer = stream
    async with calling(timeout=30) as callbacks, asyncio.timeout(5):
        assert (await callbacks.deliver(job_for(receiver.url))).outcome == "accepted"


async def test_a_connection_is_used_again(receiver):
    peers = []

    def answer(request: web.Request) -> web.Response:
        assert request.transport is not None
        peers.append(request.transport.get_extra_info("peername"))
        return web.Response()

    receiver.answer = answer
    async with calling() as callbacks:
        for _ in range(3):
            await callbacks.deliver(job_for(receiver.url))
    assert len(peers) == 3
    assert len(set(peers)) == 1


async def test_what_one_receiver_sets_no_other_call_carries(receiver):
    receiver.answer = lambda _: web.Response(headers={"Set-Cookie": "a=b"})
    async with calling() as callbacks:
        await callbacks.deliver(job_for(receiver.url))
        await callbacks.deliver(job_for(receiver.url))
    assert all("Cookie" not in headers for _, headers, _ in receiver.calls)


# --- what an answer means ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        *((status, "accepted") for status in (200, 201, 202, 204, 299)),
        *((status, "refused") for status in (199, 300, 301, 307, 400, 401, 404, 409, 429, 500, 503, 599)),
        (410, "unwanted"),
    ],
)
def test_judge(status, outcome):
    verdict = judge(status, {}, NOW)
    assert (verdict.outcome, verdict.retry_after) == (outcome, None)
    assert (str(status) in verdict.error) == (outcome != "accepted")


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (None, None),
        ("0", 0),
        ("120", 120),
        (" 120 ", 120),
        ("99999999999999999999", 3600),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Wed, 21 Oct 2015 07:28:00", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600),
        *(
            (text, None)
            for text in ("", " ", "soon", "-5", "1.5", "1e9", "inf", "nan", "²", "0x10", "1;2", ",")
        ),
        *((text, None) for text in ("Wed, 99 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 99999 07:28:00 GMT")),
        *((text, None) for text in ("21 Oct 2015 07:28:00 +9999999999", "1 2 3 4 5 6", "Wed, 21 Oct")),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None),
        ("Mon, 01 Jan 2035 00:00:00 +99999999999999", None),
    ],
)
def test_retry_after(written, seconds):
    verdict = judge(429, {} if written is None else {"Retry-After": written}, NOW)
    assert (verdict.outcome, verdict.retry_after) == ("refused", seconds)


@pytest.mark.parametrize(
    ("date", "seconds"),
    [
        (None, 90),
        ("", 90),
        ("soon", 90),
        (NOW, 90),
        # The receiver's clock is an hour off: what it means is its own.
        (NOW - timedelta(hours=1), 3600),
        (NOW + timedelta(seconds=80), 10),
        (NOW + timedelta(hours=1), 0),
    ],
)
def test_a_date_in_retry_after_is_read_by_the_answer_s_own(date, seconds):
    headers = {"Retry-After": format_datetime(NOW + timedelta(seconds=90), usegmt=True)}
    if date is not None:
        headers["Date"] = date if isinstance(date, str) else format_datetime(date, usegmt=True)
    assert judge(503, headers, NOW).retry_after == seconds


def test_full_jitter_stays_within_its_bounds_and_uses_them():
    for attempt, most in [(1, 2), (2, 4), (5, 32), (6, 60), (10, 60), (100_000, 60)]:
        drawn = [full_jitter(attempt) for _ in range(500)]
        assert 0 <= min(drawn) < most * 0.1
        assert most * 0.9 < max(drawn) <= most
    assert all(full_jitter(3, longest=1) <= 1 for _ in range(100))


# --- who may be called -------------------------------------------------------------------------------

FORBIDDEN = (
    *("127.0.0.1", "127.255.255.254", "::1"),
    *("169.254.0.1", "169.254.169.254", "fe80::1"),
    *("224.0.0.1", "239.255.255.255", "ff02::1"),
    *("0.0.0.0", "::", "255.255.255.255"),
    *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:224.0.0.1", "::ffff:0.0.0.0"),
    *("::ffff:255.255.255.255", "2002:7f00:1::", "2002:a9fe:a9fe::1"),
    *(
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::7f00:1",
        "64:ff9b:1:abcd::a9fe:a9fe",
        "64:ff9b:1:7f00:0:100:5db8:d822",
        "2001:0:7f00:1::80ff:fffe",
        "::ffff:0:127.0.0.1",
    ),
    *("0.0.0.1", "240.0.0.1", "fec0::1", "100.100.100.200", "192.0.0.192", "fd00:ec2::254"),
)
USUAL = (
    *("10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd00::1"),
    *("93.184.216.34", "2606:2800:220:1::1", "::ffff:10.0.0.1", "2002:0a00:1::"),
)


@pytest.mark.parametrize("address", FORBIDDEN)
def test_addresses_that_are_refused(address):
    assert Guard((), ()).refuses(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", USUAL)
def test_addresses_that_are_admitted(address):
    assert not Guard((), ()).refuses(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    ("allow", "deny", "address", "refused"),
    [
        (["127.0.0.0/8"], [], "127.0.0.1", False),
        (["127.0.0.0/8"], [], "::ffff:127.0.0.1", False),
        (["127.0.0.1"], [], "127.0.0.2", True),
        (["127.0.0.5/8"], [], "127.0.0.1", False),
        (["127.0.0.0/8"], [], "::1", True),
        (["::1/128"], [], "::1", False),
        ([], ["10.0.0.0/8"], "10.1.2.3", True),
        ([], ["10.0.0.0/8"], "::ffff:10.1.2.3", True),
        ([], ["10.0.0.0/8"], "2002:0a00:1::", True),
        ([], ["10.0.0.0/8"], "11.1.2.3", False),
        (["10.0.0.0/8"], ["10.0.0.0/8"], "10.1.2.3", True),
        (["10.1.0.0/16"], ["10.0.0.0/8"], "10.1.2.3", True),
        (["0.0.0.0/0"], ["169.254.169.254"], "169.254.169.254", True),
        ([], ["0.0.0.0/0", "::/0"], "93.184.216.34", True),
        ([], ["2002::/16"], "2002:0a00:1::", True),
        ([], ["::ffff:0:0/96"], "::ffff:10.0.0.1", True),
    ],
)
def test_rules_of_addresses(allow, deny, address, refused):
    assert Guard(allow, deny).refuses(ipaddress.ip_address(address)) == refused


@pytest.mark.parametrize(
    ("allow", "deny", "callback", "refused"),
    [
        ([], ["*.evil.test"], "http://a.evil.test/", True),
        ([], ["*.evil.test"], "http://A.EVIL.test/", True),
        ([], ["*.EVIL.test"], "http://a.evil.test/", True),
        ([], ["*.evil.test"], "http://a.evil.test./", True),
        ([], ["evil.test"], "http://evil.test:8080/x", True),
        ([], ["evil.test"], "http://evil.test@good.test/", False),
        ([], ["evil.test"], "http://good.test@evil.test/", True),
        ([], ["evil.test"], "http://notevil.test/", False),
        ([], ["*bücher.test"], "http://xn--bcher-kva.test/", True),
        ([], ["*bücher.test"], "http://bücher.test/", True),
        ([], ["xn--bcher-kva.test"], "http://xn--bcher-kva.test/", True),
        ([], ["xn--bcher-kva.test"], "http://bücher.test/", True),
        (["*.test"], ["evil.test"], "http://evil.test/", True),
        (["127.*"], [], "http://127.0.0.1/", False),
        (["127.*"], ["127.0.0.1"], "http://127.0.0.1/", True),
    ],
)
def test_rules_of_hosts(allow, deny, callback, refused):
    callbacks = Callbacks(Guard(allow, deny), "", 1)
    if refused:
        with pytest.raises(InvalidCallback):
            callbacks.target(callback)
    else:
        assert callbacks.target(callback).url.host


LITERALS = (
    *(
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "0x7f.0.0.1",
        "0x7f000001",
        "0X7F000001",
        "2130706433",
        "017700000001",
    ),
    *("0177.0.0.1", "0", "0.0.0.0", "169.254.169.254", "2852039166", "255.255.255.255"),
    *(
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:0:0:1]",
        "[fe80::1%25lo]",
        "[::1%25lo]",
    ),
    *("\uff11\uff12\uff17.0.0.1", "127。0。0。1", "a@127.0.0.1"),
)


@pytest.mark.parametrize("host", LITERALS)
async def test_a_literal_address_is_refused_in_any_form(receiver, host):
    url = f"http://{host}:{port_of(receiver)}/"
    async with calling(allow=()) as callbacks:
        with pytest.raises(InvalidCallback):
            callbacks.target(url)
        assert (await callbacks.deliver(job_for(url))).outcome == "forbidden"
    assert receiver.calls == []


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST"])
async def test_a_name_is_refused_for_the_address_it_has(receiver, host):
    url = f"http://{host}:{port_of(receiver)}/"
    async with calling(allow=()) as callbacks:
        assert callbacks.target(url)
        verdict = await callbacks.deliver(job_for(url))
    assert verdict.outcome == "forbidden"
    assert "must not be called" in verdict.error
    assert receiver.calls == []


@pytest.mark.parametrize(
    "host", ["localhost.", "127.0.0.1.", "127.0.0.1%2f", "a..b", "a" * 300, "nowhere.invalid"]
)
async def test_what_a_resolver_may_or_may_not_know_is_never_reached(receiver, host):
    async with calling(allow=()) as callbacks:
        verdict = await callbacks.deliver(job_for(f"http://{host}:{port_of(receiver)}/"))
    assert verdict.outcome in ("forbidden", "refused")
    assert verdict.error
    assert receiver.calls == []


@pytest.mark.parametrize(
    ("allow", "deny", "outcome"),
    [
        (["localhost"], [], "accepted"),
        (["local*"], [], "accepted"),
        (["127.0.0.0/8"], [], "accepted"),
        (["localhost"], ["127.0.0.0/8", "::1"], "forbidden"),
        (["localhost", "127.0.0.0/8"], ["local*"], "forbidden"),
        (["elsewhere"], [], "forbidden"),
    ],
)
async def test_rules_hold_when_a_name_is_connected_to(receiver, allow, deny, outcome):
    async with calling(allow=tuple(allow), deny=tuple(deny)) as callbacks:
        verdict = await callbacks.deliver(job_for(f"http://localhost:{port_of(receiver)}/"))
    assert verdict.outcome == outcome
    assert len(receiver.calls) == (outcome == "accepted")


async def test_a_connection_kept_for_a_trusted_name_serves_no_other(receiver):
    port = port_of(receiver)
    async with calling(allow=("localhost",)) as callbacks:
        assert (await callbacks.deliver(job_for(f"http://localhost:{port}/"))).outcome == "accepted"
        for host in ("127.0.0.1", "ip6-localhost.localhost", "a@127.1"):
            assert (await callbacks.deliver(job_for(f"http://{host}:{port}/"))).outcome != "accepted"
        assert (await callbacks.deliver(job_for(f"http://localhost:{port}/"))).outcome == "accepted"
    assert len(receiver.calls) == 2


async def test_trust_in_one_name_does_not_reach_calls_beside_it(receiver):
    port = port_of(receiver)
    async with calling(allow=("localhost",)) as callbacks:
        hosts = ["localhost", "a.localhost"] * 10
        verdicts = await asyncio.gather(
            *(callbacks.deliver(job_for(f"http://{host}:{port}/")) for host in hosts)
        )
    assert [v.outcome == "accepted" for v in verdicts] == [host == "localhost" for host in hosts]
    assert len(receiver.calls) == 10


# --- what a callback stands for ----------------------------------------------------------------------

BASE = "http://portal.test/hooks/"


@pytest.mark.parametrize(
    ("base", "callback", "url"),
    [
        ("", "http://h.test", "http://h.test"),
        ("", "https://h.test:8443/a?b=c", "https://h.test:8443/a?b=c"),
        ("", "HTTP://H.test/A", "http://h.test/A"),
        ("", "http://bücher.test/", "http://xn--bcher-kva.test/"),
        ("", "http://h.test/虛擬機", "http://h.test/%E8%99%9B%E6%93%AC%E6%A9%9F"),
        ("", "http://h.test/a%2Fb", "http://h.test/a%2Fb"),
        (BASE, "http://h.test/", "http://h.test/"),
        (BASE, "abc", "http://portal.test/hooks/abc"),
        (BASE, "/abc", "http://portal.test/abc"),
        (BASE, "../abc", "http://portal.test/abc"),
        (BASE, "?a=b", "http://portal.test/hooks/?a=b"),
    ],
)
def test_target(base, callback, url):
    assert str(Callbacks(Guard((), ()), base, 1).target(callback).url) == url


@pytest.mark.parametrize("base", ["", BASE])
@pytest.mark.parametrize(
    "callback",
    [
        *(
            "//h.test/x",
            "///h.test/x",
            "\\\\h.test\\x",
            "http:",
            "http://",
            "http:///x",
            "http:x",
            "https:/x",
        ),
        *(
            "ftp://h.test/",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "gopher://h.test:70/",
            "mailto:a@b.test",
        ),
        *("http://h.test:65536/", "http://h.test:-1/", "http://h.test:x/", "http://:80/", "http://@/"),
        *("http://[::1/", "http://[h.test]/", "http://a b.test/"),
        *("http://h.test\r\nX: y/", " //h.test/x", "http://h\x00.test/"),
        "http://h.test/" + "x" * 2048,
    ],
)
def test_no_target(base, callback):
    with pytest.raises(InvalidCallback) as caught:
        Callbacks(Guard((), ()), base, 1).target(callback)
    assert caught.value.field == "callback"


@pytest.mark.parametrize("callback", ["abc", "/abc", "", "?a=b", "h.test:80"])
def test_no_target_without_a_base(callback):
    with pytest.raises(InvalidCallback):
        Callbacks(Guard((), ()), "", 1).target(callback)


async def test_line_ends_in_a_callback_do_not_become_headers(receiver):
    async with calling() as callbacks:
        await callbacks.deliver(job_for(f"{receiver.url}/a\r\nX-Evil: 1\r\n\r\n"))
    assert len(receiver.calls) <= 1
    assert all("X-Evil" not in headers for _, headers, _ in receiver.calls)


async def test_what_was_refused_as_a_target_is_not_called_later(receiver):
    async with calling(base_url="") as callbacks:
        verdict = await callbacks.deliver(job_for("abc"))
    assert verdict.outcome == "forbidden"
    assert verdict.error.startswith("callback: ")
