"""What is read of a type's stream of events, and of a job's history."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rqueue.domain.caller import Caller
from rqueue.domain.event import KEPT, MISSED, START, Event, Wanted, place
from rqueue.store.answers import answers, mapping
from rqueue.store.keys import Keys
from rqueue.store.scripts import Scripts

# So many are asked of Redis at once.
AT_ONCE = 500
# The stream is cut only where a whole node of it can go, of at most so many.
_NODE = 100


@dataclass(frozen=True, slots=True)
class Passage:
    """Some events in order, and from where to go on; `more` where others may be there already."""

    events: list[Event]
    after: str
    more: bool


class Events:
    """The events of all types of the store that has it."""

    def __init__(self, scripts: Scripts, keys: Keys) -> None:
        self._scripts = scripts
        self._keys = keys

    async def last(
        self,
        type_: str,
        before: str = "",
        most: int = 100,
        wanted: Wanted = Wanted(),  # noqa: B008 - a value that cannot change
        after: str = "",
    ) -> tuple[list[Event], str]:
        """The newest of those that are wanted before an ID and behind another, the oldest of them first, and
        before which the ones are that come next, "" where there are none.
        """
        if before and place(before) <= place(START):
            return [], ""
        key, found, looked = self._keys.of(type_, "events"), list[Event](), 0
        start = f"({after}" if after else "-"
        with answers(type_):
            while looked < KEPT + _NODE:
                end = f"({before}" if before else "+"
                (entries,) = await self._scripts.read(type_, ("XREVRANGE", key, end, start, "COUNT", AT_ONCE))
                for entry in entries:
                    event = event_of(entry)
                    if wanted.takes(event):
                        if len(found) == most:
                            return found[::-1], found[-1].id
                        found.append(event)
                if len(entries) < AT_ONCE:
                    break
                looked += len(entries)
                before = entries[-1][0]
        return found[::-1], ""

    async def after(self, type_: str, after: str | None, most: int = AT_ONCE) -> Passage:
        """Events that came after an ID, or with None only from where to go on.

        The first is one that says `missed` where those right after the ID are gone, or there was no such ID
        yet, as when Redis lost the newest of its stream: the others are those that are there.
        """
        key = self._keys.of(type_, "events")
        ask = ("XRANGE", key, f"({after}" if after else "-", "+", "COUNT", most if after else 1)
        with answers(type_):
            oldest, newest, entries = await self._scripts.read(
                type_, ("XRANGE", key, "-", "+", "COUNT", 1), ("XREVRANGE", key, "+", "-", "COUNT", 1), ask
            )
        last = newest[0][0] if newest else START
        if after is None:
            return Passage([], last, False)
        events = [event_of(entry) for entry in entries]
        go_on = events[-1].id if events else after
        if newest and place(last) < place(after):
            return Passage([_missed(after, last)], last, False)
        if oldest and place(START) < place(after) < place(oldest[0][0]):
            events.insert(0, _missed(after, oldest[0][0]))
        return Passage(events, go_on, len(entries) == most)

    async def of_job(self, type_: str, request_id: str, caller: Caller) -> list[Event]:
        """All that is known of what happened to a job, the oldest first. Raises JobNotFound."""
        with answers(type_, request_id):
            owner, created, actor, *entries = await self._scripts.run(
                "history", type_, request_id=request_id, owners=caller.owned
            )
        moment = int(created) // 1000 if created.isdecimal() else 0
        found = [Event(f"{moment}-0", "created", request_id, owner, "", "queued", actor)]
        for entry in entries:
            id_, *words = entry.split("\t", 5)
            # What a hand edit left is left out.
            if len(words) == 5 and id_.replace("-", "").isdecimal():
                what, from_, to, by, why = words
                found.append(Event(id_, what, request_id, owner, from_, to, by, why))
        return found


def event_of(entry: Sequence[Any]) -> Event:
    """An event from its entry in the stream; what a hand edit left out is empty."""
    id_, flat = entry
    found = mapping(flat).get
    return Event(
        id_,
        found("what", ""),
        found("request_id", ""),
        found("owner_id", ""),
        found("from", ""),
        found("to", ""),
        found("actor", ""),
        found("why", ""),
    )


def _missed(after: str, first: str) -> Event:
    return Event(after, MISSED, from_=after, to=first, why="what came between is not there any more")
