"""The way to Redis: one client for the process, from a URL."""

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from rqueue.errors import Refused

SCHEMES = ("redis", "rediss", "unix")


def connect(url: str) -> "Redis":
    """A client that decodes answers to str. Connects at the first command. Raises Refused for another URL."""
    if not url.startswith(tuple(f"{scheme}://" for scheme in SCHEMES)):
        raise Refused(f"RQUEUE_REDIS_URL must begin with one of: {', '.join(f'{s}://' for s in SCHEMES)}")
    try:
        pool = _pool(url)
    except ValueError:
        # Without the reason: it may quote the URL, and that may hold a password.
        raise Refused("RQUEUE_REDIS_URL is not a URL that can be read") from None
    return Redis.from_pool(pool)


def _pool(url: str) -> BlockingConnectionPool:
    return BlockingConnectionPool.from_url(
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
