"""No known vulnerability is in what is shipped, where anybody can be asked."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from tests.supply.test_lock import BUILD, EXTRAS

ROOT = Path(__file__).parents[2]
PIP_AUDIT = Path(sys.executable).with_name("pip-audit")


def not_audited(why: str) -> NoReturn:
    """Skips in `make test`, and fails in `make audit`, where the answer is what one asks for."""
    if os.environ.get("MUST_AUDIT"):
        pytest.fail(why)
    pytest.skip(why)


@pytest.mark.parametrize("service", ["pypi", "osv"])
def test_no_known_vulnerability_is_shipped(service: str) -> None:
    """A package that could not be looked up is no good news, and pip-audit ends with 0 all the same."""
    audit = subprocess.run(
        [
            *(PIP_AUDIT, "--disable-pip", "--require-hashes"),
            *("--requirement", ROOT / EXTRAS, "--requirement", ROOT / BUILD),
            *("--vulnerability-service", service, "--timeout", "5", "--format", "json"),
            *("--progress-spinner", "off"),
        ],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    if not audit.stdout.startswith("{"):
        said = audit.stderr.strip().splitlines()[-1]
        assert "ConnectionError" in said or "ServiceError" in said or "Timeout" in said, audit.stderr
        not_audited(f"NOT AUDITED: {service} cannot be asked: {said[:200]}")
    asked = json.loads(audit.stdout)["dependencies"]
    assert asked
    unknown = [dependency["name"] for dependency in asked if "skip_reason" in dependency]
    if len(unknown) == len(asked):
        not_audited(f"NOT AUDITED: {service} says nothing of any package: {asked[0]['skip_reason']}")
    found = [
        f"{dependency['name']} {dependency['version']}: {flaw['id']}, mended in {flaw['fix_versions']}"
        for dependency in asked
        for flaw in dependency.get("vulns", [])
    ]
    assert not found, "\n".join(found)
    assert not unknown
