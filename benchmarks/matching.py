"""Measure what a static threshold and the guard are worth on labelled questions.

    python benchmarks/matching.py --data FOLDER [--cache FOLDER] [--sets qqp,swaps] [--kinds .9]

FOLDER holds files ``<name>.jsonl.gz`` of rows {"t": question, "c": class}: two questions of one
class may share an answer. Every set is replayed as a stream: the cache starts empty, a question
that is not answered from it is put into it, an answer of another class is wrong. Without the guard
the nearest question is served at or above the threshold; with it, the nearest of the five nearest
that is at or above the threshold and has no difference. ``--show`` prints pairs, so that a rule can
be judged. Needs numpy, sentence-transformers and the weights, `[offline]`, all offline.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shared_core.embedding import folder_of, source_of
from shared_core.guard import Difference, Guard
from shared_core.stats import wilson

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

SETS = "qqp,swaps,medical_pairs,banking77,clinc150,atis_slots,gptcache_mock"
FLOOR = 0.80
NEIGHBOURS = 5
LONGEST = 5000
"""Questions of one stream: the similarities of a longer one would not fit a small machine."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Questions in order of arrival, with all earlier ones at or above FLOOR, nearest first."""

    name: str
    texts: list[str]
    classes: list[str]
    near: list[list[tuple[float, int]]]


@dataclass(frozen=True, slots=True)
class Result:
    """What one run served: counts of questions."""

    requests: int
    hits: int
    wrong: int

    def __str__(self) -> str:
        low, high = wilson(self.wrong, self.hits)
        share = f"{100 * self.wrong / self.hits:5.1f} %" if self.hits else "    - %"
        return (
            f"{self.hits:5d} hits ({100 * self.hits / self.requests:4.1f} %) {self.wrong:5d} wrong"
            f" {share} [{100 * low:4.1f}, {100 * high:5.1f}]"
        )


def read(folder: Path, name: str) -> tuple[list[str], list[str]]:
    """Read one set in a fixed random order, without exact repeats: they are the exact tier's."""
    with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = {row["t"]: str(row["c"]) for row in map(json.loads, file)}
    picked = list(rows.items())
    random.Random(name).shuffle(picked)
    picked = picked[:LONGEST]
    return [text for text, _ in picked], [label for _, label in picked]


def embed(texts: Sequence[str], cache: Path) -> NDArray[float32]:
    """Return float32 (n, d), rows of length 1; kept in ``cache`` under a digest of the texts."""
    digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:24]
    file = cache / f"{digest}.npy"
    if file.exists():
        kept: NDArray[float32] = np.load(file)
        return kept
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder_of(source_of(None))), device="cpu")
    vectors = model.encode(
        list(texts), batch_size=64, normalize_embeddings=True, show_progress_bar=False
    ).astype(np.float32)
    cache.mkdir(parents=True, exist_ok=True)
    np.save(file, vectors)
    return np.asarray(vectors)


def load(folder: Path, name: str, cache: Path) -> Stream:
    """Load one set and find, for every question, the earlier ones that are near it."""
    texts, classes = read(folder, name)
    vectors = embed(texts, cache)
    near: list[list[tuple[float, int]]] = []
    for row in range(len(texts)):
        similarities = vectors[:row] @ vectors[row]
        found = np.flatnonzero(similarities >= FLOOR)
        order = found[np.argsort(-similarities[found], kind="stable")]
        near.append([(float(similarities[other]), int(other)) for other in order])
    return Stream(name, texts, classes, near)


def replay(stream: Stream, threshold: float, guard: Guard | None) -> Result:
    """Replay a stream at one threshold, with or without the guard."""
    cached: set[int] = set()
    hits = wrong = 0
    for row, near in enumerate(stream.near):
        candidates = [pair for pair in near if pair[1] in cached][:NEIGHBOURS]
        for similarity, other in candidates[: None if guard else 1]:
            if similarity < threshold:
                continue
            if guard and guard.differences(stream.texts[row], stream.texts[other]):
                continue
            hits += 1
            wrong += stream.classes[row] != stream.classes[other]
            break
        else:
            cached.add(row)
    return Result(len(stream.texts), hits, wrong)


def fired(stream: Stream, guard: Guard, threshold: float) -> Iterable[tuple[bool, int, int]]:
    """Yield (same class?, row, other) of every nearest earlier question at or above a threshold."""
    for row, near in enumerate(stream.near):
        if near and near[0][0] >= threshold:
            other = near[0][1]
            yield stream.classes[row] == stream.classes[other], row, other


def print_kinds(streams: Sequence[Stream], guard: Guard, threshold: float) -> None:
    """Print, per set, how many right and wrong nearest candidates each kind drops.

    "alone" counts the candidates that no other kind would have dropped.
    """
    print(f"\ncandidates dropped at {threshold:.2f}: wrong (alone) / right (alone)")
    kinds: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for stream in streams:
        counts: Counter[tuple[str, bool, bool]] = Counter()
        for same, row, other in fired(stream, guard, threshold):
            found: set[str] = {
                each.kind for each in guard.differences(stream.texts[row], stream.texts[other])
            }
            for kind in found | {"(all pairs)"} | ({"(dropped)"} if found else set()):
                counts[kind, same, False] += 1
                counts[kind, same, True] += found == {kind}
        for kind in {kind for kind, _, _ in counts}:
            right, wrong = (
                f"{counts[kind, same, False]} ({counts[kind, same, True]})"
                for same in (True, False)
            )
            kinds[kind][stream.name] = f"{wrong} / {right}"
    width = max(len(kind) for kind in kinds)
    for kind in sorted(kinds):
        print(f"  {kind:{width}s}", end="")
        print("".join(f"  {s.name}: {kinds[kind].get(s.name, '-')}" for s in streams))


def describe(differences: Sequence[Difference]) -> str:
    """Spell differences on one line."""
    return "; ".join(
        f"{each.kind} {' '.join(each.asked) or '-'} | {' '.join(each.cached) or '-'}"
        for each in differences
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of *.jsonl.gz")
    parser.add_argument("--cache", type=Path, default=Path(".matching"), help="keeps vectors")
    parser.add_argument("--sets", default=SETS, help=f"names, by comma (default: {SETS})")
    parser.add_argument("--kinds", type=float, default=0.90, help="threshold of the kinds table")
    parser.add_argument("--show", choices=["lost", "wrong", "gained"], help="print example pairs")
    options = parser.parse_args()
    guard, streams = Guard(), []
    for name in options.sets.split(","):
        if not (options.data / f"{name}.jsonl.gz").exists():
            print(f"{name}: not in {options.data}, left out")
            continue
        stream = load(options.data, name, options.cache)
        streams.append(stream)
        print(f"\n{name}: {len(stream.texts)} questions, {len(set(stream.classes))} classes")
        for percent in range(80, 100):
            off, on = replay(stream, percent / 100, None), replay(stream, percent / 100, guard)
            print(f"  .{percent}  off {off}   on {on}", flush=True)
    print_kinds(streams, guard, options.kinds)
    for stream in streams if options.show else []:
        print_pairs(stream, guard, options.kinds, options.show)


def print_pairs(stream: Stream, guard: Guard, threshold: float, which: str) -> None:
    """Print pairs: right ones the guard drops (lost), wrong ones it passes (wrong) or drops."""
    print(f"\n{stream.name}: {which} at {threshold:.2f}")
    for same, row, other in fired(stream, guard, threshold):
        asked, cached = stream.texts[row], stream.texts[other]
        differences = guard.differences(asked, cached)
        if (same, bool(differences)) == {
            "lost": (True, True),
            "wrong": (False, False),
            "gained": (False, True),
        }[which]:
            print(f"  [{describe(differences)}]\n     {asked}\n     {cached}")


if __name__ == "__main__":
    main()
