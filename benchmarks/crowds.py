"""Vectors as many questions have them: sentences embedded for real, each with a crowd about it.

Sentences are put together from verbs, things, places and forms, and embedded by the default model.
To have more of them than can be embedded in a minute, each is surrounded by points at a cosine of
0.80 to 0.97 to it, which is where rewordings of a question lie. What is asked lies at 0.95 to a
stored one.
"""

from __future__ import annotations

import itertools
import random
from typing import Any

import numpy as np

FORMS = (
    "How do I {} {}?", "Can you {} {} for me?", "What happens if I {} {}?", "Please {} {}.",
    "Why can't I {} {}?", "Who may {} {}?", "When should one {} {}?", "Is it hard to {} {}?",
    "What does it cost to {} {}?", "How long does it take to {} {}?",
)  # fmt: skip
VERBS = (
    "cancel", "open", "repair", "translate", "sell", "measure", "paint", "cook", "grow", "insure",
    "install", "return", "compare", "clean", "rent", "print", "test", "move", "record", "explain",
    "borrow", "design", "ship", "encrypt",
)  # fmt: skip
THINGS = (
    "a savings account", "my bicycle", "a short story", "the kitchen door", "an old piano",
    "a tomato plant", "the printer", "a train ticket", "two tents", "a neural network",
    "my passport", "the water heater", "a wedding cake", "a database", "an electric guitar",
    "the garden fence", "a loan", "a pair of shoes", "a violin sonata", "a telescope",
    "the tax form", "a drone", "a fish tank", "an invoice", "the roof", "a kayak", "vaccines",
    "a chess board", "a satellite", "a used car",
)  # fmt: skip
PLACES = ("", "in Lisbon", "at home", "for my company", "during winter", "without tools")


def sentences(count: int, seed: int = 0) -> list[str]:
    """Return different questions, at most 43,200."""
    every = itertools.product(FORMS, VERBS, THINGS, PLACES)
    asked = [form.format(verb, f"{thing} {place}".strip()) for form, verb, thing, place in every]
    return random.Random(seed).sample(asked, count)


def embedded(count: int) -> Any:
    """Return the vectors of that many sentences, float32 (count, d), by the default model."""
    from shared_core.embedding import resolve_embedder

    embedder = resolve_embedder(None)
    texts = sentences(count)
    return np.concatenate([embedder.embed(texts[i : i + 32]) for i in range(0, count, 32)])


def about(centres: Any, cosines: Any, seed: int) -> Any:
    """Return one point at each cosine to the row it stands beside, all of length 1."""
    noise = np.random.default_rng(seed).standard_normal(centres.shape, dtype=np.float32)
    noise -= np.sum(noise * centres, axis=1, keepdims=True) * centres
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    cosines = np.asarray(cosines, np.float32)[:, None]
    return cosines * centres + np.sqrt(1 - cosines**2) * noise


def crowd(centres: Any, count: int, seed: int) -> Any:
    """Return stored vectors, float32 (count, d), spread over the sentences by chance."""
    rng = np.random.default_rng(seed)
    which = rng.integers(len(centres), size=count)
    return about(centres[which], rng.uniform(0.80, 0.97, count), seed + 1)


def asked(stored: Any, seed: int) -> Any:
    """Return one vector beside each of the stored ones."""
    return about(stored, np.full(len(stored), 0.95), seed)
