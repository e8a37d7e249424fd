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
from shared_core.learning.verifiers import (
    DecisionJudge,
    GrayZone,
    LocalVerifier,
    Verifier,
    VerifyEvent,
    verifier_of,
)

__all__ = [
    "AnswerJudge",
    "DecisionJudge",
    "Denylist",
    "EmbeddingJudge",
    "GrayZone",
    "Judge",
    "LLMJudge",
    "LabelStore",
    "Labeler",
    "LocalVerifier",
    "PendingLabel",
    "PendingLabels",
    "Tuning",
    "Verifier",
    "VerifyEvent",
    "policy_from_json",
    "policy_to_json",
    "read_rows",
    "refused_answers",
    "same_answer",
    "tune",
    "tuning_lines",
    "verifier_of",
]
