"""What state machines stand on: a loop, a client and a namespace of their own, and a clock.

Hypothesis drives its rules from outside of any event loop, so each machine has one.
"""

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from rqueue.store.connect import connect
from rqueue.store.store import Store
from tests import invariants
from tests.conftest import Clock, redis_at


class Machine(RuleBasedStateMachine):
    """A store on a real server, its rules' coroutines run to their end one after the other."""

    url = ""
    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.namespace = f"test-{secrets.token_hex(6)}"
        self.loop = asyncio.new_event_loop()
        self.clock = Clock()
        self.redis = redis_at(self.url)
        self.pipeline = connect(self.url)
        self.store = Store(self.pipeline, self.namespace, self.clock)

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(coroutine)

    def check(self) -> dict[str, dict[str, str]]:
        return self.run(invariants.check(self.redis, self.namespace))

    def teardown(self) -> None:
        try:
            self.check()
            self.at_end()
        finally:
            self.run(self._leave())
            self.loop.close()

    def at_end(self) -> None:
        """What a machine has to say after its last step."""

    async def _leave(self) -> None:
        async with self.redis, self.pipeline:
            names = [name async for name in self.redis.scan_iter(f"{self.namespace}:*", count=1000)]
            if names:
                await self.redis.unlink(*names)


def drive(
    machine: Callable[[], Machine], url: str, runs: int, steps: int, always_the_same: bool = False
) -> None:
    """Run a machine so often, with so many steps each; by chance, or each time the same."""

    def made() -> Machine:
        built = type(machine.__name__, (machine,), {"url": url})
        return built()

    run_state_machine_as_test(
        made,
        settings=settings(
            max_examples=runs,
            stateful_step_count=steps,
            deadline=None,
            derandomize=always_the_same,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
