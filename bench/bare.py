"""The reference: an aiohttp handler on uvloop that parses the same JSON and answers it, and nothing else."""

import asyncio
import sys

import orjson
import uvloop
from aiohttp import web


async def handle(request: web.Request) -> web.Response:
    body = orjson.loads(await request.read() or b"{}")
    return web.Response(body=orjson.dumps({"data": body, "ok": True}), content_type="application/json")


async def main(port: int) -> None:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        loop.run(main(int(sys.argv[1])))
