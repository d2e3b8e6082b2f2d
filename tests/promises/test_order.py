"""order: the line is a total order; every move succeeds, exactly where asked, and touches nobody else."""

from typing import Any

import pytest

from tests.conftest import Service

BOUND = 2**53 - 1


async def create(service: Service, *request_ids: str, **fields: Any) -> None:
    bodies = [
        {"request_id": i, "owner_id": "y", "callback": f"http://127.0.0.1:9/{i}", **fields}
        for i in request_ids
    ]
    assert (await service.call("POST", "/v1/vm/", bodies))[0] == 201


async def line(service: Service) -> dict[str, int]:
    """request_id → priority, in order."""
    _, answer = await service.call("GET", "/v1/vm/?status=queued")
    return {job["RequestID"]: job["Priority"] for job in answer["data"]}


async def move(service: Service, request_id: str, **where: Any) -> None:
    status, answer = await service.call("POST", f"/v1/vm/{request_id}", where)
    assert (status, answer) == (200, {"data": {}, "ok": True})


async def test_equals_are_served_in_the_order_in_which_they_came(service: Service) -> None:
    names = [f"job-{n}" for n in range(12)]
    for name in names:
        await create(service, name, priority=7)
    assert list(await line(service)) == names


async def test_front_back_and_between_are_the_numbers_of_the_seed(service: Service) -> None:
    await create(service, "a", priority=10)
    await create(service, "b", priority=21)
    await create(service, "c", priority=40)
    await move(service, "c", position="front")
    assert await line(service) == {"c": 9, "a": 10, "b": 21}
    await move(service, "c", position="back")
    assert await line(service) == {"a": 10, "b": 21, "c": 22}
    await move(service, "c", after="a", before="b")
    assert list((await line(service)).items()) == [("a", 10), ("c", 15), ("b", 21)]


async def test_there_is_room_however_often(service: Service) -> None:
    await create(service, "a", "b", priority=5)
    before = await line(service)
    names = [f"x{n}" for n in range(300)]
    await create(service, *names)
    for name, follower in zip(names, ["b", *names], strict=False):
        await move(service, name, after="a", before=follower)
    after = await line(service)
    assert list(after) == ["a", *reversed(names), "b"]
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize(("edge", "position"), [(-BOUND, "front"), (BOUND, "back")])
async def test_there_is_room_at_the_ends_of_the_numbers(service: Service, edge: int, position: str) -> None:
    await create(service, "edge", priority=edge)
    names = [f"x{n}" for n in range(60)]
    await create(service, *names, priority=0)
    for name in names:
        await move(service, name, position=position)
    order = list(await line(service))
    expected = [*reversed(names), "edge"] if position == "front" else ["edge", *names]
    assert order == expected


async def test_a_repeated_move_changes_nothing(service: Service) -> None:
    await create(service, "a", "b", "c")
    for where in (
        {"position": "front"},
        {"after": "a"},
        {"before": "a"},
        {"after": "a", "before": "c"},
        {"priority": 3},
    ):
        await move(service, "b", **where)
        once = await line(service)
        await move(service, "b", **where)
        assert await line(service) == once
