"""Where the server is and how to get there: a URL, credentials and TLS become connections of redis-py."""

import re
import ssl
from dataclasses import replace
from typing import Any
from urllib.parse import unquote, urlsplit

from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    ConnectionPool,
    SSLConnection,
    parse_url,
)
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import (
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider

from rqueue.errors import Refused
from rqueue.files import Watched
from rqueue.store.cluster import Address, Cluster
from rqueue.store.pipeline import CONNECT_SECONDS, REPLY_SECONDS, Pipeline, Replicas
from rqueue.store.sentinel import SentinelPipeline, Sentinels

SCHEMES = (
    *("redis", "rediss", "unix"),
    *("redis+sentinel", "rediss+sentinel"),
    *("redis+cluster", "rediss+cluster"),
)
PORT = 6379
SENTINEL_PORT = 26379

_TIMES: dict[str, Any] = {
    "protocol": 2,
    "socket_timeout": REPLY_SECONDS,
    "socket_connect_timeout": CONNECT_SECONDS,
    "retry": Retry(NoBackoff(), 0),
}
_SENTINEL_URL = re.compile(
    r"(?P<scheme>rediss?)\+sentinel://(?P<user>([^@/?#\s]*@)?)(?P<hosts>[^@/?#\s]+)"
    r"/(?P<name>[^/?#\s]+)(?P<rest>(/[0-9]*)?(\?[^#\s]*)?)"
)
_CLUSTER_URL = re.compile(
    r"(?P<scheme>rediss?)\+cluster://(?P<user>([^@/?#\s]*@)?)(?P<hosts>[^@/?#\s]+)/?(?P<rest>(\?[^#\s]*)?)"
)
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[\w.-]+)(:(?P<port>[0-9]{1,5}))?")
_UNREADABLE = "RQUEUE_REDIS_URL is not a URL that can be read; a password in it must be percent-encoded"


def connect(
    url: str,
    username: str = "",
    password: Watched[str] | None = None,
    tls: Watched[ssl.SSLContext] | None = None,
    replicas: Replicas | None = None,
) -> Pipeline | Cluster:
    """The way to the server, or cluster, at a URL. Connects at the first command. Raises Refused for another.

    Each connection takes the password and the context of that moment; without `tls` a rediss:// URL goes by
    the system's authorities, or by its own `ssl_` options. The password is that of the servers that hold the
    data; one of the sentinels is an option of the URL. With `replicas` writes wait for them.
    """
    scheme = next((one for one in SCHEMES if url.startswith(f"{one}://")), "")
    if not scheme:
        raise Refused(f"RQUEUE_REDIS_URL must begin with one of: {', '.join(f'{s}://' for s in SCHEMES)}")
    if scheme.endswith("+cluster"):
        return _cluster(url, username, password, tls, replicas)
    return _pipeline(scheme, url, username, password, tls, replicas)


def _cluster(
    url: str,
    username: str,
    password: Watched[str] | None,
    tls: Watched[ssl.SSLContext] | None,
    replicas: Replicas | None,
) -> Cluster:
    """All nodes take the same credentials and options."""
    parts = _CLUSTER_URL.fullmatch(url)
    hosts = [_HOST.fullmatch(host) for host in parts["hosts"].split(",")] if parts else []
    if not parts or not all(hosts):
        raise Refused(_UNREADABLE)

    def make(address: Address, tag: str) -> Pipeline:
        host, port = address
        if ":" in host:
            host = f"[{host}]"
        node_url = f"{parts['scheme']}://{parts['user']}{host}:{port}{parts['rest']}"
        # What is written before a WAIT has to lie on the same node.
        there = replicas and replace(replicas, key=f"{replicas.key}:{{{tag}}}")
        return _pipeline(parts["scheme"], node_url, username, password, tls, there)

    seeds = [(host["host"].strip("[]"), int(host["port"] or PORT)) for host in filter(None, hosts)]
    # Refused now rather than at the first command.
    for seed in seeds:
        make(seed, "")
    return Cluster(seeds, make)


def _pipeline(
    scheme: str,
    url: str,
    username: str,
    password: Watched[str] | None,
    tls: Watched[ssl.SSLContext] | None,
    replicas: Replicas | None,
) -> Pipeline:
    pool: ConnectionPool
    try:
        if scheme.endswith("+sentinel"):
            pool, sentinels = _sentinels(url, tls)
        else:
            pool, sentinels = ConnectionPool.from_url(url, **_TIMES), None
            parts = urlsplit(url)
            if parts.fragment or (scheme != "unix" and not re.fullmatch(r"/?[0-9]*/?", parts.path)):
                # The rest of a password that was not percent-encoded, and would be shown with the host.
                raise ValueError
        pool.make_connection()  # type: ignore[no-untyped-call]
    except (ValueError, TypeError):
        # Without the reason: it may quote the URL, and that may hold a password.
        raise Refused(_UNREADABLE) from None
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
        return _secured(pool.make_connection(), tls)  # type: ignore[no-untyped-call]

    if sentinels is None:
        return Pipeline(make, replicas)
    return SentinelPipeline(make, replicas, *sentinels)


def _secured(connection: AbstractConnection, tls: Watched[ssl.SSLContext] | None) -> AbstractConnection:
    if tls is not None and isinstance(connection, SSLConnection):
        connection.ssl_context.context = tls.value
    return connection


class _SecuredPool(ConnectionPool):
    """Makes connections with the context of that moment."""

    tls: Watched[ssl.SSLContext] | None = None

    def make_connection(self) -> AbstractConnection:
        return _secured(super().make_connection(), self.tls)  # type: ignore[no-untyped-call]


def _sentinels(
    url: str, tls: Watched[ssl.SSLContext] | None
) -> tuple[SentinelConnectionPool, tuple[Sentinels, str]]:
    """A pool that makes connections to the primary, and who is asked for it by which name.

    Raises ValueError or TypeError for what cannot be read. redis-py has no such URL: it reads what is left
    of this one without the hosts and the name.
    """
    parts = _SENTINEL_URL.fullmatch(url)
    hosts = [_HOST.fullmatch(host) for host in parts["hosts"].split(",")] if parts else []
    if not parts or not all(hosts):
        raise ValueError
    options: dict[str, Any] = {**parse_url(f"{parts['scheme']}://{parts['user']}-{parts['rest']}")}
    del options["host"]
    of_sentinels = {
        name.removeprefix("sentinel_"): options.pop(name)
        for name in ("sentinel_username", "sentinel_password")
        if name in options
    }
    of_sentinels |= {name: value for name, value in options.items() if name.startswith(("ssl_", "socket_"))}
    secure = options.pop("connection_class", None) is SSLConnection
    pools = []
    for host in filter(None, hosts):
        pool = _SecuredPool(
            connection_class=SSLConnection if secure else Connection,
            host=host["host"].strip("[]"),
            port=int(host["port"] or SENTINEL_PORT),
            **{**of_sentinels, **_TIMES},
        )
        pool.tls = tls
        pool.make_connection()
        pools.append(pool)
    sentinels, name = Sentinels(pools), unquote(parts["name"])
    kind = SentinelManagedSSLConnection if secure else SentinelManagedConnection
    options = {"connection_class": kind, **options, **_TIMES}
    return SentinelConnectionPool(name, sentinels, **options), (sentinels, name)  # type: ignore[no-untyped-call]


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
