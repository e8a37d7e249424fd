"""Measure what a verifier gains, on labelled request streams, through a whole cache.

    python benchmarks/verifiers.py --data FOLDER [--streams banking77,qqp] [--limit 300]
        [--orders 3] [--right none,trusted,1,0.99,0.9] [--answer 0.005] [--word 0.00003]

FOLDER and streams are those of ``policy_streams.py``. All answers are judged rightly; the
verifier is simulated and says the truth in so many of its words. "none" is a cache without one; "1"
has an oracle, which is always right, and which the cache has to find out, as any verifier;
"trusted" serves each yes of an oracle at once and unchecked, which no cache that does not know it
can. A row sums up all orders: hits and wrong ones, of all requests and of the first 300, what share
of the oracle's and of a trusted oracle's hits these are (with both in the same run), how many are
by the verifier's word, how often it was asked, and in how many orders more than 2 % of the hits
were wrong by two standard deviations. With "none" in the same run a second table says what the
words cost and saved, per 1,000 requests, where an answer of the app's model costs --answer dollars
and a word --word.
"""

from __future__ import annotations

import argparse
import logging
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from policy_streams import FIRST, Stream, Vectors, answer_of, is_over, load

from shared_core import Answer, Hit, Request, ResponseCache
from shared_core.learning.verifiers import Said
from shared_core.thresholds import Verified

MAX_ERROR = 0.02


class Run(NamedTuple):
    """Counts what became of one stream in one order."""

    requests: int
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
    truth = 1.0 if right in ("none", "trusted") else float(right)

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
        if right == "trusted":
            semantic._gray.said = lambda _, word, score: Said(word, score, chance=0.0)
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
        len(found),
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
    parser.add_argument("--right", default="none,trusted,1,0.99,0.9")
    parser.add_argument("--limit", type=int, help="requests of each stream; all by default")
    parser.add_argument("--orders", type=int, default=1)
    parser.add_argument("--answer", type=float, default=0.005)
    parser.add_argument("--word", type=float, default=0.00003)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    money = list[str]()
    for name in options.streams.split(","):
        totals = dict[str, Run]()
        for right in options.right.split(","):
            runs = []
            for order in range(options.orders):
                stream = load(options.data, name, options.split, order, options.cache)
                stream = stream.taken(range(len(stream.texts))[: options.limit])
                runs.append(run(stream, right, order))
            total = totals[right] = Run(*map(sum, zip(*runs, strict=True)))
            print(
                f"{name:14s} {right:8s} hits {total.hits:5d} wrong {total.wrong:3d} "
                f"{_shares(total, totals, 'hits')} first {FIRST}: {total.first_hits:5d} wrong "
                f"{total.first_wrong:2d} {_shares(total, totals, 'first_hits')} by its word "
                f"{total.by_word:5d}, asked {total.asked:5d}  over in {total.over} of {len(runs)}",
                flush=True,
            )
            if "none" in totals and right not in ("none", "trusted"):
                row = _money(total, totals["none"], options.answer, options.word)
                money.append(f"| {name} | {right} | {row} |")
    if money:
        print(
            "\n| stream | right in | answers saved | words | saved | their cost | a word may cost |"
        )
        print("|---|---|---|---|---|---|---|")
        print("\n".join(money))


def _money(total: Run, none: Run, answer: float, word: float) -> str:
    """Return a row, per 1,000 requests; a word may cost so much until it saves nothing."""
    saved, asked = (1000 * n / total.requests for n in (total.hits - none.hits, total.asked))
    at_most = saved * answer / asked if asked else 0.0
    costs = f"${saved * answer:.2f} | ${asked * word:.3f} | ${max(0.0, at_most):.4f}"
    return f"{saved:.0f} | {asked:.0f} | {costs}"


def _shares(total: Run, totals: Mapping[str, Run], kind: str) -> str:
    """Return what share these hits are of a trusted oracle's and of an oracle's, where known."""
    found = ""
    for right, name in (("trusted", "trusted's"), ("1", "oracle's")):
        most = getattr(totals.get(right), kind, 0)
        share = f"{getattr(total, kind) / most:.0%}" if most else "-"
        found += f" {share:>4s} of {name}"
    return f"({found.strip()})"


if __name__ == "__main__":
    main()
