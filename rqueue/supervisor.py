"""Several processes that share the port: started, watched, started again, ended together.

The supervisor holds the port and answers nobody; its workers do, each as a replica of the service.
Between the two runs one line, a pair of sockets, which is the worker's stdin: down it goes what the
worker must know besides its settings, up come that it listens or why it cannot, and its end is the
other one's. Up comes too what a worker has counted, which is kept for the others and for the one that is
started in its place, unread. One that says nothing for long hangs, and is
killed. Knows neither HTTP nor Redis.
"""

import asyncio
import itertools
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import Any

import orjson

from rqueue.errors import Refused

log = logging.getLogger("rqueue.supervisor")

# A worker that dies younger than this is not started again at once: 0.5, 1, 2, … 30 s.
YOUNG_SECONDS = 10
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30
# A worker that has said nothing for so long hangs: while all is well it says something each second.
HUNG_SECONDS = 15
# Whether the kernel spreads connections over sockets that share a port. macOS shares and does not spread.
SPREADS = sys.platform == "linux"
# The longest that either side may say: what a worker has counted, with a thousand types, is some MB.
LINE_BYTES = 1 << 28
ANSWER_SECONDS = 5
# On the import path of this process, but without the working directory (-P), where anything may lie.
_COMMAND = (sys.executable, "-P", "-m", "rqueue", "worker")


# --- the supervisor's side ---------------------------------------------------------------------------


def supervise(count: int, sock: socket.socket, told: dict[str, str], started: Callable[[], None]) -> None:
    """Keep so many workers running on the port of this socket until SIGTERM or SIGINT; all have ended then.

    `told` is for the workers; `started` is called once, when all of them listen. The first signal
    lets them finish what is in flight, the second kills them. Raises Refused where a worker does.
    """
    asyncio.run(_Supervisor(count, _Port(sock), told, started).run())


class _Port:
    """The port, which stays the service's own while no worker listens.

    With a socket for each worker the kernel gives every one its share of the connections; of one that
    all inherit, whoever wakes first takes all that wait, and that is mostly the same one. The price:
    connections that the kernel has given to a worker which dies before it accepts them are reset, and
    nothing here can help them. Where that matters, Linux 5.14 and later hand them to another worker
    with `net.ipv4.tcp_migrate_req=1`.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._held = sock
        # A double takes on the mode of its model, and all of one socket have one mode: a worker that has
        # another's connection taken from it must not block.
        sock.setblocking(False)
        if SPREADS:
            # It listens, and was refused if any other did. From now on, sockets of this user that ask to
            # share may join; those of another `rqueue serve` do not ask, and are refused even while no
            # worker listens, since the one that is held does not listen and lends its address to nobody.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            self._held = _sharing(sock)
            self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
            sock.close()

    def for_worker(self) -> socket.socket:
        """A socket for a worker to listen on; only the worker may keep it."""
        return _sharing(self._held) if SPREADS else self._held.dup()

    def close(self) -> None:
        """Let go of the port; it is free when the workers have let go of it too."""
        self._held.close()


def _sharing(sock: socket.socket) -> socket.socket:
    """Another socket on the same address, which does not listen yet."""
    other = socket.socket(sock.family, sock.type)
    other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    other.bind(sock.getsockname())
    return other


class _Supervisor:
    def __init__(self, count: int, port: _Port, told: dict[str, str], started: Callable[[], None]) -> None:
        self._port = port
        self._told = told
        self._started = started
        self._numbers = range(1, count + 1)
        self._unheard = set(self._numbers)  # those that have not listened yet
        self._processes: set[asyncio.subprocess.Process] = set()
        self._counts: dict[int, Any] = {}
        self._silent: dict[int, int] = {}  # of those that listen, for how many seconds
        self._stopping = asyncio.Event()
        self._refused = ""

    async def run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal)
        await asyncio.gather(*map(self._keep, self._numbers))
        if self._refused:
            raise Refused(self._refused)

    def _on_signal(self) -> None:
        if self._stopping.is_set():
            self._send(signal.SIGKILL)
        else:
            log.info("stopping: the workers finish what is in flight")
            self._stop()

    def _stop(self) -> None:
        self._stopping.set()
        self._port.close()
        self._send(signal.SIGTERM)

    def _send(self, number: signal.Signals) -> None:
        for process in self._processes:
            with suppress(ProcessLookupError):
                process.send_signal(number)

    async def _keep(self, number: int) -> None:
        """Run one worker after another until the service stops."""
        died_young = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                how = await self._work(number)
            except OSError as error:
                how = f"could not be started: {error}"
            if self._stopping.is_set():
                return
            lived = time.monotonic() - began
            died_young = died_young + 1 if lived < YOUNG_SECONDS else 0
            pause = (
                min(FIRST_PAUSE_SECONDS * 2 ** (died_young - 1), LONGEST_PAUSE_SECONDS) if died_young else 0
            )
            log.error(
                "a worker %s after %.1f s; it is started again in %g s",
                *(how, lived, pause),
                extra={"worker": number},
            )
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()

    async def _work(self, number: int) -> str:
        """Run one worker to its end; returns how it ended. Raises OSError where it could not be started."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs, self._port.for_worker() as sock:
                # A fresh interpreter, not a fork: this process has threads by now, and a worker must not
                # take along what is open here, such as the lock on the data directory.
                process = await asyncio.create_subprocess_exec(
                    *_COMMAND,
                    env={
                        **os.environ,
                        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
                    },
                    stdin=theirs.fileno(),
                    pass_fds=(sock.fileno(),),
                    # Ctrl-C goes to the whole foreground group; it is for the supervisor to pass on.
                    start_new_session=True,
                )
                told = {
                    "worker": number,
                    "socket": sock.fileno(),
                    "told": self._told,
                    "counts": self._counts.get(number),
                }
            self._processes.add(process)
            if self._stopping.is_set():
                process.terminate()
            watch = asyncio.create_task(self._end_hung(number, process))
            try:
                await self._listen_to(number, process.pid, ours, orjson.dumps(told) + b"\n")
                status = await process.wait()
            finally:
                watch.cancel()
                self._silent.pop(number, None)
                self._processes.discard(process)
        return f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"

    async def _end_hung(self, number: int, process: asyncio.subprocess.Process) -> None:
        """Kill a worker that says nothing any more; it is replaced like one that died."""
        while self._silent.get(number, 0) < HUNG_SECONDS:
            await asyncio.sleep(1)
            if number in self._silent:
                # By this process's own seconds: where the whole machine is suspended, or all of the service
                # is stopped, none pass.
                self._silent[number] += 1
        log.error(
            "a worker has said nothing for %g s, and is killed",
            HUNG_SECONDS,
            extra={"worker": number, "pid": process.pid},
        )
        with suppress(ProcessLookupError):
            process.kill()

    async def _listen_to(self, number: int, pid: int, line: socket.socket, told: bytes) -> None:
        """Tell a worker what it must know, and take what it says, until it ends."""
        reader, writer = await asyncio.open_connection(sock=line, limit=LINE_BYTES)
        with closing(writer), suppress(ConnectionError):
            writer.write(told)
            async for said in reader:
                if answer := self._heard(number, pid, orjson.loads(said)):
                    writer.write(orjson.dumps(answer) + b"\n")

    def _heard(self, number: int, pid: int, said: dict[str, Any]) -> dict[str, Any] | None:
        """Take in what a worker says; returns what it is to be answered."""
        if number in self._silent:
            self._silent[number] = 0
        if "counts" in said:
            self._counts[number] = said["counts"]
            others = [counts for other, counts in self._counts.items() if other != number]
            return {"answers": said["asks"], "others": others} if "asks" in said else None
        if "refused" in said:
            if self._unheard:
                # A reason that lasts, and the same for all: started again, it would only refuse again.
                self._refused = said["refused"]
                self._stop()
            else:
                # All have started once with these settings: a file of theirs broke, and may be mended.
                log.error("a worker cannot start: %s", said["refused"], extra={"worker": number, "pid": pid})
            return None
        log.info("a worker listens", extra={"worker": number, "pid": pid})
        self._silent[number] = 0
        if self._unheard:
            self._unheard.discard(number)
            if not self._unheard:
                self._started()
        return None


# --- the worker's side -------------------------------------------------------------------------------


class Line:
    """A worker's end of the line. Raises Refused where there is none, since no supervisor started it."""

    def __init__(self) -> None:
        try:
            self._line = socket.socket(fileno=os.dup(0))
            said: dict[str, Any] = orjson.loads(self._line.makefile("rb").readline())
        except (OSError, ValueError):
            raise Refused("a worker is started by `rqueue serve` only, see RQUEUE_WORKERS") from None
        self.worker: int = said["worker"]
        self.told: dict[str, str] = said["told"]
        self.counts: Any = said["counts"]  # what the worker before this one had counted, or None
        self.sock = socket.socket(fileno=said["socket"])
        self._saying = threading.Lock()
        # Of its own: silent name servers may take all of the event loop's threads, and nothing hangs then.
        self._thread = ThreadPoolExecutor(1, "line")
        self._asked: dict[int, Callable[[list[Any]], object]] = {}
        self._questions = itertools.count()
        threading.Thread(target=self._end_with_supervisor, daemon=True).start()

    def listens(self) -> None:
        """Say that this worker listens."""
        self._say({"listens": True})

    def refuses(self, message: str) -> None:
        """Say why this worker, or any other, cannot start."""
        self._say({"refused": message})

    async def tell(self, counts: Any) -> None:
        """Say what this worker has counted by now."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._say, {"counts": counts})

    async def exchange(self, counts: Any) -> list[Any]:
        """Say the same, and get what each of the others, or who was in its place, last said.

        Raises TimeoutError where the supervisor does not answer.
        """
        loop, question = asyncio.get_running_loop(), next(self._questions)
        answer: asyncio.Future[list[Any]] = loop.create_future()

        def answered(others: list[Any]) -> None:
            if not answer.done():
                answer.set_result(others)

        self._asked[question] = lambda others: loop.call_soon_threadsafe(answered, others)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await loop.run_in_executor(self._thread, self._say, {"counts": counts, "asks": question})
                return await answer
        finally:
            self._asked.pop(question, None)

    def _say(self, said: dict[str, Any]) -> None:
        with self._saying, suppress(ConnectionError):
            self._line.sendall(orjson.dumps(said) + b"\n")

    def _end_with_supervisor(self) -> None:
        # Not a parent-death signal: that needs code between fork and exec, which is not safe in a process
        # that has threads, and is Linux's only. At once, since the service was killed: an orphan that
        # finished its work would keep the port from the service that is started next.
        try:
            rest = b""
            while heard := self._line.recv(1 << 20):
                *lines, rest = (rest + heard).split(b"\n")
                for line in lines:
                    self._hear(orjson.loads(line))
        finally:
            os._exit(1)

    def _hear(self, said: dict[str, Any]) -> None:
        # Whoever asked may be gone, and its loop too.
        with suppress(KeyError, RuntimeError):
            self._asked.pop(said["answers"])(said["others"])
