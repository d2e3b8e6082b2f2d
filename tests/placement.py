"""A real Placement on SQLite, from its package in a virtual environment of its own (`make test` makes it).

Its own API makes what a test needs: hosts with inventories, traits and aggregates, and the allocations that
Nova would make for servers.
"""

import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import requests

PYTHON = Path(__file__).parents[1] / ".venv-placement" / "bin" / "python"
INSTALLED = PYTHON.parents[1] / ".installed"
MISSING = "NO Placement: `make .venv-placement/.installed` puts it there"
START_SECONDS = 60
# The one that Placement's strategy noauth2 takes for an administrator.
TOKEN = "admin"
# One thread: with more, SQLite is locked. No application has to be named on the command line.
SERVE = """
import sys, waitress
host, port = sys.argv.pop(), int(sys.argv.pop())
from placement.wsgi.api import application
waitress.serve(application, host=host, port=port, threads=1)
"""


@dataclass
class Placement:
    """A running Placement: its URL, and an administrator's token. What it refuses, fails."""

    url: str
    token: str = TOKEN

    @property
    def environment(self) -> dict[str, str]:
        """How a client signs in, by OpenStack's own variables."""
        return {"OS_AUTH_TYPE": "admin_token", "OS_ENDPOINT": self.url, "OS_TOKEN": self.token}

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One call by the administrator; returns the JSON."""
        headers = {"X-Auth-Token": self.token, "OpenStack-API-Version": "placement 1.39"}
        answer = requests.request(method, self.url + path, json=body, headers=headers, timeout=20)
        assert answer.ok, answer.text
        return answer.json() if answer.content else None

    def host(
        self, aggregate: str, name: str = "", parent: str = "", **inventories: int | Mapping[str, Any]
    ) -> str:
        """A new host's UUID: resource class → its total, or its whole inventory."""
        uuid = str(uuid4())
        body = {"name": name or f"host-{secrets.token_hex(4)}", "uuid": uuid}
        self.call("POST", "/resource_providers", body | ({"parent_provider_uuid": parent} if parent else {}))
        self.inventory(uuid, **inventories)
        if aggregate:
            self.put(uuid, "aggregates", aggregates=[aggregate])
        return uuid

    def inventory(self, host: str, **inventories: int | Mapping[str, Any]) -> None:
        """What a host has from now on."""
        told = {
            class_: {"total": of, "max_unit": of} if isinstance(of, int) else dict(of)
            for class_, of in inventories.items()
        }
        self.put(host, "inventories", inventories=told)

    def disable(self, host: str, disabled: bool = True) -> None:
        """As Nova says of a compute service that was disabled."""
        self.put(host, "traits", traits=["COMPUTE_STATUS_DISABLED"] if disabled else [])

    def put(self, host: str, what: str, **body: Any) -> None:
        generation = self.call("GET", f"/resource_providers/{host}")["generation"]
        self.call(
            "PUT", f"/resource_providers/{host}/{what}", {"resource_provider_generation": generation, **body}
        )

    def build(self, host: str, **amounts: int) -> str:
        """Allocate for a new server, as Nova does; its UUID."""
        server = str(uuid4())
        body = {
            "allocations": {host: {"resources": amounts}},
            "consumer_generation": None,
            "project_id": "p",
            "user_id": "u",
            "consumer_type": "INSTANCE",
        }
        self.call("PUT", f"/allocations/{server}", body)
        return server

    def delete(self, server: str) -> None:
        """End a server's allocations, as Nova does."""
        self.call("DELETE", f"/allocations/{server}")


@contextmanager
def running(folder: Path, **settings: str) -> Iterator[Placement]:
    """Placement in a directory, on a free port; it takes some seconds to start. `settings` are more OS_*."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("OS_")},
        "OS_PLACEMENT_CONFIG_DIR": "",
        "OS_API__AUTH_STRATEGY": "noauth2",
        "OS_PLACEMENT_DATABASE__CONNECTION": f"sqlite:///{folder}/placement.db",
        "OS_PLACEMENT_DATABASE__SYNC_ON_STARTUP": "true",
        **settings,
    }
    found = Placement(f"http://127.0.0.1:{port}")
    with open(folder / "placement.log", "wb") as log:
        server = subprocess.Popen(
            [PYTHON, "-W", "ignore", "-c", SERVE, str(port), "127.0.0.1"],
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                requests.get(found.url, timeout=20).raise_for_status()
                break
            except requests.ConnectionError:
                if server.poll() is not None or time.monotonic() > until:
                    raise
                time.sleep(0.1)
        yield found
    finally:
        server.terminate()
        server.wait(20)
