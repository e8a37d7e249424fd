"""Right or not at all: real embeddings, a chat model, and questions that only look alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.messages import HumanMessage, SystemMessage

from langchain_tiered_cache import TieredCache
from shared_core import Static
from shared_core.embedding import Embedder
from tests.fakes import FakeChatModel

pytestmark = pytest.mark.model

UNRELATED = [
    "What is the capital of France?",
    "Who wrote Hamlet?",
    "What is 21 + 1?",
    "Tell me one joke about cats.",
    "At which temperature does nitrogen boil?",
]
SYSTEM = 9 * (
    "You are the assistant of a public library. Answer visitors politely and in plain words, in "
    "three sentences at most. Name the desk that helps in person, and the page of the website "
    "where the rules stand. Never guess opening hours of partner libraries. "
)

NEAR_MISSES = [
    ("What was the revenue of Acme in 2024?", "What was the revenue of Acme in 2025?"),
    ("How many calories are in 100 grams of rice?", "How many calories are in 200 grams of rice?"),
    ("How far is 5 miles in kilometers?", "How far is 5 feet in kilometers?"),
    ("Convert 100 USD to EUR", "Convert 100 USD to JPY"),
    ("Convert 100 USD to EUR", "Convert 100 EUR to USD"),
    ("What is new in Python 3.11?", "What is new in Python 3.12?"),
    ("What is the population of Berlin?", "What is the population of Madrid?"),
    ("Is it safe to take aspirin with alcohol?", "Is it not safe to take aspirin with alcohol?"),
    ("How do I enable two-factor login?", "How do I disable two-factor login?"),
    ("Should I stretch before running?", "Should I stretch after running?"),
    ("When should I buy the stock?", "When should I sell the stock?"),
    ("Flights from Rome to Paris", "Flights from Paris to Rome"),
    ("Is a cat faster than a dog?", "Is a dog faster than a cat?"),
    ("What is 20 divided by 5?", "What is 5 divided by 20?"),
    ("What does `git push` do?", "What does `git pull` do?"),
    ("What is the meaning of error E1045?", "What is the meaning of error E1054?"),
    ("How do I increase the font size?", "How do I decrease the font size?"),
    ("What is the minimum deposit?", "What is the maximum deposit?"),
    ("Is the store open on Monday?", "Is the store open on Sunday?"),
    ("How do I import a CSV file?", "How do I export a CSV file?"),
]

PARAPHRASES = [
    ("How do I reset my password?", "how do i reset my password"),
    ("How do I reset my password?", "How do I reset my password, please?"),
    ("How do I reset my password?", "Could you tell me how I reset my password?"),
    ("How do I delete my account?", "How do I remove my account?"),
    ("How do I export my invoices?", "How do I export my invoice?"),
    ("What is the capital of France?", "What's the capital of France?"),
]


def ask(model: FakeChatModel, question: str, system: str = "") -> str:
    messages = [SystemMessage(system)] if system else []
    return str(model.invoke([*messages, HumanMessage(question)]).content)


@pytest.fixture
def model_with(model_embedder: Embedder) -> Callable[..., FakeChatModel]:
    def make(**options: Any) -> FakeChatModel:
        return FakeChatModel(cache=TieredCache(embedder=model_embedder, **options))

    return make


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.7, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("guard", [True, False])
def test_unrelated_questions_behind_a_long_system_prompt_get_their_own_answers(
    model_with: Callable[..., FakeChatModel], threshold: float, guard: bool
) -> None:
    assert len(SYSTEM.split()) > 390
    model = model_with(threshold=threshold, guard=guard)
    for question in (*UNRELATED, *UNRELATED):
        assert ask(model, question, SYSTEM) == f"answer to: {question}"
    assert len(model.calls) == len(UNRELATED)


@pytest.mark.parametrize(("cached", "asked"), NEAR_MISSES)
def test_a_near_miss_is_asked_anew(
    model_with: Callable[..., FakeChatModel], cached: str, asked: str
) -> None:
    model = model_with(threshold=Static(0.9))
    for first, second in ((cached, asked), (asked, cached)):
        assert ask(model, first, SYSTEM) == f"answer to: {first}"
        assert ask(model, second, SYSTEM) == f"answer to: {second}"


@pytest.mark.parametrize(("cached", "asked"), PARAPHRASES)
def test_a_paraphrase_is_answered_from_the_cache(
    model_with: Callable[..., FakeChatModel], cached: str, asked: str
) -> None:
    model = model_with(threshold=Static(0.8))
    ask(model, cached, SYSTEM)
    assert ask(model, asked, SYSTEM) == f"answer to: {cached}"
    mark = model.invoke([SystemMessage(SYSTEM), HumanMessage(asked)]).response_metadata
    assert mark["tiered_cache"]["tier"] == "semantic"
