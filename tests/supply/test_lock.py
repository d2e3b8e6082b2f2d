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
RUNTIME, EXTRAS, DEV, BUILD = LOCKS = (
    "requirements.lock",
    "requirements-extras.lock",
    "requirements-dev.lock",
    "requirements-build.lock",
)
SHIPPED = (RUNTIME, EXTRAS)
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
# What uv says where the registry cannot be reached.
AWAY = re.compile(r"dns error|error sending request|connection refused|timed out", re.IGNORECASE)


def locked(name: str) -> list[Requirement]:
    """Every requirement of a lock file, without the hashes; a name may be there for several markers."""
    text = (ROOT / name).read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert all(len(HASH.findall(line)) == line.count("--hash") > 0 for line in lines)
    return [Requirement(line.partition("--hash")[0].strip()) for line in lines]


def version(pinned: Requirement) -> str:
    """The one release that a lock file admits."""
    (pin,) = pinned.specifier
    assert pin.operator == "=="
    return pin.version


def installed(name: str, **environment: str) -> dict[str, str]:
    """Name and release of what is installed from a lock file, here or in such an environment."""
    return {
        canonicalize_name(pinned.name): version(pinned)
        for pinned in locked(name)
        if pinned.marker is None or pinned.marker.evaluate({"extra": "", **environment})
    }


def asked() -> dict[str, list[Requirement]]:
    """What setup.cfg and pyproject.toml ask for, by the lock file that answers."""
    written = configparser.ConfigParser()
    written.read(ROOT / "setup.cfg")
    extras = written["options.extras_require"]

    def read(lines: str) -> list[Requirement]:
        found = [Requirement(line) for line in lines.split("\n") if line]
        inside = [extra for wanted in found if wanted.name == "rqueue" for extra in wanted.extras]
        return [r for r in found if r.name != "rqueue"] + [r for extra in inside for r in read(extras[extra])]

    runtime = read(written["options"]["install_requires"])
    builds = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    optional = [
        wanted for extra in extras if extra not in ("dev", "bench", "docs") for wanted in read(extras[extra])
    ]
    return {
        RUNTIME: runtime,
        EXTRAS: runtime + optional,
        DEV: runtime + read(extras["dev"]),
        BUILD: [Requirement(line) for line in builds],
    }


@pytest.mark.parametrize("lock", LOCKS)
def test_what_is_asked_for_is_locked(lock: str) -> None:
    pins = locked(lock)
    for wanted in asked()[lock]:
        found = [pin for pin in pins if canonicalize_name(pin.name) == canonicalize_name(wanted.name)]
        assert found, f"{wanted} is not in {lock}: run `make lock`"
        for pin in found:
            assert wanted.specifier.contains(version(pin), prereleases=True), (
                f"{lock} has {pin}, and {wanted} is asked for: run `make lock`"
            )


@pytest.mark.parametrize("lock", SHIPPED)
def test_what_is_tried_is_what_is_shipped(lock: str) -> None:
    shipped = installed(lock)
    assert {name: there for name, there in installed(DEV).items() if name in shipped} == shipped


@pytest.mark.parametrize("lock", LOCKS)
def test_no_lock_says_where_it_came_from(lock: str) -> None:
    """A mirror is as good: what counts is the hash."""
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert not re.search(r"--(extra-)?index-url|--find-links|file:|/opt/|/tmp/", text)


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("lock", SHIPPED)
def test_all_that_is_locked_is_there_built(lock: str, machine: str, python: str, tmp_path: Path) -> None:
    """Of every dependency there is a wheel for this Python on Linux, so that an image needs no compiler."""
    asking = subprocess.run(
        [
            *(UV, "pip", "install", "--dry-run", "--require-hashes", "--only-binary", ":all:"),
            *("--python-platform", f"{machine}-manylinux_2_28", "--python-version", f"{python}.9"),
            *("--target", tmp_path, "--requirement", ROOT / lock),
        ],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    if asking.returncode and AWAY.search(asking.stderr):
        pytest.skip(f"NOT TRIED, since no registry can be asked: {asking.stderr.splitlines()[-1]}")
    assert asking.returncode == 0, asking.stderr
    would = re.findall(r"^ \+ (\S+)==(\S+)", asking.stderr, re.MULTILINE)
    here = installed(
        lock,
        python_version=python,
        python_full_version=f"{python}.9",
        platform_machine=machine,
        sys_platform="linux",
        platform_system="Linux",
    )
    assert {canonicalize_name(name): there for name, there in would} == here
