"""A real Chromium, and what must not happen in it.

It is Debian's, so nothing is downloaded. No host but this machine's loopback has an address in it, and a
page that asks for one has failed, as has a page that logs an error, throws, breaks its own
Content-Security-Policy, or gets an answer of 400 and more that the test does not expect.
"""

import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    Response,
    async_playwright,
)
from yarl import URL

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
AXE = Path(__file__).parent / "vendor" / "axe.min.js"
AXE_TAGS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")
PATIENCE_MS = 10_000
# Chromium says so of each answer of 400 and more, beside what the response says itself.
_LOADING = re.compile(r"^Failed to load resource: ")


def binary() -> str | None:
    """Where Chromium is; None where it is not installed."""
    return shutil.which("chromium")


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A browser without windows; it has ended on leaving."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=binary(), args=list(FLAGS))
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class Watch:
    """What went wrong in the pages of a test; what it `expects` is not a fault."""

    seen: list[str] = field(default_factory=list)
    expected: list[re.Pattern[str]] = field(default_factory=list)

    def expect(self, pattern: str) -> None:
        """From now on this may happen, such as `409 POST /v1/vm/a`."""
        self.expected.append(re.compile(pattern))

    @property
    def faults(self) -> list[str]:
        """All that happened and was not expected."""
        return [one for one in self.seen if not any(pattern.search(one) for pattern in self.expected)]

    def over(self, context: BrowserContext) -> None:
        """Look at everything that happens in a context; a breach of a CSP is logged as an error."""
        context.on("console", self._console)
        context.on("weberror", lambda error: self.seen.append(f"thrown: {error.error}"))
        context.on("request", self._request)
        context.on("response", self._response)
        context.on("requestfailed", self._failed)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not _LOADING.match(message.text):
            self.seen.append(f"console: {message.text}")

    def _request(self, request: Request) -> None:
        url = URL(request.url)
        if url.scheme not in ("data", "blob") and url.host != "127.0.0.1":
            self.seen.append(f"asked another host: {request.url}")

    def _response(self, response: Response) -> None:
        if response.status >= 400:
            self.seen.append(f"{response.status} {_of(response.request)}")

    def _failed(self, request: Request) -> None:
        # What a page gives up itself, such as what it waits for when it is closed, has not failed.
        if request.failure != "net::ERR_ABORTED":
            self.seen.append(f"failed, {request.failure}: {_of(request)}")


async def found_by_axe(page: Page) -> list[str]:
    """What axe-core finds wrong with a page by WCAG 2.0 to 2.2, A and AA: the rule and the first places."""
    await page.evaluate(AXE.read_text())
    found: dict[str, Any] = await page.evaluate(
        "(tags) => axe.run(document, {runOnly: {type: 'tag', values: tags}, resultTypes: ['violations']})",
        list(AXE_TAGS),
    )
    return [
        f"{rule['impact']}: {rule['id']}: {rule['help']}: "
        + "; ".join(f"{node['html']} {node['failureSummary']}" for node in rule["nodes"][:3])
        for rule in found["violations"]
    ]


def _of(request: Request) -> str:
    return f"{request.method} {URL(request.url).raw_path_qs}"
