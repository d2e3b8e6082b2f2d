"""How these tests speak to the service: one request as it is written, and the one shape of a refusal."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from yarl import URL

from tests.conftest import Service
from tests.web.contract import contract

# Of longer answers most is of one kind.
LONG = 1_000_000


@dataclass(frozen=True)
class Answer:
    """What came back, down to the text."""

    status: int
    headers: Any
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def data(self) -> Any:
        """The data of a call that succeeded."""
        assert self.status in (200, 201), self.text
        assert self.json["ok"] is True
        return self.json["data"]


async def ask(service: Service, method: str, path: str, body: Any = None, **options: Any) -> Answer:
    """One request; the path goes out as it is written, a str or bytes as the body too.

    What comes back is one of the answers that the OpenAPI document has for it.
    """
    if isinstance(body, str | bytes):
        options["data"] = body.encode() if isinstance(body, str) else body
    elif body is not None:
        options["json"] = body
    url = URL(service.url + path, encoded=True)
    async with service.client.request(method, url, **options) as response:
        answer = Answer(response.status, response.headers, await response.text())
    if len(answer.text) < LONG:
        contract().hold(method, path, answer.status, answer.headers.get("Content-Type", ""), answer.text)
    return answer


async def ask_raw(service: Service, request: bytes) -> bytes:
    """Send bytes, with `Connection: close` among them, and return all that comes back."""
    url = URL(service.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()


def job(request_id: str = "a", **changes: Any) -> dict[str, Any]:
    """The body of a create with the usual values, and those that are asked for."""
    return {"request_id": request_id, "owner_id": "y", "callback": f"cb-{request_id}", **changes}


def well_formed(answer: Answer) -> dict[str, Any]:
    """Assert that an answer has the one shape of its kind, whatever it says. Returns the JSON."""
    said = answer.json
    assert answer.headers["Content-Type"].partition(";")[0] == "application/json"
    assert said["ok"] is (answer.status < 400)
    assert list(said)[:2] == (["data", "ok"] if said["ok"] else ["ok", "error"])
    assert ("Retry-After" in answer.headers) == (answer.status in (429, 503))
    assert "Traceback" not in answer.text
    return said


def refused(answer: Answer, status: int, code: str, field: str | None = None) -> str:
    """Assert that an answer is this refusal in the one shape. Returns its message."""
    assert answer.status == status, answer.text
    said = well_formed(answer)
    error = said["error"]
    assert list(said) == ["ok", "error"]
    assert list(error) == ["code", "message"] + (["field"] if field is not None else []), answer.text
    assert (error["code"], error.get("field")) == (code, field), answer.text
    assert isinstance(error["message"], str)
    assert 5 < len(error["message"]) < 1500
    return error["message"]
