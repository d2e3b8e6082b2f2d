"""The servers of a run: rqueue, the bare handler, the peer; each Redis of one kind, with the same options.

All are this run's own, in its own folder, on loopback; they are ended by their process ids when the run
ends, however it ends.
"""

import asyncio
import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from redis import Redis

from bench.client import Client, Failed, request
from rqueue.store import scripts
from rqueue.store.embedded import embedded

ROOT = Path(__file__).parents[1]
PEERS = Path(__file__).parent / "peers"
START_SECONDS = 30
END_SECONDS = 30
SETTLE_SECONDS = 120
INSTALL_SECONDS = 180
PACKAGES = ("bullmq", "fastify", "ioredis")
SLOW_US = 10_000
SLOW_KEPT = 10_000


class NotMeasured(Exception):
    """What a row needs is not there; the message says what."""


@dataclass(frozen=True)
class Server:
    """One side: where it answers, its process, and the socket of its Redis where it has one."""

    name: str
    port: int
    pid: int
    socket: Path | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def redis(self) -> "Redis":
        """A client of its Redis."""
        return Redis(unix_socket_path=str(self.socket), decode_responses=True)


@dataclass(frozen=True)
class Slow:
    """An entry of a SLOWLOG: what ran, for how many milliseconds, and what was being measured then."""

    what: str
    ms: float
    stage: str


@dataclass
class Servers:
    """Starts servers by name, once, and ends them all on leaving; keeps what their SLOWLOGs said.

    `stage` is what is being measured.
    """

    folder: Path
    may_install: bool
    stage: str = ""
    slow: list[Slow] = field(default_factory=list)
    _started: dict[str, tuple[Server, AsyncExitStack]] = field(default_factory=dict)

    async def __aenter__(self) -> "Servers":
        return self

    async def __aexit__(self, *_: object) -> None:
        for name in list(self._started):
            await self.end(name)

    async def rqueue(self, name: str, **settings: str) -> Server:
        """`rqueue serve` with the default settings but for these, and unless they name one, its own Redis."""
        port = free_port()
        command = [sys.executable, "-m", "rqueue", "serve"]
        return await self._start(name, port, command, settings)

    async def bullmq(self, name: str) -> Server:
        """The peer with a Redis of its own. Raises NotMeasured where it cannot be had."""
        await self._peer()
        port = free_port()
        return await self._start(name, port, ["node", str(PEERS / "server.mjs"), str(port)], None)

    async def bare(self) -> Server:
        """The bare handler."""
        port = free_port()
        return await self._start("bare", port, [sys.executable, "-m", "bench.bare", str(port)], None, "/")

    async def end(self, name: str) -> None:
        """End a server and its Redis, and remove what they wrote."""
        if name in self._started:
            server, stack = self._started.pop(name)
            self._harvest(server)
            await stack.aclose()

    def watch(self, server: Server, above_us: int) -> None:
        """Have the SLOWLOG of a server take down what takes longer than this, beginning now."""
        self._harvest(server)
        with server.redis() as redis:
            redis.config_set("slowlog-log-slower-than", above_us)
            redis.slowlog_reset()

    def ran(self, server: Server, script: str) -> list[float]:
        """Milliseconds of each run of a script that the SLOWLOG of a server holds."""
        with server.redis() as redis:
            entries = redis.slowlog_get(SLOW_KEPT)
        return [e["duration"] / 1000 for e in entries if what_ran(e["command"]) == script]

    def begin(self, stage: str) -> None:
        """Say what is measured now; what was slow in any rqueue's Redis so far belongs to what was before."""
        for server, _ in self._started.values():
            self._harvest(server)
        self.stage = stage

    def _harvest(self, server: Server) -> None:
        if server.socket is None or not server.name.startswith("rqueue"):
            return
        with server.redis() as redis:
            for entry in redis.slowlog_get(SLOW_KEPT):
                if entry["duration"] >= SLOW_US:
                    self.slow.append(Slow(what_ran(entry["command"]), entry["duration"] / 1000, self.stage))
            redis.slowlog_reset()

    async def _start(
        self,
        name: str,
        port: int,
        command: list[str],
        settings: dict[str, str] | None,
        ready: str = "/healthz",
    ) -> Server:
        if name in self._started:
            return self._started[name][0]
        stack = AsyncExitStack()
        try:
            folder = self.folder / name
            folder.mkdir()
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            path = None
            if name != "bare" and "REDIS_URL" not in (settings or {}):
                path = Path(stack.enter_context(embedded(folder / "redis")).removeprefix("unix://"))
                watch_slowness(path)
            if settings is not None:
                ready = "/readyz"
                settings = {
                    "PORT": str(port),
                    "REDIS_URL": f"unix://{path}",
                    "CALLBACK_ALLOW": "127.0.0.0/8",
                    "CALLBACK_BASE_URL": "http://127.0.0.1:9/",
                    **settings,
                }
            elif path:
                command = [*command, str(path)]
            log = folder / "log"
            process = await stack.enter_async_context(running(command, settings or {}, log))
            await until_ready(process, port, ready, log)
        except BaseException:
            await stack.aclose()
            raise
        server = Server(name, port, process.pid, path)
        self._started[name] = server, stack
        return server

    async def _peer(self) -> None:
        if not shutil.which("node") or not shutil.which("npm"):
            raise NotMeasured("node and npm are not both installed")
        if peer_versions() == orjson.loads((PEERS / "package.json").read_bytes())["dependencies"]:
            return
        if not self.may_install:
            raise NotMeasured("the peer is not installed; a run without --toy does it")
        command = "npm install --no-package-lock --no-audit --no-fund --loglevel=error"
        print(f"bench: {command} in bench/peers", file=sys.stderr)
        npm = await asyncio.create_subprocess_exec(
            *command.split(), cwd=PEERS, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        try:
            async with asyncio.timeout(INSTALL_SECONDS):
                said, _ = await npm.communicate()
        except TimeoutError:
            npm.kill()
            raise NotMeasured(f"npm install did not end within {INSTALL_SECONDS} s") from None
        if npm.returncode:
            raise NotMeasured(f"npm install failed: {said.decode(errors='replace')[-200:]!r}")


def peer_versions() -> dict[str, str]:
    """The packages of the peer that are installed, with their versions."""
    manifests = (PEERS / "node_modules" / name / "package.json" for name in PACKAGES)
    return {m.parent.name: orjson.loads(m.read_bytes())["version"] for m in manifests if m.exists()}


def watch_slowness(path: Path) -> None:
    """Have a Redis keep every command of 10 ms and more."""
    with Redis(unix_socket_path=str(path)) as redis:
        redis.config_set("slowlog-log-slower-than", SLOW_US)
        redis.config_set("slowlog-max-len", SLOW_KEPT)


def what_ran(command: str | bytes) -> str:
    """What a SLOWLOG's command is: `admit.lua` for a script of rqueue's, else its first word."""
    words = (command if isinstance(command, str) else command.decode(errors="replace")).split(" ", 2)
    for name in scripts.names():
        script = scripts.load(name)
        # A SLOWLOG keeps the first 128 bytes of an argument.
        if words[1:2] == [script.sha] or (words[0] == "EVAL" and script.text[:100] in " ".join(words)):
            return f"{name}.lua"
    return words[0]


@asynccontextmanager
async def running(
    command: list[str], settings: dict[str, str], log: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process, with its output in a file and these RQUEUE_ settings only; ended on leaving."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RQUEUE_")}
    environment |= {f"RQUEUE_{name}": value for name, value in settings.items()}
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=ROOT, env=environment, stdout=out, stderr=out
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(END_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def until_ready(process: asyncio.subprocess.Process, port: int, path: str, log: Path) -> None:
    """Wait until GET of this path is 200. Raises NotMeasured, with its last words, where it ends instead."""
    for _ in range(START_SECONDS * 200):
        if process.returncode is not None:
            raise NotMeasured(f"it ended at once: {_last_words(log)}")
        with suppress(OSError, Failed):
            async with asyncio.timeout(START_SECONDS), Client.to(port) as client:
                if (await client.ask(request("GET", path))).status == 200:
                    return
        await asyncio.sleep(0.005)
    raise Failed(f"the server is not ready after {START_SECONDS} s; its log ends: {_last_words(log)}")


def _last_words(log: Path) -> str:
    return "".join(log.read_text(errors="replace").strip().splitlines()[-1:])[:80]


def processes(pid: int) -> list[int]:
    """A process and all below it."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            # The name before it, in parentheses, may hold anything.
            with suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def rss(pid: int, field_: str = "VmRSS") -> float:
    """MiB of memory that a process and all below it have; with `VmHWM` the most they had."""
    total = 0
    for one in processes(pid):
        with suppress(OSError):
            for line in Path(f"/proc/{one}/status").read_text().splitlines():
                if line.startswith(field_):
                    total += int(line.split()[1])
    return total / 1024


def forget_peak(pid: int) -> None:
    """Have `VmHWM` count from now on."""
    for one in processes(pid):
        Path(f"/proc/{one}/clear_refs").write_text("5")


async def settled_memory(server: Server) -> int:
    """Bytes that a Redis uses once it tidies no more: no rewrite of its file, no table half grown."""
    last = 0
    with server.redis() as redis:
        for _ in range(SETTLE_SECONDS * 10):
            info = redis.info()
            rewriting = info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"]
            used = int(info["used_memory"])
            if not rewriting and abs(used - last) < max(used / 1000, 1 << 16):
                return used
            last = used
            await asyncio.sleep(0.1)
    raise Failed(f"the memory of {server.name} does not settle")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
