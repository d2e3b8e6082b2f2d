"""A receiver's end of the callbacks: whether one is the service's, and a handler for aiohttp.

The Standard Webhooks scheme, https://www.standardwebhooks.com. A callback is delivered at least once, with
the same id at each try.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import orjson
from aiohttp import web
from cachetools import LRUCache
from standardwebhooks import Webhook, WebhookVerificationError

from rqueue import config
from rqueue.client.values import Document, Job
from rqueue.domain.secret import key_of
from rqueue.errors import Refused

# A body has the job's Data as JSON within JSON, which may be twice as long as what was posted.
MAX_BODY = 4 << 20
# So many calls are known again.
REMEMBERED = 10_000

log = logging.getLogger("rqueue.client")


class NotVerified(Exception):
    """It is not known to be the service's: no signature by one of the secrets, or older than 5 minutes."""


class NotWanted(Exception):
    """Raised by a receiver for a job that it no longer wants: it is cancelled."""


@dataclass(frozen=True, slots=True)
class Call:
    """A callback: its id, the same at every try of one admission, what it is, when it was sent, the job."""

    id: str
    type: str
    timestamp: datetime
    job: Job
    document: Document = field(repr=False)


def verify(headers: Mapping[str, str], body: bytes, secrets: Sequence[str] | str | None = None) -> Call:
    """The callback that these headers and this body are, where one of the secrets has signed it.

    `body` is what came, byte for byte. `secrets` are whsec_…, the service's own, the newest first; without
    them they are in RQUEUE_CALLBACK_SECRETS, or in the file that RQUEUE_CALLBACK_SECRETS_FILE names. Raises
    NotVerified, and ValueError where there is no secret, or one that is none.
    """
    said = ""
    for key in _keys(secrets):
        try:
            Webhook(key).verify(body, dict(headers), json_parse=False)
        except WebhookVerificationError as error:
            said = str(error)
        except ValueError:
            # The library's own, of signatures in another form, or a body that is no text.
            said = "the headers, or the body, are not as the scheme has them"
        else:
            return _call(headers, body)
    raise NotVerified(said)


def _keys(secrets: Sequence[str] | str | None) -> list[bytes]:
    if secrets is None:
        try:
            secrets = config.callback_secrets()
        except Refused as error:
            raise ValueError(error.message) from None
    keys = [key_of(secret) for secret in ([secrets] if isinstance(secrets, str) else secrets)]
    if not keys:
        raise ValueError("no secret to verify callbacks by; give some, or set RQUEUE_CALLBACK_SECRETS")
    return keys


def _call(headers: Mapping[str, str], body: bytes) -> Call:
    id_ = next(value for name, value in headers.items() if name.lower() == "webhook-id")
    try:
        document = orjson.loads(body)
        timestamp = datetime.fromisoformat(document["timestamp"])
        return Call(id_, document["type"], timestamp, Job.read(document["data"]), document)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise NotVerified("it is signed, and no callback of rqueue's") from None


def receiver(
    on_admitted: Callable[[Call], Awaitable[None]],
    secrets: Sequence[str] | str | None = None,
    *,
    max_body: int = MAX_BODY,
) -> Callable[[web.Request], Awaitable[web.Response]]:
    """A handler of callbacks for aiohttp: `app.router.add_post("/called/{id}", receiver(on_admitted))`.

    `on_admitted` is awaited before the answer, and should be done within the service's
    RQUEUE_CALLBACK_TIMEOUT (15 s); then the job runs. NotWanted cancels the job (410); after any other
    exception the service calls again (503). What comes again with the same id, meanwhile or later, is
    answered like the first: for the last 10,000 ids, and as long as this process lives, so over restarts
    `on_admitted` must know by itself what it has done. Secrets are as in `verify`, and looked up at each
    call; a body of more than `max_body` bytes is 413. Raises ValueError as `verify` does.
    """
    _keys(secrets)
    answers: MutableMapping[str, asyncio.Task[int]] = LRUCache(REMEMBERED)

    async def status_of(call: Call) -> int:
        try:
            await on_admitted(call)
        except NotWanted:
            return 410
        except asyncio.CancelledError:
            answers.pop(call.id, None)
            raise
        except Exception:
            log.exception("on_admitted failed for job %r of type %r", call.job.request_id, call.job.type)
            answers.pop(call.id, None)
            return 503
        return 204

    async def handle(request: web.Request) -> web.Response:
        body = await request.clone(client_max_size=max_body).read()
        try:
            call = verify(request.headers, body, secrets)
        except NotVerified as error:
            return web.Response(status=401, text=str(error))
        if (answer := answers.get(call.id)) is None:
            answer = answers[call.id] = asyncio.create_task(status_of(call))
        # When the service does not wait any longer, what was begun is not broken off.
        return web.Response(status=await asyncio.shield(answer))

    return handle
