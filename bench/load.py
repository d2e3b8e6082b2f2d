"""Load: wrk and redis-benchmark, and a line of waiting jobs to load.

A line's jobs are of two families in turn, two of each: j, whose members never move, and k, whose
members are moved between two neighbouring j. Names have one length, so that requests can be cut.
"""

import ast
import asyncio
import random
import re
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from bench.client import Client, Failed, all_done, request
from bench.servers import NotMeasured, Server
from rqueue.store import scripts

SCRIPTS = Path(__file__).parent / "wrk"
CONNECTIONS = 32
ARRAY_CONNECTIONS = 4
FILL_ARRAY = 100
EXTRA_SECONDS = 30  # what a load may take beyond its time
RESOURCES = ("VCPU", "Memory", "Disk")
POOL, PROJECT = "host1", "project id"
FIRST_NAME = 10**12
_WORD = re.compile(rb'"((?:[^"\\]|\\.)*)"')
RANDOM = "__rand_int__"  # redis-benchmark makes twelve digits of it


@dataclass(frozen=True, slots=True)
class Load:
    """What one side did in one round: answers per second; milliseconds of the median and of the 99th."""

    rate: float
    p50: float
    p99: float


def percentile(values: list[float], percent: int) -> float:
    """The smallest value that so many per cent of them do not exceed."""
    return sorted(values)[-(-len(values) * percent // 100) - 1]


def name(family: str, number: int) -> str:
    """The name of a job: its family's letter and thirteen digits."""
    return f"{family}{FIRST_NAME + number}"


def seed_job(request_id: str, owner_id: str = "y", **changes: Any) -> dict[str, Any]:
    """The seed's job: one instance of its project's pool."""
    data = {"instances": [dict.fromkeys(RESOURCES, 1)], "project": PROJECT}
    return {"request_id": request_id, "owner_id": owner_id, "data": data, "callback": request_id, **changes}


def need(tool: str, package: str) -> str:
    """The path of a tool. Raises NotMeasured, saying how to get it."""
    found = shutil.which(tool)
    if not found:
        raise NotMeasured(f"{tool} is not installed; on Debian: apt-get install {package}")
    return found


async def wrk(
    server: Server, script: str, *words: str | int, seconds: float, connections: int = CONNECTIONS
) -> Load:
    """Load a server by one of wrk's scripts. Raises Failed for any answer that is not 2xx, or none."""
    command = [
        need("wrk", "wrk"),
        "-t1",
        f"-c{connections}",
        f"-d{int(seconds) + 1}s",
        "--latency",
        f"-s{script}.lua",
        server.url,
        "--",
        *map(str, words),
    ]
    # It counts in whole seconds, but ends well when interrupted.
    said = await output(command, seconds, cwd=SCRIPTS)
    found = re.search(rb"^\{.*\}$", said, re.MULTILINE)
    if not found:
        raise Failed(f"wrk said {said[-300:]!r}")
    got = orjson.loads(found[0])
    if got["not_2xx"] or got["broken"] or not got["requests"]:
        raise Failed(f"{script} on {server.name}: {got}")
    return Load(got["requests"] / got["us"] * 1e6, got["p50_us"] / 1000, got["p99_us"] / 1000)


async def output(
    command: list[str], interrupt_after: float | None = None, cwd: Path | None = None, given: bytes = b""
) -> bytes:
    """What a command says. Raises Failed where it fails, or does not end in time."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    interrupting = None
    if interrupt_after is not None:
        interrupting = asyncio.get_running_loop().call_later(
            interrupt_after, process.send_signal, signal.SIGINT
        )
    try:
        async with asyncio.timeout((interrupt_after or 0) + EXTRA_SECONDS):
            said, _ = await process.communicate(given)
    except TimeoutError:
        raise Failed(f"{command[0]} did not end in time") from None
    finally:
        if interrupting:
            interrupting.cancel()
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise Failed(f"{command[0]} failed: {said[-300:]!r}")
    return said


# --- a line of waiting jobs ---------------------------------------------------------------------------


def job_of_line(number: int, every: int) -> dict[str, Any]:
    """The n-th job of a line: two of family j, two of family k, and so on; each `every`-th is z's."""
    family = "j" if number % 4 < 2 else "k"
    return seed_job(name(family, number // 4 * 2 + number % 2), "z" if number % every == 0 else "y")


async def declare(server: Server, type_: str, hosts: int = 1, each: int = 1) -> None:
    """Declare a type's pool, each host with room for so many seed jobs."""
    amounts = dict.fromkeys(RESOURCES, each)
    pool = {"hosts": {f"node-{n:04}": amounts for n in range(hosts)}, "projects": [PROJECT]}
    async with Client.to(server.port) as client:
        await client.done(request("PUT", f"/queues/{type_}/pools/{POOL}", pool))


async def occupy(server: Server, type_: str) -> None:
    """Declare a type's pool, and fill it with one running job, so that what comes now must wait."""
    await declare(server, type_)
    path = f"/v1/{type_}/holder"
    async with Client.to(server.port) as client:
        await client.done(request("POST", f"/v1/{type_}/", seed_job("holder")))
        for _ in range(1000):
            if (await client.done(request("GET", path))).json()["data"]["Status"] != "queued":
                break
            await asyncio.sleep(0.01)
        # Nobody is there to be called: the client confirms by itself.
        await client.done(request("POST", path, {"status": "running"}))


async def fill(server: Server, type_: str, count: int) -> float:
    """Put so many jobs in line, by arrays over HTTP. Returns jobs per second."""
    every = max(1, count // 10)

    def arrays() -> Any:
        for first in range(0, count, FILL_ARRAY):
            numbers = range(first, min(first + FILL_ARRAY, count))
            yield request("POST", f"/v1/{type_}/", [job_of_line(number, every) for number in numbers])

    started = asyncio.get_running_loop().time()
    await all_done(server.port, arrays(), ARRAY_CONNECTIONS)
    return count / (asyncio.get_running_loop().time() - started)


# --- the limit of the store ---------------------------------------------------------------------------


async def command_of(server: Server, asked: bytes, marks: dict[str, str]) -> list[bytes]:
    """The script command that the service sends for a request, as words, seen by MONITOR.

    Each of `marks`, a job's name in the request, is replaced by what stands beside it.
    """
    reader, writer = await asyncio.open_unix_connection(str(server.socket), limit=1 << 24)
    try:
        writer.write(b"MONITOR\r\n")
        await reader.readline()
        async with Client.to(server.port) as client, asyncio.timeout(EXTRA_SECONDS):
            await client.done(asked)
            while True:
                said = await reader.readline()
                # Each word stands in quotes; \x1f, \n, \" and the like mean what they do in Python.
                words = [ast.literal_eval(f'b"{word.decode()}"') for word in _WORD.findall(said)]
                if (
                    words
                    and words[0].startswith((b"EVAL", b"FCALL"))
                    and all(m.encode() in said for m in marks)
                ):
                    break
    finally:
        writer.close()
    for mark, instead in marks.items():
        words = [word.replace(mark.encode(), instead.encode()) for word in words]
    return words


async def redis_benchmark(server: Server, words: list[bytes], count: int, below: int) -> tuple[Load, float]:
    """Run a command so often, `RANDOM` in it a number below `below`: as many at once as wrk has.

    Returns the load, and the microseconds that Redis itself took for each. Raises Failed where the script
    does not do its work, but answers one of the errors that scripts have.
    """
    command = [need("redis-benchmark", "redis-tools"), "-s", str(server.socket), "-q"]
    command += ["-c", "4", "-P", str(CONNECTIONS // 4), "-n", str(count), "-r", str(below)]
    with server.redis() as redis:
        sample = f"{random.randrange(below):012}".encode()
        answer = redis.execute_command(*(word.replace(RANDOM.encode(), sample) for word in words))
        errors = {code for script in scripts.names() for code in scripts.load(script).errors}
        if isinstance(answer, list) and answer[0] in errors:
            raise Failed(f"the script that redis-benchmark is to run answers {answer!r}")
        redis.config_resetstat()
        said = (await output([*command, *(word.decode() for word in words)])).decode()
        cost = redis.info("commandstats")[f"cmdstat_{words[0].decode().lower()}"]["usec_per_call"]
    found = re.findall(r"([\d.]+) requests per second, p50=([\d.]+)", said)
    if not found or "rror" in said:
        raise Failed(f"redis-benchmark said {said[-300:]!r}")
    rate, p50 = map(float, found[-1])
    return Load(rate, p50, 0.0), cost
