"""Let LlamaIndex's evaluators label what the cache served."""

from __future__ import annotations

from typing import Any

from llama_index.core.evaluation import EvaluationResult

from llamaindex_tiered_cache.answers import MARK
from shared_core.cache import ResponseCache
from shared_core.controls import LookupEvent, StoreEvent, Trace


def feedback_from(cache: ResponseCache, answered: Any, result: EvaluationResult) -> int:
    """Pass an evaluator's verdict to ``cache.feedback``; return how many answers it labels.

        with cache.trace() as trace:
            response = engine.query(question)
        feedback_from(cache, trace, FaithfulnessEvaluator().evaluate_response(response=response))

    ``answered`` says which answers were judged: a trace, a response of a cached LLM or query
    engine, or an entry id. An invalid result, or one that neither passes nor fails, labels none.
    """
    if result.invalid_result or result.passing is None:
        return 0
    entry_ids = dict.fromkeys(_entry_ids(answered))
    for entry_id in entry_ids:
        cache.feedback(entry_id, correct=result.passing)
    return len(entry_ids)


def _entry_ids(answered: Any) -> list[str]:
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
