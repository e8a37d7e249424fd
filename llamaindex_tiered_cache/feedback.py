"""Let LlamaIndex's evaluators label what the cache served."""

from __future__ import annotations

from typing import Any

from llama_index.core.evaluation import EvaluationResult

from llamaindex_tiered_cache.answers import MARK
from shared_core.cache import ResponseCache
from shared_core.controls import LookupEvent, StoreEvent, Trace


def feedback_from(cache: ResponseCache, answered: Any, result: EvaluationResult) -> int:
    """Pass an evaluator's verdict to ``cache.feedback``; return how many answers it labels.

    - ``cache``: the cache that served or kept the answers
    - ``answered``: which answers were judged: a trace, a response of a cached LLM or query engine,
      or an entry id
    - ``result``: what the evaluator said; an invalid one, or one that neither passes nor fails,
      labels none

    A served answer that fails is not served for that question again; the policy learns from both.
    Raises nothing: an entry that is no longer known is ignored and counted.

        cache = cache_of(Settings.llm)
        with cache.trace() as trace:
            response = engine.query(question)
        verdict = FaithfulnessEvaluator().evaluate_response(response=response)
        feedback_from(cache, trace, verdict)
    """
    if result.invalid_result or result.passing is None:
        return 0
    entry_ids = dict.fromkeys(_entry_ids(answered))
    for entry_id in entry_ids:
        cache.feedback(entry_id, correct=result.passing)
    return len(entry_ids)


def _entry_ids(answered: Any) -> list[str]:
    """Return the ids of the entries that an object names, in order."""
    if isinstance(answered, str):
        return [answered]
    if isinstance(answered, Trace):
        events = [e for e in answered.events if isinstance(e, (LookupEvent, StoreEvent))]
        return [event.entry_id for event in events if event.entry_id is not None]
    for holder in ("additional_kwargs", "metadata"):
        mark = (getattr(answered, holder, None) or {}).get(MARK)
        if mark and mark["entry_id"]:
            return [mark["entry_id"]]
    return []
