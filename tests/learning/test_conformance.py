"""Every judge of the package passes the suite for judges."""

from __future__ import annotations

import json

import pytest

from shared_core.embedding import Embedder
from shared_core.learning import EmbeddingJudge, Judge, LLMJudge, same_answer
from shared_core.testing import JudgeConformance


class TestByWords(JudgeConformance):
    @pytest.fixture
    def judge(self) -> Judge:
        return same_answer


def compare(prompt: str) -> str:
    """Judge as a model would that compares letters and digits."""
    texts = json.loads(prompt[prompt.rindex("{\n") :])
    one, two = (
        "".join(letter for letter in text.casefold() if letter.isalnum()) for text in texts.values()
    )
    return "SAME" if one == two else "DIFFERENT"


class TestByAModel(JudgeConformance):
    @pytest.fixture
    def judge(self) -> Judge:
        return LLMJudge(compare)


@pytest.mark.model
class TestByVectors(JudgeConformance):
    @pytest.fixture
    def judge(self, model_embedder: Embedder) -> Judge:
        return EmbeddingJudge(model_embedder)
