"""fair: no job that could ever fit waits behind others for ever. Under `strict` nobody passes it at all."""

from typing import Any

from tests.conftest import Receiver, Service


async def test_small_jobs_do_not_pass_a_big_one(service: Service, receiver: Receiver) -> None:
    async def create(name: str, gpus: int, **data: Any) -> None:
        body = {"request_id": name, "owner_id": "y", "callback": f"{receiver.url}/{name}"}
        await service.call("POST", "/v1/vm/", {**body, "data": {"instances": [{"gpu": gpus}], **data}})

    for pool in ("p", "q"):
        await service.call("PUT", f"/queues/vm/pools/{pool}", {"hosts": {"n": {"gpu": 4}}})
    await create("running", 1, host_aggregate="p")
    await create("impossible", 5, host_aggregate="p")
    await create("big", 4, host_aggregate="p")
    for number in range(20):
        await create(f"small-{number}", 1, host_aggregate="p")
    await create("elsewhere", 4, host_aggregate="q")
    await service.settle()
    assert [path for path, _, _ in receiver.calls] == ["/running", "/elsewhere"]

    await service.call("DELETE", "/v1/vm/running")
    await service.settle()
    assert [path for path, _, _ in receiver.calls] == ["/running", "/elsewhere", "/big"]
    _, impossible = await service.call("GET", "/v1/vm/impossible")
    assert impossible["data"]["Reason"].startswith("never_fits: ")

    await service.call("DELETE", "/v1/vm/big")
    await service.settle()
    # They are called side by side, so in any order; those behind them are not.
    assert {path for path, _, _ in receiver.calls[3:]} == {f"/small-{number}" for number in range(4)}
