"""Measure the guard on pairs of questions that were written by hand, kind by kind.

    python benchmarks/near_misses.py [--half written|held-out|all] [--show passed|refused]

Near-misses are close in wording and must not share an answer; of them the table tells how many a
static threshold serves. Paraphrases must: of those whose cosine reaches the threshold the table
tells how many the guard refuses. The last column tells how many of all the default policy serves
in an app without labels, each pair alone in the cache. The first rules were written while looking
at every other line of the first files (``written``) and measured on the lines between (``held-
out``). The later files were written in four goes, each before its rules were mended. The pairs
are in ``tests/guard/data``; the model is the default one.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from shared_core.embedding.local import SentenceTransformerEmbedder
from shared_core.guard import Difference, Guard
from shared_core.thresholds import Candidate, Serve, Verified

PAIRS = Path(__file__).parent.parent / "tests" / "guard" / "data"
THRESHOLDS = (0.92, 0.85)
HALVES = ("written", "held-out", "all")


class Pair(NamedTuple):
    """Two questions, the section that they are in, and the half of it."""

    kind: str
    half: str
    asked: str
    cached: str


def read_pairs(name: str) -> list[Pair]:
    """Read a file of pairs: sections "[kind]", lines of two questions with a tab between."""
    pairs: list[Pair] = []
    kind, place = "", 0
    for line in (PAIRS / f"{name}.txt").read_text("utf-8").splitlines():
        if line.startswith("["):
            kind, place = line.strip("[]"), 0
        elif "\t" in line:
            asked, cached = line.split("\t")
            pairs.append(Pair(kind, HALVES[place % 2], asked, cached))
            place += 1
    return pairs


def cosines(pairs: Sequence[Pair]) -> list[float]:
    """Return the cosine of each pair's questions."""
    embed = SentenceTransformerEmbedder().embed
    asked, cached = embed([pair.asked for pair in pairs]), embed([pair.cached for pair in pairs])
    return [float(one @ other) for one, other in zip(asked, cached, strict=True)]


def served_at_once(pair: Pair, cosine: float, differences: tuple[Difference, ...]) -> bool:
    """Say whether the default policy answers ``asked`` with ``cached`` before any label."""
    policy = Verified()
    near = [Candidate(cosine, differences, pair.cached, "g")]
    decision = policy.decide(pair.asked, near, policy.initial_state(), random.Random(0))
    return isinstance(decision, Serve)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--half", choices=HALVES, default="all")
    parser.add_argument("--show", choices=["passed", "refused"], help="print what went wrong")
    options = parser.parse_args()
    guard = Guard()
    for name in ("near_misses", "later_near_misses", "paraphrases", "later_paraphrases"):
        wrong = "passed" if name.endswith("near_misses") else "refused"
        pairs = [p for p in read_pairs(name) if options.half in ("all", p.half)]
        near = cosines(pairs)
        found = [guard.differences(pair.asked, pair.cached) for pair in pairs]
        by_default = [served_at_once(*each) for each in zip(pairs, near, found, strict=True)]
        bad = [bool(each) == (wrong == "refused") for each in found]
        print(f"\n{name.replace('_', ' ')} ({options.half}), {wrong} of those at a cosine or above")
        for kind in [*dict.fromkeys(pair.kind for pair in pairs), "together"]:
            at = [i for i, pair in enumerate(pairs) if kind in (pair.kind, "together")]
            line = f"  {kind:15s} {len(at):4d} pairs"
            for threshold in THRESHOLDS:
                reached = [i for i in at if near[i] >= threshold]
                failed = sum(bad[i] for i in reached)
                of = len(reached) if wrong == "refused" else len(at)
                line += (
                    f"   {threshold}: {failed:3d} of {of:3d} ({100 * failed / max(1, of):4.1f} %)"
                )
            print(f"{line}   Verified(): {sum(by_default[i] for i in at):3d} served")
        if options.show == wrong:
            for i, pair in enumerate(pairs):
                if bad[i]:
                    kinds = "; ".join(f"{d.kind} {d.asked} {d.cached}" for d in found[i])
                    print(f"  [{pair.kind}] {near[i]:.3f} {pair.asked} | {pair.cached}  {kinds}")


if __name__ == "__main__":
    main()
