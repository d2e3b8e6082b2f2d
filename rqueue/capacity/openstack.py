"""Capacity as OpenStack's Placement says it is: pools are host aggregates.

A host is a compute node: a root provider that is a member of the aggregate in Placement (Nova keeps it so),
takes new servers (no COMPUTE_STATUS_DISABLED), and is no shared storage. Of each resource it has
floor((total - reserved) * allocation_ratio), which is the rule by which Placement refuses, and of that is
used what `usages` say; what the providers below it have is added to its own. One instance takes no more of
a resource than the `max_unit` of a provider, nor than a provider has.
"""

import asyncio
import logging
import re
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from rqueue.capacity.source import Source
from rqueue.domain.pool import MAX_HOSTS, Observation
from rqueue.errors import Invalid, SourceUnavailable, UnknownField

MAX_AGGREGATE = 255
FIELDS = ("aggregate",)

# The first that leaves out providers by a trait that they have; OpenStack has it since Rocky.
PLACEMENT_VERSION = "1.22"
# The first in which aggregates have UUIDs, by which Placement knows them; since Ocata.
COMPUTE_VERSION = "2.41"
NO_HOSTS = "!COMPUTE_STATUS_DISABLED,!MISC_SHARES_VIA_AGGREGATE"
# Aggregates change when operators change them: not read with each observation.
AGGREGATES_SECONDS = 60.0
CALL_SECONDS = 5.0
# Less than what requests keeps open to one server, so that no connection is thrown away.
CALLS_AT_ONCE = 8

log = logging.getLogger("rqueue.openstack")


def read(body: Mapping[str, Any]) -> dict[str, Any]:
    """How a pool is found: {"aggregate": name or UUID}. Raises Invalid or UnknownField, naming the field."""
    for field in body:
        if field not in FIELDS:
            raise UnknownField(f"there is no field {field[:40]!r}; there are {', '.join(FIELDS)}", field)
    aggregate = body.get("aggregate")
    if not isinstance(aggregate, str) or not 0 < len(aggregate.strip()) <= MAX_AGGREGATE:
        raise Invalid(f"expected an aggregate's name or UUID of 1 to {MAX_AGGREGATE} characters", "aggregate")
    return {"aggregate": aggregate}


@asynccontextmanager
async def source(cloud: str, resources: Mapping[str, str]) -> AsyncIterator[Source]:
    """The cloud, to be asked: its name in clouds.yaml, or "" for that of OS_CLOUD, or of the other OS_*.

    `resources` is resource → resource class. Raises SourceUnavailable without the extra `openstack`.
    """
    asked = OpenStack(cloud, resources)
    try:
        yield asked
    finally:
        await asked.close()


@dataclass(frozen=True, slots=True)
class _Aggregate:
    """What Nova says of an aggregate: the projects it is for, None where it is for all."""

    name: str
    projects: tuple[str, ...] | None


class OpenStack:
    """One cloud. Signs in when it is first asked, and again after whatever went wrong."""

    def __init__(self, cloud: str, resources: Mapping[str, str]) -> None:
        self._cloud = cloud
        self._name_of = {class_: name for name, class_ in resources.items()}
        # Its own threads: those of the loop, which also read files, do not wait for a cloud that hangs.
        self._threads = ThreadPoolExecutor(CALLS_AT_ONCE, "openstack")
        self._ways: _Ways | None = None
        # provider → its generation, and at that its capacities, and what one instance can take of each.
        self._inventories: dict[str, tuple[int, Mapping[str, int], Mapping[str, int]]] = {}
        # UUID → aggregate, as Nova told last; when it was asked, and what was wrong.
        self._aggregates: dict[str, _Aggregate] = {}
        self._aggregates_due = 0.0
        self._nova_error = ""

    async def observe(
        self, wanted: Mapping[str, Mapping[str, Any]]
    ) -> Mapping[str, Observation | SourceUnavailable]:
        """As in Source.

        Asks Placement for the usages of each provider, for the inventories of those whose generation is
        another than the last time, for the hosts of each aggregate, and once for all providers.
        """
        try:
            return await self._observe(wanted)
        except Exception as error:
            # Whatever it was, the credentials may be others by now, or the endpoints.
            await self._leave()
            raise _unavailable("OpenStack", error) from None

    async def changed(self) -> None:
        """Placement does not tell of changes: never."""
        await asyncio.Event().wait()

    async def close(self) -> None:
        """End its threads, and its connections."""
        await self._leave()
        self._threads.shutdown(wait=False, cancel_futures=True)

    # --- pools ---------------------------------------------------------------------------------------

    async def _observe(
        self, wanted: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, Observation | SourceUnavailable]:
        if self._ways is None:
            self._ways = await self._run(_sign_in, self._cloud)
        names = {pool: str(found_by.get("aggregate", "")) for pool, found_by in wanted.items()}
        await self._read_aggregates(names.values())
        uuids = {name: self._uuid(name) for name in set(names.values())}
        members = {
            uuid: await self._members(uuid)
            for uuid in sorted({uuid for uuid in uuids.values() if isinstance(uuid, str)})
        }
        trees = await self._trees()
        amounts = await self._amounts(
            {
                provider["uuid"]: provider
                for hosts in members.values()
                if not isinstance(hosts, SourceUnavailable)
                for host in hosts
                for provider in _tree(host, trees)
            }
        )
        found: dict[str, Observation | SourceUnavailable] = {}
        for pool, name in names.items():
            uuid = uuids[name]
            hosts = uuid if isinstance(uuid, SourceUnavailable) else members[str(uuid)]
            if isinstance(hosts, SourceUnavailable):
                found[pool] = hosts
            else:
                aggregate = self._aggregates.get(str(uuid))
                projects = aggregate.projects if aggregate else None
                found[pool] = _observation(hosts, trees, amounts, projects)
        return found

    def _uuid(self, name: str) -> str | SourceUnavailable:
        """The UUID of an aggregate by its name or UUID."""
        try:
            return str(UUID(name))
        except ValueError:
            pass
        for uuid, aggregate in self._aggregates.items():
            if aggregate.name == name:
                return uuid
        why = f"names cannot be looked up: {self._nova_error}" if self._nova_error else "Nova has none"
        return SourceUnavailable(f"no aggregate is known by the name {name!r}; {why}")

    # --- Nova ----------------------------------------------------------------------------------------

    async def _read_aggregates(self, names: Iterable[str]) -> None:
        """Know the aggregates, not older than AGGREGATES_SECONDS where Nova can be asked.

        Where it cannot, those known before are still good: an aggregate keeps its UUID.
        """
        new = not self._nova_error and any(isinstance(self._uuid(name), SourceUnavailable) for name in names)
        if time.monotonic() < self._aggregates_due and not new:
            return
        self._aggregates_due = time.monotonic() + AGGREGATES_SECONDS
        try:
            listed = (await self._get("compute", "/os-aggregates"))["aggregates"]
            self._aggregates = {
                str(UUID(each["uuid"])): _Aggregate(str(each["name"]), _projects(each["metadata"]))
                for each in listed
            }
            self._nova_error = ""
        except Exception as error:
            if not self._nova_error:
                log.info("%s; what it says of projects is not used", _unavailable("Nova", error).message)
            self._nova_error = _unavailable("Nova", error).message

    # --- Placement -----------------------------------------------------------------------------------

    async def _members(self, aggregate: str) -> "list[_Provider] | SourceUnavailable":
        """The hosts of an aggregate, but for those that take no servers."""
        path = f"/resource_providers?member_of={aggregate}&required={NO_HOSTS}"
        listed = (await self._get("placement", path))["resource_providers"]
        # What is below a host belongs to it, whatever aggregates it is in by itself.
        hosts = [provider for provider in listed if provider["parent_provider_uuid"] is None]
        if len(hosts) > MAX_HOSTS:
            return SourceUnavailable(f"it has {len(hosts)} hosts; at most {MAX_HOSTS} are allowed")
        return hosts

    async def _trees(self) -> "Mapping[str, Sequence[_Provider]]":
        """Root → the providers below it. One question for the whole cloud, not one for each host."""
        trees = defaultdict(list)
        for provider in (await self._get("placement", "/resource_providers"))["resource_providers"]:
            if provider["uuid"] != provider["root_provider_uuid"]:
                trees[provider["root_provider_uuid"]].append(provider)
        return trees

    async def _amounts(self, providers: "Mapping[str, _Provider]") -> "Mapping[str, _Amounts]":
        """What providers have and what is used of it, by their UUIDs; those that are gone are left out."""
        found = await asyncio.gather(*map(self._amounts_of, providers.values()))
        # What is gone is forgotten.
        self._inventories = {uuid: kept for uuid, kept in self._inventories.items() if uuid in providers}
        return {uuid: amounts for uuid, amounts in zip(providers, found, strict=True) if amounts}

    async def _amounts_of(self, provider: "_Provider") -> "_Amounts | None":
        path, generation = f"/resource_providers/{provider['uuid']}", provider["generation"]
        try:
            kept = self._inventories.get(provider["uuid"])
            if kept is None or kept[0] != generation:
                told = (await self._get("placement", f"{path}/inventories"))["inventories"]
                has = self._named({class_: _capacity(of) for class_, of in told.items()})
                most = self._named({class_: of["max_unit"] for class_, of in told.items()})
                kept = generation, has, most
                self._inventories[provider["uuid"]] = kept
            # Always: when a server is deleted, the generation stays as it is.
            used = (await self._get("placement", f"{path}/usages"))["usages"]
        except Exception as error:
            if getattr(error, "http_status", None) == 404:
                return None
            raise
        return kept[1], self._named(used), kept[2]

    def _named(self, amounts: Mapping[str, int]) -> dict[str, int]:
        """By the names that jobs use; other classes are left out."""
        return {
            self._name_of[class_]: int(amount)
            for class_, amount in amounts.items()
            if class_ in self._name_of
        }

    # --- HTTP ----------------------------------------------------------------------------------------

    async def _get(self, service: str, path: str) -> Any:
        if self._ways is None:
            raise SourceUnavailable("it was left while it was asked")
        return await self._run(self._ways.get, service, path)

    async def _run(self, function: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    async def _leave(self) -> None:
        ways, self._ways = self._ways, None
        if ways is not None:
            ways.http.close()


_Provider = Mapping[str, Any]
# By the names that jobs use: what it has, what is used, and the most that one instance can take of it.
_Amounts = tuple[Mapping[str, int], Mapping[str, int], Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class _Ways:
    """The ways to the services, each an adapter of keystoneauth; all by one pool of connections."""

    http: Any
    adapters: Mapping[str, Any]

    def get(self, service: str, path: str) -> Any:
        """The JSON of an answer. Raises what keystoneauth does."""
        return self.adapters[service].get(path, headers={"Accept": "application/json"}).json()


def _sign_in(cloud: str) -> _Ways:
    """Find the cloud's settings; its credentials are used with the first question."""
    try:
        import openstack.config
        import requests
        from keystoneauth1 import adapter, session
    except ImportError:
        raise SourceUnavailable("source openstack needs the extra: pip install 'rqueue[openstack]'") from None
    region = openstack.config.OpenStackConfig(app_name="rqueue").get_one(cloud=cloud or None)
    verify, cert = region.get_requests_verify_args()
    timeout = region.config.get("api_timeout") or CALL_SECONDS
    http = requests.Session()
    signed = session.Session(
        region.get_auth(), http, verify=verify, cert=cert, timeout=timeout, app_name="rqueue"
    )
    return _Ways(
        http,
        {
            service: adapter.Adapter(
                signed,
                service_type=service,
                interface=region.get_interface(service),
                region_name=region.get_region_name(service),
                endpoint_override=region.get_endpoint(service),
                default_microversion=version,
            )
            for service, version in (("placement", PLACEMENT_VERSION), ("compute", COMPUTE_VERSION))
        },
    )


def _tree(host: _Provider, trees: Mapping[str, Sequence[_Provider]]) -> Sequence[_Provider]:
    return (host, *trees.get(host["uuid"], ()))


def _observation(
    hosts: Iterable[_Provider],
    trees: Mapping[str, Sequence[_Provider]],
    amounts: Mapping[str, _Amounts],
    projects: tuple[str, ...] | None,
) -> Observation:
    capacity, taken, limits = {}, {}, {}
    for host in hosts:
        found = [amounts[each["uuid"]] for each in _tree(host, trees) if each["uuid"] in amounts]
        # A name in a pool has no slash.
        name = str(host["name"]).replace("/", "%2F")
        capacity[name] = dict(sum((Counter(has) for has, _, _ in found), Counter()))
        taken[name] = dict(sum((Counter(used) for _, used, _ in found), Counter()))
        # An instance has all of a resource from one provider.
        limit = {
            resource: max(min(most[resource], has[resource]) for has, _, most in found if resource in has)
            for resource in capacity[name]
        }
        limits[name] = {resource: most for resource, most in limit.items() if most < capacity[name][resource]}
    return Observation(capacity, taken, projects, {name: of for name, of in limits.items() if of})


def _capacity(inventory: Mapping[str, Any]) -> int:
    """How much of a resource can be allocated: (total - reserved) * allocation_ratio, rounded down.

    In floating point, as Placement reckons when it refuses: 100 times 1.15 is 114.
    """
    return max(0, int((inventory["total"] - inventory["reserved"]) * inventory["allocation_ratio"]))


def _projects(metadata: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The projects an aggregate is for: its `filter_tenant_id`, and those with any suffix.

    As Nova's filter AggregateMultiTenancyIsolation and its `limit_tenants_to_placement_aggregate` read them.
    """
    told = [value for key, value in sorted(metadata.items()) if key.startswith("filter_tenant_id")]
    named = [word for value in told for word in re.split(r"[\s,]+", str(value)) if word]
    return tuple(dict.fromkeys(named)) if told else None


def _unavailable(what: str, error: Exception) -> SourceUnavailable:
    """Any error in words; of what it was asked with, no secret is among them."""
    if isinstance(error, SourceUnavailable):
        return error
    said = " ".join(str(error).split())[:300]
    return SourceUnavailable(f"{what}: {type(error).__name__}: {said}")
