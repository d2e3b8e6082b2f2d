"""Nodes and pods as Kubernetes' API server lists and watches them, as far as its reference says how.

There is no API server to install, so this one keeps to
https://kubernetes.io/docs/reference/using-api/api-concepts/: one version for all that is written; lists of
one moment in pages, whose tokens expire; watches from a version on, with field selectors, bookmarks (two
seconds before the end), a history of bounded length, and 410 for what is older, as a status or within the
stream. Lists are read past the watch's cache, which may lag. It has no writes over HTTP, label selectors,
watches from no version, protobuf, priority or fairness. Its seconds are shorter, so that nobody waits long.
"""

import asyncio
import base64
import copy
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.cluster import Cluster, served

Object = dict[str, Any]
FIELDS = {
    "nodes": ("metadata.name", "spec.unschedulable"),
    "pods": ("metadata.name", "metadata.namespace", "spec.nodeName", "status.phase"),
}


def node(name: str, cpu: str = "4", **more: Any) -> Object:
    """A node that is ready; `allocatable` beside the cpu, `labels`, `taints`, `cordoned`, `ready`."""
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **more.get("labels", {})}},
        "spec": {
            **({"unschedulable": True} if more.get("cordoned") else {}),
            **({"taints": more["taints"]} if "taints" in more else {}),
        },
        "status": {
            "allocatable": {"cpu": cpu, "pods": "110", **more.get("allocatable", {})},
            "conditions": [
                {"type": "MemoryPressure", "status": "False"},
                {"type": "Ready", "status": more.get("ready", "True")},
            ],
        },
    }


def pod(
    name: str, host: str | None = None, cpu: str = "1", phase: str = "Running", **requests: str
) -> Object:
    """A pod of one container, bound to a host or to none yet."""
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu, **requests}}}],
            **({"nodeName": host} if host else {}),
        },
        "status": {"phase": phase},
    }


@dataclass
class Kind:
    """Its objects by namespace and name, and what happened to them: version, what was, what is."""

    objects: dict[tuple[str, str], Object] = field(default_factory=dict)
    history: list[tuple[int, Object | None, Object | None]] = field(default_factory=list)


@dataclass
class ApiServer(Cluster):
    """What a test may turn: `refuses` answers a status for a request, `flowing` is cleared while watches lag,
    `answering` while nothing is answered; without `progress` its cache knows how far it is from events only.
    """

    version: int = 1000
    compacted: int = 0
    second: float = 0.1
    progress: bool = True
    gone_in_stream: bool = True
    kinds: dict[str, Kind] = field(default_factory=lambda: {"nodes": Kind(), "pods": Kind()})
    snapshots: dict[str, list[Object]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    refuses: Callable[[web.Request], int | None] = lambda _: None
    watches: list[web.Request] = field(default_factory=list)
    flowing: asyncio.Event = field(default_factory=asyncio.Event)
    answering: asyncio.Event = field(default_factory=asyncio.Event)
    written: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.flowing.set()
        self.answering.set()

    # --- what happens in the cluster ------------------------------------------------------------------

    def put(self, *objects: Object) -> None:
        """Create them, or replace what has their names."""
        for one in objects:
            kind = self.kinds["pods" if "containers" in one["spec"] else "nodes"]
            key = (one["metadata"].get("namespace", ""), one["metadata"]["name"])
            was, now = kind.objects.get(key), copy.deepcopy(one)
            now["metadata"]["uid"] = was["metadata"]["uid"] if was else f"uid-{self.version}"
            kind.objects[key] = now
            self._happened(kind, was, now)

    def delete(self, kind: str, name: str) -> None:
        key = ("default" if kind == "pods" else "", name)
        self._happened(self.kinds[kind], self.kinds[kind].objects.pop(key), None)

    def elsewhere(self) -> None:
        """Something of another kind is written, as is all the time."""
        self.version += 1
        self._wake()

    def _happened(self, kind: Kind, was: Object | None, now: Object | None) -> None:
        self.version += 1
        if now:
            now["metadata"]["resourceVersion"] = str(self.version)
        kind.history.append((self.version, was, now))
        self._wake()

    def compact(self) -> None:
        """Forget all history: who comes with an older version, or in the middle of a list, is told so."""
        self.compacted = self.version
        self.snapshots.clear()
        for kind in self.kinds.values():
            kind.history.clear()

    def cut(self) -> None:
        """Cut the connections of all watches."""
        for request in self.watches:
            if request.transport:
                request.transport.abort()

    def _wake(self) -> None:
        self.written.set()
        self.written = asyncio.Event()

    # --- what is answered -----------------------------------------------------------------------------

    def routes(self) -> list[web.RouteDef]:
        return [
            *super().routes(),
            web.get("/api/v1/nodes", self.get),
            web.get("/api/v1/pods", self.get),
            web.get("/api/v1/namespaces/{namespace}/pods", self.get),
        ]

    async def get(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request.path_qs)
        await self.answering.wait()
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if bearer not in self.may_ask:
            return _failed(401, "Unauthorized")
        if status := self.refuses(request):
            return _failed(status, "the test refuses")
        kind = request.path.rpartition("/")[2]
        try:
            selects = _selects(kind, request.query.get("fieldSelector", ""))
        except KeyError as error:
            return _failed(400, f"field label not supported: {error}")
        if _is_true(request.query.get("watch", "false")):
            return await self._watch(request, kind, selects)
        namespace = request.match_info.get("namespace")
        if token := request.query.get("continue"):
            _, version, at = json.loads(base64.b64decode(token))
            if token not in self.snapshots:
                return _failed(410, "The provided continue parameter is too old", "Expired")
            found = self.snapshots[token]
        else:
            version, at = self.version, 0
            found = [
                one
                for (its, _), one in sorted(self.kinds[kind].objects.items())
                if namespace in (None, its) and selects(one)
            ]
        meta: dict[str, Any] = {"resourceVersion": str(version)}
        end = at + int(request.query.get("limit", len(found)))
        if end < len(found):
            token = base64.b64encode(json.dumps([kind, version, end]).encode()).decode()
            self.snapshots[token] = found
            meta |= {"continue": token, "remainingItemCount": len(found) - end}
        return web.json_response({"kind": "List", "metadata": meta, "items": found[at:end]})

    async def _watch(
        self, request: web.Request, kind: str, selects: Callable[[Object], bool]
    ) -> web.StreamResponse:
        at = int(request.query["resourceVersion"])
        if at < self.compacted and not self.gone_in_stream:
            return _failed(410, f"too old resource version: {at}", "Expired")
        if at > self.version:
            return _failed(504, f"Too large resource version: {at}, current: {self.version}", "Timeout")
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(request)
        self.watches.append(request)
        end = time.monotonic() + float(request.query["timeoutSeconds"]) * self.second
        bookmark = (
            end - 2 * self.second if _is_true(request.query.get("allowWatchBookmarks", "false")) else end
        )
        try:
            while (now := time.monotonic()) < end:
                written = self.written
                await self.flowing.wait()
                if at < self.compacted:
                    gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
                    await _send(answer, "ERROR", gone)
                    break
                current = self.version
                for version, was, is_ in [one for one in self.kinds[kind].history if one[0] > at]:
                    await _tell(answer, version, was, is_, selects)
                    at = version
                if now >= bookmark:
                    bookmark = end
                    at = max(at, current) if self.progress else at
                    await _send(answer, "BOOKMARK", {"metadata": {"resourceVersion": str(at)}})
                with suppress(TimeoutError):
                    await asyncio.wait_for(written.wait(), max(0, min(bookmark, end) - time.monotonic()))
        except ConnectionError:
            pass
        finally:
            self.watches.remove(request)
        return answer


async def _tell(
    answer: web.StreamResponse,
    version: int,
    was: Object | None,
    is_: Object | None,
    selects: Callable[[Object], bool],
) -> None:
    """What a watch with a selector sees: what no longer matches is as good as deleted."""
    before, after = was is not None and selects(was), is_ is not None and selects(is_)
    if after:
        await _send(answer, "MODIFIED" if before else "ADDED", is_)
    elif before and was:
        told = copy.deepcopy(is_ or was)
        told["metadata"]["resourceVersion"] = str(version)
        await _send(answer, "DELETED", told)


async def _send(answer: web.StreamResponse, type_: str, what: Mapping[str, Any] | None) -> None:
    await answer.write(json.dumps({"type": type_, "object": what}).encode() + b"\n")


def _is_true(written: str) -> bool:
    return written.lower() not in ("false", "0")


def _failed(status: int, message: str, reason: str = "") -> web.Response:
    told = {"kind": "Status", "status": "Failure", "code": status, "message": message, "reason": reason}
    return web.json_response(told, status=status)


def _selects(kind: str, selector: str) -> Callable[[Object], bool]:
    """A field selector; KeyError for a field that the kind has none of."""
    terms = []
    for term in filter(None, selector.split(",")):
        path, operator, value = re.split("(!=|==|=)", term, maxsplit=1)
        if path not in FIELDS[kind]:
            raise KeyError(path)
        terms.append((path.split("."), operator != "!=", value))

    def selects(one: Object) -> bool:
        return all((str(one.get(a, {}).get(b, "")) == value) is equal for (a, b), equal, value in terms)

    return selects


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[ApiServer]:
    """A cluster with nothing in it."""
    server = ApiServer(folder)
    async with served(server):
        try:
            yield server
        finally:
            # Nobody who still waits is to hold up the end.
            server.flowing.set()
            server.answering.set()
            server.cut()
