"""How long many askers of one prompt wait for one model call, and what waiting adds to it.

python benchmarks/coalescing.py [--call 3] [--url redis://localhost:6379/0]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from langchain_tiered_cache import TieredCache
from tests.chat_models import Chat


class Slow(Chat):
    """A model that takes so many seconds."""

    takes: float = 3.0

    def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        time.sleep(self.takes)
        return super()._generate(messages, *args, **kwargs)

    async def _agenerate(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(self.takes)
        return Chat._generate(self, messages, *args, **kwargs)


def tasks(model: Slow, askers: int) -> set[str]:
    async def ask() -> set[str]:
        return {
            one.text for one in await asyncio.gather(*(model.ainvoke("q") for _ in range(askers)))
        }

    return asyncio.run(ask())


def threads(model: Slow, askers: int) -> set[str]:
    with ThreadPoolExecutor(askers) as pool:
        return {one.text for one in pool.map(lambda _: model.invoke("q"), range(askers))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--call", type=float, default=3.0, help="seconds of one model call")
    parser.add_argument("--url", default="memory://")
    given = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.2f}, {given.url}, one call {given.call} s")
    cases: list[tuple[str, Callable[[Slow, int], set[str]], int]] = [
        ("tasks", tasks, 200),
        ("threads", threads, 64),
    ]
    for name, run, askers in cases:
        cache = TieredCache(given.url, semantic=False)
        cache.clear()
        model = Slow(cache=cache, takes=given.call)
        started = time.perf_counter()
        answers = run(model, askers)
        took = time.perf_counter() - started
        print(
            f"{askers:4} {name:8} {model.calls} call, {len(answers)} answer, {took:.2f} s: "
            f"{took / given.call:.3f} x one call"
        )
        cache.close()


if __name__ == "__main__":
    main()
