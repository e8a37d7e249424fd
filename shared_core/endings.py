"""Say whether a model's answer is whole and good, from how it ended, in all providers' spellings.

Answer -> flaw_of -> None: kept and served again | "cut" "empty" "error" "unfinished": its caller's
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared_core.record import Answer
    from shared_core.request import Request

UNFINISHED = "unfinished"
"""The flaw of an answer that ended without the reason that its provider always gives."""
CUT, EMPTY, ERROR = "cut", "empty", "error"

_KIN = re.compile(
    r"length|limit|max_|maximum|filter|safety|error|fail|cancel|abort|time_?out|block|refus"
    r"|incomplete|truncat|interrupt|guardrail|prohibit|malformed|exceeded|overload|recitation"
    r"|toxic|moderat|insufficient|sensitive|unexpected|too_many"
)
"""What is in the reasons of answers that are not whole, of all providers, in lower case."""

_ODD = frozenset(
    {"other", "language", "spii", "model_armor", "image_other", "no_image", "unspecified",
     "finish_reason_unspecified", "load", "unload", "pause_turn", "unknown"}
)  # fmt: skip
"""Reasons that do not say so by their words: Google's, Ollama's, a turn that is to go on."""

_NORMAL = frozenset({"stop_sequence", "max_marginal_relevance"})


@lru_cache(256)
def is_cut_off(finish_reason: str | None) -> bool:
    """Say whether a reason to finish means that the answer is not whole, or not the model's own."""
    reason = (finish_reason or "").lower().rpartition(".")[2].replace("-", "_").replace(" ", "_")
    if not reason or reason in _NORMAL:
        return False
    return reason in _ODD or _KIN.search(reason) is not None


ALWAYS_SAY: Mapping[str, frozenset[str]] = {
    "langchain": frozenset({"openai", "anthropic", "google", "mistralai", "groq", "ollama"}),
    "llamaindex": frozenset({"openai"}),
}
"""By framework, the providers whose classes hand on a reason to finish with every whole answer, in
streams too: without one, an answer was cut. Of others it is learnt."""

MOST_SOURCES = 1000
_PROVIDER = re.compile(r'"provider":"([^"\\]*)"')


class Endings:
    """Learns whose whole answers say why they ended: without a reason, others of theirs were cut.

    Of a source that never gives one, a stream that ends without an error is whole.
    """

    def __init__(self) -> None:
        self._say: set[str] = set()
        self._lock = threading.Lock()

    def is_unfinished(self, request: Request, framework: str, way: str, reason: str | None) -> bool:
        """Say whether a reason is missing; ``way`` names how the framework asks its model."""
        providers = _PROVIDER.findall(request.scope)  # the parameters come after the messages
        provider = providers[-1] if providers else ""
        source = f"{framework} {provider} {request.model} {way}"
        if reason is None:
            return provider in ALWAYS_SAY[framework] or source in self._say
        if source not in self._say and len(self._say) < MOST_SOURCES:
            with self._lock:
                self._say.add(source)
        return False


def flaw_of(answer: Answer) -> str | None:
    """Return why an answer is not to be served again, None if it is whole and good."""
    if answer.flaw is not None:
        return answer.flaw
    if is_cut_off(answer.finish_reason):
        return ERROR if (answer.finish_reason or "").lower() == ERROR else CUT
    # Of other formats, those who wrote them know what else an answer holds.
    return EMPTY if answer.format == "text" and not answer.text.strip() else None
