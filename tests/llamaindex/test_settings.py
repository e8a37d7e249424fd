"""What goes past the cache is noticed: models set after install(), or passed as llm=."""

from __future__ import annotations

import asyncio
import copy
import gc
import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from llama_index.core import Document, MockEmbedding, Settings, VectorStoreIndex
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.llms.mock import MockLLM
from llama_index.core.prompts import PromptTemplate

from llamaindex_tiered_cache import cache_report, cached_llm, install
from llamaindex_tiered_cache import llm as watched
from shared_core import ResponseCache
from tests.llamaindex.fakes import FakeLLM
from tests.llamaindex.leftovers import MARKS, collected  # noqa: F401 - for every test here

pytestmark = MARKS
ASKED = [ChatMessage("What is a fuse?")]


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    llm, embed_model = Settings._llm, Settings._embed_model
    Settings.llm, Settings.embed_model = FakeLLM(), MockEmbedding(embed_dim=4)
    install(ResponseCache.open(semantic=False), embeddings=True)
    assert watched._watcher is not None
    watched._watcher.calls.clear()
    yield
    Settings._llm, Settings._embed_model = llm, embed_model


def report() -> dict[str, tuple[bool, int]]:
    return {one.name: (one.is_cached, one.calls) for one in cache_report()}


def test_agents_can_still_be_copied() -> None:
    """LlamaIndex copies who hears an agent's spans with it."""
    agent = FunctionAgent(llm=FakeLLM(), tools=[])
    assert copy.deepcopy(agent).name == agent.name
    assert copy.deepcopy(watched._watcher) is watched._watcher


def test_calls_through_the_cache_are_counted_and_no_warning_is_given(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for _ in range(3):
        Settings.llm.chat(ASKED)
    Settings.embed_model.get_text_embedding("a")
    found = report()
    assert (True, 3) in found.values()
    assert all(is_cached for is_cached, _ in found.values())
    assert not caplog.records


def test_a_model_that_is_set_later_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    Settings.llm = MockLLM()
    for _ in range(2):
        Settings.llm.chat(ASKED)
    assert report()["MockLLM"] == (False, 2)
    assert [one.getMessage() for one in caplog.records if "MockLLM" in one.getMessage()]
    assert len(caplog.records) == 1


def test_a_model_that_an_engine_was_given_is_named(caplog: pytest.LogCaptureFixture) -> None:
    index = VectorStoreIndex.from_documents([Document(text="A fuse melts.")])
    index.as_query_engine(llm=MockLLM()).query("What is a fuse?")
    assert report()["MockLLM"][0] is False
    assert "cached_llm" in caplog.text
    index.as_query_engine().query("What is a fuse?")
    assert "NOT CACHED" in "\n".join(map(str, cache_report()))


def test_a_cached_query_engine_shows_no_model_beside_the_cache() -> None:
    index = VectorStoreIndex.from_documents([Document(text="A fuse melts.")])
    index.as_query_engine().query("What is a fuse?")
    assert all(is_cached for is_cached, _ in report().values())


async def test_calls_that_are_awaited_and_streams_are_seen_too() -> None:
    llm: Any = cached_llm(MockLLM(), ResponseCache.open(semantic=False))
    await llm.achat(ASKED)
    list(llm.stream_chat(ASKED))
    assert report()["MockLLM"] == (True, 2)


def test_spans_that_end_are_forgotten() -> None:
    assert watched._watcher is not None
    Settings.llm.chat(ASKED)
    assert watched._watcher.open_spans == {}


def test_calls_left_early_or_abandoned_leave_nothing_with_the_watcher(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert watched._watcher is not None
    watcher = watched._watcher
    llm = Settings.llm
    next(llm.stream_chat(ASKED))
    chat = VectorStoreIndex.from_documents([Document(text="A")]).as_chat_engine(chat_mode="simple")
    chat.stream_chat("What is a fuse?")  # whose answer nobody reads

    async def abandon() -> None:
        await anext(await llm.astream_chat([ChatMessage("What is a volt?")]))
        await anext(await llm.astream(PromptTemplate("{query_str}"), query_str="What is an amp?"))

        async def hang(*_: Any, **__: Any) -> Any:
            await asyncio.sleep(60)

        monkeypatch.setattr(FakeLLM, "achat", hang)
        call = asyncio.ensure_future(llm.achat([ChatMessage("What is an ohm?")]))
        await asyncio.sleep(0.01)
        assert watcher.open_spans
        call.cancel()

    asyncio.run(abandon())
    gc.collect()
    assert watcher.open_spans == {}


def test_a_call_whose_end_nobody_tells_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    assert watched._watcher is not None
    watcher = watched._watcher
    monkeypatch.setattr(watched, "MAX_OPEN_SPANS", 3)
    arguments = inspect.signature(lambda: None).bind()
    for number in range(10):
        watcher.span_enter(str(number), arguments, instance=Settings.llm)
    assert list(watcher.open_spans) == ["7", "8", "9"]
    for number in range(10):
        watcher.span_exit(str(number), arguments)
    assert not watcher.open_spans
