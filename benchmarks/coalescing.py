"""How many model calls many askers of one prompt make, and how long they take.

    python benchmarks/coalescing.py [--call 3] [--lease 5] [--stores memory sqlite redis]

For each store: 200 tasks, 64 threads and 8 processes ask the same at once; wall time in seconds
and as a multiple of one call. Then 8 processes of which the one that calls the model is killed:
the time until the other 7 have answers, as a multiple of lease + one call. A memory store is one
process's own. Redis is that of ``tests.redis_server``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from langchain_tiered_cache import TieredCache
from tests.langchain.chat_models import Chat

TASKS, THREADS, PROCESSES = 200, 64, 8


class Slow(Chat):
    """A model that takes so many seconds, and says that it was called."""

    takes: float = 3.0
    called: Callable[[], object] = lambda: None

    def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        self.called()
        time.sleep(self.takes)
        return super()._generate(messages, *args, **kwargs)

    async def _agenerate(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(self.takes)
        return Chat._generate(self, messages, *args, **kwargs)


def tasks(model: Slow) -> set[str]:
    """Ask in tasks of one event loop."""

    async def ask() -> set[str]:
        calls = (model.ainvoke("q") for _ in range(TASKS))
        return {one.text for one in await asyncio.gather(*calls)}

    return asyncio.run(ask())


def threads(model: Slow) -> set[str]:
    """Ask in threads."""
    with ThreadPoolExecutor(THREADS) as pool:
        return {one.text for one in pool.map(lambda _: model.invoke("q"), range(THREADS))}


class Process:
    """A process that asks once, when it is told to."""

    def __init__(self, url: str, takes: float, lease: float) -> None:
        given = json.dumps([url, takes, lease])
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--asker", given],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def says(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def ask(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("now\n")
        self._process.stdin.flush()

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextmanager
def processes(url: str, takes: list[float], lease: float) -> Iterator[list[Process]]:
    """Start processes that are ready to ask."""
    TieredCache(url, semantic=False).clear()
    started = [Process(url, one, lease) for one in takes]
    try:
        assert {one.says() for one in started} == {"ready"}
        yield started
    finally:
        for one in started:
            one.end()


def asker(url: str, takes: float, lease: float) -> None:
    """Be such a process: print "called" if the model is, and then "answered"."""
    cache = TieredCache(url, semantic=False, lease=lease)
    model = Slow(cache=cache, takes=takes, called=lambda: print("called", flush=True))
    cache.lookup("warm up", "imports and connections")
    print("ready", flush=True)
    sys.stdin.readline()
    assert model.invoke("q").text == "You said: q"
    print("answered", flush=True)


def of_one_process(url: str, call: float) -> None:
    """Measure tasks and threads."""
    asyncio.run(Slow(cache=TieredCache(url, semantic=False), takes=0).ainvoke("imports"))
    for name, run, askers in (("tasks", tasks, TASKS), ("threads", threads, THREADS)):
        cache = TieredCache(url, semantic=False)
        cache.clear()
        model = Slow(cache=cache, takes=call)
        started = time.perf_counter()
        answers = run(model)
        report(f"{askers} {name}", model.calls, time.perf_counter() - started, call, "call")
        assert len(answers) == 1
        cache.close()


def of_many_processes(url: str, call: float) -> None:
    """Measure processes."""
    with processes(url, [call] * PROCESSES, 30.0) as started_ones:
        started = time.perf_counter()
        for one in started_ones:
            one.ask()
        calls = sum(until_answered(one) for one in started_ones)
        report(f"{PROCESSES} processes", calls, time.perf_counter() - started, call, "call")


def of_a_killed_leader(url: str, call: float, lease: float) -> None:
    """Measure those who wait for a process that is killed."""
    takes = [1000.0, *[call] * (PROCESSES - 1)]
    with processes(url, takes, lease) as (leader, *others):
        leader.ask()
        assert leader.says() == "called"
        for one in others:
            one.ask()
        started = time.perf_counter()
        leader.kill()
        calls = 1 + sum(until_answered(one) for one in others)
        took = time.perf_counter() - started
        report("killed leader", calls, took, lease + call, f"lease {lease} s + call")


def until_answered(process: Process) -> int:
    """Wait for the answer and return how often the model was called for it."""
    calls = 0
    while (said := process.says()) != "answered":
        assert said == "called"
        calls += 1
    return calls


def report(name: str, calls: int, took: float, unit: float, of: str) -> None:
    """Print one line."""
    print(f"  {name:14} {calls} calls {took:7.3f} s = {took / unit:.3f} x one {of}", flush=True)


def main() -> None:
    """Measure each store in turn."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--call", type=float, default=3.0, help="seconds of one model call")
    parser.add_argument("--lease", type=float, default=5.0, help="seconds, for the killed leader")
    names = ["memory", "sqlite", "redis"]
    parser.add_argument("--stores", nargs="+", choices=names, default=names)
    parser.add_argument("--asker", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.asker:
        asker(*json.loads(given.asker))
        return
    with ExitStack() as stack:
        for name in given.stores:
            if name == "redis":
                from tests.redis_server import RedisStack

                url = stack.enter_context(RedisStack()).url
            else:
                folder = stack.enter_context(tempfile.TemporaryDirectory())
                url = "memory://" if name == "memory" else f"sqlite:///{folder}/answers.db"
            load = os.getloadavg()[0]
            print(f"{name}, one call {given.call} s, load average {load:.1f}", flush=True)
            of_one_process(url, given.call)
            if name != "memory":
                of_many_processes(url, given.call)
                of_a_killed_leader(url, given.call, given.lease)


if __name__ == "__main__":
    main()
