"""What a bad receiver answers, or does not: the verdict, how often it is tried, and what is read of it."""

import asyncio
import gzip
import logging
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from rqueue import tls
from rqueue.callbacks import ERROR_LENGTH, Callbacks
from rqueue.files import Watched
from rqueue.guard import Guard
from tests.receivers.bad import EMPTY, OK, Act, Authorities, Peer, after_the_request, misbehaving
from tests.test_callbacks import LOOPBACK, NEW, job_for

# Of what is answered without end so much is taken: what the kernel holds at both ends, and a little.
LITTLE = 1 << 20
SECRET = b"s3cr3t"

NOTHING = "no answer within 0.4 s"
NO_HTTP = "the answer is not HTTP, or its head is too large"
CLOSED = "the connection was closed before the answer"
BROKEN = "the connection broke: Connection reset by peer"


@asynccontextmanager
async def calling(trusted: Path | None = None, patience: float = 0.4) -> AsyncIterator[Callbacks]:
    trust = Watched("", lambda _: tls.client(trusted), trusted) if trusted else None
    async with Callbacks(Guard(LOOPBACK, ()), "", patience, trust) as callbacks:
        callbacks.sign_with([NEW])
        yield callbacks


def says(data: bytes) -> Act:
    return after_the_request(lambda peer: peer.say(data))


def says_and_closes(data: bytes) -> Act:
    async def act(peer: Peer) -> None:
        await peer.say(data)
        peer.writer.close()

    return after_the_request(act)


def says_and_resets(data: bytes) -> Act:
    async def act(peer: Peer) -> None:
        if data:
            await peer.say(data)
            await asyncio.sleep(0.1)  # until it has arrived: a reset takes back what has not
        peer.reset()

    return after_the_request(act)


def drips(head: bytes, unit: bytes) -> Act:
    async def act(peer: Peer) -> None:
        await peer.say(head)
        await peer.drip(unit)

    return after_the_request(act)


def floods(head: bytes, unit: bytes) -> Act:
    async def act(peer: Peer) -> None:
        await peer.say(head)
        await peer.flood(unit)

    return after_the_request(act)


async def resets_at_accept(peer: Peer) -> None:
    peer.reset()


async def closes_at_accept(peer: Peer) -> None:
    peer.writer.close()


async def answers_unasked(peer: Peer) -> None:
    await peer.say(EMPTY)


TLS_ALERT = b"\x15\x03\x03\0\x02\x02\x46"
# A megabyte of it is a gigabyte of nothing.
BOMB = gzip.compress(gzip.compress(bytes(64 << 20)))

# what it does: (how, the verdict, LastError, how many tries)
TABLE: dict[str, tuple[Act, str, str, int]] = {
    # Says nothing, or not enough.
    "hangs": (says(b""), "refused", NOTHING, 1),
    "drips its head": (drips(OK + b"X: ", b"x"), "refused", NOTHING, 1),
    "drips headers": (drips(OK, b"X: x\r\n"), "refused", NOTHING, 1),
    "drips answers of 1xx": (drips(b"", b"HTTP/1.1 102 Wait\r\n\r\n"), "refused", NOTHING, 1),
    "drips blank lines": (drips(b"", b"\r\n"), "refused", NOTHING, 1),
    # Says too much.
    "floods with 100": (floods(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "refused", NO_HTTP, 1),
    "floods with 102": (floods(b"", b"HTTP/1.1 102 Wait\r\nX: x\r\n\r\n"), "refused", NO_HTTP, 1),
    "floods with blank lines": (floods(b"", b"\r\n"), "refused", NO_HTTP, 1),
    "headers never end": (floods(OK, b"X: x\r\n"), "refused", NO_HTTP, 1),
    "a header never ends": (floods(OK + b"X: ", b"x"), "refused", NO_HTTP, 1),
    "a header's name never ends": (floods(OK, b"x"), "refused", NO_HTTP, 1),
    "a folded header never ends": (floods(OK + b"X: x\r\n", b" x\r\n"), "refused", NO_HTTP, 1),
    "the reason never ends": (floods(b"HTTP/1.1 200 ", b"x"), "refused", NO_HTTP, 1),
    "a header is huge": (says(OK + b"X: " + b"x" * 70_000 + b"\r\n\r\n"), "refused", NO_HTTP, 1),
    "says 10 GB of no HTTP": (floods(b"", b"\0" + SECRET), "refused", NO_HTTP, 1),
    # Is something else.
    "is an SSH server": (says(b"SSH-2.0-" + SECRET + b"\r\n"), "refused", NO_HTTP, 1),
    "is a Redis": (says(b"-ERR " + SECRET + b"\r\n"), "refused", NO_HTTP, 1),
    "speaks HTTP/0.9": (says(b"<html>" + SECRET), "refused", NO_HTTP, 1),
    "speaks HTTP/3": (says(b"HTTP/3.0 200 OK\r\n\r\n"), "refused", NO_HTTP, 1),
    "speaks TLS": (says(TLS_ALERT), "refused", NO_HTTP, 1),
    "has no such status": (says(b"HTTP/1.1 abc " + SECRET + b"\r\n\r\n"), "refused", NO_HTTP, 1),
    "has two lengths": (says(OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n"), "refused", NO_HTTP, 1),
    "has a length of words": (says(OK + b"Content-Length: " + SECRET + b"\r\n\r\n"), "refused", NO_HTTP, 1),
    "changes the protocol": (
        says(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n" + SECRET),
        *("refused", "the receiver answered 101", 3),
    ),
    "answers 999": (says(b"HTTP/1.1 999 " + SECRET + b"\r\n\r\n"), "refused", "the receiver answered 999", 3),
    "redirects to where nobody may": (
        says_and_closes(b"HTTP/1.1 307 No\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n"),
        *("refused", "the receiver answered 307", 3),
    ),
    # Goes away.
    "resets at accept": (resets_at_accept, "refused", BROKEN, 3),
    "closes at accept": (closes_at_accept, "refused", CLOSED, 3),
    "resets before it answers": (says_and_resets(b""), "refused", BROKEN, 3),
    "resets in its head": (says_and_resets(OK + b"X: " + SECRET), "refused", BROKEN, 3),
    "closes before it answers": (says_and_closes(b""), "refused", CLOSED, 3),
    "closes in its head": (says_and_closes(OK + b"X: " + SECRET), "refused", CLOSED, 3),
    # Answers, and then misbehaves: what the status says counts.
    "drips its body": (drips(OK + b"Content-Length: 1000\r\n\r\n", b"x"), "accepted", "", 1),
    "resets in its body": (says_and_resets(OK + b"Content-Length: 9\r\n\r\nx"), "accepted", "", 1),
    "closes in its body": (says_and_closes(OK + b"Content-Length: 9\r\n\r\nx"), "accepted", "", 1),
    "answers 10 GB": (floods(OK + b"Content-Length: 10737418240\r\n\r\n", b"x"), "accepted", "", 1),
    "answers without end": (floods(OK + b"\r\n", b"x"), "accepted", "", 1),
    "answers chunks without end": (
        floods(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        *("accepted", "", 1),
    ),
    "refuses with 10 GB": (
        floods(b"HTTP/1.1 500 No\r\nContent-Length: 10737418240\r\n\r\n", b"x"),
        *("refused", "the receiver answered 500", 3),
    ),
    "answers a bomb": (
        says(OK + b"Content-Encoding: gzip, gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB),
        *("accepted", "", 1),
    ),
    "answers in an encoding of its own": (
        says(OK + b"Content-Encoding: x\r\nContent-Length: 0\r\n\r\n"),
        *("accepted", "", 1),
    ),
    "answers unasked": (answers_unasked, "accepted", "", 1),
}
# Whose connections may serve another call.
KEPT = ("answers a bomb", "answers in an encoding of its own", "answers unasked")


async def met(what: str) -> tuple[str, str, int]:
    """The verdict on one of them, LastError, and how many tries it took."""
    act, _, error, _ = TABLE[what]
    # Quick tries have pauses.
    patience = 0.4 if error == NOTHING else 5
    async with misbehaving(act) as bad, calling(patience=patience) as callbacks:
        async with asyncio.timeout(callbacks.round_seconds + 1):
            verdict = await callbacks.deliver(job_for(f"{bad.url}?token=s3cr3t"))
        if what not in KEPT:
            await bad.dropped()
        assert bad.sent < LITTLE, what
        assert len(verdict.error) <= ERROR_LENGTH
        return verdict.outcome, verdict.error, bad.accepted


async def test_bad_receivers(caplog):
    """All at once: none keeps another waiting."""
    caplog.set_level(logging.DEBUG)
    found = dict(zip(TABLE, await asyncio.gather(*map(met, TABLE)), strict=True))
    assert found == {what: tuple(expected) for what, (_, *expected) in TABLE.items()}
    assert "s3cr3t" not in str(found)
    assert "s3cr3t" not in caplog.text


async def test_a_flood_is_read_only_for_a_little():
    """Of what comes before an answer: 10 GB of it would take the event loop from everybody."""
    async with misbehaving(floods(b"", b"HTTP/1.1 100 Continue\r\n\r\n")) as bad, calling() as callbacks:
        await asyncio.gather(*(callbacks.deliver(job_for(bad.url)) for _ in range(32)))
        await bad.dropped()
    assert bad.sent < 32 * LITTLE


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
async def test_a_receiver_that_takes_nothing_leaves_no_connection_behind():
    """Not one that waits to be rid of the rest of the call."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with listener:
        job = job_for(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        job = job._replace(data="x" * (16 << 20))
        async with calling() as callbacks:
            await callbacks.deliver(job._replace(data="{}"))  # what is made once is there
            before = _sockets()
            for _ in range(3):
                verdict = await callbacks.deliver(job)
                assert (verdict.outcome, verdict.error) == ("refused", NOTHING)
            async with asyncio.timeout(5):
                while _sockets() > before:  # noqa: ASYNC110 - the system tells nobody
                    await asyncio.sleep(0.01)


def _sockets() -> int:
    return sum(os.readlink(f"/proc/self/fd/{n}").startswith("socket:") for n in _descriptors())


def _descriptors() -> list[str]:
    return [name for name in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{name}")]


async def test_a_connection_that_is_closed_just_as_it_is_used_again_costs_no_turn():
    """By a receiver that keeps each one for a single answer, and says nothing of it."""

    async def once(peer: Peer) -> None:
        await peer.request()
        await peer.say(EMPTY)
        await peer.reader.readuntil(b"\r\n\r\n")
        peer.reset()

    async with misbehaving(once) as bad, calling() as callbacks:
        for _ in range(3):
            assert (await callbacks.deliver(job_for(bad.url))).outcome == "accepted"
    assert bad.accepted == 3


@pytest.mark.parametrize("when", ["with the answer", "later"])
async def test_what_a_receiver_says_beyond_its_answer_answers_no_other_call(when):
    async def twice(peer: Peer) -> None:
        await peer.request()
        if when == "later":
            await peer.say(EMPTY)
            await asyncio.sleep(0.05)
            await peer.say(b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n")
        else:
            await peer.say(EMPTY + b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n")
        await peer.request()
        await peer.say(EMPTY)

    async with misbehaving(twice) as bad, calling() as callbacks:
        assert (await callbacks.deliver(job_for(bad.url))).outcome == "accepted"
        await asyncio.sleep(0.1)
        assert (await callbacks.deliver(job_for(bad.url))).outcome == "accepted"


async def test_a_slow_receiver_of_many_keeps_no_other_waiting():
    """However it is slow: each is beside one that answers at once."""
    acts = [act for act, _, error, _ in TABLE.values() if error == NOTHING]

    all_there = asyncio.Event()

    async def slow(peer: Peer) -> None:
        if bad.accepted == 200:
            all_there.set()
        await acts[bad.accepted % len(acts)](peer)

    async with (
        misbehaving(slow) as bad,
        misbehaving(says(EMPTY)) as live,
        calling(patience=30) as callbacks,
    ):
        many = [asyncio.create_task(callbacks.deliver(job_for(bad.url))) for _ in range(200)]
        async with asyncio.timeout(20):
            await all_there.wait()
        assert (await callbacks.deliver(job_for(live.url))).outcome == "accepted"
        assert not any(task.done() for task in many)
        for task in many:
            task.cancel()
        await asyncio.wait(many)
        await bad.dropped()


# --- TLS ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("good", ""),
        ("of a stranger", "the certificate cannot be trusted: unable to get local issuer certificate"),
        ("self-signed", "the certificate cannot be trusted: "),
        ("of another name", "certificate is not valid for '127.0.0.1'"),
        ("expired", "the certificate cannot be trusted: certificate has expired"),
        ("not yet valid", "the certificate cannot be trusted: certificate is not yet valid"),
    ],
)
async def test_a_certificate(authorities: Authorities, kind, error):
    async with (
        misbehaving(says(EMPTY), authorities.server(kind)) as bad,
        calling(authorities.trusted, patience=3) as callbacks,
    ):
        verdict = await callbacks.deliver(job_for(bad.url))
        assert verdict.outcome == ("refused" if error else "accepted")
        assert error in verdict.error
        assert bad.requests == (not error)


@pytest.mark.parametrize(
    ("act", "error"),
    [
        (says(EMPTY), NOTHING),  # it waits for the end of a line of the handshake
        (answers_unasked, "cannot connect: "),
        (floods(b"", b"x"), NOTHING),
        (resets_at_accept, "cannot connect: "),
        (closes_at_accept, "cannot connect: "),
    ],
)
async def test_a_receiver_that_was_to_speak_tls(authorities: Authorities, act, error):
    patience = 0.4 if error == NOTHING else 3
    async with misbehaving(act) as bad, calling(authorities.trusted, patience) as callbacks:
        verdict = await callbacks.deliver(job_for(bad.url.replace("http:", "https:")))
        assert (verdict.outcome, bad.requests) == ("refused", 0)
        assert verdict.error.startswith(error)
        await bad.dropped()


async def test_a_receiver_that_speaks_tls_where_it_should_not(authorities: Authorities):
    async with misbehaving(says(EMPTY), authorities.server("good")) as bad, calling() as callbacks:
        verdict = await callbacks.deliver(job_for(bad.url.replace("https:", "http:")))
        assert (verdict.outcome, bad.requests) == ("refused", 0)
        assert verdict.error


async def test_a_receiver_of_tls_that_does_not_say_goodbye_is_left(authorities: Authorities):
    async with (
        misbehaving(floods(OK + b"\r\n", b"x"), authorities.server("good")) as bad,
        calling(authorities.trusted) as callbacks,
    ):
        assert (await callbacks.deliver(job_for(bad.url))).outcome == "accepted"
        await bad.dropped()
        assert bad.sent < LITTLE
