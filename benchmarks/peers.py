"""The other caches, each as its documentation has it."""

from __future__ import annotations

import asyncio
import warnings
from typing import Any

from asks import Ask, Model, generation
from contender import MADE, Contender, Setting, embeddings, encoder, langchain


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
            embeddings(setting), setting.redis, name="langchain-semantic", **setting.distance
        )
    )


def redisvl(setting: Setting) -> Contender:
    from redisvl.extensions.cache.llm import SemanticCache
    from redisvl.utils.vectorize import CustomVectorizer, HFTextVectorizer

    vectorizer: Any
    if setting.model == MADE or setting.vectors:
        encode = encoder(setting)
        vectorizer = CustomVectorizer(lambda text, **_: encode([text])[0].tolist())
    else:
        import torch

        torch.set_num_threads(1)
        vectorizer = HFTextVectorizer(setting.model, device="cpu", local_files_only=True)
    cache = SemanticCache(
        "redisvl", vectorizer=vectorizer, redis_url=setting.redis, **setting.distance
    )

    def text(found: Any) -> str | None:
        return str(found[0]["response"]) if found else None

    async def await_look(ask: Ask) -> str | None:
        return text(await cache.acheck(prompt=ask.question))

    return Contender(
        lambda ask, answer: cache.store(prompt=ask.question, response=answer),
        lambda ask: text(cache.check(prompt=ask.question)),
        await_look,
        clear=cache.clear,
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

    encode, cache = encoder(setting), Cache()
    most = 4.0
    given: dict[str, Any] = {"log_time_func": None}
    if setting.similarity is not None:
        # Served is what scores at least this share of ``most``; |a - b|^2 = 2 - 2 cos.
        given["similarity_threshold"] = (most - 2 * (1 - setting.similarity)) / most
    cache.init(
        pre_embedding_func=get_prompt,
        embedding_func=lambda text, **_: np.asarray(encode([text])[0], np.float32),
        data_manager=get_data_manager(
            CacheBase("sqlite", sql_url=f"sqlite:///{setting.folder}/gptcache.db"),
            VectorBase("faiss", dimension=384, index_path=str(setting.folder / "faiss.index")),
            max_size=1_000_000,
        ),
        similarity_evaluation=SearchDistanceEvaluation(most),
        config=Config(**given),
    )
    return Contender(
        lambda ask, answer: put(ask.question, answer, cache_obj=cache),
        lambda ask: get(ask.question, cache_obj=cache),
    )


def betterdb(setting: Setting) -> Contender:
    """Build BetterDB's semantic cache; it has no blocking calls, so that each runs on a loop."""
    from betterdb_semantic_cache import SemanticCache, SemanticCacheOptions
    from betterdb_semantic_cache.adapters.langchain import BetterDBSemanticCache
    from betterdb_semantic_cache.types import AnalyticsOptions
    from valkey.asyncio import Valkey

    encode, loop = encoder(setting), asyncio.new_event_loop()
    given: dict[str, Any] = {"uncertainty_band": 0.0}
    if setting.similarity is not None:
        given["default_threshold"] = 1 - setting.similarity

    async def embed(text: str) -> list[float]:
        return (await asyncio.to_thread(encode, [text]))[0].tolist()

    inner = SemanticCache(
        SemanticCacheOptions(
            client=Valkey.from_url(setting.redis),
            embed_fn=embed,
            name="betterdb",
            analytics=AnalyticsOptions(disabled=True),
            **given,
        )
    )
    cache = BetterDBSemanticCache(inner)
    llm = Model()._get_llm_string(stop=None)

    def store(ask: Ask, answer: str) -> None:
        loop.run_until_complete(cache.aupdate(ask.prompt, llm, [generation(answer)]))

    def look(ask: Ask) -> str | None:
        found = loop.run_until_complete(cache.alookup(ask.prompt, llm))
        return str(found[0].message.content) if found else None

    return Contender(store, look)


def langgraph_redis(setting: Setting) -> Contender:
    """Build the middleware for agents; it looks at the last question of a conversation."""
    from langchain.agents.middleware.types import ModelRequest, ModelResponse
    from langchain_core.load import loads
    from langchain_core.messages import AIMessage
    from langgraph.middleware.redis import SemanticCacheConfig, SemanticCacheMiddleware
    from redisvl.utils.vectorize import CustomVectorizer

    encode, loop = encoder(setting), asyncio.new_event_loop()
    vectorizer = CustomVectorizer(lambda text, **_: encode([text])[0].tolist())
    config = SemanticCacheConfig(redis_url=setting.redis, vectorizer=vectorizer, **setting.distance)
    middleware, model = SemanticCacheMiddleware(config), Model()

    class MissError(Exception):
        """The model was asked."""

    def call(ask: Ask, answer: str | None) -> str | None:
        async def handler(_: Any) -> ModelResponse:
            if answer is None:
                raise MissError
            return ModelResponse(result=[AIMessage(answer)])

        said: list[Any] = loads(ask.prompt)
        system = said.pop(0) if said[0].type == "system" else None
        request = ModelRequest(model=model, messages=said, system_message=system)
        try:
            found: Any = loop.run_until_complete(middleware.awrap_model_call(request, handler))
        except MissError:
            return None
        return str(found.result[-1].content)

    return Contender(call, lambda ask: call(ask, None))


def litellm(setting: Setting) -> Contender:
    """Build LiteLLM's semantic cache on Redis, with the local model in place of an embedding API.

    It has no default: its documentation shows a similarity of 0.8.
    """
    import os

    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    from langchain_core.load import loads
    from litellm import ModelResponse
    from litellm.caching.caching import Cache
    from litellm.caching.redis_semantic_cache import RedisSemanticCache

    encode = encoder(setting)
    RedisSemanticCache._get_embedding = (  # type: ignore[method-assign]
        lambda self, prompt, metadata=None: encode([prompt])[0].tolist()
    )
    cache = Cache(
        type="redis-semantic",
        redis_url=setting.redis,
        similarity_threshold=0.8 if setting.similarity is None else setting.similarity,
    )
    roles = {"system": "system", "human": "user", "ai": "assistant"}

    def call(ask: Ask) -> dict[str, Any]:
        said = [{"role": roles[one.type], "content": one.content} for one in loads(ask.prompt)]
        return {"model": "gpt-4o-mini", "messages": said}

    def store(ask: Ask, answer: str) -> None:
        message = {"role": "assistant", "content": answer}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        cache.add_cache(ModelResponse(model="gpt-4o-mini", choices=[choice]), **call(ask))

    def look(ask: Ask) -> str | None:
        found: Any = cache.get_cache(**call(ask))
        return None if found is None else str(found["choices"][0]["message"]["content"])

    return Contender(store, look)
