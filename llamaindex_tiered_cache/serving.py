"""What the caller gets: new responses with a mark, and an event on every hit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal

from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.base import BaseEvent

from llamaindex_tiered_cache.responses import (
    MARK,
    Delta,
    Kept,
    Response,
    answer_of,
    chunks_of,
    response_of,
)
from llamaindex_tiered_cache.usage import without_usage
from shared_core.events import LookupEvent
from shared_core.record import Answer, Hit

FLIGHT = "flight"
"""The tier of an answer that another call, under way, brought."""

_dispatcher = get_dispatcher(__name__)


class TieredCacheHitEvent(BaseEvent):
    """An answer came from the cache: no event of the model follows, and no token was spent.

    ``age`` is in seconds; ``entry_id`` is for ``ResponseCache.feedback``.
    """

    model: str
    tier: str
    similarity: float
    entry_id: str
    age: float

    @classmethod
    def class_name(cls) -> str:
        """Return the name that handlers see."""
        return "TieredCacheHitEvent"


@dataclass(frozen=True, slots=True)
class Serving:
    """How one answer was served; ``age`` is in seconds."""

    tier: str
    similarity: float
    entry_id: str
    age: float

    @classmethod
    def of_hit(cls, hit: Hit) -> Serving:
        """Describe what a lookup found."""
        return cls(str(hit.tier), hit.similarity, hit.entry_id, hit.age)

    @classmethod
    def of_event(cls, event: LookupEvent) -> Serving:
        """Describe what a lookup found, or, if it found nothing, what a call under way brought."""
        if event.tier is None or event.entry_id is None:
            return cls(FLIGHT, 1.0, event.key, 0.0)
        return cls(str(event.tier), event.similarity or 1.0, event.entry_id, event.age or 0.0)

    def mark(self, answer: Answer) -> dict[str, Any]:
        """Return what a response says of itself."""
        return {
            "hit": True,
            "tier": self.tier,
            "similarity": self.similarity,
            "entry_id": self.entry_id,
            "age": self.age,
            "usage": None if answer.usage is None else dict(answer.usage),
        }

    def tell(self, model: str) -> None:
        """Emit the event, in the span of the endpoint that answers."""
        _dispatcher.event(
            TieredCacheHitEvent(
                model=model,
                tier=self.tier,
                similarity=self.similarity,
                entry_id=self.entry_id,
                age=self.age,
            )
        )


@dataclass(frozen=True, slots=True)
class ResponseForm(Generic[Response]):
    """How one kind of response is written into answers, read from them and marked."""

    kind: type[Response]
    kept: Kept
    hit_usage: Literal["mark", "keep"]

    def write(self, response: Response, deltas: Sequence[Delta] | None = None) -> Answer | None:
        """Return the answer that a response gives, None if it cannot be kept."""
        if not isinstance(response, self.kind):
            return None
        return answer_of(response, self.kept, deltas)

    def read(self, answer: Answer, serving: Serving) -> Response:
        """Build a new response. Raises ValueError if the answer cannot be read."""
        return self._marked(response_of(answer, self.kind), serving.mark(answer))

    def chunks(self, answer: Answer, serving: Serving) -> Iterator[Response]:
        """Build the chunks of a stream. Raises ValueError, at once, if it cannot be read."""
        chunks = chunks_of(answer, self.kind)
        mark = serving.mark(answer)
        return (self._marked(chunk, mark) for chunk in chunks)

    def _marked(self, response: Response, mark: dict[str, Any]) -> Response:
        more = response.additional_kwargs
        if self.hit_usage == "mark":
            more = without_usage(more)
        response.additional_kwargs = {**more, MARK: dict(mark)}
        return response

    def fresh(self, response: Response, entry_id: str | None) -> Response:
        """Note under which id the model's own response is kept; its other fields are the same."""
        mark = {"hit": False, "entry_id": entry_id}
        more = {**response.additional_kwargs, MARK: mark}
        return response.model_copy(update={"additional_kwargs": more})
