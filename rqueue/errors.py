"""What can go wrong, each with the code that clients see.

A class is a code; its docstring is the message when no better one is given. The direct children of
RqueueError are kinds: the web gives each kind a status, so nothing here knows HTTP.
"""


class RqueueError(Exception):
    """Something went wrong in the service; its log says what."""

    code = "internal"

    def __init__(self, message: str | None = None, field: str | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").split("\n")[0]
        self.field = field
        super().__init__(self.message)


# --- kinds -------------------------------------------------------------------------------------------


class Malformed(RqueueError):
    """The request could not be read."""

    code = "bad_request"


class Unauthenticated(RqueueError):
    """There is no token, or none that is known; send `Authorization: Bearer <token>`."""

    code = "unauthenticated"


class Forbidden(RqueueError):
    """This token does not allow it."""

    code = "forbidden"


class Missing(RqueueError):
    """There is nothing at this path."""

    code = "not_found"


class Conflict(RqueueError):
    """What is there now does not allow it."""

    code = "conflict"


class Invalid(RqueueError):
    """A value is not what was expected."""

    code = "invalid"


class Full(RqueueError):
    """There is no room for more."""

    code = "full"


class Unavailable(RqueueError):
    """The service cannot answer now; try again."""

    code = "unavailable"


class Refused(RqueueError):
    """The service will not start like this."""

    code = "refused"


# --- the request -------------------------------------------------------------------------------------


class NotJson(Malformed):
    """The body is not JSON."""

    code = "not_json"


class RateLimited(Full):
    """Too many requests in this second; try again after Retry-After."""

    code = "rate_limited"

    def __init__(self, message: str | None = None, field: str | None = None, retry_after: int = 1) -> None:
        super().__init__(message, field)
        self.retry_after = retry_after  # seconds


class UnknownField(Invalid):
    """There is no such field here."""

    code = "unknown_field"


class InvalidDemand(Invalid):
    """What the job asks for cannot be read."""

    code = "invalid_demand"


class InvalidCallback(Invalid):
    """The callback cannot be called."""

    code = "invalid_callback"


# --- jobs --------------------------------------------------------------------------------------------


class JobNotFound(Missing):
    """There is no such job."""

    code = "job_not_found"


class DuplicateRequestID(Conflict):
    """The request_id is taken."""

    code = "duplicate_request_id"


class DuplicateCallback(Conflict):
    """The callback is taken."""

    code = "duplicate_callback"


class IllegalTransition(Conflict):
    """The job's status does not allow it."""

    code = "illegal_transition"


class NeighbourNotQueued(Conflict):
    """A neighbour that was named does not wait in this line."""

    code = "neighbour_not_queued"


class NeighbourIsSelf(Conflict):
    """A job cannot stand next to itself."""

    code = "neighbour_is_self"


class NeighboursReversed(Conflict):
    """The job to stand after does not stand before the job to stand before."""

    code = "neighbours_reversed"


class LostClaim(Conflict):
    """Another replica has taken over, or the job went on without this call."""

    code = "lost_claim"


class QueueFull(Full):
    """The queue holds as many waiting jobs as its max_queued allows."""

    code = "queue_full"


# --- queues and pools --------------------------------------------------------------------------------


class PoolNotFound(Missing):
    """There is no such pool."""

    code = "pool_not_found"


class ProjectTaken(Conflict):
    """A project belongs to one pool only."""

    code = "project_taken"


class WrongSource(Conflict):
    """The pools of a queue are those of its source, which can be changed only while there are none."""

    code = "wrong_source"


class SourceUnavailable(Unavailable):
    """The source of a pool's capacity could not be read."""

    code = "source_unavailable"


# --- the service -------------------------------------------------------------------------------------


class RedisUnavailable(Unavailable):
    """Redis does not answer."""

    code = "redis_unavailable"


class NotReplicated(Unavailable):
    """The write is in Redis, and too few replicas confirmed it; ask again, with the same request_id."""

    code = "not_replicated"


class StoreDamaged(Unavailable):
    """Redis holds something else than the service wrote there."""

    code = "store_damaged"


class IdentityUnavailable(Unavailable):
    """Who this token speaks for could not be asked."""

    code = "identity_unavailable"


class NotReady(Unavailable):
    """The service is not ready."""

    code = "not_ready"
