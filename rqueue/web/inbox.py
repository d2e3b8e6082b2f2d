"""The service's own receiver, for trying out: it takes any callback and shows what arrived.

Only there on the embedded server. Keeps the last ones in memory, and cuts long bodies.
"""

from collections import deque
from datetime import UTC, datetime
from typing import Any

KEPT = 1000
BODY_KEPT = 16 * 1024
VALUE_KEPT = 1024
SHOWN = ("webhook-id", "webhook-timestamp", "webhook-signature")


class Inbox:
    """The last callbacks that arrived, newest first."""

    def __init__(self) -> None:
        self._arrived: deque[dict[str, Any]] = deque(maxlen=KEPT)

    def take(self, path: str, headers: dict[str, str], body: str) -> None:
        """Keep one callback; only the headers of the webhook scheme are of interest."""
        signed = {
            name.lower(): value[:VALUE_KEPT] for name, value in headers.items() if name.lower() in SHOWN
        }
        at = datetime.now(UTC).isoformat()
        self._arrived.appendleft(
            {"at": at, "path": path[:VALUE_KEPT], "headers": signed, "body": body[:BODY_KEPT]}
        )

    def shown(self) -> list[dict[str, Any]]:
        """What is kept, newest first."""
        return list(self._arrived)
