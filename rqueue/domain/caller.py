"""Who asks, and what they may do.

A caller has a role, which gives it rights, and may be bound to some types and some owners. A job of another
owner is not there for it: no answer tells it from one that is missing.
"""

from collections.abc import Iterable
from enum import StrEnum

import orjson

from rqueue.errors import Forbidden


class Right(StrEnum):
    """What a route, or a field of a body, asks for."""

    READ_JOBS = "read jobs"
    WRITE_JOBS = "create, confirm and end jobs"
    MOVE_JOBS = "move jobs"
    READ_QUEUES = "read queues"
    PAUSE_QUEUES = "pause queues"
    WRITE_QUEUES = "change queues and pools"


class Role(StrEnum):
    """Sets of rights that people are given by name."""

    VIEWER = "viewer"
    CLIENT = "client"
    OPERATOR = "operator"
    ADMIN = "admin"


RIGHTS: dict[Role, frozenset[Right]] = {
    Role.VIEWER: frozenset({Right.READ_JOBS, Right.READ_QUEUES}),
    Role.CLIENT: frozenset({Right.READ_JOBS, Right.WRITE_JOBS}),
    Role.OPERATOR: frozenset(Right) - {Right.WRITE_QUEUES},
    Role.ADMIN: frozenset(Right),
}


class Caller:
    """Who asks: `name` is written into events; of `types` and `owners` None is all.

    `rate` is how many requests a second it may send to one process; None where that is as the service is set.
    `owned` is for scripts: the owners as a JSON list, or "" for all.
    """

    __slots__ = ("name", "owned", "owners", "rate", "rights", "role", "types")

    def __init__(
        self,
        name: str,
        role: Role,
        types: Iterable[str] | None = None,
        owners: Iterable[str] | None = None,
        rate: int | None = None,
    ) -> None:
        self.name = name
        self.role = role
        self.rate = rate
        self.rights = RIGHTS[role]
        self.types = None if types is None else frozenset(types)
        self.owners = None if owners is None else tuple(owners)
        self.owned = "" if self.owners is None else orjson.dumps(self.owners).decode()

    def must(self, right: Right, field: str | None = None) -> None:
        """Raises Forbidden where the role does not give this right."""
        if right not in self.rights:
            raise Forbidden(f"{self.name} is {self.role}, who may not {right}", field)

    def must_have_type(self, type_: str) -> None:
        """Raises Forbidden, whether or not there is such a type."""
        if self.types is not None and type_ not in self.types:
            raise Forbidden(f"{self.name} may not use type {type_!r}")

    def must_have_every_type(self) -> None:
        """Raises Forbidden for who is bound to some: what is asked for tells of all."""
        if self.types is not None:
            raise Forbidden(f"{self.name} is bound to some types, and this is about all")

    def must_own(self, owner_id: str, field: str) -> None:
        """Raises Forbidden, whether or not there is such an owner."""
        if self.owners is not None and owner_id not in self.owners:
            raise Forbidden(f"{self.name} may not speak for owner {owner_id!r}", field)


# Where nobody has to say who they are, and what the service does by itself.
ANYONE = Caller("", Role.ADMIN)
