"""The lock files: whole, hashed, as setup.cfg asks, and of wheels only where we say that it runs."""

import configparser
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")
RUNTIME, DEV, BUILD = "requirements.lock", "requirements-dev.lock", "requirements-build.lock"
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
# What uv says where the registry cannot be reached.
AWAY = re.compile(r"dns error|error sending request|connection refused|timed out", re.IGNORECASE)


def locked(name: str) -> dict[str, Requirement]:
    """Every requirement of a lock file by its name, without the hashes."""
    text = (ROOT / name).read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    found = [Requirement(line.partition("--hash")[0].strip()) for line in lines]
    assert all(len(HASH.findall(line)) == line.count("--hash") > 0 for line in lines)
    return {canonicalize_name(requirement.name): requirement for requirement in found}


def asked() -> dict[str, list[str]]:
    """What setup.cfg and pyproject.toml ask for, by the lock file that answers."""
    written = configparser.ConfigParser()
    written.read(ROOT / "setup.cfg")
    needs = written["options"]["install_requires"].split("\n")
    extra = written["options.extras_require"]["dev"].split("\n")
    builds = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    return {RUNTIME: [n for n in needs if n], DEV: [n for n in needs + extra if n], BUILD: builds}


@pytest.mark.parametrize("lock", [RUNTIME, DEV, BUILD])
def test_what_is_asked_for_is_locked(lock: str) -> None:
    found = locked(lock)
    for written in asked()[lock]:
        wanted = Requirement(written)
        pinned = found.get(canonicalize_name(wanted.name))
        assert pinned is not None, f"{wanted} is not in {lock}: run `make lock`"
        (pin,) = pinned.specifier
        assert pin.operator == "=="
        assert wanted.specifier.contains(pin.version, prereleases=True), (
            f"{lock} has {pinned}, setup.cfg asks for {wanted}: run `make lock`"
        )


def test_what_is_tried_is_what_is_shipped() -> None:
    tried = locked(DEV)
    for name, shipped in locked(RUNTIME).items():
        assert tried[name].specifier == shipped.specifier, f"{shipped} is not what is tested: run `make lock`"


@pytest.mark.parametrize("lock", [RUNTIME, DEV, BUILD])
def test_no_lock_says_where_it_came_from(lock: str) -> None:
    """A mirror is as good: what counts is the hash."""
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert not re.search(r"--(extra-)?index-url|--find-links|file:|/opt/|/tmp/", text)


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_all_that_is_locked_is_there_built(machine: str, python: str, tmp_path: Path) -> None:
    """Of every dependency there is a wheel for this Python on Linux, so that an image needs no compiler."""
    asking = subprocess.run(
        [
            *(UV, "pip", "install", "--dry-run", "--require-hashes", "--only-binary", ":all:"),
            *("--python-platform", f"{machine}-manylinux_2_28", "--python-version", f"{python}.9"),
            *("--target", tmp_path, "--requirement", ROOT / RUNTIME),
        ],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    if asking.returncode and AWAY.search(asking.stderr):
        pytest.skip(f"NOT TRIED, since no registry can be asked: {asking.stderr.splitlines()[-1]}")
    assert asking.returncode == 0, asking.stderr
    would = set(re.findall(r"^ \+ (\S+)==", asking.stderr, re.MULTILINE))
    environment = {"python_full_version": f"{python}.9", "platform_machine": machine, "extra": ""}
    here = {
        name
        for name, requirement in locked(RUNTIME).items()
        if requirement.marker is None or requirement.marker.evaluate(environment)
    }
    assert {canonicalize_name(name) for name in would} == here
