"""Capacity as a Kubernetes cluster says it is: pools are the nodes that a label selector matches.

What a node has is its allocatable, what of it is taken the requests of the pods that are bound to it, both as
the scheduler counts. The client it is made with is optional: the extra `kubernetes`.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from rqueue import apiserver
from rqueue.capacity import scheduling
from rqueue.capacity.scheduling import Amounts, Taint
from rqueue.capacity.source import Source
from rqueue.capacity.watched import CredentialsRefused, Watched
from rqueue.domain.demand import MAX_AMOUNT
from rqueue.domain.pool import Observation
from rqueue.errors import Invalid, Refused, SourceUnavailable, UnknownField

FIELDS = ("selector", "tolerations")
# Pods that hold something of a node: bound, and not through.
BOUND = "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed"
# A name that nothing has: what is listed by it is nothing, and costs the cluster nothing.
NOTHING = "rqueue-none"
# A kubeconfig may name a program that says the token.
CONNECT_SECONDS = 10.0


def read(body: Mapping[str, Any]) -> dict[str, Any]:
    """How a pool is found: {"selector": …, "tolerations": […]}. Raises Invalid or UnknownField."""
    for field in body:
        if field not in FIELDS:
            raise UnknownField(f"there is no field {field[:40]!r}; there are {', '.join(FIELDS)}", field)
    if not isinstance(body.get("selector"), str):
        raise Invalid("expected a label selector", "selector")
    scheduling.selector(body["selector"])
    return {
        "selector": body["selector"],
        "tolerations": scheduling.tolerations(body.get("tolerations", [])),
    }


@dataclass(frozen=True, slots=True)
class _Node:
    """What is kept of a node; `offers` is empty while it takes no pods."""

    name: str
    labels: Mapping[str, str]
    taints: tuple[Taint, ...]
    offers: Amounts


# What is kept of a pod: its node, and what it takes of it.
_Pod = tuple[str, Amounts]


class Kubernetes:
    """The cluster that the pod is in, or that the kubeconfig names: a Source.

    Nothing is asked of it before the first `observe`.
    """

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._nodes: Watched[_Node] | None = None
        self._pods: Watched[_Pod] | None = None
        self._taken: dict[str, Counter[str]] = {}  # of each node
        self._hosts: set[str] = set()  # that an answer named
        self._something = asyncio.Event()

    async def __aenter__(self) -> "Kubernetes":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._disconnect()

    async def observe(
        self, wanted: Mapping[str, Mapping[str, Any]]
    ) -> Mapping[str, Observation | SourceUnavailable]:
        """As Source has it. `wanted` is pool → what `read` answers; hosts are nodes."""
        nodes, pods = await self._connected()
        try:
            await asyncio.gather(nodes.caught_up(), pods.caught_up())
        except CredentialsRefused as error:
            # Those of a kubeconfig may be others by now.
            await self._disconnect()
            raise SourceUnavailable(str(error)) from None
        self._something.clear()
        found: dict[str, Observation | SourceUnavailable] = {}
        hosts: set[str] = set()
        for pool, how in wanted.items():
            try:
                found[pool] = observed = self._observed(nodes, read(how))
                hosts |= observed.capacity.keys()
                self._hosts |= hosts
            except (Invalid, UnknownField) as error:
                found[pool] = SourceUnavailable(f"{error.field}: {error.message}")
            # Each looks at all nodes, and other requests wait meanwhile.
            await asyncio.sleep(0)
        self._hosts = hosts
        return found

    async def changed(self) -> None:
        """As Source has it: a node changed, or a pod on one of the last answer's hosts came, went or grew."""
        await self._something.wait()

    def _observed(self, nodes: Watched[_Node], how: Mapping[str, Any]) -> Observation:
        matches, tolerations = scheduling.selector(how["selector"]), how["tolerations"]
        capacity: dict[str, dict[str, int]] = {}
        taken: dict[str, dict[str, int]] = {}
        for node in nodes.kept.values():
            if (
                node.offers
                and matches(node.labels)
                and (not node.taints or scheduling.tolerated(node.taints, tolerations))
            ):
                capacity[node.name] = dict(node.offers)
                used = self._taken.get(node.name, Counter())
                taken[node.name] = {
                    name: min(used[name], MAX_AMOUNT) for name, _ in node.offers if used[name]
                }
        return Observation(capacity, taken)

    async def _connected(self) -> tuple[Watched[_Node], Watched[_Pod]]:
        if self._nodes is None or self._pods is None:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    settings = await apiserver.settings()
            except Refused as error:
                raise SourceUnavailable(f"kubernetes: {error.message}") from None
            except Exception as error:
                raise SourceUnavailable(f"kubernetes: the kubeconfig: {type(error).__name__}") from None
            from kubernetes_asyncio import client

            core = client.CoreV1Api(await self._stack.enter_async_context(client.ApiClient(settings)))
            self._nodes = Watched(
                "nodes",
                core.list_node,
                lambda **words: core.list_node(field_selector=f"metadata.name={NOTHING}", **words),
                _node,
                self._node_changed,
            )
            self._pods = Watched(
                "pods",
                core.list_pod_for_all_namespaces,
                lambda **words: core.list_namespaced_pod(NOTHING, **words),
                _pod,
                self._pod_changed,
                BOUND,
            )
            for watched in (self._nodes, self._pods):
                task = asyncio.create_task(watched.run())
                self._stack.push_async_callback(_ended, task)
        return self._nodes, self._pods

    async def _disconnect(self) -> None:
        self._nodes = self._pods = None
        await self._stack.aclose()
        self._taken.clear()

    def _node_changed(self, was: _Node | None, now: _Node | None) -> None:
        self._something.set()

    def _pod_changed(self, was: _Pod | None, now: _Pod | None) -> None:
        for pod, sign in ((was, -1), (now, 1)):
            if pod is None:
                continue
            host, amounts = pod
            taken = self._taken.setdefault(host, Counter())
            for name, amount in amounts:
                taken[name] += sign * amount
                if not taken[name]:
                    del taken[name]
            if not taken:
                del self._taken[host]
            if host in self._hosts:
                self._something.set()


def source() -> AbstractAsyncContextManager[Source]:
    """The cluster, to be entered and asked."""
    return Kubernetes()


def _node(node: Mapping[str, Any]) -> _Node:
    meta = node["metadata"]
    return _Node(meta["name"], meta.get("labels") or {}, scheduling.taints(node), scheduling.offers(node))


def _pod(pod: Mapping[str, Any]) -> _Pod:
    try:
        return _one((pod["spec"]["nodeName"], scheduling.requests(pod)))
    except ValueError as error:
        meta = pod["metadata"]
        raise ValueError(f"pod {meta['namespace']}/{meta['name']}: {error}") from None


@lru_cache(maxsize=16384)
def _one(pod: _Pod) -> _Pod:
    # Many pods of a node ask for the same, and share what is kept of them.
    return pod


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
