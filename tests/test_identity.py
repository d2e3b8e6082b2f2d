"""Who a token speaks for, as others say it: what is remembered of it, ServiceAccounts, and Keystone."""

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from rqueue import files, identity, tokens
from rqueue.domain.caller import Caller, Role
from rqueue.errors import IdentityUnavailable, RateLimited, Unauthenticated
from rqueue.web import auth
from rqueue.web.auth import FAILURES, RECENT_SECONDS, REVIEWED, REVIEWED_SECONDS, Auth
from tests import cluster as clusters
from tests import keystone as keystones
from tests.conftest import Service, config_of, serving
from tests.process import SERVE
from tests.web.wire import Answer, ask, job, refused

HERE, THERE = "10.0.0.1", "10.0.0.2"


# --- what is remembered ---------------------------------------------------------------------------------


class Others:
    """Someone who knows some tokens, and is asked so often; and a clock that a test turns."""

    def __init__(self) -> None:
        self.known: dict[str, identity.Identity] = {"good": Caller("good", Role.CLIENT)}
        self.asked: list[str] = []
        self.at_once = self.most_at_once = 0
        self.go = asyncio.Event()
        self.go.set()
        self.now = 0.0
        self.tokens = tokens.Tokens()
        self.auth = Auth(lambda: self.tokens, [self.review], 1000, lambda: self.now)

    async def review(self, token: str) -> identity.Identity | None:
        self.asked.append(token)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.go.wait()
            return self.known.get(token)
        finally:
            self.at_once -= 1

    async def until_asked(self, times: int) -> None:
        async def asked() -> bool:
            return len(self.asked) >= times

        await until(asked)

    async def says(self, token: str, remote: str = HERE) -> str:
        try:
            return (await self.auth.known(token, remote)).name
        except (Unauthenticated, RateLimited, IdentityUnavailable) as error:
            return error.code


async def test_an_answer_is_remembered_for_a_minute_and_not_longer() -> None:
    others = Others()
    assert await others.says("good") == "good"
    del others.known["good"]
    others.now = REVIEWED_SECONDS - 0.1
    assert await others.says("good") == "good"
    assert others.asked == ["good"]
    others.now = REVIEWED_SECONDS + 0.1
    assert await others.says("good") == "unauthenticated"


async def test_that_a_token_is_not_good_is_remembered_as_long() -> None:
    others = Others()
    assert [await others.says("late") for _ in range(3)] == ["unauthenticated"] * 3
    assert others.asked == ["late"]
    others.known["late"] = Caller("late", Role.CLIENT)
    others.now = REVIEWED_SECONDS + 0.1
    assert await others.says("late") == "late"


async def test_requests_that_come_at_once_ask_once() -> None:
    others = Others()
    others.go.clear()
    sent = [asyncio.create_task(others.says("good")) for _ in range(50)]
    await others.until_asked(1)
    # One that gives up takes the answer from no other.
    sent[0].cancel()
    others.go.set()
    said = await asyncio.gather(*sent, return_exceptions=True)
    assert isinstance(said[0], asyncio.CancelledError)
    assert said[1:] == ["good"] * 49
    assert others.asked == ["good"]


async def test_no_number_of_strangers_drives_out_what_is_known() -> None:
    others = Others()
    assert await others.says("good") == "good"
    for n in range(REVIEWED + 100):
        assert (
            await others.says(f"x{n}", f"10.{n % 100}.{n // 100 % 250}.1{n // 25_000}") == "unauthenticated"
        )
    others.asked.clear()
    assert await others.says("good") == "good"
    assert others.asked == []


async def test_unknown_tokens_that_come_at_once_are_asked_about_so_far_only() -> None:
    """The limit is on what fails, and what has not failed yet must not get around it."""
    others = Others()
    others.go.clear()
    sent = [asyncio.create_task(others.says(f"x{n}")) for n in range(1000)]
    await others.until_asked(identity.REVIEWS_AT_ONCE)
    others.go.set()
    said = await asyncio.gather(*sent)
    assert said.count("unauthenticated") == FAILURES
    assert said.count("rate_limited") == 1000 - FAILURES
    assert others.most_at_once == identity.REVIEWS_AT_ONCE
    assert len(others.asked) <= FAILURES + identity.REVIEWS_AT_ONCE


async def test_guesses_hold_up_no_token_that_was_good_within_the_hour() -> None:
    others = Others()
    assert await others.says("good") == "good"
    others.known["new"] = Caller("new", Role.CLIENT)
    for minute in range(3):
        others.now += REVIEWED_SECONDS + 1
        for n in range(FAILURES):
            await others.says(f"x{minute}-{n}")
        assert await others.says("x") == "rate_limited"
        assert await others.says("good") == "good"
        assert await others.says("new") == "rate_limited"
        assert await others.says("new", THERE) == "new"
        del others.auth._recent[tokens.digest_of("new")], others.auth._vouched[tokens.digest_of("new")]
    others.now += RECENT_SECONDS + 1
    for n in range(FAILURES):
        await others.says(f"y{n}")
    assert await others.says("good") == "rate_limited"


@pytest.mark.parametrize(
    ("one", "another", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::7", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
        ("", "10.0.0.1", False),
    ],
)
async def test_what_one_host_can_give_itself_is_one_address(one: str, another: str, same: bool) -> None:
    others = Others()
    for n in range(FAILURES):
        await others.says(f"x{n}", one)
    assert await others.says("y", another) == ("rate_limited" if same else "unauthenticated")


async def test_an_account_s_role_is_that_of_the_file_as_it_is_now() -> None:
    others = Others()
    others.known["a.b.c"] = "ns/name"
    assert await others.says("a.b.c") == "unauthenticated"
    others.tokens = tokens.Tokens(by_account={"ns/name": Caller("admin", Role.ADMIN)})
    assert await others.says("a.b.c") == "admin"
    others.tokens = tokens.Tokens(by_account={"ns/name": Caller("viewer", Role.VIEWER)})
    assert await others.says("a.b.c") == "viewer"
    others.tokens = tokens.Tokens()
    assert await others.says("a.b.c") == "unauthenticated"
    assert others.asked == ["a.b.c"]


async def test_who_waits_for_others_who_hang_is_told_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "REVIEW_SECONDS", 0.1)
    others = Others()
    others.go.clear()
    async with asyncio.timeout(5):
        said = await asyncio.gather(*(others.says(f"x{n}") for n in range(200)))
    assert set(said) == {"identity_unavailable"}
    # It is no failure of theirs, and nothing is remembered of it.
    others.go.set()
    assert await others.says("good") == "good"


# --- a service that asks others -------------------------------------------------------------------------


class Api:
    """A running service, asked with a token."""

    def __init__(self, service: Service, file: Path, admin: str) -> None:
        self.service, self.file, self.admin = service, file, admin

    async def ask(
        self, token: str, method: str = "GET", path: str = "/v1/vm/", body: Any = None, **headers: str
    ) -> Answer:
        headers = headers or {"Authorization": f"Bearer {token}"}
        return await ask(self.service, method, path, body, headers=headers)

    async def status(self, token: str) -> int:
        return (await self.ask(token, path="/board/session")).status


@asynccontextmanager
async def asking(folder: Path, namespace: str, redis_url: str, **config: Any) -> AsyncIterator[Api]:
    admin, entry = tokens.make("admin", "admin", (), ())
    file = folder / "tokens.yaml"
    tokens.add(file, entry)
    tokens.add(file, "- {name: controller, service_account: portal/controller, role: viewer}\n")
    config = {"tokens_file": str(file), **config}
    async with serving(config_of(namespace, **config), redis_url) as service:
        await service.store.configure("vm", {"paused": True})
        yield Api(service, file, admin)


async def until(condition: Callable[[], Any], seconds: float = 20) -> None:
    """Wait until something is so; fails when it is not in time."""
    async with asyncio.timeout(seconds):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.02)


async def hangs() -> web.Response:
    await asyncio.Event().wait()
    return web.Response()


def unavailable(answer: Answer) -> None:
    refused(answer, 503, "identity_unavailable")
    assert answer.headers["Retry-After"] == "1"


# --- Kubernetes -----------------------------------------------------------------------------------------

AUDIENCE = "rqueue"
GOOD, PORTAL = "good.jwt.x", "system:serviceaccount:portal:controller"


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[clusters.Cluster]:
    async with clusters.running(tmp_path) as cluster:
        cluster.users[GOOD] = (PORTAL, [AUDIENCE])
        yield cluster


@pytest.fixture
async def api(
    cluster: clusters.Cluster,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    namespace: str,
    redis_url: str,
    real_redis: Any,
) -> AsyncIterator[Api]:
    """A service in the cluster."""
    cluster.is_ours(monkeypatch)
    config = {"auth_kubernetes": "true", "auth_kubernetes_audience": AUDIENCE}
    async with asking(tmp_path, namespace, redis_url, **config) as api:
        yield api


async def test_an_account_of_the_file_has_its_role(api: Api, cluster: clusters.Cluster) -> None:
    session = (await api.ask(GOOD, path="/board/session")).data
    assert (session["name"], session["role"]) == ("controller", "viewer")
    assert (await api.ask(GOOD, "POST", body=job())).status == 403
    assert [one["spec"] for one in cluster.asked] == [{"token": GOOD, "audiences": [AUDIENCE]}]


@pytest.mark.parametrize(
    ("username", "audiences"),
    [
        ("system:serviceaccount:portal:other", [AUDIENCE]),
        ("system:serviceaccount:portal", [AUDIENCE]),
        ("system:serviceaccount:portal/controller", [AUDIENCE]),
        ("x:" + PORTAL, [AUDIENCE]),
        ("system:node:portal", [AUDIENCE]),
        ("portal/controller", [AUDIENCE]),
        (PORTAL, [clusters.OWN_AUDIENCE]),
        (PORTAL, []),
    ],
)
async def test_others_are_not_known(
    api: Api, cluster: clusters.Cluster, username: str, audiences: list[str]
) -> None:
    cluster.users["a.b.c"] = (username, audiences)
    refused(await api.ask("a.b.c"), 401, "unauthenticated")
    assert len(cluster.asked) == 1


async def test_no_token_is_in_the_log_whatever_its_level(
    api: Api, cluster: clusters.Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    assert (await api.ask(GOOD)).status == 200
    assert cluster.asked
    # An answer holds the token that was asked about.
    assert GOOD not in caplog.text


async def test_an_opaque_token_is_not_shown_to_the_cluster(api: Api, cluster: clusters.Cluster) -> None:
    refused(await api.ask("rq_secret"), 401, "unauthenticated")
    assert (await api.ask(api.admin)).status == 200
    assert cluster.asked == []


async def test_an_api_server_that_knows_of_no_audiences_is_not_enough(
    api: Api, cluster: clusters.Cluster
) -> None:
    status = {"authenticated": True, "user": {"username": PORTAL}}
    cluster.answer = lambda: web.json_response({"spec": {"token": GOOD}, "status": status}, status=201)
    refused(await api.ask(GOOD), 401, "unauthenticated")


@pytest.mark.parametrize(
    "answer",
    [
        lambda: web.Response(status=403),
        lambda: web.Response(status=429),
        lambda: web.Response(status=500),
        lambda: web.Response(text="<html>", status=201),
        lambda: web.json_response([], status=201),
        lambda: web.json_response({}, status=201),
        lambda: web.json_response({"spec": {"token": GOOD}}, status=201),
        lambda: web.json_response(
            {"spec": {"token": GOOD}, "status": {"authenticated": True, "audiences": [AUDIENCE]}}, status=201
        ),
        hangs,
    ],
)
async def test_where_the_api_server_gives_no_answer_it_is_503(
    api: Api, cluster: clusters.Cluster, monkeypatch: pytest.MonkeyPatch, answer: Callable[[], Any]
) -> None:
    monkeypatch.setattr(auth, "REVIEW_SECONDS", 0.5)
    cluster.answer = answer
    unavailable(await api.ask(GOOD))
    assert (await api.ask(api.admin)).status == 200
    # Nothing of it is remembered.
    cluster.answer = None
    assert (await api.ask(GOOD)).status == 200


async def test_a_role_that_is_taken_away_ends_with_the_file(
    api: Api, cluster: clusters.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LOOK_SECONDS", 0.01)
    assert await api.status(GOOD) == 200
    text = api.file.read_text()
    api.file.write_text(text.replace("controller, role", "other, role"))

    async def refused_() -> bool:
        return await api.status(GOOD) == 401

    await until(refused_)
    assert len(cluster.asked) == 1


async def test_the_service_s_own_token_may_change_under_way(
    api: Api, cluster: clusters.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await api.status(GOOD) == 200
    cluster.users["next.jwt.x"] = cluster.users[GOOD]
    (cluster.folder / "token").write_text("rotated")
    cluster.may_ask = {"rotated"}
    unavailable(await api.ask("next.jwt.x"))  # within the minute, the old one is still shown

    class Later(clusters.incluster_config.datetime.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return super().now(tz) + clusters.incluster_config.TOKEN_REFRESH_PERIOD

    monkeypatch.setattr(clusters.incluster_config.datetime, "datetime", Later)
    assert await api.status("next.jwt.x") == 200


async def test_without_an_audience_tokens_for_the_api_server_are_taken(
    cluster: clusters.Cluster,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    namespace: str,
    redis_url: str,
    real_redis: Any,
) -> None:
    """And the cluster is found by a kubeconfig where the service is not in a pod."""
    cluster.is_in_kubeconfig(monkeypatch)
    cluster.users["default.jwt.x"] = (PORTAL, [clusters.OWN_AUDIENCE])
    async with asking(tmp_path, namespace, redis_url, auth_kubernetes="true") as api:
        assert await api.status("default.jwt.x") == 200
        assert await api.status(GOOD) == 401


async def test_where_there_is_no_cluster_the_service_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "tokens.yaml").write_text("tokens: []")
    environment = {
        "PATH": os.environ["PATH"],
        "KUBECONFIG": str(tmp_path / "none"),
        "RQUEUE_AUTH_KUBERNETES": "true",
        "RQUEUE_TOKENS_FILE": str(tmp_path / "tokens.yaml"),
        "RQUEUE_PORT": "0",
    }
    process = await asyncio.create_subprocess_exec(
        *SERVE, env=environment, cwd=tmp_path, stderr=asyncio.subprocess.PIPE
    )
    _, said = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 2
    assert b"no cluster to ask" in said
    assert b"Traceback" not in said


@pytest.mark.skipif("RQUEUE_TEST_KUBECONFIG" not in os.environ, reason="no real cluster is given for it")
async def test_a_real_cluster_says_who_an_account_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opt-in: the kubeconfig's user may create TokenRequests for default/default, and TokenReviews."""
    from kubernetes_asyncio import client, config

    file = os.environ["RQUEUE_TEST_KUBECONFIG"]
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr(clusters.kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", file)
    settings = client.Configuration()
    await config.load_kube_config(config_file=file, client_configuration=settings)
    async with client.ApiClient(settings) as api:
        spec = client.V1TokenRequestSpec(audiences=[AUDIENCE], expiration_seconds=600)
        asked = client.AuthenticationV1TokenRequest(spec=spec)
        made = await client.CoreV1Api(api).create_namespaced_service_account_token(
            "default", "default", asked
        )
    async with identity.kubernetes(AUDIENCE) as review:
        assert await review(made.status.token) == "default/default"
        assert await review(made.status.token[:-8] + "AAAAAAAA") is None
    async with identity.kubernetes("another") as review:
        assert await review(made.status.token) is None


# --- Keystone -------------------------------------------------------------------------------------------


def starting(test: Callable[..., Any]) -> Callable[..., Any]:
    """Whichever of them is the first waits until Keystone has started: up to a minute on a busy machine."""
    return pytest.mark.slow(pytest.mark.timeout(240)(test))


@pytest.fixture(scope="session")
def keystone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[keystones.Keystone]:
    if not keystones.INSTALLED.exists():
        pytest.skip("NO Keystone: `make .venv-keystone/.installed` puts it there")
    with keystones.running(tmp_path_factory.mktemp("keystone")) as keystone:
        yield keystone


@pytest.fixture
async def cloud(
    keystone: keystones.Keystone, tmp_path: Path, namespace: str, redis_url: str, real_redis: Any
) -> AsyncIterator[Api]:
    """A service that asks a real Keystone."""
    async with asking(tmp_path, namespace, redis_url, auth_keystone=keystone.url) as api:
        yield api


def member(keystone: keystones.Keystone) -> tuple[str, str, str]:
    """A new project, a member of it, and a token for it."""
    project = keystone.project()
    user = keystone.user(project, "member")
    return project, user, keystone.token(user, {"project": {"id": project}})


@starting
async def test_a_member_s_project_is_its_owner(cloud: Api, keystone: keystones.Keystone) -> None:
    (project, _, token), (other, _, foreign) = member(keystone), member(keystone)
    made = await cloud.ask(token, "POST", body=job("a", owner_id=project))
    assert made.status == 201
    refused(await cloud.ask(token, "POST", body=job("b", owner_id=other)), 403, "forbidden", "owner_id")
    assert (await cloud.ask(foreign, path="/v1/vm/a")).status == 404
    for headers in ({"X-Auth-Token": token}, {"Authorization": f"Bearer {token}"}):
        assert (await cloud.ask("", path="/v1/vm/a", **headers)).data["OwnerID"] == project
    assert [one["RequestID"] for one in (await cloud.ask(token)).data] == ["a"]
    assert (await cloud.ask(foreign)).data == []
    session = (await cloud.ask(token, path="/board/session")).data
    assert (session["name"], session["role"], session["owners"]) == (
        f"keystone:{project}",
        "client",
        [project],
    )
    assert (await cloud.ask(cloud.admin, path="/v1/vm/a")).status == 200


@starting
async def test_tokens_that_speak_for_no_project_are_not_known(
    cloud: Api, keystone: keystones.Keystone
) -> None:
    project = keystone.project()
    reader, member_ = keystone.user(project, "reader"), keystone.user(project, "member")
    scope = {"project": {"id": project}}
    of_project = {
        "methods": ["password"],
        "password": {"user": {"id": member_, "password": keystones.PASSWORD}},
    }
    body = {
        "application_credential": {
            "name": secrets.token_hex(4),
            "access_rules": [{"path": "/v2.1/servers", "method": "GET", "service": "compute"}],
        }
    }
    admin = {"name": "admin", "domain": {"id": "default"}, "password": keystones.PASSWORD}
    of_admin = {"methods": ["password"], "password": {"user": admin}}
    (role,) = keystone.call("GET", "/roles?name=admin")["roles"]
    me = keystone.call("GET", "/users?name=admin")["users"][0]["id"]
    keystone.call("PUT", f"/domains/default/users/{me}/roles/{role['id']}")
    path = f"/users/{member_}/application_credentials"
    made = keystone.call("POST", path, body, by=keystone.token_by(of_project, scope))
    made = made["application_credential"]
    bound = {
        "methods": ["application_credential"],
        "application_credential": {"id": made["id"], "secret": made["secret"]},
    }
    for token in (
        keystone.token(reader, scope),
        keystone.token(member_),  # for no project
        keystone.token_by(of_admin, {"domain": {"id": "default"}}),
        keystone.token_by(bound),  # for calls of another service only
        keystone.token(member_, scope)[:-4] + "AAAA",
        "gAAAAA",
        "x" * 3000,
    ):
        refused(await cloud.ask(token), 401, "unauthenticated")


@starting
async def test_a_token_that_has_ended_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    keystone: keystones.Keystone,
    tmp_path: Path,
    namespace: str,
    redis_url: str,
    real_redis: Any,
) -> None:
    """Revoked, of a project or a user that was disabled, of a role that was taken away."""
    monkeypatch.setattr(auth, "REVIEWED_SECONDS", 0.2)
    async with asking(tmp_path, namespace, redis_url, auth_keystone=keystone.url) as api:
        for end in ("revoked", "project", "user", "role"):
            project, user, token = member(keystone)
            assert await api.status(token) == 200
            if end == "revoked":
                keystone.revoke(token)
            elif end == "role":
                (role,) = keystone.call("GET", "/roles?name=member")["roles"]
                keystone.call("DELETE", f"/projects/{project}/users/{user}/roles/{role['id']}")
            else:
                thing = project if end == "project" else user
                keystone.call("PATCH", f"/{end}s/{thing}", {end: {"enabled": False}})

            async def refused_(token: str = token) -> bool:
                return await api.status(token) == 401

            await until(refused_)


@starting
async def test_a_role_that_implies_it_will_do(cloud: Api, keystone: keystones.Keystone) -> None:
    project = keystone.project()
    scope = {"project": {"id": project}}
    session = (
        await cloud.ask(keystone.token(keystone.user(project, "admin"), scope), path="/board/session")
    ).data
    assert (session["role"], session["owners"]) == ("client", [project])


@starting
async def test_everybody_may_ask_about_their_own_token(keystone: keystones.Keystone) -> None:
    """By Keystone's own policy, which is why the service has no account there."""
    project = keystone.project()
    user = keystone.user(project, "reader")
    async with identity.keystone(keystone.url, "reader") as review:
        found = await review(keystone.token(user, {"project": {"id": project}}))
    assert isinstance(found, Caller)
    assert found.owners == (project,)


@asynccontextmanager
async def stand_in(answer: Callable[[web.Request], Any]) -> AsyncIterator[str]:
    """What answers in Keystone's place when it is broken."""
    app = web.Application()
    app.router.add_get("/v3/auth/tokens", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v3"
    finally:
        await runner.cleanup()


async def _hangs(_: web.Request) -> web.Response:
    return await hangs()


def _says(**answer: Any) -> Callable[[web.Request], Any]:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(content_type="application/json", **answer)

    return handler


@pytest.mark.parametrize(
    "answer",
    [
        _says(status=500),
        _says(status=503),
        _says(status=429),
        _says(text="<html>"),
        _says(text="[]"),
        _says(text="{}"),
        _says(text='{"token": []}'),
        _says(text='{"token": {"project": null}}'),
        _says(text='{"token": {"project": {"id": "p"}, "roles": [1]}}'),
        _hangs,
    ],
)
async def test_where_keystone_gives_no_answer_it_is_503(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    namespace: str,
    redis_url: str,
    real_redis: Any,
    answer: Callable[[web.Request], Any],
) -> None:
    for module in (auth, identity):
        monkeypatch.setattr(module, "REVIEW_SECONDS", 0.5)
    async with (
        stand_in(answer) as url,
        asking(tmp_path, namespace, redis_url, auth_keystone=url) as api,
    ):
        unavailable(await api.ask("gAAAAA"))
        assert (await api.ask(api.admin)).status == 200


async def test_a_redirect_is_not_followed(
    tmp_path: Path, namespace: str, redis_url: str, real_redis: Any
) -> None:
    """The token would go with it."""
    shown = []

    async def keystone(request: web.Request) -> web.Response:
        shown.append(request.headers["X-Subject-Token"])
        if shown[-1] == "away" and "here" not in request.query:
            return web.Response(status=302, headers={"Location": f"{request.path}?here"})
        return web.json_response({"token": {"project": {"id": "p"}, "roles": [{"name": "member"}]}})

    async with (
        stand_in(keystone) as url,
        asking(tmp_path, namespace, redis_url, auth_keystone=f"{url}/") as api,
    ):
        assert await api.status("stays") == 200
        unavailable(await api.ask("away"))
    assert shown == ["stays", "away"]


async def test_where_keystone_is_away_it_is_503_and_the_file_s_tokens_are_good(
    tmp_path: Path, namespace: str, redis_url: str, real_redis: Any
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v3"
    async with asking(tmp_path, namespace, redis_url, auth_keystone=url) as api:
        began = time.monotonic()
        unavailable(await api.ask("gAAAAA"))
        assert time.monotonic() - began < identity.REVIEW_SECONDS
        assert (await api.ask(api.admin)).status == 200


async def test_a_keystone_that_hangs_holds_up_no_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, namespace: str, redis_url: str, real_redis: Any
) -> None:
    """It is waited for in threads, and those that read the tokens file are others."""
    monkeypatch.setattr(files, "LOOK_SECONDS", 0.01)
    async with (
        stand_in(_hangs) as url,
        asking(tmp_path, namespace, redis_url, auth_keystone=url) as api,
    ):
        waiting = [asyncio.create_task(api.status(f"gAAAAA{n}")) for n in range(40)]
        token, entry = tokens.make("later", "viewer", (), ())
        tokens.add(api.file, entry)

        async def known() -> bool:
            # By the file only: another question to Keystone would wait.
            return (await api.ask(token, path="/board/session")).status == 200

        await until(known, identity.REVIEW_SECONDS * 2)
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_token_that_fits_no_header_is_not_shown_to_keystone(
    tmp_path: Path, namespace: str, redis_url: str, real_redis: Any
) -> None:
    asked = []

    async def keeps(request: web.Request) -> web.Response:
        asked.append(request)
        return web.Response(status=404)

    async with (
        stand_in(keeps) as url,
        asking(tmp_path, namespace, redis_url, auth_keystone=url) as api,
    ):
        login = {"token": "x\r\nX-Auth-Token: y"}
        assert (await ask(api.service, "POST", "/board/login", login)).status == 401
        assert (await ask(api.service, "POST", "/board/login", {"token": "é"})).status == 401
    assert asked == []
