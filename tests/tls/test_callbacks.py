"""Callbacks by HTTPS: whose certificate is trusted, and what a job is told of one that is not."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest

from rqueue import tls
from rqueue.callbacks import Callbacks
from rqueue.files import Watched
from rqueue.guard import Address, Guard
from tests.conftest import receiving
from tests.test_callbacks import LOOPBACK, NEW, job_for
from tests.tls.pems import served


class Counting(Guard):
    """Counts the addresses that are connected to."""

    connections = 0

    def refuses(self, address: Address, trusted: bool = False) -> bool:
        self.connections += address == ip_address("127.0.0.1")
        return super().refuses(address, trusted)


@asynccontextmanager
async def trusting(
    ca: Path | None, guard: Guard | None = None
) -> AsyncIterator[tuple[Callbacks, Watched[ssl.SSLContext] | None]]:
    watched = Watched("RQUEUE_CALLBACK_CA_FILE", lambda _: tls.client(ca, system=True), ca) if ca else None
    async with Callbacks(guard or Guard(LOOPBACK, ()), "", 5, watched) as callbacks:
        callbacks.sign_with([NEW])
        yield callbacks, watched


async def test_a_receiver_of_our_own_authority_is_called_at_the_first_try(authority, ours):
    guard = Counting(LOOPBACK, ())
    async with receiving(served(ours)) as receiver, trusting(authority.path, guard) as (callbacks, _):
        url = receiver.url.replace("127.0.0.1", "localhost")
        verdict = await callbacks.deliver(job_for(f"{url}/x"))
        assert (verdict.outcome, verdict.error) == ("accepted", "")
        assert guard.connections == 1
        assert (await callbacks.deliver(job_for(receiver.url))).outcome == "accepted"
    assert len(receiver.calls) == 2


@pytest.mark.parametrize("given", [True, False])
async def test_a_receiver_of_another_authority_is_not_called(stranger, ours, given):
    """Neither with an own authority nor with the system's alone."""
    async with (
        receiving(served(ours)) as receiver,
        trusting(stranger.path if given else None) as (callbacks, _),
    ):
        verdict = await callbacks.deliver(job_for(receiver.url))
    assert verdict.outcome == "refused"
    assert verdict.error == "the certificate cannot be trusted: unable to get local issuer certificate"
    assert receiver.calls == []


async def test_a_receiver_with_the_certificate_of_another_host_is_not_called(authority):
    pair = authority.issue("portal.test")
    async with receiving(served(pair)) as receiver, trusting(authority.path) as (callbacks, _):
        verdict = await callbacks.deliver(job_for(receiver.url))
    assert verdict.outcome == "refused"
    assert verdict.error.startswith("the certificate cannot be trusted: ")
    assert "127.0.0.1" in verdict.error
    assert receiver.calls == []


async def test_a_receiver_that_speaks_no_tls_is_refused(authority, receiver):
    async with trusting(authority.path) as (callbacks, _):
        verdict = await callbacks.deliver(job_for(receiver.url.replace("http://", "https://")))
    assert verdict.outcome == "refused"
    assert "cannot connect" in verdict.error
    assert receiver.calls == []


async def test_an_authority_that_is_put_in_the_place_of_another_is_trusted_from_then_on(
    authority, stranger, ours, tmp_path
):
    ca = tmp_path / "ca.pem"
    ca.write_bytes(stranger.path.read_bytes())
    async with receiving(served(ours)) as receiver, trusting(ca) as (callbacks, watched):
        assert (await callbacks.deliver(job_for(receiver.url))).outcome == "refused"
        ca.write_bytes(stranger.path.read_bytes() + authority.path.read_bytes())
        watched.look()
        assert (await callbacks.deliver(job_for(receiver.url))).outcome == "accepted"
        # And no longer once it is gone, though a connection is still open.
        ca.write_bytes(stranger.path.read_bytes())
        watched.look()
        assert (await callbacks.deliver(job_for(receiver.url))).outcome == "refused"
    assert len(receiver.calls) == 1


async def test_the_system_s_authorities_are_trusted_besides_our_own(authority, stranger, ours, monkeypatch):
    """The system's are where OpenSSL is told to look for them."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
    async with receiving(served(ours)) as receiver, trusting(stranger.path) as (callbacks, _):
        assert (await callbacks.deliver(job_for(receiver.url))).outcome == "accepted"
