"""The tokens file: who there is, with which role, for which types and owners.

The file holds no token, only its SHA-256: a token has 256 bits of its own, so that a plain hash of it tells
nobody what it is. Reads and makes entries; asks nobody.
"""

import fcntl
import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from marshmallow import RAISE, Schema, ValidationError, fields, validate, validates_schema

from rqueue.domain.caller import Caller, Role
from rqueue.domain.job import MAX_NAME_BYTES
from rqueue.errors import Refused

PREFIX = "rq_"
MAX_ENTRIES = 10_000
# A list of jobs looks into each owner's.
MAX_OWNERS = 100
MAX_RATE = 1_000_000


@dataclass(frozen=True, slots=True)
class Tokens:
    """Callers by the SHA-256 of their token, and by ServiceAccount as `<namespace>/<name>`."""

    by_digest: dict[bytes, Caller] = field(default_factory=dict)
    by_account: dict[str, Caller] = field(default_factory=dict)


class _Entry(Schema):
    name = fields.String(required=True, validate=validate.Regexp(r"^[\w.@:/+-]{1,64}$"))
    sha256 = fields.String(
        validate=validate.Regexp(r"^[0-9a-f]{64}$", error="expected 64 hex digits, in lower case")
    )
    service_account = fields.String(
        validate=validate.Regexp(
            r"^[a-z0-9.-]{1,253}/[a-z0-9.-]{1,253}$", error="expected <namespace>/<name>"
        )
    )
    role = fields.Enum(Role, by_value=True, required=True)
    types = fields.List(fields.String(validate=validate.Length(1, MAX_NAME_BYTES)), load_default=None)
    owners = fields.List(
        fields.String(validate=validate.Length(1, MAX_NAME_BYTES)),
        load_default=None,
        validate=validate.Length(1, MAX_OWNERS),
    )
    rate = fields.Integer(strict=True, load_default=None, validate=validate.Range(1, MAX_RATE))

    @validates_schema
    def known_by_one_thing(self, data: dict[str, Any], **kwargs: Any) -> None:
        """An entry that nothing leads to, or two things, is a slip."""
        if ("sha256" in data) == ("service_account" in data):
            raise ValidationError("expected one of sha256 and service_account")
        if data.get("owners") is not None and data.get("role") != Role.CLIENT:
            # Of the others, each sees or moves what is anyone's.
            raise ValidationError("only a client is bound to owners", "owners")


class _File(Schema):
    tokens = fields.List(
        fields.Nested(_Entry, unknown=RAISE), required=True, validate=validate.Length(0, MAX_ENTRIES)
    )


_FILE = _File(unknown=RAISE)


def read(text: str | bytes) -> Tokens:
    """Read the text of a tokens file. Raises Refused, saying where it is wrong and quoting nothing of it."""
    try:
        written = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        # Without the parser's words, which may quote.
        mark = error.problem_mark
        raise Refused("it is no YAML" + (f", see line {mark.line + 1}" if mark else "")) from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise Refused("it is no YAML") from None
    if not isinstance(written, dict):
        raise Refused("expected a map with a list `tokens`")
    try:
        loaded = _FILE.load(written)
    except ValidationError as error:
        raise Refused(f"{_first(error.messages_dict)}") from None
    tokens, names = Tokens(), set()
    for entry in loaded["tokens"]:
        caller = Caller(entry["name"], entry["role"], entry["types"], entry["owners"], entry["rate"])
        digest, account = bytes.fromhex(entry.get("sha256", "")), entry.get("service_account")
        if caller.name in names or digest in tokens.by_digest or account in tokens.by_account:
            raise Refused(f"tokens: {caller.name}: its name, sha256 or service_account is there twice")
        names.add(caller.name)
        if account:
            tokens.by_account[account] = caller
        else:
            tokens.by_digest[digest] = caller
    return tokens


def add(file: Path, entry: str) -> None:
    """Add an entry to a file, which is made where there is none, whole or not at all. Raises Refused."""
    try:
        with _alone_in(file.parent):
            there = file.read_text() if file.exists() else "tokens:\n"
            text = there.rstrip().removesuffix("[]").rstrip() + "\n" + entry
            read(text)
            _replace(file, text)
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"{file} cannot be written: {error}") from None


@contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Of two who add at once the second waits, else the first one's entry would be lost."""
    handle = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _replace(file: Path, text: str) -> None:
    with tempfile.NamedTemporaryFile("w", dir=file.parent, prefix=f".{file.name}.", delete=False) as new:
        try:
            new.write(text)
            new.flush()
            # On disk before it has the name: a machine that stops must not leave an empty file there.
            os.fsync(new.fileno())
            if file.exists():
                shutil.copymode(file, new.name)
            os.replace(new.name, file)
        except BaseException:
            os.unlink(new.name)
            raise


def _first(messages: Any, path: str = "") -> str:
    """The first of marshmallow's faults, with the way to it."""
    while isinstance(messages, dict):
        name, messages = next(iter(messages.items()))
        path += "" if name == "_schema" else f"{name}: "
    return path + str(messages[0] if isinstance(messages, list) else messages)


def digest_of(token: str) -> bytes:
    """The SHA-256 of a token."""
    return hashlib.sha256(token.encode(errors="surrogateescape")).digest()


def make(name: str, role: str, types: tuple[str, ...], owners: tuple[str, ...]) -> tuple[str, str]:
    """A new token, and its entry as YAML. Raises Refused for what the file would not take."""
    token = PREFIX + secrets.token_urlsafe(32)
    entry: dict[str, Any] = {"name": name, "sha256": digest_of(token).hex(), "role": str(role)}
    entry |= {"types": list(types)} if types else {}
    entry |= {"owners": list(owners)} if owners else {}
    read(yaml.safe_dump({"tokens": [entry]}))
    return token, yaml.safe_dump([entry], sort_keys=False, default_flow_style=False)
