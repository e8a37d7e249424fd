"""What the semantic tier reads in a question: may it be matched by meaning, and its vector."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from shared_core.embedding.memo import Memo
from shared_core.embedding.recognition import known_model
from shared_core.options import Options
from shared_core.record import Neighbour
from shared_core.request import Request
from shared_core.resilience import Fuse, Unavailable
from shared_core.thresholds import Candidate

if TYPE_CHECKING:
    from shared_core.guard import Difference
    from shared_core.record import Vector

EMBEDDER_REST_S = 30.0
ROUNDING = 1e-6


class Reader:
    """The guard and the embedder, each behind a fuse. Methods raise Unavailable when one fails.

    ``count_error`` counts a failure of a part in the cache's counters.
    """

    def __init__(self, options: Options, count_error: Callable[[str], None]) -> None:
        self._guard = options.chosen_guard()
        self._guard_fuse = Fuse("guard", count_error)
        self._memo = Memo(options.embedder, load=options.load)
        self.embedder_fuse = Fuse("embedder", count_error, rest=EMBEDDER_REST_S)
        self.preload = self._memo.preload
        self.when_ready = self._memo.when_ready

    @property
    def ready(self) -> bool:
        """Say whether a vector can be had without waiting for the model to load."""
        return self._memo.ready

    def why_exact_only(self, request: Request) -> str | None:
        """Return why the request is never matched by meaning, else None."""
        if request.exact_only is not None or request.question is None:
            return request.exact_only or "not_user_text"
        if not request.question.strip():
            return "not_user_text"
        guard = self._guard
        if guard is not None and not self._guard_fuse.call(guard.timeless, request.question):
            return "time"
        return None

    def embed(self, question: str) -> tuple[str, Vector] | None:
        """Return the question's space and vector, None if it is longer than the model reads."""

        def embed() -> tuple[str, Vector] | None:
            if self._memo.truncates(question):
                return None
            vector = self._memo.vector(question)  # first: it may tell what the space is
            return self._memo.space, vector

        return self.embedder_fuse.call(embed)

    def model_of(self, space: str) -> str:
        """Return the name of the model that this space's vectors are of, else the space's."""
        try:
            return self.embedder_fuse.call(known_model, space, self._memo.vector)
        except Unavailable:  # counted; then it is a model that nobody knows
            return space

    def candidate(self, question: str, one: Neighbour, floor: float) -> Candidate:
        """Return what a policy is told of a neighbour, with differences from ``floor`` on."""
        cached = one.record.question or ""
        guard = self._guard
        differences: tuple[Difference, ...] = ()
        if guard is not None and one.similarity >= floor - ROUNDING:
            differences = self._guard_fuse.call(guard.differences, question, cached)
        return Candidate(one.similarity, differences, cached, one.record.group or one.record.key)
