"""The reference for callbacks: an aiohttp client on uvloop that POSTs one body in a loop, and nothing else.

`python -m bench.caller URL COUNT CONCURRENCY`, the body on its standard input. Prints one line of JSON:
the calls per second, and the milliseconds that each took until it was answered.
"""

import asyncio
import sys
import time

import aiohttp
import orjson
import uvloop


async def main(url: str, count: int, concurrency: int, body: bytes) -> None:
    took: list[float] = []
    left = iter(range(count))

    async def call(session: aiohttp.ClientSession) -> None:
        for _ in left:
            started = time.perf_counter()
            async with session.post(url, data=body, headers={"Content-Type": "application/json"}) as response:
                await response.read()
                assert response.status == 200
            took.append((time.perf_counter() - started) * 1000)

    async with aiohttp.ClientSession() as session:
        started = time.perf_counter()
        await asyncio.gather(*(call(session) for _ in range(concurrency)))
        rate = count / (time.perf_counter() - started)
    print(orjson.dumps({"rate": rate, "ms": took}).decode())


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        loop.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.stdin.buffer.read()))
