"""TieredCache itself: construction, failing open, sharing between copies, the event loop."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, Generation

from langchain_tiered_cache import TieredCache, parse, rag_question
from shared_core import Answer, Miss, Request, ResponseCache
from tests.fakes import fake_embed
from tests.langchain.chat_models import Chat, openai_string, prompt_of

PROMPT, MODEL = prompt_of(HumanMessage("What is a fuse?")), openai_string()


def generation(message: AIMessage) -> list[Generation]:
    return [ChatGeneration(message=message)]


def test_a_url_and_an_open_cache_are_the_same() -> None:
    inner = ResponseCache.open("memory://", semantic=False)
    tiered = TieredCache(cache=inner)
    assert tiered.cache is inner
    tiered.update(PROMPT, MODEL, generation(AIMessage("a")))
    assert TieredCache(cache=inner).lookup(PROMPT, MODEL) is not None
    assert TieredCache("memory://", semantic=False).lookup(PROMPT, MODEL) is None


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"url": "nowhere://x"}, "nowhere"),
        ({"url": ""}, "''"),
        ({"treshold": 0.9}, "threshold"),
        ({"threshold": 7}, "7"),
        ({"question": "last line"}, "'last line'"),
        ({"cache": object()}, "object"),
        ({"cache": ResponseCache.open(semantic=False), "url": "memory://"}, "url"),
        ({"cache": ResponseCache.open(semantic=False), "ttl": 5}, "ttl"),
    ],
)
def test_wrong_arguments_are_named_at_construction(arguments: Any, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        TieredCache(**arguments)


class Broken:
    """A store of which everything fails, in a way that nobody expects."""

    def __getattr__(self, name: str) -> Any:
        raise LookupError(name)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> TieredCache:
    tiered = TieredCache(semantic=False)
    monkeypatch.setattr(tiered, "cache", Broken())
    return tiered


@pytest.mark.parametrize("form", ["invoke", "ainvoke"])
def test_a_cache_that_fails_costs_no_answer(
    broken: TieredCache, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = Chat(cache=broken)
    with caplog.at_level(logging.WARNING, "tiered_cache"):
        for _ in range(3):
            answer = asyncio.run(model.ainvoke("hi")) if form == "ainvoke" else model.invoke("hi")
            assert answer.text == "You said: hi"
    assert broken.errors == {"lookup:LookupError": 3, "update:LookupError": 3}
    assert len(caplog.records) == 2, "one warning for each kind"
    assert "hi" not in caplog.text.split(), "no prompt in the log"


def test_clear_fails_open_too(broken: TieredCache) -> None:
    broken.clear()
    asyncio.run(broken.aclear())
    assert broken.errors == {"clear:LookupError": 2}


def test_an_extractor_that_raises_is_a_miss() -> None:
    def question(text: str) -> str:
        raise ZeroDivisionError

    model = Chat(cache=(tiered := TieredCache(question=question, semantic=False)))
    assert [model.invoke("hi").text for _ in range(2)] == ["You said: hi"] * 2
    assert (model.calls, tiered.errors["lookup:ZeroDivisionError"]) == (2, 2)


def test_an_answer_that_cannot_be_stored_is_still_given() -> None:
    reply = AIMessage("a", additional_kwargs={"x": b"bytes"})
    model = Chat(cache=(tiered := TieredCache(semantic=False)), reply=lambda messages: reply)
    for _ in range(2):
        assert model.invoke("hi").response_metadata["tiered_cache"]["entry_id"] is None
    assert (model.calls, tiered.errors) == (2, {"unstorable": 2})


@pytest.mark.parametrize("awaited", [False, True])
def test_a_stored_answer_that_cannot_be_read_is_a_miss_and_deleted(awaited: bool) -> None:
    tiered = TieredCache(semantic=False)
    bad = Answer("a", payload='{"v":"langchain/1","generations":[{"kind":"os.system"}]}')
    request = parse(PROMPT, MODEL)
    tiered.cache.store(request, bad)
    found = asyncio.run(tiered.alookup(PROMPT, MODEL)) if awaited else tiered.lookup(PROMPT, MODEL)
    assert found is None
    assert tiered.errors == {"unreadable": 1}
    assert isinstance(tiered.cache.lookup(request), Miss)


def test_a_text_stored_by_another_framework_is_served() -> None:
    tiered = TieredCache(semantic=False)
    params = {"provider": "openai", "model": "gpt-4o-mini", "temperature": 0}
    request = Request.of("What is a fuse?", params=params, format="llamaindex/1")
    tiered.cache.store(request, Answer("It melts.", payload='{"v":"llamaindex/1"}'))
    (found,) = tiered.lookup(PROMPT, MODEL) or []
    assert found.text == "It melts."
    assert found.message.response_metadata["tiered_cache"]["hit"] is True  # type: ignore[attr-defined]


def test_what_only_langchain_can_read_is_not_served_to_others() -> None:
    tiered = TieredCache(semantic=False)
    call = {"name": "f", "args": {}, "id": "call_1"}
    tiered.update(PROMPT, MODEL, generation(AIMessage("a", tool_calls=[call])))
    params = {"provider": "openai", "model": "gpt-4o-mini", "temperature": 0}
    outcome = tiered.cache.lookup(Request.of("What is a fuse?", params=params))
    assert getattr(outcome, "reason", None) == "format"


def test_copies_of_a_model_share_the_cache() -> None:
    model = Chat(cache=TieredCache(semantic=False))
    model.invoke("hi")
    for other in (copy.copy(model), copy.deepcopy(model), model.model_copy(deep=True)):
        assert other.invoke("hi").response_metadata["tiered_cache"]["hit"] is True


def test_the_event_loop_goes_on_while_the_embedder_works() -> None:
    entered, released = threading.Event(), threading.Event()
    waited: list[bool] = []

    def embed(texts: list[str]) -> Any:
        entered.set()
        waited.append(released.wait(5))
        return fake_embed(texts)

    async def run() -> None:
        tiered = TieredCache(embedder=embed, threshold=0.9)
        lookup = asyncio.create_task(tiered.alookup(PROMPT, MODEL))
        while not entered.is_set():
            await asyncio.sleep(0)
        released.set()  # by the loop itself, which a blocking lookup would not let run
        assert await lookup is None

    asyncio.run(run())
    assert waited
    assert all(waited)


def test_a_long_prompt_is_parsed_beside_the_event_loop() -> None:
    async def run() -> None:
        tiered = TieredCache(semantic=False)
        image = {"type": "image_url", "image_url": {"url": "data:," + "a" * 300_000}}
        asked = prompt_of(HumanMessage([{"type": "text", "text": "What?"}, image])), MODEL
        await tiered.aupdate(*asked, generation(AIMessage("a")))
        assert await tiered.alookup(*asked) is not None

    asyncio.run(run())


def test_clear_ignores_the_arguments_of_other_caches() -> None:
    cache = TieredCache(semantic=False)
    cache.update("q", "m", [Generation(text="a")])
    cache.clear(asynchronous=True)
    assert cache.lookup("q", "m") is None
    assert cache.errors == {}


@pytest.mark.slow
def test_a_cache_unpickled_in_another_process_sees_what_a_call_is_made_of(tmp_path: Path) -> None:
    cache = TieredCache(f"sqlite:///{tmp_path}/a.db", semantic=False, question=rag_question())
    code = """
import pickle, sys
cache = pickle.loads(sys.stdin.buffer.read())
from langchain_tiered_cache.call_context import _registered
print(len(_registered), cache._question("Context: a\\nQuestion: b")[0])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(cache), capture_output=True, check=True
    )
    assert done.stdout.split() == [b"1", b"b"]


def test_two_caches_register_one_watcher() -> None:
    from langchain_core.tracers.context import _configure_hooks

    before = len(_configure_hooks)
    TieredCache(semantic=False)
    assert len(_configure_hooks) == before
