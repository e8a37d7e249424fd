"""The client's promises in figures: equal requests as one call, and a storm of refusals outlived.

    python benchmarks/client.py

- batches: 1,000 concurrent requests over 50 questions, through the openai SDK to a mock transport
- storm: 500 requests to a provider that takes 60 in any minute, takes none for its first 20 s, and
  answers all else with 429 and Retry-After; a limit of 60, at most 32 under way. Time is virtual
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from shared_core import CachedClient, ResponseCache, Retries
from tests.client.test_limits import Provider, limit_on, most_in_a_window, storm
from tests.client.virtual_time import VirtualLoop
from tests.openai_server import Server

REQUESTS, KEYS = 1_000, 50
STORM, ALLOWED, DOWN_S, AT_ONCE = 500, 60, 20.0, 32


async def batches() -> None:
    server = Server()
    cache = ResponseCache.open(semantic=False)
    client = CachedClient(cache, async_client=server.async_client())
    asked = [f"question {number % KEYS}" for number in range(REQUESTS)]
    random.Random(0).shuffle(asked)
    started = time.perf_counter()
    async with client.batcher(model="m") as batcher:
        found = await asyncio.gather(
            *(batcher.ask([{"role": "user", "content": question}]) for question in asked)
        )
        stats = batcher.stats()
    took = time.perf_counter() - started
    assert [one.content for one in found] == [f"answer to {question}" for question in asked]
    print(
        f"batches: {REQUESTS:,} requests over {KEYS} questions: {len(server.bodies)} calls in "
        f"{stats.batches} batches of {stats.mean_size:.1f}, {took:.2f} s"
    )


def refusals() -> None:
    loop = VirtualLoop()
    provider = Provider(loop, allowed=ALLOWED, down_until=DOWN_S)
    retries = Retries(patience=1_000)
    answers = storm(provider, limit_on(loop, ALLOWED), STORM, concurrency=AT_ONCE, retries=retries)
    lost = STORM - len(set(answers))
    print(
        f"storm: {STORM} requests, {provider.refused} refused and sent again, {lost} lost; at most "
        f"{most_in_a_window(provider.times)} sent in any minute, {ALLOWED} allowed; "
        f"{loop.time() / 60:.1f} minutes, {STORM / ALLOWED:.1f} is the least"
    )


if __name__ == "__main__":
    asyncio.run(batches())
    refusals()
    print(f"load average {os.getloadavg()[0]:.1f}")
