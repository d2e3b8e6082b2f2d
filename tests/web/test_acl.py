"""A user of Redis that may do no more than the documents say is enough for the service."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from redis.exceptions import NoPermissionError

from tests.conftest import config_of, redis_at, serving
from tests.web.wire import ask, job, refused

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
DOCUMENTED = re.search(r"^ACL SETUSER rqueue on >password (.*)$", PAGE.read_text(), re.MULTILINE)


def url_of(redis_url: str, user: str) -> str:
    return f"unix://{quote(user)}:pw@{redis_url.removeprefix('unix://')}"


@pytest.fixture
async def user(real_redis: Any, namespace: str) -> Any:
    """Makes the documented user, for this test's namespace, with more or fewer commands."""
    assert DOCUMENTED is not None
    rules = DOCUMENTED[1].replace("~rqueue:*", f"~{namespace}:*").split()

    async def make(*changes: str) -> str:
        await real_redis.execute_command("ACL", "SETUSER", namespace, "on", ">pw", *rules, *changes)
        return namespace

    yield make
    await real_redis.execute_command("ACL", "DELUSER", namespace)


async def test_the_documented_user_is_enough_for_all_there_is(
    user: Any, redis_url: str, namespace: str, receiver: Any
) -> None:
    url = url_of(redis_url, await user())
    async with serving(config_of(namespace), url) as service:
        pool = {"hosts": {"h": {"slots": 1}}, "projects": ["p"]}
        assert (await ask(service, "PUT", "/queues/vm/pools/default", pool)).status == 200
        for name in "abc":
            body = job(name, callback=f"{receiver.url}/{name}")
            assert (await ask(service, "POST", "/v1/vm/", body)).status == 201
        await receiver.until(1)
        for method, path, body in (
            ("GET", "/readyz", None),
            ("GET", "/v1/vm/b", None),
            ("POST", "/v1/vm/c", {"position": "front"}),
            ("POST", "/v1/vm/b", {"data": {"project": "p"}}),
            ("PUT", "/queues/vm", {"lease_seconds": 100}),
            ("DELETE", "/v1/vm/a", None),
        ):
            assert (await ask(service, method, path, body)).status == 200
        await receiver.until(2)
        for path in ("/v1/vm/", "/v1/vm/?status=done", "/queues/", "/queues/vm/pools/default", "/inbox/"):
            assert (await ask(service, "GET", path)).status == 200
        assert "rqueue_redis_up 1.0" in (await ask(service, "GET", "/metrics")).text
        assert (await ask(service, "DELETE", "/queues/vm/pools/default")).status == 200
        await service.settle()


@pytest.mark.parametrize(
    "words", [("FLUSHALL",), ("KEYS", "*"), ("GET", "another:key"), ("CONFIG", "GET", "*")]
)
async def test_the_documented_user_may_do_no_harm(user: Any, redis_url: str, words: tuple[str, ...]) -> None:
    async with redis_at(url_of(redis_url, await user())) as redis:
        with pytest.raises(NoPermissionError):
            await redis.execute_command(*words)


@pytest.mark.parametrize("missing", ["-time", "-zadd", "-evalsha"])
async def test_a_user_that_may_too_little_is_no_damage(
    user: Any, redis_url: str, namespace: str, missing: str
) -> None:
    url = url_of(redis_url, await user(missing))
    async with serving(config_of(namespace), url) as service:
        message = refused(await ask(service, "POST", "/v1/vm/", job()), 503, "redis_unavailable")
        assert "Redis refuses" in message
