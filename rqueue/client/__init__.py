"""The Python client: `connected` and `connected_sync` for callers of the service, `receiver` and `verify` for
those that it calls.
"""

from rqueue.client.client import Client, connected
from rqueue.client.values import Event, Failed, Job, Pool, Queue

__all__ = ["Client", "Event", "Failed", "Job", "Pool", "Queue", "connected"]
