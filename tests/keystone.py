"""A real Keystone on SQLite, from its package in a virtual environment of its own (`make test` makes it).

Its own API is asked for all that a test needs: projects, users, roles, tokens, and their ends.
"""

import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

PYTHON = Path(__file__).parents[1] / ".venv-keystone" / "bin" / "python"
MANAGE = PYTHON.with_name("keystone-manage")
INSTALLED = PYTHON.parents[1] / ".installed"
START_SECONDS = 120
REGION = "here"
PASSWORD = "a password for nothing else"
# Keystone reads the command line too, and wants none.
SERVE = """
import sys, waitress
host, port = sys.argv.pop(), int(sys.argv.pop())
from keystone.wsgi.api import application
waitress.serve(application, host=host, port=port, threads=4)
"""
CONFIG = """
[database]
connection = sqlite:///{0}/keystone.db
[fernet_tokens]
key_repository = {0}/keys
[fernet_receipts]
key_repository = {0}/keys
[credential]
key_repository = {0}/credentials
[cache]
enabled = false
"""


@dataclass
class Keystone:
    """A running Keystone: its URL, and its administrator's token."""

    url: str
    admin: str = ""

    def call(self, method: str, path: str, body: Any = None, by: str = "") -> Any:
        """One call, by the administrator or another token; returns the JSON. Fails where it is refused."""
        headers = {"X-Auth-Token": by or self.admin}
        answer = requests.request(method, self.url + path, json=body, headers=headers, timeout=20)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def project(self) -> str:
        """A new project's id."""
        body = {"project": {"name": secrets.token_hex(4), "domain_id": "default"}}
        return str(self.call("POST", "/projects", body)["project"]["id"])

    def user(self, project: str, *roles: str) -> str:
        """A new user with these roles in the project; the id."""
        body = {"user": {"name": secrets.token_hex(4), "domain_id": "default", "password": PASSWORD}}
        user = str(self.call("POST", "/users", body)["user"]["id"])
        for role in roles:
            (found,) = self.call("GET", f"/roles?name={role}")["roles"]
            self.call("PUT", f"/projects/{project}/users/{user}/roles/{found['id']}")
        return user

    def endpoint(self, type_: str, url: str) -> None:
        """Where a service is from now on, in REGION, as the catalogue of tokens says."""
        service = self.call("POST", "/services", {"service": {"type": type_, "name": type_}})["service"]
        body = {"service_id": service["id"], "interface": "public", "url": url, "region_id": REGION}
        self.call("POST", "/endpoints", {"endpoint": body})

    def token(self, user: str, scope: Any = None) -> str:
        """A token of a user, for the scope, such as {"project": {"id": …}}."""
        password = {"user": {"id": user, "password": PASSWORD}}
        return self.token_by({"methods": ["password"], "password": password}, scope or "unscoped")

    def token_by(self, identity: Any, scope: Any = None) -> str:
        body = {"auth": {"identity": identity, **({"scope": scope} if scope else {})}}
        answer = requests.post(f"{self.url}/auth/tokens", json=body, timeout=20)
        answer.raise_for_status()
        return answer.headers["X-Subject-Token"]

    def revoke(self, token: str) -> None:
        """From now on the token is no good."""
        headers = {"X-Auth-Token": self.admin, "X-Subject-Token": token}
        requests.delete(f"{self.url}/auth/tokens", headers=headers, timeout=20).raise_for_status()


@contextmanager
def running(folder: Path) -> Iterator[Keystone]:
    """Keystone in a directory, on a free port; it takes a quarter of a minute to start."""
    config = folder / "keystone.conf"
    config.write_text(CONFIG.format(folder))
    for name in ("keys", "credentials"):
        (folder / name).mkdir(mode=0o700)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    owner = ("--keystone-user", str(os.getuid()), "--keystone-group", str(os.getgid()))
    found = Keystone(f"http://127.0.0.1:{port}/v3")
    with open(folder / "log", "wb") as log:
        for words in (
            ("db_sync",),
            ("fernet_setup", *owner),
            ("credential_setup", *owner),
            (
                *("bootstrap", "--bootstrap-password", PASSWORD, "--bootstrap-public-url", found.url),
                *("--bootstrap-region-id", REGION),
            ),
        ):
            subprocess.run([MANAGE, "--config-file", config, *words], check=True, stdout=log, stderr=log)
        server = subprocess.Popen(
            [PYTHON, "-W", "ignore", "-c", SERVE, str(port), "127.0.0.1"],
            env={**os.environ, "OS_KEYSTONE_CONFIG_FILES": str(config)},
            stdout=log,
            stderr=log,
        )
    try:
        user = {"name": "admin", "domain": {"id": "default"}, "password": PASSWORD}
        identity = {"methods": ["password"], "password": {"user": user}}
        scope = {"project": {"name": "admin", "domain": {"id": "default"}}}
        until = time.monotonic() + START_SECONDS
        while not found.admin:
            try:
                found.admin = found.token_by(identity, scope)
            except requests.ConnectionError:
                if server.poll() is not None or time.monotonic() > until:
                    raise
                time.sleep(0.1)
        yield found
    finally:
        server.terminate()
        server.wait(20)
