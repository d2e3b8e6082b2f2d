"""Who asks, and whether they may: before any handler, and before a body is read.

A caller shows a token, as `Authorization: Bearer`, or as the cookie that the board's login sets. The cookie
is the token itself, out of reach of scripts, so that there is nothing to keep: any replica knows it, and it
ends with the token. Who comes by cookie shows for every change that the page is the board's own: what goes in
`X-CSRF-Token` only who could read the answer to a login, or to GET /board/session, can know.
"""

import asyncio
import hmac
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import IPv6Address, IPv6Network
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from cachetools import TTLCache

from rqueue.domain.caller import ANYONE, Caller, Right, Role
from rqueue.errors import (
    Forbidden,
    IdentityUnavailable,
    Invalid,
    RateLimited,
    RqueueError,
    Unauthenticated,
    Unavailable,
)
from rqueue.identity import REVIEW_SECONDS, REVIEWS_AT_ONCE, Identity, Review
from rqueue.tokens import Tokens, digest_of
from rqueue.web import examples, shapes
from rqueue.web.answers import answer, body, names
from rqueue.web.operation import operation

log = logging.getLogger("rqueue.web.auth")

CALLER: web.RequestKey[Caller] = web.RequestKey("CALLER", Caller)
COOKIE = "rqueue_session"
SESSION_SECONDS = 12 * 3600
MAX_TOKEN_BYTES = 8192
# So many unknown tokens an address may send until a minute has passed without one; of so many addresses.
FAILURES = 20
FAILURE_SECONDS = 60
ADDRESSES = 10_000
# How long what another service said of a token is taken for true, and how many are remembered.
REVIEWED_SECONDS = 60
REVIEWED = 10_000
# How long a token that was good is asked about again whatever else comes from its address.
RECENT_SECONDS = 3600


def caller_of(request: web.Request) -> Caller:
    """Who asks; where nobody has to say, anyone with all rights."""
    caller: Caller = request.get(CALLER, ANYONE)
    return caller


def typed(request: web.Request) -> tuple[str, ...]:
    """The values in the path, of which the first is the type. Raises Forbidden for one not the caller's."""
    found = names(request)
    caller_of(request).must_have_type(found[0])
    return found


class Auth:
    """Knows callers by their tokens: those of the file, and those that others vouch for.

    `rate` is how many requests a second one caller may send to this process, where its entry says nothing.
    """

    def __init__(
        self,
        tokens: Callable[[], Tokens],
        reviews: Sequence[Review],
        rate: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tokens = tokens
        self._reviews = reviews
        self._rate = rate
        self._vouched: TTLCache[bytes, Identity | None] = TTLCache(REVIEWED, REVIEWED_SECONDS, clock)
        self._strange: TTLCache[bytes, Identity | None] = TTLCache(REVIEWED, REVIEWED_SECONDS, clock)
        self._recent: TTLCache[bytes, bool] = TTLCache(REVIEWED, RECENT_SECONDS, clock)
        self._asking: dict[bytes, asyncio.Task[Caller]] = {}
        self._room = asyncio.Semaphore(REVIEWS_AT_ONCE)
        # How many requests each caller has sent in this second, and how many unknown tokens each address.
        self._second, self._sent = 0, dict[str, int]()
        self._failed: TTLCache[str, int] = TTLCache(ADDRESSES, FAILURE_SECONDS, clock)

    def middleware(self, rights: dict[Handler, Right | None]) -> Middleware:
        """Lets through who may; `rights` is what each handler asks for, None where it is open to all."""

        @web.middleware
        async def authorised(request: web.Request, handler: Handler) -> web.StreamResponse:
            # What is not there, or has other methods, is no secret.
            right = rights.get(request.match_info.handler)
            if right is not None:
                caller = await self._caller(request)
                caller.must(right)
                request[CALLER] = caller
            return await handler(request)

        return authorised

    async def _caller(self, request: web.Request) -> Caller:
        token, by_cookie = _shown(request)
        caller = await self.known(token, request.remote or "")
        if by_cookie and request.method not in ("GET", "HEAD"):
            shown = request.headers.get("X-CSRF-Token", "")
            if not hmac.compare_digest(shown.encode(errors="replace"), _csrf(token).encode()):
                raise Forbidden("a change by the board's cookie needs the session's X-CSRF-Token")
        self._count(caller)
        return caller

    async def still_known(self, request: web.Request) -> bool:
        """Whether who sent a request, which lasts, is still let in, with the same rights."""
        token, _ = _shown(request)
        try:
            caller = await self.known(token, request.remote or "")
        except Unavailable:
            return True
        except RqueueError:
            return False
        was = caller_of(request)
        return (caller.role, caller.types, caller.owners) == (was.role, was.types, was.owners)

    def _count(self, caller: Caller) -> None:
        if (second := int(time.monotonic())) != self._second:
            self._second, self._sent = second, {}
        sent = self._sent[caller.name] = self._sent.get(caller.name, 0) + 1
        if sent > (rate := caller.rate or self._rate):
            raise RateLimited(f"{caller.name} may send {rate} requests a second")

    async def known(self, token: str, remote: str) -> Caller:
        """The caller of a token. Raises Unauthenticated, or RateLimited after too many of those in a minute.

        Who has a good token is not held up by the failures of others behind the same address, but for one
        that others vouch for and that was not seen within the hour: to ask about each would be no limit.
        Raises IdentityUnavailable where they do not answer.
        """
        digest = digest_of(token)
        # By its hash, of which nobody can choose a part: the time of the search tells nothing of a token.
        return self._tokens().by_digest.get(digest) or await self._unlisted(token, digest, _network(remote))

    async def _unlisted(self, token: str, digest: bytes, address: str) -> Caller:
        for said in (self._vouched, self._strange):
            if digest in said:
                return self._caller_of(said[digest], address)
        if not token:
            # No guess, and so nothing to count.
            raise Unauthenticated("expected Authorization: Bearer <token>")
        if not self._reviews:
            return self._caller_of(None, address)
        # All that come with one token at once are told by one answer.
        asking = self._asking.get(digest)
        if asking is None:
            if digest not in self._recent:
                self._must_not_guess(address)
            asking = self._asking[digest] = asyncio.create_task(self._ask(token, digest, address))
            asking.add_done_callback(lambda done: self._asked(digest, done))
        return await asyncio.shield(asking)

    def _asked(self, digest: bytes, done: "asyncio.Task[Caller]") -> None:
        del self._asking[digest]
        if not done.cancelled():
            done.exception()  # seen, also where all who waited for it have gone

    async def _ask(self, token: str, digest: bytes, address: str) -> Caller:
        try:
            async with asyncio.timeout(REVIEW_SECONDS), self._room:
                if digest not in self._recent:
                    # Those before it may have used up what its address is allowed.
                    self._must_not_guess(address)
                identity = None
                for review in self._reviews:
                    identity = identity or await review(token)
                # Apart, so that no number of strangers drives out what is known of others.
                self._strange[digest] = identity
                caller = self._caller_of(identity, address)
                self._vouched[digest], self._recent[digest] = self._strange.pop(digest), True
                return caller
        except TimeoutError:
            log.warning("nobody said within %g s who a token speaks for", REVIEW_SECONDS)
            raise IdentityUnavailable from None

    def _caller_of(self, identity: Identity | None, address: str) -> Caller:
        # An account's role is looked up each time, so that it ends with its entry.
        caller = self._tokens().by_account.get(identity) if isinstance(identity, str) else identity
        if caller is None:
            self._must_not_guess(address)
            failed = self._failed[address] = self._failed.get(address, 0) + 1
            log.warning(
                "an unknown token from %s%s",
                *(address, "; further ones are not looked at for a minute" if failed == FAILURES else ""),
            )
            raise Unauthenticated("this token is not known")
        return caller

    def _must_not_guess(self, address: str) -> None:
        if self._failed.get(address, 0) >= FAILURES:
            raise RateLimited("too many unknown tokens came from this address", retry_after=FAILURE_SECONDS)


AUTH: web.AppKey[Auth] = web.AppKey("AUTH", Auth)

_SESSION = shapes.record(
    {
        "name": shapes.text("Whose token it is; empty where nobody has to say who they are."),
        "role": {"type": "string", "enum": list(Role), "description": "What it is."},
        "rights": shapes.list_of({"type": "string", "enum": list(Right)}, description="What it may do."),
        "types": shapes.or_null(shapes.list_of(shapes.TEXT, description="Of these types; null is all.")),
        "owners": shapes.or_null(shapes.list_of(shapes.TEXT, description="For these owners; null is all.")),
        "csrf": shapes.text("For X-CSRF-Token; empty for who comes by no cookie."),
    },
    title="Session",
)


@operation(
    data=_SESSION,
    body=shapes.record(
        {
            "token": {
                "type": "string",
                "minLength": 1,
                "maxLength": MAX_TOKEN_BYTES,
                "description": "As it would go in Authorization.",
            }
        },
        additionalProperties=False,
    ),
    headers={
        "X-Forwarded-Proto": {
            "type": "string",
            "description": "Of a proxy that ends TLS: with `https` the cookie is for HTTPS only.",
            "examples": ["https"],
        }
    },
    body_examples={"a token": {"value": {"token": "rq_yWSdW0tFptqs39M_3hP56pa"}}},
    answer_examples={"an operator": examples.answered(examples.SESSION | {"csrf": "5d41402abc4b2a76"})},
    refuses=(Unauthenticated, RateLimited, IdentityUnavailable),
    asks_redis=False,
)
async def login(request: web.Request) -> web.Response:
    """POST /board/login: a token for the board's cookie, `{"token": …}`.

    The cookie is out of reach of scripts, and ends with the token, or after 12 hours. The answer is the
    session.
    """
    if request.headers.get("Content-Type", "").partition(";")[0].strip() != "application/json":
        # What no page elsewhere can send without being asked first.
        raise web.HTTPUnsupportedMediaType(text="expected application/json")
    written = await body(request)
    token = written.get("token") if isinstance(written, dict) else None
    if not isinstance(token, str) or not 0 < len(token) <= MAX_TOKEN_BYTES or set(written) != {"token"}:
        raise Invalid('expected {"token": …}', "token")
    caller = await request.app[AUTH].known(token, request.remote or "")
    response = answer(_session(caller, token))
    forwarded = request.headers.get("X-Forwarded-Proto", "")  # a list, where there are several proxies
    response.set_cookie(
        COOKIE,
        token,
        max_age=SESSION_SECONDS,
        httponly=True,
        samesite="Strict",
        secure="https" in (request.scheme, forwarded.partition(",")[0].strip()),
    )
    return response


@operation(
    data=_SESSION,
    answer_examples={"an operator": examples.answered(examples.SESSION)},
    asks_redis=False,
)
async def show_session(request: web.Request) -> web.Response:
    """GET /board/session: who the caller is, what it may do, and the token against forged requests.

    Where nobody has to say who they are, it is an admin without a name.
    """
    token, by_cookie = _shown(request)
    return answer(_session(caller_of(request), token if by_cookie else ""))


@operation(
    data=shapes.NOTHING,
    answer_examples={"gone": examples.answered({})},
    asks_redis=False,
)
async def logout(request: web.Request) -> web.Response:
    """POST /board/logout: take the cookie away.

    The token itself stays good.
    """
    response = answer({})
    response.del_cookie(COOKIE, httponly=True, samesite="Strict")
    return response


def _shown(request: web.Request) -> tuple[str, bool]:
    """The token of a request or "", and whether it came by cookie. Raises Unauthenticated."""
    header = request.headers.get("Authorization")
    if sum(len(request.headers.getall(name, ())) for name in ("Authorization", "X-Auth-Token")) > 1:
        raise Unauthenticated("expected one token")
    if header is None:
        # As OpenStack's clients have it.
        token, cookie = request.headers.get("X-Auth-Token", ""), request.cookies.get(COOKIE, "")
        found, by_cookie = (token, False) if token else (cookie, bool(cookie))
    else:
        scheme, _, found = header.partition(" ")
        found, by_cookie = found.strip(), False
        if scheme.lower() != "bearer":
            raise Unauthenticated("expected Authorization: Bearer <token>")
    if len(found) > MAX_TOKEN_BYTES:
        raise Unauthenticated(f"a token has at most {MAX_TOKEN_BYTES} bytes")
    return found, by_cookie


def _network(remote: str) -> str:
    """What counts as one address: of IPv6 all that one host can give itself."""
    with suppress(ValueError):
        address = IPv6Address(remote)
        return str(address.ipv4_mapped or IPv6Network((address, 64), strict=False))
    return remote


def _csrf(token: str) -> str:
    return hmac.digest(token.encode(errors="surrogateescape"), b"rqueue csrf", "sha256").hex()


def _session(caller: Caller, token: str) -> dict[str, Any]:
    return {
        "name": caller.name,
        "role": caller.role,
        "rights": sorted(caller.rights),
        "types": None if caller.types is None else sorted(caller.types),
        "owners": caller.owners,
        "csrf": _csrf(token) if token else "",
    }
