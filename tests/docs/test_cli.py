"""docs/cli.md has every command, with an example, and the calls that it makes."""

import re

import pytest

from rqueue import metrics
from rqueue.cli import ROOMS
from rqueue.store.keys import KEYS
from rqueue.web.routes import ROUTES
from tests.cli.conftest import Run, rq  # noqa: F401 - the fixture of the command line
from tests.conftest import Service, new
from tests.docs.test_reference import DOCS, rows

PAGE = (DOCS / "cli.md").read_text()
COMMANDS = [
    name for room in ROOMS.values() for found in room.values() for name, said in found.items() if said
]


def documented() -> dict[str, tuple[str, str]]:
    """Command → what it asks, and the keys behind it; of all its rows."""
    found: dict[str, tuple[str, str]] = {}
    for command, asks, keys in rows("cli.md", r"rqueue \S+.*"):
        name = command.strip("`").split()[1]
        before = found.get(name, ("", ""))
        found[name] = (f"{before[0]} {asks}".strip(), f"{before[1]} {keys}".strip())
    return found


ROWS = documented()


def calls(command: str) -> set[str]:
    """The calls that the page says a command makes."""
    asked = ROWS[command][0]
    named = re.fullmatch("as `(.+)`", asked)
    return calls(named[1]) if named else set(re.findall("`([A-Z]+ /[^`]*)`", asked))


def test_every_command_is_there() -> None:
    assert list(ROWS) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_each_has_an_example(command: str) -> None:
    assert re.search(rf"^\$ (eval \"\$\()?rqueue {command}\b", PAGE, re.MULTILINE)


def test_the_calls_and_keys_are_some_that_there_are() -> None:
    known = {f"{method} {path}" for method, path, _, _ in ROUTES}
    for command, (_, keys) in ROWS.items():
        assert calls(command) <= known, command
        named = re.findall("`([a-z_]+:?)`", keys)
        assert set(named) <= {re.sub(":<.*", ":", name) for name in KEYS} | set(COMMANDS), command


FILES = (
    "queues: {apply: {settings: {patience: 5}, pools: {p: {hosts: {n: {slots: 1}}}}}}",
    "queues: {apply: {}}",
)


async def test_commands_make_the_calls_that_are_said(rq: Run, service: Service) -> None:  # noqa: F811
    await service.call("PUT", "/queues/vm", {"paused": True})
    await service.call("PUT", "/queues/vm/pools/p", {"hosts": {"n": {"slots": 2}}})
    await service.store.create("vm", [new(name, host_aggregate="p") for name in "abc"])
    commands = [
        *("ls", "ls vm", "show vm a", "create vm --owner x --callback http://h/", "update vm a --data {}"),
        *("front vm b", "back vm b", "move vm b --after c", "pools vm", "simulate vm", "events vm"),
        *("events vm --job a", "top", "cancel vm c", "pause vm", "resume vm", "confirm vm b"),
        *("requeue vm b", "done vm a"),
    ]
    made: dict[str, set[str]] = {}
    for words, stdin in [*((words, "") for words in commands), *(("apply -f - --prune", f) for f in FILES)]:
        before = answered()
        await rq(*words.split(), stdin=stdin)
        after = answered()
        command = words.split()[0]
        made[command] = made.get(command, set()) | {
            call for call, count in after.items() if count > before.get(call, 0)
        }
        await service.settle()
    assert made == {command: calls(command) for command in made}


def answered() -> dict[str, float]:
    """How often each call has been answered."""
    counts: dict[str, float] = {}
    for (method, route, _), (count, *_) in metrics.HTTP_REQUESTS.counts():
        counts[f"{method} {route}"] = counts.get(f"{method} {route}", 0) + count
    return counts
