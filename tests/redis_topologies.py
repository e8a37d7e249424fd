"""More than one Redis for tests: a cluster of primaries, and a primary that sentinels watch."""

from __future__ import annotations

import atexit
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import redis

from tests.redis_server import RedisStack, fetch, free_port, spawn

SLOTS = 16384
SERVICE = "answers"
PATIENCE_S = 20.0


def until(come_true: Callable[[], Any], what: str) -> None:
    """Wait until something holds. Raises RuntimeError when it does not come to that."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        try:
            if come_true():
                return
        except redis.RedisError:
            pass  # not up yet
        time.sleep(0.02)
    raise RuntimeError(f"in {PATIENCE_S:.0f} s no {what}")


def talk(server: RedisStack) -> redis.Redis:
    """Return a client of a server."""
    return redis.Redis.from_url(server.url, socket_timeout=5)


class ClusterStack:
    """A Redis Cluster whose primaries share the slots evenly; use as a context manager."""

    def __init__(self, primaries: int = 3) -> None:
        self._size = primaries
        self._stack = ExitStack()
        self.nodes: list[RedisStack] = []

    @property
    def url(self) -> str:
        """Return the cluster's address, with its first two nodes."""
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:2])
        return f"redis+cluster://{hosts}"

    def __enter__(self) -> ClusterStack:
        settings = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
        self.nodes = [self._stack.enter_context(RedisStack(*settings)) for _ in range(self._size)]
        clients = [self._stack.enter_context(talk(node)) for node in self.nodes]
        bounds = [SLOTS * i // self._size for i in range(self._size + 1)]
        for number, client in enumerate(clients):
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            span = bounds[number], bounds[number + 1] - 1
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", *span)
        for node in self.nodes[1:]:
            clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", node.port)
        for client in clients:
            until(lambda client=client: self._agrees(client), "agreement of the cluster")
        return self

    def _agrees(self, client: redis.Redis) -> bool:
        info = client.execute_command("CLUSTER", "INFO")
        return b"cluster_state:ok" in info and b"cluster_size:%d\r" % self._size in info

    def __exit__(self, *_: object) -> None:
        self._stack.close()


class SentinelStack:
    """A primary, a replica, and sentinels that watch them; use as a context manager."""

    def __init__(self, sentinels: int = 1, down_after: float = 1.0) -> None:
        self._size, self._down_after = sentinels, down_after
        self._stack = ExitStack()
        self._folder = Path()
        self.ports: list[int] = []
        self.primary = RedisStack("--repl-diskless-sync-delay", "0")
        self.replica = RedisStack()

    @property
    def url(self) -> str:
        """Return the address that asks the sentinels."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"redis+sentinel://{hosts}/{SERVICE}/0"

    def __enter__(self) -> SentinelStack:
        self._stack.enter_context(self.primary)
        of = ("--replicaof", f"127.0.0.1 {self.primary.port}")
        self.replica = self._stack.enter_context(RedisStack(*of))
        replica = self._stack.enter_context(talk(self.replica))
        until(lambda: replica.info("replication")["master_link_status"] == "up", "replica")
        self._folder = Path(tempfile.mkdtemp(prefix="rs-"))
        self._stack.callback(shutil.rmtree, self._folder, ignore_errors=True)
        atexit.register(self._stack.close)
        self.ports = [self._start_guard(number) for number in range(self._size)]
        for port in self.ports:
            guard = self._stack.enter_context(redis.Redis(port=port, socket_timeout=5))
            until(lambda guard=guard: self._knows(guard), "sentinel that knows the replica")
        return self

    def _start_guard(self, number: int) -> int:
        port, home = free_port(), fetch()
        settings = self._folder / f"{number}.conf"  # a sentinel writes to it
        settings.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {self._folder}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {self.primary.port} {self._size // 2 + 1}\n"
            f"sentinel down-after-milliseconds {SERVICE} {int(self._down_after * 1000)}\n"
            f"sentinel failover-timeout {SERVICE} 5000\n"
        )
        guard = spawn([str(home / "redis-server"), str(settings), "--sentinel"], home)
        self._stack.callback(_end, guard)
        return port

    @staticmethod
    def _knows(guard: redis.Redis) -> bool:
        return bool(guard.execute_command("SENTINEL", "REPLICAS", SERVICE))

    def __exit__(self, *_: object) -> None:
        atexit.unregister(self._stack.close)
        self._stack.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(3)
    assert process.stderr is not None
    process.stderr.close()
