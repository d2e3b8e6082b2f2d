"""Connections are of the event loop's own making: these tests run on uvloop, as the service does."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

from tests.receivers.bad import Authorities


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> Authorities:
    return Authorities(tmp_path_factory.mktemp("certificates"))
