"""Measure what follow-ups are served, and how often wrongly, where a model rewrites them.

    python benchmarks/conversations.py [--orders 5] [--requests 1500] [--policy verified|0.9|...]

``data/conversations.jsonl`` holds conversations whose last message leans on what was said before,
written for this project: {"set", "group", "trap": what makes it another question than its
neighbours, "talk": [[role, text], ...], "question", "alone": the right rewriting, "dropped": one in
which something that was said is gone, "answer"}. Two conversations want one answer if "answer" is
the same. A conversation can be answered from the cache if one with its answer came before it.

Each conversation opens with a greeting of its own, so that no two requests are the same. Rewriters
are simulated: "right" knows the right rewriting, "failing" raises, "dropping" leaves out what was
said in one of five. "unchecked" are those whose mistakes no rule here sees: the check for dropped
facts is turned off, and what is left is the policy. "history" is a cache as it is by default,
"last message" matches that alone, as caches do that look at no history. Needs the local model.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from shared_core import Answer, Hit, Request, ResponseCache, Static, Tier, Verified, standalone
from shared_core.conversations import FollowUp
from shared_core.stats import wilson

FILE = Path(__file__).parent / "data" / "conversations.jsonl"
DROPPED = 0.2

Row = Mapping[str, Any]
Rewriter = Callable[[str], str]


def load() -> list[Row]:
    """Return the conversations."""
    return [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]


class Rewriting:
    """A model that rewrites as the file says; a share of its rewritings drop what was said."""

    def __init__(self, rows: Sequence[Row], drops: float = 0.0, seed: int = 0) -> None:
        self._rows = {json.dumps([row["talk"], row["question"]]): row for row in rows}
        self._drops, self._rng = drops, random.Random(seed)
        self.asked = self.dropped = 0

    def __call__(self, prompt: str) -> str:
        data = json.loads(prompt[prompt.rindex("\n{\n") :])
        talk = [[role, text] for one in data["conversation"] for role, text in one.items()]
        row = self._rows[json.dumps([talk[2:], data["last message"]])]
        self.asked += 1
        if "dropped" in row and self._rng.random() < self._drops:
            self.dropped += 1
            return str(row["dropped"])
        return str(row["alone"])


def failing(prompt: str) -> str:
    """Raise as a model that cannot be reached."""
    raise ConnectionError


@dataclass
class Counted:
    """Counts what was asked, what could have been served, and what was."""

    requests: int = 0
    could: int = 0
    hits: int = 0
    wrong: int = 0
    late_wrong: int = 0

    def __str__(self) -> str:
        low, high = wilson(self.wrong, self.hits)
        share = (self.hits - self.wrong) / self.could if self.could else 0.0
        return (
            f"{self.requests:6d} {self.could:8d} {self.hits:6d} {share:6.1%} {self.wrong:6d}"
            f" {self.wrong / max(self.hits, 1):6.1%} [{low:5.1%}, {high:5.1%}] {self.late_wrong:6d}"
        )


def run(
    rows: Sequence[Row], number: int | None, seed: int, history: Any, policy: Any, last: bool
) -> Counted:
    """Ask all conversations once in an order of the seed, or a number of draws, and count."""
    rng, counted, seen = random.Random(seed), Counted(), set[str]()
    drawn = rng.sample(rows, len(rows)) if number is None else rng.choices(rows, k=number)
    with ResponseCache.open(history=history, threshold=policy) as cache:
        for place, row in enumerate(drawn):
            opening = [("user", "Hello!"), ("assistant", f"Hello! This is chat {place + 10}.")]
            talk = [] if last else [*opening, *row["talk"]]
            request = Request.of(
                row["question"],
                model="any",
                system="You help customers.",
                history=[{"role": role, "content": text} for role, text in talk],
                params={"temperature": 0},
            )
            counted.requests += 1
            counted.could += row["answer"] in seen
            seen.add(row["answer"])
            outcome = cache.lookup(request)
            if isinstance(outcome, Hit):
                assert last or outcome.tier is Tier.SEMANTIC
                counted.hits += 1
                wrong = outcome.answer.text != row["answer"]
                counted.wrong += wrong
                counted.late_wrong += wrong and 2 * place >= len(drawn)
            else:
                cache.store(request, Answer(row["answer"]))
                drain(cache)
    return counted


def drain(cache: ResponseCache) -> None:
    """Let the judge in the background come to its end."""
    semantic = cache._path.semantic
    assert semantic is not None
    semantic._labeler.drain()


def unchecked(turn: FollowUp, text: str) -> str | None:
    """Take any rewriting."""
    return None if text and text != "NONE" else "none"


def policy_of(name: str) -> Any:
    """Return a policy by its name or its similarity."""
    return Verified() if name == "verified" else Static(float(name))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=5)
    parser.add_argument("--requests", type=int, default=1500)
    parser.add_argument("--policy", action="append")
    chosen = parser.parse_args()
    rows = load()
    for number in (None, chosen.requests):
        told = f"{len(rows)} conversations, each once" if number is None else f"{number} requests"
        print(f"\n{told}; {chosen.orders} orders together")
        head = "requests    could   hits  right  wrong  of hits [95 %]          late"
        print(f"{'policy':9s} {'rewriter':20s} {head}")
        for name in chosen.policy or ("verified", "0.9"):
            kinds: dict[str, Callable[[int], Any]] = {
                "history": lambda seed: "exact",
                "last message": lambda seed: "exact",
                "right": lambda seed: standalone(Rewriting(rows)),
                "failing": lambda seed: standalone(failing),
                "dropping": lambda seed: standalone(Rewriting(rows, DROPPED, seed)),
                "right, unchecked": lambda seed: standalone(Rewriting(rows)),
                "dropping, unchecked": lambda seed: standalone(Rewriting(rows, DROPPED, seed)),
            }
            for kind, history in kinds.items():
                total = Counted()
                for seed in range(chosen.orders):
                    check = unchecked if "unchecked" in kind else FollowUp.why_not
                    with patch.object(FollowUp, "why_not", check):
                        policy, last = policy_of(name), kind == "last message"
                        one = run(rows, number, seed, history(seed), policy, last)
                    for field in vars(total):
                        setattr(total, field, getattr(total, field) + getattr(one, field))
                print(f"{name:9s} {kind:20s} {total}", flush=True)


if __name__ == "__main__":
    main()
