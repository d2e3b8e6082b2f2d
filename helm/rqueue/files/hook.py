"""What the chart's hooks run, against the service's API.

Words: `test` or `apply`, the service's URL, the directory with `admin-token`, `queues.json` for `apply`, and
`ca.crt` where the certificate is not of a well-known CA.
"""

import json
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from pathlib import Path

what, url, files = sys.argv[1], sys.argv[2], Path(sys.argv[3])
ca = files / "ca.crt"
trust = ssl.create_default_context(cafile=ca if ca.exists() else None)
admin = {"Authorization": "Bearer " + (files / "admin-token").read_text().strip()}
PATIENCE_SECONDS = 300


def call(method, path, body=None, **headers):
    """The status and the JSON of an answer; 0 and why where there is none."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **headers}
    request = urllib.request.Request(url + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10, context=trust) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
    except OSError as error:
        return 0, str(error)


def expect(status, method, path, body=None, **headers):
    """What an answer of this status holds; any other ends the hook."""
    got, answer = call(method, path, body, **headers)
    print(method, path, got, flush=True)
    if got != status:
        # Printed, since a second fault while setting back would take the place of an exit's words.
        print(f"expected {status}, got {got}: {answer}", file=sys.stderr, flush=True)
        sys.exit(1)
    return answer.get("data")


def test():
    """The service is ready, asks for a token, and keeps a job."""
    expect(200, "GET", "/healthz")
    expect(200, "GET", "/readyz")
    expect(401, "GET", "/queues/")
    # Paused, so that nobody is called; forgotten a second after its end.
    expect(200, "PUT", "/queues/helm-test", {"paused": True, "retention": 1}, **admin)
    try:
        name = f"helm-test-{uuid.uuid4()}"
        job = {"request_id": name, "owner_id": "helm-test", "data": {}, "callback": f"http://{name}.invalid/"}
        expect(201, "POST", "/v1/helm-test/", job, **admin)
        found = expect(200, "GET", f"/v1/helm-test/{name}", **admin)
        expect(200, "DELETE", f"/v1/helm-test/{name}", **admin)
    finally:
        # As it was: a queue that stays paused would look like one that was forgotten.
        expect(200, "PUT", "/queues/helm-test", {"paused": None, "retention": None}, **admin)
    if found["Status"] != "queued":
        sys.exit(f"expected a queued job, got {found}")
    print("the chart's service works")


def apply():
    """Every queue and pool of the file is as it says; others stay as they are."""
    until = time.monotonic() + PATIENCE_SECONDS
    while call("GET", "/readyz")[0] != 200 and time.monotonic() < until:
        time.sleep(1)
    queues = json.loads((files / "queues.json").read_text())
    for type_, queue in queues.items():
        path = "/queues/" + urllib.parse.quote(type_, safe="")
        # Before any pool is open to it.
        expect(200, "PUT", path, queue.get("settings", {}), **admin)
        for pool, declared in queue.get("pools", {}).items():
            expect(200, "PUT", f"{path}/pools/{urllib.parse.quote(pool, safe='')}", declared, **admin)
    print(f"{len(queues)} queues are as declared")


{"test": test, "apply": apply}[what]()
