"""``CachedQueryEngine``: whole responses, with their source nodes, by question.

query --retrieve, unless a version stands for the index--> Request(question, scope)
      --hit--> response of the cache      --miss--> the engine's own, kept
"""

from __future__ import annotations

from typing import Any

from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.response.schema import RESPONSE_TYPE
from llama_index.core.prompts.mixin import PromptDictType, PromptMixinType
from llama_index.core.schema import NodeWithScore, QueryBundle

from llamaindex_tiered_cache.calls import Call, arun, run
from llamaindex_tiered_cache.opening import open_cache
from llamaindex_tiered_cache.query_form import QueryForm
from llamaindex_tiered_cache.query_request import is_streaming, query_request
from llamaindex_tiered_cache.query_streams import astream_query, stream_query
from shared_core.cache import ResponseCache


class CachedQueryEngine(BaseQueryEngine):
    """A query engine that answers a question it has answered before, in these or other words.

        engine = CachedQueryEngine(index.as_query_engine(), cache, version="handbook 7")

    With ``version`` the question is all that is looked up: nothing is retrieved on a hit, and
    whoever asks the same of the same version gets the same response. It must name the index and its
    state, and change whenever a document or the retriever does. Without it the engine retrieves
    first, and the nodes found, in whatever order, are part of what must be equal: nothing old is
    served, and paraphrases hit only where they retrieve the same.

    Responses hold a mark in ``metadata["tiered_cache"]``. ``cache`` is a ``ResponseCache`` or a
    URL. Raises ValueError for an engine that cannot retrieve by itself and has no version.
    """

    def __init__(
        self,
        engine: BaseQueryEngine,
        cache: ResponseCache | str = "memory://",
        *,
        version: str | int | None = None,
        namespace: str | None = None,
    ) -> None:
        if version is None and type(engine).retrieve is BaseQueryEngine.retrieve:
            raise ValueError(
                f"{type(engine).__name__} does not tell what it retrieves, so version= must say "
                "which state of its documents answers are of"
            )
        self._engine = engine
        self._cache = open_cache(cache)
        self._version = version
        self._namespace = namespace
        super().__init__(callback_manager=engine.callback_manager)

    @property
    def cache(self) -> ResponseCache:
        """Return the cache."""
        return self._cache

    def retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        """Retrieve as the engine does; not cached."""
        return self._engine.retrieve(query_bundle)

    def synthesize(self, *args: Any, **kwargs: Any) -> RESPONSE_TYPE:
        """Synthesize as the engine does; not cached."""
        return self._engine.synthesize(*args, **kwargs)

    async def asynthesize(self, *args: Any, **kwargs: Any) -> RESPONSE_TYPE:
        """Synthesize as the engine does; not cached."""
        return await self._engine.asynthesize(*args, **kwargs)

    def _get_prompts(self) -> PromptDictType:
        prompts: PromptDictType = self._engine._get_prompts()
        return prompts

    def _get_prompt_modules(self) -> PromptMixinType:
        return self._engine._get_prompt_modules()

    def _update_prompts(self, prompts: PromptDictType) -> None:
        self._engine._update_prompts(prompts)

    def _query(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        nodes = None if self._version is not None else self._engine.retrieve(query_bundle)
        call = self._call(query_bundle, nodes)

        def compute() -> RESPONSE_TYPE:
            if nodes is None:
                return self._engine.query(query_bundle)
            return self._engine.synthesize(query_bundle, nodes)

        return stream_query(call, compute) if is_streaming(self._engine) else run(call, compute)

    async def _aquery(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        nodes = None if self._version is not None else await self._aretrieve(query_bundle)
        call = self._call(query_bundle, nodes)

        async def compute() -> RESPONSE_TYPE:
            if nodes is None:
                return await self._engine.aquery(query_bundle)
            return await self._engine.asynthesize(query_bundle, nodes)

        if is_streaming(self._engine):
            return await astream_query(call, compute)
        return await arun(call, compute)

    async def _aretrieve(self, bundle: QueryBundle) -> list[NodeWithScore]:
        aretrieve = getattr(self._engine, "aretrieve", None)
        if aretrieve is None:
            return self._engine.retrieve(bundle)
        found: list[NodeWithScore] = await aretrieve(bundle)
        return found

    def _call(self, bundle: QueryBundle, nodes: list[NodeWithScore] | None) -> Call[RESPONSE_TYPE]:
        request = query_request(self._engine, bundle, nodes, self._version)
        return Call(self._cache, self._namespace, request, QueryForm(nodes))
