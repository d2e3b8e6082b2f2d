"""What `helm test` runs: the service is ready, asks for a token, and keeps a job.

Words: its URL, the file with the admin token, and the CA's, where there is one.
"""

import json
import ssl
import sys
import urllib.error
import urllib.request
import uuid

url, token_file, *ca = sys.argv[1:]
with open(token_file) as file:
    token = file.read().strip()
trust = ssl.create_default_context(cafile=ca[0] if ca else None)


def call(method, path, body=None, **headers):
    """The status and the JSON of an answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        url + path, data, {"Content-Type": "application/json", **headers}, method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=10, context=trust) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def expect(status, method, path, body=None, **headers):
    """What an answer of this status holds; any other ends the test."""
    got, answer = call(method, path, body, **headers)
    print(method, path, got)
    if got != status:
        sys.exit(f"expected {status}, got {got}: {answer}")
    return answer.get("data")


admin = {"Authorization": f"Bearer {token}"}
name = f"helm-test-{uuid.uuid4()}"
expect(200, "GET", "/healthz")
expect(200, "GET", "/readyz")
expect(401, "GET", "/queues/")
# Paused, so that nobody is called; forgotten a second after its end.
expect(200, "PUT", "/queues/helm-test", {"paused": True, "retention": 1}, **admin)
job = {"request_id": name, "owner_id": "helm-test", "data": {}, "callback": f"http://{name}.invalid/"}
expect(201, "POST", "/v1/helm-test/", job, **admin)
found = expect(200, "GET", f"/v1/helm-test/{name}", **admin)
expect(200, "DELETE", f"/v1/helm-test/{name}", **admin)
if found["Status"] != "queued":
    sys.exit(f"expected a queued job, got {found}")
print("the chart's service works")
