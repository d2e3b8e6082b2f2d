"""Who a token speaks for, as others say it: the Kubernetes API by TokenReview, or Keystone.

Each review is a function of a token that answers who it is, or None where it is not for it or not good.
What they are made with is optional: the extras `kubernetes` and `openstack`. Asks, and remembers nothing;
whoever asks says how long that may take, by cancelling.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from rqueue import apiserver
from rqueue.domain.caller import Caller, Role
from rqueue.errors import IdentityUnavailable, Refused

# A caller; or a ServiceAccount as `<namespace>/<name>`, of which the tokens file says what it may.
Identity = Caller | str
Review = Callable[[str], Awaitable[Identity | None]]
REVIEW_SECONDS = 5.0
REVIEWS_AT_ONCE = 32

log = logging.getLogger("rqueue.identity")


@asynccontextmanager
async def kubernetes(audience: str) -> AsyncIterator[Review]:
    """Reviews ServiceAccount tokens: the cluster says which account it is.

    With an audience only tokens that were made for it are good. Raises Refused where there is no cluster.
    """
    try:
        settings = await apiserver.settings()
    except Refused as error:
        raise Refused(f"RQUEUE_AUTH_KUBERNETES: {error.message}") from None
    from kubernetes_asyncio import client

    async with client.ApiClient(settings) as api:
        reviews = client.AuthenticationV1Api(api)

        async def review(token: str) -> Identity | None:
            # An opaque token is none of the cluster's, and is not shown to it.
            if token.count(".") != 2:
                return None
            spec = client.V1TokenReviewSpec(audiences=[audience] if audience else None, token=token)
            try:
                status = (await reviews.create_token_review(client.V1TokenReview(spec=spec))).status
                # An API server that knows of no audiences does not say for whom a token is.
                if not status.authenticated or (audience and audience not in (status.audiences or ())):
                    return None
                username = str(status.user.username)
            except Exception as error:
                raise _unavailable("Kubernetes", error) from None
            before, _, account = username.partition("system:serviceaccount:")
            namespace, _, name = account.partition(":")
            return None if before or not name else f"{namespace}/{name}"

        yield review


@asynccontextmanager
async def keystone(url: str, role: str) -> AsyncIterator[Review]:
    """Reviews Keystone's project-scoped tokens: who has the role in its project is a client of that owner."""
    try:
        from keystoneauth1 import exceptions, session
    except ImportError:
        raise Refused("RQUEUE_AUTH_KEYSTONE needs the extra: pip install 'rqueue[openstack]'") from None
    http, tokens_url = session.Session(timeout=REVIEW_SECONDS), f"{url.rstrip('/')}/auth/tokens?nocatalog"
    # Its own threads: those of the loop, which also read files, do not wait for a Keystone that hangs.
    threads = ThreadPoolExecutor(REVIEWS_AT_ONCE, "keystone")

    def ask(token: str) -> tuple[str, list[str]]:
        # By the token itself, which Keystone lets everyone do with their own: rqueue needs no account there.
        headers = {"X-Auth-Token": token, "X-Subject-Token": token, "Accept": "application/json"}
        answer = http.get(tokens_url, headers=headers, authenticated=False, redirect=False, log=False)
        found = answer.json()["token"]
        # Unscoped tokens, and those of a domain, have no project.
        project = found["project"]["id"] if "project" in found else ""
        return project, [given["name"] for given in found.get("roles", [])]

    async def review(token: str) -> Identity | None:
        if not token.isascii() or not token.isprintable():
            return None
        try:
            project, roles = await asyncio.get_running_loop().run_in_executor(threads, ask, token)
        except (exceptions.NotFound, exceptions.Unauthorized, exceptions.BadRequest):
            return None
        except exceptions.Forbidden:
            log.warning("Keystone's policy lets nobody validate their own token")
            return None
        except Exception as error:
            raise _unavailable("Keystone", error) from None
        if not project or role not in roles:
            return None
        return Caller(f"keystone:{project}", Role.CLIENT, owners=[project])

    try:
        yield review
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


def _unavailable(what: str, error: Exception) -> IdentityUnavailable:
    log.warning("%s could not be asked about a token: %s", what, type(error).__name__)
    return IdentityUnavailable(f"{what} could not be asked about this token; try again")
