"""Who may do what: every route, every role, and a job that is one's own, another's, or not there."""

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest
import yaml

from rqueue import files, tokens
from rqueue.domain.caller import Caller, Role
from rqueue.domain.job import DELETE, FINISH
from rqueue.errors import JobNotFound
from rqueue.web.auth import FAILURE_SECONDS, FAILURES
from rqueue.web.routes import LOGIN_ROUTES, RIGHTS, ROUTES
from tests.conftest import Service, config_of, new, serving
from tests.web.wire import Answer, ask, job, well_formed

OWN, OTHER = "own", "other"


@dataclass
class Guarded:
    """A service that asks who one is, and a token for each role; the client's is for one owner."""

    service: Service
    tokens: dict[str, str]
    file: Any

    async def ask(self, who: str, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        if who in self.tokens:
            headers["Authorization"] = f"Bearer {self.tokens[who]}"
        return await ask(self.service, method, path, body, headers=headers)


@asynccontextmanager
async def guarded(path: Any, namespace: str, redis_url: str, **config: Any) -> AsyncIterator[Guarded]:
    made = {}
    for role in Role:
        owners = (OWN,) if role == Role.CLIENT else ()
        made[str(role)], entry = tokens.make(str(role), role, (), owners)
        tokens.add(path, entry)
    config = {"tokens_file": path, "token_rate": 100_000, **config}
    async with serving(config_of(namespace, **config), redis_url) as service:
        yield Guarded(service, made, path)


@pytest.fixture
async def api(tmp_path: Any, redis_url: str, real_redis: Any, namespace: str) -> AsyncIterator[Guarded]:
    async with guarded(tmp_path / "tokens.yaml", namespace, redis_url) as found:
        await found.service.store.configure("vm", {"paused": True})
        yield found


def error_of(answer: Answer) -> dict[str, Any]:
    """The error of a refusal, which has the one shape."""
    found: dict[str, Any] = well_formed(answer)["error"]
    return found


async def until(condition: Callable[[], Any], pause: float = 0.01) -> None:
    """Wait until something is so; fails when it is not in time."""
    async with asyncio.timeout(20):
        while True:
            found = condition()
            if await found if asyncio.iscoroutine(found) else found:
                return
            await asyncio.sleep(pause)


# What each change answers for a job that is the client's own, another's, or missing.
READ, WRITE, MOVE = "RWM"
VIEW = {"viewer": 200, "client": 403, "operator": 200, "admin": 200}
ADMIN = {"viewer": 403, "client": 403, "operator": 403, "admin": 200}
PAUSE = {"viewer": 403, "client": 403, "operator": 200, "admin": 200}
CHANGES: dict[str, tuple[str, Any]] = {
    "get": (READ, None),
    "move": (MOVE, {"position": "front"}),
    "priority": (MOVE, {"priority": 5}),
    "data": (WRITE, {"data": {"project": "p"}}),
    "callback": (WRITE, {}),
    "requeue": (WRITE, {"status": "queued"}),
    "confirm": (WRITE, {"status": "running"}),
    "done": (WRITE, {"status": "done"}),
    "delete": (WRITE, None),
}
# What the status of the job, which waits, makes of a change that is allowed.
FOUND = {"requeue": 409, "confirm": 409, "done": 409}


def expected(role: str, change: str, whose: str) -> int:
    right = CHANGES[change][0]
    if (role == "viewer" and right != READ) or (role == "client" and right == MOVE):
        return 403
    if whose == "missing" or (role == "client" and whose == OTHER):
        return 404
    return FOUND.get(change, 200)


@pytest.mark.parametrize(("role", "change"), list(product(Role, CHANGES)))
async def test_each_role_may_do_its_part_with_each_job(api: Guarded, role: str, change: str) -> None:
    await api.service.store.create("vm", [new(OWN, OWN), new(OTHER, OTHER), new("last", OTHER)])
    method = {"get": "GET", "delete": "DELETE"}.get(change, "POST")
    said = {}
    for whose in (OWN, OTHER, "missing"):
        body = {"callback": f"new-{whose}"} if change == "callback" else CHANGES[change][1]
        answer = await api.ask(role, method, f"/v1/vm/{whose}", body)
        assert answer.status == expected(role, change, whose), answer.text
        said[whose] = answer.text.replace(whose, "…")
        assert answer.headers["Content-Type"] == "application/json"
    if role == "client":
        assert said[OTHER] == said["missing"]
    there = {name: (await api.service.store.get("vm", name)).status for name in (OWN, OTHER)}
    changed = change == "delete" and role != "viewer"
    assert there[OWN] == ("cancelled" if changed else "queued")
    assert there[OTHER] == ("cancelled" if changed and role != "client" else "queued")


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize(
    ("method", "path", "body", "statuses"),
    [
        ("GET", "/v1/vm/", None, dict.fromkeys(Role, 200)),
        ("POST", "/v1/vm/", job(owner_id=OWN), dict.fromkeys(Role, 201) | {Role.VIEWER: 403}),
        (
            "POST",
            "/v1/vm/",
            job(owner_id=OTHER),
            {"viewer": 403, "client": 403, "operator": 201, "admin": 201},
        ),
        ("POST", "/v1/vm/", job(owner_id=OWN, priority=1), {**PAUSE, "operator": 201, "admin": 201}),
        ("GET", "/queues/", None, VIEW),
        ("GET", "/queues/vm", None, VIEW),
        ("PUT", "/queues/vm", {"paused": True}, PAUSE),
        ("PUT", "/queues/vm", {"paused": True, "retention": 5}, ADMIN),
        ("PUT", "/queues/vm/pools/new", {"hosts": {}}, ADMIN),
        ("GET", "/queues/vm/pools/p", None, VIEW),
        ("DELETE", "/queues/vm/pools/p", None, ADMIN),
        ("GET", "/inbox/", None, VIEW),
        ("GET", "/board/session", None, dict.fromkeys(Role, 200)),
        ("GET", "/healthz", None, dict.fromkeys(Role, 200)),
    ],
)
async def test_each_role_may_do_its_part_with_the_rest(
    api: Guarded, role: str, method: str, path: str, body: Any, statuses: dict[str, int]
) -> None:
    await api.ask("admin", "PUT", "/queues/vm/pools/p", {"hosts": {"n": {"slots": 1}}})
    answer = await api.ask(role, method, path, body)
    assert answer.status == statuses[role], answer.text
    if answer.status == 403:
        assert error_of(answer)["code"] == "forbidden"


async def test_every_route_but_the_open_ones_asks_who_one_is(api: Guarded) -> None:
    open_to_all = {"/healthz", "/readyz", "/openapi.json", "/board/login", "/board/logout"}
    pages = re.compile("/(board|docs)/(vendor/)?({file.*)?")
    for method, path, handler, right in (*ROUTES, *LOGIN_ROUTES):
        is_open = path in open_to_all or pages.fullmatch(path) is not None
        assert is_open == (right is None)
        assert RIGHTS[handler] is right
        written = re.sub("{(type|request_id|pool|file).*?}", "a", path)
        answer = await api.ask("nobody", method, written, {} if method in ("PUT", "POST") else None)
        if not is_open:
            assert (answer.status, error_of(answer)["code"]) == (401, "unauthenticated")
            assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer x", "bearer \udcff", "Basic YTpi", "Bearer " + "x" * 7000, "x"]
)
async def test_what_is_no_known_token_is_401(api: Guarded, header: str) -> None:
    answer = await api.ask("nobody", "GET", "/v1/vm/", Authorization=header)
    assert (answer.status, error_of(answer)["code"]) == (401, "unauthenticated")


async def test_a_client_lists_what_is_its_own(api: Guarded) -> None:
    drafts = [new(f"j{n}", (OWN, OTHER)[n % 2]) for n in range(250)]
    await api.service.store.create("vm", drafts)
    for name in ("j0", "j1", "j2", "j3"):
        await api.service.store.transition("vm", name, DELETE)
    own = [f"j{n}" for n in range(4, 250, 2)]
    for query, found in (
        ("", own),
        (f"?owner_id={OWN}", own),
        ("?status=queued", own),
        ("?status=running", []),
        ("?status=cancelled", ["j0", "j2"]),
    ):
        data = (await api.ask("client", "GET", f"/v1/vm/{query}")).data
        assert [one["RequestID"] for one in data] == found
    paged, cursor = [], ""
    while cursor is not None:
        page = (await api.ask("client", "GET", f"/v1/vm/?limit=7&cursor={cursor}")).json
        paged += [one["RequestID"] for one in page["data"]]
        cursor = page["next"]
    assert paged == own
    for owner in (OTHER, "nobody-there"):
        assert (await api.ask("client", "GET", f"/v1/vm/?owner_id={owner}")).status == 403
    assert len((await api.ask("viewer", "GET", f"/v1/vm/?owner_id={OTHER}")).data) == 123


@pytest.mark.parametrize("status", ["running", "cancelled", "done"])
async def test_another_s_job_is_not_there_whatever_its_status(api: Guarded, status: str) -> None:
    store = api.service.store
    await api.ask("admin", "POST", "/v1/vm/", job(OTHER, owner_id=OTHER))
    if status != "cancelled":
        await api.ask("admin", "PUT", "/queues/vm/pools/default", {"hosts": {"n": {"slots": 1}}})
        await api.ask("admin", "PUT", "/queues/vm", {"paused": False})

        async def runs() -> bool:
            return (await store.get("vm", OTHER)).status == "running"

        await until(runs)
    if status != "running":
        await store.transition("vm", OTHER, DELETE)
    before = await store.get("vm", OTHER)
    assert before.status == status
    for change, (right, body) in CHANGES.items():
        method = {"get": "GET", "delete": "DELETE"}.get(change, "POST")
        for name in (OTHER, "missing"):
            written = {"callback": f"new-{name}"} if change == "callback" else body
            answer = await api.ask(
                "client", method, f"/v1/vm/{name}", written, Prefer="return=representation"
            )
            assert answer.status == (403 if right == MOVE else 404), change
            assert answer.text.count(name) == (0 if right == MOVE else 1)
    assert await store.get("vm", OTHER) == before


async def test_a_client_of_several_owners_lists_them_in_one_order(
    tmp_path: Any, redis_url: str, real_redis: Any, namespace: str
) -> None:
    token, entry = tokens.make("two", "client", (), ("a", "b"))
    tokens.add(tmp_path / "t", entry)
    async with serving(config_of(namespace, tokens_file=tmp_path / "t"), redis_url) as service:
        await service.store.create("vm", [new(f"j{n}", "abc"[n % 3]) for n in range(300)])
        await service.store.move("vm", "j4", "front")
        answer = await ask(service, "GET", "/v1/vm/", headers={"Authorization": f"Bearer {token}"})
        assert [one["RequestID"] for one in answer.data] == ["j4"] + [
            f"j{n}" for n in range(300) if n % 3 < 2 and n != 4
        ]


async def test_a_client_does_not_hear_whose_a_callback_is(api: Guarded) -> None:
    await api.ask("admin", "POST", "/v1/vm/", job("secret-name", owner_id=OTHER, callback="taken"))
    await api.ask("client", "POST", "/v1/vm/", job("mine", owner_id=OWN))
    for method, path, body in (
        ("POST", "/v1/vm/", job("b", owner_id=OWN, callback="taken")),
        ("POST", "/v1/vm/", [job("b", owner_id=OWN, callback="taken")]),
        ("POST", "/v1/vm/mine", {"callback": "taken"}),
    ):
        answer = await api.ask("client", method, path, body)
        assert answer.status == 409
        assert "secret-name" not in answer.text
    answer = await api.ask("client", "POST", "/v1/vm/", job("b", owner_id=OWN, callback="cb-mine"))
    assert "'mine'" in error_of(answer)["message"]


async def test_of_an_array_with_one_job_of_another_none_is_created(api: Guarded) -> None:
    answer = await api.ask("client", "POST", "/v1/vm/", [job("a", owner_id=OWN), job("b", owner_id=OTHER)])
    assert (answer.status, error_of(answer)["field"]) == (403, "1.owner_id")
    assert (await api.ask("admin", "GET", "/v1/vm/")).data == []


CLIENT = Caller("client", Role.CLIENT, owners=[OWN])


@pytest.mark.parametrize(
    "ask_for",
    [
        lambda store, name: store.get("vm", name, CLIENT),
        lambda store, name: store.transition("vm", name, FINISH, caller=CLIENT),
        lambda store, name: store.transition("vm", name, DELETE, claim_ms=1000, caller=CLIENT),
        lambda store, name: store.update("vm", name, "new", None, CLIENT),
        lambda store, name: store.update("vm", name, None, new("x"), CLIENT),
    ],
)
async def test_time_does_not_tell_another_s_job_from_a_missing_one(
    real_store: Any, real_redis: Any, ask_for: Any
) -> None:
    """Seen by what takes the time: Redis does the same for both, command by command."""
    await real_store.create("vm", [new(OTHER, OTHER), new(OWN, OWN)])
    done = []
    for name in (OTHER, "missing"):
        with suppress(JobNotFound):
            await ask_for(real_store, name)  # the script is loaded
        await real_redis.config_resetstat()
        with pytest.raises(JobNotFound):
            await ask_for(real_store, name)
        stats = await real_redis.info("commandstats")
        # Not what connections say of themselves when they open.
        asked = {command.removeprefix("cmdstat_"): said["calls"] for command, said in stats.items()}
        done.append(
            {name: n for name, n in asked.items() if "|" not in name and name not in ("hello", "info")}
        )
    assert done == [{"evalsha": 1, "hget": 1}] * 2


async def test_a_token_is_for_its_types(
    tmp_path: Any, redis_url: str, real_redis: Any, namespace: str
) -> None:
    token, entry = tokens.make("gpus", "admin", ("gpu",), ())
    tokens.add(tmp_path / "t", entry)
    async with serving(config_of(namespace, tokens_file=tmp_path / "t"), redis_url) as service:
        await service.store.configure("vm", {"paused": True})
        await service.store.configure("gpu", {"paused": True})
        said = {"headers": {"Authorization": f"Bearer {token}"}}
        assert [one["type"] for one in (await ask(service, "GET", "/queues/", **said)).data] == ["gpu"]
        for method, path, _, _ in ROUTES:
            if "{type}" in path:
                for type_ in ("vm", "nothing"):
                    written = path.format(type=type_, request_id="a", pool="p")
                    answer = await ask(service, method, written, {} if method != "GET" else None, **said)
                    assert (answer.status, error_of(answer)["code"]) == (403, "forbidden")
        assert (await ask(service, "GET", "/v1/gpu/", **said)).status == 200


@pytest.mark.parametrize("path", ["/inbox/", "/metrics"])
async def test_what_tells_of_all_types_is_not_for_who_is_bound_to_some(
    tmp_path: Any, redis_url: str, real_redis: Any, namespace: str, path: str
) -> None:
    for name, types in (("some", ("gpu",)), ("all", ())):
        token, entry = tokens.make(name, "viewer", types, ())
        tokens.add(tmp_path / "t", entry)
        async with serving(config_of(namespace, tokens_file=str(tmp_path / "t")), redis_url) as service:
            answer = await ask(service, "GET", path, headers={"Authorization": f"Bearer {token}"})
        assert answer.status == (403 if types else 200)


@pytest.mark.parametrize("names", list(product(("Authorization", "X-Auth-Token"), repeat=2)))
async def test_of_two_tokens_none_is_taken(api: Guarded, names: tuple[str, str]) -> None:
    """What stands before the service may have looked at the other one."""
    values = {"Authorization": "Bearer {}", "X-Auth-Token": "{}"}
    headers = [(name, values[name].format(api.tokens["admin"])) for name in names]
    answer = await ask(api.service, "GET", "/queues/", headers=headers)
    assert (answer.status, error_of(answer)["code"]) == (401, "unauthenticated")
    assert (await ask(api.service, "GET", "/queues/", headers=headers[:1])).status == 200


async def test_a_cursor_of_one_s_own_making_finds_no_job_of_another(api: Guarded) -> None:
    """A cursor follows a job whose rank has changed; of another's, that would tell that it is there."""
    drafts = [new("a", OWN, 5), new("x", OTHER, 5), new("b", OWN, 5)]
    (_, foreign, last), _ = await api.service.store.create("vm", drafts)
    for name, job_, found in (("x", foreign, ["a", "b"]), ("b", last, [])):
        place = f"{job_.updated_at}:5:{'0' * 14}:{name}"
        cursor = base64.urlsafe_b64encode(place.encode()).decode()
        answer = await api.ask("client", "GET", f"/v1/vm/?limit=9&cursor={cursor}")
        assert [one["RequestID"] for one in answer.data] == found


async def test_a_list_shows_who_is_bound_to_owners_no_other_by_its_search_or_position(api: Guarded) -> None:
    await api.service.store.create("vm", [new("a", OWN), new("ax", OTHER)])
    for query in ("?search=a&limit=9", "?limit=9&standing=true"):
        assert [one["RequestID"] for one in (await api.ask("client", "GET", f"/v1/vm/{query}")).data] == ["a"]
    answer = await api.ask("client", "GET", "/v1/vm/?status=queued&position=0&limit=9")
    assert (answer.status, error_of(answer)["field"]) == (403, "position")


async def test_events_say_who_did_it(api: Guarded, real_redis: Any, namespace: str) -> None:
    await api.ask("admin", "PUT", "/queues/vm/pools/default", {"hosts": {"n": {"slots": 1}}})
    await api.ask("admin", "PUT", "/queues/vm", {"retention": 100})
    await api.ask("client", "POST", "/v1/vm/", job("a", owner_id=OWN))
    await api.ask("client", "POST", "/v1/vm/", job("b", owner_id=OWN))
    await api.ask("operator", "POST", "/v1/vm/b", {"position": "front"})
    await api.ask("client", "POST", "/v1/vm/b", {"data": {}})
    await api.ask("client", "DELETE", "/v1/vm/b")
    await api.ask("admin", "DELETE", "/queues/vm/pools/default")
    events = [event for _, event in await real_redis.xrange(f"{namespace}:{{vm}}:events")]
    found = [(event["what"], event.get("request_id", ""), event.get("actor")) for event in events]
    assert found == [
        ("settings", "", None),  # by the fixture
        ("capacity", "", "admin"),
        ("settings", "", "admin"),
        ("created", "a", "client"),
        ("created", "b", "client"),
        ("moved", "b", "operator"),
        ("updated", "b", "client"),
        ("cancelled", "b", "client"),
        ("capacity", "", "admin"),
    ]


async def test_a_token_may_come_only_so_often(
    tmp_path: Any, redis_url: str, real_redis: Any, namespace: str
) -> None:
    async with guarded(tmp_path / "t", namespace, redis_url, token_rate=5) as api:
        answers = await asyncio.gather(*(api.ask("client", "GET", "/v1/vm/") for _ in range(30)))
        refused = [answer for answer in answers if answer.status != 200]
        assert refused
        assert {error_of(answer)["code"] for answer in refused} == {"rate_limited"}
        assert refused[0].status == 429
        assert refused[0].headers["Retry-After"] == "1"
        # Another token is not held up.
        assert (await api.ask("admin", "GET", "/v1/vm/")).status == 200


async def test_an_entry_may_say_how_often(
    tmp_path: Any, redis_url: str, real_redis: Any, namespace: str
) -> None:
    token, entry = tokens.make("slow", "client", (), ())
    tokens.add(tmp_path / "t", entry + "  rate: 1\n")
    async with serving(config_of(namespace, tokens_file=tmp_path / "t"), redis_url) as service:
        said = {"headers": {"Authorization": f"Bearer {token}"}}
        answers = await asyncio.gather(*(ask(service, "GET", "/v1/vm/", **said) for _ in range(20)))
        assert {answer.status for answer in answers} == {200, 429}
        refused = [answer for answer in answers if answer.status == 429]
        assert error_of(refused[0])["message"] == "slow may send 1 requests a second"


async def test_guesses_are_refused_and_good_tokens_are_not_held_up(
    api: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    guess = {"Authorization": "Bearer rq_guess"}
    statuses = [(await api.ask("nobody", "GET", "/v1/vm/", **guess)).status for _ in range(FAILURES + 3)]
    assert statuses == [401] * FAILURES + [429] * 3
    held = await api.ask("nobody", "GET", "/v1/vm/", **guess)
    assert held.headers["Retry-After"] == str(FAILURE_SECONDS)
    assert "further ones are not looked at" in caplog.text
    # Who shows no token guesses nothing.
    assert (await api.ask("nobody", "GET", "/v1/vm/")).status == 401
    assert (await api.ask("client", "GET", "/v1/vm/")).status == 200


async def test_rotating_tokens_under_load_loses_no_request(
    api: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new token beside the old one, the client takes it, the old one goes: not one request fails."""
    monkeypatch.setattr(files, "LOOK_SECONDS", 0.01)
    statuses: list[int] = []
    stop = asyncio.Event()

    async def client() -> None:
        n = 0
        while not stop.is_set():
            answer = await api.ask("client", "POST", "/v1/vm/", job(f"{id(client)}-{n}", owner_id=OWN))
            statuses.append(answer.status)
            n += 1

    async def known(token: str, status: int) -> None:
        async def said() -> bool:
            headers = {"Authorization": f"Bearer {token}"}
            return (await api.ask("nobody", "GET", "/board/session", **headers)).status == status

        # Guesses of a token that is not known yet come to an end.
        await until(said, 0.5)

    load = asyncio.create_task(client())
    for turn in range(3):
        old = api.tokens["client"]
        token, entry = tokens.make(f"client-{turn}", "client", (), (OWN,))
        tokens.add(api.file, entry)
        await known(token, 200)
        api.tokens["client"] = token
        written = yaml.safe_load(api.file.read_text())
        digest = tokens.digest_of(old).hex()
        written["tokens"] = [one for one in written["tokens"] if one["sha256"] != digest]
        enough = len(statuses) + 2
        await until(lambda enough=enough: len(statuses) >= enough)
        api.file.write_text(yaml.safe_dump(written))
        await known(old, 401)
    stop.set()
    await load
    assert set(statuses) == {201}
    assert len(statuses) > 10
    assert len(
        await api.service.store._redis.call("KEYS", f"{api.service.store._keys.of('vm', 'job:')}*")
    ) == len(statuses)


async def test_a_broken_tokens_file_leaves_the_old_one_in_use(
    api: Guarded, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(files, "LOOK_SECONDS", 0.01)
    api.file.write_text("tokens: [{name: x, role: king, sha256: deadbeef}]")
    await until(lambda: "RQUEUE_TOKENS_FILE" in caplog.text)
    assert "deadbeef" not in caplog.text
    assert (await api.ask("client", "GET", "/v1/vm/")).status == 200


async def test_no_token_is_no_guess(api: Guarded) -> None:
    statuses = {(await api.ask("nobody", "GET", "/v1/vm/")).status for _ in range(FAILURES + 5)}
    assert statuses == {401}


async def test_accounts_that_nobody_is_asked_about_are_said(
    tmp_path: Any, redis_url: str, real_redis: Any, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "t").write_text("tokens: [{name: a, role: admin, service_account: ns/a}]")
    async with serving(config_of(namespace, tokens_file=tmp_path / "t"), redis_url):
        assert "RQUEUE_AUTH_KUBERNETES is not true" in caplog.text


async def test_with_tokens_a_client_may_not_have_loopback_called_but_the_inbox(
    tmp_path: Any, redis_url: str, real_redis: Any, namespace: str
) -> None:
    async with guarded(tmp_path / "t", namespace, redis_url, callback_allow=()) as api:
        other = api.service.url.rpartition(":")[0]
        for callback in (f"{other}:1/x", "http://localhost:1/x", "http://[::1]:1/x"):
            answer = await api.ask("client", "POST", "/v1/vm/", job("a", owner_id=OWN, callback=callback))
            if "localhost" not in callback:  # a name is resolved when it is called
                assert (answer.status, error_of(answer)["code"]) == (422, "invalid_callback")
        pool = {"hosts": {"h": {"slots": 5}}}
        await api.ask("admin", "PUT", "/queues/vm/pools/default", pool)
        await api.ask("client", "POST", "/v1/vm/", job("b", owner_id=OWN, callback="abc"))
        await until(lambda: _has(api, "b", "Status", "running"))
        await until(lambda: _has(api, "a", "LastError"))
        assert "must not be called" in (await api.ask("client", "GET", "/v1/vm/a")).data["LastError"]


async def _has(api: Guarded, name: str, field: str, value: str | None = None) -> bool:
    found = (await api.ask("admin", "GET", f"/v1/vm/{name}")).data
    return field in found and value in (None, found[field])


# --- the board's session ------------------------------------------------------------------------------


async def test_the_board_logs_in_by_a_cookie_and_shows_that_a_change_is_its_own(api: Guarded) -> None:
    login = await api.ask("nobody", "POST", "/board/login", {"token": api.tokens["operator"]})
    cookie = login.headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    assert "Secure" not in cookie
    session = login.data
    assert (session["name"], session["role"]) == ("operator", "operator")
    jar = {"Cookie": cookie.split(";")[0]}
    # aiohttp's client keeps cookies of its own: only what is written here is to count.
    api.service.client.cookie_jar.clear()
    assert (await api.ask("nobody", "GET", "/board/session", **jar)).data == session
    for token, status in (("", 403), ("0" * 64, 403), (session["csrf"], 200)):
        answer = await api.ask(
            "nobody",
            "PUT",
            "/queues/vm",
            {"paused": True},
            **jar,
            **({"X-CSRF-Token": token} if token else {}),
        )
        assert answer.status == status
        api.service.client.cookie_jar.clear()
    logout = await api.ask("nobody", "POST", "/board/logout", **jar)
    counted = (await api.ask("viewer", "GET", "/metrics")).text
    assert 'rqueue_http_requests_total{method="POST",route="/board/login",status="200"}' in counted
    assert 'rqueue_session=""' in logout.headers["Set-Cookie"]


@pytest.mark.parametrize("forwarded", ["https", "https, http"])
async def test_behind_https_the_cookie_is_secure(api: Guarded, forwarded: str) -> None:
    login = await api.ask(
        "nobody", "POST", "/board/login", {"token": api.tokens["admin"]}, **{"X-Forwarded-Proto": forwarded}
    )
    assert "Secure" in login.headers["Set-Cookie"]


@pytest.mark.parametrize(
    "body", [{}, [], {"token": 1}, {"token": ""}, {"token": "x" * 9000}, {"token": "x", "y": 1}]
)
async def test_a_login_that_cannot_be_read_is_422(api: Guarded, body: Any) -> None:
    assert (await api.ask("nobody", "POST", "/board/login", body)).status == 422


async def test_a_login_says_that_it_is_json(api: Guarded) -> None:
    """A page elsewhere may send a body without a type, or as text, without asking first."""
    written = f'{{"token": "{api.tokens["admin"]}"}}'
    for type_ in ({}, {"Content-Type": "text/plain"}):
        answer = await ask(api.service, "POST", "/board/login", written.encode(), headers=type_)
        assert answer.status == 415
        assert "Set-Cookie" not in answer.headers


async def test_a_login_with_an_unknown_token_is_401(api: Guarded) -> None:
    answer = await api.ask("nobody", "POST", "/board/login", {"token": "rq_x"})
    assert answer.status == 401
    assert "Set-Cookie" not in answer.headers


async def test_without_a_tokens_file_there_is_no_login_and_anyone_is_admin(service: Service) -> None:
    assert (await ask(service, "POST", "/board/login", {"token": "x"})).status == 404
    session = (await ask(service, "GET", "/board/session")).data
    assert (session["name"], session["role"], session["csrf"]) == ("", "admin", "")
