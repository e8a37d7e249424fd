"""The algorithm of vCache: a threshold of its own for every cached question, learnt from labels.

As the paper has it ("vCache: Verified Semantic Prompt Caching", arXiv 2502.03771): the chance that
the nearest cached answer is right is a logistic curve of the cosine, fitted to what was seen of
that entry; of the values of its threshold that the data allow, the worst counts, and the model is
asked as often as the promised error per request then demands. Written from the paper: the published
code may not be adapted.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from asks import Ask
from contender import Contender, Setting, encoder
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import norm

MAX_ERROR = 0.02
CONFIDENCES = np.linspace(0.01, 0.99, 50)
SLOPES = (1.0, 100.0)


@dataclass
class Entry:
    """A cached answer, and whether it was right at the cosines where it was checked.

    Two observations are there from the beginning: right at a cosine of 1, wrong at 0.
    """

    answer: str
    cosines: list[float] = field(default_factory=lambda: [0.0, 1.0])
    right: list[float] = field(default_factory=lambda: [0.0, 1.0])

    def explore(self, cosine: float) -> float:
        """Return the chance with which the model is to be asked at this cosine."""
        if len(self.cosines) < 6:
            return 1.0
        x, y = np.array(self.cosines), np.array(self.right)

        def loss(given: Any) -> float:
            z = given[1] * (x - given[0])
            return float(np.mean(np.logaddexp(0, z) - y * z))

        fitted = minimize(loss, (0.8, 20.0), bounds=((0.0, 1.0), SLOPES))
        middle, slope = fitted.x
        p = expit(slope * (x - middle))
        information = slope**2 * float(np.sum(p * (1 - p)))
        width = 1 / np.sqrt(max(information, 1e-9))
        thresholds = np.clip(middle + norm.ppf(CONFIDENCES) * width, 0, 1)
        right = CONFIDENCES * expit(slope * (cosine - thresholds))
        chances = 1 - MAX_ERROR / np.maximum(1 - right, 1e-12)
        return float(np.clip(chances.min(), 0, 1))


def vcache(setting: Setting) -> Contender:
    """Build it, in memory."""
    encode, rng = encoder(setting), random.Random(0)
    entries: list[Entry] = []
    vectors: list[Any] = []
    asked: list[tuple[Any, Entry | None, float]] = []

    def look(ask: Ask) -> str | None:
        vector = encode([ask.question])[0]
        asked[:] = [(vector, None, 0.0)]
        if not entries:
            return None
        cosines = np.array(vectors) @ vector
        at = int(cosines.argmax())
        nearest, cosine = entries[at], float(cosines[at])
        if rng.random() >= nearest.explore(cosine):
            return nearest.answer
        asked[:] = [(vector, nearest, cosine)]
        return None

    def store(ask: Ask, answer: str) -> None:
        """Note whether the nearest answer was right; keep the new one if it was not."""
        vector, nearest, cosine = asked.pop() if asked else (encode([ask.question])[0], None, 0.0)
        if nearest is not None:
            nearest.cosines.append(cosine)
            nearest.right.append(float(nearest.answer == answer))
        if nearest is None or nearest.answer != answer:
            entries.append(Entry(answer))
            vectors.append(vector)

    def clear() -> None:
        entries.clear()
        vectors.clear()
        asked.clear()

    return Contender(store, look, clear=clear)
