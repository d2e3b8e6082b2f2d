"""Several servers that belong together: a primary with its replica, and sentinels that watch them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

from redis.exceptions import RedisError

from tests.faults.server import Server, free_port, server

# A primary that says nothing for so long is down for a sentinel; and what a failover may take. Twice that has
# to pass before the next one.
DOWN_AFTER_MS = 600
FAILOVER_TIMEOUT_MS = 1500
NAME = "mymaster"
# How often a sentinel looks and speaks, in ms: by default it asks for INFO each 10 s. For four times
# the last one it lets a server be that became a primary without its knowing; then it is made a replica again.
PERIODS = {"INFO-PERIOD": 100, "PING-PERIOD": 100, "ASK-PERIOD": 100, "PUBLISH-PERIOD": 500}


@asynccontextmanager
async def replicated(folder: Path, **options: str) -> AsyncIterator[tuple[Server, Server]]:
    """A primary and a replica that is in step with it; they have ended on leaving."""
    # By way of a file a replica is there at once; else not before the first of its reports, of one a second.
    options = {"repl-diskless-sync": "no", **options}
    async with (
        server(folder / "one", **options) as primary,
        server(folder / "two", replicaof=f"127.0.0.1 {primary.port}", **options) as replica,
    ):
        await in_step(primary)
        yield primary, replica


async def in_step(primary: Server, replicas: int = 1, seconds: float = 20) -> None:
    """Wait until so many replicas have all that the primary has."""
    async with asyncio.timeout(seconds), primary.client() as redis:
        while True:
            with suppress(RedisError):
                # What is published goes to replicas like a write, and leaves nothing behind.
                await redis.publish("in-step", "")
                if await redis.wait(replicas, 50) >= replicas:
                    return
            await asyncio.sleep(0.01)


class Watched:
    """Two data servers, and sentinels that say which of them is the primary."""

    def __init__(self, servers: tuple[Server, Server], sentinels: list[Server]) -> None:
        self.servers = servers
        self.sentinels = sentinels
        hosts = ",".join(f"127.0.0.1:{one.port}" for one in sentinels)
        self.url = f"redis+sentinel://{hosts}/{NAME}"

    async def primary(self) -> Server:
        """The primary that the sentinels name."""
        async with self.sentinels[0].client() as redis:
            _, port = await redis.sentinel_get_master_addr_by_name(NAME)
        return next(one for one in self.servers if one.port == port)

    def other(self, than: Server) -> Server:
        """The other of the two data servers."""
        return next(one for one in self.servers if one is not than)

    async def until_named(self, primary: Server, seconds: float = 30) -> None:
        """Wait until every sentinel names this primary."""
        async with asyncio.timeout(seconds):
            for one in self.sentinels:
                async with one.client() as redis:
                    while True:
                        _, port = await redis.sentinel_get_master_addr_by_name(NAME)
                        if port == primary.port:
                            break
                        await asyncio.sleep(0.02)

    async def until_known(self, primary: Server, seconds: float = 30) -> None:
        """Wait until every sentinel names this primary, and knows its replica and the other sentinels."""
        async with asyncio.timeout(seconds):
            for one in self.sentinels:
                async with one.client() as redis:
                    while True:
                        told = (await redis.sentinel_masters())[NAME]
                        replicas = await redis.sentinel_slaves(NAME)
                        sound = [state for state in replicas if not state["is_sdown"]]
                        if (
                            told["port"] == primary.port
                            and told["num-other-sentinels"] == len(self.sentinels) - 1
                            and not told["is_sdown"]
                            and sound
                            and sound[0]["master-link-status"] == "ok"
                        ):
                            break
                        await asyncio.sleep(0.02)

    async def failover(self) -> Server:
        """Ask for a failover, and wait until it is over for everyone; the new primary."""
        old = await self.primary()
        new = self.other(old)
        async with self.sentinels[0].client() as redis:
            while True:
                with suppress(RedisError):
                    await redis.execute_command("SENTINEL", "FAILOVER", NAME)
                    break
                # The sentinels are not done with the one before.
                await asyncio.sleep(0.05)
        await self.until_known(new)
        await in_step(new)
        return new


@asynccontextmanager
async def watched(folder: Path, count: int = 3, **options: str) -> AsyncIterator[Watched]:
    """A primary and a replica, watched by sentinels; all have ended on leaving."""
    async with replicated(folder, **options) as servers, AsyncExitStack() as stack:
        sentinels = []
        for number in range(count):
            one = Sentinel(folder / f"sentinel-{number}", free_port(), servers[0].port, count // 2 + 1)
            stack.push_async_callback(one.end)
            await one.start()
            async with one.client() as redis:
                await redis.execute_command(
                    "SENTINEL", "DEBUG", *(word for period in PERIODS.items() for word in period)
                )
            sentinels.append(one)
        found = Watched(servers, sentinels)
        await found.until_known(servers[0])
        yield found


class Sentinel(Server):
    """A sentinel, which keeps what it knows in its own configuration file."""

    def __init__(self, folder: Path, port: int, primary: int, quorum: int) -> None:
        super().__init__(folder, port)
        file = folder / "sentinel.conf"
        file.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
            f"sentinel monitor {NAME} 127.0.0.1 {primary} {quorum}\n"
            f"sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}\n"
            f"sentinel failover-timeout {NAME} {FAILOVER_TIMEOUT_MS}\n"
        )
        self._words = (str(file), "--sentinel")
