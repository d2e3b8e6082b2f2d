"""schemathesis holds the running service to its own document, with good data and with bad."""

import asyncio
import os
import sys
from collections import Counter
from pathlib import Path

import pytest

from rqueue import tokens
from rqueue.domain.caller import Role
from tests.process import running

ROOT = Path(__file__).parents[2]
# So many seconds it goes on with new data; without it always with the same.
LONGER = os.environ.get("RQUEUE_TEST_FUZZ_SECONDS", "")
# Guesses of a token are refused by 429 after some: tests/web/test_auth.py has those.
LEFT_OUT = "positive_data_acceptance,ignored_auth"


@pytest.mark.timeout(int(LONGER or 0) + 300)
async def test_the_service_holds_to_its_document(tmp_path: Path) -> None:
    token, entry = tokens.make("a", Role.ADMIN, (), ())
    tokens.add(tmp_path / "tokens.yaml", entry)
    settings = {"TOKENS_FILE": str(tmp_path / "tokens.yaml"), "TOKEN_RATE": "1000000"}
    async with running(tmp_path / "data", cwd=ROOT, **settings) as service:
        told = ["--max-time", LONGER] if LONGER else ["--generation-deterministic", "--max-examples", "3"]
        schemathesis = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{service.url}/openapi.json", *told),
            *("--header", f"Authorization: Bearer {token}", "--continue-on-failure", "--no-color"),
            *("--checks", "all", "--exclude-checks", LEFT_OUT, "--suppress-health-check", "all"),
            cwd=tmp_path,
            env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.fuzz.hooks", "PYTHONPATH": str(ROOT)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await schemathesis.communicate()
    assert schemathesis.returncode == 0, said.decode()
    unexpected = Counter(event["message"] for event in service.log if event["level"] in ("error", "critical"))
    assert not unexpected
