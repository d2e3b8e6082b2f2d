"""The Python client: `connected` and `connected_sync` for callers of the service, `receiver` and `verify` for
those that it calls.
"""

from rqueue.client.client import Client, connected
from rqueue.client.sync import SyncClient, connected_sync
from rqueue.client.values import Event, Failed, Job, Pool, Queue
from rqueue.client.webhooks import Call, NotVerified, NotWanted, receiver, verify

__all__ = [
    "Call",
    "Client",
    "Event",
    "Failed",
    "Job",
    "NotVerified",
    "NotWanted",
    "Pool",
    "Queue",
    "SyncClient",
    "connected",
    "connected_sync",
    "receiver",
    "verify",
]
