"""Puts a cache before the models that LlamaIndex' ``Settings`` name: ``install(url)``."""

from __future__ import annotations

from typing import Any, Unpack

from llama_index.core import Settings
from llama_index.core.llms.llm import LLM

from llamaindex_tiered_cache.embeddings import CachedEmbedding
from llamaindex_tiered_cache.llm import cached_llm
from shared_core.cache import ResponseCache
from shared_core.options import CacheOptions, shows_options


class InstallOptions(CacheOptions, total=False):
    """The options of ``install``: those of ``ResponseCache.open`` and of ``cached_llm``."""

    cache_tool_calls: bool
    keep_raw: bool


_OF_LLM = ("namespace", "semantic", "cache_tool_calls", "keep_raw")


@shows_options
def install(
    cache: ResponseCache | str = "memory://",
    *,
    embeddings: bool = False,
    **options: Unpack[InstallOptions],
) -> LLM:
    """Put a cache before ``Settings.llm`` and return the LLM.

        install("sqlite:///answers.db", threshold=0.92, ttl=86_400, embeddings=True)

    ``cache`` is the URL of a cache, or a ``ResponseCache``. With a URL, ``options`` are those of
    ``ResponseCache.open``; with both, ``namespace``, ``semantic``, ``cache_tool_calls`` and
    ``keep_raw`` are those of ``cached_llm``. ``embeddings=True`` caches ``Settings.embed_model``
    too, so that a query that is known calls nothing at all.

    Engines and agents made from now on use it; those made before hold the LLM they were given.
    Raises ValueError for options that make no sense.
    """
    terms: dict[str, Any] = {name: options[name] for name in _OF_LLM if name in options}  # type: ignore[literal-required]
    semantic = terms.pop("semantic", True)
    if semantic not in (True, False, "auto", "off"):
        raise ValueError(f"semantic must be True or False, not {semantic!r}")
    is_semantic = semantic in (True, "auto")
    of_cache = {name: value for name, value in options.items() if name not in _OF_LLM}
    if isinstance(cache, str):
        if "namespace" in terms:
            of_cache["namespace"] = terms.pop("namespace")
        cache = ResponseCache.open(cache, semantic=is_semantic, **of_cache)  # type: ignore[arg-type]
    elif of_cache:
        raise ValueError(
            f"the cache is open already: {', '.join(of_cache)} must go where it is opened"
        )
    terms["semantic"] = "auto" if is_semantic else "off"
    llm = cached_llm(Settings.llm, cache, **terms)
    if embeddings and not isinstance(Settings.embed_model, CachedEmbedding):
        Settings.embed_model = CachedEmbedding(
            Settings.embed_model, cache, namespace=terms.get("namespace")
        )
    Settings.llm = llm
    return llm
