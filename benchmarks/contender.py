"""A cache as it is measured, and what several of them are made of."""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from asks import Ask, Model, generation

SIMILARITY = 0.92
MADE = "made"
_MATTER = re.compile(r"\bI ([a-z ]+)\?")


@dataclass(frozen=True, slots=True)
class Setting:
    """Says where a cache works: an empty folder, the address of a Redis, the model.

    ``similarity`` is the cosine from which it serves, None for the cache's own default. ``prior``
    is a file with what ours is to expect before its first label, "" for what ships. ``vectors`` is
    a file in which vectors are kept, so that a text is embedded once for all caches, "" for none.
    ``answers`` are the right ones, by question, for verifiers that are made up.
    """

    folder: Path
    redis: str
    model: str
    similarity: float | None = SIMILARITY
    prior: str = ""
    vectors: str = ""
    answers: dict[str, str] = field(default_factory=dict)

    @property
    def distance(self) -> dict[str, float]:
        """The cosine distance up to which it serves, as an argument; {} for the default."""
        return {} if self.similarity is None else {"distance_threshold": 1 - self.similarity}


@dataclass(frozen=True, slots=True)
class Contender:
    """A cache as it is measured; ``look`` returns the text of what it would serve, or None.

    ``store`` takes the question and the text of its answer, ``await_look`` is its own way for event
    loops, ``clear`` forgets everything: None where a cache has no such call. ``settle`` waits for
    what a cache does beside the calls, which a model's second or two would leave it time for.
    """

    store: Callable[[Ask, str], object]
    look: Callable[[Ask], str | None]
    await_look: Callable[[Ask], Awaitable[str | None]] | None = None
    close: Callable[[], object] = lambda: None
    clear: Callable[[], object] | None = None
    settle: Callable[[], object] = lambda: None


DEFAULT, TUNED = "default", "tuned"


@dataclass(frozen=True, slots=True)
class Entry:
    """A contender by its name in tables; ``environment`` is a folder of .bench-envs, "" for ours.

    ``packages`` are what its version is that of, ``asked`` what it is given. ``judged`` says how
    its answers are judged: as it comes (DEFAULT), at its best threshold too (TUNED), or not ("").
    """

    build: Callable[[Setting], Contender]
    packages: tuple[str, ...]
    environment: str = ""
    asked: str = "LangChain's prompt"
    judged: str = ""


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


def encoder(setting: Setting) -> Callable[[list[str]], Any]:
    """Return how the peers embed: sentence-transformers itself, in one thread.

    Where vectors are kept, and nothing is timed, ours takes its place: the same vectors to six
    digits, in a third of the time.
    """
    if setting.model == MADE:
        return made
    if setting.vectors:
        from shared_core.embedding import SentenceTransformerEmbedder

        return kept(SentenceTransformerEmbedder(setting.model, route="onnx").embed, setting.vectors)

    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)
    model = SentenceTransformer(setting.model, device="cpu", local_files_only=True)
    return lambda texts: model.encode(texts, normalize_embeddings=True, show_progress_bar=False)


def kept(encode: Callable[[list[str]], Any], file: str) -> Callable[[list[str]], Any]:
    """Return ``encode`` with its vectors kept in an SQLite file, which processes may share."""
    import numpy as np

    store = sqlite3.connect(file, timeout=60, isolation_level=None, check_same_thread=False)
    store.execute("PRAGMA journal_mode=WAL")
    store.execute("PRAGMA synchronous=OFF")  # what is lost is embedded again
    store.execute("CREATE TABLE IF NOT EXISTS vectors (text TEXT PRIMARY KEY, vector BLOB)")

    def one(text: str) -> Any:
        found = store.execute("SELECT vector FROM vectors WHERE text = ?", (text,)).fetchone()
        if found is not None:
            return np.frombuffer(found[0], np.float32)
        vector = np.asarray(encode([text])[0], np.float32)
        store.execute("INSERT OR IGNORE INTO vectors VALUES (?, ?)", (text, vector.tobytes()))
        return vector

    return lambda texts: np.array([one(text) for text in texts])


def embeddings(setting: Setting) -> Any:
    from langchain_core.embeddings import Embeddings

    class Library(Embeddings):
        def __init__(self) -> None:
            self.encode = encoder(setting)

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
        lambda ask, answer: cache.update(ask.prompt, llm, [generation(answer)]),
        lambda ask: text(cache.lookup(ask.prompt, llm)),
        await_look,
        close,
        cache.clear,
    )
