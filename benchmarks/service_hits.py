"""An exact hit over HTTP, this checkout against another: ``tiered-cache serve`` of both in turn.

    python benchmarks/service_hits.py --against FOLDER [--rounds 16] [--requests 500]

FOLDER is a checkout of another commit. Both servers run at once, each in a process of its own, and
one client asks them in turn, so that what else the machine does falls on both. Prints the time of a
request as its client sees it (p10 of a round, the middle of the rounds) and the CPU time of its
server, and the ratios of this checkout to the other with 95 % bootstrap intervals.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
from service import served

HERE = Path(__file__).parents[1]
ASKED = {
    "model": "gpt-4o-mini",
    "temperature": 0,
    "messages": [{"role": "user", "content": "What is a fuse?"}],
}
BODY, HEADERS = json.dumps(ASKED).encode(), {"content-type": "application/json"}
WARM_UP, PATIENCE_S = 300, 60.0
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Server:
    """``tiered-cache serve`` of a checkout, and a client that is connected to it."""

    def __init__(self, folder: Path, upstream: str, stack: ExitStack) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = ["-m", "shared_core.cli", "serve", "--no-semantic", "--upstream"]
        self._process = subprocess.Popen(
            [sys.executable, *command, f"{upstream}/v1", "--port", str(port)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        stack.callback(self._process.kill)
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                self._client = HTTPConnection("127.0.0.1", port)
                self._client.request("GET", "/health")
                self._client.getresponse().read()
                break
            except OSError:
                if time.monotonic() > end:
                    raise SystemExit(f"no server of {folder} within {PATIENCE_S} s") from None
                time.sleep(0.1)
        self._client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self) -> float:
        """Ask, and return the seconds that it took."""
        began = time.perf_counter()
        self._client.request("POST", "/v1/chat/completions", BODY, HEADERS)
        found = self._client.getresponse()
        found.read()
        took = time.perf_counter() - began
        self.was_hit = found.getheader("x-tiered-cache") == "hit"
        return took

    def cpu(self) -> float:
        """Return the CPU seconds that the server has used."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * TICK_S

    def round(self, requests: int) -> tuple[float, float]:
        """Return the p10 of a request and its CPU time, in milliseconds."""
        before, times = self.cpu(), []
        for _ in range(requests):
            times.append(self.ask())
            assert self.was_hit
        used = self.cpu() - before
        return float(np.percentile(times, 10)) * 1e3, used / requests * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--requests", type=int, default=500)
    given = parser.parse_args()
    rounds: dict[str, list[tuple[float, float]]] = {"this": [], "other": []}
    with ExitStack() as stack:
        upstream = stack.enter_context(served("upstream"))
        folders = {"this": HERE, "other": given.against.resolve()}
        servers = {name: Server(folder, upstream, stack) for name, folder in folders.items()}
        for server in servers.values():
            for _ in range(WARM_UP):
                server.ask()
        for number in range(given.rounds):
            for name in ("this", "other") if number % 2 else ("other", "this"):
                rounds[name].append(servers[name].round(given.requests))
    this, other = np.array(rounds["this"]), np.array(rounds["other"])
    for name, of in (("this", this), ("other", other)):
        low, cpu = np.median(of, axis=0)
        print(f"{name:6s} p10 {low:.3f} ms, CPU of the server {cpu:.3f} ms")
    drawn = np.random.default_rng(0).integers(len(this), size=(1000, len(this)))
    for at, what in enumerate(("p10", "CPU")):
        ratios = this[:, at] / other[:, at]
        low, high = np.percentile(np.median(ratios[drawn], axis=1), [2.5, 97.5])
        print(f"this / other, {what}: {np.median(ratios):.3f} [{low:.3f}, {high:.3f}]")


if __name__ == "__main__":
    main()
