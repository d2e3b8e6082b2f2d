"""Connections that are slow or hostile: what each is answered, and who goes where there is no room.

What takes its time by default is shortened by Limits.
"""

import asyncio
import json
import logging
import resource
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import Any

import pytest
from aiohttp import web

from rqueue import metrics
from rqueue.web import answers, server
from rqueue.web.connections import HEAD_BYTES, Limits
from rqueue.web.middleware import one_error_shape
from tests.connections.sockets import GET, POST, SECONDS, ended, heard, opened, said, until

CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
WAIT = GET.replace(b"/ ", b"/wait ")


# --- an application of a few routes on a port of its own ----------------------------------------------


class Served:
    def __init__(self, port: int) -> None:
        self.port = port
        self.go_on = asyncio.Event()

    async def say(self, *parts: bytes, pause: float = 0.0) -> bytes:
        """All that is answered to these parts until the connection ends; fails where it does not."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        with closing(writer):
            for part in parts:
                writer.write(part)
                await asyncio.sleep(pause)
            return await heard(reader)

    async def drip(self, first: bytes, drop: bytes) -> bytes:
        """The same for one who goes on, drop by drop, for as long as that is taken."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(first)
        hearing = asyncio.create_task(heard(reader))
        with closing(writer):
            while not hearing.done() and not writer.transport.is_closing():
                writer.write(drop)
                await asyncio.sleep(0.02)
            return await hearing


def shape(answer: bytes) -> tuple[int, str]:
    """The status and the code of the last answer."""
    head, _, body = answer[answer.rindex(b"HTTP/1.") :].partition(b"\r\n\r\n")
    read = json.loads(body)
    assert read["ok"] is False
    assert read["error"]["message"]
    return int(head.split()[1]), read["error"]["code"]


@asynccontextmanager
async def serving(**limits: Any) -> AsyncIterator[Served]:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text="x" * int(request.query.get("size", 1)))

    async def body(request: web.Request) -> web.Response:
        return answers.answer(await answers.body(request))

    async def wait(request: web.Request) -> web.Response:
        await served.go_on.wait()
        return web.Response(text="waited")

    app = web.Application(middlewares=[one_error_shape])
    app.router.add_get("/", answer)
    app.router.add_post("/body", body)
    app.router.add_get("/wait", wait)
    sock = socket.create_server(("127.0.0.1", 0))
    served = Served(sock.getsockname()[1])
    async with server.listening(app, sock, 0.1, limits=Limits(**{"sweep_seconds": 0.05, **limits})):
        yield served


# --- what is no request ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(POST + b"Content-Length: 5\r\n" + CHUNKED + b"0\r\n\r\n" + GET, id="CL.TE"),
        pytest.param(POST + CHUNKED[:-2] + b"Content-Length: 5\r\n\r\n0\r\n\r\n" + GET, id="TE.CL"),
        pytest.param(POST + CHUNKED[:-2] + CHUNKED + b"0\r\n\r\n" + GET, id="TE.TE"),
        pytest.param(POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + GET, id="xchunked"),
        pytest.param(POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + GET, id="identity"),
        pytest.param(POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + GET, id="space before colon"),
        pytest.param(POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}" + GET, id="CL.CL"),
        pytest.param(POST + b"Content-Length: 2, 2\r\n\r\n{}" + GET, id="CL list"),
        pytest.param(POST + b"Content-Length: +2\r\n\r\n{}" + GET, id="CL with sign"),
        pytest.param(POST + b"Content-Length: 0x2\r\n\r\n{}" + GET, id="CL in hex"),
        pytest.param(POST + b"Content-Length: 99999999999999999999\r\n\r\n{}" + GET, id="CL beyond 64 bits"),
        pytest.param(POST + CHUNKED + b"2\r\n{}\r\n0\r\nContent-Length: 9\r\n\r\n" + GET, id="CL as trailer"),
        pytest.param(
            POST + CHUNKED + b"fffffffffffffffff\r\n{}\r\n0\r\n\r\n" + GET, id="chunk beyond 64 bits"
        ),
        pytest.param(POST + CHUNKED + b"-2\r\n{}\r\n0\r\n\r\n" + GET, id="negative chunk"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" + GET, id="two hosts"),
        pytest.param(b"GET / HTTP/1.1\r\nX: a\r\n b\r\nHost: h\r\n\r\n" + GET, id="folded"),
        pytest.param(b"GET / HTTP/1.1\nHost: h\n\n" + GET, id="bare LF"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n" + GET, id="bare CR"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n" + GET, id="NUL"),
        pytest.param(b"GET / HTTP/3.1\r\nHost: h\r\n\r\n" + GET, id="version"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(30), id="HTTP/2"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), id="TLS"),
    ],
)
async def test_what_can_be_read_in_two_ways_is_refused_and_nothing_after_it_is_read(request_):
    async with serving() as served:
        answer = await served.say(request_)
        assert shape(answer) == (400, "bad_request")
        assert answer.count(b"HTTP/1.") == 1


@pytest.mark.parametrize(
    ("parts", "status", "code"),
    [
        ([b"GET /", b"a" * 9000], 414, "uri_too_long"),
        ([b"GET /?", b"a" * 900_000], 414, "uri_too_long"),
        ([GET[:-2] + b"X: ", b"a" * 9000], 431, "headers_too_large"),
        ([GET[:-2], b"a" * 9000], 431, "headers_too_large"),
        ([GET[:-2], b"X: a\r\n" * 200], 431, "headers_too_large"),
        ([GET[:-2], *[b"X: " + b"a" * 8000 + b"\r\n"] * (HEAD_BYTES // 8000 + 1)], 431, "headers_too_large"),
        ([POST + CHUNKED + b"2\r\n{}\r\n0\r\n" + b"X: a\r\n" * 200], 431, "headers_too_large"),
    ],
    ids=["target", "query", "header", "name", "number", "all of them", "trailers"],
)
async def test_a_head_that_is_too_large_is_refused(parts, status, code):
    async with serving() as served:
        assert shape(await served.say(*parts, pause=0.01)) == (status, code)


@pytest.mark.parametrize(
    "upgrade",
    [
        b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
    ],
    ids=["h2c", "websocket"],
)
async def test_who_asks_for_another_protocol_is_answered_in_this_one(upgrade):
    async with serving(keepalive_seconds=0.3) as served:
        answer = await served.say(GET[:-2] + b"Connection: Upgrade\r\n" + upgrade + b"\r\n", GET, pause=0.1)
        assert answer.count(b"HTTP/1.1 200 OK") == 2


async def test_nobody_is_connected_to_anybody_else():
    async with serving(keepalive_seconds=0.3) as served:
        answer = await served.say(b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: h\r\n\r\n")
        assert shape(answer) == (404, "not_found")


async def test_http_1_0_is_answered_and_ended():
    async with serving() as served:
        assert (await served.say(b"GET / HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.0 200 OK")


@pytest.mark.parametrize(
    "rest", [b"zz\r\n", b"1\r\n22\r\n", b"0\r\n" + b"X: a\r\n" * 200], ids=["size", "length", "trailers"]
)
async def test_a_body_that_breaks_is_refused_at_once(rest):
    async with serving() as served, asyncio.timeout(answers.BODY_SECONDS / 2):
        answer = await served.say(POST + CHUNKED + b"1\r\n1\r\n", rest, pause=0.1)
        assert shape(answer) == (400, "bad_request")
        assert answer.count(b"HTTP/1.") == 1


@pytest.mark.parametrize("reset", [False, True])
async def test_who_goes_away_in_the_middle_of_a_body_is_no_fault_of_the_service(caplog, reset):
    def faults() -> float:
        cells = metrics.HTTP_REQUESTS.counts()
        return sum(cell[0] for labels, cell in cells if labels[2] == "500")

    before = faults()
    async with serving() as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(POST + b"Content-Length: 10\r\n\r\n1")
        await served.say(b"GET / HTTP/1.0\r\n\r\n")  # what came before is being served
        if reset:
            writer.transport.abort()
        else:
            writer.write_eof()
            assert await heard(reader) == b""
            writer.close()
        await served.say(b"GET / HTTP/1.0\r\n\r\n")
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
    assert faults() == before


# --- who takes too long ------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [b"", GET], ids=["first", "second"])
async def test_a_head_that_drips_is_refused(before):
    async with serving(head_seconds=0.3) as served:
        answer = await served.drip(before + GET[:-2] + b"X: ", b"x")
        assert shape(answer) == (408, "request_timeout")
        assert answer.count(b"200 OK") == bool(before)


async def test_who_says_nothing_is_left_without_an_answer():
    async with serving(head_seconds=0.3) as served:
        assert await served.say(b"") == b""


async def test_who_has_been_answered_may_stay_a_while_and_is_then_left():
    async with serving(head_seconds=0.05, keepalive_seconds=0.5) as served:
        began = time.monotonic()
        assert (await served.say(GET)).count(b"HTTP/1.") == 1
        assert time.monotonic() - began >= 0.5


@pytest.mark.parametrize(
    "body",
    [b"Content-Length: 100000\r\n\r\n1", CHUNKED + b"9999\r\n1", CHUNKED + b"1;x"],
    ids=["length", "chunk", "extension"],
)
async def test_a_body_that_drips_is_refused(monkeypatch, body):
    monkeypatch.setattr(answers, "BODY_SECONDS", 0.3)
    async with serving(linger_seconds=0.3) as served:
        assert shape(await served.drip(POST + body, b"1")) == (408, "request_timeout")


@pytest.mark.parametrize(
    ("head", "status"),
    [(b"POST /nowhere", 404), (b"DELETE /", 405), (b"GET /", 200), (b"POST /body", 413)],
)
async def test_a_body_that_nobody_wants_is_waited_for_only_so_long(head, status):
    length = b"100000000" if status == 413 else b"100000"
    first = head + b" HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: " + length
    drop = b"1" * (1 << 20) if status == 413 else b"1"
    async with serving(linger_seconds=0.3) as served:
        assert b"HTTP/1.1 %d" % status in await served.drip(first + b"\r\n\r\n", drop)


async def test_the_inbox_waits_for_a_body_only_so_long(service, monkeypatch):
    monkeypatch.setattr(answers, "BODY_SECONDS", 0.3)
    served = Served(int(service.url.rpartition(":")[2]))
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    with closing(writer):
        writer.write(b"POST /inbox/a HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n1")
        async with asyncio.timeout(SECONDS):
            assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the kernel has no TCP_USER_TIMEOUT")
@pytest.mark.parametrize("requests", [1, 50], ids=["one answer", "pipelined"])
async def test_who_takes_nothing_of_an_answer_is_dropped(requests):
    async with serving(reader_seconds=0.5) as served:
        asked = GET.replace(b"/ ", b"/?size=20000000 ") * requests
        with opened() as new:
            sock = new(served.port, asked)
            sock.setblocking(False)

            def gone() -> bool:
                try:
                    sock.send(b"\r\n")  # only who speaks hears that nobody is there
                except BlockingIOError:
                    return False
                except ConnectionError:
                    return True
                return False

            await until(gone)


# --- where there is no room --------------------------------------------------------------------------


async def test_who_asks_nothing_makes_room_first_and_who_is_served_never_does():
    async with serving(connections=6) as served:
        with opened() as new:
            waiting = [new(served.port, WAIT)]
            silent = [new(served.port) for _ in range(3)]
            idle = [new(served.port, GET) for _ in range(2)]
            for sock in idle:
                await said(sock)
            for going in (*silent, *idle):
                waiting.append(new(served.port, WAIT))
                await until(lambda sock=going: ended(sock))
            # All that are left are being served: the next one waits until there is room.
            waiting.append(new(served.port, WAIT))
            await asyncio.sleep(0.2)
            assert not any(map(ended, waiting))
            served.go_on.set()
            for sock in waiting:
                assert b"waited" in await said(sock)


async def test_who_does_not_read_or_write_on_makes_room_too():
    async with serving(connections=3) as served:
        with opened() as new:
            reads_not = new(served.port, GET.replace(b"/ ", b"/?size=20000000 "))
            writes_not = new(served.port, POST + b"Content-Length: 100\r\n\r\n1")
            kept = new(served.port, WAIT)
            for going in (writes_not, reads_not):
                new(served.port, WAIT)
                await until(lambda sock=going: ended(sock))
            assert not ended(kept)


async def test_bodies_that_are_kept_back_do_not_take_all_memory():
    mib = 1 << 20
    async with serving(held_bytes=4 * mib) as served:
        with opened() as new:
            head = POST + b"Content-Length: %d\r\n\r\n" % mib
            being_served = new(served.port, WAIT[:-2] + b"Content-Length: 200000\r\n\r\n" + b"1" * 200_000)
            kept_back = []
            for _ in range(20):
                kept_back.append(new(served.port, head + b"1" * (mib // 2)))
                await asyncio.sleep(0.02)
            await until(lambda: sum(map(ended, kept_back)) >= 12)
            # The latest have room; one that comes whole is taken, and theirs goes on.
            whole = b'"' + b"1" * (mib - 2) + b'"'
            asked = POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % mib
            assert b"HTTP/1.1 200 OK" in await served.say(asked + whole)
            assert not ended(kept_back[-1])
            served.go_on.set()
            assert b"waited" in await said(being_served)


async def test_without_a_descriptor_left_idle_connections_make_room(caplog):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with serving() as served:
        with opened() as new:
            idle = [new(served.port, GET) for _ in range(5)]
            for sock in idle:
                await said(sock)
            # Connected to the kernel; the service has no descriptor for it.
            late = new(served.port, GET)
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (late.fileno(), hard))
                assert b"200 OK" in await said(late)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert all(map(ended, idle))
    assert "no connection can be accepted" in caplog.text
