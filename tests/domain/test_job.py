"""A job as clients see it, its moments, and the table of its legal moves."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rqueue.domain import job as rules
from rqueue.domain.job import Job, Reason, Status, written

SEED_FIELDS = [
    *("ID", "CreatedAt", "UpdatedAt", "DeletedAt", "RequestID", "Type", "OwnerID", "Data", "Callback"),
    *("Priority", "Status"),
]
QUEUED, CALLING, RUNNING, DONE, CANCELLED, FAILED, EXPIRED = Status

BARE = Job(
    id=7,
    created_at=1_535_340_428_564_319,
    updated_at=1_535_340_602_250_197,
    deleted_at=None,
    request_id="d",
    type="vm",
    owner_id="y",
    data="{}",
    callback="abc",
    priority=2_756_167_942_488_154,
    status=QUEUED,
    pool="host1",
)


def test_a_document_has_the_fields_of_the_seed_in_their_order():
    document = BARE.document()
    assert list(document) == SEED_FIELDS
    assert document == {
        "ID": 7,
        "CreatedAt": "2018-08-27T03:27:08.564319+00:00",
        "UpdatedAt": "2018-08-27T03:30:02.250197+00:00",
        "DeletedAt": None,
        "RequestID": "d",
        "Type": "vm",
        "OwnerID": "y",
        "Data": "{}",
        "Callback": "abc",
        "Priority": 2756167942488154,
        "Status": "queued",
    }


@pytest.mark.parametrize(
    ("changes", "further"),
    [
        (
            {"position": 0, "ahead": 0, "reason": Reason.NO_POOL, "words": "pool p is not declared"},
            {"Position": 0, "Ahead": 0, "Reason": "no_pool: pool p is not declared", "EstimatedStart": None},
        ),
        ({"placement": ("a", "a"), "attempts": 0}, {"Placement": ("a", "a"), "Attempts": 0}),
        ({"attempts": 3, "last_error": "no"}, {"Attempts": 3, "LastError": "no"}),
        ({"admission": "secret", "admitted_at": 5}, {}),
    ],
)
def test_further_fields_come_after_and_only_where_they_apply(changes, further):
    document = BARE._replace(**changes).document()
    assert list(document) == SEED_FIELDS + list(further)
    assert {name: document[name] for name in further} == further


def test_an_ended_job_says_when():
    assert BARE._replace(deleted_at=1).document()["DeletedAt"] == "1970-01-01T00:00:00.000001+00:00"


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [
        (0, "1970-01-01T00:00:00.000000+00:00"),
        (1_000_000, "1970-01-01T00:00:01.000000+00:00"),
        (2**53 - 1, "2255-06-05T23:47:34.740991+00:00"),
        (2**53 + 1, "2255-06-05T23:47:34.740993+00:00"),
    ],
)
def test_a_moment_has_fraction_and_offset(microseconds, text):
    assert written(microseconds) == text


@given(st.integers(0, 2**53 + 10_000))
def test_a_moment_is_exact_to_the_microsecond(microseconds):
    read = datetime.fromisoformat(written(microseconds)) - datetime.fromisoformat("1970-01-01T00:00:00+00:00")
    assert read // timedelta(microseconds=1) == microseconds


# The diagram of a job's life, arrow by arrow. Admission and the lapse of a lease are the scripts' own.
LIFE = {
    "CONFIRM": {CALLING: RUNNING, RUNNING: RUNNING},
    "FINISH": {CALLING: DONE, RUNNING: DONE},
    "DELETE": {QUEUED: CANCELLED, CALLING: DONE, RUNNING: DONE},
    "REQUEUE": {FAILED: QUEUED, EXPIRED: QUEUED, RUNNING: QUEUED},
    "ACCEPTED": {CALLING: RUNNING},
    "UNWANTED": {CALLING: CANCELLED},
    "UNREACHABLE": {CALLING: FAILED},
}


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("asked", LIFE)
def test_only_the_moves_of_the_diagram_are_legal(asked, status):
    assert getattr(rules, asked).get(status) == LIFE[asked].get(status)


def test_a_client_asks_by_the_name_of_a_status():
    assert rules.ASKED == {
        "running": rules.CONFIRM,
        "done": rules.FINISH,
        "queued": rules.REQUEUE,
        "calling": rules.REDELIVER,
    }
