"""One call of the service: sent, sent again where that may help and does no harm, and judged.

What is sent again: calls that found nobody, broke, or were answered 408, 429, 502, 503 or 504, after a
random time of up to 0.5, 1, 2, 4 … seconds (full jitter), or what `Retry-After` asks for. A call that must
not be done twice is sent again only where it cannot have been done.
"""

import asyncio
import random
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import aiohttp_retry
import orjson
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from rqueue.client.values import Failed

TRIES = 6
# All tries of a call, with the pauses between them.
MAX_SECONDS = 60
PAUSE_SECONDS = 0.25
MAX_PAUSE_SECONDS = 16.0
# Longer than the service is silent on a stream of events.
SILENT_SECONDS = 45
TIMEOUT = aiohttp.ClientTimeout(total=MAX_SECONDS, connect=10)
ENDLESS = aiohttp.ClientTimeout(total=None, connect=10, sock_read=SILENT_SECONDS)

_UNSENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
_BROKEN = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError)
_UNDONE = (408, 429)
_AWAY = (*_UNDONE, 502, 503, 504)
# Answers that do not change soon, or that the caller is to know: the write is there, and not in the replicas.
_FINAL = ("queue_full", "store_damaged", "not_replicated")


@dataclass(frozen=True, slots=True)
class Request:
    """A request: the names in its path as they are, and what may be sent twice (`again`)."""

    method: str
    path: tuple[str, ...]
    body: Any = None
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    again: bool = True


class _Tries(aiohttp_retry.RetryOptionsBase):
    """When one call is sent again; `sent` is how often it was, what aiohttp itself repeats among it."""

    def __init__(self, tries: int, again: bool) -> None:
        super().__init__(
            attempts=tries,
            exceptions=_BROKEN if again else _UNSENT,
            retry_all_server_errors=False,
            evaluate_response_callback=self._is_final,
        )
        self._statuses = _AWAY if again else _UNDONE
        self.sent = 0

    def get_timeout(self, attempt: int, response: aiohttp.ClientResponse | None = None) -> float:
        asked = None if response is None else retry_after(response)
        return pause(attempt) if asked is None else asked

    async def _is_final(self, response: aiohttp.ClientResponse) -> bool:
        # Here, so that an answer that breaks off is a try that broke.
        content = await response.read()
        if response.status not in self._statuses or (retry_after(response) or 0) > MAX_PAUSE_SECONDS:
            return True
        return _error_of(content).get("code") in _FINAL


class Calling:
    """The way to one service: its URL, the token to show, and how often a call is sent at the most.

    Use as an async context manager.
    """

    def __init__(self, url: str, token: str, tries: int) -> None:
        counting = aiohttp.TraceConfig()
        counting.on_request_headers_sent.append(_count)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        session = aiohttp.ClientSession(timeout=TIMEOUT, headers=headers, trace_configs=[counting])
        self._session = session
        self._retrying = aiohttp_retry.RetryClient(session)
        self._url = url.rstrip("/")
        self._tries = tries

    async def __aenter__(self) -> "Calling":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def ask(self, request: Request) -> dict[str, Any]:
        """The whole of a good answer, `data` and what is beside it. Raises Failed for any other."""
        tries = _Tries(self._tries, request.again)
        try:
            async with (
                asyncio.timeout(MAX_SECONDS),
                self._retrying.request(
                    request.method,
                    self._where(request),
                    retry_options=tries,
                    json=request.body,
                    headers=dict(request.headers),
                    allow_redirects=False,
                    trace_request_ctx={"tries": tries},
                ) as response,
            ):
                content = await response.read()
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise self._away(error, tries.sent) from None
        return self._judged(response.status, content, tries.sent)

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[AsyncIterable[bytes]]:
        """The lines of a good answer, by one try. Raises Failed for another, and where it breaks."""
        try:
            async with self._session.request(
                request.method,
                self._where(request),
                headers=dict(request.headers),
                timeout=ENDLESS,
                allow_redirects=False,
            ) as response:
                if response.status != 200:
                    self._judged(response.status, await response.read(), 1)
                yield response.content
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._away(error, 1) from None
        except HttpProcessingError:
            # A line that is longer than any that the service sends.
            raise self.unreadable() from None

    def unreadable(self, status: int = 200, tries: int = 1) -> Failed:
        """What is raised for an answer that is none of rqueue's."""
        return Failed(f"{self._url} does not answer as rqueue does (status {status})", status, tries=tries)

    def _away(self, error: Exception, tries: int) -> Failed:
        said = str(error) or type(error).__name__
        return Failed(f"{self._url} cannot be asked: {said}", tries=tries)

    def _where(self, request: Request) -> URL:
        # Names hold slashes, dots and percent signs like any other character.
        path = "/".join(
            "%2E" * len(part) if part in (".", "..") else quote(part, safe="") for part in request.path
        )
        query = f"?{urlencode(request.query, quote_via=quote)}" if request.query else ""
        return URL(f"{self._url}/{path}{query}", encoded=True)

    def _judged(self, status: int, content: bytes, tries: int) -> dict[str, Any]:
        answer = _object(content)
        if answer.get("ok") is True and "data" in answer:
            return answer
        told = _error_of(content)
        if not told:
            raise self.unreadable(status, tries)
        code = str(told.get("code"))
        raise Failed(f"{told.get('message')} ({code})", status, code, told.get("field"), tries)


async def _count(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
    if context.trace_request_ctx:
        context.trace_request_ctx["tries"].sent += 1


def retry_after(response: aiohttp.ClientResponse) -> float | None:
    """The seconds that an answer asks to wait; None where it asks for none, or names a date."""
    asked = response.headers.get("Retry-After", "")
    return float(asked) if asked.isascii() and asked.isdigit() else None


def pause(attempt: int) -> float:
    """How long to wait after so many tries: any time up to twice as long as after the one before.

    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    return random.uniform(0, min(MAX_PAUSE_SECONDS, PAUSE_SECONDS * 2.0**attempt))  # noqa: S311


def _object(content: bytes) -> dict[str, Any]:
    try:
        read = orjson.loads(content)
    except ValueError:
        return {}
    return read if isinstance(read, dict) else {}


def _error_of(content: bytes) -> dict[str, Any]:
    error = _object(content).get("error")
    return error if isinstance(error, dict) else {}
