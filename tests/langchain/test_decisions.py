"""Decision models through the cache: equal questions about an equal state are asked once."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.decisions import (
    BaseDecisionModel,
    Box,
    Choice,
    ClassifierResponse,
    Noul,
    NoulCriteria,
    Question,
    Score,
    State,
)
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from pydantic import PrivateAttr, SecretStr

from langchain_tiered_cache import TieredCache, cached_model
from tests.fakes import fake_embed

QUESTIONS: dict[str, Question] = {
    "urgent": Noul(instructions="Is it urgent?"),
    "team": Choice(instructions="Which team?", criteria={"billing": "money", "tech": None}),
    "mood": Score(instructions="How cross?", criteria=["calm", "cross", "furious"]),
    "where": Box(instructions="Where is the logo?"),
}
ANSWERS: dict[str, dict[str, Any]] = {
    "noul": {"type": "noul", "noul": 0.8},
    "choice": {
        "type": "choice",
        "choice": "tech",
        "probabilities": {"billing": 0.1, "tech": 0.9},
        "confidence": 0.9,
    },
    "score": {
        "type": "score",
        "score": 1.5,
        "legend": {0: "calm", 1: "cross", 2: "furious"},
        "probabilities": {0: 0.0, 1: 0.5, 2: 0.5},
        "confidence": 0.5,
    },
    "box": {
        "type": "box",
        "box": {"top": 0.1, "bottom": 0.2, "left": 0.3, "right": 0.4},
        "confidence": None,
    },
}


class Decider(BaseDecisionModel):
    """A decision model with a setting, which counts its calls."""

    model: str = "decider-1"
    effort: str = "low"
    api_key: SecretStr = SecretStr("sk-1")
    fails: bool = False

    _calls: list[tuple[Any, Any]] = PrivateAttr(default_factory=list)

    @property
    def _provider(self) -> str:
        return "fake"

    @property
    def calls(self) -> int:
        return len(self._calls)

    def _classify(self, state: State, questions: dict[str, Question]) -> ClassifierResponse:
        self._calls.append((state, questions))
        if self.fails:
            raise RuntimeError("down")
        return ClassifierResponse.model_validate(
            {
                "model": "decider-1-0305",
                "answers": {name: ANSWERS[one.type] for name, one in questions.items()},
                "usage": {"input_tokens": 7, "output_tokens": 2},
                "request_id": f"req_{len(self._calls)}",
            }
        )


@pytest.fixture
def tiered() -> Iterator[TieredCache]:
    with TieredCache(embedder=fake_embed, threshold=0.5) as cache:
        yield cache


def ask(model: Decider, state: Any = "Help!", questions: Any = None, **config: Any) -> Any:
    return model.invoke({"state": state, "questions": questions or QUESTIONS}, config or None)


def test_a_hit_is_the_response_without_the_id_of_a_request(tiered: TieredCache) -> None:
    model = Decider()
    cached = cached_model(model, tiered)
    fresh, hit = ask(cached), ask(cached)
    assert (model.calls, tiered.cache.stats().hits) == (1, 1)
    assert type(hit) is ClassifierResponse
    assert fresh.request_id == "req_1"
    assert hit == fresh.model_copy(update={"request_id": None})
    assert list(hit.answers) == list(fresh.answers)
    assert hit.scores["mood"].probabilities == {0: 0.0, 1: 0.5, 2: 0.5}
    assert hit.usage["total_tokens"] == 9
    assert tiered.cache.stats().tokens_saved == {"input_tokens": 7, "output_tokens": 2}


async def test_calls_that_are_awaited_and_batches_share_the_entries(tiered: TieredCache) -> None:
    model = Decider()
    cached = cached_model(model, tiered)
    first = await cached.ainvoke({"state": "Help!", "questions": QUESTIONS})
    assert ask(cached).answers == first.answers
    found = cached.batch([{"state": "Help!", "questions": QUESTIONS}] * 3)
    assert {one.nouls["urgent"].noul for one in found} == {0.8}
    assert model.calls == 1


def test_nothing_is_matched_by_meaning(tiered: TieredCache) -> None:
    model = Decider()
    cached = cached_model(model, tiered)
    for state in ("Help me, please!", "help me please", "Help me please!"):
        ask(cached, state)
    assert model.calls == 3


ALIKE: list[tuple[Any, Any]] = [
    ({"a": 1, "b": [True, None]}, {"b": [True, None], "a": 1}),
    (HumanMessage("Hi", id="1"), HumanMessage("Hi", id="2")),
    (
        [AIMessage("x", response_metadata={"id": "a"}, usage_metadata=None)],
        [AIMessage("x", response_metadata={"id": "b"})],
    ),
]
DIFFERENT: list[Any] = [
    "Help!",
    "Help! ",
    ["Help!"],
    [["Help!"]],
    {"state": "Help!"},
    {"state": ["Help!"]},
    {"1": 1},
    {"1": True},
    {"1": 1.5},
    {"1": "1"},
    {"1": None},
    HumanMessage("Help!"),
    AIMessage("Help!"),
    SystemMessage("Help!"),
    [HumanMessage("Help!")],
    [HumanMessage("Help!"), AIMessage("Yes?")],
    {"role": "user", "content": "Help!"},
    {"message": [{"role": "user", "content": "Help!"}]},
    {"object": {"state": "Help!"}},
    HumanMessage([{"type": "image", "base64": "AAAA", "mime_type": "image/png"}]),
    HumanMessage([{"type": "image", "base64": "AAAB", "mime_type": "image/png"}]),
    HumanMessage("Help!", name="bob"),
]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_equal_states_share_an_answer(one: Any, other: Any, tiered: TieredCache) -> None:
    model = Decider()
    cached = cached_model(model, tiered)
    ask(cached, one)
    ask(cached, other)
    assert model.calls == 1


def test_states_that_differ_share_nothing(tiered: TieredCache) -> None:
    model = Decider()
    cached = cached_model(model, tiered)
    for count, state in enumerate(DIFFERENT, 1):
        ask(cached, state)
        assert model.calls == count, state


def test_questions_and_models_that_differ_share_nothing(tiered: TieredCache) -> None:
    urgent: dict[str, Question] = {"urgent": QUESTIONS["urgent"]}
    questions: list[Mapping[str, Question]] = [
        urgent,
        {"pressing": QUESTIONS["urgent"]},
        {**urgent, "team": QUESTIONS["team"]},
        {"urgent": Noul(instructions="Is it not urgent?")},
        {"urgent": Noul(instructions=["Is it urgent?"])},
        {
            "urgent": Noul(
                instructions="Is it urgent?", criteria=NoulCriteria.model_validate({"true": "now"})
            )
        },
        {"urgent": Box(instructions="Is it urgent?")},
        {"urgent": Choice(instructions="Is it urgent?", criteria={"yes": None, "no": None})},
        {"urgent": Choice(instructions="Is it urgent?", criteria={"yes": None, "nay": None})},
    ]
    model = Decider()
    cached = cached_model(model, tiered)
    for count, one in enumerate(questions, 1):
        ask(cached, questions=one)
        assert model.calls == count
    for other in (
        Decider(model="decider-2"),
        Decider(effort="high"),
        type("Own", (Decider,), {})(),
    ):
        ask(cached_model(other, tiered), questions=urgent)
        assert other.calls == 1
    again = Decider(api_key=SecretStr("sk-2"))
    ask(cached_model(again, tiered), questions=urgent)
    assert again.calls == 0, "a key changes no answer"


@given(st.permutations(list(QUESTIONS)))
def test_answers_come_in_the_order_of_the_questions(order: list[str]) -> None:
    with TieredCache(semantic=False) as tiered:
        cached = cached_model(Decider(), tiered)
        ask(cached)
        assert (
            list(ask(cached, questions={name: QUESTIONS[name] for name in order}).answers) == order
        )
        assert tiered.cache.stats().hits == 1


def test_what_cannot_be_read_passes_the_cache_over(tiered: TieredCache) -> None:
    model = Decider()
    cached = cached_model(model, tiered)
    for _ in range(2):
        ask(cached, {"a": object()})
    assert model.calls == 2
    assert tiered.cache.stats().stores == 0


def test_what_the_model_raises_is_raised_and_nothing_is_kept(tiered: TieredCache) -> None:
    model = Decider(fails=True)
    cached = cached_model(model, tiered)
    with pytest.raises(RuntimeError, match="down"):
        ask(cached)
    assert tiered.cache.stats().stores == 0


def test_a_store_that_fails_fails_no_call(
    tiered: TieredCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise OSError("gone")

    monkeypatch.setattr(tiered.cache._store, "get", fail)
    monkeypatch.setattr(tiered.cache._store, "put", fail)
    assert ask(cached_model(Decider(), tiered)).nouls["urgent"].noul == 0.8


def test_what_a_call_says_to_the_cache_is_heard(tiered: TieredCache) -> None:
    model = Decider()
    cached = cached_model(model, tiered)
    ask(cached, metadata={"tiered_cache": {"write": False}})
    ask(cached)
    ask(cached, metadata={"tiered_cache": {"namespace": "bob"}})
    ask(cached, metadata={"tiered_cache": {"namespace": "bob"}})
    assert model.calls == 3
    with tiered.cache.control(read=False):
        ask(cached)
    assert model.calls == 4


def test_tenants_are_kept_apart_and_a_call_without_one_is_a_miss() -> None:
    model = Decider()
    with TieredCache(semantic=False, namespace_from="configurable.user") as tiered:
        cached = cached_model(model, tiered)
        for user, expected in (("a", 1), ("a", 1), ("b", 2), ("a", 2)):
            ask(cached, configurable={"user": user})
            assert model.calls == expected
        ask(cached)
        ask(cached)
        assert model.calls == 4


def test_a_cached_decision_model_is_copied_and_pickled_as_what_it_is(tmp_path: Any) -> None:
    with TieredCache(f"sqlite:///{tmp_path / 'a.db'}", semantic=False) as tiered:
        cached = cached_model(Decider(), tiered)
        assert isinstance(cached, Decider)
        assert type(cached).__name__ == "Decider"
        ask(cached)
        for other in (copy.copy(cached), copy.deepcopy(cached), cached.model_copy()):
            ask(other)
        ask(pickle.loads(pickle.dumps(cached)))  # noqa: S301 - our own
        assert tiered.cache.stats(all=True).hits >= 3
        assert cached.calls == 1
        assert "cache" not in cached.model_dump()
