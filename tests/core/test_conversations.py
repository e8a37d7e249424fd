"""Follow-ups are rewritten to questions that stand alone, and never cost an answer or a fact."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import conversations as figures
from shared_core import (
    Answer,
    Costs,
    Feedback,
    Hit,
    Miss,
    Request,
    ResponseCache,
    Static,
    Tier,
    Verified,
    standalone,
)
from shared_core.conversations import MAX_HISTORY, MAX_MESSAGE, FollowUp, follow_up
from shared_core.usage import Price
from tests.fakes import FakeChatModel, fake_embed

Talk = Sequence[str]
"""What user and assistant said in turn, the user first."""

PLAN: Talk = ("I am on the free plan.", "Good to know.")
PROJECTS = "How many projects can I have?"
FREE = "How many projects can I have on the free plan?"


def messages(talk: Talk) -> list[dict[str, Any]]:
    roles = ("user", "assistant")
    return [{"role": roles[n % 2], "content": text} for n, text in enumerate(talk)]


def request(talk: Talk, question: str, system: str | None = "You help.", **more: Any) -> Request:
    params = {"temperature": 0, **more}
    return Request.of(question, model="m", system=system, history=messages(talk), params=params)


def turn(talk: Talk, question: str, system: str = "You help.") -> FollowUp | None:
    return follow_up(request(talk, question, system).scope, question)


class Rewriter:
    """A model that rewrites by a table of last messages, and counts what it is asked."""

    model_name = "gpt-4o-mini"

    def __init__(self, table: Mapping[str, str], wait: float = 0.0) -> None:
        self.table, self.wait = table, wait
        self.asked: list[str] = []
        self.failing = False

    def __call__(self, prompt: str) -> str:
        time.sleep(self.wait)
        question = last_message(prompt)
        self.asked.append(question)
        if self.failing:
            raise ConnectionError
        return self.table.get(question, "NONE")


def last_message(prompt: str) -> str:
    return str(json.loads(prompt[prompt.rindex("\n{\n") :])["last message"])


TABLE = {
    PROJECTS: FREE,
    "And how many projects are included?": "How many projects are included in the free plan?",
    "And on the team plan?": "How many projects can I have on the team plan?",
}


def opened(model: Any, url: str = "memory://", **options: Any) -> ResponseCache:
    chosen = {"threshold": Static(0.6), "embedder": fake_embed, **options}
    history = model if isinstance(model, str) else standalone(model, timeout=5)
    return ResponseCache.open(url, **{"history": history, **chosen})


def ask(cache: ResponseCache, asked: Request, answer: str) -> Any:
    outcome = cache.lookup(asked)
    if not isinstance(outcome, Hit):
        cache.store(asked, Answer(answer))
    return outcome


def counts(cache: ResponseCache) -> Mapping[str, int]:
    return cache._path.counters.counts()


# ------------------------------------------------------------------------------- what is rewritten


@pytest.mark.parametrize(
    ("talk", "question"),
    [
        ((), "How many projects can I have?"),
        (("What does it say?", "A lot."), "Summarize that in two lines."),
        (("How do I bake bread?", "Mix and wait."), "Make it shorter, please."),
        (("How do I bake bread?", "Mix and wait."), "Why?"),
        (("How do I bake bread?", "Mix and wait."), "Are you sure?"),
        (("How do I bake bread?", "Mix and wait."), "What did I ask first?"),
        (("Ich nutze den kostenlosen Tarif.", "Gut."), "And for children?"),
        (("When do you open?", "At nine."), "Und wann schließt der Laden am Abend?"),
        (("When do you open?", "At nine."), "And when do you open today?"),
        (("Here is my contract:\n\nSection 1. The parties agree.", "Thanks."), "Who may end it?"),
        (("Context: some text. Question: what is it?", "Text."), "And what else is there?"),
        (("x" * (MAX_MESSAGE + 1), "Long."), "And for children?"),
        (("Hello there", "y" * MAX_HISTORY), "And for children?"),
    ],
)
def test_what_cannot_be_read_or_asked_alone_stays_with_its_history(
    talk: Talk, question: str
) -> None:
    assert turn(talk, question) is None


@pytest.mark.parametrize(
    "message",
    [
        {"role": "tool", "content": "12 pieces", "tool_call_id": "a"},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "a", "name": "f", "args": {}}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.y"}}]},
        {"role": "user", "content": "Hello", "name": "Anna"},
    ],
)
def test_a_history_of_more_than_talk_stays_in_scope(message: dict[str, Any]) -> None:
    history = [*messages(PLAN), message]
    asked = Request.of(PROJECTS, model="m", history=history, params={"temperature": 0})
    assert follow_up(asked.scope, PROJECTS) is None


def test_a_prompt_that_rewrites_by_itself_is_not_rewritten_once_more() -> None:
    system = "Given the chat history, formulate a standalone question. Do NOT answer it."
    assert turn(PLAN, PROJECTS, system) is None
    assert turn(PLAN, PROJECTS) is not None


@pytest.mark.parametrize(
    ("talk", "question", "alone"),
    [
        (("Hi!", "Hello! How can I help you?"), "When does the office open?", True),
        (("Good morning", "Good morning!"), "What does the family ticket cost?", True),
        (("Thank you", "You are welcome."), "How do I reset a password?", True),
        (("Hi!", "Hello! How can I help you?"), "What does it cost?", False),
        (("Hi!", "Hello! How can I help you?"), "And the family ticket?", False),
        (("Hi!", "Hello! How can I help you?"), "Family ticket price", False),
        (("Hi!", "Hello! How can I help you?"), "What does the other one cost?", False),
        (("Hi, I am Anna.", "Hello!"), "When does the office open?", False),
        (("Hi!", "Hello, welcome to our shop in Bergen!"), "When does the shop open?", False),
        (("Do you have drills?", "Yes."), "How much does a battery cost?", False),
        (("Yes", "Fine."), "When does the office open?", False),
    ],
)
def test_only_where_nothing_was_said_yet_a_whole_question_needs_no_model(
    talk: Talk, question: str, alone: bool
) -> None:
    found = turn(talk, question)
    assert found is not None
    assert found.stands_alone is alone


# -------------------------------------------------------------------------- what must not get lost

DROPPED = [
    (PLAN, PROJECTS, FREE, PROJECTS),
    (
        ("We use the Pro version.", "Fine."),
        "Can we export to PDF?",
        "Can we export to PDF with the Pro version?",
        "Can we export to PDF with the Basic version?",
    ),
    (
        ("My son is 6.", "Nice."),
        "Which bike fits him?",
        "Which bike fits a 6 year old son?",
        "Which bike fits a son?",
    ),
    (
        ("I live in Norway.", "Nice."),
        "What does delivery cost?",
        "What does delivery to Norway cost?",
        "What does delivery cost?",
    ),
    (
        ("I'm allergic to nuts.", "I see."),
        "Which cake can I eat?",
        "Which cake can I eat if I am allergic to nuts?",
        "Which cake can I eat?",
    ),
    (
        ("I don't have a card.", "I see."),
        "How do I withdraw money?",
        "How do I withdraw money if I do not have a card?",
        "How do I withdraw money if I have a card?",
    ),
    (
        ("Answer in German, please.", "Gern."),
        "When does the shop open?",
        "When does the shop open? Answer in German.",
        "When does the shop open?",
    ),
    (
        ("What plan are we talking about?", "Are you on the free plan?", "Yes.", "Thanks."),
        PROJECTS,
        FREE,
        PROJECTS,
    ),
    (
        ("Can I use the team plan for my order 4711?", "You can."),
        "When does it arrive?",
        "When does order 4711 on the team plan arrive?",
        "When does the order arrive?",
    ),
    (
        ("Two adults and one child.", "Noted."),
        "What does it cost in total?",
        "What does it cost in total for two adults and one child?",
        "What does it cost in total for two adults?",
    ),
    (
        ("How long is the warranty of the X200?", "Two years."),
        "No, I meant the X300.",
        "How long is the warranty of the X300?",
        "How long is the warranty of the X200?",
    ),
    (
        ("I am on the free plan.", "Fine.", "Sorry, I meant the team plan.", "Fine."),
        PROJECTS,
        "How many projects can I have on the team plan?",
        FREE,
    ),
    (
        ("What does the X200 cost?", "90 euros."),
        "And what does it cost without a battery?",
        "What does the X200 cost without a battery?",
        "What does the X200 cost with a battery?",
    ),
    (
        ("Tell me about Ibuprofen.", "It is a medicine."),
        "How often may an adult take it?",
        "How often may an adult take Ibuprofen?",
        "How often may an adult take the medicine?",
    ),
    (
        ("Is the X200 in stock?", "Yes."),
        "What does it cost with a case?",
        "What does the X200 cost with a case?",
        "What does the X200 cost?",
    ),
    (
        ("My printer is connected by wifi.", "I see."),
        "Why is it not found?",
        "Why is a printer connected by wifi not found?",
        "Why is a connected printer not found?",
    ),
    (
        ("Since we're a school, what do we pay?", "Nothing."),
        "And for 30 seats?",
        "What does a school pay for 30 seats?",
        "What does one pay for 30 seats?",
    ),
]


@pytest.mark.parametrize(("talk", "question", "right", "wrong"), DROPPED)
def test_a_rewriting_that_drops_what_the_user_said_is_refused(
    talk: Talk, question: str, right: str, wrong: str
) -> None:
    found = turn(talk, question)
    assert found is not None
    assert found.why_not(right) is None
    assert found.why_not(wrong) is not None


@pytest.mark.parametrize(
    ("talk", "question", "text", "reason"),
    [
        (("Do you sell drills?", "Yes."), "How much is one?", "How much is a Bosch drill?",
         "invented"),
        (("Do you sell drills?", "Yes."), "How much is one?", "How much are 3 drills?", "invented"),
        (("Do you sell drills?", "Yes."), "How much is one?", "How much is one?", "unchanged"),
        (("Do you sell drills?", "Yes."), "And for how much?", "For how much?", "unchanged"),
        (("Do you sell drills?", "Yes."), "How much is one?", "NONE", "none"),
        (("Do you sell drills?", "Yes."), "How much is one?", "none.", "none"),
        (("Do you sell drills?", "Yes."), "How much is one?", "", "none"),
        (("Do you sell drills?", "Yes."), "How much is one?", "drill " * 200, "long"),
        (("Do you sell drills?", "Yes."), "How much is one?", "How much is a drill?", None),
    ],
)  # fmt: skip
def test_a_rewriting_says_nothing_that_nobody_said(
    talk: Talk, question: str, text: str, reason: str | None
) -> None:
    found = turn(talk, question)
    assert found is not None
    assert found.why_not(text) == reason


names = st.sampled_from(["Aurora", "Basilisk", "Corvus", "Delphi", "Eridu", "Fornax"])


@settings(max_examples=40, deadline=None)
@given(names, names, st.integers(2, 900))
def test_every_name_and_figure_that_was_stated_must_stand_in_the_rewriting(
    mine: str, other: str, number: int
) -> None:
    found = turn((f"We have {number} seats of {mine}.", "Fine."), "What does the upgrade cost?")
    assert found is not None
    right = f"What does the upgrade of {number} seats of {mine} cost?"
    assert found.why_not(right) is None
    assert found.why_not(right.replace(f" {number}", "")) == "dropped"
    assert found.why_not(right.replace(mine, "the product")) == "dropped"
    if mine != other:
        assert found.why_not(right.replace(mine, other)) == "invented"


# --------------------------------------------------------------------------- what the cache serves


@pytest.mark.parametrize(
    "store_url", ["memory", "sqlite", pytest.param("redis", marks=pytest.mark.redis)], indirect=True
)
def test_a_follow_up_in_another_conversation_is_served_by_what_it_means(store_url: str) -> None:
    cache = opened(Rewriter(TABLE), store_url)
    assert isinstance(ask(cache, request(PLAN, PROJECTS), "Three."), Miss)
    other = request(("Hi, we use the free plan.", "Hello!"), "And how many projects are included?")
    found = cache.lookup(other)
    assert isinstance(found, Hit)
    assert found.answer.text == "Three."
    assert found.tier is Tier.SEMANTIC
    trap = request(("Hi, we use the free plan.", "Hello!"), "And on the team plan?")
    assert not isinstance(cache.lookup(trap), Hit)


def test_the_exact_tier_keeps_the_history_and_needs_no_model() -> None:
    rewriter = Rewriter(TABLE)
    cache = opened(rewriter)
    ask(cache, request(PLAN, PROJECTS), "Three.")
    found = cache.lookup(request(PLAN, PROJECTS))
    assert isinstance(found, Hit)
    assert found.tier is Tier.EXACT
    assert rewriter.asked == [PROJECTS]


def test_what_opens_a_conversation_answers_its_middle_and_never_the_other_way() -> None:
    cache = opened(Rewriter(TABLE))
    ask(cache, request((), FREE), "Three.")
    found = cache.lookup(request(PLAN, PROJECTS))
    assert isinstance(found, Hit)
    assert found.answer.text == "Three."

    cache = opened(Rewriter(TABLE))
    ask(cache, request(PLAN, PROJECTS), "Three, dear Anna.")
    assert isinstance(cache.lookup(request((), FREE)), Miss)


@pytest.mark.parametrize(
    "changed",
    [{"system": "You help only members."}, {"temperature": None, "seed": 5}, {"tools": [{"a": 1}]}],
)
def test_all_but_the_history_stays_in_scope(changed: dict[str, Any]) -> None:
    cache = opened(Rewriter(TABLE))
    ask(cache, request(PLAN, PROJECTS), "Three.")
    assert isinstance(cache.lookup(request(("We use the free plan.", "Hi."), PROJECTS)), Hit)
    asked = request(("We use the free plan.", "Hi."), PROJECTS, **changed)
    assert not isinstance(cache.lookup(asked), Hit)


def test_another_namespace_and_sampled_answers_are_left_alone() -> None:
    rewriter = Rewriter(TABLE)
    cache = opened(rewriter)
    ask(cache, request(PLAN, PROJECTS), "Three.")
    other = request(("We use the free plan.", "Hi."), PROJECTS)
    with cache.control(namespace="other"):
        assert isinstance(cache.lookup(other), Miss)
    assert len(rewriter.asked) == 2
    assert isinstance(cache.lookup(request(PLAN, PROJECTS, temperature=0.7)), Miss)
    with cache.control(read=False):
        cache.lookup(request(("We use free.", "Hi."), PROJECTS))
    assert len(rewriter.asked) == 2


def test_a_question_after_a_greeting_needs_no_model() -> None:
    rewriter = Rewriter({})
    cache = opened(rewriter)
    ask(cache, request(("Hi!", "Hello!"), "When does the office open?"), "At nine.")
    found = cache.lookup(request(("Good morning", "Hello there!"), "When does the office open?"))
    assert isinstance(found, Hit)
    assert rewriter.asked == []


# ------------------------------------------------------------------------------ when it goes wrong

SAID = st.sampled_from(
    ["I am on the free plan.", "What does the X200 cost?", "We live in Oslo.", "Do you sell bikes?"]
)
QUESTION = st.sampled_from([PROJECTS, "And for children?", "How long is its warranty?", FREE])


def broken(prompt: str) -> str:
    raise ConnectionError


@pytest.mark.parametrize(
    "model", [broken, lambda prompt: "", lambda prompt: "x " * 5000, lambda prompt: None]
)
@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(SAID, QUESTION), min_size=1, max_size=6))
def test_a_rewriter_that_fails_serves_what_the_exact_scope_serves(
    model: Callable[[str], Any], asked: list[tuple[str, str]]
) -> None:
    plain, failing = opened("exact"), opened(model)
    for number, (said, question) in enumerate(asked):
        one = request((said, "Fine."), question)
        first, second = (ask(cache, one, f"{number}") for cache in (plain, failing))
        assert type(first) is type(second)
        assert getattr(first, "answer", None) == getattr(second, "answer", None)


def test_one_that_takes_too_long_delays_nobody_for_longer_and_is_kept_when_it_comes() -> None:
    gate = threading.Event()

    def slow(prompt: str) -> str:
        gate.wait(10)
        return FREE

    cache = ResponseCache.open(
        history=standalone(slow, timeout=0.05), threshold=Static(0.6), embedder=fake_embed
    )
    asked = request(PLAN, PROJECTS)
    started = time.perf_counter()
    assert isinstance(cache.lookup(asked), Miss)
    assert time.perf_counter() - started < 2
    assert counts(cache)["standalone:timeout"] == 1
    gate.set()
    deadline = time.monotonic() + 5
    while "standalone:rewritten" not in counts(cache) and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.02)
    cache.store(asked, Answer("Three."))
    assert isinstance(cache.lookup(request(("We use the free plan.", "Hi."), PROJECTS)), Hit)


def test_one_that_is_down_is_left_alone_after_five_failures() -> None:
    rewriter = Rewriter({})
    rewriter.failing = True
    cache = opened(rewriter)
    for number in range(12):
        ask(cache, request((f"I have {number} cats.", "Nice."), PROJECTS), "Three.")
    assert len(rewriter.asked) == 5
    stats = cache.stats()
    assert stats.breakers["standalone"] == "open"
    assert stats.errors == {"standalone": 5}


def test_equal_lookups_at_a_time_ask_once(tmp_path: Path) -> None:
    rewriter = Rewriter(TABLE, wait=0.1)
    cache = opened(rewriter)
    threads = [
        threading.Thread(target=cache.lookup, args=(request(PLAN, PROJECTS),)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rewriter.asked == [PROJECTS]


def test_a_rewriting_is_kept_for_all_processes_and_under_a_key_nobody_reads_it(
    tmp_path: Path,
) -> None:
    fernet = pytest.importorskip("cryptography.fernet")
    url = f"sqlite:///{tmp_path / 'answers.db'}"
    key = fernet.Fernet.generate_key()
    asked = [Rewriter(TABLE), Rewriter(TABLE)]
    for rewriter in asked:
        with opened(rewriter, url, encryption_key=key) as cache:
            cache.lookup(request(PLAN, PROJECTS))
    assert [len(one.asked) for one in asked] == [1, 0]
    stored = b"".join(one.read_bytes() for one in tmp_path.iterdir() if one.is_file())
    assert b"rewritten:" in stored
    assert b"free plan" not in stored


def test_another_model_or_conversation_is_asked_for_itself(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'answers.db'}"
    first, second = Rewriter(TABLE), Rewriter(TABLE)
    second.model_name = "another"
    for model in (first.__call__, lambda prompt: second(prompt)):  # noqa: PLW0108 - another function
        with opened(model, url) as cache:
            cache.lookup(request(PLAN, PROJECTS))
            cache.lookup(request((*PLAN, "Thanks", "Sure."), PROJECTS))
    assert [len(first.asked), len(second.asked)] == [2, 2]


def test_clear_forgets_the_rewritings_too(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'answers.db'}"
    with opened(Rewriter(TABLE), url) as cache:
        ask(cache, request(PLAN, PROJECTS), "Three.")
        assert cache.values.scan("rewritten:", "")[0]
        cache.clear()
        assert cache.values.scan("rewritten:", "")[0] == []


# --------------------------------------------------------------- asynchronous, and kinds of models


@pytest.mark.parametrize("is_async", [False, True])
def test_while_models_rewrite_no_thread_of_lookups_waits_nor_the_event_loop(is_async: bool) -> None:
    gate = threading.Event()

    def blocking(prompt: str) -> str:
        gate.wait(20)
        return TABLE[last_message(prompt)]

    async def awaited(prompt: str) -> str:
        while not gate.is_set():
            await asyncio.sleep(0.005)
        return TABLE[last_message(prompt)]

    cache = ResponseCache.open(
        history=standalone(awaited if is_async else blocking, timeout=20),
        threshold=Static(0.6),
        embedder=fake_embed,
    )
    ask(cache, request((), FREE), "Three.")

    async def main() -> list[Any]:
        asked = [request((f"Plan {n} is a free plan.", "Yes."), PROJECTS) for n in range(20)]
        waiting = [asyncio.create_task(cache.alookup(one)) for one in asked]
        await asyncio.sleep(0.05)
        found = await asyncio.wait_for(cache.alookup(request((), FREE)), 10)
        assert isinstance(found, Hit)
        assert not any(one.done() for one in waiting)
        gate.set()
        return await asyncio.gather(*waiting)

    asyncio.run(main())


def test_the_answers_of_async_apps_are_shared_as_well() -> None:
    calls: list[str] = []

    async def model() -> str:
        calls.append("asked")
        return "Three."

    async def rewrite(prompt: str) -> str:
        return FREE

    cache = opened(rewrite)

    async def main() -> list[Answer]:
        return [
            await cache.aanswer(request(talk, PROJECTS), model)
            for talk in (PLAN, ("We use the free plan.", "Hi."))
        ]

    assert [one.text for one in asyncio.run(main())] == ["Three.", "Three."]
    assert calls == ["asked"]


def test_chat_models_rewrite_and_never_through_the_cache_itself() -> None:
    from langchain_core.globals import set_llm_cache

    from langchain_tiered_cache import TieredCache

    model = FakeChatModel(answers={})
    object.__setattr__(model, "_generate", model._generate)
    cache = opened(model)
    tiered = TieredCache(cache=cache)
    set_llm_cache(tiered)
    try:
        cache.lookup(request(PLAN, PROJECTS))
    finally:
        set_llm_cache(None)
    assert len(model.calls) == 1
    assert "free plan" in str(model.calls[0][-1].content)
    assert cache.stats().lookups == 1


class Complete:
    """A model as LlamaIndex's are."""

    model = "small"

    def complete(self, prompt: str) -> Any:
        usage = {"input_tokens": 200, "output_tokens": 10}
        return SimpleNamespace(text=f'Standalone question: "{FREE}"', usage=usage)


def test_what_rewriting_costs_is_accounted_and_told() -> None:
    costs = Costs(prices={"small": Price(1.0, 2.0)})
    cache = opened(Complete(), hooks=[costs])
    ask(cache, request(PLAN, PROJECTS), "Three.")
    assert isinstance(cache.lookup(request(("We use the free plan.", "Hi."), PROJECTS)), Hit)
    line = costs.account().by_tier["standalone"]
    assert line.calls == 2
    assert line.spent == pytest.approx(2 * (200 * 1.0 + 10 * 2.0) / 1e6)
    told = cache.stats().policy["standalone"]
    assert told["model"] == "small"
    assert told["paused"] is False
    assert told["stopped"] == ""


@pytest.mark.parametrize("model", [None, 5, Rewriter, "gpt-4o-mini"])
def test_what_cannot_be_asked_is_refused_at_once(model: Any) -> None:
    with pytest.raises(ValueError, match="standalone"):
        standalone(model)


@pytest.mark.parametrize(
    "options",
    [
        {"history": "all"},
        {"history": True},
        {"history": Rewriter({})},
        {"history": standalone(broken), "semantic": False},
    ],
)
def test_other_values_of_history_are_refused_at_construction(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="history"):
        ResponseCache.open(**options)


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), "fast"])
def test_a_timeout_is_a_limit(timeout: Any) -> None:
    with pytest.raises(ValueError, match="timeout"):
        standalone(broken, timeout=timeout)


# ------------------------------------------------------------------ labels of their own, and stops


def test_feedback_takes_back_an_answer_for_one_conversation_and_labels_its_own_kind() -> None:
    cache = opened(Rewriter(TABLE), threshold=Feedback(0.9, minimum=0.6))
    ask(cache, request(PLAN, PROJECTS), "Three.")
    other = request(("We use the free plan.", "Hi."), PROJECTS)
    found = cache.lookup(other)
    assert isinstance(found, Hit)
    cache.feedback(found.entry_id, False)
    assert not isinstance(cache.lookup(other), Hit)
    policy = cache.stats().policy
    assert (policy["labels"], policy["standalone"]["labels"]) == (0, 1)
    third = request(("We are on the free plan.", "Hi."), PROJECTS)
    assert isinstance(cache.lookup(third), Hit)


def test_a_model_whose_rewritings_are_never_served_is_not_paid_for_long() -> None:
    rewriter = Rewriter({})
    asked = 0
    cache = opened(
        lambda prompt: f"How many projects can I have, {last_message(prompt)}", guard=False
    )
    conversations = cache._path.conversations
    assert conversations is not None
    for _ in range(500):
        conversations.note(False)
    assert cache.stats().policy["standalone"]["paused"] is True
    asked = counts(cache).get("standalone:asked", 0)
    cache.lookup(request(PLAN, PROJECTS))
    assert counts(cache).get("standalone:asked", 0) == asked
    assert rewriter.asked == []


def test_labels_of_rewritten_questions_are_a_kind_of_their_own() -> None:
    cache = ResponseCache.open(
        history=standalone(Rewriter(TABLE)),
        embedder=fake_embed,
        threshold=Verified(start="own"),
        judge=lambda fresh, cached: fresh.text == cached.text,
    )
    for talk in (PLAN, ("We use the free plan.", "Hi."), ("On the free plan we are.", "Hi.")):
        ask(cache, request(talk, PROJECTS), "Three.")
    policy = cache.stats().policy
    assert policy["labels"] == 0
    assert policy["standalone"]["labels"] > 0


def test_invalidating_a_scope_takes_the_answers_of_its_conversations_along() -> None:
    cache = opened(Rewriter(TABLE))
    ask(cache, request(PLAN, PROJECTS), "Three.")
    assert cache.invalidate(scope=request((), "Anything at all?")) == 1
    assert isinstance(cache.lookup(request(PLAN, PROJECTS)), Miss)
    ask(cache, request(PLAN, PROJECTS), "Four.")
    assert cache.invalidate(similar_to=request((), FREE)) == 1


@pytest.mark.slow
@pytest.mark.model
def test_with_a_right_rewriter_most_follow_ups_are_served_and_hardly_one_wrongly(
    model_embedder: object,
) -> None:
    rows = figures.load()
    assert len(rows) >= 60
    found = figures.run(rows, 400, 1, standalone(figures.Rewriting(rows)), Verified(), False)
    assert found.hits - found.wrong >= 0.6 * found.could
    assert found.wrong <= 0.03 * found.hits
    found = figures.run(rows, 60, 1, standalone(figures.failing), Verified(), False)
    assert found.hits == 0


PLACES = (
    "museum", "zoo", "castle", "aquarium", "theatre", "opera", "tower", "cathedral", "palace",
    "stadium", "gallery", "circus", "fair", "harbour", "pool", "cinema", "library", "arena",
)  # fmt: skip


class Forgetful:
    """A model whose rewritings leave out where the user goes, in a share of them."""

    def __init__(self, drops: float, seed: int) -> None:
        self.drops, self._rng = drops, random.Random(seed)

    def __call__(self, prompt: str) -> str:
        data = json.loads(prompt[prompt.rindex("\n{\n") :])
        talk = " ".join(text for one in data["conversation"] for text in one.values())
        place = next(place for place in PLACES if place in talk)
        if self._rng.random() < self.drops:
            return "What does a ticket cost for my kids?"
        return f"What does a ticket to the {place} cost for my kids?"


@dataclass
class Talks:
    """What became of many conversations.

    ``found`` says of each whether its answer was a right hit; None: no hit. ``checked`` numbers the
    hits that were asked for real all the same and found wrong.
    """

    found: list[bool | None] = field(default_factory=list)
    checked: list[int] = field(default_factory=list)
    policy: Mapping[str, Any] = field(default_factory=dict)
    advice: str = ""


class NoChance(random.Random):
    """Chooses no hit to be checked."""

    def random(self) -> float:
        return 1 - 1e-9


def talks_with(
    model: Forgetful, embedder: object, drops: Sequence[float], checks: bool = True
) -> Talks:
    """Ask what a ticket costs in many conversations; ``drops`` says in what share one is forgetful.

    The judge is the default one. ``checks`` False: no hit is checked after the first forgetful one.
    """
    rng, talks = random.Random(7), Talks()
    with ResponseCache.open(history=standalone(model), embedder=embedder) as cache:
        semantic, conversations = cache._path.semantic, cache._path.conversations
        assert semantic is not None
        assert conversations is not None
        semantic._rng = random.Random(7)  # which hits are audited
        hear = conversations.checked

        def overhear(right: bool) -> None:
            hear(right)
            if not right:
                talks.checked.append(len(talks.found) - 1)

        conversations.checked = overhear  # type: ignore[method-assign]
        for number, model.drops in enumerate(drops):
            if model.drops and not checks:
                semantic._rng = NoChance()
            place = rng.choice(PLACES)
            answer = f"A ticket to the {place} costs {7 + 3 * PLACES.index(place)} euros for kids."
            going = f"We go to the {place} with my kids."
            talk = ("Hello!", f"Hello! This is chat {number + 10}.", going, "How nice!")
            asked = request(talk, "What does a ticket cost for them?")
            outcome = cache.lookup(asked)
            right = outcome.answer.text == answer if isinstance(outcome, Hit) else None
            talks.found.append(right)
            if not isinstance(outcome, Hit):
                cache.store(asked, Answer(answer))
                figures.drain(cache)
        stats = cache.stats()
        talks.policy, talks.advice = stats.policy, stats.advice
    return talks


def hits(found: Sequence[bool | None]) -> int:
    return len(found) - found.count(None)


def within_the_promise(found: Sequence[bool | None]) -> bool:
    expected = 0.02 * hits(found)
    return found.count(False) <= expected + 2 * (0.98 * expected) ** 0.5 + 1


@pytest.mark.slow
@pytest.mark.model
def test_a_rewriter_that_always_forgot_in_one_of_five_is_never_trusted_blindly(
    model_embedder: object,
) -> None:
    talks = talks_with(Forgetful(0.2, 1), model_embedder, [0.2] * 500)
    assert within_the_promise(talks.found)


LATE = [0.0] * 200 + [0.2] * 120
"""A model that rewrites well at first."""


@pytest.mark.slow
@pytest.mark.model
def test_checks_find_out_one_that_begins_to_forget_and_its_answers_are_served_no_more(
    model_embedder: object, caplog: pytest.LogCaptureFixture
) -> None:
    talks = talks_with(Forgetful(0.0, 1), model_embedder, LATE)
    good, after = talks.found[100:200], talks.found[280:]
    assert hits(good) >= 60
    assert False not in good
    assert talks.checked, "no check has found it out"
    assert talks.checked[0] >= 200
    assert talks.found.count(False) <= 20
    assert hits(after) == 0, "served on as before"
    assert "rewritten follow-ups: nothing is served by meaning any more" in caplog.text
    assert talks.policy["standalone"]["stopped"]
    assert not talks.policy["stopped"], "first questions are served as before"
    assert "Rewritten follow-ups are not served by meaning any more" in talks.advice


@pytest.mark.slow
@pytest.mark.model
def test_without_those_checks_it_would_go_on(model_embedder: object) -> None:
    talks = talks_with(Forgetful(0.0, 1), model_embedder, LATE, checks=False)
    assert talks.checked == []
    assert hits(talks.found[280:]) >= 20
    assert talks.found.count(False) >= 15
    assert not talks.policy["standalone"]["stopped"]


@pytest.mark.slow
@pytest.mark.model
def test_one_that_no_longer_forgets_is_served_again(model_embedder: object) -> None:
    talks = talks_with(Forgetful(0.0, 1), model_embedder, [0.0] * 200 + [0.2] * 100 + [0.0] * 300)
    assert hits(talks.found[260:300]) == 0
    assert within_the_promise(talks.found[300:])
    assert hits(talks.found[500:]) >= 30


@dataclass(frozen=True)
class Watched(Verified):
    """Notes how many of the hits are to be checked at least, at each decision."""

    seen: list[float] = field(default_factory=list)

    def decide(self, question: str, candidates: Any, state: Any, rng: Any) -> Any:
        self.seen.append(self.audit)
        return super().decide(question, candidates, state, rng)


def test_more_hits_of_rewritten_questions_are_checked_at_first_and_after_a_wrong_one() -> None:
    policy = Watched()
    cache = opened(Rewriter(TABLE), threshold=policy)
    once, rewritten = request((), FREE), request(PLAN, PROJECTS)
    cache.lookup(once)
    cache.lookup(rewritten)
    assert policy.seen == [policy.audit, 0.3]
    conversations = cache._path.conversations
    assert conversations is not None
    conversations.checked(False)
    cache.lookup(rewritten)
    cache.lookup(once)
    assert policy.seen[2:] == [0.5, policy.audit]
    for _ in range(40):
        conversations.checked(True)
    cache.lookup(rewritten)
    assert policy.seen[-1] == 0.1


def test_a_policy_that_checks_more_by_itself_is_left_as_it_is() -> None:
    policy = Watched(audit=0.4)
    cache = opened(Rewriter(TABLE), threshold=policy)
    cache.lookup(request(PLAN, PROJECTS))
    assert policy.seen == [0.4]


def test_a_pause_is_counted_in_follow_ups_alone() -> None:
    cache = opened(Rewriter(TABLE))
    conversations = cache._path.conversations
    assert conversations is not None
    conversations._paused = 3
    for n in range(5):
        cache.lookup(request((), f"What is number {n}?"))
        cache.lookup(request(("Hello!", "Hi, how can I help?"), "How do I bake a loaf of bread?"))
    assert conversations._paused == 3
    for left in (2, 1, 0, 0):
        cache.lookup(request(PLAN, PROJECTS))
        assert conversations._paused == left
