"""Runs an ASGI app by uvicorn in a thread of the tests, on a free port."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

PATIENCE_S = 20.0


@contextmanager
def served(app: Any, **options: Any) -> Iterator[str]:
    """Give the base URL of a running server, and stop it."""
    # named TCP, or asyncio would leave the delay on that waits for full packets: 40 ms a request
    with socket.socket(proto=socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        patience = {"timeout_keep_alive": 60, "timeout_graceful_shutdown": 5}
        options = {"log_level": "warning", **patience, **options}
        server = uvicorn.Server(uvicorn.Config(app, **options))
        run = threading.Thread(target=server.run, args=([listening],), daemon=True)
        run.start()
        end = time.monotonic() + PATIENCE_S
        while not server.started:
            if not run.is_alive() or time.monotonic() > end:
                raise RuntimeError("the server did not start")
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            run.join(PATIENCE_S)
