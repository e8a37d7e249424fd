"""Feedback: by message, entry id or run, from people and from models."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from langchain_core.language_models import FakeListLLM
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda

from langchain_tiered_cache import TieredCache
from langchain_tiered_cache.cache import ServedRuns
from langchain_tiered_cache.call_context import Run
from langchain_tiered_cache.feedback import LangSmithFeedback, answer_judge
from tests.fakes import fake_embed
from tests.langchain.chat_models import Chat


@pytest.fixture
def tiered() -> Iterator[TieredCache]:
    cache = TieredCache(embedder=fake_embed, threshold=0.7)
    yield cache
    cache.close()


async def say(tiered: TieredCache, form: str, which: Any, correct: bool) -> None:
    if form == "sync":
        tiered.feedback(which, correct, source="test")
    else:
        await tiered.afeedback(which, correct, source="test")


def means(kind: str, message: AIMessage, run_id: UUID) -> Any:
    entry_id = message.response_metadata["tiered_cache"]["entry_id"]
    return {"message": message, "entry_id": entry_id, "run": run_id, "run text": f"{run_id}"}[kind]


@pytest.mark.parametrize("form", ["sync", "async"])
@pytest.mark.parametrize("kind", ["message", "entry_id", "run", "run text"])
@pytest.mark.parametrize("of", ["fresh", "hit"])
async def test_a_wrong_answer_is_not_served_again(
    form: str, kind: str, of: str, tiered: TieredCache
) -> None:
    model = Chat(cache=tiered)
    answers = []
    for _ in range(1 if of == "fresh" else 2):
        run_id = uuid4()
        answers.append(await model.ainvoke("What is a fuse?", {"run_id": run_id}))
    await say(tiered, form, means(kind, answers[-1], run_id), False)
    assert model.invoke("What is a fuse?").response_metadata["tiered_cache"]["hit"] is False
    assert tiered.cache.stats().feedback == {"test": 1}


def test_a_wrong_answer_by_meaning_is_not_served_to_that_question_again(
    tiered: TieredCache,
) -> None:
    model = Chat(cache=tiered)
    model.invoke("what is a fuse good for")
    run_id = uuid4()
    hit = model.invoke("what is a fuse good for then", {"run_id": run_id})
    assert hit.response_metadata["tiered_cache"]["tier"] == "semantic"
    tiered.feedback(run_id, correct=False)
    again = model.invoke("what is a fuse good for then")
    assert again.response_metadata["tiered_cache"]["hit"] is False
    assert model.invoke("what is a fuse good for").response_metadata["tiered_cache"]["hit"] is True
    assert tiered.cache.stats().labels == 1


@pytest.mark.parametrize(
    "which",
    ["", "no id", uuid4(), AIMessage("a"), AIMessage("a", response_metadata={"x": 1}), None],
)
def test_what_is_not_known_is_ignored_and_counted(which: Any, tiered: TieredCache) -> None:
    tiered.feedback(which, correct=False)
    assert tiered.cache.stats().feedback == {"unknown": 1}


def test_a_chain_stands_for_its_only_call(tiered: TieredCache) -> None:
    model = Chat(cache=tiered)
    chain, twice = RunnableLambda(str) | model, uuid4()
    run_id = uuid4()
    chain.invoke("q", {"run_id": run_id})
    RunnableLambda(lambda text: [model.invoke(f"{text} {n}") for n in range(2)]).invoke(
        "r", {"run_id": twice}
    )
    tiered.feedback(twice, correct=False)
    assert tiered.cache.stats().feedback == {"unknown": 1}
    tiered.feedback(run_id, correct=False)
    assert model.invoke("q").response_metadata["tiered_cache"]["hit"] is False


def test_a_completion_is_known_by_its_run(tiered: TieredCache) -> None:
    llm = FakeListLLM(responses=["1", "2"], cache=tiered)
    tiered.lookup("q", "by hand, and never answered")
    (run,) = llm.generate(["q"]).run or []
    tiered.feedback(run.run_id, correct=False)
    assert llm.invoke("q") == "2"


def test_only_the_newest_runs_are_remembered() -> None:
    servings = ServedRuns(most=2)
    for n in range(3):
        servings.note(Run(n, {}, {}, {}), f"entry {n}")
    assert servings.runs() == ["1", "2"]
    assert servings.entry_id(0) == "0"


def test_a_cache_that_served_can_be_pickled(tmp_path: Path) -> None:
    tiered = TieredCache(f"sqlite:///{tmp_path / 'a.db'}", semantic=False)
    Chat(cache=tiered).invoke("q")
    again = pickle.loads(pickle.dumps(tiered))  # noqa: S301 - of this very test
    assert again.servings.runs() == []
    tiered.close()


# ------------------------------------------------------------------------------------ sources


@dataclass
class Given:
    id: int
    run_id: UUID
    score: float | bool | None


class Client:
    """A LangSmith of which only the feedback is left."""

    def __init__(self, given: Iterable[Given]) -> None:
        self.given, self.asked = list(given), 0

    def list_feedback(
        self, *, run_ids: Sequence[Any] | None = None, feedback_key: Sequence[str] | None = None
    ) -> Iterator[Given]:
        assert run_ids is not None
        assert len(run_ids) <= 100
        assert feedback_key == ["correctness"]
        self.asked += 1
        yield from (one for one in self.given if str(one.run_id) in run_ids)


def test_what_was_said_in_langsmith_is_told_once(tiered: TieredCache) -> None:
    model = Chat(cache=tiered)
    runs = [uuid4() for _ in range(120)]
    questions = [f"{number}{number}" for number in range(120)]
    for question, run in zip(questions, runs, strict=True):
        model.invoke(question, {"run_id": run})
    scores: list[Any] = [1, True, 0.0, False, None]
    client = Client([Given(n, runs[-n], score) for n, score in enumerate(scores, 1)])
    client.given.append(Given(99, uuid4(), 0))
    source = LangSmithFeedback(tiered, client)
    assert [source.collect() for _ in range(2)] == [4, 0]
    assert client.asked == 4
    assert tiered.cache.stats().feedback == {"langsmith": 4}
    hits = [
        model.invoke(questions[-n]).response_metadata["tiered_cache"]["hit"] for n in range(1, 6)
    ]
    assert hits == [True, True, False, False, True]


def test_the_client_of_langsmith_has_what_is_asked_of_it() -> None:
    import inspect

    from langsmith import Client as LangSmith
    from langsmith.schemas import Feedback

    assert {"run_ids", "feedback_key"} <= set(inspect.signature(LangSmith.list_feedback).parameters)
    assert {"id", "run_id", "score"} <= set(Feedback.model_fields)


@pytest.mark.parametrize("form", ["invoke", "ainvoke"])
@pytest.mark.parametrize(
    ("reply", "verdict", "kept"),
    [("RIGHT", True, True), ("wrong.", False, False), ("UNSURE", None, True), ("So?", None, True)],
)
def test_a_model_judges_an_answer(
    form: str, reply: str, verdict: bool | None, kept: bool, tiered: TieredCache
) -> None:
    model = Chat(cache=tiered)
    judge = answer_judge(tiered, Chat(cache=tiered, reply=lambda messages: AIMessage(reply)))
    given = {"question": "q", "answer": model.invoke("q")}
    found = asyncio.run(judge.ainvoke(given)) if form == "ainvoke" else judge.invoke(given)
    assert found is verdict
    assert model.invoke("q").response_metadata["tiered_cache"]["hit"] is kept
    stats = tiered.cache.stats()
    assert stats.feedback == ({} if verdict is None else {"judge": 1})
    assert stats.stores == (1 if kept else 2), "what the judge is asked is not kept"
