"""How calls of an embedder are shared, and how long they are waited for."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import numpy as np
import pytest

from shared_core import Answer, Hit, Miss, Request, ResponseCache
from shared_core.embedding import EmbedderError, LoadError, Unresponsive
from shared_core.embedding.batching import MAX_STUCK, MAX_TOGETHER, Job, Turns, Worker
from shared_core.embedding.memo import Memo
from tests.fakes import DIMENSION, FakeEmbedder, fake_embed

PATIENCE = 0.05
WAIT = 10.0


class Held:
    """An embed function whose calls can be held; it notes what it was given."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.inside, self.go = threading.Semaphore(0), threading.Event()
        self.broken = ""

    def __call__(self, texts: Sequence[str]) -> Any:
        self.calls.append(list(texts))
        self.inside.release()
        assert self.go.wait(WAIT)
        if self.broken in texts:
            raise EmbedderError(f"{self.broken} cannot be embedded")
        return fake_embed(texts)


@pytest.fixture
def held() -> Iterator[Held]:
    one = Held()
    yield one
    one.go.set()


@pytest.fixture(params=[Worker, Turns])
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


def queued(calls: Any) -> int:
    if isinstance(calls, Turns):
        return len(calls._waiting)
    return calls._line.jobs.qsize() if calls._line is not None else 0


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end
        threading.Event().wait(0.001)


def ask_behind_a_first(calls: Any, held: Held, texts: Sequence[str]) -> dict[int, Any]:
    """Ask for texts, each in a thread, while a first one is inside; let it go when all wait."""
    got: dict[int, Any] = {}

    def ask(n: int, text: str) -> None:
        try:
            got[n] = calls.vector(text)
        except EmbedderError as error:
            got[n] = error

    threads = [threading.Thread(target=ask, args=(-1, "first"))]
    threads[0].start()
    assert held.inside.acquire(timeout=WAIT)
    for n, text in enumerate(texts):
        threads.append(threading.Thread(target=ask, args=(n, text)))
        threads[-1].start()
    until(lambda: queued(calls) == len(texts))
    held.go.set()
    for thread in threads:
        thread.join(WAIT)
    return got


def test_texts_that_wait_share_one_call_and_each_gets_its_own_row(kind: Any, held: Held) -> None:
    texts = [f"text {n}" for n in range(MAX_TOGETHER)]
    got = ask_behind_a_first(kind(held, WAIT), held, texts)
    assert sorted(map(len, held.calls)) == [1, MAX_TOGETHER]
    for n, text in enumerate(texts):
        assert np.array_equal(got[n], fake_embed([text])[0])


def test_no_call_has_more_texts_than_are_worth_it(kind: Any, held: Held) -> None:
    ask_behind_a_first(kind(held, WAIT), held, [f"text {n}" for n in range(2 * MAX_TOGETHER + 3)])
    assert [len(texts) for texts in held.calls] == [1, MAX_TOGETHER, MAX_TOGETHER, 3]


def test_equal_texts_that_wait_are_embedded_once(kind: Any, held: Held) -> None:
    got = ask_behind_a_first(kind(held, WAIT), held, ["same"] * 8)
    assert held.calls == [["first"], ["same"]]
    assert all(np.array_equal(got[n], fake_embed(["same"])[0]) for n in range(8))


def test_a_text_that_fails_fails_for_nobody_else(kind: Any, held: Held) -> None:
    held.broken = "bad"
    got = ask_behind_a_first(kind(held, WAIT), held, ["a", "bad", "b"])
    assert isinstance(got[1], EmbedderError)
    assert all(np.array_equal(got[n], fake_embed([text])[0]) for n, text in ((0, "a"), (2, "b")))


def test_an_embedder_that_is_down_is_not_asked_again_for_each_text(kind: Any, held: Held) -> None:
    def embed(texts: Sequence[str]) -> Any:
        rows = held(texts)
        if len(held.calls) > 1:
            raise LoadError("gone")
        return rows

    got = ask_behind_a_first(kind(embed, WAIT), held, ["a", "b", "c"])
    assert len(held.calls) == 2
    assert all(isinstance(got[n], LoadError) for n in range(3))


def test_a_lone_text_of_a_local_model_is_embedded_in_the_caller_s_thread() -> None:
    names: list[str] = []

    def embed(texts: Sequence[str]) -> Any:
        names.append(threading.current_thread().name)
        return fake_embed(texts)

    Turns(embed, WAIT).vector("a")
    assert names == [threading.current_thread().name]


def test_who_waits_longer_than_the_patience_is_told_so(kind: Any, held: Held) -> None:
    calls = kind(held, PATIENCE)

    def ask_first() -> None:
        with suppress(Unresponsive):  # a caller who embeds for himself waits for nobody
            calls.vector("first")

    first = threading.Thread(target=ask_first)
    first.start()
    assert held.inside.acquire(timeout=WAIT)
    start = time.monotonic()
    with pytest.raises(Unresponsive, match=r"0\.05 s") as caught:
        calls.vector("second")
    assert PATIENCE <= time.monotonic() - start < WAIT / 2
    assert caught.value.down is True
    held.go.set()
    first.join(WAIT)
    assert np.array_equal(calls.vector("third"), fake_embed(["third"])[0])


def test_the_turn_of_one_who_was_interrupted_is_passed_on(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(job: Job, patience: float) -> bool:
        raise KeyboardInterrupt

    turns = Turns(held, WAIT)
    first = threading.Thread(target=turns.vector, args=("first",))
    first.start()
    assert held.inside.acquire(timeout=WAIT)
    with monkeypatch.context() as patched:
        patched.setattr(Job, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            turns.vector("second")
    held.go.set()
    first.join(WAIT)
    assert np.array_equal(turns.vector("third"), fake_embed(["third"])[0])
    assert held.calls == [["first"], ["third"]]


def test_a_call_that_hangs_keeps_no_later_one_waiting(held: Held) -> None:
    def embed(texts: Sequence[str]) -> Any:
        return held(texts) if texts == ["hangs"] else fake_embed(texts)

    worker = Worker(embed, PATIENCE)
    with pytest.raises(Unresponsive):
        worker.vector("hangs")
    assert np.array_equal(worker.vector("next"), fake_embed(["next"])[0])


@pytest.mark.slow
def test_threads_that_hang_are_few(held: Held) -> None:
    worker = Worker(held, PATIENCE)
    before = set(threading.enumerate())
    for n in range(3 * MAX_STUCK):
        with pytest.raises(Unresponsive):
            worker.vector(f"text {n}")
    stuck = set(threading.enumerate()) - before
    assert len(stuck) == MAX_STUCK + 1
    held.go.set()
    until(lambda: sum(thread.is_alive() for thread in stuck) == 1)
    assert np.array_equal(worker.vector("next"), fake_embed(["next"])[0])


def test_what_is_no_text_is_asked_in_time_too(held: Held) -> None:
    worker = Worker(held, PATIENCE)
    assert worker.ask(lambda: 7) == 7
    with pytest.raises(Unresponsive):
        worker.ask(lambda: held(["x"]))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_embedder_that_ends_its_thread_is_an_error_and_the_next_call_has_another() -> None:
    def embed(texts: Sequence[str]) -> Any:
        if texts == ["exit"]:
            raise SystemExit
        return fake_embed(texts)

    worker = Worker(embed, WAIT)
    with pytest.raises(EmbedderError, match="ended its thread"):
        worker.vector("exit")
    until(lambda: worker._line is None or not worker._line.thread.is_alive())
    assert np.array_equal(worker.vector("next"), fake_embed(["next"])[0])


def test_an_embedder_that_asks_its_own_memo_does_not_wait_for_itself() -> None:
    def embed(texts: Sequence[str]) -> Any:
        return fake_embed(texts) if texts == ["inner"] else [worker.vector("inner")] * len(texts)

    worker = Worker(embed, WAIT)
    assert np.array_equal(worker.vector("outer"), fake_embed(["inner"])[0])


def test_context_variables_of_the_caller_are_seen_by_the_embedder() -> None:
    who: ContextVar[str] = ContextVar("who", default="nobody")
    seen: list[str] = []

    def embed(texts: Sequence[str]) -> Any:
        seen.append(who.get())
        return fake_embed(texts)

    who.set("me")
    Memo(embed).vector("a")
    assert set(seen) == {"me"}


def test_the_thread_ends_with_the_memo() -> None:
    memo = Memo(fake_embed)
    memo.vector("a")
    assert isinstance(memo._calls, Worker)
    assert memo._calls._line is not None
    thread = memo._calls._line.thread
    assert thread.is_alive()
    del memo
    gc.collect()
    thread.join(WAIT)
    assert not thread.is_alive()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_forked_while_others_wait_has_calls_of_its_own(kind: Any, held: Held) -> None:
    calls = kind(held, WAIT)
    threads = [threading.Thread(target=calls.vector, args=(f"text {n}",)) for n in range(3)]
    threads[0].start()
    assert held.inside.acquire(timeout=WAIT)
    for thread in threads[1:]:
        thread.start()
    until(lambda: queued(calls) == 2)
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        held.go.set()
        os._exit(0 if calls.vector("child").shape == (DIMENSION,) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    held.go.set()
    for thread in threads:
        thread.join(WAIT)


HANGS = """
import threading
from shared_core.embedding import Unresponsive
from shared_core.embedding.memo import Memo
memo = Memo(lambda texts: threading.Event().wait(), patience=0.05)
try:
    memo.vector("a")
except Unresponsive:
    print("given up")
"""


def test_an_embedder_that_hangs_keeps_no_process_from_ending() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", HANGS], capture_output=True, text=True, check=False, timeout=30
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "given up\n", "")


# ------------------------------------------------------------------------------- in a cache


ASKED = Request.of("How do I reset my password?", model="m")
OTHER = Request.of("How do I reset my password please?", model="m")


def test_a_hanging_embedder_is_a_miss_in_time_and_then_left_alone(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "shared_core.semantic.Memo", lambda *a, **k: Memo(*a, patience=PATIENCE, **k)
    )
    cache = ResponseCache.open(embedder=held, threshold=0.8)
    start = time.monotonic()
    assert cache.lookup(ASKED) == Miss("embedder")
    cache.store(ASKED, Answer("Press the button."))
    for _ in range(20):
        assert cache.lookup(OTHER) == Miss("embedder")
    assert isinstance(cache.lookup(ASKED), Hit)
    assert time.monotonic() - start < WAIT / 2
    assert len(held.calls) <= 2
    assert cache.stats().errors["embedder"] == 1


def test_a_model_may_take_longer_to_load_than_a_call_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Loaded:
        dimension, max_tokens, unknown = DIMENSION, 256, None

        def tokens(self, text: str) -> list[int]:
            return [1]

        def rows(self, texts: list[str]) -> Any:
            return fake_embed(texts)

    def load(*_: Any) -> Loaded:
        threading.Event().wait(4 * PATIENCE)
        return Loaded()

    monkeypatch.setattr("shared_core.embedding.local._load", load)
    memo = Memo("some-organisation/some-model", patience=PATIENCE)
    assert memo.vector("a").shape == (DIMENSION,)


def test_the_vector_of_a_miss_is_not_made_again_for_its_answer() -> None:
    fake = FakeEmbedder()
    cache = ResponseCache.open(embedder=fake, threshold=0.8)
    assert isinstance(cache.lookup(ASKED), Miss)
    cache.store(ASKED, Answer("Press the button."))
    texts = [text for call in fake.calls for text in call]
    assert texts.count(ASKED.question or "") == 1
    assert isinstance(cache.lookup(OTHER), Hit)
