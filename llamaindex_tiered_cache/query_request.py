"""Makes a ``Request`` of a question to a query engine: engine, and version or nodes, are scope."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.llms.llm import LLM
from llama_index.core.schema import NodeWithScore, QueryBundle

from llamaindex_tiered_cache.components import Unstable, function_name, plain
from llamaindex_tiered_cache.llm import uncached
from llamaindex_tiered_cache.llm_parameters import parameters_of
from llamaindex_tiered_cache.question import why_exact_only
from shared_core.request import Request

QUERY_FORMAT = "llamaindex-query/1"
"""Format of whole responses with their source nodes."""

_UNREADABLE = (TypeError, ValueError, KeyError, AttributeError, RecursionError)


def query_request(
    engine: BaseQueryEngine,
    bundle: QueryBundle,
    nodes: Sequence[NodeWithScore] | None,
    version: str | int | None,
) -> Request:
    """Build the request of one query; one that has no stable identity is uncacheable.

    The scope holds the nodes that were retrieved, in no order, or else the version.
    """
    try:
        if bundle.image_path:
            raise Unstable("a file that may change")
        context: dict[str, Any] = {"form": "query", "engine": _identity(engine)}
        if nodes is None:
            context["version"] = version
        else:
            context["nodes"] = sorted(one.node.hash for one in nodes)
        strings = bundle.custom_embedding_strs
        if strings and strings != [bundle.query_str]:
            context["retrieved_by"] = plain(strings)
        llm = _llm(engine)
        return Request.of(
            bundle.query_str,
            params=None if llm is None else parameters_of(llm, {}),
            context=context,
            exact_only=why_exact_only(bundle.query_str),
            format=QUERY_FORMAT,
        )
    except _UNREADABLE:
        return Request(None, "", "", "unstable", QUERY_FORMAT, uncacheable="unstable")


def is_streaming(engine: BaseQueryEngine) -> bool:
    """Tell whether an engine answers in streams."""
    return bool(getattr(_synthesizer(engine), "_streaming", False))


def _identity(engine: BaseQueryEngine) -> dict[str, Any]:
    """Return what of an engine its answers depend on, besides documents and LLM."""
    synthesizer = _synthesizer(engine)
    identity = {
        "class": f"{type(engine).__module__}.{type(engine).__qualname__}",
        "synthesizer": type(synthesizer).__qualname__,
        "streaming": is_streaming(engine),
        "output": plain(getattr(synthesizer, "_output_cls", None)),
        "prompts": {name: _prompt(prompt, engine) for name, prompt in engine.get_prompts().items()},
    }
    return {name: value for name, value in identity.items() if value is not None}


def _prompt(prompt: Any, engine: BaseQueryEngine) -> list[Any]:
    functions = getattr(prompt, "function_mappings", None) or {}
    return [
        prompt.get_template(llm=_llm(engine)),
        plain(getattr(prompt, "kwargs", {})),
        {name: function_name(function) for name, function in functions.items()},
    ]


def _synthesizer(engine: BaseQueryEngine) -> Any:
    return getattr(engine, "_response_synthesizer", None)


def _llm(engine: BaseQueryEngine) -> LLM | None:
    for owner in (_synthesizer(engine), engine):
        for name in ("_llm", "llm"):
            llm = getattr(owner, name, None)
            if isinstance(llm, LLM):
                return uncached(llm)
    return None
