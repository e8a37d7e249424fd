"""A cached LangChain model stays what the model is."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import BaseLLM, FakeListChatModel
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, Generation, GenerationChunk, LLMResult
from langchain_core.runnables import ConfigurableField
from langchain_openai import ChatOpenAI
from pydantic import Field

from langchain_tiered_cache import TieredCache, cached_model
from shared_core import ResponseCache
from tests.langchain.chat_models import Chat
from tests.langchain.test_streams import SCRIPTS, Streamer, by_stream, cached, said


def openai(**settings: Any) -> ChatOpenAI:
    return ChatOpenAI(model="gpt-4o-mini", api_key="none", **settings)


def test_it_is_an_instance_of_the_models_class_with_its_name_and_attributes() -> None:
    own = openai(temperature=0.5, max_tokens=7)
    model = cached_model(own, "memory://")
    assert isinstance(model, ChatOpenAI)
    assert type(model).__name__ == "ChatOpenAI"
    assert (model.model_name, model.temperature, model.max_tokens) == ("gpt-4o-mini", 0.5, 7)
    assert model.profile == own.profile
    assert model.root_client is own.root_client
    assert dumps(model) == dumps(own)
    assert model._get_llm_string(stop=["x"]) == own._get_llm_string(stop=["x"])
    assert own.cache is None


def test_a_cache_is_a_tiered_cache_a_response_cache_or_a_url() -> None:
    tiered = TieredCache(semantic=False)
    assert cached_model(Streamer(), tiered).cache is tiered
    response = ResponseCache.open("memory://", semantic=False)
    assert cached_model(Streamer(), response).cache.cache is response  # type: ignore[union-attr]
    assert isinstance(cached_model(Streamer(), "memory://").cache, TieredCache)


@pytest.mark.parametrize("wrong", [{"cache": 7}, {"pace": -1}, {"pace": "fast"}, {"pace": True}])
def test_wrong_arguments_are_value_errors(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        cached_model(Streamer(), **{"cache": "memory://", **wrong})


def test_what_is_no_model_is_a_value_error_that_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="cache the model first"):
        cached_model(Streamer().bind(stop=["x"]), "memory://")  # type: ignore[type-var]


def test_a_model_that_is_cached_already_is_cached_anew() -> None:
    first = cached()
    second = cached_model(first, TieredCache(semantic=False), pace=0.0)
    assert type(second).__mro__.count(Streamer) == 1
    by_stream(first, "q")
    by_stream(second, "q")
    assert first.asked == second.asked == ["stream", "stream"]


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, Streamer.model_copy])
def test_copies_share_the_cache_and_the_pace(copied: Any) -> None:
    model = cached(pace=0.0)
    by_stream(model, "q")
    twin = copied(model)
    assert twin.cache is model.cache
    assert type(twin) is type(model)
    asked = len(twin.asked)
    by_stream(twin, "q")
    assert len(twin.asked) == asked


def test_a_pickled_model_reads_what_was_stored(tmp_path: Path) -> None:
    cache = ResponseCache.open(f"sqlite:///{tmp_path}/answers.db", semantic=False)
    model = cached_model(Streamer(), cache, pace=0.0)
    whole = by_stream(model, "q")
    twin = pickle.loads(pickle.dumps(model))  # noqa: S301 - our own, of this very line
    assert type(twin) is type(model)
    assert said(by_stream(twin, "q")) == said(whole)
    assert len(twin.asked) == 1  # the one that the pickle brought along


def test_settings_of_a_call_make_another_model_that_is_cached_too() -> None:
    model = cached(pace=0.0).configurable_fields(temperature=ConfigurableField("t"))
    warm = {"configurable": {"t": 0.7}}
    for config in ({}, warm, {}, warm):
        list(model.stream("q", config=config))
    stats = model.default.cache.cache.stats()
    assert (stats.stores, stats.hits) == (2, 2)


def test_fallbacks_configuration_and_chains_stream_from_the_cache() -> None:
    broken, sound = cached(Streamer(fails_after=0)), cached()
    chain = broken.with_fallbacks([sound]).with_config(tags=["a"]) | (lambda message: message)
    for _ in range(2):
        assert "".join(c.text for c in chain.stream("q")) == "The capital\n\n of  it is Paris. "
    assert (broken.asked, sound.asked) == (["stream"] * 2, ["stream"])


def test_a_model_without_streams_answers_whole_from_the_cache() -> None:
    model = cached_model(Chat(), TieredCache(semantic=False))
    for _ in range(2):
        (message,) = model.stream("q")
        assert isinstance(message, AIMessage)
    assert model.calls == 1


def test_batches_and_streams_share_entries() -> None:
    model = cached(Streamer(script=SCRIPTS["tool calls"]))
    messages = model.batch(["a", "b"])
    assert [said(by_stream(model, q)) for q in "ab"] == [said(message) for message in messages]
    assert model.asked == ["invoke", "invoke"]


def test_without_its_cache_a_model_streams_as_before() -> None:
    model = cached()
    model.cache = False
    by_stream(model, "q")
    by_stream(model, "q")
    assert model.asked == ["stream", "stream"]


def test_a_question_in_other_words_is_replayed_too() -> None:
    from tests.fakes import FakeEmbedder

    cache = TieredCache(threshold=0.8, embedder=FakeEmbedder())
    model = cached_model(FakeListChatModel(responses=["Paris", "Rome"]), cache)
    first = by_stream(model, "what is the capital city of France?")
    second = by_stream(model, "What is the capital city of France")
    assert first.text == second.text == "Paris"
    assert second.response_metadata["tiered_cache"]["tier"] == "semantic"


class Completer(BaseLLM):
    """A completion model that streams words and notes with what it was called."""

    calls: list[dict[str, Any]] = Field(default_factory=list, exclude=True)

    @property
    def _llm_type(self) -> str:
        return "completer-of-tests"

    def _generate(
        self, prompts: list[str], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> LLMResult:
        self.calls.append(kwargs)
        return LLMResult(generations=[[Generation(text=f"answer {kwargs}")] for _ in prompts])

    def _stream(
        self, prompt: str, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[GenerationChunk]:
        self.calls.append(kwargs)
        for word in ("It", " is", " Paris."):
            yield GenerationChunk(text=word)
        yield GenerationChunk(text="", generation_info={"finish_reason": "stop"})


class AsyncCompleter(Completer):
    async def _astream(
        self, prompt: str, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[GenerationChunk]:
        for chunk in self._stream(prompt, stop, run_manager, **kwargs):
            yield chunk


@pytest.mark.parametrize("kind", [Completer, AsyncCompleter])
def test_a_completion_model_streams_from_the_cache(kind: type[Completer]) -> None:
    async def words(model: Any) -> list[str]:
        return [word async for word in model.astream("q")]

    model = cached_model(kind(), TieredCache(semantic=False))
    assert list(model.stream("q")) == ["It", " is", " Paris.", ""]
    assert list(model.stream("q")) == asyncio.run(words(model)) == ["It", " is", " Paris."]
    assert model.invoke("q") == asyncio.run(model.ainvoke("q")) == "It is Paris."
    assert model.generate(["q"]).generations[0][0].generation_info == {"finish_reason": "stop"}
    assert len(model.calls) == 1  # type: ignore[attr-defined]


def test_callbacks_hear_the_replay_of_a_completion() -> None:
    from langchain_core.callbacks import BaseCallbackHandler

    heard: list[str] = []

    class Ear(BaseCallbackHandler):
        def on_llm_new_token(self, token: Any, **_: Any) -> None:
            heard.append(token)

    model = cached_model(Completer(), TieredCache(semantic=False))
    for _ in range(2):
        list(model.stream("q", config={"callbacks": [Ear()]}))
    assert heard == ["It", " is", " Paris."]


def test_a_completion_is_found_only_for_the_arguments_of_its_call() -> None:
    model = cached_model(Completer(), TieredCache(semantic=False))
    for temperature in (0.1, 0.9, 0.1, 0.9):
        assert str(temperature) in model.invoke("q", temperature=temperature)
        answer = asyncio.run(model.ainvoke("q", temperature=temperature))
        assert str(temperature) in answer
        assert "".join(model.stream("q", temperature=temperature)) == answer
    assert len(model.calls) == 2  # type: ignore[attr-defined]
    model.invoke("q")
    assert model.calls[-1] == {}  # type: ignore[attr-defined]


class Noting(TieredCache):
    """A cache that notes what it is asked."""

    asked: list[tuple[str, str]]

    def lookup(self, prompt: str, llm_string: str) -> Any:
        self.asked.append((prompt, llm_string))
        return super().lookup(prompt, llm_string)


def test_the_cache_is_asked_the_very_same_by_invoke_and_by_stream() -> None:
    cache = Noting(semantic=False)
    cache.asked = []
    models = [cached_model(Streamer(), cache), cached_model(openai(temperature=0), cache)]
    for model in models:
        messages = [HumanMessage("q", id="1")]
        cache.update(dumps([HumanMessage("q")]), model._get_llm_string(stop=["x"]), [answer()])
        model.invoke(messages, stop=["x"])
        list(model.stream(messages, stop=["x"]))
        assert cache.asked[-1] == cache.asked[-2]


def answer() -> ChatGeneration:
    return ChatGeneration(message=AIMessage("Paris"))
