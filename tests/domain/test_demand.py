"""What a job asks for: amounts, quantities and the normal form of a demand."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rqueue.domain.demand import MAX_AMOUNT, MAX_RUNS, amount, amounts, demand, exceeds, quantity
from rqueue.errors import InvalidDemand


@pytest.mark.parametrize(
    ("resource", "written", "read"),
    [
        ("VCPU", 0, 0),
        ("VCPU", 64, 64),
        ("VCPU", "64", 64),
        ("VCPU", "064", 64),
        ("VCPU", "2.0", 2),
        ("VCPU", "2000m", 2),
        ("memory", "1k", 1000),
        ("memory", "1M", 1000**2),
        ("memory", "1G", 1000**3),
        ("memory", "1T", 1000**4),
        ("memory", "1P", 1000**5),
        ("memory", "0.001E", 1000**5),
        ("memory", "1Ki", 1024),
        ("memory", "1Mi", 1024**2),
        ("memory", "1Gi", 1024**3),
        ("memory", "1Ti", 1024**4),
        ("memory", "1Pi", 1024**5),
        ("memory", "0.0009765625Ei", 1024**5),
        ("memory", "1.5Gi", 3 * 2**29),
        ("cpu", 2, 2000),
        ("cpu", "2", 2000),
        ("cpu", "500m", 500),
        ("cpu", "0.5", 500),
        ("cpu", "1k", 1_000_000),
        ("CPU", 2, 2),
        ("VCPU", MAX_AMOUNT, MAX_AMOUNT),
        ("VCPU", str(MAX_AMOUNT), MAX_AMOUNT),
        ("cpu", f"{MAX_AMOUNT}m", MAX_AMOUNT),
    ],
)
def test_an_amount_is_a_whole_number_of_its_unit(resource, written, read):
    assert amount(resource, written) == read


@pytest.mark.parametrize(
    ("resource", "written"),
    [
        *(("VCPU", value) for value in (None, True, False, 1.0, 1.5, float("nan"), [], {}, [1], b"1")),
        *(("VCPU", text) for text in ("", " ", " 1", "1 ", "1\n", "-1", "+1", "1,5", ".", ".5", "5.", "1e3")),
        *(("VCPU", text) for text in ("m", "Gi", "1g", "1gi", "1KI", "1 Gi", "1GiB", "0x10", "1_000", "NaN")),
        *(
            ("VCPU", text)
            for text in ("Infinity", "\u0661", "\uff11", "1\x00", "\x00", "9" * 21, "9" * 50_000)
        ),
        *(("VCPU", value) for value in (-1, -(2**53), 2**53, 10**40, 10**4000)),
        *(("VCPU", text) for text in ("500m", "1.5", "0.3Ki", str(2**53), "8Pi", "1E")),
        *(("cpu", value) for value in ("0.5m", "0.0005", MAX_AMOUNT, "10T")),
        # More digits than the default precision of a Decimal.
        ("VCPU", "123456789.00000000000000000001"),
        ("VCPU", "9007199254740991.00000000000000000001"),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_what_is_no_amount_is_refused_and_named(resource, written):
    with pytest.raises(InvalidDemand) as refused:
        amount(resource, written, "data.instances.0.x")
    assert repr(resource) in refused.value.message
    assert len(refused.value.message) < 200
    assert refused.value.field == "data.instances.0.x"


@given(st.sampled_from(["cpu", "VCPU"]), st.integers(0, MAX_AMOUNT))
def test_a_quantity_reads_back_the_same(resource, number):
    assert amount(resource, quantity(resource, number)) == number


@pytest.mark.parametrize(("number", "written"), [(0, 0), (1, "1m"), (1500, "1500m"), (4000, 4)])
def test_cpu_is_written_in_cores_where_it_is_whole(number, written):
    assert quantity("cpu", number) == written
    assert quantity("VCPU", number) == number


_UNITS = {"": 1, "k": 1000, "M": 1000**2, "Ki": 1024, "Mi": 1024**2, "m": Decimal("0.001")}


@given(st.integers(0, 10**9), st.integers(0, 10**9 - 1), st.sampled_from(sorted(_UNITS)))
def test_fractions_are_exact(whole, fraction, unit):
    text = f"{whole}.{fraction:09d}"
    exact = Decimal(text) * _UNITS[unit]
    read = exact if exact == int(exact) and exact <= MAX_AMOUNT else None
    try:
        found = amount("x", text + unit)
    except InvalidDemand:
        found = None
    assert found == read


def test_amounts_are_read_by_resource():
    written = {"cpu": "500m", "memory": "2Gi", "nvidia.com/gpu": 1, "Disk": 0}
    assert amounts(written, "f") == {"cpu": 500, "memory": 2 * 1024**3, "nvidia.com/gpu": 1, "Disk": 0}


@pytest.mark.parametrize(
    ("written", "field"),
    [
        *((value, "f") for value in (None, True, 1, 1.5, "VCPU", [], [1], {})),
        ({str(n): 1 for n in range(33)}, "f"),
        ({"": 1}, "f"),
        ({"虛" * 86: 1}, "f"),
        ({"VCPU": -1}, "f.VCPU"),
        ({"VCPU": 1, "cpu": None}, "f.cpu"),
    ],
)
def test_what_is_no_map_of_amounts_is_refused(written, field):
    with pytest.raises(InvalidDemand) as refused:
        amounts(written, "f")
    assert refused.value.field == field


def test_the_limits_of_a_map_are_allowed():
    names = [*(str(n) for n in range(31)), "虛" * 85 + "a"]
    assert amounts(dict.fromkeys(names, 1), "f") == dict.fromkeys(names, 1)


@pytest.mark.parametrize(
    ("data", "runs"),
    [
        ({}, [[1, {"slots": 1}]]),
        ({"project": "p", "anything": [1]}, [[1, {"slots": 1}]]),
        ({"instances": [{"VCPU": 1, "Memory": 1, "Disk": 1}]}, [[1, {"Disk": 1, "Memory": 1, "VCPU": 1}]]),
        ({"instances": [{"a": 1}] * 1000}, [[1000, {"a": 1}]]),
        ({"instances": [{"a": 1}, {"a": 2}, {"a": 1}]}, [[1, {"a": 1}], [1, {"a": 2}], [1, {"a": 1}]]),
        ({"instances": [{"a": 1, "b": 0}, {"a": "1000m"}]}, [[2, {"a": 1}]]),
        ({"instances": [{"a": 0}]}, [[1, {}]]),
        ({"instances": [{"虛": 1, "\x00": 2, '"': 3}]}, [[1, {"\x00": 2, '"': 3, "虛": 1}]]),
    ],
)
def test_a_demand_is_runs_of_equal_instances(data, runs):
    assert json.loads(demand(data)) == runs


_instance = st.dictionaries(st.sampled_from("abc"), st.integers(0, 3), min_size=1)


@given(st.lists(_instance, min_size=1, max_size=MAX_RUNS))
def test_equal_demands_are_equal_texts_and_keep_each_instance(instances):
    text = demand({"instances": instances})
    turned = [dict(reversed(instance.items())) for instance in instances]
    assert demand({"instances": [{**instance, "z": 0} for instance in turned]}) == text
    spelt_out = [shape for count, shape in json.loads(text) for _ in range(count)]
    assert spelt_out == [{name: n for name, n in instance.items() if n} for instance in instances]


@pytest.mark.parametrize(
    ("instances", "field"),
    [
        *(
            (value, "data.instances")
            for value in (None, True, 1, "x", {}, {"VCPU": 1}, [], [{"a": 1}] * 1001)
        ),
        ([{"a": n} for n in range(65)], "data.instances"),
        ([{"a": 1}, {}], "data.instances.1"),
        ([{"a": 1}, 5], "data.instances.1"),
        ([{"a": 1}, {"b": 1.5}], "data.instances.1.b"),
    ],
)
def test_what_is_no_demand_is_refused_and_the_place_named(instances, field):
    with pytest.raises(InvalidDemand) as refused:
        demand({"instances": instances})
    assert refused.value.field == field


BOUNDS = '{"gpu": [4, 8], "cpu": [1000, 1500]}'


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ('[[1,{"gpu":4}]]', False),
        ('[[1,{"gpu":5}]]', True),
        ('[[2,{"gpu":4}]]', False),
        ('[[3,{"gpu":4}]]', True),
        ('[[1,{"gpu":4}],[1,{"gpu":4,"cpu":1000}]]', False),
        ('[[1,{"gpu":4}],[2,{"gpu":3}]]', True),
        ('[[1,{"cpu":1000}],[1,{"cpu":600}]]', True),
        ('[[1,{"disk":1}]]', True),
        ('[[1,{"gpu":"many"}]]', True),
        ("[1]", True),
        ("", True),
        (f'[[1,{{"gpu":1}}]]{" " * 2000}', False),
    ],
)
def test_more_than_there_is_exceeds(asked, expected):
    assert exceeds(asked, BOUNDS) is expected
    assert exceeds(asked, "{}") is True
    assert exceeds(asked, "no JSON") is True
