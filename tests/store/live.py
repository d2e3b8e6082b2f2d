"""Short ways to have live pools: what a source says is what a test says."""

from rqueue.domain.pool import Observation, Pool
from rqueue.store.live import Live
from rqueue.store.store import Store

LEASE_MS = 30_000
Amounts = dict[str, dict[str, int]]


async def declare_live(store: Store, pool: str = "default", aggregate: str = "a", **more: object) -> None:
    """A pool of an openstack queue."""
    await store.configure("vm", {"source": "openstack"})
    await store.put_pool("vm", Pool(pool, {}, source="openstack", found_by={"aggregate": aggregate}, **more))


async def see(
    live: Live, pool: str = "default", taken: Amounts | None = None, **hosts: dict[str, int]
) -> bool:
    """An observation that begins and ends now; whether the pool is to be examined."""
    return await live.observe(await live.claim("vm", LEASE_MS), pool, Observation(hosts, taken or {}))
