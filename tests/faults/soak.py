"""Mixed load and nonsense on three replicas while one thing after the other breaks; then all is looked at.

`make soak` runs it for 20 minutes, `tests/faults/test_soak.py` for one.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from tests.faults.faults import AWAY, HANDS, MOMENTS, REPLICAS, SILENT, checked
from tests.faults.load import Outcome
from tests.faults.report import write
from tests.faults.stage import Stage, staged

# Half of what breaks is over at once, since that is what breaks most often.
KINDS = (AWAY, REPLICAS, HANDS, MOMENTS, MOMENTS, MOMENTS)
SILENT_LASTS = 6.0
NONSENSE_SECONDS = 0.02
NONSENSE: tuple[tuple[str, str, bytes], ...] = (
    ("POST", "/v1/vm/", b"{"),
    ("POST", "/v1/vm/", b'{"request_id": 1, "owner_id": [], "callback": "gopher://x"}'),
    ("POST", "/v1/vm/", b"[" * 10_000),
    ("POST", "/v1/vm/", b'{"data": "' + b"x" * (1 << 21)),
    ("POST", "/v1/vm/j0", b'{"priority": 1e400}'),
    ("POST", "/v1/vm/j0", b'{"status": "sleeping"}'),
    ("POST", "/v1/vm/nobody", b'{"after": "j0"}'),
    ("DELETE", "/v1/vm/%ff", b""),
    ("PUT", "/queues/vm/pools/default", b'{"hosts": {"n": {"slots": -1}}}'),
    ("PUT", "/queues/vm", b'{"patience": "soon"}'),
    ("GET", "/v1/vm/?limit=-1&cursor=zz", b""),
    ("BREW", "/v1/vm/", b""),
)


@dataclass
class Soak:
    """What was broken and how often, what the load saw, how much memory the replicas had at the end."""

    outcome: Outcome
    broken: Counter[str] = field(default_factory=Counter)
    nonsense: int = 0
    memory_mib: list[float] = field(default_factory=list)


async def soak(folder: Path, seconds: float, seed: int, say: Callable[[str], None]) -> Soak:
    """Break things for so long, and assert that every promise held."""
    rng, until = random.Random(seed), time.monotonic() + seconds
    async with staged(folder, replicas=3) as on:
        found = Soak(on.load.outcome)
        talking = asyncio.create_task(_talk_nonsense(on, found))
        try:
            while time.monotonic() < until:
                await on.load.until_accepted(rng.randint(20, 100))
                await _break(on, rng, found, say)
                await on.load.fault_is_over()
        finally:
            talking.cancel()
            await asyncio.gather(talking, return_exceptions=True)
        await on.load.finish()
        assert await checked(on) == 0
        found.memory_mib = [_memory_mib(service.process.pid) for service in on.replicas]
        await on.sound()
    found.outcome.sound()
    return found


async def _break(on: Stage, rng: random.Random, found: Soak, say: Callable[[str], None]) -> None:
    """One thing, and in one of four cases one that lasts a moment on top of it."""
    kind = rng.choice(KINDS)
    names = [rng.choice(list(kind))]
    if kind is not MOMENTS and rng.random() < 0.25:
        names.append("connections to Redis are reset")
    found.broken.update(names)
    say(f"{len(on.load.outcome.recovered):4} {' and '.join(names)}")
    async with AsyncExitStack() as stack:
        for name in names:
            await stack.enter_async_context({**AWAY, **HANDS, **MOMENTS, **REPLICAS}[name](on))
        if kind is AWAY:
            await asyncio.sleep(rng.uniform(0.1, SILENT_LASTS if names[0] in SILENT else 2))


async def _talk_nonsense(on: Stage, found: Soak) -> None:
    """Each piece of nonsense is told what is wrong with it, or that Redis is away."""
    rng = random.Random(0)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)) as session:
        while True:
            method, path, body = rng.choice(NONSENSE)
            try:
                url = rng.choice(on.urls or ["http://127.0.0.1:9"])
                async with session.request(method, url + path, data=body, headers=_JSON) as response:
                    await response.read()
                    found.nonsense += 1
                    if response.status not in (400, 404, 405, 409, 413, 422, 503):
                        on.load.outcome.wrong.append(f"{method} {path} {body[:50]!r}: {response.status}")
            except (aiohttp.ClientError, ConnectionError):
                # A body that is too large is not read to its end; replicas come and go.
                pass
            await asyncio.sleep(NONSENSE_SECONDS)


_JSON = {"Content-Type": "application/json"}


def _memory_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def main() -> None:
    """`make soak`."""
    import argparse
    import tempfile

    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1200)
    parser.add_argument(
        "--seed", type=int, default=None, help="what is broken, and when; else another each time"
    )
    parser.add_argument("--record", type=Path, metavar="FILE", help="append what it came to, as a JSON line")
    given = parser.parse_args()
    seed = random.randrange(1 << 32) if given.seed is None else given.seed
    print(f"seed {seed}")  # noqa: T201
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(soak(Path(folder), given.seconds, seed, print))
    print(found)  # noqa: T201
    if given.record:
        times = sum(found.broken.values())
        write(given.record, "soak: all of these, one after the other", times, found.outcome)


if __name__ == "__main__":
    main()
