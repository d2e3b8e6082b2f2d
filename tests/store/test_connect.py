"""URLs of Redis: which are read, as what, and which are refused without being shown."""

import ssl
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio.connection import SSLConnection
from redis.asyncio.sentinel import SentinelManagedConnection, SentinelManagedSSLConnection

from rqueue.errors import Refused
from rqueue.files import Files
from rqueue.store.cluster import Cluster
from rqueue.store.connect import connect
from rqueue.store.pipeline import Pipeline
from rqueue.store.sentinel import SentinelPipeline


def made(pipeline: Pipeline) -> Any:
    """A connection as a lane would make it."""
    return pipeline._lanes[0]._make()


@pytest.mark.parametrize(
    ("url", "hosts", "name", "of"),
    [
        ("redis+sentinel://h/m", [("h", 26379)], "m", {"db": 0, "password": None}),
        ("redis+sentinel://h1:1,h-2.x:2,h_3/m/", [("h1", 1), ("h-2.x", 2), ("h_3", 26379)], "m", {"db": 0}),
        ("redis+sentinel://h/m/7", [("h", 26379)], "m", {"db": 7}),
        ("redis+sentinel://h/m?db=7", [("h", 26379)], "m", {"db": 7}),
        ("redis+sentinel://h/a%2Fb%20c/7", [("h", 26379)], "a/b c", {"db": 7}),
        ("redis+sentinel://[::1]:1,h,[fd00::2]/m", [("::1", 1), ("h", 26379), ("fd00::2", 26379)], "m", {}),
        (
            "redis+sentinel://u:p%40%2F@h,i/m",
            [("h", 26379), ("i", 26379)],
            "m",
            {"username": "u", "password": "p@/"},
        ),
        ("redis+sentinel://:p@h/m", [("h", 26379)], "m", {"username": None, "password": "p"}),
    ],
)
def test_a_url_of_sentinels_names_them_the_primary_and_who_asks_it(url, hosts, name, of):
    pipeline = connect(url)
    assert isinstance(pipeline, SentinelPipeline)
    found = [one.connection_pool.connection_kwargs for one in pipeline._sentinels.sentinels]
    assert [(one["host"], one["port"]) for one in found] == hosts
    # The password is for the servers that hold the data.
    assert all("password" not in one and "username" not in one for one in found)
    assert pipeline._primary == name
    connection = made(pipeline)
    assert type(connection) is SentinelManagedConnection
    assert connection.connection_pool.service_name == name
    assert {field: getattr(connection, field) for field in of} == of


def test_sentinels_have_a_login_of_their_own():
    pipeline = connect("redis+sentinel://u:p@h,i/m?sentinel_password=s%26&sentinel_username=t")
    assert isinstance(pipeline, SentinelPipeline)
    for one in pipeline._sentinels.sentinels:
        asked = one.connection_pool.make_connection()
        assert (asked.username, asked.password) == ("t", "s&")
    assert (made(pipeline).username, made(pipeline).password) == ("u", "p")


async def test_a_password_of_a_file_is_for_the_servers_that_hold_the_data(tmp_path: Path):
    (tmp_path / "password").write_text("p")
    password = Files().watched("P", lambda content: content.decode(), tmp_path / "password")
    pipeline = connect("redis+sentinel://h/m", "u", password)
    assert isinstance(pipeline, SentinelPipeline)
    assert made(pipeline).credential_provider.get_credentials() == ("u", "p")
    (one,) = pipeline._sentinels.sentinels
    assert one.connection_pool.make_connection().credential_provider is None
    with pytest.raises(Refused, match="holds a password too"):
        connect("redis+sentinel://:q@h/m", "", password)
    with pytest.raises(Refused, match="names a user too"):
        connect("redis+sentinel://v:q@h/m", "u")


def test_tls_is_for_sentinels_and_servers_with_the_context_of_that_moment(tmp_path: Path):
    (tmp_path / "any").write_text("a")
    context = ssl.create_default_context()
    tls = Files().watched("T", lambda _: context, tmp_path / "any")
    pipeline = connect("rediss+sentinel://h/m", tls=tls)
    assert isinstance(pipeline, SentinelPipeline)
    connection = made(pipeline)
    assert type(connection) is SentinelManagedSSLConnection
    (one,) = pipeline._sentinels.sentinels
    asked = one.connection_pool.make_connection()
    assert isinstance(asked, SSLConnection)
    assert connection.ssl_context.context is asked.ssl_context.context is context


@pytest.mark.parametrize(
    ("url", "seeds", "of"),
    [
        ("redis+cluster://h", [("h", 6379)], {"password": None}),
        ("redis+cluster://h1:1,h-2.x,[fd00::2]:3/", [("h1", 1), ("h-2.x", 6379), ("fd00::2", 3)], {}),
        ("redis+cluster://u:p%40%2F@h,i", [("h", 6379), ("i", 6379)], {"username": "u", "password": "p@/"}),
        ("rediss+cluster://:p@h?ssl_check_hostname=false", [("h", 6379)], {"password": "p"}),
    ],
)
def test_a_url_of_a_cluster_names_some_nodes_and_who_asks_all_of_them(url, seeds, of):
    way = connect(url)
    assert isinstance(way, Cluster)
    assert way._seeds == seeds
    for address in (*seeds, ("::1", 9)):
        connection = made(way._pipeline(address))
        assert (connection.host, connection.port) == address
        assert isinstance(connection, SSLConnection) is url.startswith("rediss")
        assert {name: getattr(connection, name) for name in of} == of


def test_a_cluster_s_nodes_take_the_password_and_the_context_of_that_moment(tmp_path: Path):
    context, files = ssl.create_default_context(), Files()
    (tmp_path / "f").write_text("secret")
    password = files.watched("P", lambda content: content.decode(), tmp_path / "f")
    way = connect(
        "rediss+cluster://h", "u", password, files.watched("TLS", lambda _: context, tmp_path / "f")
    )
    assert isinstance(way, Cluster)
    connection = made(way._pipeline(("i", 1)))
    assert connection.credential_provider.get_credentials() == ("u", "secret")
    assert connection.ssl_context.context is context
    with pytest.raises(Refused, match="RQUEUE_REDIS_USERNAME"):
        connect("redis+cluster://v:q@h", "u")


@pytest.mark.parametrize(
    "url",
    [
        "http://a",
        "sentinel://a/m",
        "redis+sentinel:/a/m",
        "redis+sentinel://",
        "redis+sentinel://h",
        "redis+sentinel://h/",
        "redis+sentinel://h//0",
        "redis+sentinel:///m",
        "redis+sentinel://h,/m",
        "redis+sentinel://,h/m",
        "redis+sentinel://h:p/m",
        "redis+sentinel://h:123456/m",
        "redis+sentinel://::1/m",
        "redis+sentinel://[h]/m",
        "redis+sentinel://h i/m",
        "redis+sentinel://h/m/x",
        "redis+sentinel://h/m/0/1",
        "redis+sentinel://h/m#x",
        "redis+sentinel://h/m?nonsense=1",
        "redis+sentinel://h/m?db=x",
        "redis+sentinel://u:s3/cret@h/m",
        "redis+sentinel://u:s3@cret@h/m",
        "redis+sentinel://u:s3#cret@h/m",
        "redis+sentinel://u:s3?cret@h/m",
        "redis+cluster://",
        "redis+cluster://h,",
        "redis+cluster://h:p",
        "redis+cluster://::1",
        "redis+cluster://h/0",
        "redis+cluster://h?nonsense=1",
        "redis+cluster://u:s3/cret@h",
        "redis+cluster://u:s3@cret@h",
        "redis+cluster://u:s3#cret@h",
        "redis://h/m",
    ],
)
def test_another_url_is_refused_without_being_shown(url):
    with pytest.raises(Refused) as raised:
        connect(url)
    assert "RQUEUE_REDIS_URL" in raised.value.message
    assert "s3" not in raised.value.message
    assert url not in raised.value.message
