"""The scheduler's rules, as tables."""

from typing import Any

import pytest

from rqueue.capacity import scheduling
from rqueue.capacity.kubernetes import read
from rqueue.errors import Invalid, RqueueError, UnknownField
from tests.apiserver import node

# --- quantities -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resource", "written", "amount"),
    [
        ("cpu", "2", 2000),
        ("cpu", "0.5", 500),
        ("cpu", "250m", 250),
        ("cpu", "0.1", 100),
        ("cpu", "1u", 1),
        ("cpu", "1n", 1),
        ("cpu", "1001u", 2),
        ("cpu", ".5", 500),
        ("cpu", "5.", 5000),
        ("cpu", "+1", 1000),
        ("memory", "128974848", 128974848),
        ("memory", "129e6", 129_000_000),
        ("memory", "129M", 129_000_000),
        ("memory", "123Mi", 123 * 2**20),
        ("memory", "1.5Gi", 3 * 2**29),
        ("memory", "100m", 1),
        ("memory", "128974848000m", 128974848),
        ("memory", "1E3", 1000),
        ("memory", "2E+3", 2000),
        ("memory", "1500e-3", 2),
        ("memory", "1E", 2**53 - 1),
        ("memory", "9Ei", 2**53 - 1),
        ("memory", "1Pi", 2**50),
        ("memory", "4503599627370497", 2**52 + 1),
        ("memory", "9007199254740991.000000001", 2**53 - 1),
        ("nvidia.com/gpu", "8", 8),
        ("nvidia.com/gpu", "1e3", 1000),
        ("cpu", "0", 0),
    ],
)
def test_a_quantity_is_read_as_kubernetes_does(resource: str, written: str, amount: int) -> None:
    assert scheduling.whole(resource, scheduling.nanos(written)) == amount


@pytest.mark.parametrize(
    "written", ["", "x", "1x", "1 Gi", "-1", "1e1000", "1e", "1Kii", "1ki", "0x10", "1_0", "inf", "٣", "1\n"]
)
def test_what_is_no_quantity(written: str) -> None:
    with pytest.raises(ValueError, match="not a quantity"):
        scheduling.nanos(written)


# --- pods -----------------------------------------------------------------------------------------------


def c(name: str = "c", cpu: str = "1", sidecar: bool = False, **more: str) -> dict[str, Any]:
    container: dict[str, Any] = {"name": name, "resources": {"requests": {"cpu": cpu, **more}}}
    return container | ({"restartPolicy": "Always"} if sidecar else {})


INFEASIBLE = {"type": "PodResizePending", "status": "True", "reason": "Infeasible"}
DEFERRED = {"type": "PodResizePending", "status": "True", "reason": "Deferred"}


def has(cpu: str, **more: Any) -> dict[str, Any]:
    return {"name": "c", "resources": {"requests": {"cpu": cpu}}, **more}


@pytest.mark.parametrize(
    ("spec", "status", "cpu"),
    [
        ({"containers": [c()]}, {}, 1000),
        ({"containers": [{"name": "c"}, {"name": "d", "resources": {}}]}, {}, 0),
        ({"containers": [c(cpu="500u"), c("d", cpu="500u")]}, {}, 1),
        ({"containers": [c(), c("d", "2")]}, {}, 3000),
        # Init containers run one after the other, before the others.
        ({"containers": [c()], "initContainers": [c("a", "3"), c("b", "2")]}, {}, 3000),
        ({"containers": [c("c", "4")], "initContainers": [c("a", "3")]}, {}, 4000),
        # Sidecars go on beside what comes after them, and not beside what came before.
        ({"containers": [c()], "initContainers": [c("a", "1", sidecar=True), c("b", "3")]}, {}, 4000),
        ({"containers": [c()], "initContainers": [c("b", "3"), c("a", "1", sidecar=True)]}, {}, 3000),
        ({"containers": [c()], "initContainers": [c("a", "2", sidecar=True)]}, {}, 3000),
        (
            {"containers": [c()], "initContainers": [c("a", "2", sidecar=True), c("b", "2", sidecar=True)]},
            {},
            5000,
        ),
        ({"containers": [c()], "overhead": {"cpu": "250m"}}, {}, 1250),
        ({"containers": [c()], "initContainers": [c("a", "2")], "overhead": {"cpu": "250m"}}, {}, 2250),
        # What is asked for the whole pod stands for that of its containers.
        ({"containers": [c()], "resources": {"requests": {"cpu": "3"}}}, {}, 3000),
        ({"containers": [c()], "resources": {"requests": {"cpu": "3"}}, "overhead": {"cpu": "1"}}, {}, 4000),
        ({"containers": [c()], "resources": {"requests": {"memory": "3"}}}, {}, 1000),
        ({"containers": [c()], "resources": {"limits": {"cpu": "3"}}}, {}, 1000),
        # In the middle of a resize it holds the larger one.
        ({"containers": [c()]}, {"containerStatuses": [has("2")]}, 2000),
        ({"containers": [c(cpu="3")]}, {"containerStatuses": [has("2")]}, 3000),
        ({"containers": [c()]}, {"containerStatuses": [has("1", allocatedResources={"cpu": "4"})]}, 4000),
        ({"containers": [c(cpu="3")]}, {"containerStatuses": [has("2")], "conditions": [DEFERRED]}, 3000),
        ({"containers": [c(cpu="3")]}, {"containerStatuses": [has("2")], "conditions": [INFEASIBLE]}, 2000),
        ({"containers": [c(cpu="3")]}, {"containerStatuses": [has("2")], "resize": "Infeasible"}, 2000),
        ({"containers": [c(cpu="3")]}, {"containerStatuses": [{"name": "c"}]}, 3000),
        (
            {"containers": [{"name": "x"}], "initContainers": [c("c", "1", sidecar=True)]},
            {"initContainerStatuses": [has("2")]},
            2000,
        ),
        # The whole pod's, too; what its status says of it holds the overhead.
        (
            {"containers": [c()], "resources": {"requests": {"cpu": "3"}}, "overhead": {"cpu": "1"}},
            {"resources": {"requests": {"cpu": "6"}}},
            6000,
        ),
    ],
)
def test_what_a_pod_takes(spec: dict[str, Any], status: dict[str, Any], cpu: int) -> None:
    found = dict(scheduling.requests({"spec": spec, "status": status}))
    assert found.get("cpu", 0) == cpu
    assert found["pods"] == 1


def test_all_resources_of_a_pod_count_whatever_their_names() -> None:
    more = {"memory": "1Gi", "ephemeral-storage": "10Gi", "hugepages-2Mi": "4Mi", "nvidia.com/gpu": "2"}
    spec = {
        "containers": [c(**more)],
        "resources": {"requests": {"hugepages-2Mi": "8Mi", "nvidia.com/gpu": "9"}},
    }
    assert dict(scheduling.requests({"spec": spec})) == {
        "cpu": 1000,
        "memory": 2**30,
        "ephemeral-storage": 10 * 2**30,
        "hugepages-2Mi": 8 * 2**20,
        "nvidia.com/gpu": 2,
        "pods": 1,
    }


# --- nodes ----------------------------------------------------------------------------------------------


def test_what_a_node_offers() -> None:
    more = {"memory": "1Ki", "nvidia.com/gpu": "2", "hugepages-1Gi": "0", "ephemeral-storage": "1500m"}
    assert dict(scheduling.offers(node("n", "3920m", allocatable=more))) == {
        "cpu": 3920,
        "memory": 1024,
        "nvidia.com/gpu": 2,
        "ephemeral-storage": 1,
        "pods": 110,
    }
    for out in (node("n", cordoned=True), node("n", ready="False"), node("n", ready="Unknown")):
        assert scheduling.offers(out) == ()
    assert scheduling.offers({"metadata": {"name": "new"}}) == ()


GPU = {"key": "gpu", "value": "a100", "effect": "NoSchedule"}
SLA = {"key": "sla", "value": "800", "effect": "NoExecute"}


@pytest.mark.parametrize(
    ("taints", "tolerations", "tolerated"),
    [
        ([], [], True),
        ([GPU], [], False),
        ([{**GPU, "effect": "PreferNoSchedule"}], [], True),
        ([GPU], [{"operator": "Exists"}], True),
        ([GPU], [{"key": "gpu", "operator": "Exists"}], True),
        ([GPU], [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}], True),
        ([GPU], [{"key": "gpu", "operator": "Exists", "effect": "NoExecute"}], False),
        ([GPU], [{"key": "gpu", "value": "a100"}], True),
        ([GPU], [{"key": "gpu", "operator": "Equal", "value": "a100"}], True),
        ([GPU], [{"key": "gpu", "operator": "Equal", "value": "h100"}], False),
        ([GPU], [{"key": "gpu"}], False),
        ([{"key": "gpu", "effect": "NoSchedule"}], [{"key": "gpu"}], True),
        ([GPU], [{"key": "cpu", "operator": "Exists"}], False),
        ([GPU, SLA], [{"key": "gpu", "operator": "Exists"}], False),
        ([GPU, SLA], [{"key": "gpu", "operator": "Exists"}, {"key": "sla", "operator": "Exists"}], True),
        ([SLA], [{"key": "sla", "operator": "Gt", "value": "750"}], True),
        ([SLA], [{"key": "sla", "operator": "Gt", "value": "800"}], False),
        ([SLA], [{"key": "sla", "operator": "Lt", "value": "950"}], True),
        ([SLA], [{"key": "sla", "operator": "Lt", "value": "-1"}], False),
        ([{**SLA, "value": "x"}], [{"key": "sla", "operator": "Gt", "value": "1"}], False),
    ],
)
def test_taints_are_tolerated_by_the_rule_of_kubernetes(
    taints: list[dict[str, str]], tolerations: list[dict[str, str]], tolerated: bool
) -> None:
    found = scheduling.taints(node("n", taints=taints))
    assert scheduling.tolerated(found, scheduling.tolerations(tolerations)) is tolerated


# --- selectors ------------------------------------------------------------------------------------------

LABELS = {"pool": "gpu", "zone": "a", "empty": "", "example.com/size": "12", "in": "x"}


@pytest.mark.parametrize(
    ("selector", "holds"),
    [
        ("", True),
        ("  ", True),
        ("pool=gpu", True),
        ("pool==gpu", True),
        (" pool = gpu , zone = a ", True),
        ("pool=cpu", False),
        ("pool=gpu,zone=b", False),
        ("pool!=gpu", False),
        ("pool!=cpu", True),
        ("none!=x", True),
        ("none=", False),
        ("empty=", True),
        ("empty", True),
        ("none", False),
        ("!none", True),
        ("! pool", False),
        ("zone in (a,b)", True),
        ("zone in(b , c)", False),
        ("none in (a)", False),
        ("empty in (a,)", True),
        ("zone notin (a,b)", False),
        ("none notin (a)", True),
        ("in in (x)", True),
        ("in", True),
        ("example.com/size", True),
        ("example.com/size>11", True),
        ("example.com/size>12", False),
        ("example.com/size<13", True),
        ("pool>1", False),
        ("none<1", False),
        ("zone in (a),pool notin (x,y),!none,example.com/size", True),
    ],
)
def test_a_selector_holds_for_labels(selector: str, holds: bool) -> None:
    assert scheduling.selector(selector)(LABELS) is holds


@pytest.mark.parametrize(
    "selector",
    [
        *(
            "a b",
            "a=b c",
            "=b",
            ",",
            "a,",
            ",a",
            "a,,b",
            "a in",
            "a in ()x",
            "a in (b",
            "a inn (b)",
            "ain(b)",
        ),
        *("a in (b)(c)", "a=b=c", "!a=b", "!!a", "a=-b", "a in (-b)", "-a", "a/", "/a", "a/b/c", "A.com/b"),
        *("a>b", "a>", "a=" + "b" * 64, "b" * 64, "é=a", "a=é", "a=(b)", "a;b", "a\x00", "x" * 1025),
        "a=b," * 200 + "a b",
    ],
)
def test_what_is_no_selector(selector: str) -> None:
    with pytest.raises(Invalid) as refused:
        scheduling.selector(selector)
    assert refused.value.field == "selector"


# --- what operators write -------------------------------------------------------------------------------


def test_what_says_how_a_pool_is_found() -> None:
    toleration = {"key": "gpu", "operator": "Exists", "effect": "NoExecute"}
    assert read({"selector": "a=b"}) == {"selector": "a=b", "tolerations": []}
    assert read({"selector": "", "tolerations": [{**toleration, "tolerationSeconds": 60, "value": ""}]}) == {
        "selector": "",
        "tolerations": [toleration],
    }


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "selector"),
        ({"selector": None}, "selector"),
        ({"selector": {"matchLabels": {}}}, "selector"),
        ({"selector": "a b"}, "selector"),
        ({"selector": "", "hosts": {}}, "hosts"),
        ({"selector": "", "tolerations": {}}, "tolerations"),
        ({"selector": "", "tolerations": [{"operator": "Exists"}] * 33}, "tolerations"),
        ({"selector": "", "tolerations": ["x"]}, "tolerations.0"),
        ({"selector": "", "tolerations": [{}]}, "tolerations.0.key"),
        ({"selector": "", "tolerations": [{"operator": "Exists"}, {"key": 1}]}, "tolerations.1.key"),
        ({"selector": "", "tolerations": [{"key": "a", "x": 1}]}, "tolerations.0"),
        ({"selector": "", "tolerations": [{"key": "a b"}]}, "tolerations.0.key"),
        ({"selector": "", "tolerations": [{"key": "a" * 400}]}, "tolerations.0.key"),
        ({"selector": "", "tolerations": [{"key": "a", "operator": "In"}]}, "tolerations.0.operator"),
        ({"selector": "", "tolerations": [{"key": "a", "effect": "Never"}]}, "tolerations.0.effect"),
        ({"selector": "", "tolerations": [{"key": "a", "value": "a b"}]}, "tolerations.0.value"),
        (
            {"selector": "", "tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]},
            "tolerations.0.value",
        ),
        (
            {"selector": "", "tolerations": [{"key": "a", "operator": "Gt", "value": "x"}]},
            "tolerations.0.value",
        ),
        (
            {"selector": "", "tolerations": [{"operator": "Exists", "tolerationSeconds": "60"}]},
            "tolerations.0.tolerationSeconds",
        ),
    ],
)
def test_what_does_not(body: dict[str, Any], field: str) -> None:
    with pytest.raises(RqueueError) as refused:
        read(body)
    assert isinstance(refused.value, Invalid | UnknownField)
    assert refused.value.field == field
