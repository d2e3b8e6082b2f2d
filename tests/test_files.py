"""rqueue.files: what a mounted Secret or an editor does to a file, and what becomes of its value."""

import asyncio
import os
from contextlib import suppress
from pathlib import Path

import pytest

from rqueue import files as room
from rqueue.errors import Refused
from rqueue.files import Files, Watched

SECRET = "s3cretword"


def number(content: bytes) -> int:
    if not content.strip().isdigit():
        raise Refused("expected a number")
    return int(content)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "number"
    path.write_text("1\n")
    return path


def test_a_file_that_changes_is_read_again(file):
    watched = Watched("X_FILE", number, file)
    assert watched.value == 1
    file.write_text("2")
    assert watched.value == 1
    watched.look()
    assert watched.value == 2


def test_a_change_that_neither_time_nor_size_tells_is_seen(file):
    watched = Watched("X_FILE", number, file)
    was = file.stat()
    file.write_text("3\n")
    os.utime(file, ns=(was.st_atime_ns, was.st_mtime_ns))
    watched.look()
    assert watched.value == 3


def test_the_swap_of_a_mounted_secret_is_seen(tmp_path):
    """As the kubelet does it: number → ..data/number, ..data → ..1, and then ..data → ..2 by a rename."""
    for name in ("1", "2"):
        (tmp_path / f"..{name}").mkdir()
        (tmp_path / f"..{name}" / "number").write_text(name)
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "number").symlink_to("..data/number")
    watched = Watched("X_FILE", number, tmp_path / "number")
    assert watched.value == 1
    (tmp_path / "..data_tmp").symlink_to("..2")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    watched.look()
    assert watched.value == 2


def test_what_has_not_changed_is_not_read_again(file):
    read = []
    watched = Watched("X_FILE", read.append, file)
    watched.look()
    os.utime(file)
    watched.look()
    assert read == [b"1\n"]


def test_of_files_that_belong_together_any_change_counts(file, tmp_path):
    other = tmp_path / "other"
    other.write_text("5")
    watched = Watched("X_FILE", lambda a, b: number(a) + number(b), file, other)
    assert watched.value == 6
    other.write_text("7")
    watched.look()
    assert watched.value == 8


@pytest.mark.parametrize("broken", [SECRET, "", " \n", None])
def test_a_broken_one_is_logged_once_and_the_last_good_one_stays(file, caplog, broken):
    watched = Watched("X_FILE", number, file)
    if broken is None:
        file.unlink()
    else:
        file.write_text(broken)
    watched.look()
    watched.look()
    assert watched.value == 1
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert "X_FILE" in record.message
    assert str(file) in record.message
    assert SECRET not in caplog.text
    file.write_text("9")
    watched.look()
    assert watched.value == 9


def test_one_that_goes_away_a_second_time_is_logged_again(file, caplog):
    watched = Watched("X_FILE", number, file)
    for _ in range(2):
        file.unlink()
        watched.look()
        file.write_text("1\n")
        watched.look()
    assert [record.levelname for record in caplog.records].count("ERROR") == 2


@pytest.mark.parametrize("content", [SECRET, "", "\n", None])
def test_at_the_start_it_is_refused(tmp_path, content):
    path = tmp_path / "number"
    if content is not None:
        path.write_text(content)
    with pytest.raises(Refused) as raised:
        Watched("X_FILE", number, path)
    assert "X_FILE" in raised.value.message
    assert str(path) in raised.value.message
    assert SECRET not in raised.value.message


def test_of_an_exception_that_may_quote_only_the_kind_is_told(file):
    file.write_text(SECRET)
    with pytest.raises(Refused, match="ValueError") as raised:
        Watched("X_FILE", int, file)
    assert SECRET not in raised.value.message
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_is_refused_and_holds_nothing_up(tmp_path, make):
    make(tmp_path / "thing")
    with pytest.raises(Refused, match="thing"):
        Watched("X_FILE", number, tmp_path / "thing")


async def test_one_task_looks_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "LOOK_SECONDS", 0.01)
    files, paths = Files(), [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        path.write_text("1")
    both = [files.watched("X_FILE", number, path) for path in paths]
    task = asyncio.create_task(files.run())
    paths[0].write_text("no number")
    paths[1].write_text("2")
    async with asyncio.timeout(20):
        while both[1].value != 2:  # noqa: ASYNC110 - a file has no event to wait for
            await asyncio.sleep(0.01)
    assert both[0].value == 1
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
