"""`rqueue serve` with TLS and with secrets in files, as a process of its own."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from tests.process import Running, running
from tests.test_cli import refused
from tests.test_workers import workers
from tests.tls.pems import Pair, serial
from tests.tls.test_port import shown
from tests.tls.test_redis import PASSWORD, needs_redis, redis_server


def copied(pair: Pair, to: Pair) -> Pair:
    """Put a pair at another's place, as a renewal does."""
    to.key.write_bytes(pair.key.read_bytes())
    to.certificate.write_bytes(pair.certificate.read_bytes())
    return to


@pytest.fixture
def place(tmp_path: Path, ours: Pair) -> Pair:
    """Our certificate at a place of the test's own."""
    return copied(ours, Pair(tmp_path / "tls.crt", tmp_path / "tls.key"))


def of(place: Pair) -> dict[str, str]:
    return {"TLS_CERT_FILE": str(place.certificate), "TLS_KEY_FILE": str(place.key)}


def port_of(service: Running) -> int:
    return int(service.url.rpartition(":")[2])


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - another process has no event to wait for
            await asyncio.sleep(0.02)


# --- the port ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", ["1", "2"])
async def test_the_service_speaks_https_and_its_own_callbacks_reach_its_inbox(
    tmp_path, authority, place, count
):
    settings = {**of(place), "CALLBACK_CA_FILE": str(authority.path), "WORKERS": count}
    async with running(tmp_path / "data", **settings) as service:
        assert service.url.startswith("https://127.0.0.1:")
        connector = aiohttp.TCPConnector(ssl=authority.trusted())
        async with aiohttp.ClientSession(service.url, connector=connector) as client:
            body = {"request_id": "a", "owner_id": "y", "callback": "abc"}
            async with client.post("/v1/vm/", json=body) as response:
                assert response.status == 201
            async with client.put("/queues/vm/pools/default", json={"hosts": {"n": {"slots": 1}}}):
                pass

            async def arrived() -> bool:
                async with client.get("/inbox/") as response:
                    return bool((await response.json())["data"])

            await until(arrived)
        async with aiohttp.ClientSession() as client:
            with pytest.raises(aiohttp.ClientError):
                await client.get(f"http://127.0.0.1:{port_of(service)}/healthz")
        assert await service.end() == 0
    assert not [event for event in service.log if event["level"] in ("ERROR", "WARNING", "")]


async def test_a_renewed_certificate_is_shown_and_a_broken_one_is_not(tmp_path, authority, place):
    async with running(tmp_path / "data", **of(place)) as service:
        first = serial(place.certificate)
        assert await shown(port_of(service), authority) == first
        place.key.write_text("s3cretword")

        def complained() -> list[str]:
            return [event["message"] for event in service.log if event["level"] == "ERROR"]

        async def said() -> bool:
            return bool(complained())

        await until(said)
        assert await shown(port_of(service), authority) == first
        (complaint,) = complained()
        assert "RQUEUE_TLS_KEY_FILE" in complaint
        assert str(place.key) in complaint
        assert "s3cretword" not in complaint
        copied(authority.issue("127.0.0.1"), place)

        async def renewed() -> bool:
            return await shown(port_of(service), authority) == serial(place.certificate) != first

        await until(renewed)


async def test_a_worker_that_cannot_start_with_a_broken_file_waits_until_it_is_mended(tmp_path, place, ours):
    changes = "supervisor.LONGEST_PAUSE_SECONDS = 0.2"
    code = f"from rqueue import supervisor; {changes}; from rqueue.cli import main; main(['serve'])"
    async with running(tmp_path / "data", (sys.executable, "-c", code), **of(place), WORKERS="2") as service:
        before = workers(service)
        place.key.unlink()
        killed = next(iter(before))
        os.kill(killed, signal.SIGKILL)

        async def refusing() -> bool:
            return any("a worker cannot start: RQUEUE_TLS_CERT_FILE" in e["message"] for e in service.log)

        async def replaced() -> bool:
            heard = [event for event in service.log if event["message"] == "a worker listens"]
            return len(heard) >= 1

        await until(refusing)
        assert before - {killed} <= workers(service)
        copied(ours, place)
        await until(replaced)


# --- what is refused at the start --------------------------------------------------------------------


def test_a_pair_that_is_none_is_refused(tmp_path, ours, authority):
    other = authority.issue("127.0.0.1")
    (tmp_path / "empty").write_text("")
    (tmp_path / "nonsense").write_text("s3cretword")
    for certificate, key, named in [
        (ours.certificate, other.key, "the key is not that of the certificate"),
        (ours.certificate, tmp_path / "none", f"{tmp_path / 'none'} cannot be read"),
        (tmp_path / "empty", ours.key, f"{tmp_path / 'empty'} is empty"),
        (tmp_path / "nonsense", ours.key, str(tmp_path / "nonsense")),
        (ours.certificate, tmp_path / "nonsense", str(tmp_path / "nonsense")),
    ]:
        said = refused(tmp_path, RQUEUE_TLS_CERT_FILE=str(certificate), RQUEUE_TLS_KEY_FILE=str(key))
        assert "RQUEUE_TLS_CERT_FILE" in said
        assert named in said
        assert "s3cretword" not in said


def test_a_key_with_a_passphrase_is_refused_and_not_asked_for(tmp_path, ours):
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(ours.key.read_bytes(), None)
    (tmp_path / "key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    said = refused(
        tmp_path,
        RQUEUE_TLS_CERT_FILE=str(ours.certificate),
        RQUEUE_TLS_KEY_FILE=str(tmp_path / "key"),
        RQUEUE_WORKERS="2",
    )
    assert "without a passphrase" in said


# --- Redis -------------------------------------------------------------------------------------------


@needs_redis
async def test_a_redis_by_tls_with_all_secrets_in_files(tmp_path, authority, ours):
    client = authority.issue("client.test")
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    with redis_server(tmp_path, authority, ours) as port:
        (tmp_path / "url").write_text(f"rediss://127.0.0.1:{port}/0\n")
        settings = {
            "REDIS_URL_FILE": str(tmp_path / "url"),
            "REDIS_USERNAME": "worker",
            "REDIS_PASSWORD_FILE": str(tmp_path / "password"),
            "REDIS_CA_FILE": str(authority.path),
            "REDIS_CERT_FILE": str(client.certificate),
            "REDIS_KEY_FILE": str(client.key),
            "WORKERS": "2",
            "LOG_LEVEL": "debug",
        }
        async with running(tmp_path / "data", **settings) as service:
            assert f"its Redis is rediss://127.0.0.1:{port}/0" in service.log[0]["message"]
            async with aiohttp.ClientSession(service.url) as http:
                bodies = [
                    {"request_id": f"j{n}", "owner_id": "y", "callback": f"http://portal.test/{n}"}
                    for n in range(1000)
                ]
                async with http.post("/v1/vm/", json=bodies) as response:
                    assert response.status == 201
                async with http.get("/v1/vm/") as response:
                    assert len((await response.json())["data"]) == 1000
                async with http.get("/readyz") as response:
                    assert response.status == 200, await response.text()
            assert await service.end() == 0
    assert not (tmp_path / "data").exists()
    assert PASSWORD not in str(service.log)


@needs_redis
async def test_a_wrong_password_is_shown_nowhere_and_a_new_one_needs_no_restart(tmp_path, authority, ours):
    client = authority.issue("client.test")
    (tmp_path / "password").write_text("s3cretword")
    with redis_server(tmp_path, authority, ours) as port:
        settings = {
            "REDIS_URL": f"rediss://127.0.0.1:{port}",
            "REDIS_PASSWORD_FILE": str(tmp_path / "password"),
            "REDIS_CA_FILE": str(authority.path),
            "REDIS_CERT_FILE": str(client.certificate),
            "REDIS_KEY_FILE": str(client.key),
            "LOG_LEVEL": "debug",
        }
        async with (
            running(tmp_path / "data", **settings) as service,
            aiohttp.ClientSession(service.url) as http,
        ):
            async with http.get("/readyz") as response:
                assert response.status == 503
                assert "s3cretword" not in await response.text()
            (tmp_path / "password").write_text(PASSWORD)

            async def ready() -> bool:
                async with http.get("/readyz") as response:
                    return response.status == 200

            await until(ready)
    assert "s3cretword" not in str(service.log)
    assert PASSWORD not in str(service.log)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("RQUEUE_REDIS_URL_FILE", "\n"),
        ("RQUEUE_REDIS_URL_FILE", "redis://:63790#s3cretword@127.0.0.1:6379"),
        ("RQUEUE_REDIS_URL_FILE", "redis://u:1/s3cretword@127.0.0.1:6379"),
        ("RQUEUE_REDIS_CA_FILE", "s3cretword"),
        ("RQUEUE_REDIS_PASSWORD_FILE", ""),
        ("RQUEUE_CALLBACK_CA_FILE", "s3cretword"),
        ("RQUEUE_CALLBACK_SECRETS_FILE", "whsec_s3cretword!"),
        ("RQUEUE_CALLBACK_SECRETS_FILE", ","),
    ],
)
def test_a_file_that_is_broken_at_the_start_is_named_and_not_quoted(tmp_path, name, content):
    (tmp_path / "file").write_text(content)
    settings = {name: str(tmp_path / "file")}
    if name.startswith("RQUEUE_REDIS") and "URL" not in name:
        settings["RQUEUE_REDIS_URL"] = "rediss://127.0.0.1:1"
    said = refused(tmp_path, **settings)
    assert name.removesuffix("_FILE") in said
    assert "s3cretword" not in said
    if "URL" not in name:
        assert f"{name}: {tmp_path / 'file'}" in said
