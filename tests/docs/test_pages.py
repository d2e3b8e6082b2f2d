"""Pages that show commands: each is typed as it stands there, and answers what is shown."""

from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.docs.typed import free_port, needs, reader
from tests.process import Running, running

DOCS = Path(__file__).parents[2] / "docs"

pytestmark = [needs("curl", "openssl", "redis-cli", "redis-server"), pytest.mark.timeout(180)]


async def test_the_tutorial(tmp_path: Path) -> None:
    async with reader(tmp_path, "make ") as someone:
        assert await someone.reads((DOCS / "tutorial.md").read_text()) == 13


async def _asked(service: Running, method: str, path: str, body: Any = None) -> Any:
    async with (
        aiohttp.ClientSession(service.url) as session,
        session.request(method, path, json=body) as answer,
    ):
        assert answer.ok, await answer.text()
        return (await answer.json())["data"]


async def _one_waits_for_another(service: Running) -> None:
    """Two jobs on a host for one: `a` is called, where nobody listens, and `b` waits."""
    await _asked(service, "PUT", "/queues/vm/pools/default", {"hosts": {"n1": {"slots": 1}}})
    for name in "ab":
        job = {"request_id": name, "owner_id": "x", "callback": f"http://127.0.0.1:9/{name}", "data": {}}
        await _asked(service, "POST", "/v1/vm/", job)


async def test_a_backup_of_ones_own_redis(tmp_path: Path) -> None:
    page = (DOCS / "howto" / "backup-and-restore.md").read_text()
    own, _, rest = page.partition("## The embedded server")
    (tmp_path / "first").mkdir()
    async with reader(tmp_path) as someone:
        await someone.types("redis-server --port 6379 --dir first --repl-diskless-sync-delay 0", "")
        urls = [
            f"redis://127.0.0.1:{someone.ports.setdefault(port, free_port())}" for port in ("6379", "6380")
        ]
        async with running(tmp_path, REDIS_URL=urls[0], CALLBACK_ALLOW="127.0.0.1") as service:
            await _one_waits_for_another(service)
            assert await someone.reads(own) == 7
        assert await someone.reads(rest.partition("before the service starts")[2]) == 1
        async with running(tmp_path, REDIS_URL=urls[1], CALLBACK_ALLOW="127.0.0.1") as service:
            assert (await _asked(service, "GET", "/v1/vm/a"))["Status"] == "calling"
            await _asked(service, "DELETE", "/v1/vm/a")
            assert (await _asked(service, "GET", "/v1/vm/b"))["Reason"].startswith("paused")
            await _asked(service, "PUT", "/queues/vm", {"paused": False})
            await someone.types(f"curl {service.url}/v1/vm/b", '"Status":"calling"')


@pytest.mark.thorough
async def test_a_backup_of_the_embedded_server(tmp_path: Path) -> None:
    page = (DOCS / "howto" / "backup-and-restore.md").read_text()
    embedded = page.partition("## The embedded server")[2].partition("## What comes back")[0]
    async with running(tmp_path / "rqueue-data") as service:
        await _one_waits_for_another(service)
    async with reader(tmp_path) as someone:
        assert await someone.reads(embedded) == 3
    async with running(tmp_path / "rqueue-data") as service:
        assert (await _asked(service, "GET", "/v1/vm/b"))["Status"] == "queued"


@pytest.mark.thorough
async def test_an_upgrade(tmp_path: Path) -> None:
    async with reader(tmp_path) as someone:
        await someone.types("redis-server --port 6379 --save ''", "")
        await someone.types("RQUEUE_REDIS_URL=redis://127.0.0.1:6379 rqueue serve", "")
        assert await someone.reads((DOCS / "howto" / "upgrade.md").read_text()) == 3


async def test_a_cron_job_is_replaced(tmp_path: Path) -> None:
    async with reader(tmp_path) as someone:
        await someone.types("rqueue serve", "")
        assert await someone.reads((DOCS / "howto" / "replace-a-cron-job.md").read_text()) == 8
