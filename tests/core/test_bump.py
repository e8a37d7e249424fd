"""A bump is seen by every process at once, whatever each of them looked up before."""

from __future__ import annotations

import multiprocessing
import time

import pytest

from benchmarks.bump import GROUPS, fill, opened, read

ENTRIES, READERS = 200, 3


@pytest.mark.slow
@pytest.mark.parametrize(
    "store_url", ["sqlite", pytest.param("redis", marks=pytest.mark.redis)], indirect=True
)
def test_after_a_bump_no_process_serves_anything_old(store_url: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    fill(store_url, 0, ENTRIES, 1)
    ready, stop, results = spawn.Semaphore(0), spawn.Event(), spawn.Queue()
    readers = [
        spawn.Process(target=read, args=(store_url, ENTRIES, n, ready, stop, results))
        for n in range(READERS)
    ]
    for one in readers:
        one.start()
    with opened(store_url) as cache:
        assert all(ready.acquire(timeout=60) for _ in readers)
        bumped: dict[int, float] = {}
        for group in range(GROUPS):
            cache.bump(f"group {group}")
            bumped[group] = time.monotonic()
            time.sleep(0.02)
        time.sleep(0.2)
    stop.set()
    found = [results.get(timeout=60) for _ in readers]
    for one in readers:
        one.join(60)
    assert all(last.keys() == bumped.keys() for last, *_ in found), "each has seen every group"
    late = [(at, bumped[group]) for last, *_ in found for group, at in last.items()]
    assert [at - end for at, end in late if at > end] == []
    assert [errors for *_, errors in found] == [{}] * READERS
