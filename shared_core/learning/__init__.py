"""Learn from traffic which answers were right: judges, their labels, and tuned thresholds."""

from shared_core.learning.judges import AnswerJudge, EmbeddingJudge, Judge, LLMJudge, same_answer
from shared_core.learning.labels import (
    Denylist,
    Labeler,
    LabelStore,
    PendingLabel,
    PendingLabels,
    refused_answers,
)
from shared_core.learning.pairs import read_rows
from shared_core.learning.tuning import (
    Tuning,
    policy_from_json,
    policy_to_json,
    tune,
    tuning_lines,
)

__all__ = [
    "AnswerJudge",
    "Denylist",
    "EmbeddingJudge",
    "Judge",
    "LLMJudge",
    "LabelStore",
    "Labeler",
    "PendingLabel",
    "PendingLabels",
    "Tuning",
    "policy_from_json",
    "policy_to_json",
    "read_rows",
    "refused_answers",
    "same_answer",
    "tune",
    "tuning_lines",
]
