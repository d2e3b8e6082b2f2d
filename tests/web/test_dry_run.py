"""?dry_run=true: the answer of the real call, and nothing of what it does."""

import pytest

from tests.store.test_dry import everything
from tests.web.wire import ask, job

CHANGES = [
    ("POST", "/v1/vm/", job("new")),
    ("POST", "/v1/vm/", [job("n1"), job("n2", priority=1)]),
    ("POST", "/v1/vm/", job("a")),
    ("POST", "/v1/vm/", [job("n1"), job("n1")]),
    ("POST", "/v1/vm/c", {"position": "front"}),
    ("POST", "/v1/vm/c", {"priority": 7}),
    ("POST", "/v1/vm/c", {"before": "b"}),
    ("POST", "/v1/vm/c", {"after": "c"}),
    ("POST", "/v1/vm/c", {"after": "a"}),
    ("POST", "/v1/vm/c", {"status": "done"}),
    ("POST", "/v1/vm/c", {"data": {"instances": [{"slots": 9}]}}),
    ("POST", "/v1/vm/c", {"callback": "cb-b"}),
    ("POST", "/v1/vm/c", {"callback": "cb-new"}),
    ("POST", "/v1/vm/c", {"nonsense": 1}),
    ("POST", "/v1/vm/a", {"status": "running"}),
    ("POST", "/v1/vm/a", {"status": "done"}),
    ("POST", "/v1/vm/a", {"status": "queued"}),
    ("POST", "/v1/vm/missing", {"position": "front"}),
    ("DELETE", "/v1/vm/a", None),
    ("DELETE", "/v1/vm/c", None),
    ("DELETE", "/v1/vm/missing", None),
]


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
async def test_it_answers_what_the_change_would_and_changes_nothing(
    service, real_redis, namespace, receiver, method, path, body
):
    """`a` runs on the one slot there is, `b` and `c` wait for it."""
    await ask(service, "PUT", "/queues/vm/pools/default", {"hosts": {"h": {"slots": 1}}})
    await ask(service, "POST", "/v1/vm/", job("a", callback=receiver.url))
    await service.settle()
    await ask(service, "POST", "/v1/vm/", [job("b"), job("c")])
    await service.settle()
    before = await everything(real_redis, namespace)
    tried = await ask(service, method, path + "?dry_run=true", body)
    await service.settle()
    assert await everything(real_redis, namespace) == before
    assert len(receiver.calls) == 1
    done = await ask(service, method, path, body, headers={"Prefer": "return=representation"})
    assert tried.status == done.status
    if done.status >= 400:
        assert tried.json == done.json
        return
    for would, is_ in zip(*(d if isinstance(d, list) else [d] for d in (tried.data, done.data)), strict=True):
        assert is_.items() <= would.items()
        assert ("Position" in would) == (would["Status"] == "queued")


@pytest.mark.parametrize(
    "query", ["dry_run=yes", "dry_run=", "dry_run", "dryrun=true", "dry_run=true&dry_run=true"]
)
async def test_what_is_misspelt_changes_nothing(service, real_redis, namespace, query):
    await ask(service, "POST", "/v1/vm/", job("a"))
    await service.settle()
    before = await everything(real_redis, namespace)
    for method, path, body in (
        ("POST", "/v1/vm/", job("b")),
        ("POST", "/v1/vm/a", {"position": "front"}),
        ("POST", "/v1/vm/a", {"status": "queued"}),
        ("DELETE", "/v1/vm/a", None),
    ):
        assert (await ask(service, method, f"{path}?{query}", body)).status == 422
    assert await everything(real_redis, namespace) == before


async def test_false_is_the_real_call(service):
    await ask(service, "POST", "/v1/vm/?dry_run=false", job("a"))
    assert (await ask(service, "DELETE", "/v1/vm/a?dry_run=false")).data == {}
    assert (await ask(service, "GET", "/v1/vm/a")).data["Status"] == "cancelled"
