"""What the caller gets: new generations with a mark on a hit, the mark alone on a miss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, Generation

from langchain_tiered_cache.messages import MARK, generations_of
from shared_core.record import Hit

_COST_OF_A_HIT = {"total_cost": 0}


class ServedGeneration(ChatGeneration):
    """A chat generation out of the cache, whose message has no usage.

    On every hit langchain-core replaces the message by a copy with ``usage_metadata["total_cost"] =
    0``. Of a message without usage that makes a usage without its required fields, which does not
    validate when the message is sent or stored again; here it stays None.
    """

    @classmethod
    def lc_id(cls) -> list[str]:
        """Return the id of the class that this one stands for."""
        return [*cls.get_lc_namespace(), "ChatGeneration"]

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "message" and getattr(value, "usage_metadata", None) == _COST_OF_A_HIT:
            value.usage_metadata = None
        super().__setattr__(name, value)


def served(hit: Hit, hit_usage: Literal["mark", "keep"]) -> list[Generation]:
    """Build the generations of a hit, new objects each time; chat messages get a mark.

    A plain ``Generation`` has no place for a mark and stays as it was stored. Raises ValueError if
    the stored answer cannot be read.
    """
    return [_marked(generation, hit, hit_usage) for generation in generations_of(hit.answer)]


def _marked(generation: Generation, hit: Hit, hit_usage: Literal["mark", "keep"]) -> Generation:
    message = generation.message if isinstance(generation, ChatGeneration) else None
    if not isinstance(message, AIMessage):
        return generation
    message.response_metadata[MARK] = {
        "hit": True,
        "tier": str(hit.tier),
        "similarity": hit.similarity,
        "entry_id": hit.entry_id,
        "age": hit.age,
        "usage": message.usage_metadata,
    }
    if hit_usage == "keep":
        return generation
    message.usage_metadata = None
    if type(generation) is not ChatGeneration:
        return generation
    return ServedGeneration(message=message, generation_info=generation.generation_info)


def mark_as_fresh(generations: Sequence[Generation], entry_id: str | None) -> None:
    """Note in the caller's own chat messages the id under which the model's answer is kept."""
    for generation in generations:
        if isinstance(generation, ChatGeneration):
            message = generation.message
            mark = {"hit": False, "entry_id": entry_id}
            message.response_metadata = {**message.response_metadata, MARK: mark}
