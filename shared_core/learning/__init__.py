"""Learn from traffic which answers were right: judges, their labels, and tuned thresholds."""

from typing import TYPE_CHECKING

from shared_core.lazy import lazy_names
from shared_core.learning.judges import AnswerJudge, EmbeddingJudge, Judge, LLMJudge, same_answer
from shared_core.learning.labels import (
    REWRITTEN,
    Denylist,
    Labeler,
    LabelStore,
    PendingLabel,
    PendingLabels,
    refused_answers,
)
from shared_core.learning.tuning import (
    LabelledPair,
    LoggedPair,
    Neighbours,
    Tuning,
    neighbours_of,
    read_rows,
    tune,
    tuning_lines,
)
from shared_core.learning.verifiers import (
    DecisionJudge,
    GrayZone,
    LocalVerifier,
    Verifier,
    VerifyEvent,
    model_name_of,
    reply_text,
    text_method,
    usage_of,
    verifier_of,
)

if TYPE_CHECKING:
    from shared_core.learning.logs import BadLine, LoggedCall, count_lines, read_log
else:
    # No lookup needs them.
    __getattr__, __dir__ = lazy_names(
        __name__,
        {name: "logs" for name in ("BadLine", "LoggedCall", "count_lines", "read_log")},
    )

__all__ = [
    "REWRITTEN",
    "AnswerJudge",
    "BadLine",
    "DecisionJudge",
    "Denylist",
    "EmbeddingJudge",
    "GrayZone",
    "Judge",
    "LLMJudge",
    "LabelStore",
    "Labeler",
    "LabelledPair",
    "LocalVerifier",
    "LoggedCall",
    "LoggedPair",
    "Neighbours",
    "PendingLabel",
    "PendingLabels",
    "Tuning",
    "Verifier",
    "VerifyEvent",
    "count_lines",
    "model_name_of",
    "neighbours_of",
    "read_log",
    "read_rows",
    "refused_answers",
    "reply_text",
    "same_answer",
    "text_method",
    "tune",
    "tuning_lines",
    "usage_of",
    "verifier_of",
]
