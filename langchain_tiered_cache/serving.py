"""What the caller gets: new generations with a mark on a hit, the mark alone on a miss."""

from __future__ import annotations

from collections.abc import Sequence
from secrets import token_hex
from typing import Any, Literal

from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.utils.utils import LC_ID_PREFIX

from langchain_tiered_cache.messages import MARK, ServedGeneration, generations_of
from shared_core.record import Hit, Outcome


def served(hit: Hit, hit_usage: Literal["mark", "keep"]) -> list[Generation]:
    """Build the generations of a hit, new objects each time; chat messages get a mark.

    A plain ``Generation`` has no place for a mark and stays as it was stored. Raises ValueError if
    the stored answer cannot be read.
    """
    is_kept = hit_usage == "keep"
    found = generations_of(hit.answer, ChatGeneration if is_kept else ServedGeneration)
    for generation in found:
        if isinstance(generation, ChatGeneration) and isinstance(generation.message, AIMessage):
            _mark(generation.message, hit)
            if not is_kept:
                generation.message.usage_metadata = None
    return found


def _mark(message: AIMessage, hit: Hit) -> None:
    message.id = f"{LC_ID_PREFIX}-{token_hex(16)}"  # a graph's state replaces messages of equal ids
    message.response_metadata[MARK] = {
        "hit": True,
        "tier": str(hit.tier),
        "similarity": hit.similarity,
        "entry_id": hit.entry_id,
        "age": hit.age,
        "usage": message.usage_metadata,
    }
    if hit.is_stale:
        message.response_metadata[MARK]["stale"] = True


def told_of(outcome: Outcome) -> dict[str, Any]:
    """Return what the metadata of a run say of its lookup: flat, for filters know no mappings."""
    if not isinstance(outcome, Hit):
        return {f"{MARK}_hit": False}
    return {
        f"{MARK}_hit": True,
        f"{MARK}_tier": str(outcome.tier),
        f"{MARK}_similarity": outcome.similarity,
        f"{MARK}_entry_id": outcome.entry_id,
    }


def mark_as_fresh(generations: Sequence[Generation], entry_id: str | None) -> None:
    """Note in the caller's own chat messages the id under which the model's answer is kept."""
    for generation in generations:
        if isinstance(generation, ChatGeneration):
            message = generation.message
            mark = {"hit": False, "entry_id": entry_id}
            message.response_metadata = {**message.response_metadata, MARK: mark}
