"""What speaks for and against a candidate, as numbers: the features of the verified policy. Pure.

candidates --drop what the guard forbids--> vote of answer groups --> best group's nearest --> values
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from shared_core.guard.lexicon import STOP
from shared_core.guard.reading import Reading, read
from shared_core.guard.thesaurus import canonical
from shared_core.thresholds.policy import Candidate

FORBIDDEN = frozenset({"number", "date", "version", "negation", "direction", "quote", "unread"})
"""Kinds of difference that no evidence outweighs."""

VOTE_WIDTH = 0.05
"""A neighbour this much farther than the nearest has 1/e of its vote."""

ASKING = frozenset("what which who whom whose when where why how".split())
IDLE = STOP | {canonical(word) for word in STOP}
WORDS_KEPT = 20_000


@dataclass(slots=True)
class Vocabulary:
    """In how many questions each word was seen by this process; so that rare words weigh more."""

    questions: int = 0
    seen_in: Counter[str] = field(default_factory=Counter)

    def add(self, words: Iterable[str]) -> None:
        self.questions += 1
        self.seen_in.update(words)
        if len(self.seen_in) > WORDS_KEPT:
            self.seen_in = Counter({w: n for w, n in self.seen_in.items() if n > 1})

    def weight(self, words: Iterable[str]) -> float:
        of, seen = self.questions + 2, self.seen_in
        return sum(math.log(of / (1 + seen[word])) for word in words)
