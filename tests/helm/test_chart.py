"""Every file in ci/ lints strictly, renders, and makes objects that Kubernetes takes, old and new."""

import functools
import json
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from helm_python import Chart, lint, package
from helm_python.errors import HelmError

from rqueue import __version__
from tests.helm.chart import CASES, CHART, NAMESPACE, RELEASE, Rendered, pods, render, values
from tests.helm.crds import SCHEMAS

KUBERNETES = ("1.25", "1.31", "1.37")
TOKEN = {"name": "portal", "sha256": "0" * 64, "role": "client"}
ACCOUNT = {"name": "controller", "service_account": "team/controller", "role": "client"}
PEERS = [{"ipBlock": {"cidr": "10.0.0.0/8"}}]
cases = pytest.mark.parametrize("case", CASES)


def test_the_oldest_and_the_newest_schema_are_tried() -> None:
    known = kubernetes_validate.utils.all_versions()
    assert [known[0], known[-1]] == [f"{KUBERNETES[0]}.0", f"{KUBERNETES[-1]}.0"]


def test_the_chart_is_of_this_version() -> None:
    with Chart.load(CHART) as chart:
        assert chart.metadata["appVersion"] == __version__


@cases
def test_lints_strictly(case: str) -> None:
    report = lint(CHART, values(case), strict=True, namespace=NAMESPACE)
    assert report["errors"] == []
    # 1 is for information: a chart may have an icon.
    assert [message for message in report["messages"] if message["severity"] > 1] == []


@cases
def test_every_object_is_valid(case: str) -> None:
    rendered = render(values(case))
    assert rendered.objects
    for found in rendered.objects:
        if found["kind"] == "Secret":
            # Its tokens are other ones each time; so that it is judged once, as the rest that is the same.
            found["stringData"] = dict.fromkeys(found["stringData"], "x")
        validate(json.dumps(found))


@functools.cache
def validate(written: str) -> None:
    found = json.loads(written)
    if found["kind"] in SCHEMAS:
        jsonschema.validate(found, SCHEMAS[found["kind"]])
        return
    for version in KUBERNETES:
        kubernetes_validate.validate(found, version, strict=True)


@pytest.mark.parametrize("kind", ["Deployment", "HTTPRoute", "ServiceMonitor"])
def test_a_misspelt_field_is_found(kind: str) -> None:
    """The schemas are strict indeed."""
    rendered = render({**values("http-route"), **values("monitoring")})
    found = rendered.one(kind)
    found["spec"]["pausd"] = True
    with pytest.raises(jsonschema.ValidationError):
        validate(json.dumps(found))


@cases
def test_every_object_belongs_to_the_release(case: str) -> None:
    rendered = render(values(case))
    names = [(o["kind"], o["metadata"]["name"]) for o in rendered.objects]
    assert len(set(names)) == len(names)
    for found in rendered.objects:
        cluster_wide = found["kind"].startswith("ClusterRole")
        assert found["metadata"].get("namespace") == (None if cluster_wide else NAMESPACE)
        assert found["metadata"]["labels"]["app.kubernetes.io/instance"] == RELEASE


@cases
def test_what_is_referred_to_is_there(case: str) -> None:
    """Selectors match the pods; volumes and accounts are made here, or named in the values."""
    given = values(case)
    rendered = render(given)
    made = {(o["kind"], o["metadata"]["name"]) for o in rendered.objects}
    written = yaml.safe_dump(given)
    labels = [
        o["spec"]["template"]["metadata"]["labels"]
        for kind in ("Deployment", "StatefulSet")
        for o in rendered.of(kind)
    ]
    for service in rendered.of("Service"):
        assert sum(service["spec"]["selector"].items() <= found.items() for found in labels) == 1
    for pod in pods(rendered):
        mounts = {m["name"] for c in pod["containers"] for m in c["volumeMounts"]}
        volumes = {v["name"] for v in pod.get("volumes", [])}
        assert mounts - volumes <= {"data"}
        assert volumes <= mounts
        for kind, name in referred(pod):
            assert (kind, name) in made or name in written, (kind, name)
        account = pod.get("serviceAccountName", "default")
        assert ("ServiceAccount", account) in made or account == "default"


def referred(pod: dict[str, Any]) -> list[tuple[str, str]]:
    """The Secrets and ConfigMaps that a pod mounts."""
    found = []
    for volume in pod.get("volumes", []):
        for source in (volume, *volume.get("projected", {}).get("sources", [])):
            if "secret" in source:
                found.append(("Secret", source["secret"].get("secretName") or source["secret"]["name"]))
            if "configMap" in source:
                found.append(("ConfigMap", source["configMap"]["name"]))
    assert found
    return found


@cases
def test_pods_are_hardened(case: str) -> None:
    given = values(case)
    for pod in pods(render(given)):
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert ("runAsUser" in context) == (given.get("runAsUser", 0) is not None)
        assert pod["enableServiceLinks"] is False
        # Only who asks the API server gets a token for it.
        asks = any(given.get(part, {}).get("kubernetes", False) for part in ("auth", "sources"))
        asks = asks and pod.get("serviceAccountName") is not None
        assert pod["automountServiceAccountToken"] is asks
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def kinds(rendered: Rendered) -> set[str]:
    return {found["kind"] for found in rendered.objects}


def test_alone_it_brings_a_valkey_and_nothing_that_needs_more() -> None:
    rendered = render({})
    assert kinds(rendered) == {
        "ConfigMap",
        "Deployment",
        "NetworkPolicy",
        "Pod",
        "PodDisruptionBudget",
        "Secret",
        "Service",
        "ServiceAccount",
        "StatefulSet",
    }
    claim = rendered.one("StatefulSet")["spec"]["volumeClaimTemplates"][0]
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]


@pytest.mark.parametrize("case", ["redis", "redis-url-secret", "redis-tls", "sentinel", "cluster"])
def test_an_external_redis_is_one_value(case: str) -> None:
    rendered = render(values(case))
    assert not rendered.of("StatefulSet")
    assert not any("valkey" in o["metadata"]["name"] for o in rendered.objects)


REVIEWS = {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]}
CAPACITY = {"apiGroups": [""], "resources": ["nodes", "pods"], "verbs": ["list", "watch"]}


@pytest.mark.parametrize(("case", "rule"), [("token-review", REVIEWS), ("kubernetes-source", CAPACITY)])
def test_rights_are_asked_for_only_where_they_are_used(case: str, rule: dict[str, Any]) -> None:
    assert not [kind for kind in kinds(render({})) if "Role" in kind]
    rendered = render(values(case))
    assert rendered.one("ClusterRole")["rules"] == [rule]
    binding = rendered.one("ClusterRoleBinding")
    assert binding["roleRef"]["name"] == rendered.one("ClusterRole")["metadata"]["name"]
    subject = rendered.one("ClusterRoleBinding")["subjects"][0]
    assert subject["name"] == rendered.one("Deployment")["spec"]["template"]["spec"]["serviceAccountName"]


def test_the_replicas_are_left_to_the_autoscaler() -> None:
    rendered = render(values("autoscaling"))
    assert "replicas" not in rendered.one("Deployment")["spec"]
    assert rendered.one("HorizontalPodAutoscaler")["spec"]["maxReplicas"] == 12


def test_one_replica_has_no_budget() -> None:
    assert not render(values("single")).of("PodDisruptionBudget")


def test_no_plain_token_is_mounted_into_the_service() -> None:
    pod = render({}).one("Deployment")["spec"]["template"]["spec"]
    tokens = next(volume for volume in pod["volumes"] if volume["name"] == "tokens")
    assert [item["key"] for item in tokens["secret"]["items"]] == ["tokens.yaml"]


@pytest.mark.parametrize("case", ["ingress", "http-route"])
def test_routes_lead_to_the_service(case: str) -> None:
    rendered = render(values(case))
    service = rendered.one("Service", RELEASE)
    if case == "ingress":
        backend = rendered.one("Ingress")["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
        assert backend == {"name": RELEASE, "port": {"name": service["spec"]["ports"][0]["name"]}}
    else:
        backend = rendered.one("HTTPRoute")["spec"]["rules"][0]["backendRefs"][0]
        assert backend == {"name": RELEASE, "port": service["spec"]["ports"][0]["port"]}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"redis": {"url": "redis://h", "urlSecret": {"name": "s"}}}, "both set"),
        ({"redis": {"username": "u"}}, "redis.url"),
        ({"redis": {"passwordSecret": {"name": "s"}}}, "redis.url"),
        ({"redis": {"url": "redis://h", "tls": {"secretName": "s"}}}, "rediss"),
        ({"redis": {"url": "rediss://h", "tls": {"clientCertificate": True}}}, "secretName"),
        ({"auth": {"existingSecret": "s", "tokens": [TOKEN]}}, "tokens.yaml"),
        ({"auth": {"tokens": [{**TOKEN, "name": "admin"}]}}, "admin"),
        ({"auth": {"tokens": [TOKEN, {**TOKEN, "sha256": "1" * 64}]}}, "portal: its name is there twice"),
        ({"auth": {"tokens": [TOKEN, {**TOKEN, "name": "b"}]}}, "b: its sha256 is there twice"),
        (
            {"auth": {"kubernetes": True, "tokens": [ACCOUNT, {**ACCOUNT, "name": "b"}]}},
            "service_account is th",
        ),
        ({"auth": {"tokens": [ACCOUNT]}}, "auth.kubernetes"),
        ({"auth": {"tokens": [{**TOKEN, "role": "operator", "owners": ["a"]}]}}, "only a client"),
        ({"extraEnv": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}, "A is there twice"),
        ({"redis": {"url": "redis://h"}, "valkey": {"existingSecret": "s"}}, "valkey.existingSecret"),
        ({"valkey": {"maxMemory": "1300mb"}}, "limits.memory"),
        ({"valkey": {"resources": {"limits": {"memory": 2147483647}}}}, "limits.memory"),
        ({"valkey": {"persistence": {"size": "3G"}}}, "persistence.size"),
        ({"networkPolicy": {"redisPorts": [6379]}}, "redisPorts"),
        ({"networkPolicy": {"redisTo": PEERS}}, "redisTo"),
        (
            {"redis": {"urlSecret": {"name": "s"}}, "networkPolicy": {"callbacksTo": PEERS}},
            "redisPorts is empty",
        ),
        ({"ingress": {"enabled": True}}, "ingress.hosts"),
        ({"httpRoute": {"enabled": True}}, "parentRefs"),
        ({"autoscaling": {"minReplicas": 7}}, "minReplicas"),
        ({"fullnameOverride": "a.b"}, "no Service's name"),
        ({"fullnameOverride": "1a"}, "no Service's name"),
        ({"callbacks": {"timeoutSeconds": 61}}, "terminationGracePeriodSeconds"),
        ({"auth": {"kubernetes": True}, "serviceAccount": {"create": False}}, "default one is everybody's"),
        (
            {"sources": {"kubernetes": True}, "serviceAccount": {"create": False}},
            "default one is everybody's",
        ),
        ({"autoscaling": {"enabled": True}, "resources": {"requests": None}}, "resources.requests.cpu"),
        (
            {"autoscaling": {"enabled": True}, "resources": {"requests": {"cpu": None}}},
            "resources.requests.cpu",
        ),
    ],
    ids=str,
)
def test_values_that_contradict_each_other_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(HelmError, match=said):
        render(given)


@pytest.mark.parametrize(
    "given",
    [
        {"auth": {"tokens": [{**TOKEN, "owners": ["a"]}, {**TOKEN, "name": "b", "sha256": "1" * 64}]}},
        # Just enough, in other units; and what cannot be compared, which is left to its writer.
        {"valkey": {"maxMemory": "1000m", "resources": {"limits": {"memory": "2G"}}}},
        {"valkey": {"maxMemory": "1gb", "persistence": {"size": "3Gi"}}},
        {"valkey": {"maxMemory": "1gb", "resources": {"limits": {"memory": 2147483648}}}},
        {"valkey": {"maxMemory": "1gb", "resources": {"limits": {"memory": "2e6"}}}},
        {"valkey": {"maxMemory": "1gb", "resources": None}},
        {"extraEnv": [{"name": "RQUEUE_TOKEN_RATE", "value": "10"}]},
    ],
    ids=str,
)
def test_values_that_fit_are_taken(given: dict[str, Any]) -> None:
    assert render(given).objects


def opened(given: dict[str, Any]) -> list[tuple[list[Any] | None, list[Any] | None]]:
    """Ports and peers of each rule for what the service may reach; None is all."""
    rules = render(given).one("NetworkPolicy", RELEASE)["spec"]["egress"]
    return [
        ([port["port"] for port in rule["ports"]] if "ports" in rule else None, rule.get("to"))
        for rule in rules
    ]


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("redis://h", 6379),
        ("rediss://h:6380/0", 6380),
        ("redis://[fd00::1]:7000", 7000),
        ("redis://h:1/2", 1),
    ],
)
def test_redis_is_reached_at_its_port(url: str, port: int) -> None:
    """Also where callbacks may not go there."""
    policy = {"callbacksTo": PEERS}
    assert ([port], None) in opened({"redis": {"url": url}, "networkPolicy": policy})
    told = {**policy, "redisPorts": [9], "redisTo": PEERS}
    assert ([9], PEERS) in opened({"redis": {"url": url}, "networkPolicy": told})


@pytest.mark.parametrize(
    ("url", "port"), [("https://k/v3", 443), ("http://k/v3", 80), ("https://k:5000/identity/v3", 5000)]
)
def test_keystone_is_reached_at_its_port(url: str, port: int) -> None:
    given = {"auth": {"keystone": url}, "networkPolicy": {"callbacksTo": PEERS}}
    assert ([port], None) in opened(given)


@pytest.mark.parametrize("part", ["auth", "sources"])
def test_the_api_server_is_reached_where_it_is_asked(part: str) -> None:
    policy = {"networkPolicy": {"callbacksTo": PEERS}}
    assert ([443, 6443], None) in opened({part: {"kubernetes": True}, **policy})
    assert ([443, 6443], None) not in opened(policy)


def test_openstack_is_reached_at_its_ports_with_its_secret() -> None:
    given = {**values("openstack"), "networkPolicy": {"callbacksTo": PEERS}}
    assert ([5000, 8774, 8778], None) in opened(given)
    pod = render(given).one("Deployment", RELEASE)["spec"]["template"]["spec"]
    (mounted,) = (found for found in pod["volumes"] if found["name"] == "openstack")
    assert mounted["secret"] == {"secretName": "rqueue-clouds", "defaultMode": 0o440}
    assert {"name": "RQUEUE_OPENSTACK_CLOUD", "value": "east"} in pod["containers"][0]["env"]


def test_with_peers_for_everything_nothing_is_open_to_anywhere_but_names() -> None:
    given = values("network-policy-redis")
    policy = given["networkPolicy"]
    assert opened(given) == [
        ([53, 53], None),
        (policy["redisPorts"], policy["redisTo"]),
        (None, policy["callbacksTo"]),
    ]


def test_a_release_whose_name_no_service_can_have_needs_another() -> None:
    with pytest.raises(HelmError, match="fullnameOverride"):
        render({}, "my.release")
    assert render({"fullnameOverride": "line"}, "my.release").one("Service", "line")


def test_metadata_services_are_out_of_reach() -> None:
    policy = render({}).one("NetworkPolicy", RELEASE)
    blocks = [
        peer["ipBlock"]
        for rule in policy["spec"]["egress"]
        for peer in rule.get("to", [])
        if "ipBlock" in peer
    ]
    assert {block["cidr"]: block["except"][0] for block in blocks} == {
        "0.0.0.0/0": "169.254.0.0/16",
        "::/0": "fe80::/10",
    }


def test_names_follow_the_release() -> None:
    assert render({}, "blue").one("Deployment")["metadata"]["name"] == "blue-rqueue"
    assert render(values("placement")).one("Deployment")["metadata"]["name"] == "line"


@cases
def test_the_notes_name_what_there_is(case: str) -> None:
    given = values(case)
    rendered = render(given)
    secret = (
        given.get("auth", {}).get("existingSecret")
        or f"{rendered.one('Deployment')['metadata']['name']}-tokens"
    )
    assert f"get secret {secret} -o jsonpath='{{.data.admin-token}}'" in rendered.notes
    assert f"test {RELEASE}" in rendered.notes
    assert ("built-in Valkey" in rendered.notes) == bool(rendered.of("StatefulSet"))


def test_the_notes_say_where_it_is_reached_from_outside() -> None:
    assert "https://rqueue.example/queues/" in render(values("ingress")).notes
    plain = {"ingress": {"enabled": True, "hosts": ["a.example", "b.example"]}}
    assert "http://a.example/queues/\n  http://b.example/queues/" in render(plain).notes
    assert "  rqueue.example\n" in render(values("http-route")).notes
    assert "example" not in render({}).notes


def test_the_notes_verify_the_certificate() -> None:
    """By the CA that its Secret holds, under the name that it is for."""
    notes = render(values("tls")).notes
    assert "get secret rqueue-tls -o jsonpath='{.data.ca\\.crt}' | base64 -d > ca.crt" in notes
    host = f"{RELEASE}.{NAMESPACE}.svc"
    assert f"curl --cacert ca.crt --connect-to {host}:443:127.0.0.1:8080" in notes
    assert f"https://{host}/queues/" in notes
    assert "ca.crt" not in render(values("tls-public-ca")).notes
    for case in ("tls", "tls-public-ca"):
        assert "--insecure" not in render(values(case)).notes


@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize("scraped", [False, True])
def test_the_notes_say_what_keeps_prometheus_out(bounded: bool, scraped: bool) -> None:
    given = {
        "networkPolicy": {"from": PEERS if bounded else []},
        "metrics": {"serviceMonitor": {"enabled": scraped}, "prometheusRule": {"enabled": True}},
    }
    notes = render(given).notes
    assert ("Prometheus can scrape it only" in notes) == (bounded and scraped)
    assert ("The alerts see nothing" in notes) == (not scraped)


def test_it_packs(tmp_path: Path) -> None:
    """Without the files of ci/, which are for tests."""
    packed = package(CHART, destination=tmp_path)
    with Chart.load(packed) as chart:
        names = {file["name"] for file in chart.files}
        assert {"README.md", "files/hook.py", "files/alerts.yaml", "files/dashboard.json"} <= names
        assert not [name for name in names if name.startswith("ci/")]
        assert chart.render({}, name=RELEASE, namespace=NAMESPACE)


def test_images_are_of_no_registry_unless_one_is_named() -> None:
    images = {container["image"] for pod in pods(render({})) for container in pod["containers"]}
    assert images == {f"rqueue:{__version__}", "valkey/valkey:9.1"}
    named = {container["image"] for pod in pods(render(values("valkey"))) for container in pod["containers"]}
    assert f"images.example/valkey/valkey@sha256:{'0' * 64}" in named
