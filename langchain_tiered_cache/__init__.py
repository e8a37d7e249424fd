"""The cache behind LangChain's cache interface: ``set_llm_cache(TieredCache())``."""

from langchain_tiered_cache.cache import TieredCache
from langchain_tiered_cache.rag import rag_question
from langchain_tiered_cache.request import Question, parse

__all__ = ["Question", "TieredCache", "parse", "rag_question"]
