"""What a file says that queues should be, and what has to change so that they are.

Reads YAML and compares; knows neither HTTP nor Redis. A step is what one call does; whoever takes the steps
says how things are, in the words in which the API shows them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import yaml

from rqueue.capacity import pools
from rqueue.domain.job import MAX_NAME_BYTES
from rqueue.domain.policy import Settings
from rqueue.domain.pool import Pool
from rqueue.errors import Invalid, Refused

MAX_BYTES = 10 << 20
DEFAULTS = Settings()
SETTINGS = tuple(asdict(DEFAULTS))
_PARTS = ("settings", "pools")
_COLLECTIONS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A queue of the file: the settings that it names, and its pools with the bodies that declare them."""

    settings: Mapping[str, Any]
    bodies: Mapping[str, Mapping[str, Any]]
    pools: Mapping[str, Pool]


@dataclass(frozen=True, slots=True)
class There:
    """A queue as it is: all its settings, and its pools as GET shows them."""

    settings: Mapping[str, Any]
    pools: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Step:
    """One change: of settings (no `pool`), of a pool, or with no `body` its end.

    `changes` are (what, old, new), None where there is none.
    """

    type: str
    pool: str | None
    body: Mapping[str, Any] | None
    changes: Sequence[tuple[str, Any, Any]]

    @property
    def named(self) -> str:
        """What it is about."""
        return f"queue {self.type}" if self.pool is None else f"pool {self.pool} of queue {self.type}"


# --- the file ----------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """Safe tags only, and no aliases: a few bytes of those can stand for gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise Refused(f"line {event.start_mark.line + 1}: aliases are not read; write it out")
        return super().compose_node(parent, index)


def read(content: bytes) -> dict[str, Wanted]:
    """type → what the file wants of it. Raises Refused, naming line and place.

    `queues: {<type>: {settings: {…}, pools: {<pool>: {…}}}}`, with what PUT of a queue and of a pool take.
    """
    if len(content) > MAX_BYTES:
        raise Refused(f"larger than {MAX_BYTES >> 20} MiB")
    lines: dict[tuple[str, ...], int] = {}
    loader = None
    try:
        loader = _Loader(content)
        node = loader.get_single_node()
        read = None if node is None else _plain(loader, node, (), lines)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f"line {mark.line + 1}: " if mark else ""
        raise Refused(f"{at}not YAML: {getattr(error, 'problem', None) or error}") from None
    except RecursionError:
        raise Refused("nested too deeply") from None
    finally:
        if loader:
            loader.dispose()

    def wrong(said: str, *place: str) -> Refused:
        known = place
        while known and known not in lines:
            known = known[:-1]
        return Refused(f"line {lines.get(known, 1)}: {'.'.join(place) or 'the file'}: {said}")

    def part(of: Any, names: Sequence[str] | None, *place: str) -> Mapping[str, Any]:
        if of is None:
            return {}
        if not isinstance(of, dict):
            raise wrong("expected a map", *place)
        for name in of:
            if names and name not in names:
                raise wrong(f"there is no such key; there are {', '.join(names)}", *place, name)
            if not 0 < len(name.encode()) <= MAX_NAME_BYTES:
                raise wrong(f"a name must have 1 to {MAX_NAME_BYTES} bytes", *place, name)
        return of

    wanted = {}
    for type_, queue in part(part(read, ("queues",)).get("queues"), None, "queues").items():
        place = ("queues", type_)
        parts = part(queue, _PARTS, *place)
        settings = part(parts.get("settings"), None, *place, "settings")
        bodies = part(parts.get("pools"), None, *place, "pools")
        try:
            source = DEFAULTS.changed(dict(settings)).source
        except Invalid as error:
            raise wrong(error.message, *place, "settings", *_fields(error)) from None
        made = {}
        for name, body in bodies.items():
            if not isinstance(body, dict):
                raise wrong("expected a map", *place, "pools", name)
            try:
                made[name] = pools.read(name, body)
            except Invalid as error:
                raise wrong(error.message, *place, "pools", name, *_fields(error)) from None
            if "source" in settings and made[name].source != source:
                raise wrong(
                    f"it is of the source {made[name].source}, the queue's is {source}", *place, "pools", name
                )
        wanted[type_] = Wanted(settings, bodies, made)
    return wanted


def _fields(error: Invalid) -> Sequence[str]:
    return error.field.split(".") if error.field else ()


def _scalar(loader: _Loader, node: yaml.Node) -> Any:
    try:
        value = loader.construct_object(node)
        if isinstance(value, str):
            value.encode()
        return value
    except (ValueError, KeyError, AttributeError, TypeError):
        # Such as the 99th of a month, or half of a character.
        raise Refused(f"line {node.start_mark.line + 1}: a value that cannot be read") from None


def _plain(
    loader: _Loader, node: yaml.Node, place: tuple[str, ...], lines: dict[tuple[str, ...], int]
) -> Any:
    """The value of a node, and on which line each key stands."""
    lines.setdefault(place, node.start_mark.line + 1)
    if not isinstance(node, yaml.ScalarNode) and node.tag not in _COLLECTIONS:
        raise Refused(f"line {node.start_mark.line + 1}: tags such as {node.tag[:40]} are not read")
    if isinstance(node, yaml.SequenceNode):
        return [_plain(loader, one, (*place, str(index)), lines) for index, one in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        return _scalar(loader, node)
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = _scalar(loader, key_node) if isinstance(key_node, yaml.ScalarNode) else None
        line = key_node.start_mark.line + 1
        if not isinstance(key, str):
            raise Refused(f"line {line}: {'.'.join(place) or 'the file'}: expected a text as key; quote it")
        if key in found:
            raise Refused(f"line {line}: {'.'.join((*place, key))}: given twice")
        lines[*place, key] = line
        found[key] = _plain(loader, value_node, (*place, key), lines)
    return found


# --- what has to change ------------------------------------------------------------------------------


def steps(there: Mapping[str, There], wanted: Mapping[str, Wanted], prune: bool = False) -> list[Step]:
    """What has to be done, in an order in which it can be.

    What the file does not name stays as it is; with `prune`, pools of its queues that it does not name end,
    and settings that it does not name get their defaults back. Raises Refused where a queue's source is to
    change and pools of the old one would stay.
    """
    return [step for type_, queue in wanted.items() for step in _steps(type_, there[type_], queue, prune)]


def _steps(type_: str, is_: There, wanted: Wanted, prune: bool) -> Iterator[Step]:
    asked = DEFAULTS.changed(dict(wanted.settings))
    names = [name for name in SETTINGS if prune or name in wanted.settings]
    changes = [(n, is_.settings[n], getattr(asked, n)) for n in names if is_.settings[n] != getattr(asked, n)]
    settings = Step(type_, None, {name: wanted.settings.get(name) for name, _, _ in changes}, changes)
    becomes_other = any(name == "source" for name, _, _ in changes)
    ending = [name for name in is_.pools if prune and name not in wanted.pools]
    if becomes_other:
        stay = [name for name in is_.pools if name not in ending and name not in wanted.pools]
        if stay or (is_.pools and not prune):
            raise Refused(
                f"queue {type_}: its source is to become {asked.source}, and it has pools of another:"
                f" {', '.join(sorted(is_.pools)[:5])}; delete them first, or use --prune"
            )
        ending = list(is_.pools)
    ends = [Step(type_, name, None, [("", _flat(is_.pools[name]), None)]) for name in ending]
    if becomes_other:
        yield from ends
    if changes:
        yield settings
    for name, pool in wanted.pools.items():
        before = {} if name in ending else _flat(is_.pools.get(name, {}))
        if pool.found_by and "projects" not in wanted.bodies[name]:
            # Its source may say whose it is.
            before = {place: value for place, value in before.items() if not place.startswith("projects.")}
        after = _flat(pool.document())
        places = sorted(before.keys() | after.keys())
        found = [(p, before.get(p), after.get(p)) for p in places if before.get(p) != after.get(p)]
        if found or name not in is_.pools or name in ending:
            yield Step(type_, name, wanted.bodies[name], found)
    if not becomes_other:
        yield from ends


def _flat(shown: Mapping[str, Any]) -> dict[str, Any]:
    """What is declared of a pool, as GET shows it: place → value. What a live source says is not declared."""
    flat: dict[str, Any] = {}
    live = shown.get("source")
    for host, amounts in ({} if live else shown.get("hosts", {})).items():
        for resource, amount in amounts["capacity"].items():
            if amount:
                flat[f"hosts.{host}.{resource}"] = amount
    flat |= live or {}
    for project in shown.get("projects", ()):
        flat[f"projects.{project}"] = True
    for owner, amounts in shown.get("quotas", {}).items():
        for resource, amount in amounts.items():
            flat[f"quotas.{owner}.{resource}"] = amount
    return flat
