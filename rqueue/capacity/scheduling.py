"""The rules by which Kubernetes' scheduler counts and chooses, as far as amounts and nodes go.

Quantities, label selectors, taints and tolerations, what a pod asks for, what a node offers. Objects are the
API's own JSON. Pure: knows neither the API server nor what is watched.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

from rqueue.domain.demand import MAX_AMOUNT
from rqueue.errors import Invalid

MAX_SELECTOR = 1024
MAX_TOLERATIONS = 32
OPERATORS = ("Equal", "Exists", "Lt", "Gt")
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")

Labels = Mapping[str, str]
# Amounts that do not change, small and fit to be a key: of resources by name, sorted.
Amounts = tuple[tuple[str, int], ...]

# --- quantities ----------------------------------------------------------------------------------------

# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/, of what is not negative.
_QUANTITY = re.compile(
    r"\+?([0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:([numkMGTPE]|[KMGTPE]i)|[eE]([+-]?[0-9]{1,2}))?"
)
_UNITS = {
    **{unit: Decimal(1000) ** power for power, unit in enumerate(["n", "u", "m", "", "k", *"MGTPE"], -3)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", 1)},
}
# The smallest amount that there is: a quantity has at most nine digits after the point.
_NANO = 10**9


@lru_cache(maxsize=4096)
def nanos(quantity: str) -> int:
    """A quantity in billionths of its unit, rounded up. Raises ValueError for what is none."""
    match = _QUANTITY.fullmatch(quantity)
    if match is None:
        raise ValueError(f"{quantity[:40]!r} is not a quantity")
    digits, unit, exponent = match.groups()
    value = Decimal(digits) * (_UNITS[unit or ""] if exponent is None else Decimal(10) ** int(exponent))
    # Decimal would round what has more digits than its precision, so this is counted in whole numbers.
    above, below = value.as_integer_ratio()
    return -(-above * _NANO // below)


def whole(resource: str, amount: int) -> int:
    """Billionths as what rqueue counts in, rounded up: cpu in millicores, all else in whole units."""
    return min(MAX_AMOUNT, -(-amount // (_NANO // 1000 if resource == "cpu" else _NANO)))


def _listed(written: Mapping[str, Any] | None) -> Counter[str]:
    return Counter({name: nanos(str(quantity)) for name, quantity in (written or {}).items()})


# --- what a pod asks for -------------------------------------------------------------------------------


def requests(pod: Mapping[str, Any]) -> Amounts:
    """What a pod takes of its node, `pods` included: PodRequests of k8s.io/component-helpers/resource.

    Init containers run one after the other beside the sidecars before them, so the pod needs the largest of
    these sums or that of all its containers and sidecars. A pod that is being resized counts as the larger of
    what it has and what it is to have, each container for itself, unless the resize was refused for good.
    Raises ValueError.
    """
    spec, status = pod["spec"], pod.get("status", {})
    reported = {
        one["name"]: one
        for one in [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]
    }
    infeasible = status.get("resize") == "Infeasible" or any(
        condition.get("type") == "PodResizePending" and condition.get("reason") == "Infeasible"
        for condition in status.get("conditions") or ()
    )

    def of(
        asks: Mapping[str, Any], has: Mapping[str, Any], beside: Counter[str] | None = None
    ) -> Counter[str]:
        asked = _listed((asks.get("resources") or {}).get("requests"))
        actual = (has.get("resources") or {}).get("requests")
        allocated = has.get("allocatedResources")
        if actual is None and allocated is None:
            return asked
        given = _listed(actual) | _listed(allocated)
        return (Counter() if infeasible else asked) | (given - (beside or Counter()))

    total: Counter[str] = Counter()
    for container in spec["containers"]:
        total += of(container, reported.get(container["name"], {}))
    sidecars: Counter[str] = Counter()
    most: Counter[str] = Counter()
    for container in spec.get("initContainers") or ():
        if container.get("restartPolicy") == "Always":
            asked = of(container, reported.get(container["name"], {}))
            total += asked
            sidecars += asked
            most |= sidecars
        else:
            most |= of(container, {}) + sidecars
    total |= most
    overhead = _listed(spec.get("overhead"))
    if (spec.get("resources") or {}).get("requests"):
        # What the status says of the whole pod holds the overhead already.
        together = of(spec, status, beside=overhead)
        for name, amount in together.items():
            if name in ("cpu", "memory") or name.startswith("hugepages-"):
                total[name] = amount
    total += overhead
    total["pods"] = _NANO
    return tuple(sorted((name, whole(name, amount)) for name, amount in total.items() if amount))


# --- what a node offers --------------------------------------------------------------------------------


def offers(node: Mapping[str, Any]) -> Amounts:
    """What the pods of a node may take of it together; nothing while it is cordoned or not ready."""
    status = node.get("status", {})
    ready = any(
        condition.get("type") == "Ready" and condition.get("status") == "True"
        for condition in status.get("conditions") or ()
    )
    if node.get("spec", {}).get("unschedulable") or not ready:
        return ()
    amounts = {name: nanos(str(quantity)) for name, quantity in (status.get("allocatable") or {}).items()}
    # Rounded down: a part of a unit is nothing that a pod could ask for and get.
    return tuple(
        sorted(
            (name, min(MAX_AMOUNT, amount // (_NANO // 1000 if name == "cpu" else _NANO)))
            for name, amount in amounts.items()
            if amount
        )
    )


Taint = tuple[str, str, str]  # key, value, effect


def taints(node: Mapping[str, Any]) -> tuple[Taint, ...]:
    """The taints that keep pods away; PreferNoSchedule does not."""
    return tuple(
        (taint["key"], taint.get("value") or "", taint["effect"])
        for taint in node.get("spec", {}).get("taints") or ()
        if taint["effect"] in ("NoSchedule", "NoExecute")
    )


def tolerated(taints: Iterable[Taint], tolerations: Iterable[Mapping[str, Any]]) -> bool:
    """Whether each of the taints is tolerated by one of the tolerations."""
    return all(any(_tolerates(toleration, taint) for toleration in tolerations) for taint in taints)


def _tolerates(toleration: Mapping[str, Any], taint: Taint) -> bool:
    key, value, effect = taint
    if toleration.get("effect") not in (None, "", effect) or toleration.get("key") not in (None, "", key):
        return False
    own = toleration.get("value") or ""
    match toleration.get("operator") or "Equal":
        case "Exists":
            return True
        case "Equal":
            return bool(value == own)
        case operator:
            if not _INTEGER.fullmatch(value):
                return False
            return int(value) < int(own) if operator == "Lt" else int(value) > int(own)


_INTEGER = re.compile(r"-?[0-9]{1,18}")
_TEXTS = ("key", "operator", "value", "effect")


def tolerations(written: object) -> list[dict[str, Any]]:
    """Read tolerations as a pod has them. Raises Invalid, naming the field."""
    if not isinstance(written, list) or len(written) > MAX_TOLERATIONS:
        raise Invalid(f"expected a list of at most {MAX_TOLERATIONS} tolerations", "tolerations")
    return [_toleration(one, f"tolerations.{at}") for at, one in enumerate(written)]


def _toleration(written: object, field: str) -> dict[str, Any]:
    if not isinstance(written, Mapping):
        raise Invalid("expected a map of key, operator, value and effect", field)
    for name, value in written.items():
        # Pods have it beside NoExecute; whether a node takes a pod does not depend on it.
        if name == "tolerationSeconds":
            if isinstance(value, bool) or not isinstance(value, int):
                raise Invalid("expected a whole number of seconds", f"{field}.{name}")
        elif name not in _TEXTS:
            raise Invalid(f"there is no field {name[:40]!r}; there are {', '.join(_TEXTS)}", field)
        elif not isinstance(value, str) or len(value.encode()) > 317:
            raise Invalid("expected a string as long as Kubernetes allows", f"{field}.{name}")
    key, operator, value = (written.get(name) or "" for name in _TEXTS[:3])
    operator = operator or "Equal"
    if operator not in OPERATORS:
        raise Invalid(f"expected one of {', '.join(OPERATORS)}", f"{field}.operator")
    if (written.get("effect") or EFFECTS[0]) not in EFFECTS:
        raise Invalid(f"expected one of {', '.join(EFFECTS)}", f"{field}.effect")
    if not key and operator != "Exists":
        raise Invalid("only the operator Exists goes without a key", f"{field}.key")
    if key and not _is_key(key):
        raise Invalid("this is no key that a taint can have", f"{field}.key")
    if operator == "Exists" and value:
        raise Invalid("the operator Exists takes no value", f"{field}.value")
    if operator in ("Lt", "Gt"):
        if not _INTEGER.fullmatch(value):
            raise Invalid(f"the operator {operator} compares whole numbers", f"{field}.value")
    elif not _VALUE.fullmatch(value):
        raise Invalid("this is no value that a taint can have", f"{field}.value")
    return {name: given for name, given in written.items() if name in _TEXTS and given}


# --- label selectors -----------------------------------------------------------------------------------

# https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_PREFIX = re.compile(r"(?=.{1,253}$)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")
_VALUE = re.compile(rf"(?:{_NAME.pattern})?")
_REQUIREMENT = re.compile(
    r"""\s*(?P<no>!)?\s* (?P<key>[A-Za-z0-9_./-]++) \s*
        (?: (?P<operator>==|=|!=|<|>) \s* (?P<value>[A-Za-z0-9_.-]*)
          | (?P<set>in|notin) \s* \( (?P<values>[A-Za-z0-9_.,\s-]*) \) )? \s*""",
    re.VERBOSE | re.ASCII,
)


def _is_key(key: str) -> bool:
    prefix, slash, name = key.rpartition("/")
    return bool(_NAME.fullmatch(name)) and (not slash or bool(_PREFIX.fullmatch(prefix)))


def selector(written: str) -> Callable[[Labels], bool]:
    """What a label selector says of labels: `a=b,c!=d,e in (f,g),h notin (i),j,!k`, `l>1`, `m<2`.

    All of it must hold. As in Kubernetes `!=` and `notin` hold where there is no such label, and an empty
    selector holds for all. Raises Invalid.
    """
    if len(written.encode()) > MAX_SELECTOR:
        raise Invalid(f"a selector may have {MAX_SELECTOR} bytes", "selector")
    if not written.strip():
        return lambda labels: True
    holds, at = [], 0
    while True:
        match = _REQUIREMENT.match(written, at)
        if match is None or (match.end() < len(written) and written[match.end()] != ","):
            raise Invalid(
                f"cannot read {written[at : at + 40]!r}; expected a selector such as 'a=b,c in (d,e),!f'",
                "selector",
            )
        holds.append(_requirement(match))
        at = match.end() + 1
        if at > len(written):
            return lambda labels: all(one(labels) for one in holds)


def _requirement(match: re.Match[str]) -> Callable[[Labels], bool]:
    key, operator = match["key"], match["operator"] or match["set"]
    if not _is_key(key):
        raise Invalid(f"{key[:40]!r} is no key that a label can have", "selector")
    if match["no"]:
        if operator:
            raise Invalid(f"'!{key[:40]}' takes no value", "selector")
        return lambda labels: key not in labels
    if operator is None:
        return lambda labels: key in labels
    if operator in "<>":
        if not _INTEGER.fullmatch(match["value"]):
            raise Invalid(f"{key[:40]!r} can be compared with a whole number only", "selector")
        bound, sign = int(match["value"]), -1 if operator == "<" else 1
        return lambda labels: (
            bool(_INTEGER.fullmatch(labels.get(key, ""))) and (int(labels[key]) - bound) * sign > 0
        )
    values = frozenset(
        value.strip() for value in (match["values"].split(",") if match["set"] else [match["value"]])
    )
    for value in values:
        if not _VALUE.fullmatch(value):
            raise Invalid(f"{value[:40]!r} is no value that a label can have", "selector")
    if operator in ("!=", "notin"):
        return lambda labels: labels.get(key) not in values
    return lambda labels: labels.get(key) in values
