"""Which model made these vectors: a callable has no name, but the cosines of three sentences tell.

What was learnt of one model's cosines helps with no other's, and costs nothing where the model is
the same under another name, or in another library's wrapping.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared_core.record import Vector

SENTENCES = (
    "How do I reset my password?",
    "The last train to the airport leaves at midnight.",
    "Is it safe to eat raw eggs?",
)
KNOWN: Mapping[str, tuple[int, tuple[float, ...]]] = {
    "all-MiniLM-L6-v2": (384, (0.0314, 0.0616, -0.0073)),
}
"""Name of a model: its dimension, and the cosines of the sentences, each with each."""

TOLERANCE = 2e-3
"""How far a cosine may be off: half precision and other runtimes stay well below."""


def known_model(space: str, vector: Callable[[str], Vector]) -> str:
    """Return the name of the model behind a space ``NAME:DIMENSION``, the space if it is not known.

    ``vector`` embeds a text to (d,) of length 1; it is called only where the name says nothing and
    the dimension fits. Raises what it raises.
    """
    name, _, dimension = space.rpartition(":")
    for model, (d, cosines) in KNOWN.items():
        if name == model:
            return model
        if dimension == str(d):
            pairs = combinations(map(vector, SENTENCES), 2)
            found = [float(one @ other) for one, other in pairs]
            if all(abs(a - b) <= TOLERANCE for a, b in zip(found, cosines, strict=True)):
                return model
    return space
