"""The caches that are compared, each as its documentation has it, with one model and one Redis.

All answer at the cosine of ``Setting.similarity``, or as they come where that is None. Where a
cache takes the bare question, it gets that; LangChain's caches are given LangChain's prompt.
``Setting.model`` is the folder of the weights, or "made" for vectors that are made up at once: what
is left then is what a cache does itself.

To add a contender, write one file, outside of this repository or in it:

    # acme.py
    from contender import Contender, Entry, encoder

    def build(setting):
        from acme import Cache  # here, so that others start without it

        cache = Cache(embed=encoder(setting), threshold=setting.similarity)
        return Contender(
            store=lambda ask, answer: cache.put(ask.question, answer),
            look=lambda ask: cache.get(ask.question),  # the text of its answer, or None
        )

    ENTRIES = {"Acme cache": Entry(build, ("acme",), judged="tuned")}

and name its folder: ``CONTENDERS=folder python benchmarks/quality.py --data … --caches "Acme
cache"``. Every file in it is read. ``judged="tuned"`` says that it has a threshold, which is then
chosen as for the others. If it needs packages that clash with ours, name a folder of .bench-envs as
its ``environment``; ``environments.py`` makes those. To have it timed as well, add its name to
TIERS in ``tiers.py``.
"""

from __future__ import annotations

import os
import random
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import floors
import peers
from asks import drain
from contender import DEFAULT, MADE, TUNED, Contender, Entry, Setting, kept, langchain, made
from vcache import vcache


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
            embedder = SentenceTransformerEmbedder(setting.model, route=route)  # type: ignore[arg-type]
            if setting.vectors:
                embedder.embed = kept(embedder.embed, setting.vectors)  # type: ignore[method-assign]
            options["embedder"] = embedder
        options.setdefault("threshold", setting.similarity)
    cache = TieredCache(url, timeout=5.0, **options)
    return replace(langchain(cache, cache.close), settle=lambda: drain(cache.cache))


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


def _verified(setting: Setting) -> Any:
    """Return the default policy, with a prior fitted without the set that is judged."""
    from shared_core import Verified
    from shared_core.thresholds.prior import Prior

    if not setting.prior:
        return Verified()
    return Verified(prior=Prior.from_json(Path(setting.prior).read_text()))


def ours_default(setting: Setting) -> Contender:
    return _ours("memory://", setting, "onnx", threshold=_verified(setting))


def ours_anytime(setting: Setting) -> Contender:
    policy = replace(_verified(setting), guarantee="anytime")
    return _ours("memory://", setting, "onnx", threshold=policy)


def ours_verifier(setting: Setting) -> Contender:
    """Build ours with a verifier that is right in 99 % of its words, as a good model may be."""
    rng = random.Random(0)

    def verify(asked: str, cached: str) -> bool:
        same = setting.answers.get(asked) == setting.answers.get(cached)
        return same if rng.random() < 0.99 else not same

    return _ours("memory://", setting, "onnx", threshold=_verified(setting), verifier=verify)


OURS = ("langchain-core",)
ENTRIES = {
    "TieredCache, memory": Entry(ours_memory, OURS, judged=TUNED),
    "TieredCache, memory, exact only": Entry(ours_memory_exact, OURS),
    "TieredCache, sqlite": Entry(ours_sqlite, OURS),
    "TieredCache, sqlite, exact only": Entry(ours_sqlite_exact, OURS),
    "TieredCache, redis": Entry(ours_redis, OURS),
    "TieredCache, redis, sentence-transformers": Entry(ours_redis_library, OURS),
    "TieredCache, redis, exact only": Entry(ours_redis_exact, OURS),
    "langchain-core InMemoryCache": Entry(
        peers.langchain_memory, ("langchain-core",), judged=DEFAULT
    ),
    "langchain-community SQLiteCache": Entry(peers.langchain_sqlite, ("langchain-community",)),
    "langchain-redis RedisCache": Entry(
        peers.langchain_redis_exact, ("langchain-redis",), "langchain-redis"
    ),
    "langchain-redis RedisSemanticCache": Entry(
        peers.langchain_redis, ("langchain-redis", "redisvl"), "langchain-redis", judged=TUNED
    ),
    "RedisVL SemanticCache": Entry(
        peers.redisvl, ("redisvl",), asked="the bare question", judged=TUNED
    ),
    "GPTCache, sqlite and faiss": Entry(
        peers.gptcache, ("gptcache", "faiss-cpu"), "gptcache", "the bare question", judged=TUNED
    ),
    "BetterDB SemanticCache": Entry(
        peers.betterdb,
        ("betterdb-semantic-cache", "valkey"),
        "betterdb",
        "LangChain's prompt, awaited",
        judged=TUNED,
    ),
    "TieredCache, default": Entry(ours_default, OURS, judged=DEFAULT),
    "TieredCache, anytime": Entry(ours_anytime, OURS, judged=DEFAULT),
    "TieredCache, verifier right in 99 %": Entry(ours_verifier, OURS, judged=DEFAULT),
    "langgraph-checkpoint-redis middleware": Entry(
        peers.langgraph_redis,
        ("langgraph-checkpoint-redis", "redisvl"),
        "langgraph-redis",
        "the last question of the conversation",
        judged=TUNED,
    ),
    "LiteLLM, redis-semantic": Entry(
        peers.litellm, ("litellm", "redisvl"), "litellm", "the messages of the call", judged=TUNED
    ),
    "vCache's algorithm": Entry(vcache, ("scipy",), asked="the bare question", judged=DEFAULT),
    "floor: a dictionary": Entry(floors.dictionary, ()),
    "floor: one GET": Entry(floors.one_get, ("redis",)),
    "floor: one pass of the model": Entry(
        floors.one_pass, ("onnxruntime",), asked="the bare question"
    ),
    "floor: one pass of the model, one FT.SEARCH": Entry(
        floors.pass_and_search, ("onnxruntime", "redis"), asked="the bare question"
    ),
}


def of_others(folder: str) -> dict[str, Entry]:
    """Read the contenders that others added: ENTRIES of every file of a folder, "" for none."""
    found: dict[str, Entry] = {}
    for file in sorted(Path(folder).glob("*.py")) if folder else ():
        found |= runpy.run_path(str(file))["ENTRIES"]
    return found


ENTRIES |= of_others(os.environ.get("CONTENDERS", ""))
