"""The Lua scripts: read from lua/*.lua, checked against their own headers, run by name.

A header is code. KEYS names entries of keys.KEYS (a prefix `job:` becomes the local `job_`), ARGV the
arguments of the call in their order (a last `name...` takes the rest; its local is the number of
arguments before them), NEEDS the files whose functions it uses, ERRORS the codes it may answer. The
locals and what is needed go on the first line, so that line numbers in errors are those of the file.
What a script is sent is one key, with which all keys of its type begin.

Scripts answer a list: "ok" and the reply, or an error's code and its details.

Some can be run dry, one after the other as one, by the functions in lua/_dry.lua: they answer what they
would, and what they wrote is taken back before anybody sees it.
"""

import hashlib
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from operator import itemgetter
from typing import Any

import orjson
from redis.exceptions import RedisError, ResponseError

from rqueue.store.keys import KEYS, Keys
from rqueue.store.pipeline import Redis

_LUA = files("rqueue.store") / "lua"
# What Redis says of a key that holds something else, and what our own scripts stumble over then.
OF_A_KEY = re.compile(r"WRONGTYPE|not an integer|out of range|not a valid float|user_script:\d+:")
ADD_TYPE_SECONDS = 1.0
MAX_ADDED = 10_000
_WORD = re.compile(r"\w+")
# A script that calls anything else is taken for one that writes.
READS = {
    *("EXISTS", "HGET", "HGETALL", "HLEN", "HMGET", "LLEN", "LRANGE", "TIME", "ZCARD", "ZCOUNT"),
    *("ZRANGE", "ZRANGEBYSCORE", "ZRANK", "ZREVRANGE", "ZREVRANGEBYSCORE", "ZSCORE"),
}
_COMMENT = re.compile(r"--.*")
_COMMAND = re.compile(r"""redis\.p?call\b(?:\("(\w+)")?""")
_HEADER = re.compile(r"^-- (KEYS|NEEDS|ARGV|ERRORS)[ ]*(.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """One script, ready to be sent."""

    name: str
    keys: tuple[str, ...]
    arguments: tuple[str, ...]
    in_order: Callable[[dict[str, str | int]], Sequence[str | int]]
    rest: str | None
    errors: frozenset[str]
    writes: bool
    text: str
    sha: str


# One of several scripts that are run dry: its name, the rest of its arguments, and those with names.
Step = tuple[str, Sequence[str | int], dict[str, str | int]]


class ScriptError(Exception):
    """A script answered one of the errors in its header: a code and its details."""

    def __init__(self, code: str, details: Sequence[Any]) -> None:
        super().__init__(code, *details)
        self.code = code
        self.details = details
        # Of several that were run dry, which one answered it.
        self.step = 0


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
        library += text
    # Without its comments, since their words are no names, and on one line.
    used = _used(_COMMENT.sub("", library), _COMMENT.sub("", source))
    library = " ".join(line.strip() for line in used)
    for key in keys:
        if key not in KEYS:
            raise ValueError(f"{name}.lua: there is no key {key!r}")
    said = set(_WORD.findall(library + source))
    keys = [key for key in keys if key.replace(":", "_") in said]
    arguments = header.get("ARGV", [])
    rest = arguments.pop().removesuffix("...") if arguments and arguments[-1].endswith("...") else None
    locals_ = [f'local {key.replace(":", "_")} = KEYS[1] .. "{key}"' for key in keys]
    locals_ += [f"local {argument} = ARGV[{n}]" for n, argument in enumerate(arguments, 1)]
    if rest:
        locals_.append(f"local {rest} = {len(arguments)}")
    text = " ".join([*locals_, library, source])
    return Script(
        name,
        tuple(keys),
        tuple(arguments),
        itemgetter(*arguments) if len(arguments) > 1 else lambda given: [given[name] for name in arguments],
        rest,
        frozenset(header.get("ERRORS", [])),
        not READS.issuperset(_COMMAND.findall(library + _COMMENT.sub("", source))),
        text,
        hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(),
    )


# What follows the scripts that are run dry.
_DRY = """
local replies, at = {}, 1
local ran, fault = pcall(function()
  while ARGV[at] do
    local words = {}
    for i = 1, tonumber(ARGV[at + 1]) do words[i] = ARGV[at + 1 + i] end
    local reply = SCRIPTS[ARGV[at]](words)
    replies[#replies + 1] = reply
    if reply[1] ~= "ok" then break end
    at = at + 2 + #words
  end
end)
local refused = nil
for i = #undo, 1, -1 do
  local reply = real.pcall(unpack(undo[i]))
  if type(reply) == "table" and reply.err then refused = refused or reply end
end
if refused then return refused end
if not ran then return type(fault) == "table" and fault or { err = fault } end
return replies
"""


@cache
def dry(names: frozenset[str]) -> Script:
    """A script that runs these dry: each step is a script's name, how many arguments follow, and they."""
    text = _COMMENT.sub("", _read("_dry")[0])
    for name in sorted(names):
        arguments = ", ".join(f'"{argument}"' for argument in load(name).arguments)
        text += f"ARGUMENTS.{name} = {{ {arguments} }}\n"
        text += f"SCRIPTS.{name} = function(ARGV) {load(name).text}\nend\n"
    text += _DRY
    sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    return Script("dry", (), (), lambda given: (), "steps", frozenset(), False, text, sha)


# Each command with words that change nothing, for a key that is not there: a reading, a removal, or a write
# that the command itself refuses. Too few words would be refused before it is asked who runs it.
_TRIED = {
    **dict.fromkeys(("EXISTS", "GET", "HGETALL", "HKEYS", "HLEN", "SMEMBERS", "TYPE", "ZCARD", "DEL"), ""),
    **dict.fromkeys(
        ("HDEL", "HEXISTS", "HGET", "HMGET", "SISMEMBER", "SREM", "ZRANK", "ZREM", "ZSCORE"), "x"
    ),
    **dict.fromkeys(("ZCOUNT", "ZRANGE", "ZRANGEBYSCORE", "ZREVRANGE", "ZREVRANGEBYSCORE"), "0 0"),
    "SRANDMEMBER": "1",
    "LLEN": "",
    "LRANGE": "0 0",
    "LTRIM": "0 0",
    "HINCRBY": "f x",
    "HSET": "f v f",
    "INCRBY": "x",
    "SET": "v x",
    "XADD": "x f v",
    "XRANGE": "- +",
    "XREVRANGE": "+ -",
    "ZADD": "x m",
}
# What the store calls itself.
_CALLED = {
    *("GET", "HGET", "HGETALL", "HKEYS", "HLEN", "SADD", "SET", "SMEMBERS", "XRANGE", "XREVRANGE", "ZCARD")
}
# No words make SADD or RPUSH refuse: where it may be taken out again, something is put in for that long.
_TRY = """
local refused = {}
local function may(name, ...)
  local reply = redis.pcall(name, ...)
  local said = type(reply) == "table" and reply.err or ""
  local may_not = string.find(said, "ACL failure in script") or string.find(said, "user executing the script")
  if not may_not then return true end
  refused[#refused + 1] = name
end
may("TIME")
for _, words in ipairs(cjson.decode(ARGV[1])) do may(words[1], KEYS[1], unpack(words, 2)) end
if may("SREM", KEYS[1], "x") and may("SADD", KEYS[1], "x") then redis.call("SREM", KEYS[1], "x") end
if may("DEL", KEYS[1]) and may("RPUSH", KEYS[1], "x") then redis.call("DEL", KEYS[1]) end
return refused
"""


@cache
def needed() -> frozenset[str]:
    """The commands that the service cannot be without; `rqueue check` uses more."""
    own = (load(name) for name in names())
    texts = (script.text for script in own if "repair" not in script.arguments)
    return frozenset(_CALLED.union(*(_COMMAND.findall(text) for text in texts)))


async def refused(redis: Redis, key: str) -> list[str]:
    """Those of them that the Redis user may not run; `key` is not there, and is not afterwards."""
    tried = sorted(needed() - {"DEL", "RPUSH", "SADD", "SREM", "TIME"})
    words = orjson.dumps([[name, *_TRIED[name].split()] for name in tried])
    found = list(map(str, await redis.call("EVAL", _TRY, 1, key, words, write=True)))
    try:
        await redis.call("EVALSHA", "0" * 40, 1, key)
    except ResponseError as error:
        if not str(error).startswith("NOSCRIPT"):
            found.append("EVALSHA")
    return sorted(found)


def _used(library: str, source: str) -> list[str]:
    """The lines of those top-level definitions that the source, or what it uses, names.

    Redis makes the functions anew at each call, which was 7 of 44 µs of a create.
    """
    definitions: list[list[str]] = []
    for line in library.splitlines():
        if line.startswith("local "):
            definitions.append([])
        if definitions and line:
            definitions[-1].append(line)
    used: list[str] = []
    said = set(_WORD.findall(source))
    for definition in reversed(definitions):
        names = definition[0].removeprefix("local ").removeprefix("function ").split("(")[0].split("=")[0]
        if not said.isdisjoint(_WORD.findall(names)):
            used[:0] = definition
            said.update(_WORD.findall(" ".join(definition)))
    return used


def _read(name: str) -> tuple[str, dict[str, list[str]]]:
    source = (_LUA / f"{name}.lua").read_text()
    return source, {word: names.split() for word, names in _HEADER.findall(source)}


def _good(script: Script, reply: list[Any]) -> list[Any]:
    """A reply without its "ok". Raises ScriptError for one of the script's errors."""
    code = reply.pop(0)
    if code == "ok":
        return reply
    if code not in script.errors:
        raise ValueError(f"{script.name}.lua answered {code!r}, which its header does not name")
    raise ScriptError(code, reply)


class DamagedKey(ResponseError):
    """Redis refused, and this key is not what it should be."""


class Scripts:
    """Runs scripts on a Redis. `now` is the clock of a test, in microseconds; else Redis says the time."""

    def __init__(self, redis: Redis, keys: Keys, now: Callable[[], int] | None = None) -> None:
        self._redis = redis
        self._keys = keys
        self._now = now
        # type → when it was last put among the types.
        self._added: dict[str, float] = {}

    async def run(
        self, name: str, type_: str, *rest: str | int, new_type: bool = False, **arguments: str | int
    ) -> list[Any]:
        """Run a script on a type's keys; returns its reply without the "ok".

        With `new_type` the type is put among the types on the way, before the script: a crash between
        the two leaves a type without jobs, not jobs that no replica would look at. Not more than once in
        ADD_TYPE_SECONDS, so that a type that went missing is soon there again and a create costs little.

        Raises ScriptError for an answer from its ERRORS, TypeError for arguments that are not those
        of its header (`now` is optional), DamagedKey where Redis refuses for what a key holds,
        redis.RedisError for all else.
        """
        return await self.step(type_, (name, rest, arguments), new_type)

    async def step(self, type_: str, step: Step, new_type: bool = False) -> list[Any]:
        """The same for what is put together already."""
        name, rest, arguments = step
        script = load(name)
        # One that is to mend what it finds writes nothing where it is only to look.
        writes = script.writes and arguments.get("repair") != 0
        words = self._words(script, arguments, rest)
        return _good(script, await self._asked(type_, script, words, writes, new_type))

    async def dry(self, type_: str, *steps: Step, asked: Sequence[str] = ()) -> list[list[Any]]:
        """What scripts would reply if they ran one after the other on a type's keys, where nothing changes.

        They may ask others that are named, too.
        Raises as `run` does, for the first that answers an error.
        """
        words: list[str | int] = []
        for name, rest, arguments in steps:
            given = self._words(load(name), arguments, rest)
            words += [name, len(given), *given]
        script = dry(frozenset(name for name, _, _ in steps).union(asked))
        replies = await self._asked(type_, script, words, writes=False)
        good: list[list[Any]] = []
        for (name, _, _), reply in zip(steps, replies, strict=False):
            try:
                good.append(_good(load(name), reply))
            except ScriptError as error:
                error.step = len(good)
                raise
        return good

    def _words(
        self, script: Script, arguments: dict[str, str | int], rest: Sequence[str | int]
    ) -> Sequence[str | int]:
        """Arguments in the order of the header, then the rest. Raises TypeError for any others."""
        if "now" in script.arguments and "now" not in arguments:
            arguments["now"] = self._now() if self._now else ""
        # All that are taken must be there, and as many as there are must be taken.
        missing = len(arguments) != len(script.arguments) or (rest and not script.rest)
        try:
            words = () if missing else (*script.in_order(arguments), *rest)
        except KeyError:
            missing = True
        if missing:
            raise TypeError(f"{script.name}.lua takes {script.arguments}, not {sorted(arguments)}")
        return words

    async def _asked(
        self, type_: str, script: Script, given: Sequence[str | int], writes: bool, new_type: bool = False
    ) -> list[Any]:
        """What a script replies, its "ok" or its error's code with it."""
        words = (1, self._keys.of(type_, ""), *given)
        reply: list[Any]
        try:
            if new_type and not self._lately_added(type_):
                _, reply = await self._redis.calls(
                    ("SADD", self._keys.types, type_), ("EVALSHA", script.sha, *words), write=True
                )
                self._added[type_] = time.monotonic()
            else:
                reply = await self._redis.call("EVALSHA", script.sha, *words, write=writes)
        except ResponseError as error:
            if not str(error).startswith("NOSCRIPT"):
                raise await self.damaged(type_, error, given) from error
            # After every restart, failover and SCRIPT FLUSH.
            try:
                reply = await self._redis.call("EVAL", script.text, *words, write=writes)
            except ResponseError as refusal:
                raise await self.damaged(type_, refusal, given) from refusal
        except RedisError:
            # Whoever is there next may not know what was written.
            self._added.clear()
            raise
        return reply

    async def read(self, type_: str, *commands: Sequence[str | int], of: str = "") -> list[Any]:
        """The replies to commands on a type's keys, and on those `of` a name; raises as `run` does."""
        try:
            return await self._redis.calls(*commands)
        except ResponseError as error:
            raise await self.damaged(type_, error, (of,)) from error

    async def damaged(self, type_: str, error: ResponseError, words: Sequence[str | int]) -> ResponseError:
        """An error that names the key for which Redis refused, where one is found; else as it was.

        `words` are those of the refused call that may be names of jobs, owners or pools.
        """
        if not OF_A_KEY.search(str(error)):
            return error
        if self._keys.of(type_, "") in str(error):
            # The script says itself which one.
            return DamagedKey(str(error))
        text = load("diagnose").text
        named = [word for word in words if isinstance(word, str) and word]
        # Owners come as a list.
        named += [one for word in named if word.startswith('["') for one in orjson.loads(word)]
        try:
            kinds = orjson.dumps({name: kind for name, (kind, _) in KEYS.items()})
            _, *found = await self._redis.call("EVAL", text, 1, self._keys.of(type_, ""), kinds, *named)
            names = [self._keys.of(type_, name) for name in found]
            if await self._redis.call("TYPE", self._keys.types) not in ("set", "none"):
                names.append(self._keys.types)
        except RedisError:
            return error
        return DamagedKey(f"{', '.join(sorted(names))} ({error})") if names else error

    def _lately_added(self, type_: str) -> bool:
        if len(self._added) > MAX_ADDED:
            self._added.clear()
        return time.monotonic() - self._added.get(type_, -ADD_TYPE_SECONDS) < ADD_TYPE_SECONDS
