"""Measure the near cache: an exact hit with and without it, on loopback and on a slower network.

    python benchmarks/redis_near.py [--rounds 2000] [--delay 1] [--changes 2000]

The slower network is a proxy in a process of its own that delays each way by ``--delay``
milliseconds. p10 and p50 of interleaved rounds. Then a process beside the server changes an entry
again and again, and this one reads it without a pause: how long after a change was acknowledged did
a read begin that still found the old answer?
Needs the Redis of ``tests.redis_server``.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from shared_core import Answer, Hit, Request, ResponseCache
from tests.redis_server import SEARCH, RedisStack

ENTRIES = 100


def proxy(port: int, delay: float, told: Any) -> None:
    """Pass everything on to a port of this machine, each way ``delay`` seconds later."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while data := await reader.read(65536):
            loop.call_later(delay, writer.write, data)
        loop.call_later(delay, writer.close)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    async def main() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        told.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


def question(number: int) -> Request:
    return Request.of(f"How do I renew book number {number}?", model="m")


def opened(port: int, near: int) -> ResponseCache:
    return ResponseCache.open(
        f"redis://127.0.0.1:{port}/0", semantic=False, near_cache=near, timeout=2.0
    )


def measure(calls: dict[str, Callable[[int], Any]], rounds: int) -> None:
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            found = call(number)
            times[name].append(time.perf_counter() - start)
            assert isinstance(found, Hit), (name, found)
    for name, taken in times.items():
        p10, p50 = np.percentile(np.array(taken) * 1e6, [10, 50])
        print(f"{name:34} p10 {p10:7.0f}  p50 {p50:7.0f} us")


def change(port: int, orders: Any) -> None:
    """Store an answer for each order, and say when that was acknowledged (monotonic seconds)."""
    with opened(port, 0) as cache:
        while (text := orders.recv()) is not None:
            cache.store(question(0), Answer(text))
            orders.send(time.monotonic())


def staleness(orders: Any, reader: ResponseCache, changes: int) -> None:
    """Print how long after its change was acknowledged an old answer was still served."""
    request = question(0)
    late = np.zeros(changes)
    for number in range(changes):
        text, old = f"answer {number}", 0.0
        orders.send(text)
        while True:
            asked = time.monotonic()
            found = reader.lookup(request)
            if isinstance(found, Hit) and found.answer.text == text:
                break
            old = asked
        late[number] = max(0.0, old - orders.recv())
        for _ in range(3):  # so that it is held again before the next change
            time.sleep(0.003)
            reader.lookup(request)
    p50, p99 = np.percentile(late * 1e3, [50, 99])
    print(
        f"{changes} changes by another process, {np.count_nonzero(late)} seen late: "
        f"p50 {p50:.2f}, p99 {p99:.2f}, at most {late.max() * 1e3:.2f} ms after the acknowledgment"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--delay", type=float, default=1.0, help="milliseconds each way")
    parser.add_argument("--changes", type=int, default=2000)
    given = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.1f}")
    context = multiprocessing.get_context("spawn")
    with RedisStack(modules=SEARCH) as stack:
        told = context.Queue()
        arguments = (stack.port, given.delay / 1000, told)
        slow = context.Process(target=proxy, args=arguments, daemon=True)
        slow.start()
        ports = {"loopback": stack.port, f"{given.delay:g} ms each way": told.get()}
        caches = {
            f"{place}, {'near cache' if near else 'without'}": opened(port, near)
            for place, port in ports.items()
            for near in (0, ENTRIES)
        }
        writer = next(iter(caches.values()))
        for number in range(ENTRIES):
            writer.store(question(number), Answer("Take it to the desk. " * 10))
        for cache in caches.values():
            for number in range(ENTRIES):
                cache.lookup(question(number))
        time.sleep(1.0)  # the news come over connections that are made beside the requests
        for cache in caches.values():
            for number in range(ENTRIES):
                cache.lookup(question(number))
        measure(
            {
                name: lambda i, c=cache: c.lookup(question(i % ENTRIES))
                for name, cache in caches.items()
            },
            given.rounds,
        )
        orders, theirs = context.Pipe()
        other = context.Process(target=change, args=(stack.port, theirs), daemon=True)
        other.start()
        for place in ports:
            print(f"{place}: ", end="")
            staleness(orders, caches[f"{place}, near cache"], given.changes)
        orders.send(None)
        other.join()
        for cache in caches.values():
            cache.close()
        slow.kill()
    print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
