"""checkov finds nothing in what the chart renders but what helm/policy.yaml gives a reason for.

It needs half a hundred packages in versions of its own choice, so that `make` gives it a virtual
environment of its own.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helm.chart import CASES, ROOT, render, values

CHECKOV = ROOT / ".venv-checkov" / "bin" / "checkov"
ACCEPTED: list[dict[str, Any]] = yaml.safe_load((ROOT / "helm" / "policy.yaml").read_text())
Found = tuple[str, str, str]

pytestmark = [
    pytest.mark.skipif(not CHECKOV.exists(), reason="NOT TRIED: no checkov; `make .venv-checkov/.installed`"),
    pytest.mark.timeout(240),
]


def scan(directory: Path) -> set[Found]:
    """What checkov finds in a directory: the check, the object's kind, the file's name without its end."""
    words = ["--directory", str(directory), "--framework", "kubernetes", "--output", "json"]
    # It looks for explanations on the network, and runs as well without.
    quiet = ["--skip-download", "--quiet", "--compact", "--soft-fail"]
    run = subprocess.run(
        [CHECKOV, *words, *quiet],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"], "LOG_LEVEL": "ERROR"},
    )
    report = json.loads(run.stdout)
    assert report["summary"]["parsing_errors"] == 0
    assert report["summary"]["passed"] > 0
    return {
        (failed["check_id"], failed["resource"].partition(".")[0], Path(failed["file_path"]).stem)
        for failed in report["results"]["failed_checks"]
    }


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> set[Found]:
    """All that is found, in the objects of every file in ci/."""
    directory = tmp_path_factory.mktemp("rendered")
    for case in CASES:
        (directory / f"{case}.yaml").write_text(yaml.safe_dump_all(render(values(case)).objects))
    return scan(directory)


def accepts(row: dict[str, Any], finding: Found) -> bool:
    check, kind, case = finding
    return check == row["check"] and kind in row["kinds"] and case in row.get("cases", [case])


def test_nothing_is_found_without_a_reason(found: set[Found]) -> None:
    assert sorted(f for f in found if not any(accepts(row, f) for row in ACCEPTED)) == []


def test_no_reason_is_given_for_nothing(found: set[Found]) -> None:
    for row in ACCEPTED:
        assert row["why"]
        for kind in row["kinds"]:
            assert any(accepts({**row, "kinds": [kind]}, finding) for finding in found), (row, kind)


def test_a_privileged_pod_is_found(tmp_path: Path) -> None:
    """It looks indeed."""
    deployment = render({}).one("Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["securityContext"]["privileged"] = True
    (tmp_path / "default.yaml").write_text(yaml.safe_dump(deployment))
    assert ("CKV_K8S_16", "Deployment", "default") in scan(tmp_path)
