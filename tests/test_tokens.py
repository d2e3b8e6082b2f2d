"""The tokens file: what it may hold, and how what is wrong is said."""

import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rqueue import tokens
from rqueue.errors import Refused

SHA = "ab" * 32
GOOD = {"name": "a", "sha256": SHA, "role": "client"}


def written(**changes: object) -> str:
    entry = {name: value for name, value in {**GOOD, **changes}.items() if value is not None}
    return "tokens:\n- " + "\n  ".join(f"{name}: {value}" for name, value in entry.items())


def test_an_entry_is_a_caller():
    found = tokens.read(written(types="[vm]", owners="[x, y]", rate=7))
    (caller,) = found.by_digest.values()
    assert (caller.name, caller.role, caller.types, caller.owners, caller.rate) == (
        *("a", "client", {"vm"}, ("x", "y"), 7),
    )
    assert list(found.by_digest) == [bytes.fromhex(SHA)]


def test_a_service_account_is_a_caller():
    found = tokens.read(written(sha256=None, service_account="ns/name"))
    assert list(found.by_account) == ["ns/name"]


def test_nobody_may_be_in_it():
    assert tokens.read("tokens: []") == tokens.Tokens()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "expected a map"),
        ("- a", "expected a map"),
        ("tokens: {", "no YAML.*line 1"),
        ("tokens: !!python/object:os.system {}", "no YAML"),
        ("\x00", "no YAML"),
        ("[" * 5000, "no YAML"),
        ("token: []", "tokens: Missing|token: Unknown"),
        ("tokens: []\nmore: 1", "more: Unknown field"),
        (written(more=1), "tokens: 0: more: Unknown field"),
        (written(name=None), "tokens: 0: name: Missing"),
        (written(name="''"), "tokens: 0: name"),
        (written(name="'a b'"), "tokens: 0: name"),
        (written(role="king"), "tokens: 0: role"),
        (written(role=None), "tokens: 0: role"),
        (written(sha256="xyz"), "tokens: 0: sha256: expected 64 hex digits"),
        (written(sha256=SHA.upper()), "expected 64 hex digits"),
        (written(sha256=None), "expected one of sha256 and service_account"),
        (written(service_account="a/b"), "expected one of sha256 and service_account"),
        (written(sha256=None, service_account="b"), "expected <namespace>/<name>"),
        (written(owners="[]"), "tokens: 0: owners"),
        (written(owners="['']"), "tokens: 0: owners: 0"),
        (written(owners="x"), "tokens: 0: owners"),
        (written(role="admin", owners="[x]"), "only a client is bound to owners"),
        (written(rate=0), "tokens: 0: rate"),
        (written(rate="'5'"), "tokens: 0: rate"),
        (written() + "\n" + written().partition("\n")[2], "a: its name.*twice"),
        (written() + "\n" + written(name="b").partition("\n")[2], "b: its name, sha256.*twice"),
        (written() + "\n" + written(sha256="cd" * 32).partition("\n")[2], "a: its name, sha256.*twice"),
        (
            written(sha256=None, service_account="n/a")
            + "\n"
            + written(sha256=None, service_account="n/a", name="b").partition("\n")[2],
            "b: its name, sha256.*twice",
        ),
    ],
)
def test_what_is_wrong_is_said(text, complaint):
    with pytest.raises(Refused, match=f"(?s){complaint}"):
        tokens.read(text)


def test_what_is_wrong_is_said_without_what_is_in_it():
    for text in (
        f"tokens: [{{name: a, sha256: {'5ecre7' * 10}, role: client}}]",
        "tokens: '5ecre7': x",
        "tokens: [*5ecre7]",
        "tokens: [!5ecre7! x]",
        "5ecre7",
    ):
        with pytest.raises(Refused) as raised:
            tokens.read(text)
        assert "5ecre7" not in raised.value.message


def test_tokens_differ_and_have_256_bits():
    made = {tokens.make("a", "viewer", (), ())[0] for _ in range(50)}
    assert len(made) == 50
    assert {len(token) for token in made} == {len(tokens.PREFIX) + 43}


def test_of_entries_that_are_added_at_once_none_is_lost(tmp_path: Path) -> None:
    file = tmp_path / "tokens.yaml"
    entries = [tokens.make(f"n{n}", "viewer", (), ())[1] for n in range(32)]
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda entry: tokens.add(file, entry), entries))
    assert len(tokens.read(file.read_bytes()).by_digest) == len(entries)


def test_a_full_disk_leaves_the_file_as_it_was_and_nothing_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "tokens.yaml"
    file.write_text(written())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        with pytest.raises(Refused, match="cannot be written"):
            tokens.add(file, tokens.make("b", "viewer", (), ())[1])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert file.read_text() == written()
    assert list(tmp_path.iterdir()) == [file]
