"""A client that sends bytes as they are, and reads what comes back as strictly as HTTP is written."""

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

from tests.conftest import Service
from tests.web.wire import Answer, well_formed

_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2}) [ -~]*")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([ -~\t]*)")
# What is not answered in this time was an unfinished request, or is a fault.
SECONDS = 20.0
UNFINISHED_SECONDS = 0.05


@dataclass(frozen=True)
class Request:
    """A request's bytes; `whole` where an answer must come of them."""

    sent: bytes
    whole: bool = True
    method: bytes = b"GET"


async def exchange(service: Service, request: Request) -> list[Answer]:
    """Send it on a connection of its own; every answer that comes, each of them valid HTTP."""
    host, _, port = service.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    received = b""
    try:
        writer.write(request.sent)
        async with asyncio.timeout(SECONDS if request.whole else UNFINISHED_SECONDS):
            while more := await reader.read(1 << 16):
                received += more
    except ConnectionResetError:
        pass  # what came before it counts
    except TimeoutError:
        if request.whole:
            raise
    finally:
        writer.close()
    return list(_parsed(received, request.method))


def _parsed(received: bytes, method: bytes) -> Iterator[Answer]:
    while received:
        head, blank, rest = received.partition(b"\r\n\r\n")
        assert blank, received
        first, *lines = head.split(b"\r\n")
        status = _STATUS.fullmatch(first)
        assert status, received
        headers = {}
        for line in lines:
            header = _HEADER.fullmatch(line)
            assert header, line
            headers[header[1].decode().title()] = header[2].decode()
        code = int(status[1])
        if code == 100:
            received = rest
            continue
        if method == b"HEAD":
            body, received = b"", b""
        elif headers.get("Transfer-Encoding") == "chunked":
            body, received = _chunks(rest)
        elif "Content-Length" not in headers:
            body, received = rest, b""
        else:
            length = int(headers["Content-Length"])
            body, received = rest[:length], rest[length:]
            assert len(body) == length
        yield Answer(code, headers, body.decode())


def _chunks(rest: bytes) -> tuple[bytes, bytes]:
    body = b""
    while True:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        body, rest = body + rest[:length], rest[length:]
        assert rest.startswith(b"\r\n")
        rest = rest[2:]
        if length == 0:
            return body, rest


def no_fault(answer: Answer, request: Request) -> None:
    """Assert that an answer is in the one shape, and that nonsense is the client's fault, not ours."""
    assert answer.status < 500, (request, answer)
    if request.method == b"HEAD":
        return
    if answer.headers["Content-Type"].startswith("application/json"):
        if "openapi" not in json.loads(answer.text):
            well_formed(answer)
    else:
        assert answer.status == 200, (request, answer)


def encoded(name: str) -> str:
    """A name as it stands in a path."""
    return quote(name, safe="")


def written(method: bytes, target: bytes, headers: list[tuple[bytes, bytes]], body: bytes | None) -> bytes:
    """A request's bytes, after which the connection is closed."""
    lines = [method + b" " + target + b" HTTP/1.1"]
    lines += [name + b": " + value for name, value in headers]
    if body is not None:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, b"Connection: close", b"", b""]) + (body or b"")
