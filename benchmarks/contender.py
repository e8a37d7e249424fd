"""A cache as it is measured, and what several of them are made of."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from asks import Ask, Model, answer, generation

SIMILARITY = 0.92
MADE = "made"
_MATTER = re.compile(r"\bI ([a-z ]+)\?")


@dataclass(frozen=True, slots=True)
class Setting:
    """Where a cache is to work: an empty folder, the address of a Redis, the model."""

    folder: Path
    redis: str
    model: str


@dataclass(frozen=True, slots=True)
class Contender:
    """A cache as it is measured; ``look`` returns the text of what it would serve, or None.

    ``await_look`` is its own way for event loops.
    """

    store: Callable[[Ask, int], object]
    look: Callable[[Ask], str | None]
    await_look: Callable[[Ask], Awaitable[str | None]] | None = None
    close: Callable[[], object] = lambda: None


def made(texts: list[str]) -> Any:
    """Return unit vectors, float32 (n, 384): rewordings of one question at a cosine of 0.97.

    Those of the newest texts are remembered, as our own memo does.
    """
    import numpy as np

    return np.array([_made(text) for text in texts])


@lru_cache(1000)
def _made(text: str) -> Any:
    import numpy as np

    matter = _MATTER.search(text)
    row = _direction(matter[1] if matter else text) + 0.25 * _direction(text)
    return (row / np.linalg.norm(row)).astype(np.float32)


def _direction(text: str) -> Any:
    import numpy as np

    seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
    row = np.random.default_rng(seed).standard_normal(384)
    return row / np.linalg.norm(row)


def encoder(model: str) -> Callable[[list[str]], Any]:
    """Return how the peers embed: sentence-transformers itself, in one thread."""
    if model == MADE:
        return made
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)
    library = SentenceTransformer(model, device="cpu", local_files_only=True)
    return lambda texts: library.encode(texts, normalize_embeddings=True, show_progress_bar=False)


def embeddings(model: str) -> Any:
    from langchain_core.embeddings import Embeddings

    class Library(Embeddings):
        def __init__(self) -> None:
            self.encode = encoder(model)

        def embed_query(self, text: str) -> Any:
            return self.encode([text])[0].tolist()

        def embed_documents(self, texts: list[str]) -> Any:
            return self.encode(texts).tolist()

    return Library()


def langchain(cache: Any, close: Callable[[], object] = lambda: None) -> Contender:
    llm = Model()._get_llm_string(stop=None)

    def text(found: Any) -> str | None:
        return str(found[0].message.content) if found else None

    async def await_look(ask: Ask) -> str | None:
        return text(await cache.alookup(ask.prompt, llm))

    return Contender(
        lambda ask, number: cache.update(ask.prompt, llm, [generation(answer(number))]),
        lambda ask: text(cache.lookup(ask.prompt, llm)),
        await_look,
        close=close,
    )
