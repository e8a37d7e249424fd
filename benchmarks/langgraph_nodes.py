"""A run of a graph whose nodes are all known: ours beside LangGraph's own caches.

    python benchmarks/langgraph_nodes.py [--rounds 300] [--url sqlite:///nodes.db …]

A graph of five nodes runs once with each cache; then all caches run in turn, each round, and the
tenth percentile and the median of a run are printed, with the ratio to LangGraph's cache in memory.
LangGraph's SqliteCache takes part where ``langgraph-checkpoint-sqlite`` is installed.
"""

from __future__ import annotations

import argparse
import operator
import random
import tempfile
import time
from itertools import pairwise
from typing import Annotated, Any, TypedDict

import numpy as np
from langgraph.cache.memory import InMemoryCache
from langgraph.graph import StateGraph
from langgraph.types import CachePolicy

from langchain_tiered_cache import TieredNodeCache


class State(TypedDict):
    seen: Annotated[list[str], operator.add]


def graph_with(cache: Any) -> Any:
    """Return a graph of five nodes in a row."""
    builder = StateGraph(State)
    names = "abcde"
    for name in names:
        text = name * 400
        builder.add_node(
            name,
            lambda _, text=text: {"seen": [text]},  # type: ignore[misc]
            cache_policy=CachePolicy(),
        )
    builder.set_entry_point("a")
    for one, other in pairwise(names):
        builder.add_edge(one, other)
    return builder.compile(cache=cache)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--url", nargs="*", default=[])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        caches: dict[str, Any] = {
            "LangGraph, memory": InMemoryCache(),
            "ours, memory": TieredNodeCache(),
            "ours, sqlite": TieredNodeCache(f"sqlite:///{folder}/ours.db"),
            **{f"ours, {url.split(':')[0]}": TieredNodeCache(url) for url in given.url},
        }
        try:
            from langgraph.cache.sqlite import SqliteCache  # type: ignore[import-not-found, unused-ignore]

            caches["LangGraph, sqlite"] = SqliteCache(path=f"{folder}/theirs.db")
        except ImportError:
            print("LangGraph's SqliteCache is not installed: langgraph-checkpoint-sqlite")
        graphs = {name: graph_with(cache) for name, cache in caches.items()}
        times: dict[str, list[float]] = {name: [] for name in graphs}
        rng, asked = random.Random(1), {"seen": ["hello"]}
        for graph in graphs.values():
            graph.invoke(asked)
        for _ in range(given.rounds):
            for name in rng.sample(sorted(graphs), len(graphs)):
                start = time.perf_counter()
                graphs[name].invoke(asked)
                times[name].append(time.perf_counter() - start)
    base = np.percentile(times["LangGraph, memory"], 10)
    for name, taken in times.items():
        low, middle = np.percentile(taken, [10, 50])
        print(f"{name:20} p10 {low * 1e3:6.2f} ms  p50 {middle * 1e3:6.2f} ms  {low / base:5.2f} x")


if __name__ == "__main__":
    main()
