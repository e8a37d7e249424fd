"""Measure what a verifier gains, on labelled request streams, through a whole cache.

    python benchmarks/verifiers.py --data FOLDER [--streams banking77,qqp] [--limit 300]
        [--orders 3] [--right none,oracle,1,0.99,0.9]

FOLDER and streams are those of ``policy_streams.py``. All answers are judged rightly; the
verifier is simulated and says the truth in so many of its words. "none" is a cache without one;
"oracle" serves each yes of one that is always right, at once and unchecked, which no cache that
does not know it can. A row sums up all orders: hits and wrong ones, of all requests and of the
first 300, how many of them by the verifier's word, how often it was asked, and in how many orders
more than 2 % of the hits were wrong by two standard deviations.
"""

from __future__ import annotations

import argparse
import logging
import random
from pathlib import Path
from typing import Any, NamedTuple

from policy_streams import FIRST, Stream, Vectors, answer_of, is_over, load

from shared_core import Answer, Hit, Request, ResponseCache
from shared_core.thresholds import Verified

MAX_ERROR = 0.02


class Run(NamedTuple):
    """Counts what became of one stream in one order."""

    hits: int
    wrong: int
    first_hits: int
    first_wrong: int
    by_word: int
    asked: int
    over: bool


def run(stream: Stream, right: str, order: int) -> Run:
    """Ask all questions of a stream, and answer those that do not hit."""
    label_of = dict(zip(stream.texts, stream.labels, strict=True))
    rng, given = random.Random(order), dict[str, str]()
    truth = 1.0 if right in ("none", "oracle") else float(right)

    def verifier(asked: str, cached: str) -> bool:
        same = label_of[asked] == label_of[cached]
        return same if rng.random() < truth else not same

    def judge(fresh: Answer, cached: Answer) -> bool:
        return given[fresh.text] == given[cached.text]

    with ResponseCache.open(
        embedder=Vectors(stream.texts, stream.vectors),
        judge=judge,
        verifier=None if right == "none" else verifier,
        threshold=Verified(MAX_ERROR),
        ttl=None,
    ) as cache:
        semantic: Any = cache._path.semantic
        semantic._rng = random.Random(order)
        if right == "oracle":
            semantic._gray.may_serve = lambda *_: True
        found = list[bool | None]()
        for question, label in zip(stream.texts, stream.labels, strict=True):
            request = Request.of(question=question, model="m")
            outcome = cache.lookup(request)
            if isinstance(outcome, Hit):
                found.append(given[outcome.answer.text] == label)
                continue
            found.append(None)
            text = answer_of(label)
            given[text] = label
            cache.store(request, Answer(text))
        counts = cache._path.counters.counts()
    hits, wrong = sum(one is not None for one in found), found.count(False)
    first = found[:FIRST]
    return Run(
        hits,
        wrong,
        sum(one is not None for one in first),
        first.count(False),
        counts.get("verifier:served", 0),
        counts.get("verifier:asked", 0),
        is_over(wrong, hits, MAX_ERROR),
    )


def main() -> None:
    """Print a row for every stream and verifier."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path())
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "tiered-llm-cache")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--streams", default="banking77,qqp,medical_pairs,mixed")
    parser.add_argument("--right", default="none,oracle,1,0.99,0.9")
    parser.add_argument("--limit", type=int, help="requests of each stream; all by default")
    parser.add_argument("--orders", type=int, default=1)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    for name in options.streams.split(","):
        for right in options.right.split(","):
            runs = []
            for order in range(options.orders):
                stream = load(options.data, name, options.split, order, options.cache)
                stream = stream.taken(range(len(stream.texts))[: options.limit])
                runs.append(run(stream, right, order))
            hits, wrong, first, first_wrong, by_word, asked, over = map(
                sum, zip(*runs, strict=True)
            )
            print(
                f"{name:14s} {right:6s} hits {hits:5d} wrong {wrong:3d}  "
                f"first {FIRST}: {first:4d} wrong {first_wrong:2d}  by its word {by_word:5d}, "
                f"asked {asked:5d}  over in {over} of {len(runs)}",
                flush=True,
            )


if __name__ == "__main__":
    main()
