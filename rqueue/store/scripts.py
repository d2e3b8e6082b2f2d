"""The Lua scripts: read from lua/*.lua, checked against their own headers, run by name.

A header is code. KEYS names entries of keys.KEYS (a prefix `job:` becomes the local `job_`), ARGV the
arguments of the call in their order (a last `name...` takes the rest; its local is the number of
arguments before them), NEEDS the files whose functions it uses, ERRORS the codes it may answer. The
locals and what is needed go on the first line, so that line numbers in errors are those of the file.

Scripts answer a list: "ok" and the reply, or an error's code and its details.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import NoScriptError

from rqueue.store.keys import KEYS, Keys

_LUA = files("rqueue.store") / "lua"
_HEADER = re.compile(r"^-- (KEYS|NEEDS|ARGV|ERRORS)[ ]*(.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """One script, ready to be sent."""

    name: str
    keys: tuple[str, ...]
    arguments: tuple[str, ...]
    rest: str | None
    errors: frozenset[str]
    text: str
    sha: str


class ScriptError(Exception):
    """A script answered one of the errors in its header: a code and its details."""

    def __init__(self, code: str, details: Sequence[Any]) -> None:
        super().__init__(code, *details)
        self.code = code
        self.details = details


def names() -> list[str]:
    """The names of all scripts; files that start with an underscore are only needed by others."""
    found = (entry.name for entry in _LUA.iterdir())
    return sorted(n.removesuffix(".lua") for n in found if n.endswith(".lua") and not n.startswith("_"))


@cache
def load(name: str) -> Script:
    """Read and check a script. Raises ValueError for a header that names what there is not."""
    source, header = _read(name)
    keys = list(header.get("KEYS", []))
    library = ""
    for need in header.get("NEEDS", []):
        text, needs = _read(f"_{need}")
        keys += [key for key in needs.get("KEYS", []) if key not in keys]
        # On one line, and so without its comments.
        library += " ".join(line.split("--")[0].strip() for line in text.splitlines()) + " "
    for key in keys:
        if key not in KEYS:
            raise ValueError(f"{name}.lua: there is no key {key!r}")
    arguments = header.get("ARGV", [])
    rest = arguments.pop().removesuffix("...") if arguments and arguments[-1].endswith("...") else None
    locals_ = [f"local {key.replace(':', '_')} = KEYS[{n}]" for n, key in enumerate(keys, 1)]
    locals_ += [f"local {argument} = ARGV[{n}]" for n, argument in enumerate(arguments, 1)]
    if rest:
        locals_.append(f"local {rest} = {len(arguments)}")
    text = " ".join([*locals_, library, source])
    return Script(
        name,
        tuple(keys),
        tuple(arguments),
        rest,
        frozenset(header.get("ERRORS", [])),
        text,
        hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(),
    )


def _read(name: str) -> tuple[str, dict[str, list[str]]]:
    source = (_LUA / f"{name}.lua").read_text()
    return source, {word: names.split() for word, names in _HEADER.findall(source)}


async def executed(pipe: "Pipeline") -> list[Any]:
    """The answers to a pipeline; raises the first error as it came, without redis-py's words around it."""
    answers = await pipe.execute(raise_on_error=False)
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return list(answers)


class Scripts:
    """Runs scripts on a Redis."""

    def __init__(self, redis: "Redis", keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def run(
        self, name: str, type_: str, *rest: str | int, new_type: bool = False, **arguments: str | int
    ) -> list[Any]:
        """Run a script on a type's keys; returns its reply without the "ok".

        With `new_type` the type is added to `types` on the way, before the script: a crash between the
        two leaves a type without jobs, not jobs that no replica would look at.

        Raises ScriptError for an answer from its ERRORS, TypeError for arguments that are not those
        of its header (`now` may be given to any script), redis.RedisError for all else.
        """
        script = load(name)
        if "now" not in script.arguments:
            arguments.pop("now", None)
        if set(arguments) != set(script.arguments) or (rest and not script.rest):
            raise TypeError(f"{name}.lua takes {script.arguments}, not {sorted(arguments)}")
        keys = [self._keys.of(type_, key) for key in script.keys]
        words = [*keys, *(arguments[argument] for argument in script.arguments), *rest]
        reply: list[Any]
        try:
            if new_type:
                pipe = self._redis.pipeline(transaction=False)
                pipe.sadd(self._keys.types, type_)
                pipe.evalsha(script.sha, len(keys), *words)
                _, reply = await executed(pipe)
            else:
                reply = await self._redis.evalsha(script.sha, len(keys), *words)
        except NoScriptError:
            # After every restart, failover and SCRIPT FLUSH.
            reply = await self._redis.eval(script.text, len(keys), *words)
        code, *details = reply
        if code == "ok":
            return details
        if code not in script.errors:
            raise ValueError(f"{name}.lua answered {code!r}, which its header does not name")
        raise ScriptError(code, details)
