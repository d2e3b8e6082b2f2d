"""Capacity as operators declare it: the amounts in the request are the truth.

Reads the body of PUT /queues/<type>/pools/<pool>. Refuses to know what is used, or by whom.
"""

from collections.abc import Mapping
from typing import Any

from rqueue.domain.demand import amounts
from rqueue.domain.job import MAX_NAME_BYTES
from rqueue.domain.pool import MAX_HOSTS, Pool
from rqueue.errors import Invalid, UnknownField

MAX_PROJECTS = 10_000
MAX_QUOTAS = 10_000
_FIELDS = ("hosts", "projects", "quotas")


def read(name: str, body: Mapping[str, Any]) -> Pool:
    """Read a pool. Raises Invalid, InvalidDemand or UnknownField, naming the field."""
    for field in body:
        if field not in _FIELDS:
            raise UnknownField(f"there is no field {field[:40]!r}; there are {', '.join(_FIELDS)}", field)
    hosts = body.get("hosts")
    if not isinstance(hosts, Mapping):
        raise Invalid("expected a map of host to its amounts", "hosts")
    if len(hosts) > MAX_HOSTS:
        raise Invalid(f"{len(hosts)} hosts; at most {MAX_HOSTS} are allowed", "hosts")
    projects = body.get("projects", [])
    if not isinstance(projects, list) or len(projects) > MAX_PROJECTS:
        raise Invalid(f"expected a list of at most {MAX_PROJECTS} projects", "projects")
    for host in hosts:
        # The key of an amount is <host>/<resource>, and resources such as nvidia.com/gpu have a slash.
        if "/" in host or not 0 < len(host.encode()) <= MAX_NAME_BYTES:
            raise Invalid(
                f"a host's name must have 1 to {MAX_NAME_BYTES} bytes and no slash", f"hosts.{host[:40]}"
            )
    for project in projects:
        if not isinstance(project, str) or not 0 < len(project.encode()) <= MAX_NAME_BYTES:
            raise Invalid(f"a project must be a string of 1 to {MAX_NAME_BYTES} bytes", "projects")
    capacity = {host: amounts(written, f"hosts.{host}") for host, written in hosts.items()}
    quotas = body.get("quotas", {})
    if not isinstance(quotas, Mapping) or len(quotas) > MAX_QUOTAS:
        raise Invalid(f"expected a map of at most {MAX_QUOTAS} owners, or *, to their amounts", "quotas")
    for owner in quotas:
        if not 0 < len(owner.encode()) <= MAX_NAME_BYTES:
            raise Invalid(f"an owner must have 1 to {MAX_NAME_BYTES} bytes", "quotas")
    limits = {owner: amounts(written, f"quotas.{owner[:40]}") for owner, written in quotas.items()}
    return Pool(name, capacity, tuple(dict.fromkeys(projects)), quotas=limits)
