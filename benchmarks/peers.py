"""The other caches, each as its documentation has it."""

from __future__ import annotations

import asyncio
import warnings
from typing import Any

from asks import Ask, Model, answer, generation
from contender import MADE, SIMILARITY, Contender, Setting, embeddings, encoder, langchain, made


def langchain_memory(setting: Setting) -> Contender:
    from langchain_core.caches import InMemoryCache

    return langchain(InMemoryCache())


def langchain_sqlite(setting: Setting) -> Contender:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from langchain_community.cache import SQLiteCache

    warnings.simplefilter("ignore")  # of its own deserialiser, at every hit
    return langchain(SQLiteCache(str(setting.folder / "langchain.db")))


def langchain_redis_exact(setting: Setting) -> Contender:
    from langchain_redis import RedisCache

    return langchain(RedisCache(setting.redis, prefix="langchain-exact"))


def langchain_redis(setting: Setting) -> Contender:
    from langchain_redis import RedisSemanticCache

    return langchain(
        RedisSemanticCache(
            embeddings(setting.model),
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
    cache = SemanticCache("redisvl", 1 - SIMILARITY, vectorizer=vectorizer, redis_url=setting.redis)

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

    encode, cache = encoder(setting.model), Cache()
    most = 4.0
    # Served is what scores at least this share of ``most``; |a - b|^2 = 2 - 2 cos.
    least = (most - 2 * (1 - SIMILARITY)) / most
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
        config=Config(similarity_threshold=least, log_time_func=None),
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

    encode, loop = encoder(setting.model), asyncio.new_event_loop()

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
        loop.run_until_complete(cache.aupdate(ask.prompt, llm, [generation(answer(number))]))

    def look(ask: Ask) -> str | None:
        found = loop.run_until_complete(cache.alookup(ask.prompt, llm))
        return str(found[0].message.content) if found else None

    return Contender(store, look)
