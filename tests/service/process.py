"""The service as users start it: a process of its own, by its command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from tests.redis_server import free_port

PATIENCE_S = 60.0


@dataclass(slots=True)
class Running:
    """A server process and where it listens."""

    url: str
    process: subprocess.Popen[str]

    def stop(self) -> int:
        """Ask the server to stop, as a supervisor does, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)


@contextmanager
def started(*flags: str, scheme: str = "http", **environment: str) -> Iterator[Running]:
    """Start ``tiered-cache serve`` on a free port, wait until it answers, and stop it."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "shared_core.cli", "serve", "--port", str(port), *flags],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    running = Running(f"{scheme}://127.0.0.1:{port}", process)
    try:
        end = time.monotonic() + PATIENCE_S
        while not _answers(running.url):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < end, "the server does not answer"
            time.sleep(0.05)
        yield running
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", verify=False).is_success  # noqa: S501 - it is our own
    except httpx.TransportError:
        return False
