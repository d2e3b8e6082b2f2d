"""The Dockerfile keeps the rules: hadolint's, and those that a cluster's policies ask for."""

import configparser
import json
import re
import subprocess
import sys
from pathlib import Path

import rqueue
from rqueue.config import SETTINGS
from tests.image.room import ROOT, health_check, stages, the

HADOLINT = Path(sys.executable).with_name("hadolint")


def hadolint(path: Path) -> str:
    """What hadolint says of a file, which is nothing where it is good."""
    return subprocess.run([HADOLINT, path], capture_output=True, text=True, check=False).stdout


def test_hadolint_finds_nothing() -> None:
    assert hadolint(ROOT / "Dockerfile") == ""


def test_hadolint_finds_what_is_wrong(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM python:latest\nRUN pip install aiohttp\nCMD rqueue serve\n")
    assert {"DL3007", "DL3013", "DL3025"} <= set(re.findall(r"DL[0-9]{4}", hadolint(bad)))


def arguments() -> dict[str, str]:
    """Every ARG with its default."""
    pairs = (step.words.partition("=") for stage in stages() for step in stage if step.name == "ARG")
    return {name: default for name, _, default in pairs}


def test_the_base_is_one_release_and_takes_a_digest() -> None:
    """Of the Python that the tests and mypy are about."""
    written = configparser.ConfigParser()
    written.read(ROOT / "setup.cfg")
    python = written["mypy"]["python_version"]
    assert re.fullmatch(rf"{re.escape(python)}\.[0-9]+-slim-[a-z]+", arguments()["PYTHON"])
    assert arguments()["BASE"] == "python:${PYTHON}${PYTHON_DIGEST:+@${PYTHON_DIGEST}}"
    assert {stage[0].words.split()[0] for stage in stages()[1:]} == {"${BASE}", "scratch"}


def test_every_install_is_by_hash() -> None:
    runs = [step.words for stage in stages() for step in stage if step.name == "RUN"]
    installs = [part for run in runs for part in run.split("&&") if re.search(r"\bpip\b.* install\b", part)]
    assert len(installs) == 3
    for part in installs:
        assert re.search(r"--require-hashes|--no-index", part), part
        assert re.search(r"--only-binary :all:|--no-index", part), part
    (wheel,) = (part for run in runs for part in run.split("&&") if "/python wheel " in part)
    assert "--no-build-isolation" in wheel


def test_it_runs_as_a_user_by_number() -> None:
    assert re.fullmatch(r"[1-9][0-9]{3,}:[1-9][0-9]{3,}", the("USER"))
    assert f"--chown={the('USER')}" in " ".join(step.words for step in stages()[-1])


def test_how_it_starts_and_stops() -> None:
    assert json.loads(the("ENTRYPOINT")) == ["rqueue"]
    assert json.loads(the("CMD")) == ["serve"]
    assert health_check() == ["rqueue", "healthcheck"]
    assert the("STOPSIGNAL") == "SIGTERM"
    assert json.loads(the("VOLUME")) == ["/data"]
    assert the("EXPOSE") == next(s.default for s in SETTINGS if s.name == "PORT")


def test_its_labels() -> None:
    assert arguments()["VERSION"] == rqueue.__version__
    names = set(re.findall(r"org\.opencontainers\.image\.([a-z.]+)=", the("LABEL")))
    assert names >= {"title", "description", "licenses", "version", "revision", "created", "source"}


def test_no_step_fetches_by_itself() -> None:
    for step in (step for stage in stages() for step in stage):
        assert step.name != "ADD"
        assert not re.search(r"\b(curl|wget|git|sudo)\b|https?://", step.words), step


def test_the_builder_is_sent_what_is_copied_and_no_more() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    sent = {line.removeprefix("!") for line in lines if line.startswith("!")}
    copies = [step.words for stage in stages() for step in stage if step.name == "COPY"]
    copied = {name for words in copies if "--from" not in words for name in words.split()[:-1]}
    assert "*" in lines
    assert sent == copied
    assert all((ROOT / name).exists() for name in copied)
