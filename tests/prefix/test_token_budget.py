"""Room for the answer, and history trimmed to make it."""

from __future__ import annotations

from typing import Any

import pytest

from shared_core.prefix.token_budget import NoRoomError, Room, TokenBudget, estimate_tokens


def words(text: str) -> int:
    return len(text.split())


def turn(user: str, *rest: tuple[str, str]) -> list[dict[str, Any]]:
    messages = [{"role": "user", "content": user}]
    return messages + [{"role": role, "content": text} for role, text in rest]


SYSTEM = [{"role": "system", "content": "Be brief please."}]  # 3 words and 4 around them


def test_room_is_what_the_window_has_without_reserve_and_prompt() -> None:
    budget = TokenBudget(1000, reserve=0.25, count=words)
    assert budget.room("one two three") == Room(747, 3, is_estimate=False)
    assert budget.room(SYSTEM).tokens == 750 - 7


def test_the_cap_of_an_answer_holds() -> None:
    assert TokenBudget(1000, reserve=0, cap=100, count=words).room("one").tokens == 100


def test_without_a_count_of_the_models_own_it_is_an_estimate_and_says_so() -> None:
    room = TokenBudget(1000).room("a" * 400)
    assert room == Room(700, 100, is_estimate=True)


@pytest.mark.parametrize(
    ("text", "tokens"), [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("日本", 2)]
)
def test_an_estimate_is_a_quarter_of_the_bytes(text: str, tokens: int) -> None:
    assert estimate_tokens(text) == tokens


def test_no_room_is_an_error_that_says_how_much_is_missing() -> None:
    budget = TokenBudget(10, reserve=0.2, count=words)
    with pytest.raises(NoRoomError, match=r"takes 9 tokens.*only 8 .* window's 10 .* by 2 or more"):
        budget.room("a b c d e f g h i")
    with pytest.raises(NoRoomError, match="about"):
        TokenBudget(10).room("a" * 100)


def test_trimming_drops_the_oldest_turns_and_keeps_system_and_last() -> None:
    old, middle, last = (turn(f"{n} two", ("assistant", "yes")) for n in ("a", "b", "c"))
    budget = TokenBudget(50, reserve=0, count=words)
    messages = [*SYSTEM, *old, *middle, *last]
    assert budget.trim(messages, answer=10) == messages
    assert budget.trim(messages, answer=11) == [*SYSTEM, *middle, *last]
    assert budget.trim(messages, answer=32) == [*SYSTEM, *last]


def test_trimming_never_parts_a_tools_result_from_its_call() -> None:
    calling = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "1", "name": "t", "args": {}}]},
        {"role": "tool", "tool_call_id": "1", "content": "b"},
        {"role": "assistant", "content": "c"},
    ]
    last = turn("d")
    budget = TokenBudget(100, reserve=0, count=words)
    needed = budget.tokens([*calling, *last])
    assert budget.trim([*calling, *last], answer=100 - needed) == [*calling, *last]
    assert budget.trim([*calling, *last], answer=101 - needed) == last


def test_trimming_leaves_the_room_that_was_asked_for() -> None:
    messages = [*SYSTEM, *(m for n in range(20) for m in turn(f"q{n} " * n, ("assistant", "a")))]
    budget = TokenBudget(200, reserve=0.1, count=words)
    for answer in range(1, 120, 7):
        assert budget.room(budget.trim(messages, answer)).tokens >= answer


def test_what_cannot_be_trimmed_is_an_error() -> None:
    budget = TokenBudget(20, reserve=0, cap=15, count=words)
    with pytest.raises(NoRoomError, match="last turn alone leave 8"):
        budget.trim([*SYSTEM, *turn("one")], answer=9)
    with pytest.raises(ValueError, match="more than the cap of 15"):
        budget.trim(SYSTEM, answer=16)


def test_calls_and_text_parts_are_counted_and_images_are_not() -> None:
    budget = TokenBudget(100, reserve=0, count=words)
    parts = [
        {"type": "text", "text": "one two"},
        {"type": "image_url", "image_url": {"url": "x y"}},
    ]
    assert budget.tokens([{"role": "user", "content": parts}]) == 2 + 4
    call = {"role": "assistant", "content": None, "tool_calls": [{"name": "t"}]}
    assert budget.tokens([call]) > 4


@pytest.mark.parametrize(
    "wrong",
    [{"window": 0}, {"window": True}, {"reserve": 1}, {"reserve": -0.1}, {"cap": 0}, {"count": 3}],
    ids=str,
)
def test_a_budget_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TokenBudget(**{"window": 100, **wrong})
