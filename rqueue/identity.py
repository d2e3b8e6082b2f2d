"""Who a token speaks for, as others say it: the Kubernetes API by TokenReview, or Keystone.

Each review is a function of a token that answers a caller, or None where the token is not for it or not good.
What they are made with is optional: the extras `kubernetes` and `openstack`. Asks, and remembers nothing.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from rqueue.domain.caller import Caller, Role
from rqueue.errors import IdentityUnavailable, Refused
from rqueue.tokens import Tokens

Review = Callable[[str], Awaitable[Caller | None]]
REVIEW_SECONDS = 5.0

log = logging.getLogger("rqueue.identity")


@asynccontextmanager
async def kubernetes(tokens: Callable[[], Tokens], audience: str) -> AsyncIterator[Review]:
    """Reviews ServiceAccount tokens: who the cluster says it is gets the role that the tokens file gives it.

    With an audience only tokens that were made for it are good. Raises Refused where there is no cluster.
    """
    try:
        from kubernetes_asyncio import client, config
    except ImportError:
        raise Refused("RQUEUE_AUTH_KUBERNETES needs the extra: pip install 'rqueue[kubernetes]'") from None
    settings = client.Configuration()
    try:
        config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
    except config.ConfigException:
        try:
            await config.load_kube_config(client_configuration=settings)
        except config.ConfigException as error:
            raise Refused(f"RQUEUE_AUTH_KUBERNETES: no cluster to ask: {error}") from None
    async with client.ApiClient(settings) as api:
        reviews = client.AuthenticationV1Api(api)

        async def review(token: str) -> Caller | None:
            # An opaque token is none of the cluster's, and is not shown to it.
            if token.count(".") != 2:
                return None
            spec = client.V1TokenReviewSpec(audiences=[audience] if audience else None, token=token)
            try:
                async with asyncio.timeout(REVIEW_SECONDS):
                    found = await reviews.create_token_review(client.V1TokenReview(spec=spec))
            except Exception as error:
                raise _unavailable("Kubernetes", error) from None
            status = found.status
            if (
                not status
                or not status.authenticated
                or (audience and audience not in (status.audiences or ()))
            ):
                return None
            prefix, _, account = str(status.user.username).partition("system:serviceaccount:")
            return None if prefix or not account else tokens().by_account.get(account.replace(":", "/"))

        yield review


@asynccontextmanager
async def keystone(url: str, role: str) -> AsyncIterator[Review]:
    """Reviews Keystone's project-scoped tokens: who has the role in its project is a client of that owner."""
    try:
        from keystoneauth1 import adapter, exceptions, session, token_endpoint
    except ImportError:
        raise Refused("RQUEUE_AUTH_KEYSTONE needs the extra: pip install 'rqueue[openstack]'") from None
    http = session.Session(timeout=REVIEW_SECONDS)

    def ask(token: str) -> Any:
        # By the token itself, which Keystone lets everyone do with their own: rqueue needs no account there.
        asked = adapter.Adapter(http, auth=token_endpoint.Token(url, token))
        headers = {"X-Subject-Token": token, "Accept": "application/json"}
        return asked.get("/auth/tokens", params={"nocatalog": ""}, headers=headers).json()["token"]

    async def review(token: str) -> Caller | None:
        if not token.isascii() or not token.isprintable():
            return None
        try:
            found = await asyncio.to_thread(ask, token)
        except (exceptions.NotFound, exceptions.Unauthorized, exceptions.Forbidden, exceptions.BadRequest):
            return None
        except Exception as error:
            raise _unavailable("Keystone", error) from None
        project = found.get("project", {}).get("id")
        if not project or role not in [given.get("name") for given in found.get("roles", [])]:
            return None
        return Caller(f"keystone:{project}", Role.CLIENT, owners=[project])

    yield review


def _unavailable(what: str, error: Exception) -> IdentityUnavailable:
    log.warning("%s could not be asked about a token: %s", what, type(error).__name__)
    return IdentityUnavailable(f"{what} could not be asked about this token; try again")
