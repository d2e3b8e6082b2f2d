"""Short ways to do and see what every test of the store does and sees."""

from typing import Any

from rqueue.domain.job import ACCEPTED, Job, Status
from rqueue.domain.pool import Pool
from rqueue.store.store import Store
from tests.conftest import new

CLAIM_MS = 20_000


async def create(store: Store, *request_ids: str, **options: Any) -> list[Job]:
    """Put jobs with these names in line, one after the other; options as of `new`."""
    return [(await store.create("vm", [new(request_id, **options)]))[0][0] for request_id in request_ids]


async def declare(
    store: Store,
    slots: int = 1,
    pool: str = "default",
    projects: tuple[str, ...] = (),
    **hosts: dict[str, int],
) -> None:
    """Declare a pool: one host with so many slots, or the hosts that are given."""
    await store.put_pool("vm", Pool(pool, hosts or {"host": {"slots": slots}}, projects))


async def admit(store: Store, pool: str = "default") -> list[str]:
    """Who goes in one pass over the pool."""
    return [turn.request_id for turn in (await store.admit("vm", pool, CLAIM_MS)).turns]


async def line(store: Store, status: Status | None = Status.QUEUED, owner_id: str = "") -> list[str]:
    """The names of all jobs, in order."""
    return [job.request_id for job in await jobs(store, status, owner_id)]


async def jobs(store: Store, status: Status | None = Status.QUEUED, owner_id: str = "") -> list[Job]:
    """All jobs, page by page, in order."""
    page = await store.page("vm", owner_id, status)
    found = page.jobs
    while page.cursor:
        page = await store.page("vm", owner_id, status, page.cursor)
        found += page.jobs
    return found


async def status(store: Store, request_id: str) -> str:
    """A job's status."""
    return str((await store.get("vm", request_id)).status)


async def running(store: Store, *request_ids: str) -> None:
    """Put jobs in line, let them go on a host that holds them, and accept their calls."""
    await declare(store, len(request_ids))
    await create(store, *request_ids)
    await admit(store)
    for request_id in request_ids:
        await store.transition("vm", request_id, ACCEPTED)
