"""The reference pages say what the code does: settings, routes, error codes, keys."""

import re
from dataclasses import asdict
from pathlib import Path

import orjson
import pytest

from rqueue import errors
from rqueue.config import PREFIX, SETTINGS
from rqueue.domain.job import Job, Reason, Status
from rqueue.domain.policy import Settings
from rqueue.store.check import FAULTS
from rqueue.store.keys import KEYS, Keys
from rqueue.web.answers import STATUSES
from rqueue.web.middleware import CODES
from rqueue.web.routes import INBOX_ROUTES, LOGIN_ROUTES, ROUTES

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def rows(page: str, first: str) -> list[list[str]]:
    """The rows of every table of a page whose first cell matches, cells without back-quotes at their ends."""
    found = []
    for line in (DOCS / page).read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and re.fullmatch(first, cells[0].strip("`")):
            found.append(cells)
    return found


def test_every_setting_of_the_service_is_there() -> None:
    expected = [[f"`{PREFIX}{s.name}`", f"`{s.default}`" if s.default else "", s.help] for s in SETTINGS]
    assert rows("settings.md", f"{PREFIX}[A-Z_]+") == expected


def test_every_setting_of_a_queue_is_there() -> None:
    documented = {
        name.strip("`"): default.strip("`")
        for name, default, _ in rows("settings.md", "[a-z_]+")
        if name != "setting"
    }
    documented.pop("variable", None)
    assert documented == {name: orjson.dumps(value).decode() for name, value in asdict(Settings()).items()}


def test_every_route_is_there() -> None:
    documented = [row[0].strip("`") for row in rows("api.md", "(GET|POST|PUT|DELETE) .*")]
    assert documented == [
        f"{method} {path}" for method, path, _, _ in (*ROUTES, *LOGIN_ROUTES, *INBOX_ROUTES)
    ]


def test_every_error_code_is_there_with_its_status() -> None:
    def below(kind: type[errors.RqueueError]) -> list[type[errors.RqueueError]]:
        return [kind, *(found for child in kind.__subclasses__() for found in below(child))]

    expected = {
        kind.code: str(next(s for k, s in STATUSES if issubclass(kind, k)))
        for kind in below(errors.RqueueError)
    }
    expected |= {code: str(status) for status, code in CODES.items()}
    expected["refused"] = "none"
    documented = {row[1].strip("`"): row[0] for row in rows("api.md", "[0-9]{3}|none")}
    assert documented == expected


def test_every_key_is_there() -> None:
    keys = Keys("rqueue")
    expected = [[keys.of("vm", name), *said] for name, said in KEYS.items()]
    documented = [[cell.replace("`", "") for cell in row] for row in rows("keys.md", "rqueue:.*")]
    for row in documented:
        # What follows a prefix is named for the reader.
        row[0] = re.sub("(<[a-z_]+>/)?<[a-z_]+>$", "", row[0])
    assert documented[: len(KEYS)] == expected
    assert [row[0] for row in documented[len(KEYS) :]] == [
        keys.types,
        keys.callback_secret,
        keys.inbox,
        keys.replicated,
        keys.ready,
    ]


def test_every_fault_that_check_finds_is_there() -> None:
    expected = [[f"`{code}`", *said] for code, said in FAULTS.items()]
    assert rows("repair.md", "[a-z_]+")[2:] == expected


@pytest.mark.parametrize("word", [*Status, *Reason])
def test_every_status_and_reason_is_there(word: str) -> None:
    assert f"`{word}`" in (DOCS / "api.md").read_text()


def test_every_field_of_a_job_is_there() -> None:
    job = Job(
        1,
        2,
        3,
        4,
        "d",
        "vm",
        "y",
        "{}",
        "abc",
        5,
        Status.QUEUED,
        "p",
        ("n",),
        1,
        "x",
        "a",
        6,
        0,
        0,
        Reason.BEHIND,
    )
    documented = set(
        re.findall(r"`([A-Za-z]+)`", " ".join(row[0] for row in rows("api.md", "[A-Z][A-Za-z` ]+")))
    )
    assert set(job.document()) <= documented
