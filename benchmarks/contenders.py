"""The caches that are compared, each as its documentation has it, with one model and one Redis.

All answer at a cosine of 0.92. Where a cache takes the bare question, it gets the bare question;
LangChain's caches are given LangChain's prompt. ``Setting.model`` is the folder of the weights, or
"made" for vectors that are made up at once: what is left then is what a cache does itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import warnings
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
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

    ``await_look`` is its own way for event loops. ``given`` says what it is asked with.
    """

    store: Callable[[Ask, int], object]
    look: Callable[[Ask], str | None]
    await_look: Callable[[Ask], Awaitable[str | None]] | None = None
    threads: bool = True
    close: Callable[[], object] = lambda: None


def made(texts: list[str]) -> Any:
    """Return unit vectors, float32 (n, 384): rewordings of one question at a cosine of 0.97."""
    import numpy as np

    rows = []
    for text in texts:
        matter = _MATTER.search(text)
        base = _direction(matter[1] if matter else text)
        rows.append(base + 0.25 * _direction(text))
    found = np.array(rows, np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def _direction(text: str) -> Any:
    import numpy as np

    seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
    row = np.random.default_rng(seed).standard_normal(384)
    return row / np.linalg.norm(row)


def _encoder(model: str) -> Callable[[list[str]], Any]:
    """Return how the peers embed: sentence-transformers itself, in one thread."""
    if model == MADE:
        return made
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)
    library = SentenceTransformer(model, device="cpu", local_files_only=True)
    return lambda texts: library.encode(texts, normalize_embeddings=True, show_progress_bar=False)


def _embeddings(model: str) -> Any:
    from langchain_core.embeddings import Embeddings

    class Library(Embeddings):
        def __init__(self) -> None:
            self.encode = _encoder(model)

        def embed_query(self, text: str) -> Any:
            return self.encode([text])[0].tolist()

        def embed_documents(self, texts: list[str]) -> Any:
            return self.encode(texts).tolist()

    return Library()


def _langchain(cache: Any, close: Callable[[], object] = lambda: None) -> Contender:
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


# ---------------------------------------------------------------------------- ours


def _ours(url: str, setting: Setting, route: str | None, **options: Any) -> Contender:
    from langchain_tiered_cache import TieredCache

    if options.get("semantic", True):
        from shared_core.embedding.sentence_transformers import SentenceTransformerEmbedder

        if setting.model == MADE:
            options["embedder"] = made
        elif route == "sentence-transformers":
            import torch

            torch.set_num_threads(1)
        if setting.model != MADE:
            options["embedder"] = SentenceTransformerEmbedder(setting.model, route=route)  # type: ignore[arg-type]
        options["threshold"] = SIMILARITY
    cache = TieredCache(url, timeout=5.0, **options)
    return _langchain(cache, cache.close)


def ours_memory(setting: Setting) -> Contender:
    return _ours("memory://", setting, "onnx")


def ours_sqlite(setting: Setting) -> Contender:
    return _ours(f"sqlite:///{setting.folder}/ours.db", setting, "onnx")


def ours_redis(setting: Setting) -> Contender:
    return _ours(setting.redis, setting, "onnx")


def ours_redis_library(setting: Setting) -> Contender:
    return _ours(setting.redis, setting, "sentence-transformers", namespace="library")


def ours_redis_exact(setting: Setting) -> Contender:
    return _ours(setting.redis, setting, None, semantic=False, namespace="exact")


def ours_sqlite_exact(setting: Setting) -> Contender:
    return _ours(f"sqlite:///{setting.folder}/exact.db", setting, None, semantic=False)


def ours_memory_exact(setting: Setting) -> Contender:
    return _ours("memory://", setting, None, semantic=False)


# ---------------------------------------------------------------------------- peers


def langchain_memory(setting: Setting) -> Contender:
    from langchain_core.caches import InMemoryCache

    return _langchain(InMemoryCache())


def langchain_sqlite(setting: Setting) -> Contender:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from langchain_community.cache import SQLiteCache

    warnings.simplefilter("ignore")  # of its own deserialiser, at every hit
    return _langchain(SQLiteCache(str(setting.folder / "langchain.db")))


def langchain_redis_exact(setting: Setting) -> Contender:
    from langchain_redis import RedisCache

    return _langchain(RedisCache(setting.redis, prefix="langchain-exact"))


def langchain_redis(setting: Setting) -> Contender:
    from langchain_redis import RedisSemanticCache

    return _langchain(
        RedisSemanticCache(
            _embeddings(setting.model),
            setting.redis,
            distance_threshold=1 - SIMILARITY,
            name="langchain-semantic",
        )
    )


def redisvl(setting: Setting) -> Contender:
    from redisvl.extensions.cache.llm import SemanticCache
    from redisvl.utils.vectorize import CustomVectorizer, HFTextVectorizer

    vectorizer: Any
    if setting.model == MADE:
        vectorizer = CustomVectorizer(lambda text, **_: made([text])[0].tolist())
    else:
        import torch

        torch.set_num_threads(1)
        vectorizer = HFTextVectorizer(setting.model, device="cpu", local_files_only=True)
    cache = SemanticCache(
        "redisvl", 1 - SIMILARITY, vectorizer=vectorizer, redis_url=setting.redis
    )

    def text(found: Any) -> str | None:
        return str(found[0]["response"]) if found else None

    async def await_look(ask: Ask) -> str | None:
        return text(await cache.acheck(prompt=ask.question))

    return Contender(
        lambda ask, number: cache.store(prompt=ask.question, response=answer(number)),
        lambda ask: text(cache.check(prompt=ask.question)),
        await_look,
    )


def gptcache(setting: Setting) -> Contender:
    """Build GPTCache on SQLite and faiss; its distance is the squared one of unit vectors."""
    import gptcache.utils
    import numpy as np

    # It would run pip inside this process for what it does not find under its own name.
    gptcache.utils._check_library = lambda *_, **__: True
    from gptcache import Cache, Config
    from gptcache.adapter.api import get, put
    from gptcache.manager import CacheBase, VectorBase, get_data_manager
    from gptcache.processor.pre import get_prompt
    from gptcache.similarity_evaluation import SearchDistanceEvaluation

    encode, cache = _encoder(setting.model), Cache()
    most = 4.0
    cache.init(
        pre_embedding_func=get_prompt,
        embedding_func=lambda text, **_: np.asarray(encode([text])[0], np.float32),
        data_manager=get_data_manager(
            CacheBase("sqlite", sql_url=f"sqlite:///{setting.folder}/gptcache.db"),
            VectorBase("faiss", dimension=384, index_path=str(setting.folder / "faiss.index")),
            max_size=1_000_000,
        ),
        similarity_evaluation=SearchDistanceEvaluation(most),
        # Served is what scores at least this share of ``most``; |a - b|^2 = 2 - 2 cos.
        config=Config(similarity_threshold=(most - 2 * (1 - SIMILARITY)) / most, log_time_func=None),
    )
    return Contender(
        lambda ask, number: put(ask.question, answer(number), cache_obj=cache),
        lambda ask: get(ask.question, cache_obj=cache),
    )


def betterdb(setting: Setting) -> Contender:
    """Build BetterDB's semantic cache; it has no blocking calls, so that each runs on a loop."""
    from betterdb_semantic_cache import SemanticCache, SemanticCacheOptions
    from betterdb_semantic_cache.adapters.langchain import BetterDBSemanticCache
    from betterdb_semantic_cache.types import AnalyticsOptions
    from valkey.asyncio import Valkey

    encode, loop = _encoder(setting.model), asyncio.new_event_loop()

    async def embed(text: str) -> list[float]:
        return (await asyncio.to_thread(encode, [text]))[0].tolist()

    inner = SemanticCache(
        SemanticCacheOptions(
            client=Valkey.from_url(setting.redis),
            embed_fn=embed,
            name="betterdb",
            default_threshold=1 - SIMILARITY,
            uncertainty_band=0.0,
            analytics=AnalyticsOptions(disabled=True),
        )
    )
    cache = BetterDBSemanticCache(inner)
    llm = Model()._get_llm_string(stop=None)

    def store(ask: Ask, number: int) -> None:
        loop.run_until_complete(
            cache.aupdate(ask.prompt, llm, [generation(answer(number))])
        )

    def look(ask: Ask) -> str | None:
        found = loop.run_until_complete(cache.alookup(ask.prompt, llm))
        return str(found[0].message.content) if found else None

    return Contender(store, look, threads=False)


@dataclass(frozen=True, slots=True)
class Entry:
    """A contender by its name in tables; ``environment`` is a folder of .bench-envs, "" for ours.

    ``packages`` are what its version is that of.
    """

    build: Callable[[Setting], Contender]
    packages: tuple[str, ...]
    environment: str = ""
    asked: str = "LangChain's prompt"


OURS = ("langchain-core",)
ENTRIES = {
    "TieredCache, memory": Entry(ours_memory, OURS),
    "TieredCache, memory, exact only": Entry(ours_memory_exact, OURS),
    "TieredCache, sqlite": Entry(ours_sqlite, OURS),
    "TieredCache, sqlite, exact only": Entry(ours_sqlite_exact, OURS),
    "TieredCache, redis": Entry(ours_redis, OURS),
    "TieredCache, redis, sentence-transformers": Entry(ours_redis_library, OURS),
    "TieredCache, redis, exact only": Entry(ours_redis_exact, OURS),
    "langchain-core InMemoryCache": Entry(langchain_memory, ("langchain-core",)),
    "langchain-community SQLiteCache": Entry(langchain_sqlite, ("langchain-community",)),
    "langchain-redis RedisCache": Entry(
        langchain_redis_exact, ("langchain-redis",), "langchain-redis"
    ),
    "langchain-redis RedisSemanticCache": Entry(
        langchain_redis, ("langchain-redis", "redisvl"), "langchain-redis"
    ),
    "RedisVL SemanticCache": Entry(redisvl, ("redisvl",), asked="the bare question"),
    "GPTCache, sqlite and faiss": Entry(
        gptcache, ("gptcache", "faiss-cpu"), "gptcache", "the bare question"
    ),
    "BetterDB SemanticCache": Entry(
        betterdb, ("betterdb-semantic-cache", "valkey"), "betterdb", "LangChain's prompt, awaited"
    ),
}
