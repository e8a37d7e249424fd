"""One model call for all who ask the same at a time: threads, tasks, event loops, processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import BaseLLM
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatResult, Generation, LLMResult
from pydantic import PrivateAttr

from langchain_tiered_cache import TieredCache
from shared_core.compute import StoreLeases
from tests.langchain.chat_models import Chat
from tests.soak import CALL_S, FULL

pytestmark = pytest.mark.slow

LONGEST_S = 1.2 * CALL_S if FULL else CALL_S + 1.0
"""All who ask at once have their answer by then; a short call on a busy machine proves less."""
QUICK_S = 0.25
"""A wait that is none: far below the lease of 30 s."""


class Slow(Chat):
    """A model that takes a while; what it is awaited for does not block the event loop."""

    takes: float = CALL_S
    before: Callable[[], object] = lambda: None

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        result = super()._generate(messages, *args, **kwargs)
        self.before()
        time.sleep(self.takes)
        return result

    async def _agenerate(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> ChatResult:
        result = Chat._generate(self, messages, *args, **kwargs)
        self.before()
        await asyncio.sleep(self.takes)
        return result


class Completion(BaseLLM):
    """A completion model that counts its prompts."""

    takes: float = 0.0
    fails: bool = False
    _seen: list[str] = PrivateAttr(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "completion-of-tests"

    def _generate(self, prompts: list[str], *args: Any, **kwargs: Any) -> LLMResult:
        self._seen.extend(prompts)
        time.sleep(self.takes)
        if self.fails:
            raise ConnectionError
        return LLMResult(generations=[[Generation(text=f"to {prompt}")] for prompt in prompts])


def signed() -> Callable[[list[BaseMessage]], AIMessage]:
    """Make a reply that is another each time."""
    numbers = iter(range(10**6))
    return lambda messages: AIMessage(f"{messages[-1].text} {next(numbers)}")


@pytest.fixture
def tiered() -> Iterator[TieredCache]:
    cache = TieredCache(semantic=False)
    yield cache
    cache.close()


async def test_tasks_share_one_call(tiered: TieredCache) -> None:
    model = Slow(cache=tiered, reply=signed())
    started = time.monotonic()
    answers = await asyncio.gather(*(model.ainvoke("q") for _ in range(200)))
    took = time.monotonic() - started
    assert model.calls == 1
    assert {answer.text for answer in answers} == {"q 0"}
    assert len({answer.id for answer in answers}) == 200
    assert took < LONGEST_S
    assert sum(answer.response_metadata["tiered_cache"]["hit"] for answer in answers) == 199


def test_threads_share_one_call(tiered: TieredCache) -> None:
    model = Slow(cache=tiered, reply=signed())
    started = time.monotonic()
    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda _: model.invoke("q"), range(64)))
    assert time.monotonic() - started < LONGEST_S
    assert model.calls == 1
    assert {answer.text for answer in answers} == {"q 0"}


def test_event_loops_and_threads_share_one_call(tiered: TieredCache) -> None:
    model = Slow(cache=tiered, reply=signed())

    async def some() -> list[BaseMessage]:
        return await asyncio.gather(*(model.ainvoke("q") for _ in range(10)))

    with ThreadPoolExecutor(8) as pool:
        loops = [pool.submit(asyncio.run, some()) for _ in range(4)]
        alone = [pool.submit(model.invoke, "q") for _ in range(4)]
        texts = {one.text for done in loops for one in done.result()}
        texts |= {done.result().text for done in alone}
    assert (model.calls, texts) == (1, {"q 0"})


async def test_an_entry_id_of_a_shared_answer_is_that_of_the_entry(tiered: TieredCache) -> None:
    model = Slow(cache=tiered)
    answers = await asyncio.gather(*(model.ainvoke("q") for _ in range(3)))
    ids = {answer.response_metadata["tiered_cache"]["entry_id"] for answer in answers}
    assert len(ids) == 1
    assert tiered.cache.invalidate(entry_id=ids.pop()) == 1


async def test_other_requests_and_tenants_do_not_wait(tiered: TieredCache) -> None:
    model = Slow(cache=tiered)
    metadata = [{"tiered_cache": {"namespace": name}} for name in "ab"]
    calls = [model.ainvoke("q", {"metadata": one}) for one in metadata]
    await asyncio.gather(model.ainvoke("q"), model.ainvoke("r"), *calls)
    assert model.calls == 4


@pytest.mark.parametrize("told", [{"read": False}, {"write": False}])
async def test_who_does_not_read_or_write_goes_alone(told: Any, tiered: TieredCache) -> None:
    model = Slow(cache=tiered, takes=0.05)
    config: Any = {"metadata": {"tiered_cache": told}}
    await asyncio.gather(*(model.ainvoke("q", config) for _ in range(3)))
    assert model.calls == 3


async def test_coalesce_false_turns_it_off() -> None:
    model = Slow(cache=TieredCache(semantic=False, coalesce=False), takes=0.05)
    await asyncio.gather(*(model.ainvoke("q") for _ in range(3)))
    assert model.calls == 3


# ------------------------------------------------------------------------- leaders that fail


def failing_first() -> Callable[[list[BaseMessage]], AIMessage]:
    numbers = iter(range(10**6))

    def reply(messages: list[BaseMessage]) -> AIMessage:
        if (number := next(numbers)) == 0:
            time.sleep(0.1)  # the others are waiting by now
            raise ConnectionError
        return AIMessage(f"{number}")

    return reply


async def test_when_the_leading_task_fails_one_other_asks_for_the_rest(tiered: TieredCache) -> None:
    class Failing(Slow):
        async def _agenerate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatResult:
            await asyncio.sleep(0.1)
            return Chat._generate(self, messages, *args, **kwargs)

    model = Failing(cache=tiered, reply=failing_first())
    started = time.monotonic()
    answers = await asyncio.gather(*(model.ainvoke("q") for _ in range(3)), return_exceptions=True)
    assert time.monotonic() - started < 5
    assert [type(answer) for answer in answers].count(ConnectionError) == 1
    assert model.calls == 2


def test_when_the_leading_thread_fails_the_others_ask(tiered: TieredCache) -> None:
    model = Chat(cache=tiered, reply=failing_first())
    started = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(model.invoke, "q") for _ in range(4)]
        errors = [call.exception() for call in calls]
    assert time.monotonic() - started < 5
    assert len([error for error in errors if error]) == 1


async def test_when_the_leading_task_is_cancelled_the_others_ask(tiered: TieredCache) -> None:
    model = Slow(cache=tiered, takes=0.2)
    leader = asyncio.create_task(model.ainvoke("q"))
    await asyncio.sleep(0.05)
    followers = [asyncio.create_task(model.ainvoke("q")) for _ in range(2)]
    await asyncio.sleep(0.05)
    leader.cancel()
    started = time.monotonic()
    assert [answer.text for answer in await asyncio.gather(*followers)] == ["You said: q"] * 2
    assert time.monotonic() - started < 5
    assert (await asyncio.gather(leader, return_exceptions=True))[0].__class__ is (
        asyncio.CancelledError
    )


async def test_a_follower_that_gives_up_leaves_the_others_alone(tiered: TieredCache) -> None:
    model = Slow(cache=tiered)
    calls = [asyncio.create_task(model.ainvoke("q")) for _ in range(3)]
    await asyncio.sleep(0.1)
    calls[1].cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert (model.calls, calls[0].result().text, calls[2].result().text) == (
        1,
        "You said: q",
        "You said: q",
    )


async def test_a_retry_does_not_wait_for_its_own_failed_call(tiered: TieredCache) -> None:
    for form in ("invoke", "ainvoke"):
        model = Chat(cache=tiered, reply=failing_first())
        again = model.with_retry(wait_exponential_jitter=False)
        started = time.monotonic()
        text = again.invoke(form) if form == "invoke" else await again.ainvoke(form)
        assert (text.text, model.calls) == ("1", 2)
        assert time.monotonic() - started < 5


def test_a_leader_that_takes_too_long_is_waited_for_at_most_a_lease() -> None:
    tiered = TieredCache(semantic=False, lease=0.2)
    gate = threading.Event()
    model = Slow(cache=tiered, takes=0.0, before=lambda: gate.wait(2) if model.calls == 1 else None)
    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(model.invoke, "q")
        while model.calls == 0:
            time.sleep(0.001)
        assert pool.submit(model.invoke, "q").result(1.5).text == "You said: q"
        gate.set()
        assert leader.result().text == "You said: q"
    assert model.calls == 2


# --------------------------------------------------------------------------- waits for oneself


def within(seconds: float, call: Callable[[], Any]) -> Any:
    started = time.monotonic()
    found = call()
    assert time.monotonic() - started < seconds
    return found


async def test_equal_prompts_of_one_completion_call_wait_for_nothing(tiered: TieredCache) -> None:
    llm = Completion(cache=tiered)
    assert within(QUICK_S, lambda: llm.batch(["q"] * 3)) == ["to q"] * 3
    started = time.monotonic()
    assert await llm.abatch(["r"] * 3) == ["to r"] * 3
    assert time.monotonic() - started < QUICK_S
    assert within(QUICK_S, lambda: llm.batch(["q", "r", "q"])) == ["to q", "to r", "to q"]
    assert llm._seen == ["q"] * 3 + ["r"] * 3


def test_completions_of_threads_share_one_call(tiered: TieredCache) -> None:
    llm = Completion(cache=tiered, takes=CALL_S)
    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(llm.invoke, ["q"] * 16)) == {"to q"}
    assert llm._seen == ["q"]


@pytest.mark.parametrize("form", ["invoke", "ainvoke"])
async def test_a_failed_completion_frees_the_others(form: str, tiered: TieredCache) -> None:
    llm = Completion(cache=tiered, fails=True)
    with pytest.raises(ConnectionError):
        _ = llm.invoke("q") if form == "invoke" else await llm.ainvoke("q")
    llm.fails = False
    with ThreadPoolExecutor(1) as pool:
        assert within(QUICK_S, pool.submit(llm.invoke, "q").result) == "to q"


def test_a_lookup_without_a_call_holds_nobody_up(tiered: TieredCache) -> None:
    assert tiered.lookup("q", "opaque") is None
    with ThreadPoolExecutor(1) as pool:
        assert within(QUICK_S, pool.submit(tiered.lookup, "q", "opaque").result) is None


@pytest.mark.parametrize("form", ["invoke", "ainvoke"])
async def test_a_model_that_asks_itself_the_same_does_not_wait(
    form: str, tiered: TieredCache
) -> None:
    class Nested(Chat):
        depth: int = 0

        def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatResult:
            self.depth += 1
            if self.depth < 3:
                self.invoke(messages)
                asyncio.run(self.ainvoke(messages)) if form == "invoke" else None
            return super()._generate(messages, *args, **kwargs)

        async def _agenerate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatResult:
            self.depth += 1
            if self.depth < 3:
                await asyncio.gather(self.ainvoke(messages), asyncio.to_thread(self.invoke, "q"))
            return Chat._generate(self, messages, *args, **kwargs)

    model = Nested(cache=tiered)
    started = time.monotonic()
    if form == "invoke":
        await asyncio.to_thread(model.invoke, "q")
    else:
        await model.ainvoke("q")
    assert time.monotonic() - started < 5


async def test_a_blocking_call_on_the_loop_does_not_wait_for_its_tasks(
    tiered: TieredCache,
) -> None:
    model = Slow(cache=tiered, takes=0.1)
    task = asyncio.create_task(model.ainvoke("q"))
    await asyncio.sleep(0.05)
    assert within(5, lambda: model.invoke("q")).text == "You said: q"
    await task
    assert model.calls == 2


async def test_waiting_takes_no_thread(tiered: TieredCache) -> None:
    """A hundred wait while the pool of eight serves others."""
    model = Slow(cache=tiered)
    waiting = [asyncio.create_task(model.ainvoke("q")) for _ in range(100)]
    await asyncio.sleep(0.1)
    started = time.monotonic()
    await asyncio.gather(*(Slow(cache=tiered, takes=0.0).ainvoke(f"r{n}") for n in range(16)))
    assert time.monotonic() - started < 0.15
    assert not any(task.done() for task in waiting)
    await asyncio.gather(*waiting)
    assert model.calls == 1


# ---------------------------------------------------------------------------------- processes

PROCESS = """
import sys, time
from pathlib import Path
from langchain_core.messages import AIMessage
from langchain_tiered_cache import TieredCache
from tests.langchain.chat_models import Chat
url, log, takes, lease = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])

def reply(messages):
    with log.open("a") as file:
        file.write("call\\n")
    time.sleep(takes)
    return AIMessage(f"answer of {log.read_text().count('call')}")

model = Chat(cache=TieredCache(url, semantic=False, lease=lease), reply=reply)
model.cache.lookup("warm up", "imports and connections")
print("ready", flush=True)
sys.stdin.readline()
print(model.invoke("q").text, flush=True)
"""


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.redis)])
def shared_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "redis":
        found: str = request.getfixturevalue("redis_url")
        return found
    return f"sqlite:///{tmp_path / 'answers.db'}"


class Asker:
    """A process that asks one question when it is told to."""

    def __init__(self, url: str, log: Path, takes: float, lease: float) -> None:
        arguments = [url, str(log), str(takes), str(lease)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROCESS, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ready(self) -> None:
        assert self._line() == "ready"

    def ask(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("now\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        return self._line()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.mark.slow
def test_processes_share_one_call(shared_url: str, tmp_path: Path) -> None:
    log = tmp_path / "calls"
    askers = [Asker(shared_url, log, 1.0, 30) for _ in range(8)]
    try:
        for step in (Asker.ready, Asker.ask):
            for asker in askers:
                step(asker)
        assert {asker.answer() for asker in askers} == {"answer of 1"}
        assert log.read_text().split() == ["call"]
    finally:
        for asker in askers:
            asker.end()


@pytest.mark.slow
def test_when_the_leading_process_is_killed_the_others_answer(
    shared_url: str, tmp_path: Path
) -> None:
    log, lease, takes = tmp_path / "calls", 1.5, 0.5
    askers = [Asker(shared_url, log, 60 if n == 0 else takes, lease) for n in range(4)]
    try:
        for asker in askers:
            asker.ready()
        askers[0].ask()
        while not log.exists():
            time.sleep(0.01)
        started = time.monotonic()
        for asker in askers[1:]:
            asker.ask()
        os.kill(askers[0].process.pid, signal.SIGKILL)
        assert all(asker.answer().startswith("answer of") for asker in askers[1:])
        assert time.monotonic() - started < lease + takes + 0.5
    finally:
        for asker in askers:
            asker.end()


def test_a_failed_call_gives_its_lease_back(tmp_path: Path) -> None:
    """As another process would see it: another cache on the same file."""
    url = f"sqlite:///{tmp_path / 'answers.db'}"
    one, other = TieredCache(url, semantic=False), TieredCache(url, semantic=False)
    with pytest.raises(ConnectionError):
        Chat(cache=one, reply=failing_first()).invoke("q")
    assert within(5, lambda: Chat(cache=other).invoke("q")).text == "You said: q"
    assert other.cache.values.scan("lease:") == ([], "")
    one.close()
    other.close()


async def test_a_cancelled_call_gives_its_lease_back(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'answers.db'}"
    one, other = TieredCache(url, semantic=False), TieredCache(url, semantic=False)
    call = asyncio.create_task(Slow(cache=one, takes=5).ainvoke("q"))
    while not other.cache.values.scan("lease:")[0]:
        await asyncio.sleep(0.01)
    follower = asyncio.create_task(Slow(cache=other, takes=0.0).ainvoke("q"))
    await asyncio.sleep(0.05)
    call.cancel()
    started = time.monotonic()
    assert (await follower).text == "You said: q"
    assert time.monotonic() - started < 3
    one.close()
    other.close()


async def test_a_cache_that_is_closed_at_once_gives_its_leases_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = StoreLeases._end

    def slowly(self: StoreLeases, key: str, token: bytes) -> None:
        time.sleep(0.2)
        end(self, key, token)

    monkeypatch.setattr(StoreLeases, "_end", slowly)
    url = f"sqlite:///{tmp_path / 'answers.db'}"
    one, other = TieredCache(url, semantic=False), TieredCache(url, semantic=False)
    await Chat(cache=one).ainvoke("q")
    one.close()
    assert other.cache.values.scan("lease:") == ([], "")
    other.close()


class _Refused(Exception):
    status_code = 404


@pytest.mark.parametrize("is_async", [False, True])
async def test_an_error_that_asking_again_cannot_mend_goes_to_all(
    tiered: TieredCache, is_async: bool
) -> None:
    calls: list[float] = []

    def refuse(_: list[BaseMessage]) -> AIMessage:
        calls.append(time.monotonic())
        time.sleep(0.3)
        raise _Refused("no such model")

    model = Chat(cache=tiered, reply=refuse)
    if is_async:
        asked = (model.ainvoke("q") for _ in range(5))
        got = await asyncio.gather(*asked, return_exceptions=True)
    else:
        got = await asyncio.to_thread(model.batch, ["q"] * 5, return_exceptions=True)
    assert [type(one) for one in got] == [_Refused] * 5
    assert len(calls) == 1
