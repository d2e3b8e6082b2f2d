"""What a receiver's name stands for: by a resolver of the test's own, guarded at each connection."""

import asyncio
import socket
import threading
from contextlib import asynccontextmanager

import pytest

from rqueue.callbacks import Callbacks
from rqueue.connections import LOOKUPS, Resolver
from rqueue.guard import Guard
from tests.conftest import receiving
from tests.receivers.bad import Names
from tests.test_callbacks import NEW, job_for, port_of

LIVE = ("127.0.0.1",)
FORBIDDEN = "the callback's address must not be called; see RQUEUE_CALLBACK_ALLOW"


@asynccontextmanager
async def calling(resolver, allow=("127.0.0.1",), patience: float = 3):
    async with Callbacks(Guard(allow, ()), "", patience, resolver=resolver) as callbacks:
        callbacks.sign_with([NEW])
        yield callbacks


@pytest.mark.parametrize(
    "address",
    [
        # As they are, and in every form of IPv6 that stands for one of IPv4.
        *("127.0.0.2", "169.254.169.254", "0.0.0.0", "224.0.0.1", "255.255.255.255", "100.100.100.200"),
        *("::1", "::", "fe80::1", "fe80::1%lo", "ff02::1", "fec0::1", "fd00:ec2::254"),
        *("::ffff:127.0.0.2", "::ffff:169.254.169.254", "::ffff:a9fe:a9fe", "::127.0.0.2"),
        *("64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "2001:0:a9fe:a9fe::5601:5601", "::ffff:0:127.0.0.2"),
        "2001:0:7f00:1::80ff:fffe",
    ],
)
async def test_a_name_is_refused_for_any_address_that_must_not_be_called(receiver, address):
    async with calling(Names({"bad.test": [[address]]}), allow=()) as callbacks:
        url = f"http://bad.test:{port_of(receiver)}/"
        callbacks.check(url)
        verdict = await callbacks.deliver(job_for(url))
    assert (verdict.outcome, verdict.error) == ("forbidden", FORBIDDEN)
    assert receiver.calls == []


async def test_a_name_that_stands_for_something_else_at_the_next_look_up_is_refused_then(receiver):
    """DNS rebinding: what is checked is the address that is connected to, each time."""
    names = Names({"bad.test": [LIVE, ["169.254.169.254"], ["127.0.0.2"]]})
    url = f"http://bad.test:{port_of(receiver)}/"
    for outcome in ("accepted", "forbidden", "forbidden"):
        # Another replica, which remembers no look-up.
        async with calling(names) as callbacks:
            callbacks.check(url)
            assert (await callbacks.deliver(job_for(url))).outcome == outcome
    assert names.asked == ["bad.test"] * 3
    assert len(receiver.calls) == 1


@pytest.mark.parametrize(
    ("addresses", "outcome"),
    [
        (("169.254.169.254", "127.0.0.1"), "accepted"),
        (("::1", "fe80::1", "127.0.0.2", "127.0.0.1"), "accepted"),
        (("127.0.0.1", "169.254.169.254"), "accepted"),
        (("169.254.169.254", "127.0.0.2", "::1"), "forbidden"),
    ],
)
async def test_of_many_addresses_only_those_that_may_be_are_called(receiver, addresses, outcome):
    async with calling(Names({"many.test": [addresses]})) as callbacks:
        verdict = await callbacks.deliver(job_for(f"http://many.test:{port_of(receiver)}/"))
    assert verdict.outcome == outcome
    assert len(receiver.calls) == (outcome == "accepted")


async def test_of_a_name_with_a_thousand_addresses_a_few_are_tried():
    class Counting(Guard):
        asked = 0

        def refuses(self, address, trusted=False):
            self.asked += 1
            return super().refuses(address, trusted)

    def look_up(host, port, *args, **options):
        return [
            (
                socket.AF_INET,
                socket.SOCK_STREAM,
                socket.IPPROTO_TCP,
                "",
                (f"127.0.{n // 250}.{n % 250}", port),
            )
            for n in range(1000)
        ]

    guard = Counting((), ())
    async with Callbacks(guard, "", 3, resolver=Resolver(look_up)) as callbacks:
        callbacks.sign_with([NEW])
        verdict = await callbacks.deliver(job_for("http://many.test/"))
    assert verdict.outcome == "forbidden"
    assert guard.asked <= 200


async def test_a_name_of_which_one_address_must_not_be_called_and_the_other_is_away_is_tried_again():
    async with receiving() as gone:
        url = f"http://half.test:{port_of(gone)}/"
    async with calling(Names({"half.test": [["169.254.169.254", "127.0.0.1"]]})) as callbacks:
        verdict = await callbacks.deliver(job_for(url))
    assert verdict.outcome == "refused"
    assert verdict.error.startswith("cannot connect: ")


async def test_a_name_that_nobody_knows_is_tried_again(receiver):
    async with calling(Names({})) as callbacks:
        verdict = await callbacks.deliver(job_for(f"http://nobody.test:{port_of(receiver)}/"))
    assert verdict.outcome == "refused"
    assert verdict.error.startswith("cannot connect: ")
    assert "Name or service not known" in verdict.error


async def test_a_name_whose_servers_are_silent_takes_the_time_of_a_try_and_keeps_no_other_waiting(receiver):
    port = port_of(receiver)
    async with calling(Names({"silent.test": [[]], "live.test": [LIVE]}), patience=0.4) as callbacks:
        silent = [
            asyncio.create_task(callbacks.deliver(job_for(f"http://silent.test:{port}/"))) for _ in range(50)
        ]
        await asyncio.sleep(0)
        assert (await callbacks.deliver(job_for(f"http://live.test:{port}/"))).outcome == "accepted"
        found = {await task for task in silent}
    assert {(verdict.outcome, verdict.error) for verdict in found} == {("refused", "no answer within 0.4 s")}


async def test_the_system_s_resolver_looks_up_many_silent_names_beside_others(receiver):
    """uvloop has two threads for all names, and would look up no third."""
    answered, asked = threading.Event(), []

    def look_up(host, *args, **options):
        asked.append(host)
        if host.startswith("silent"):
            answered.wait(20)
        return socket.getaddrinfo("127.0.0.1", *args, **options)

    port = port_of(receiver)
    async with calling(Resolver(look_up), patience=5) as callbacks:
        silent = [
            asyncio.create_task(callbacks.deliver(job_for(f"http://silent{n}.test:{port}/")))
            for n in range(50)
        ]
        async with asyncio.timeout(20):
            while len(asked) < 50:  # noqa: ASYNC110 - threads ask
                await asyncio.sleep(0.01)
            assert (await callbacks.deliver(job_for(f"http://live.test:{port}/"))).outcome == "accepted"
        answered.set()
        assert {(await task).outcome for task in silent} == {"accepted"}
    assert len(receiver.calls) == 51


async def test_a_machine_without_threads_looks_up_nothing_and_later_again(monkeypatch):
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    resolver = Resolver()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        for _ in range(LOOKUPS + 1):
            with pytest.raises(OSError, match="can't start new thread"):
                await resolver.resolve("localhost", 80)
    async with asyncio.timeout(10):
        assert await resolver.resolve("localhost", 80)


async def test_the_system_s_resolver_finds_what_the_system_does():
    """Also where whoever asked has gone, or what is asked for is no name."""
    resolver = Resolver()
    assert "127.0.0.1" in {found["host"] for found in await resolver.resolve("localhost", 80)}
    for no_name in ("nowhere.invalid", "a" * 300, "a..b", "a\0b"):
        with pytest.raises((OSError, ValueError)):
            await resolver.resolve(no_name, 80)
    gone = asyncio.create_task(resolver.resolve("localhost", 80))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait([gone])
    assert await resolver.resolve("localhost", 80, socket.AF_INET)
