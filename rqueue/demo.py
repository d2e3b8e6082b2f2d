"""The main job, shown: a service of its own, a pool, jobs, moves, callbacks, releases.

Starts `rqueue serve` as a user would, with a data directory that is thrown away, and talks to it by
HTTP only. The receiver of the callbacks runs here, and checks every signature.
"""

import asyncio
import base64
import os
import secrets
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import aiohttp
import orjson
from aiohttp import web
from rich.console import Console
from rich.table import Table
from standardwebhooks import Webhook
from yarl import URL

PORT = 8080
START_SECONDS = 20
CALL_SECONDS = 20
SEED_JOB = {
    "request_id": "d",
    "owner_id": "y",
    "data": {"instances": [{"VCPU": 1, "Memory": 1, "Disk": 1}], "project": "project id"},
    "callback": "abc",
}
HOSTS = {
    "node-1": {"VCPU": 4, "Memory": 8192, "Disk": 100},
    "node-2": {"VCPU": 4, "Memory": 8192, "Disk": 100},
}
GPU_HOSTS = {f"gpu-{number}": {"VCPU": 16, "Memory": 65536, "GPU": 4} for number in (1, 2)}
# Nobody listens on the port for what is to be discarded.
NOBODY = "http://127.0.0.1:9/"

console = Console()


def run(once: bool) -> int:
    """Show the main job; returns the exit status: 0 when every callback came."""
    try:
        return asyncio.run(shown(MainStory, once))
    except KeyboardInterrupt:
        return 0


async def shown(
    story_of: "Callable[[aiohttp.ClientSession, Receiver], Story]",
    once: bool,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Tell a story on a service of its own, which has this `environment` too.

    Returns the exit status: 1 when it did not end well. Unless `once`, the service goes on until a signal.
    """
    secret = f"whsec_{base64.b64encode(secrets.token_bytes(24)).decode()}"
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(_receiver(secret))
        port = 0 if once or not _free(PORT) else PORT
        url = await stack.enter_async_context(_service(secret, port, environment or {}))
        client = await stack.enter_async_context(aiohttp.ClientSession(url))
        story = story_of(client, receiver)
        try:
            await story.tell()
        except (TimeoutError, aiohttp.ClientError) as error:
            console.print(f"[red]The demo did not end well: {error!r}")
            return 1
        if once:
            return 0
        await story.refill()
        console.print(f"\nThe service goes on at [bold]{url}[/]; jobs wait there. Look at them on its board:")
        console.print(f"  [bold]{url}/board/#queue=vm[/]\nOr ask it:", highlight=False)
        console.print(
            "".join(f"  curl {url}{path}\n" for path in story.PATHS) + "Ctrl-C ends it.", highlight=False
        )
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await stop.wait()
    return 0


class Receiver:
    """A client's end: takes callbacks, checks them, and hands them over one by one."""

    def __init__(self, secret: str) -> None:
        self.url = ""
        self.arrived: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._webhook = Webhook(secret)

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self._webhook.verify(body, dict(request.headers))
        self.arrived.put_nowait({**orjson.loads(body)["data"], "id": request.headers["webhook-id"]})
        return web.Response()


class Story:
    """What is shown, by HTTP only. What does not come raises TimeoutError, what is refused ClientError."""

    PATHS: tuple[str, ...] = ("/v1/vm/", "/queues/vm", "/inbox/")

    def __init__(self, client: aiohttp.ClientSession, receiver: Receiver) -> None:
        self._client = client
        self._receiver = receiver

    async def tell(self) -> None:
        """The whole story."""
        raise NotImplementedError

    async def refill(self) -> None:
        """Leave something to look at."""

    async def _ask(self, method: str, path: str, body: object = None) -> Any:
        async with self._client.request(method, path, json=body) as response:
            answer = await response.json()
            if not answer["ok"]:
                raise aiohttp.ClientError(answer["error"]["message"])
            return answer.get("data")

    async def _release(self, *request_ids: str) -> None:
        for request_id in request_ids:
            await self._ask("DELETE", f"/v1/vm/{request_id}")
        console.print(f"released: {', '.join(request_ids)}")

    async def _called(self, count: int) -> None:
        async with asyncio.timeout(CALL_SECONDS):
            for _ in range(count):
                job = await self._receiver.arrived.get()
                console.print(
                    f"[green]callback[/] for [b]{job['RequestID']}[/] on {', '.join(job['Placement'])}"
                    f" [dim](signature good, id {job['id']})[/]"
                )


class MainStory(Story):
    """What the service is for."""

    async def tell(self) -> None:
        """The whole story. Raises TimeoutError when a callback does not come."""
        console.rule("1. An operator declares a pool of two hosts")
        await self._ask("PUT", "/queues/vm/pools/host1", {"hosts": HOSTS, "projects": ["project id"]})
        await self._show_pool()

        console.rule("2. Clients post what they need, and whom to call")
        await self._post("big-1", "alice", VCPU=4)
        await self._post("big-2", "bob", VCPU=3)
        await self._called(2)
        console.print(
            "Both fit and are called at once. The next ones have to wait, among them the job [b]d[/]:"
        )
        await self._post("web", "carol", VCPU=2)
        await self._ask("POST", "/v1/vm/", SEED_JOB)
        await self._post("train", "dave", count=2, VCPU=2)
        await self._post("urgent", "erin", VCPU=4)
        await self._show_line("The line before the moves")

        console.rule("3. The operator moves two of them")
        await self._ask("POST", "/v1/vm/urgent", {"position": "front"})
        console.print("urgent goes to the front, train between urgent and web; nobody else is touched.")
        await self._ask("POST", "/v1/vm/train", {"after": "urgent", "before": "web"})
        await self._show_line("The line after the moves")

        console.rule("4. Clients give capacity back, and the next one is called")
        await self._release("big-1")
        await self._called(1)
        await self._release("big-2", "urgent")
        await self._called(2)
        await self._seed_called()
        await self._show_pool()
        await self._release("train", "web", "d")
        await self._show_line("The line at the end")

    async def refill(self) -> None:
        """Jobs of several owners that run and wait, in two pools, and one whose receiver is away."""
        hosts = {f"node-{number}": HOSTS["node-1"] for number in range(1, 7)}
        await self._ask("PUT", "/queues/vm/pools/host1", {"hosts": hosts, "projects": ["project id"]})
        await self._ask("PUT", "/queues/vm/pools/gpu", {"hosts": GPU_HOSTS, "quotas": {"dave": {"GPU": 4}}})
        await self._post("away", "erin", callback=NOBODY, VCPU=1)
        for number in range(24):
            owner = ("alice", "bob", "carol", "dave")[number % 4]
            await self._post(f"web-{number}", owner, count=1 + number % 3, VCPU=1 + number % 4)
            if number % 2:
                await self._post(f"train-{number}", owner, pool="gpu", VCPU=4, GPU=1 + number % 4)

    # --- by HTTP -----------------------------------------------------------------------------------

    async def _post(
        self, request_id: str, owner: str, count: int = 1, pool: str = "", callback: str = "", **amounts: int
    ) -> None:
        instances = [{"Memory": 1024, **({} if pool else {"Disk": 10}), **amounts}] * count
        data = {"instances": instances, **({"host_aggregate": pool} if pool else {"project": "project id"})}
        callback = callback or f"{self._receiver.url}/{request_id}"
        await self._ask(
            "POST",
            "/v1/vm/",
            {"request_id": request_id, "owner_id": owner, "data": data, "callback": callback},
        )

    async def _seed_called(self) -> None:
        """Wait for the seed's job: its callback is not absolute, so it goes to the service's own inbox."""
        async with asyncio.timeout(CALL_SECONDS):
            while not (inbox := await self._ask("GET", "/inbox/")):  # noqa: ASYNC110 - the inbox tells nobody
                await asyncio.sleep(0.05)
        console.print(f"[green]callback[/] for [b]d[/] in the service's inbox at {inbox[0]['path']}")

    # --- tables ------------------------------------------------------------------------------------

    async def _show_line(self, title: str) -> None:
        table = Table("place", "job", "asks for", "priority", "status", title=title, title_justify="left")
        for listed in await self._ask("GET", "/v1/vm/"):
            job = await self._ask("GET", f"/v1/vm/{listed['RequestID']}")
            instances = orjson.loads(job["Data"])["instances"]
            table.add_row(
                str(job.get("Position", "")),
                job["RequestID"],
                f"{len(instances)} x {instances[0]['VCPU']} VCPU",
                str(job["Priority"]),
                f"{job['Status']}: {job.get('Reason') or ', '.join(job['Placement'])}",
            )
        console.print(table if table.row_count else f"[i]{title}: nobody waits, nobody runs.[/]")

    async def _show_pool(self) -> None:
        pool = await self._ask("GET", "/queues/vm/pools/host1")
        table = Table("host", "VCPU", "used", "free", title="Pool host1", title_justify="left")
        for host, amounts in pool["hosts"].items():
            table.add_row(host, *(str(amounts[kind]["VCPU"]) for kind in ("capacity", "used", "free")))
        console.print(table)


@asynccontextmanager
async def _receiver(secret: str) -> AsyncIterator[Receiver]:
    receiver = Receiver(secret)
    app = web.Application()
    app.router.add_post("/{path:.*}", receiver.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        receiver.url = str(URL.build(scheme="http", host="127.0.0.1", port=runner.addresses[0][1]))
        yield receiver
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _service(secret: str, port: int, more: Mapping[str, str]) -> AsyncIterator[str]:
    """`rqueue serve` on a data directory of its own; its URL."""
    with tempfile.TemporaryDirectory(prefix="rqueue-demo-") as data_dir:
        # What the shell has set for another service is not for this one.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RQUEUE_")}
        environment |= {
            "RQUEUE_DATA_DIR": data_dir,
            "RQUEUE_PORT": str(port),
            "RQUEUE_CALLBACK_SECRETS": secret,
            "RQUEUE_LOG_FORMAT": "json",
            **more,
        }
        process = await asyncio.create_subprocess_exec(
            *_command(), env=environment, stderr=asyncio.subprocess.PIPE, start_new_session=True
        )
        assert process.stderr is not None  # noqa: S101
        try:
            async with asyncio.timeout(START_SECONDS):
                url = await _listening(process.stderr)
            reading = asyncio.create_task(_read_on(process.stderr))
            console.print(f"rqueue serves at [bold]{url}[/] on an embedded server")
            yield url
            reading.cancel()
        finally:
            with suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


def _command() -> Sequence[str]:
    return (sys.executable, "-m", "rqueue", "serve")


async def _listening(lines: asyncio.StreamReader) -> str:
    async for line in lines:
        event = orjson.loads(line) if line.startswith(b"{") else {}
        if "url" in event:
            return str(event["url"])
        console.print(line.decode(), end="")
    raise aiohttp.ClientError("the service ended before it listened")


async def _read_on(lines: asyncio.StreamReader) -> None:
    """Keep the service's log from filling its pipe; show what a user should know."""
    async for line in lines:
        event = orjson.loads(line) if line.startswith(b"{") else {"level": "ERROR", "message": line.decode()}
        if event.get("level") != "INFO":
            console.print(event.get("message"), event.get("exc_info", ""), style="yellow", highlight=False)


def _free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
