"""What every live source is: it says what the hosts of pools have, and what of it is taken.

One source reads all pools of all queues that name it. It knows neither queues nor Redis, and keeps no more
than what it needs to answer the next time.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from rqueue.domain.pool import Observation
from rqueue.errors import SourceUnavailable


class Source(Protocol):
    """A cluster that can be asked. Entered once as an async context manager, then asked until it is left."""

    async def observe(
        self, wanted: Mapping[str, Mapping[str, Any]]
    ) -> Mapping[str, Observation | SourceUnavailable]:
        """What there is now of each pool: a name of the caller's → how the source finds it.

        What an answer tells was so at a moment after the call began. A pool that cannot be read has its
        error, the others their amounts. Raises SourceUnavailable where none can be read.
        """
        ...

    async def changed(self) -> None:
        """Return when something has changed since the last `observe`.

        Never, for a source that does not tell.
        """
        ...
