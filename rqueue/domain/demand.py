"""What a job asks for, and what a host has.

Turns what a client wrote into integer amounts and back. Knows Kubernetes quantities; knows
neither Redis nor which hosts there are.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any

import orjson

from rqueue.errors import InvalidDemand

MAX_AMOUNT = 2**53 - 1
MAX_INSTANCES = 1000
MAX_RUNS = 16
MAX_RESOURCES = 32
MAX_NAME_BYTES = 256
SHORT_DEMAND = 1024

# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/ without exponents.
QUANTITY = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,20})?)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?")
_UNITS: dict[str | None, Fraction] = {
    None: Fraction(1),
    "m": Fraction(1, 1000),
    **{unit: Fraction(1000**power) for power, unit in enumerate("kMGTPE", 1)},
    **{f"{unit}i": Fraction(1024**power) for power, unit in enumerate("KMGTPE", 1)},
}
_EXPECTED = 'expected a whole number or a quantity such as "500m" or "2Gi"'
_SLOT: list[dict[str, int]] = [{"slots": 1}]


def amount(resource: str, written: object, field: str | None = None) -> int:
    """Read one amount as a whole number of the resource's own unit.

    `cpu` counts in millicores (so `2`, `"2"` and `"2000m"` are 2000), all else in units; suffixes
    are Kubernetes' (m, k, M, G, T, P, E, Ki … Ei). Raises InvalidDemand, naming the resource, for
    what is negative, not whole, or beyond 2^53 - 1, the largest integer a script can hold.
    """
    if type(written) is int and 0 <= written <= MAX_AMOUNT and resource != "cpu":
        return written
    if isinstance(written, bool) or not isinstance(written, int | str):
        raise InvalidDemand(f"{resource!r} is {_kind(written)}; {_EXPECTED}", field)
    if isinstance(written, int):
        value = Fraction(written)
    else:
        match = QUANTITY.fullmatch(written)
        if match is None:
            raise InvalidDemand(f"{resource!r} is {written[:40]!r}; {_EXPECTED}", field)
        value = Fraction(match[1]) * _UNITS[match[2]]
    if resource == "cpu":
        value *= 1000
    if value < 0:
        raise InvalidDemand(f"{resource!r} is {written}; expected an amount that is not negative", field)
    if value.denominator != 1:
        raise InvalidDemand(f"{resource!r} is {written!r}, which is not a whole number of its unit", field)
    if value > MAX_AMOUNT:
        raise InvalidDemand(
            f"{resource!r} is more than 2^53 - 1, the largest amount that can be counted", field
        )
    return int(value)


def quantity(resource: str, amount: int) -> int | str:
    """Write an amount so that `amount` reads the same again: cpu as 4 or "1500m", all else as it is."""
    if resource != "cpu":
        return amount
    return f"{amount}m" if amount % 1000 else amount // 1000


def amounts(written: object, field: str) -> dict[str, int]:
    """Read a map of resource → amount. Raises InvalidDemand for anything else, or for none at all."""
    if not isinstance(written, Mapping):
        raise InvalidDemand(f"expected a map of resource to amount, got {_kind(written)}", field)
    if not written:
        raise InvalidDemand("expected at least one resource", field)
    if len(written) > MAX_RESOURCES:
        raise InvalidDemand(f"{len(written)} resources; at most {MAX_RESOURCES} are allowed", field)
    read = {}
    for resource, value in written.items():
        if not 0 < len(resource.encode()) <= MAX_NAME_BYTES:
            raise InvalidDemand(f"a resource's name must have 1 to {MAX_NAME_BYTES} bytes", field)
        read[resource] = amount(resource, value, f"{field}.{resource}")
    return read


def demand(data: Mapping[str, Any], field: str = "data") -> str:
    """Normalise `data.instances` to the JSON text that the scripts read.

    `[[count, {resource: amount}], …]`: runs of equal instances in the client's order, so that a
    placement can name the host of each; resources sorted, zeros left out, so that equal demands
    are equal texts. Without `instances`: one slot. Raises InvalidDemand.
    """
    instances = data.get("instances", _SLOT)
    field = f"{field}.instances"
    if not isinstance(instances, Sequence) or isinstance(instances, str):
        raise InvalidDemand(f"expected a list of instances, got {_kind(instances)}", field)
    if not 0 < len(instances) <= MAX_INSTANCES:
        raise InvalidDemand(f"{len(instances)} instances; expected 1 to {MAX_INSTANCES}", field)
    runs: list[list[Any]] = []
    for index, instance in enumerate(instances):
        shape = {name: value for name, value in amounts(instance, f"{field}.{index}").items() if value}
        if runs and runs[-1][1] == shape:
            runs[-1][0] += 1
        else:
            runs.append([1, shape])
    if len(runs) > MAX_RUNS:
        raise InvalidDemand(
            f"{len(runs)} changes of shape from one instance to the next; at most {MAX_RUNS} are allowed:"
            " put equal instances next to each other",
            field,
        )
    return orjson.dumps(runs, option=orjson.OPT_SORT_KEYS).decode()


def exceeds(demand: str, bounds: str) -> bool:
    """Whether a demand is more than the largest host or the whole pool has: Pool.bounds, as JSON.

    Some that never fit pass this, and are found out when it is their turn. What a hand edit made unreadable
    exceeds.
    """
    # Many jobs ask for the same.
    judge = _exceeds if len(demand) <= SHORT_DEMAND else _exceeds.__wrapped__
    return judge(demand, bounds)


@lru_cache(maxsize=1024)
def _exceeds(demand: str, bounds: str) -> bool:
    asked: Counter[str] = Counter()
    try:
        limits = orjson.loads(bounds)
        for count, shape in orjson.loads(demand):
            for resource, amount in shape.items():
                asked[resource] += count * amount
                most, all_ = limits.get(resource, (0, 0))
                if amount > most or asked[resource] > all_:
                    return True
    except (ValueError, TypeError, AttributeError):
        return True
    return False


def _kind(value: object) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number with a fraction", str: "a string"}
    names |= {list: "a list", dict: "a map", type(None): "null"}
    return names.get(type(value), type(value).__name__)
