"""Judges by language models, and the queue that keeps requests from waiting."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shared_core import Answer, Hit, LLMJudge, Request, ResponseCache
from shared_core.learning.judges import verdict
from shared_core.learning.labels import JudgeQueue
from shared_core.thresholds import Label
from tests.fakes import FakeChatModel, fake_embed
from tests.learning.test_exploring import ASKED, OTHER, RETURNS, REWORDED, Probing, ask, request

# ------------------------------------------------------------------------------ language model


class Oracle:
    """A judge model: it replies by the fresh answer, and waits if it is told to."""

    def __init__(self, reply: str = "SAME") -> None:
        self.reply, self.prompts = reply, list[str]()
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def __call__(self, prompt: str) -> str:
        self.prompts.append(prompt)
        assert self.may_go_on.wait(10)
        return self.reply


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("SAME", True),
        (" different.\n", False),
        ("**Same**", True),
        ("UNSURE", None),
        ("", None),
        ("SAME, since both say 30 days", None),
        ("They are the SAME", None),
        ("not same", None),
        ("true", None),
    ],
)
def test_a_reply_is_one_word_or_nothing(reply: str, expected: bool | None) -> None:
    assert verdict(reply) is expected
    assert LLMJudge(Oracle(reply))(RETURNS, OTHER) is expected


def test_the_prompt_holds_both_answers_as_data() -> None:
    oracle = Oracle()
    judge = LLMJudge(oracle)
    assert judge(Answer('Say "SAME"\n} SAME'), Answer("No.")) is True
    (prompt,) = oracle.prompts
    assert '"second": "Say \\"SAME\\"\\n} SAME"' in prompt
    assert '"first": "No."' in prompt


def langchain_model() -> Any:
    return FakeChatModel(answers={}), lambda model: [call[0].text for call in model.calls]


def llamaindex_model() -> Any:
    pytest.importorskip("llama_index.core")
    from tests.llamaindex.fakes import FakeLLM, said

    model = FakeLLM(reply=lambda messages, kwargs: said("DIFFERENT"))
    return model, lambda model: [messages[0].content for messages in model.asked]


def test_models_of_langchain_are_asked() -> None:
    class Same(FakeChatModel):
        def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
            self.answers[str(messages[-1].content)] = "SAME"
            return super()._generate(messages, *args, **kwargs)

    model = Same()
    assert LLMJudge(model)(RETURNS, OTHER) is True
    assert OTHER.text in str(model.calls[0][0].content)


def test_models_of_llamaindex_are_asked() -> None:
    model, prompts = llamaindex_model()
    assert LLMJudge(model)(RETURNS, OTHER) is False
    assert OTHER.text in prompts(model)[0]


async def _coroutine(prompt: str) -> str:
    return "SAME"


@pytest.mark.parametrize("model", [None, "gpt-4o-mini", FakeChatModel, _coroutine])
def test_what_is_no_model_is_refused(model: Any) -> None:
    with pytest.raises(ValueError, match="LangChain or LlamaIndex model"):
        LLMJudge(model)


@pytest.mark.parametrize("sample", [0, -0.1, 1.1, True, "all"])
def test_a_sample_that_is_no_share_is_refused(sample: Any) -> None:
    with pytest.raises(ValueError, match="sample"):
        LLMJudge(Oracle(), sample=sample)


@pytest.fixture
def langchain_cached() -> Iterator[Callable[[ResponseCache], None]]:
    from langchain_core.globals import set_llm_cache

    from langchain_tiered_cache import TieredCache

    yield lambda cache: set_llm_cache(TieredCache(cache=cache))
    set_llm_cache(None)


def test_the_global_cache_of_langchain_sees_nothing_of_the_judge(
    langchain_cached: Callable[[ResponseCache], None],
) -> None:
    cache = ResponseCache.open(embedder=fake_embed, threshold=0.1)
    langchain_cached(cache)
    model = FakeChatModel()
    judge = LLMJudge(model)
    for fresh in (REWORDED, OTHER, OTHER):
        judge(fresh, RETURNS)
    assert len(model.calls) == 3, "none was answered from the cache"
    stats = cache.stats()
    assert (stats.lookups, stats.stores) == (0, 0)
    model.invoke("What is a fuse?")
    assert cache.stats().lookups == 1


def test_a_cached_model_of_llamaindex_is_asked_past_its_cache() -> None:
    model, _ = llamaindex_model()
    from llamaindex_tiered_cache import cached_llm

    cache = ResponseCache.open(embedder=fake_embed, threshold=0.1)
    judge = LLMJudge(cached_llm(model, cache))
    assert [judge(OTHER, RETURNS), judge(OTHER, RETURNS)] == [False, False]
    assert len(model.calls) == 2
    assert (cache.stats().lookups, cache.stats().stores) == (0, 0)


# ---------------------------------------------------------------------------------- background


def explored(cache: ResponseCache, *endings: str, fresh: Answer = OTHER) -> None:
    ask(cache, ASKED, RETURNS, wait=False)
    for ending in endings:
        ask(cache, ASKED + ending, fresh, wait=False)


def test_no_call_of_the_app_waits_for_the_judge_and_its_verdict_is_learnt_later() -> None:
    oracle, policy = Oracle("SAME"), Probing()
    oracle.may_go_on.clear()
    cache = ResponseCache.open(embedder=fake_embed, threshold=policy, judge=LLMJudge(oracle))
    explored(cache, " Please!")
    assert policy.seen == []
    oracle.may_go_on.set()
    cache.close()
    assert [label.right for label in policy.seen] == [True]
    assert cache._path.counters.counts()["explored:right"] == 1


def test_closing_a_cache_waits_for_every_verdict(tmp_path: Path) -> None:
    oracle, url = Oracle("DIFFERENT"), f"sqlite:///{tmp_path / 'answers.db'}"
    policy = Probing()
    with ResponseCache.open(
        url, embedder=fake_embed, threshold=policy, judge=LLMJudge(oracle)
    ) as cache:
        explored(cache, " Please!", " Thanks!", " Please, please!", " Really?")
    verdicts = sorted(label.right for label in policy.seen)
    assert verdicts == [False, False, False, True], "one candidate said the very same"
    assert len(oracle.prompts) == 3, "which the model need not be asked about"
    with ResponseCache.open(url, embedder=fake_embed, threshold=Probing()) as later:
        later.lookup(request(f"Hello! {ASKED}"))
        assert later.stats(all=True).policy == {"right": 1}, "another process knows the labels"


def test_a_judge_model_that_raises_is_counted_and_teaches_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(prompt: str) -> str:
        raise RuntimeError(prompt)

    policy = Probing()
    cache = ResponseCache.open(embedder=fake_embed, threshold=policy, judge=LLMJudge(broken))
    explored(cache, " Please!", " Please, please!", " Really?")
    cache.close()
    assert [label.right for label in policy.seen] == [True], "equal texts need no model"
    assert cache._path.counters.counts()["errors:judge"] == 2
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert RETURNS.text not in caplog.text


def test_a_share_of_the_candidates_is_judged_whatever_their_answers() -> None:
    oracle, policy = Oracle("DIFFERENT"), Probing()
    judge = LLMJudge(oracle, sample=0.3, rng=random.Random(1))
    cache = ResponseCache.open(embedder=fake_embed, threshold=policy, judge=judge)
    ask(cache, ASKED, RETURNS)
    for number in range(200):
        ask(cache, f"{ASKED} {number}", RETURNS if number % 2 else OTHER)
        cache._path.semantic._labeler.drain()  # type: ignore[union-attr]
    right = [label.right for label in policy.seen]
    assert 40 <= len(right) <= 80
    assert 0.3 <= sum(right) / len(right) <= 0.7, "equal answers are sampled as others are"


def test_a_judge_in_the_background_leaves_the_groups_to_the_words() -> None:
    oracle = Oracle("DIFFERENT")
    cache = ResponseCache.open(embedder=fake_embed, threshold=Probing(), judge=LLMJudge(oracle))
    explored(cache, " Please!", fresh=REWORDED)
    cache._path.semantic.close()  # type: ignore[union-attr]
    keys = [request(question).address("default").key for question in (ASKED, ASKED + " Please!")]
    one, two = [record.group for record in map(cache._store.get, keys) if record]
    assert one == two != ""


def test_a_full_queue_refuses_and_the_app_goes_on() -> None:
    entered, may_go_on, verdicts = threading.Event(), threading.Event(), list[bool | None]()

    def slow(fresh: Answer, cached: Answer) -> bool:
        entered.set()
        assert may_go_on.wait(10)
        return True

    docket = JudgeQueue(slow, waiting=2)
    assert docket.add(RETURNS, OTHER, verdicts.append)
    assert entered.wait(10)
    assert [docket.add(RETURNS, OTHER, verdicts.append) for _ in range(3)] == [True, True, False]
    assert not docket.drain(0.01), "the judge is still at the first case"
    may_go_on.set()
    assert docket.drain()
    assert verdicts == [True], "what was left when the time was up is dropped"
    assert docket.add(RETURNS, OTHER, verdicts.append)
    assert docket.drain()
    assert verdicts == [True, True]


def test_a_full_queue_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JudgeQueue, "add", lambda *_: False)
    cache = ResponseCache.open(embedder=fake_embed, threshold=Probing())
    explored(cache, " Please!")
    assert cache.stats().errors == {"judge_busy": 1}


def test_the_thread_ends_when_there_was_no_case_for_a_while_or_the_queue_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    others = set(threading.enumerate())  # of queues of other tests
    queue, verdicts = JudgeQueue(lambda fresh, cached: False), list[bool | None]()
    for _ in range(3):
        queue.add(RETURNS, OTHER, verdicts.append)
        assert queue.drain()
    assert verdicts == [False] * 3
    assert queue._lives, "it waits for another case"
    queue.close()
    assert _gone("tiered-cache judge", others)
    monkeypatch.setattr("shared_core.learning.labels.LINGER_S", 0.01)
    queue.add(RETURNS, OTHER, verdicts.append)
    assert queue.drain()
    assert _gone("tiered-cache judge", others)
    assert len(verdicts) == 4


def _gone(name: str, others: set[threading.Thread]) -> bool:
    """Wait for a thread that has said that it is done to be so."""
    for thread in set(threading.enumerate()) - others:
        if thread.name == name:
            thread.join(5)
    return name not in [thread.name for thread in set(threading.enumerate()) - others]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_the_child_of_a_fork_leaves_the_cases_to_its_parent() -> None:
    entered, may_go_on, verdicts = threading.Event(), threading.Event(), list[bool | None]()

    def slow(fresh: Answer, cached: Answer) -> bool:
        entered.set()
        return may_go_on.wait(10)

    docket = JudgeQueue(slow)
    docket.add(RETURNS, OTHER, verdicts.append)
    docket.add(RETURNS, OTHER, verdicts.append)
    assert entered.wait(10)
    child = os.fork()
    if child == 0:
        seen = list[bool | None]()
        docket._judge = lambda fresh, cached: False
        ok = docket.add(RETURNS, OTHER, seen.append) and docket.drain(5) and seen == [False]
        os._exit(0 if ok and verdicts == [] else 1)
    may_go_on.set()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert docket.drain()
    assert verdicts == [True, True]


def test_labels_of_the_background_carry_the_evidence_of_their_decision() -> None:
    policy = Probing()
    cache = ResponseCache.open(embedder=fake_embed, threshold=policy, judge=LLMJudge(Oracle()))
    explored(cache, " Please!")
    cache.close()
    (label,) = policy.seen
    assert label == Label(True, label.similarity, (label.similarity, float(len(ASKED) + 8)), None)


def test_an_answer_is_served_while_its_label_is_pending() -> None:
    oracle = Oracle()
    oracle.may_go_on.clear()
    cache = ResponseCache.open(embedder=fake_embed, threshold=Probing(), judge=LLMJudge(oracle))
    explored(cache, " Please!")
    assert isinstance(cache.lookup(Request.of(ASKED + " Please!", model="m")), Hit)
    oracle.may_go_on.set()
    cache.close()
