"""docs/reliability.md: its table is made from what was recorded, and has each fault that is tested."""

import json
import re

from tests.faults.faults import AWAY, HANDS, MOMENTS, REPLICAS
from tests.faults.report import PAGE, RECORD, placed, table


def test_the_table_is_that_of_the_record() -> None:
    page = PAGE.read_text()
    assert page == placed(page, table(RECORD.read_text()))


def test_every_fault_was_recorded() -> None:
    recorded = {json.loads(line)["fault"] for line in RECORD.read_text().splitlines()}
    assert {*AWAY, *HANDS, *MOMENTS, *REPLICAS} <= recorded


def test_no_promise_was_broken() -> None:
    for line in RECORD.read_text().splitlines():
        row = json.loads(line)
        assert row["beyond"] == 0, row
        # Without replicas that confirm, a failover may lose what was not copied yet.
        assert row["lost"] == row["admitted_again"] == 0 or row["fault"].endswith("without it"), row


def test_tests_that_are_named_exist() -> None:
    named = re.findall(r"^\| .* \| `(\S+\.py)` (\w+) \|$", PAGE.read_text(), re.MULTILINE)
    assert len(named) > 50
    for file, name in named:
        assert f"def test_{name}(" in (PAGE.parents[1] / "tests" / file).read_text(), (file, name)
