"""`make sbom`: the bill of materials names what is shipped."""

import json
import subprocess
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

import rqueue
from tests.supply.test_lock import AWAY, RUNTIME, installed

ROOT = Path(__file__).parents[2]


def test_it_names_every_locked_package_with_its_release_and_licence() -> None:
    made = subprocess.run(["make", "sbom"], cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    if made.returncode and AWAY.search(made.stderr):
        pytest.skip(f"NOT TRIED, since no registry can be asked: {made.stderr.splitlines()[-1]}")
    assert made.returncode == 0, made.stderr
    bill = json.loads((ROOT / "dist" / "rqueue.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    named = {canonicalize_name(part["name"]): part["version"] for part in bill["components"]}
    assert named == {**installed(RUNTIME), "rqueue": rqueue.__version__}
    assert [part["name"] for part in bill["components"] if not part.get("licenses")] == []
