"""Live whole lives of simulated apps and count in how many the promise of Verified was kept.

    python benchmarks/guarantee.py [--lives 1000] [--max-error .02] [--guarantee average,anytime]

Each life is an app of its own: the share of wrong answers among candidates that look right (0.5 to
5 %), few or many requests (300, 1,500), and one of three worlds: independent answers; correlated
ones, where whole answers are wrong and each is asked for again and again; or drift, where the share
of wrong ones grows threefold midway. What looks worse is right half of the time. For each world the
table says in which share of the lives, with its 95 % interval, more than ``max_error`` of the hits
were wrong in the end, and in which it was so at any time after the 50th hit; the median share of
requests served; and the share of all hits that were wrong. For "anytime" also in how many lives a
pool was certified that is in truth worse than ``max_error``, which the guarantee bounds by 5 %.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shared_core.stats import wilson
from shared_core.thresholds import Candidate, Explore, Label, Serve, Verified

WORLDS = ("independent", "correlated", "drift")
RATES = (0.005, 0.01, 0.02, 0.03, 0.05)
LENGTHS = (300, 1500)
GOOD = 0.88
"""Cosine from which on a candidate looks right."""

ANSWERS = 60
LATEST = 50
"""Hits before which the share of wrong ones is not looked at."""


@dataclass
class Life:
    """Holds what became of one simulated app."""

    world: str
    rate: float
    requests: int
    hits: int = 0
    wrong: int = 0
    ever_over: bool = False
    falsely_certified: bool = False


def live(policy: Verified, world: str, rate: float, requests: int, seed: int) -> Life:
    """Ask all requests of one app."""
    rng, life = random.Random(seed), Life(world, rate, requests)
    state = policy.initial_state()
    bad = {answer for answer in range(ANSWERS) if rng.random() < rate}
    for number in range(requests):
        looks_right = rng.random() < 0.6
        similarity = rng.uniform(GOOD, 1.0) if looks_right else rng.uniform(0.45, 0.75)
        answer, now = rng.randrange(ANSWERS), rate
        if world == "drift" and number > requests // 2:
            now = 3 * rate
        if world == "correlated" and looks_right:
            right = answer not in bad
        else:
            right = rng.random() >= (now if looks_right else 0.5)
        question = f"how do I use the thing{number} here"
        cached = f"how can I use the thing{number} here"
        if not looks_right:
            cached = f"what is the other{number} price"
        candidate = Candidate(similarity, (), cached, f"answer {answer}")
        policy.settle(state)
        decision = policy.decide(question, [candidate], state, rng)
        match decision:
            case Explore(_, evidence):
                state = policy.learn(state, Label(right, similarity, evidence))
            case Serve():
                life.hits, life.wrong = life.hits + 1, life.wrong + (not right)
                if life.hits >= LATEST and life.wrong > policy.max_error * life.hits:
                    life.ever_over = True
    truth = len(bad) / ANSWERS if world == "correlated" else rate
    certified = state.wealth is not None and state.wealth.certified > 0
    life.falsely_certified = certified and truth >= policy.max_error
    return life


def row(name: str, lives: Sequence[Life], max_error: float, certifies: bool) -> str:
    """Sum up some lives."""

    def share(count: int) -> str:
        low, high = wilson(count, len(lives))
        return f"{100 * count / len(lives):5.1f} % [{100 * low:4.1f}, {100 * high:4.1f}]"

    hits, wrong = sum(one.hits for one in lives), sum(one.wrong for one in lives)
    over = sum(one.wrong > max_error * one.hits for one in lives)
    served = statistics.median(one.hits / one.requests for one in lives)
    text = (
        f"{name:24s} {len(lives):4d} lives  over in the end {share(over)}  ever "
        f"{share(sum(one.ever_over for one in lives))}  served {100 * served:4.1f} %  wrong "
        f"{100 * wrong / max(1, hits):5.2f} % of {hits}"
    )
    if certifies:
        text += f"  falsely certified {share(sum(one.falsely_certified for one in lives))}"
    return text


def main() -> None:
    """Live and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lives", type=int, default=1000)
    parser.add_argument("--max-error", type=float, default=0.02)
    parser.add_argument("--guarantee", default="average,anytime")
    options = parser.parse_args()
    cells = [(w, r, n) for w in WORLDS for r in RATES for n in LENGTHS]
    for guarantee in options.guarantee.split(","):
        chosen: Any = guarantee
        policy = Verified(options.max_error, guarantee=chosen)
        lives = [
            live(policy, *cells[seed % len(cells)], seed=seed) for seed in range(options.lives)
        ]
        print(f"{guarantee}, max_error {options.max_error:g}")
        groups = {"all": lives}
        groups |= {world: [one for one in lives if one.world == world] for world in WORLDS}
        groups |= {
            f"{100 * rate:g} % wrong": [one for one in lives if one.rate == rate] for rate in RATES
        }
        groups |= {f"{n} requests": [one for one in lives if one.requests == n] for n in LENGTHS}
        for name, some in groups.items():
            print(row(name, some, options.max_error, guarantee == "anytime"), flush=True)


if __name__ == "__main__":
    main()
