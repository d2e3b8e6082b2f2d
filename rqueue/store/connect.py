"""The way to Redis: one client for the process, from a URL."""

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from rqueue.errors import Refused

SCHEMES = ("redis", "rediss", "unix")


def connect(url: str) -> "Redis":
    """A client that decodes answers to str. Connects at the first command. Raises Refused for another URL."""
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES:
        raise Refused(f"RQUEUE_REDIS_URL has the scheme {scheme!r}; expected one of: {', '.join(SCHEMES)}")
    pool = BlockingConnectionPool.from_url(
        url,
        decode_responses=True,
        encoding_errors="replace",
        # The 65th concurrent command waits for a connection; the default pool would refuse the 101st.
        max_connections=64,
        timeout=5,
        socket_timeout=5,
        socket_connect_timeout=2,
        # The default, ten times, holds a request for seconds when Redis is away. Once is enough for a
        # connection that died idle; scripts are safe to repeat.
        retry=Retry(NoBackoff(), 1),
    )
    return Redis.from_pool(pool)
