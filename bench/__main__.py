"""`make bench`: create, get and move by wrk at 32 connections, as ratios to the bare handler.

Medians of five rounds (`--quick`: one short round), each measuring both sides one after the other, since the
speed of a small machine drifts. Traffic goes to loopback, is bounded in time and ends by itself.
"""

import argparse
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SEED = (
    '{"request_id":"%s","owner_id":"y","data":{"instances":[{"VCPU":1,"Memory":1,"Disk":1}]},"callback":"%s"}'
)
# wrk's own scripts: each thread counts its requests, so that every request_id is new.
SCRIPTS = {
    "create": f"""
        wrk.headers["Content-Type"] = "application/json"
        local n = 0
        function request()
          n = n + 1
          local id = "{{round}}-" .. n
          return wrk.format("POST", "/v1/vm/", nil, string.format([[{SEED}]], id, id))
        end""",
    "get": 'function request() return wrk.format("GET", "/v1/vm/{round}-" .. math.random(2, 1000)) end',
    "move": """
        wrk.headers["Content-Type"] = "application/json"
        function request()
          local body = string.format('{{"after":"{round}-%d"}}', math.random(2, 500))
          return wrk.format("POST", "/v1/vm/{round}-" .. math.random(501, 1000), nil, body)
        end""",
}


def main() -> int:
    options = argparse.ArgumentParser(prog="bench", description=__doc__.split("\n")[0])
    options.add_argument("--quick", action="store_true", help="one round of a second each")
    quick = options.parse_args().quick
    if not shutil.which("wrk"):
        print("bench needs wrk; on Debian: apt-get install wrk", file=sys.stderr)
        return 1
    rounds, seconds = (1, 1) if quick else (5, 4)
    ratios: dict[str, list[float]] = {name: [] for name in SCRIPTS}
    rates: dict[str, list[float]] = {name: [] for name in SCRIPTS}
    with tempfile.TemporaryDirectory() as folder:
        bare_port, port = _free_port(), _free_port()
        environment = {
            "RQUEUE_PORT": str(port),
            "RQUEUE_DATA_DIR": f"{folder}/data",
            "RQUEUE_LOG_LEVEL": "warning",
        }
        with (
            _process([sys.executable, "-m", "bench.bare", str(bare_port)], bare_port, {}),
            _process([sys.executable, "-m", "rqueue", "serve"], port, environment),
        ):
            for number in range(rounds):
                for name, script in SCRIPTS.items():
                    path = Path(folder) / "load.lua"
                    path.write_text(
                        script.replace("{round}", f"r{number}").replace("{{", "{").replace("}}", "}")
                    )
                    bare = _rate(bare_port, path, seconds)
                    rates[name].append(_rate(port, path, seconds))
                    ratios[name].append(rates[name][-1] / bare)
    print(f"{'work':8} {'requests/s':>10} {'of bare':>8}   spread of the ratio, {rounds} x {seconds} s")
    for name, found in ratios.items():
        rate, ratio = statistics.median(rates[name]), statistics.median(found)
        print(f"{name:8} {rate:10.0f} {ratio:8.2f}   {min(found):.2f} to {max(found):.2f}")
    return 0


def _rate(port: int, script: Path, seconds: int) -> float:
    command = ["wrk", "-t1", "-c32", f"-d{seconds}s", "-s", str(script), f"http://127.0.0.1:{port}"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 30).stdout
    if failed := re.search(r"Non-2xx or 3xx responses: (\d+)", said):
        sys.exit(f"bench: {failed[1]} answers were errors")
    found = re.search(r"Requests/sec:\s+([0-9.]+)", said)
    assert found, said
    return float(found[1])


@contextmanager
def _process(command: list[str], port: int, environment: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen(command, env={"PATH": "/usr/bin:/bin", **environment})
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(20)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
