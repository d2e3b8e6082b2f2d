"""RQUEUE_WORKERS: several real processes on one port, and what becomes of them."""

import asyncio
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import redis_at
from tests.process import Running, alive, running
from tests.test_cli import RQUEUE, ended, environment, refused

pytestmark = pytest.mark.slow

HOSTS = {"hosts": {"n1": {"slots": 1000}}}
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="NOT TRIED: reads /proc, as only Linux has it")


def serve_with(**constants: object) -> tuple[str, ...]:
    """`rqueue serve` whose supervisor has other constants."""
    changes = "; ".join(f"supervisor.{name} = {value!r}" for name, value in constants.items())
    code = f"from rqueue import supervisor; {changes}; from rqueue.cli import main; main(['serve'])"
    return (sys.executable, "-c", code)


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - another process has no event to wait for
            await asyncio.sleep(0.02)


def children(service: Running) -> dict[int, str]:
    return {pid: args for pid, (parent, args) in alive().items() if parent == service.process.pid}


def workers(service: Running) -> set[int]:
    return {pid for pid, args in children(service).items() if args.endswith("rqueue worker")}


def servers(service: Running) -> set[int]:
    return set(children(service)) - workers(service)


def listening(service: Running) -> list[int]:
    """The pids of the workers that said so, since the service said that it listens."""
    return [event["pid"] for event in service.log if event["message"] == "a worker listens"]


async def replaced(service: Running, count: int = 1) -> None:
    """So many workers have been started anew, and listen."""
    await until(lambda: len(listening(service)) >= count)


class Connection:
    """One connection to the service, that one worker has accepted."""

    def __init__(self, service: Running) -> None:
        self._service = service
        self._http = HTTPConnection(service.url.removeprefix("http://"), timeout=20)

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        return await asyncio.to_thread(self._call, method, path, body)

    def _call(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        self._http.request(method, path, None if body is None else orjson.dumps(body))
        with self._http.getresponse() as response:
            return response.status, orjson.loads(response.read())

    async def text(self, path: str) -> str:
        """What a GET answers that is no JSON."""

        def get() -> str:
            self._http.request("GET", path)
            with self._http.getresponse() as response:
                return str(response.read().decode())

        return await asyncio.to_thread(get)

    def close(self) -> None:
        self._http.close()

    def owner(self) -> int:
        """The pid of the worker at its other end: whose open files hold the socket that /proc shows."""
        (_, ours), (_, theirs) = self._http.sock.getsockname(), self._http.sock.getpeername()
        rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
        (inode,) = (
            row[9]
            for row in rows
            if (int(row[1].split(":")[1], 16), int(row[2].split(":")[1], 16)) == (theirs, ours)
        )
        (pid,) = (
            pid
            for pid in workers(self._service)
            if any(_points_to(file, f"socket:[{inode}]") for file in Path(f"/proc/{pid}/fd").iterdir())
        )
        return pid


def _points_to(file: Path, what: str) -> bool:
    try:
        return os.readlink(file) == what
    except FileNotFoundError:
        return False


async def asked(service: Running, method: str, path: str, body: Any = None) -> Any:
    """One call on a connection of its own, which any worker may take."""
    with closing(Connection(service)) as connection:
        _, answer = await connection.call(method, path, body)
    assert answer["ok"], answer
    return answer.get("data")


async def to_each(service: Running, call: Callable[[Connection], Awaitable[None]]) -> None:
    """Do this on connections until every worker has done it."""
    left = workers(service)
    async with asyncio.timeout(20):
        while left:
            with closing(Connection(service)) as connection:
                await connection.call("GET", "/healthz")
                if (owner := connection.owner()) in left:
                    await call(connection)
                    left.remove(owner)


def job(request_id: str, callback: str) -> dict[str, Any]:
    return {"request_id": request_id, "owner_id": "y", "callback": callback}


async def gone(pids: set[int]) -> None:
    await until(lambda: not pids & set(alive()))


# --- one service -------------------------------------------------------------------------------------


@on_linux
async def test_all_workers_answer_on_one_port(tmp_path):
    async with running(tmp_path, WORKERS="3") as service:
        assert len(workers(service)) == 3
        seen = []

        async def look(connection: Connection) -> None:
            status, answer = await connection.call("GET", "/readyz")
            assert (status, answer["ok"]) == (200, True)
            seen.append(connection.owner())

        await to_each(service, look)
        assert set(seen) == workers(service)
        assert await service.end() == 0


async def test_one_worker_is_the_service_itself(tmp_path):
    async with running(tmp_path, WORKERS="1") as service:
        assert workers(service) == set()
        assert await asked(service, "GET", "/v1/vm/") == []


async def test_all_share_one_embedded_server(tmp_path):
    async with running(tmp_path, WORKERS="3") as service:
        (server,) = servers(service)
        async with redis_at(service.redis_url) as redis:
            assert (await redis.info("server"))["process_id"] == server


@on_linux
async def test_a_job_that_any_worker_takes_is_called_once(tmp_path, receiver):
    count = 40
    async with running(tmp_path, WORKERS="2") as service:
        await asked(service, "PUT", "/queues/vm/pools/default", HOSTS)

        async def create(connection: Connection, name: str) -> None:
            assert (await connection.call("POST", "/v1/vm/", job(name, f"{receiver.url}/{name}")))[0] == 201

        await to_each(service, lambda connection: create(connection, f"by-{connection.owner()}"))
        for number in range(count):
            await asked(service, "POST", "/v1/vm/", job(f"{number}", f"{receiver.url}/{number}"))
        await receiver.until(count + 2)
        async with asyncio.timeout(20):
            while {found["Status"] for found in await asked(service, "GET", "/v1/vm/")} != {"running"}:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert await service.end() == 0
    assert set(Counter(path for path, *_ in receiver.calls).values()) == {1}
    assert len(receiver.calls) == count + 2


@on_linux
async def test_the_inbox_shows_what_any_worker_took(tmp_path):
    async with running(tmp_path, WORKERS="2") as service:
        taken, shown = [], []

        async def take(connection: Connection) -> None:
            taken.append(f"/inbox/{connection.owner()}")
            assert (await connection.call("POST", taken[-1]))[0] == 200

        async def show(connection: Connection) -> None:
            _, answer = await connection.call("GET", "/inbox/")
            shown.append([arrived["path"] for arrived in answer["data"]])

        await to_each(service, take)
        await to_each(service, show)
        assert shown == [taken[::-1]] * 2


async def test_a_callback_that_is_not_absolute_arrives_in_the_inbox(tmp_path):
    async with running(tmp_path, WORKERS="2") as service:
        await asked(service, "PUT", "/queues/vm/pools/default", HOSTS)
        await asked(service, "POST", "/v1/vm/", job("a", "abc"))
        async with asyncio.timeout(20):
            while not (arrived := await asked(service, "GET", "/inbox/")):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert [found["path"] for found in arrived] == ["/inbox/abc"]


async def test_workers_wait_for_a_redis_that_is_away(tmp_path):
    async with running(tmp_path, WORKERS="2", REDIS_URL="redis://127.0.0.1:1") as service:
        assert servers(service) == set()
        assert await asked(service, "GET", "/healthz") == {}
        with closing(Connection(service)) as connection:
            assert (await connection.call("GET", "/v1/vm/"))[0] == 503
            assert (await connection.call("POST", "/inbox/a"))[0] == 404
        assert await service.end() == 0


async def test_a_worker_takes_no_module_from_the_working_directory(tmp_path):
    """The installed command does not; and `-m` alone would."""
    (tmp_path / "orjson.py").write_text("raise SystemExit(9)")
    async with running(tmp_path / "data", (str(RQUEUE), "serve"), tmp_path, WORKERS="2") as service:
        assert await asked(service, "GET", "/healthz") == {}


# --- a worker that dies ------------------------------------------------------------------------------


@pytest.mark.parametrize("spreads", [pytest.param(True, marks=on_linux), False])
async def test_a_killed_worker_is_replaced_and_requests_go_on(tmp_path, spreads):
    async with running(tmp_path, serve_with(SPREADS=spreads), WORKERS="2") as service:
        before = workers(service)
        killed = min(before)
        os.kill(killed, signal.SIGKILL)
        await gone({killed})
        answered = 0
        async with asyncio.timeout(20):
            while not listening(service):
                assert await asked(service, "GET", "/v1/vm/") == []
                answered += 1
        assert answered
        after = workers(service)
        assert len(after) == 2
        assert after & before == before - {killed}
        assert listening(service) == list(after - before)
        assert await asked(service, "GET", "/v1/vm/") == []
        (said,) = (event for event in service.log if event["level"] == "ERROR")
        assert "signal 9" in said["message"]
        assert await service.end() == 0
    # That the service listens is said once, however often a worker does.
    assert sum("url" in event for event in service.log) == 1


@on_linux
async def test_a_worker_that_hangs_is_killed_and_replaced(tmp_path):
    async with running(tmp_path, serve_with(HUNG_SECONDS=4), WORKERS="2") as service:
        before = workers(service)
        hung = min(before)
        os.kill(hung, signal.SIGSTOP)
        await replaced(service)
        assert workers(service) & before == before - {hung}
        said = [event["message"] for event in service.log if event["level"] == "ERROR"]
        assert said[0] == "a worker has said nothing for 4 s, and is killed"
        assert "signal 9" in said[1]
        assert await asked(service, "GET", "/v1/vm/") == []
        assert await service.end() == 0


async def test_workers_that_were_stopped_with_all_the_service_are_not_killed(tmp_path):
    """As when the machine is suspended."""
    async with running(tmp_path, serve_with(HUNG_SECONDS=4), WORKERS="2") as service:
        before = workers(service)
        everyone = [service.process.pid, *before]
        for pid in everyone:
            os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(6)
        for pid in everyone:
            os.kill(pid, signal.SIGCONT)
        await asyncio.sleep(3)
        assert workers(service) == before
        assert await service.end() == 0


async def test_a_new_worker_gets_its_share(tmp_path):
    async with running(tmp_path, WORKERS="2") as service:
        for pid in workers(service):
            os.kill(pid, signal.SIGKILL)
        await replaced(service, 2)
        assert workers(service) == set(listening(service))

        async def look(connection: Connection) -> None:
            assert (await connection.call("GET", "/v1/vm/"))[0] == 200

        await to_each(service, look)


async def test_a_worker_that_is_ended_by_hand_finishes_what_is_in_flight_and_is_replaced(tmp_path, receiver):
    answered = asyncio.Event()

    async def slowly(request: web.Request) -> web.Response:
        await answered.wait()
        return web.Response()

    receiver.answer = slowly
    async with running(tmp_path, serve_with(HUNG_SECONDS=4), WORKERS="2") as service:
        await asked(service, "PUT", "/queues/vm/pools/default", HOSTS)
        await asked(service, "POST", "/v1/vm/", job("a", f"{receiver.url}/a"))
        await receiver.until(1)
        before = workers(service)
        for pid in before:
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGTERM)
        await replaced(service)
        # It hangs as little meanwhile.
        await asyncio.sleep(5.5)
        answered.set()
        await replaced(service, 2)
        assert not before & workers(service)
        assert (await asked(service, "GET", "/v1/vm/a"))["Status"] == "running"
    assert len(receiver.calls) == 1


async def test_a_worker_that_dies_again_and_again_does_not_spin(tmp_path):
    async with running(tmp_path, WORKERS="2") as service:
        first = time.monotonic()
        victim = min(workers(service))
        for deaths in range(1, 4):
            os.kill(victim, signal.SIGKILL)
            await replaced(service, deaths)
            victim = listening(service)[-1]
        lasted = time.monotonic() - first
        said = [event["message"] for event in service.log if event["level"] == "ERROR"]
        assert [re.findall(r"again in ([0-9.]+) s", message) for message in said] == [["0.5"], ["1"], ["2"]]
        assert lasted > 0.5 + 1 + 2
        assert await asked(service, "GET", "/v1/vm/") == []
        assert await service.end() == 0


async def test_a_worker_that_dies_old_is_started_again_at_once(tmp_path):
    command = serve_with(YOUNG_SECONDS=0)
    async with running(tmp_path, command, WORKERS="2") as service:
        os.kill(min(workers(service)), signal.SIGKILL)
        await replaced(service)
        assert any("again in 0 s" in event["message"] for event in service.log)


async def test_a_service_whose_workers_wait_to_be_started_ends_at_once(tmp_path):
    command = serve_with(FIRST_PAUSE_SECONDS=30)
    async with running(tmp_path, command, WORKERS="2") as service:
        for pid in workers(service):
            os.kill(pid, signal.SIGKILL)
        await until(lambda: sum(event["level"] == "ERROR" for event in service.log) == 2)
        async with asyncio.timeout(10):
            assert await service.end() == 0


# --- the end -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("spreads", [pytest.param(True, marks=on_linux), False])
async def test_a_signal_ends_everything(tmp_path, number, spreads):
    async with running(tmp_path, serve_with(SPREADS=spreads), WORKERS="2") as service:
        family = set(children(service))
        assert len(family) == 3
        service.process.send_signal(number)
        async with asyncio.timeout(20):
            assert await service.process.wait() == 0
        assert not family & set(alive())
    assert not any(event["level"] in ("ERROR", "") for event in service.log), service.log
    # The lock and the port are free at once.
    async with running(tmp_path, PORT=service.url.rpartition(":")[2]) as again:
        assert await asked(again, "GET", "/v1/vm/") == []


@pytest.mark.parametrize("to_all", [False, True], ids=["to-the-supervisor", "to-all-processes"])
@pytest.mark.parametrize("spreads", [pytest.param(True, marks=on_linux), False])
async def test_what_is_in_flight_is_finished_and_nothing_new_accepted(tmp_path, receiver, spreads, to_all):
    """Some supervisors signal the one that they started, some every process of the service."""
    answered = asyncio.Event()

    async def slowly(request: web.Request) -> web.Response:
        await answered.wait()
        return web.Response()

    receiver.answer = slowly
    async with running(tmp_path, serve_with(SPREADS=spreads), WORKERS="2") as service:
        await asked(service, "PUT", "/queues/vm/pools/default", HOSTS)
        await asked(service, "POST", "/v1/vm/", job("a", f"{receiver.url}/a"))
        await receiver.until(1)
        for pid in [*(workers(service) if to_all else ()), service.process.pid]:
            os.kill(pid, signal.SIGTERM)
        host, port = service.url.removeprefix("http://").split(":")

        def refuses() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex((host, int(port))) != 0

        await until(refuses)
        assert service.process.returncode is None
        answered.set()
        async with asyncio.timeout(20):
            assert await service.process.wait() == 0
    async with running(tmp_path, WORKERS="2") as service:
        assert (await asked(service, "GET", "/v1/vm/a"))["Status"] == "running"
    assert len(receiver.calls) == 1


async def test_a_second_signal_does_not_wait(tmp_path):
    """The first one gives a hung request fifteen seconds."""
    async with running(tmp_path, WORKERS="2") as service:
        family = set(children(service))
        host, port = service.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /v1/vm HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n{")
        await writer.drain()
        assert await asked(service, "GET", "/healthz") == {}
        service.process.terminate()
        # One worker of the two has nothing in flight.
        await until(lambda: len(workers(service)) == 1)
        assert service.process.returncode is None
        service.process.terminate()
        async with asyncio.timeout(8):
            assert await service.process.wait() == 0
        writer.close()
        assert not family & set(alive())


async def test_nothing_is_left_of_a_service_that_is_killed(tmp_path, receiver):
    """Not even a worker that would have something to finish, or one that has only been started."""
    answered = asyncio.Event()

    async def slowly(request: web.Request) -> web.Response:
        await answered.wait()
        return web.Response()

    receiver.answer = slowly
    async with running(tmp_path, serve_with(YOUNG_SECONDS=0), WORKERS="3", CALLBACK_TIMEOUT="60") as service:
        await asked(service, "PUT", "/queues/vm/pools/default", HOSTS)
        await asked(service, "POST", "/v1/vm/", job("a", f"{receiver.url}/a"))
        await receiver.until(1)
        before = workers(service)
        os.kill(min(before), signal.SIGKILL)
        await until(lambda: bool(workers(service) - before))
        family = set(children(service))
        assert len(family) == 4
        await service.kill()
        await gone(family)
        answered.set()
    async with running(tmp_path, WORKERS="2", PORT=service.url.rpartition(":")[2]) as again:
        assert [found["RequestID"] for found in await asked(again, "GET", "/v1/vm/")] == ["a"]


async def test_it_ends_when_its_server_does(tmp_path):
    async with running(tmp_path, WORKERS="2") as service:
        (server,), family = servers(service), set(children(service))
        os.kill(server, signal.SIGKILL)
        async with asyncio.timeout(25):
            assert await service.process.wait() == 2
        assert not family & set(alive())
    assert any("the embedded server ended by itself" in event["message"] for event in service.log)


async def test_it_can_be_ended_the_moment_it_listens(tmp_path):
    for _ in range(3):
        async with running(tmp_path, WORKERS="2") as service:
            assert await service.end() == 0
        assert not any(event["level"] in ("ERROR", "") for event in service.log), service.log


async def test_ctrl_c_while_workers_start_ends_it_without_a_word(tmp_path):
    """It goes to the whole foreground group, as the terminal sends it."""
    with (tmp_path / "log").open("w") as log:
        process = await asyncio.create_subprocess_exec(
            *(RQUEUE, "serve"),
            cwd=tmp_path,
            env=environment(RQUEUE_WORKERS="2"),
            stderr=log,
            start_new_session=True,
        )

    def starting() -> bool:
        return sum(parent == process.pid for parent, _ in alive().values()) == 3

    try:
        await until(starting)
        family = {pid for pid, (parent, _) in alive().items() if parent == process.pid}
        os.killpg(process.pid, signal.SIGINT)
        async with asyncio.timeout(20):
            assert await process.wait() == 0
        assert not family & set(alive())
        said = (tmp_path / "log").read_text()
        assert "listens on" not in said
        assert "Traceback" not in said
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


# --- what is refused ---------------------------------------------------------------------------------


def test_a_port_in_use_is_refused(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert port in refused(tmp_path, RQUEUE_PORT=port, RQUEUE_WORKERS="2")


@pytest.mark.parametrize("count", ["1", "2"])
async def test_a_second_service_gets_no_share_of_the_port(tmp_path, count):
    (tmp_path / "other").mkdir()
    async with running(tmp_path / "data", WORKERS="2") as service:
        port = service.url.rpartition(":")[2]
        said = await asyncio.to_thread(
            refused, tmp_path / "other", RQUEUE_PORT=port, RQUEUE_WORKERS=count, RQUEUE_DATA_DIR="data"
        )
        assert port in said


async def test_the_port_stays_the_service_s_own_while_no_worker_listens(tmp_path):
    command = serve_with(FIRST_PAUSE_SECONDS=30)
    async with running(tmp_path, command, WORKERS="2") as service:
        family = workers(service)
        for pid in family:
            os.kill(pid, signal.SIGKILL)
        await gone(family)
        with pytest.raises(OSError, match="in use"):
            socket.create_server(("127.0.0.1", int(service.url.rpartition(":")[2])))
        assert workers(service) == set()


def test_others_than_loopback_are_refused(tmp_path):
    assert "RQUEUE_HOST" in refused(tmp_path, RQUEUE_HOST="0.0.0.0", RQUEUE_WORKERS="2")


def test_a_number_of_workers_that_cannot_be_is_refused(tmp_path):
    assert "RQUEUE_WORKERS" in refused(tmp_path, RQUEUE_WORKERS="0")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RQUEUE_CALLBACK_DENY", "10.0.0.0/33"),
        ("RQUEUE_CALLBACK_SECRETS", "whsec_a"),
        ("RQUEUE_REDIS_URL", "http://127.0.0.1:6379"),
    ],
)
def test_what_every_worker_refuses_is_said_once(tmp_path, name, value):
    before = set(alive())
    assert name in refused(tmp_path, RQUEUE_WORKERS="3", **{name: value})
    left = {pid: args for pid, (_, args) in alive().items() if pid not in before}
    assert not any(str(tmp_path) in args or args.endswith("rqueue worker") for args in left.values()), left


def test_nobody_starts_a_worker_by_hand(tmp_path):
    result = ended("worker", cwd=tmp_path)
    assert result.returncode == 2
    assert "RQUEUE_WORKERS" in result.stderr
    assert "worker" not in ended("--help", cwd=tmp_path).stdout


def test_workers_are_told_the_place_on_no_command_line(tmp_path):
    """Where everyone could read a password of it."""
    code = "from rqueue.supervisor import _COMMAND; print(*_COMMAND)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split()[1:] == ["-P", "-m", "rqueue", "worker"]


# --- what all of them have counted -------------------------------------------------------------------


async def created_in_all(connection: Connection) -> float:
    """How many creates all workers have counted, as the one at the other end says."""
    text = await connection.text("/metrics")
    found = [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "rqueue_http_requests_total"
        and sample.labels == {"method": "POST", "route": "/v1/{type}/", "status": "201"}
    ]
    return sum(found)


@on_linux
async def test_whichever_worker_is_asked_it_shows_what_all_have_counted(tmp_path):
    """After each of them has died too: the next one in its place goes on counting."""
    numbers = itertools.count()
    async with running(tmp_path, serve_with(YOUNG_SECONDS=0), WORKERS="3") as service:

        async def create(connection: Connection) -> None:
            name = f"j{next(numbers)}"
            assert (await connection.call("POST", "/v1/vm/", job(name, name)))[0] == 201

        async def scrape(connection: Connection) -> None:
            shown.append(await created_in_all(connection))

        shown: list[float] = []
        await to_each(service, create)
        await to_each(service, scrape)
        # What was shown last includes the answer of each: whoever was asked has told the supervisor by then.
        assert shown[-1] == 3
        assert shown == sorted(shown)
        for round_ in (1, 2):
            for pid in workers(service):
                os.kill(pid, signal.SIGKILL)
            await replaced(service, 3 * round_)
            await to_each(service, create)
            await to_each(service, scrape)
            assert shown[-1] == 3 + 3 * round_
        assert shown == sorted(shown)
        assert await service.end() == 0


async def test_a_scrape_with_workers_is_one_of_no_single_process(tmp_path):
    async with running(tmp_path, WORKERS="2") as service:
        with closing(Connection(service)) as connection:
            text = await connection.text("/metrics")
        names = {family.name for family in text_string_to_metric_families(text)}
        assert "rqueue_reaper_lag_seconds" in names
        assert not {name for name in names if name.startswith("process_")}


@on_linux
async def test_the_lag_is_that_of_the_worker_that_lags_most(tmp_path):
    async with running(tmp_path, WORKERS="2") as service:
        lags: list[float] = []

        async def scrape(connection: Connection) -> None:
            families = text_string_to_metric_families(await connection.text("/metrics"))
            lags.extend(
                s.value
                for family in families
                for s in family.samples
                if s.name == "rqueue_reaper_lag_seconds"
            )

        await to_each(service, scrape)
        with closing(Connection(service)) as connection:
            await connection.call("GET", "/healthz")
            (other,) = workers(service) - {connection.owner()}
            os.kill(other, signal.SIGSTOP)
            try:
                async with asyncio.timeout(20):
                    while lags[-1] < 3:
                        await scrape(connection)
            finally:
                os.kill(other, signal.SIGCONT)
        assert await service.end() == 0
