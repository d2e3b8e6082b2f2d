"""One delivery: sign, guard, send, judge the answer.

Speaks the Standard Webhooks scheme (https://www.standardwebhooks.com): `webhook-id` is the same at
every try of one admission, `webhook-timestamp` is that of the try. Decides what an answer means and
writes nothing: the reaper does.
"""

import asyncio
import ipaddress
import logging
import random
import re
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any

import aiohttp
import aiohttp_retry
import orjson
from aiohttp.abc import AbstractResolver
from aiohttp.client_middlewares import ClientHandlerType
from standardwebhooks import Webhook
from yarl import URL

from rqueue.connections import RECEIVE_BYTES, Connector, Resolver
from rqueue.domain.job import MAX_CALLBACK_BYTES, Job, written
from rqueue.domain.secret import key_of
from rqueue.errors import InvalidCallback, Refused
from rqueue.files import Watched
from rqueue.guard import ForbiddenTarget, Guard, literal
from rqueue.traces import Traces

QUICK_TRIES = 3
QUICK_PAUSE = 0.2
QUICKLY_TRIED_AGAIN = aiohttp.ClientConnectionError
MAX_RETRY_AFTER = 3600
ERROR_LENGTH = 200


# What needs no closer look but at its origin: nothing in it is encoded, a user, a query or another form
# of a host's name.
_PLAIN_URL = re.compile(r"(https?://[a-z0-9.-]+(?::[0-9]{1,5})?)(?:/[A-Za-z0-9._~/-]*)?")
_PLAIN_PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~/-]*")
_BLANK = re.compile(r"[\x00-\x20\x7f]")
_HOST = re.compile(r"[A-Za-z0-9._:%-]+")
_EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a delivery came to.

    `outcome` is accepted (the client has it), unwanted (410), forbidden (the guard refused the
    target, and always will) or refused (try again); `retry_after` is in seconds, where one was asked for.
    """

    outcome: str
    error: str = ""
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """Where a callback goes: its URL, the host and port that bound how many are called at once, and whether
    a rule trusts the host by name.
    """

    url: URL
    name: str
    trusted: bool


class Callbacks:
    """Delivers callbacks. Use as an async context manager, and name the secrets before the first delivery.

    `base_url` is what callbacks that are not absolute are resolved against; `timeout` in seconds, of one try;
    `tls` says whom to trust at a try, without it the system does; `resolver` looks up the names of receivers,
    without it the system's does.
    """

    def __init__(
        self,
        guard: Guard,
        base_url: str,
        timeout: float,
        tls: Watched[ssl.SSLContext] | None = None,
        traces: Traces | None = None,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._guard = guard
        self._resolver = resolver
        self._traces = traces
        self._base = URL(base_url) if base_url else None
        if self._base is not None and (self._base.scheme not in ("http", "https") or not self._base.host):
            raise Refused("RQUEUE_CALLBACK_BASE_URL must be http://host/… or https://host/…")
        self._signers: list[Webhook] = []
        self._timeout = timeout
        self._tls = tls
        # What is good is remembered: jobs by the thousand have few origins.
        self._checked = lru_cache(maxsize=1024)(self.target)
        self._check_host = lru_cache(maxsize=1024)(self._check_host_of)
        self._trusted: ContextVar[bool] = ContextVar("trusted", default=False)

    @property
    def round_seconds(self) -> float:
        """The longest that `deliver` takes: its quick tries, or one that hangs, and a little."""
        return 2 * self._timeout

    @property
    def signs(self) -> bool:
        """Whether there is a secret to sign with: nobody may be called before."""
        return bool(self._signers)

    def sign_with(self, secrets: Sequence[str]) -> None:
        """Sign with these secrets from now on: whsec_ and base64, the newest first. Raises Refused."""
        signers = []
        for secret in secrets:
            try:
                signers.append(Webhook(key_of(secret)))
            except ValueError as error:
                raise Refused(f"RQUEUE_CALLBACK_SECRETS: {error}") from None
        self._signers = signers

    async def __aenter__(self) -> "Callbacks":
        connector = Connector(
            limit=0, ttl_dns_cache=10, resolver=self._resolver or Resolver(), socket_factory=self._socket
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=self._timeout),
            headers={"User-Agent": "rqueue", "Content-Type": "application/json"},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )
        # At level debug it logs what receivers said.
        logging.getLogger("aiohttp_retry").setLevel(logging.INFO)
        self._again = aiohttp_retry.RetryClient(
            self._session,
            retry_options=aiohttp_retry.JitterRetry(
                attempts=QUICK_TRIES - 1,
                start_timeout=QUICK_PAUSE,
                random_interval_size=QUICK_PAUSE,
                # Its defaults retry no exception and every 5xx; a hung receiver is not called again at once.
                exceptions={QUICKLY_TRIED_AGAIN},
                methods={"POST"},
                retry_all_server_errors=False,
                evaluate_response_callback=_is_final,
            ),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    def check(self, callback: str) -> None:
        """Raise InvalidCallback where there is none to call; quick for the usual forms."""
        self._origin(callback)

    def line(self, callback: str) -> str:
        """The host and port that a callback goes to: not too many are called there at once.

        Raises InvalidCallback.
        """
        return self._origin(callback).name

    def _origin(self, callback: str) -> Target:
        """A target with the same origin, or the callback's own. Raises InvalidCallback as `target` does."""
        if len(callback) <= MAX_CALLBACK_BYTES:
            if self._base is not None and _PLAIN_PATH.fullmatch(callback):
                return self._checked(str(self._base))
            if plain := _PLAIN_URL.fullmatch(callback):
                return self._checked(plain[1])
        return self.target(callback)

    def target(self, callback: str) -> Target:
        """Where a callback goes. Raises InvalidCallback where it must not be called."""
        field = "callback"
        if len(callback.encode()) > MAX_CALLBACK_BYTES:
            raise InvalidCallback(f"longer than {MAX_CALLBACK_BYTES} bytes", field)
        if _BLANK.search(callback):
            # Parsers drop some of these silently, and two callbacks would become one.
            raise InvalidCallback("holds a space or a control character; percent-encode it", field)
        try:
            url = URL(callback)
            if not url.absolute and not url.scheme:
                if self._base is None:
                    raise InvalidCallback(
                        "not an absolute URL, and the service has no RQUEUE_CALLBACK_BASE_URL to resolve it"
                        " against; expected http://… or https://…",
                        field,
                    )
                url = self._base.join(url)
            if url.scheme not in ("http", "https") or not url.host or url.port is None:
                raise InvalidCallback(
                    f"scheme {url.scheme!r}; expected http://host/… or https://host/…", field
                )
            if self._base is not None and callback.startswith(("//", "\\")):
                raise InvalidCallback("names a host without a scheme; expected http://… or https://…", field)
        except (ValueError, IndexError) as error:
            # An IndexError is yarl's, for a host that is a bracket short.
            raise InvalidCallback(f"not a URL: {error}", field) from None
        trusted = self._check_host(url.origin())
        return Target(url, f"{url.host}:{url.port}", trusted)

    def _check_host_of(self, url: URL) -> bool:
        """Whether a rule trusts the URL's host by name. Raises InvalidCallback where one refuses it."""
        host = url.raw_host or ""
        if not _HOST.fullmatch(host):
            raise InvalidCallback(f"host {url.host!r} is no host's name", "callback")
        if self._guard.refuses_host(url):
            raise InvalidCallback(f"host {host!r} is denied by RQUEUE_CALLBACK_DENY", "callback")
        address = literal(host.rstrip("."))
        trusted = self._guard.trusts_host(url)
        if address is not None and self._guard.refuses(address, trusted):
            raise InvalidCallback(
                f"address {address} must not be called; see RQUEUE_CALLBACK_ALLOW", "callback"
            )
        return trusted

    async def deliver(self, job: Job, asked: float | None = None) -> Verdict:
        """Call a job's callback, a few times where it fails fast. Never raises for what a receiver does.

        `asked` is the moment (time.monotonic) before which the script was asked that handed the job out, and
        so wrote its UpdatedAt: the tries are dated by Redis's clock, not by this machine's, which may be
        wrong. Without it that was just now.
        """
        clock = _Clock(job.updated_at / 1e6 - (time.monotonic() if asked is None else asked))
        if self._traces is None or job.traceparent is None:
            return await self._deliver(job, clock)
        with self._traces.call(job) as call:
            verdict = await self._deliver(job, clock, call.traceparent)
            call.came_to(verdict.outcome)
        return verdict

    async def _deliver(self, job: Job, clock: "_Clock", traceparent: str = "") -> Verdict:
        try:
            target = self.target(job.callback)
        except InvalidCallback as error:
            return Verdict("forbidden", f"callback: {error.message}")
        self._trusted.set(target.trusted)
        admitted = written(job.admitted_at or job.updated_at)
        document = {"type": "job.admitted", "timestamp": admitted, "data": job.document()}
        body = orjson.dumps(document)
        try:
            async with asyncio.timeout(self.round_seconds):
                response = await self._called(target.url, f"adm_{job.admission}", body, clock, traceparent)
                response.release()
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return self._failed(error)
        return judge(response.status, response.headers, clock.now())

    def _failed(self, error: Exception) -> Verdict:
        """What it means that there is no answer.

        Quotes nothing that the other end said: who reads the job may have had something called that they
        could not reach themselves.
        """
        match error:
            case TimeoutError():
                reason = f"no answer within {self._timeout:g} s"
            case aiohttp.ClientConnectorCertificateError():
                fault = error.certificate_error
                reason = f"the certificate cannot be trusted: {getattr(fault, 'verify_message', '') or fault}"
            case aiohttp.ClientConnectorError():
                if _is_forbidden(error):
                    return Verdict("forbidden", str(error.os_error))
                reason = f"cannot connect: {error.os_error}"
            case aiohttp.ClientResponseError():
                reason = "the answer is not HTTP, or its head is too large"
            case aiohttp.ServerDisconnectedError():
                reason = "the connection was closed before the answer"
            case OSError(strerror=str(said)):
                reason = f"the connection broke: {said}"
            case _:
                reason = f"cannot be called: {type(error).__name__}"
        return Verdict("refused", reason[:ERROR_LENGTH])

    async def _called(
        self, url: URL, message_id: str, body: bytes, clock: "_Clock", traceparent: str
    ) -> aiohttp.ClientResponse:
        """The final answer of a round.

        Most receivers take the first try, so that one goes out as it is: aiohttp-retry and a middleware that
        signs each try anew are 15 of 115 µs.
        """
        headers = self._signature(message_id, body, clock)
        if traceparent:
            headers["traceparent"] = traceparent
        try:
            response = await self._session.post(
                url, data=body, headers=headers, allow_redirects=False, ssl=self._trust()
            )
            if await _is_final(response):
                return response
        except QUICKLY_TRIED_AGAIN as error:
            if _is_forbidden(error):
                raise
        await asyncio.sleep(self._again.retry_options.get_timeout(1))

        async def sign(request: aiohttp.ClientRequest, handler: ClientHandlerType) -> aiohttp.ClientResponse:
            request.headers.update(self._signature(message_id, body, clock))
            return await handler(request)

        more = {"traceparent": traceparent} if traceparent else None
        return await self._again.post(
            url, data=body, headers=more, allow_redirects=False, middlewares=(sign,), ssl=self._trust()
        )

    def _trust(self) -> ssl.SSLContext | bool:
        return self._tls.value if self._tls is not None else True

    def _signature(self, message_id: str, body: bytes, clock: "_Clock") -> dict[str, str]:
        now, text = clock.now(), body.decode()
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(s.sign(message_id, now, text) for s in self._signers),
        }

    def _socket(self, info: Any) -> socket.socket:
        """Make the socket for one connection. Every one is made here, so no address gets past the guard."""
        family, kind, protocol, _, sockaddr = info
        address = ipaddress.ip_address(str(sockaddr[0]).partition("%")[0])
        if self._guard.refuses(address, self._trusted.get()):
            raise ForbiddenTarget
        made = socket.socket(family, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        return made


@dataclass(frozen=True, slots=True)
class _Clock:
    """Redis's clock: so many seconds ahead of time.monotonic."""

    ahead: float

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.ahead + time.monotonic(), UTC)


def judge(status: int, headers: Mapping[str, str], now: datetime) -> Verdict:
    """What an answer means. Redirects are not followed: they count as refusals.

    A date in Retry-After is read by the answer's own Date, and where there is none, by `now`.
    """
    if 200 <= status < 300:
        return Verdict("accepted")
    if status == 410:
        return Verdict("unwanted", "the receiver answered 410 Gone")
    return Verdict("refused", f"the receiver answered {status}", _retry_after(headers, now))


def full_jitter(attempt: int, longest: float = 60) -> float:
    """Seconds to wait before the next round: anything up to 2^attempt, so that clients do not march in step.

    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    return random.uniform(0, min(longest, 2.0 ** min(attempt, 10)))  # noqa: S311


def _is_forbidden(error: Exception) -> bool:
    return isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, ForbiddenTarget)


async def _is_final(response: aiohttp.ClientResponse) -> bool:
    # Whether it asks for a pause does not depend on the moment.
    verdict = judge(response.status, response.headers, _EPOCH)
    if verdict.outcome != "refused" or verdict.retry_after is not None:
        return True
    response.release()
    return False


def _retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Retry-After in seconds (RFC 9110: a number, or a date); None for none, or for nonsense."""
    asked = headers.get("Retry-After", "").strip()
    if asked.isdecimal():
        return float(min(int(asked[:9]), MAX_RETRY_AFTER))
    if (until := _date(asked)) is None:
        return None
    left = (until - (_date(headers.get("Date", "")) or now)).total_seconds()
    return min(max(left, 0.0), float(MAX_RETRY_AFTER))


def _date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
        # A zone may take it out of the years that there are.
        return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError, TypeError):
        return None
