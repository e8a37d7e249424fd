"""Judge the verified policy when several processes share one store and one stream of requests.

    python benchmarks/stream_processes.py --bench FOLDER [--store URL] [--stream mixed]
        [--processes 4] [--max-error .02] [--per request]

The bench FOLDER has ``streams.load(name, split, order)``, ``streams.embedder()`` and
``harness.answer_text(label)``. Each process asks every n-th request, as fast as it can; a served
answer is wrong if it is not that of the request's class. Without ``--store``: the Redis of
``tests.redis_server``.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from shared_core import Answer, Hit, Request, ResponseCache, Verified
from shared_core.stats import wilson


def work(number: int, given: Any, url: str, told: Any) -> None:
    """Ask this process's share of the stream and tell requests, hits and wrong ones."""
    sys.path.insert(0, str(given.bench))
    streams = importlib.import_module("streams")
    harness = importlib.import_module("harness")
    stream = streams.load(given.stream, given.split, 0)
    hits = wrong = 0
    policy = Verified(given.max_error, given.per)
    asked = range(number, len(stream), given.processes)
    with ResponseCache.open(
        url, threshold=policy, embedder=streams.embedder(), timeout=5.0
    ) as cache:
        for row in asked:
            request = Request.of(stream.texts[row], model="m", params={"temperature": 0})
            right = harness.answer_text(stream.labels[row])
            outcome = cache.lookup(request)
            if isinstance(outcome, Hit):
                hits += 1
                wrong += outcome.answer.text != right
            else:
                cache.store(request, Answer(right))
        errors = dict(cache.stats().errors)
    told.put((len(asked), hits, wrong, errors))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--bench", type=Path, required=True)
    parser.add_argument("--store")
    parser.add_argument("--stream", default="mixed")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--max-error", type=float, default=0.02)
    parser.add_argument("--per", default="request", choices=("hit", "request"))
    given = parser.parse_args()
    with ExitStack() as stack:
        url = given.store
        if url is None:
            from tests.redis_server import RedisStack

            url = stack.enter_context(RedisStack()).url
        context = multiprocessing.get_context("spawn")
        told = context.Queue()
        start = time.perf_counter()
        workers = [
            context.Process(target=work, args=(number, given, url, told))
            for number in range(given.processes)
        ]
        for worker in workers:
            worker.start()
        rows = [told.get() for _ in workers]
        for worker in workers:
            worker.join()
    requests, hits, wrong = (sum(row[i] for row in rows) for i in range(3))
    low, high = wilson(wrong, requests)
    print(
        f"{given.stream} in {given.processes} processes on {url.partition(':')[0]}: {requests} "
        f"requests, {hits} hits ({hits / requests:.3f}), {wrong} wrong: {wrong / requests:.4f} "
        f"[{low:.4f}, {high:.4f}] of requests, {wrong / max(1, hits):.4f} of hits; "
        f"{time.perf_counter() - start:.0f} s, errors {[row[3] for row in rows if row[3]]}"
    )


if __name__ == "__main__":
    main()
