"""Check what every judge of two answers promises: True, False or None, and no label that is wrong.

class TestMyJudge(JudgeConformance):
    @pytest.fixture
    def judge(self):
        return my_judge
"""

from __future__ import annotations

from copy import deepcopy

import pytest

from shared_core.learning import Judge
from shared_core.record import Answer

SAME = (
    ("Restart the router, then wait two minutes.",) * 2,
    ("Restart the router, then wait two minutes.", "restart the router then wait two minutes"),
    ("  The museum opens at 9:30.\n", "The museum opens at 9:30."),
    ("Yes.", "yes"),
    ("パスワードを再設定してください。",) * 2,
)
"""Answers that say the same, and differ in spelling at most."""

OTHER = (
    ("The museum opens at 9:30.", "The museum opens at 10:30."),
    ("The fare is 12 euros for adults.", "The fare is 21 euros for adults."),
    ("Yes, dogs are allowed in the park.", "No, dogs are not allowed in the park."),
    ("You may cancel the contract.", "You may not cancel the contract."),
    ("Paris", "Lisbon"),
    ("Open the settings and choose a new password.", "The capital of Portugal is Lisbon."),
    ("It was released on 2021-03-04.", "It was released on 2021-04-03."),
)
"""Answers of which a reader would learn different things."""

ODD = ("", " \n", "?!", "🐈", "nul \0 inside", "lone \ud800 surrogate", "word " * 20_000)


class JudgeConformance:
    """What every judge does. Give a fixture ``judge`` that returns one."""

    @pytest.fixture
    def judge(self) -> Judge:
        raise NotImplementedError("give a fixture `judge` that returns your judge")

    @pytest.mark.parametrize(("one", "other"), SAME)
    def test_answers_that_differ_in_spelling_are_never_judged_different(
        self, judge: Judge, one: str, other: str
    ) -> None:
        assert judge(Answer(one), Answer(other)) in (True, None)
        assert judge(Answer(other), Answer(one)) in (True, None)

    @pytest.mark.parametrize(("one", "other"), OTHER)
    def test_answers_that_say_different_things_are_never_judged_the_same(
        self, judge: Judge, one: str, other: str
    ) -> None:
        assert judge(Answer(one), Answer(other)) in (False, None)
        assert judge(Answer(other), Answer(one)) in (False, None)

    def test_it_tells_some_answers_apart(self, judge: Judge) -> None:
        """A judge that never knows teaches nothing."""
        assert any(judge(Answer(one), Answer(other)) is True for one, other in SAME)
        assert any(judge(Answer(one), Answer(other)) is False for one, other in OTHER)

    @pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
    def test_any_text_gets_a_judgement(self, judge: Judge, text: str) -> None:
        for one, other in [(text, text), (text, "Paris"), ("Paris", text)]:
            found = judge(Answer(one), Answer(other))
            assert found is None or found is True or found is False
        assert judge(Answer(text), Answer(text)) is not False

    def test_the_answers_given_are_left_alone(self, judge: Judge) -> None:
        for one, other in (*SAME, *OTHER):
            given = Answer(one, usage={"input_tokens": 3}), Answer(other, model="gpt")
            before = deepcopy(given)
            judge(*given)
            assert given == before

    def test_it_judges_two_answers_the_same_way_again(self, judge: Judge) -> None:
        for one, other in (*SAME, *OTHER):
            first, again = (judge(Answer(one), Answer(other)) for _ in range(2))
            assert first is again
