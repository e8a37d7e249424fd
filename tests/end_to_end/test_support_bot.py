"""The support bot of the benchmarks: what a new app gets of the cache with the default policy."""

from __future__ import annotations

import pytest

from benchmarks.support_bot import read_questions, run
from shared_core.embedding import SentenceTransformerEmbedder


def test_each_answer_has_five_wordings() -> None:
    questions = read_questions()
    answers = list(questions.values())
    assert len(set(answers)) == 40
    assert {answers.count(answer) for answer in answers} == {5}


@pytest.mark.model
def test_in_its_first_requests_a_bot_is_answered_by_meaning_and_hardly_wrongly() -> None:
    embedder = SentenceTransformerEmbedder()
    runs = [run(seed, 400, embedder) for seed in range(2)]
    assert all(one.first is not None for one in runs)
    assert sum(one.semantic for one in runs) >= 20
    assert sum(one.wrong for one in runs) <= 2
