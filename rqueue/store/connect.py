"""Where the server is and how to get there: a URL, credentials and TLS become connections of redis-py."""

import re
import ssl
from urllib.parse import urlsplit

from redis.asyncio.connection import AbstractConnection, ConnectionPool, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider

from rqueue.errors import Refused
from rqueue.files import Watched
from rqueue.store.pipeline import CONNECT_SECONDS, REPLY_SECONDS, Pipeline

SCHEMES = ("redis", "rediss", "unix")


def connect(
    url: str,
    username: str = "",
    password: Watched[str] | None = None,
    tls: Watched[ssl.SSLContext] | None = None,
) -> Pipeline:
    """The way to the server at a URL. Connects at the first command. Raises Refused for another URL.

    Each connection takes the password and the context of that moment; without `tls` a rediss:// URL goes by
    the system's authorities, or by its own `ssl_` options.
    """
    if not url.startswith(tuple(f"{scheme}://" for scheme in SCHEMES)):
        raise Refused(f"RQUEUE_REDIS_URL must begin with one of: {', '.join(f'{s}://' for s in SCHEMES)}")
    try:
        pool = ConnectionPool.from_url(
            url,
            protocol=2,
            socket_timeout=REPLY_SECONDS,
            socket_connect_timeout=CONNECT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        pool.make_connection()  # type: ignore[no-untyped-call]
        parts = urlsplit(url)
        if parts.fragment or (parts.scheme != "unix" and not re.fullmatch(r"/?[0-9]*/?", parts.path)):
            # The rest of a password that was not percent-encoded, and would be shown with the host.
            raise ValueError
    except (ValueError, TypeError):
        # Without the reason: it may quote the URL, and that may hold a password.
        raise Refused(
            "RQUEUE_REDIS_URL is not a URL that can be read; a password in it must be percent-encoded"
        ) from None
    options = pool.connection_kwargs
    if username:
        if options.get("username"):
            raise Refused("RQUEUE_REDIS_USERNAME is set, and RQUEUE_REDIS_URL names a user too")
        options["username"] = username
    if password is not None:
        if options.get("password"):
            raise Refused("RQUEUE_REDIS_PASSWORD_FILE is set, and RQUEUE_REDIS_URL holds a password too")
        options["credential_provider"] = _Credentials(options.pop("username", ""), password)

    def make() -> AbstractConnection:
        connection: AbstractConnection = pool.make_connection()  # type: ignore[no-untyped-call]
        if tls is not None and isinstance(connection, SSLConnection):
            connection.ssl_context.context = tls.value
        return connection

    return Pipeline(make)


class _Credentials(CredentialProvider):
    """The password as it is now."""

    def __init__(self, username: str, password: Watched[str]) -> None:
        self._username = username
        self._password = password

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        password = self._password.value
        return (self._username, password) if self._username else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        return self.get_credentials()
