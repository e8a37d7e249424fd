"""The cache behind LangChain's cache interface: ``set_llm_cache(TieredCache())``."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from langchain_tiered_cache.cache import TieredCache, get_cache_trace
from langchain_tiered_cache.request import Question, parse, rag_question

if TYPE_CHECKING:
    from langchain_tiered_cache.embeddings import CachedEmbeddings, TieredByteStore
    from langchain_tiered_cache.models import cached_model
    from langchain_tiered_cache.nodes import TieredNodeCache


__all__ = [
    "CachedEmbeddings",
    "Question",
    "TieredByteStore",
    "TieredCache",
    "TieredNodeCache",
    "cached_model",
    "get_cache_trace",
    "parse",
    "rag_question",
]

_LATER = {
    "CachedEmbeddings": "embeddings",
    "TieredByteStore": "embeddings",
    "TieredNodeCache": "nodes",
    "cached_model": "models",
}
"""Names to the modules that load LangChain's models and stores, when they are asked for."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
