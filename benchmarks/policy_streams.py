"""Judge the verified policy alone on labelled request streams, with classes known and no cache.

    python benchmarks/policy_streams.py --bench FOLDER --data FOLDER [--streams banking77,qqp]
        [--modes hit:.02,request:.02] [--orders 0,1,2] [--noise .05] [--known-noise .05]
        [--cold] [--drift]

The bench FOLDER has ``streams.load(name, split, order)`` (texts, classes, vectors in order of
arrival) and ``harness.run`` (exact nearest neighbours of what is cached; answers of one class share
a group). The prior of every run is fitted on ``--data`` without the set that is judged. A row
shows, over all orders: hit rate, error and its worst, orders over the target by two standard
deviations, requests and labels before the first hit. ``--drift``: half of the classes change their
answer midway; it shows how many requests later the last sliding 500 was over the target.
"""

from __future__ import annotations

import argparse
import importlib
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from fit_prior import fit_prior

from shared_core.guard import Difference, Guard
from shared_core.thresholds.estimator import Learned
from shared_core.thresholds.policy import Candidate, Decision, Explore, Label, Serve
from shared_core.thresholds.prior import Prior, cold
from shared_core.thresholds.verified import Verified

PARTS_OF_MIXED = frozenset({"banking77", "clinc150", "swaps"})
MODES = "request:.02,hit:.02,hit:.05"
SLIDING = 500

_GUARD = Guard()


@lru_cache(maxsize=500_000)
def differences(asked: str, cached: str) -> tuple[Difference, ...]:
    """Compare two questions once per process."""
    return _GUARD.differences(asked, cached)


@dataclass
class Watched:
    """The policy as the bench drives it; it notes what was served and how long things took."""

    policy: Verified
    seed: int
    name: str = "verified"
    requests: int = 0
    first_hit: tuple[int, int] | None = None
    served: dict[int, int] = field(default_factory=dict)  # row -> row of the answer
    decide_s: list[float] = field(default_factory=list)
    learn_s: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.k: int = self.policy.k
        self.state: Learned = self.policy.initial_state()
        self.rng = random.Random(self.seed)
        self.decision: Decision | None = None

    def decide(self, row: int, near: Any) -> int | None:
        self.requests += 1
        question = near.texts[row]
        candidates = [
            Candidate(cosine, differences(question, near.texts[at]), near.texts[at], str(group))
            for cosine, at, group in zip(
                near.cosines.tolist(), near.rows.tolist(), near.answers.tolist(), strict=True
            )
        ]
        start = time.perf_counter()
        self.policy.settle(self.state)
        fitted = time.perf_counter()
        self.decision = self.policy.decide(question, candidates, self.state, self.rng)
        self.learn_s.append(fitted - start)
        self.decide_s.append(time.perf_counter() - fitted)
        if not isinstance(self.decision, Serve):
            return None
        if self.first_hit is None:
            self.first_hit = self.requests, self.state.right + self.state.wrong
        self.served[row] = int(near.rows[self.decision.index])
        return self.decision.index

    def learn(self, row: int, near: Any, same: Any) -> None:
        match self.decision:
            case Explore(index, evidence) if len(near):
                label = Label(bool(same[index]), float(near.cosines[index]), evidence)
                self.state = self.policy.learn(self.state, label)

    def feedback(self, *_: Any) -> None: ...


@dataclass(frozen=True)
class Options:
    """What one row is measured with."""

    data: Path
    vectors: Path
    split: str
    orders: tuple[int, ...]
    noise: float
    known_noise: float
    cold: bool
    drift: bool
    confidence: float | None


@lru_cache(maxsize=8)
def prior_for(stream: str, data: Path, vectors: Path) -> Prior:
    """Fit the prior on all sets that may ship but those that are judged."""
    judged = PARTS_OF_MIXED if stream == "mixed" else {stream}
    return fit_prior(data, judged, vectors)


def drifted(stream: Any, seed: int) -> Any:
    """Give half of the classes another answer from the middle on."""
    classes, half = stream.classes.copy(), len(stream) // 2
    known = np.unique(classes)
    changed = np.random.default_rng(seed).permutation(known)[: len(known) // 2]
    later = np.isin(classes, changed) & (np.arange(len(classes)) >= half)
    classes[later] += classes.max() + 1
    return replace(stream, classes=classes)


def row(bench: Any, name: str, per: Any, max_error: float, options: Options) -> str:
    """Run a stream in every order and sum up."""
    prior = cold() if options.cold else prior_for(name, options.data, options.vectors)
    policy = Verified(max_error, per, prior=prior, label_noise=options.known_noise)
    if options.confidence is not None:
        policy = replace(policy, confidence=options.confidence)
    results, runs, streams = [], [], []
    for order in options.orders:
        stream = bench.streams.load(name, options.split, order)
        stream = drifted(stream, order) if options.drift else stream
        watched = Watched(policy, order)
        results.append(bench.harness.run(stream, watched, seed=order, label_noise=options.noise))
        runs.append(watched)
        streams.append(stream)
    errors = [wrong / of if of else 0.0 for wrong, of in (r.error(per) for r in results)]
    over = sum(not bench.harness.within_slack(*r.error(per), max_error) for r in results)
    hits = [r.hit_rate for r in results]
    firsts = [run.first_hit for run in runs if run.first_hit]
    first = f"{firsts[0][0]} requests {firsts[0][1]} labels" if firsts else "none"
    decide = np.percentile(np.concatenate([run.decide_s for run in runs]), [10, 50]) * 1e3
    fits = np.concatenate([[s for s in run.learn_s if s > 1e-4] or [0.0] for run in runs])
    text = (
        f"{name:15s} {per:7s} {max_error:<5g} hit {np.mean(hits):.3f} ± {np.std(hits):.3f} "
        f"(first order {hits[0]:.3f})  error {np.mean(errors):.4f} worst {max(errors):.4f} "
        f"over {over} of {len(results)}  wrong/hits {sum(r.wrong for r in results)}/"
        f"{sum(r.hits for r in results)}  first hit: {first}  "
        f"decide p10/p50 {decide[0]:.3f}/{decide[1]:.3f} ms, "
        f"fit p99 {np.percentile(fits, 99) * 1e3:.1f} ms"
    )
    if options.drift:
        back = [
            recovery(bench, s, run, per, max_error) for s, run in zip(streams, runs, strict=True)
        ]
        text += (
            f"  back under the target after {[b[0] for b in back]}, worst {[b[1] for b in back]}"
        )
        text += f", hits before/after {[b[2] for b in back]}"
    return text


def recovery(
    bench: Any, stream: Any, run: Watched, per: str, target: float
) -> tuple[int, str, str]:
    """Say when the last sliding window was over the target, and the worst, and what it cost."""
    n, half = len(stream), len(stream) // 2
    served, wrong = np.zeros(n, int), np.zeros(n, int)
    for at, other in run.served.items():
        served[at], wrong[at] = 1, stream.classes[at] != stream.classes[other]
    last, worst = 0, (0.0, "")
    for end in range(half, n + 1, 25):
        window = slice(end - SLIDING, end)
        bad, of = (
            int(wrong[window].sum()),
            SLIDING if per == "request" else int(served[window].sum()),
        )
        if of and not bench.harness.within_slack(bad, of, target):
            last = end - half
        worst = max(worst, (bad / max(1, of), f"{bad}/{of}"))
    lost = f"{served[half - SLIDING : half].mean():.2f}/{served[-SLIDING:].mean():.2f}"
    return last, worst[1], lost


class Bench:
    """The two modules of the bench's folder."""

    def __init__(self, folder: Path) -> None:
        sys.path.insert(0, str(folder))
        self.streams = importlib.import_module("streams")
        self.harness = importlib.import_module("harness")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the options and print a row for every stream and mode."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bench", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "tiered-llm-cache")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--streams", default="")
    parser.add_argument("--modes", default=MODES, help="per:max_error,…")
    parser.add_argument("--orders", default="0")
    parser.add_argument("--noise", type=float, default=0.0, help="share of labels flipped")
    parser.add_argument("--known-noise", type=float, default=0.0, help="the share it is told")
    parser.add_argument("--confidence", type=float)
    parser.add_argument("--cold", action="store_true", help="no prior")
    parser.add_argument("--drift", action="store_true")
    given = parser.parse_args(arguments)
    bench = Bench(given.bench)
    orders = tuple(map(int, given.orders.split(",")))
    options = Options(
        given.data, given.cache, given.split, orders, given.noise, given.known_noise,
        given.cold, given.drift, given.confidence,
    )  # fmt: skip
    for name in given.streams.split(",") if given.streams else bench.streams.STREAMS:
        for mode in given.modes.split(","):
            per, _, error = mode.partition(":")
            print(row(bench, name, per, float(error), options), flush=True)


if __name__ == "__main__":
    main()
