"""The caches that are compared, each as its documentation has it, with one model and one Redis.

All answer at a cosine of 0.92. Where a cache takes the bare question, it gets the bare question;
LangChain's caches are given LangChain's prompt. ``Setting.model`` is the folder of the weights, or
"made" for vectors that are made up at once: what is left then is what a cache does itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import peers
from contender import MADE, SIMILARITY, Contender, Setting, langchain, made


def _ours(url: str, setting: Setting, route: str | None, **options: Any) -> Contender:
    from langchain_tiered_cache import TieredCache

    if options.get("semantic", True):
        from shared_core.embedding import SentenceTransformerEmbedder

        if setting.model == MADE:
            options["embedder"] = made
        elif route == "sentence-transformers":
            import torch

            torch.set_num_threads(1)
        if setting.model != MADE:
            options["embedder"] = SentenceTransformerEmbedder(setting.model, route=route)  # type: ignore[arg-type]
        options["threshold"] = SIMILARITY
    cache = TieredCache(url, timeout=5.0, **options)
    return langchain(cache, cache.close)


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
    "langchain-core InMemoryCache": Entry(peers.langchain_memory, ("langchain-core",)),
    "langchain-community SQLiteCache": Entry(peers.langchain_sqlite, ("langchain-community",)),
    "langchain-redis RedisCache": Entry(
        peers.langchain_redis_exact, ("langchain-redis",), "langchain-redis"
    ),
    "langchain-redis RedisSemanticCache": Entry(
        peers.langchain_redis, ("langchain-redis", "redisvl"), "langchain-redis"
    ),
    "RedisVL SemanticCache": Entry(peers.redisvl, ("redisvl",), asked="the bare question"),
    "GPTCache, sqlite and faiss": Entry(
        peers.gptcache, ("gptcache", "faiss-cpu"), "gptcache", "the bare question"
    ),
    "BetterDB SemanticCache": Entry(
        peers.betterdb,
        ("betterdb-semantic-cache", "valkey"),
        "betterdb",
        "LangChain's prompt, awaited",
    ),
}
