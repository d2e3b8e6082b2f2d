"""The service as a client sees it: one method for each call, values in, values out.

Raises Failed for an answer that is an error, with what the service says, and for a service that cannot be
asked.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import aiohttp
from yarl import URL

TIMEOUT = aiohttp.ClientTimeout(total=60, connect=10)


class Failed(Exception):
    """A call that did not succeed.

    `status` is that of the answer, 0 where there was none; `code` and `field` are as the answer has them.
    """

    def __init__(self, message: str, status: int = 0, code: str = "", field: str | None = None) -> None:
        super().__init__(message)
        self.message, self.status, self.code, self.field = message, status, code, field


class Client:
    """Calls one service; made by `connected`."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url.rstrip("/")

    async def queue(self, type_: str) -> dict[str, Any]:
        """A queue's settings, counts and the names of its pools."""
        return dict(await self._call("GET", "queues", type_))

    async def configure(self, type_: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Change the settings that are named; None gives one its default back."""
        return dict(await self._call("PUT", "queues", type_, body=settings))

    async def pool(self, type_: str, name: str) -> dict[str, Any]:
        """A pool as it is."""
        return dict(await self._call("GET", "queues", type_, "pools", name))

    async def put_pool(self, type_: str, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Declare a pool, in place of what was declared."""
        return dict(await self._call("PUT", "queues", type_, "pools", name, body=body))

    async def delete_pool(self, type_: str, name: str) -> None:
        """Forget a pool."""
        await self._call("DELETE", "queues", type_, "pools", name)

    async def _call(self, method: str, *path: str, body: Mapping[str, Any] | None = None) -> Any:
        # Names hold slashes, dots and percent signs like any other character.
        where = "/".join("%2E" * len(part) if part in (".", "..") else quote(part, safe="") for part in path)
        try:
            url = URL(f"{self._url}/{where}", encoded=True)
            async with self._session.request(method, url, json=body, allow_redirects=False) as response:
                answer = await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            said = str(error) or type(error).__name__
            raise Failed(f"{self._url} cannot be asked: {said}") from None
        if isinstance(answer, dict) and answer.get("ok") is True and "data" in answer:
            return answer["data"]
        told = answer.get("error") if isinstance(answer, dict) else None
        if not isinstance(told, dict):
            raise Failed(
                f"{self._url} does not answer as rqueue does (status {response.status})", response.status
            )
        said = f"{told.get('message')} ({told.get('code')})"
        raise Failed(said, response.status, str(told.get("code")), told.get("field"))


@asynccontextmanager
async def connected(url: str, token: str = "") -> AsyncIterator[Client]:
    """A client of the service at a URL, who shows this token."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with aiohttp.ClientSession(timeout=TIMEOUT, headers=headers) as session:
        yield Client(session, url)
