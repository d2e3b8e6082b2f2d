"""The client for code that is not async, on a running service, from threads."""

import asyncio
import gc
import inspect
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any

import pytest
from aiohttp import web

from rqueue.client import Client, Failed, SyncClient, connected_sync
from rqueue.client import client as clients
from tests.conftest import Receiver, Service


async def elsewhere(work: Callable[[], Any]) -> Any:
    """What blocks, in a thread; the service runs on the test's own loop."""
    return await asyncio.to_thread(work)


async def tidied() -> None:
    gc.collect()


def post(client: SyncClient, name: str) -> str:
    callback = f"http://127.0.0.1:9/{name}"
    return client.create("vm", owner_id="y", data={}, callback=callback, request_id=name).request_id


def test_it_has_each_method_of_the_other() -> None:
    def signatures(of: type) -> dict[str, str]:
        methods = inspect.getmembers(of, inspect.isfunction)
        told = {name: str(inspect.signature(method)) for name, method in methods if name[0] != "_"}
        return {name: text.replace("AsyncIterator", "Iterator") for name, text in told.items()}

    assert signatures(Client) == signatures(SyncClient)


async def test_each_call_waits_for_its_answer(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "PAGE", 2)

    def work() -> None:
        with connected_sync(service.url, "") as client:
            for name in "abc":
                assert post(client, name) == name
            drafts = [{"request_id": "d", "owner_id": "x", "data": {}, "callback": "http://127.0.0.1:9/d"}]
            assert [job.request_id for job in client.create_many("vm", drafts)] == ["d"]
            assert client.front("vm", "d").priority == client.get("vm", "d").priority
            client.back("vm", "a")
            client.move("vm", "c", before="b")
            assert [job.request_id for job in client.jobs("vm")] == ["d", "c", "b", "a"]
            assert [len(page) for page in client.pages("vm", owner_id="y")] == [2, 1]
            assert client.update("vm", "a", data={"x": 1}).data["x"] == 1
            assert client.configure("vm", {"paused": True}).settings["paused"]
            assert client.put_pool("vm", "default", {"hosts": {"n": {"slots": 1}}}).waiting == 4
            assert client.pool("vm", "default").name == "default"
            assert [queue.type for queue in client.queues()] == ["vm"]
            assert client.simulate("vm", moves=[{"request_id": "a", "position": "front"}])["admitted"] == []
            assert client.cancel("vm", "d").status == "cancelled"
            client.delete_pool("vm", "default")
            assert client.queue("vm").pools == ()
            for call in (client.confirm, client.done, client.requeue):
                with pytest.raises(Failed) as failed:
                    call("vm", "a")
                assert failed.value.code == "illegal_transition"

    await elsewhere(work)


async def test_threads_share_one(service: Service) -> None:
    def work() -> list[str]:
        with connected_sync(service.url, "") as client, ThreadPoolExecutor(8) as pool:
            names = [f"j{number}" for number in range(64)]
            assert list(pool.map(lambda name: post(client, name), names)) == names
            lists = list(pool.map(lambda _: len(list(client.jobs("vm"))), range(8)))
        assert lists == [64] * 8
        return names

    await elsewhere(work)
    assert not [thread for thread in threading.enumerate() if thread.name == "rqueue-client"]


async def test_lists_are_given_up_in_the_middle(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "PAGE", 1)

    def work() -> None:
        with connected_sync(service.url, "") as client:
            for name in "abc":
                post(client, name)
            for job in client.jobs("vm"):
                assert job.request_id == "a"
                break
            kept, left = client.jobs("vm"), client.jobs("vm")
            assert next(kept).request_id == next(left).request_id == "a"
            circle: list[Any] = [left]
            circle.append(circle)
            del left, circle
            # Memory may be tidied up in any thread, the client's own too, which cannot wait for itself.
            client._loop.run(tidied())
            assert next(kept).request_id == "b"
        with pytest.raises(RuntimeError, match="the client is closed"):
            next(kept)
        with pytest.raises(RuntimeError, match="the client is closed"):
            client.queues()

    await elsewhere(work)


async def test_who_waits_when_it_is_closed_is_told(receiver: Receiver) -> None:
    receiver.answer = lambda _: asyncio.sleep(30)
    waiting: list[BaseException] = []

    def ask(client: SyncClient) -> None:
        try:
            client.queues()
        except CancelledError as error:
            waiting.append(error)

    def work() -> None:
        with connected_sync(receiver.url, "", tries=1) as client:
            thread = threading.Thread(target=ask, args=(client,))
            thread.start()
            arrived.result(20)
        thread.join(20)

    arrived = asyncio.run_coroutine_threadsafe(receiver.until(1), asyncio.get_running_loop())
    await elsewhere(work)
    assert len(waiting) == 1


def test_an_interrupt_ends_the_wait() -> None:
    """In the main thread, as Ctrl-C does; nothing answers at this port, and nothing refuses."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began, main = time.monotonic(), threading.get_ident()
        threading.Timer(0.2, lambda: signal.pthread_kill(main, signal.SIGINT)).start()
        with connected_sync(url, "") as client:
            with pytest.raises(KeyboardInterrupt):
                client.queues()
            connection, _ = silent.accept()
            with connection:
                # Nobody waits for the answer any more.
                connection.settimeout(10)
                while connection.recv(1000):
                    pass
        assert time.monotonic() - began < 10


def test_what_cannot_be_asked_leaves_no_thread() -> None:
    with pytest.raises(Failed, match="RQUEUE_URL"), connected_sync("nowhere"):
        pass
    with pytest.raises(ZeroDivisionError), connected_sync("http://127.0.0.1:9"):
        raise ZeroDivisionError
    assert not [thread for thread in threading.enumerate() if thread.name == "rqueue-client"]


async def test_an_error_of_the_service_is_failed(receiver: Receiver) -> None:
    told = {"ok": False, "error": {"code": "forbidden", "message": "no", "field": "owner_id"}}
    receiver.answer = lambda _: web.json_response(told, status=403)

    def work() -> None:
        with connected_sync(receiver.url, "") as client, pytest.raises(Failed, match="no") as failed:
            list(client.jobs("vm"))
        assert (failed.value.status, failed.value.field) == (403, "owner_id")

    await elsewhere(work)
