"""TLS is of the event loop's own making: these tests run on Python's, and on uvloop as the service does."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

from tests.tls.pems import Authority, Pair

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    # What runs in a process of its own chooses its own.
    return LOOPS if item.path.stem != "test_service" else {"asyncio": asyncio.new_event_loop}


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Another authority, that nobody trusts."""
    return Authority(tmp_path_factory.mktemp("stranger"))


@pytest.fixture(scope="session")
def ours(authority: Authority) -> Pair:
    """A certificate for this machine."""
    return authority.issue("127.0.0.1", "localhost")
