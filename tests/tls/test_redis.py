"""The way to Redis by TLS: who is trusted, who is let in, and what the pipeline does on it.

Against Debian's redis-server, which speaks TLS; the embedded Valkey does not.
"""

import asyncio
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import exceptions

from rqueue import tls
from rqueue.errors import Refused
from rqueue.files import Watched
from rqueue.store.connect import connect
from rqueue.store.pipeline import CONNECTIONS
from tests.tls.pems import Authority, Pair

PASSWORD = "pä55 w/o?rd#@:%20'\"\\"

needs_redis = pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="NOT TRIED: Debian's package redis-server is not installed"
)
pytestmark = needs_redis


@contextmanager
def redis_server(directory: Path, authority: Authority, pair: Pair, port: int = 0) -> Iterator[int]:
    """A Redis that speaks TLS alone, and asks for client certificates and a password; yields its port."""
    if not port:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
    options = {
        "port": "0",
        "tls-port": str(port),
        "bind": "127.0.0.1",
        "dir": str(directory),
        "save": "",
        "maxmemory-policy": "noeviction",
        "tls-cert-file": str(pair.certificate),
        "tls-key-file": str(pair.key),
        "tls-ca-cert-file": str(authority.path),
        "tls-auth-clients": "yes",
        "logfile": str(directory / "redis.log"),
    }
    # In a file, since the command line of Redis has quotes of its own.
    escaped = PASSWORD.replace("\\", "\\\\").replace('"', '\\"')
    users = f'requirepass "{escaped}"\nuser worker on ">{escaped}" ~* &* +@all\n'
    (directory / "redis.conf").write_text(users)
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    server = subprocess.Popen(["redis-server", str(directory / "redis.conf"), *words])
    try:
        until = time.monotonic() + 20
        while True:
            assert server.poll() is None, (directory / "redis.log").read_text()
            try:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
                break
            except OSError:
                assert time.monotonic() < until
                time.sleep(0.02)
        yield port
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture(scope="module")
def client(authority: Authority) -> Pair:
    return authority.issue("client.test")


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory, authority: Authority, ours: Pair) -> Iterator[int]:
    with redis_server(tmp_path_factory.mktemp("redis"), authority, ours) as port:
        yield port


@pytest.fixture
def password(tmp_path: Path) -> Watched[str]:
    path = tmp_path / "password"
    path.write_text(f"{PASSWORD}\n")
    return Watched("RQUEUE_REDIS_PASSWORD_FILE", lambda content: content.decode().rstrip("\n"), path)


def trusting(ca: Path | None, pair: Pair | None = None) -> Watched:
    certificate, key = (pair.certificate, pair.key) if pair else (None, None)
    paths = [path for path in (ca, certificate, key) if path]
    return Watched("RQUEUE_REDIS_CA_FILE", lambda *_: tls.client(ca, certificate, key), *paths)


# --- who is trusted, who is let in -------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_with_the_authority_a_certificate_and_the_password_it_is_let_in(
    authority, client, port, password, host
):
    ends = trusting(authority.path, client)
    async with connect(f"rediss://{host}:{port}", password=password, tls=ends) as pipeline:
        assert await pipeline.call("ACL", "WHOAMI") == "default"


@pytest.mark.parametrize(("user", "username"), [("", "worker"), ("worker@", "")])
async def test_a_user_is_named_by_the_setting_or_the_url(authority, client, port, password, user, username):
    ends = trusting(authority.path, client)
    async with connect(f"rediss://{user}127.0.0.1:{port}", username, password, ends) as pipeline:
        assert await pipeline.call("ACL", "WHOAMI") == "worker"


async def test_another_authority_is_not_trusted(authority, client, port, password, stranger):
    for ca in (stranger.path, None):
        ends = trusting(ca, client)
        async with connect(f"rediss://127.0.0.1:{port}", password=password, tls=ends) as pipeline:
            with pytest.raises(exceptions.ConnectionError, match="certificate verify failed"):
                await pipeline.call("PING")


async def test_without_any_file_the_system_s_authorities_are_trusted_and_no_others(port):
    async with connect(f"rediss://127.0.0.1:{port}") as pipeline:
        with pytest.raises(exceptions.ConnectionError, match="certificate verify failed"):
            await pipeline.call("PING")


async def test_where_an_authority_is_named_the_system_s_are_not_trusted(
    authority, client, port, password, stranger, monkeypatch
):
    """The system's are where OpenSSL is told to look for them."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
    ends = trusting(None, client)
    async with connect(f"rediss://127.0.0.1:{port}", password=password, tls=ends) as pipeline:
        assert await pipeline.call("PING") == "PONG"
    ends = trusting(stranger.path, client)
    async with connect(f"rediss://127.0.0.1:{port}", password=password, tls=ends) as pipeline:
        with pytest.raises(exceptions.ConnectionError, match="certificate verify failed"):
            await pipeline.call("PING")


async def test_the_certificate_of_another_host_is_not_trusted(authority, client, password, tmp_path):
    with redis_server(tmp_path, authority, authority.issue("redis.test")) as port:
        ends = trusting(authority.path, client)
        async with connect(f"rediss://127.0.0.1:{port}", password=password, tls=ends) as pipeline:
            with pytest.raises(exceptions.ConnectionError, match=r"mismatch|not valid for"):
                await pipeline.call("PING")


async def test_without_a_client_certificate_it_is_not_let_in(authority, port, password, stranger):
    for pair in (None, stranger.issue("client.test")):
        ends = trusting(authority.path, pair)
        async with connect(f"rediss://127.0.0.1:{port}", password=password, tls=ends) as pipeline:
            with pytest.raises(exceptions.ConnectionError, match="cannot connect"):
                await pipeline.call("PING")


async def test_a_wrong_password_is_said_and_not_shown_and_a_new_one_is_taken(
    authority, client, port, password, tmp_path
):
    (tmp_path / "password").write_text("s3cretword")
    password.look()
    ends = trusting(authority.path, client)
    async with connect(f"rediss://127.0.0.1:{port}", password=password, tls=ends) as pipeline:
        with pytest.raises(exceptions.ConnectionError, match=r"cannot connect: .*password") as raised:
            await pipeline.call("PING")
        assert "s3cretword" not in str(raised.value)
        (tmp_path / "password").write_text(PASSWORD)
        password.look()
        assert await pipeline.call("PING") == "PONG"


async def test_a_client_certificate_that_is_renewed_is_shown_at_the_next_connection(
    authority, port, password, stranger
):
    shown = stranger.issue("client.test")
    ends = trusting(authority.path, shown)
    async with connect(f"rediss://127.0.0.1:{port}", password=password, tls=ends) as pipeline:
        with pytest.raises(exceptions.ConnectionError):
            await pipeline.call("PING")
        renewed = authority.issue("client.test")
        renewed.certificate.replace(shown.certificate)
        ends.look()  # its key is still the old one's
        renewed.key.replace(shown.key)
        ends.look()
        assert await pipeline.call("PING") == "PONG"


@pytest.mark.parametrize(
    ("url", "username", "named"),
    [
        ("rediss://:a@h", "", "RQUEUE_REDIS_PASSWORD_FILE"),
        ("rediss://h?password=a", "", "RQUEUE_REDIS_PASSWORD_FILE"),
        ("rediss://u@h", "u", "RQUEUE_REDIS_USERNAME"),
    ],
)
def test_what_is_in_the_url_and_in_a_setting_is_refused(password, url, username, named):
    with pytest.raises(Refused, match=named):
        connect(url, username, password)


# --- the pipeline on it ------------------------------------------------------------------------------


async def test_a_thousand_callers_with_large_values_get_their_own_answers(authority, client, port, password):
    """Larger than a record of TLS and than what the system buffers, both ways."""
    ends = trusting(authority.path, client)
    async with connect(f"rediss://127.0.0.1:{port}", password=password, tls=ends) as pipeline:
        said = [f"{n}:" + "é" * (n * 37 % 20_000) for n in range(1000)]
        async with asyncio.timeout(50):
            assert await asyncio.gather(*(pipeline.call("ECHO", text) for text in said)) == said
            largest = "x" * (8 << 20)
            assert await pipeline.call("ECHO", largest) == largest
        clients = await pipeline.call("CLIENT", "LIST")
        assert len(clients.splitlines()) <= CONNECTIONS


async def test_a_connection_that_breaks_is_made_anew_and_what_was_on_it_is_sent_once_more(
    authority, client, port, password, namespace
):
    ends = trusting(authority.path, client)
    url = f"rediss://127.0.0.1:{port}"
    async with (
        connect(url, password=password, tls=ends) as pipeline,
        connect(url, password=password, tls=ends) as other,
    ):
        await asyncio.gather(*(pipeline.call("PING") for _ in range(10)))
        mine = await pipeline.call("CLIENT", "ID")
        await other.call("CLIENT", "KILL", "ID", mine)
        found = await asyncio.gather(*(pipeline.call("INCR", f"{namespace}:n") for _ in range(50)))
        assert sorted(found) == list(range(1, 51))
        await other.call("DEL", f"{namespace}:n")


async def test_a_server_that_is_started_again_is_reached_again(authority, client, password, ours, tmp_path):
    ends = trusting(authority.path, client)
    with redis_server(tmp_path, authority, ours) as port:
        pipeline = connect(f"rediss://127.0.0.1:{port}", password=password, tls=ends)
        assert await pipeline.call("PING") == "PONG"
    async with pipeline:
        with pytest.raises(exceptions.ConnectionError):
            await pipeline.call("PING")
        with redis_server(tmp_path, authority, ours, port):
            assert await pipeline.call("PING") == "PONG"
