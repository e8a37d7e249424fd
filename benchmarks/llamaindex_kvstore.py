"""Nodes into and out of ``TieredKVStore``: in batches and one by one.

    python benchmarks/llamaindex_kvstore.py [--url redis://localhost:6379/0] [--nodes 10000]

Without --url: memory, and a sqlite file. Seconds for all nodes, and how many times faster batches
are. Everything in the namespace "benchmark" of the store is overwritten.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from llama_index.core.schema import TextNode
from llama_index.core.storage.docstore.utils import doc_to_json

from llamaindex_tiered_cache import TieredKVStore
from shared_core import ResponseCache

TEXT = "Loans last four weeks and may be renewed twice unless somebody waits for the book. " * 5


def seconds(run: Callable[[], object]) -> float:
    """Time one run."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def measure(url: str, nodes: int) -> None:
    """Print one line for one store."""
    pairs = [(f"node-{i}", doc_to_json(TextNode(text=TEXT, id_=str(i)))) for i in range(nodes)]
    keys = [key for key, _ in pairs]
    with ResponseCache.open(url, semantic=False, timeout=30.0) as cache:
        store = TieredKVStore(cache, namespace="benchmark")
        singly = seconds(lambda: [store.put(key, value) for key, value in pairs])
        batched = seconds(lambda: store.put_all(pairs))
        read_singly = seconds(lambda: [store.get(key) for key in keys])
        read_batched = seconds(lambda: store.get_many(keys))
        everything = seconds(store.get_all)
        assert len(store.get_all()) == nodes
    print(
        f"{url.partition(':')[0]:7} {singly:8.2f} {batched:8.2f} {singly / batched:6.1f} x"
        f" {read_singly:9.2f} {read_batched:8.2f} {read_singly / read_batched:6.1f} x"
        f" {everything:8.2f}"
    )


def main() -> None:
    """Measure the stores that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", help="one store, instead of memory and sqlite")
    parser.add_argument("--nodes", type=int, default=10_000)
    given = parser.parse_args()
    print(
        "         put: one by one  batches         get: one by one  batches           get_all  (s)"
    )
    with tempfile.TemporaryDirectory() as folder:
        file = f"sqlite:///{Path(folder) / 'nodes.db'}"
        for url in [given.url] if given.url else ["memory://", file]:
            measure(url, given.nodes)


if __name__ == "__main__":
    main()
