"""docs/howto/verify-callbacks.md and rotate-secrets.md, with a receiver that goes by them."""

import base64
import os
import re
import runpy
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from standardwebhooks import Webhook

from tests.conftest import Receiver
from tests.docs.typed import BLOCK, needs, reader

HOWTO = Path(__file__).parents[2] / "docs" / "howto"
VERIFYING = (HOWTO / "verify-callbacks.md").read_text()
READ_AGAIN = "RQUEUE_CALLBACK_SECRETS_FILE has changed and was read again"
SECRET = f"whsec_{base64.b64encode(bytes(range(32))).decode()}"
BODY = b'{"type": "job.admitted", "data": {"OwnerID": "\xc3\xa9"}}'


@pytest.fixture
def is_ours(tmp_path: Path) -> Callable[..., bool]:
    """The function that the page gives to who has no library."""
    (text,) = (text for _, name, text in BLOCK.findall(VERIFYING) if name == "verify.py")
    (tmp_path / "verify.py").write_text(text)
    found: Callable[..., bool] = runpy.run_path(str(tmp_path / "verify.py"))["is_ours"]
    return found


def _signed(moment: datetime) -> dict[str, str]:
    return {
        "webhook-id": "adm_1-1",
        "webhook-timestamp": f"{int(moment.timestamp())}",
        "webhook-signature": Webhook(SECRET).sign("adm_1-1", moment, BODY.decode()),
    }


def test_without_a_library_the_same_is_taken_and_refused(is_ours: Callable[..., bool]) -> None:
    headers = _signed(datetime.now(UTC))
    signature = headers["webhook-signature"]
    assert is_ours(SECRET, headers, BODY)
    assert is_ours(SECRET, {**headers, "webhook-signature": f"v1,b3RoZXI= {signature}"}, BODY)
    assert not is_ours(SECRET, headers, BODY + b" ")
    assert not is_ours(SECRET[:-8] + "AAAAAAA=", headers, BODY)
    for name, value in {"id": "adm_2-1", "timestamp": "1", "signature": f"v1a{signature[2:]}"}.items():
        assert not is_ours(SECRET, {**headers, f"webhook-{name}": value}, BODY)
    for value in ("", "v1,", "v1,\u00e9"):
        assert not is_ours(SECRET, {**headers, "webhook-signature": value}, BODY)
    assert not is_ours(SECRET, _signed(datetime.now(UTC) - timedelta(minutes=6)), BODY)
    assert not is_ours(SECRET, {}, BODY)


@needs("openssl", "sh")
def test_by_hand_the_same_comes_out(tmp_path: Path) -> None:
    headers = _signed(datetime.now(UTC))
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    (tmp_path / "body.json").write_bytes(BODY)
    (script,) = (text for language, _, text in BLOCK.findall(VERIFYING) if language == "sh")
    named = {name.replace("-", "_"): value for name, value in headers.items()}
    said = subprocess.run(
        ["sh", "-c", script],
        cwd=tmp_path,
        env={**os.environ, **named},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"v1,{said.stdout.strip()}" == headers["webhook-signature"]


@pytest.mark.timeout(180)
@needs("openssl")
async def test_while_secrets_rotate_who_knows_either_takes_every_call(
    tmp_path: Path, receiver: Receiver, is_ours: Callable[..., bool]
) -> None:
    first, _, third = re.split(r"\*\*[23]\.\*\*", (HOWTO / "rotate-secrets.md").read_text())
    async with (
        reader(tmp_path) as someone,
        aiohttp.ClientSession(f"http://127.0.0.1:{someone.ports['8080']}") as service,
    ):

        async def good_for(*secrets: str) -> list[bool]:
            """Which of these verify the call of a new job."""
            count = len(receiver.calls)
            job: dict[str, Any] = {"owner_id": "x", "callback": f"{receiver.url}/{count}", "data": {}}
            async with service.post("/v1/vm/", json={"request_id": f"{count}", **job}) as answer:
                assert answer.status == 201
            await receiver.until(count + 1)
            _, headers, body = receiver.calls[-1]
            return [is_ours(secret, headers, body) for secret in secrets]

        assert await someone.reads(VERIFYING) == 2
        await service.put("/queues/vm/pools/default", json={"hosts": {"n1": {"slots": 9}}})
        old = (tmp_path / "secret").read_text().strip()
        assert await good_for(old) == [True]

        assert await someone.reads(first) == 3
        new = (tmp_path / "new").read_text().strip()
        await someone.hears(READ_AGAIN)
        assert await good_for(old, new) == [True, True]

        assert await someone.reads(third) == 2
        await someone.hears(READ_AGAIN, times=2)
        assert await good_for(old, new) == [False, True]
