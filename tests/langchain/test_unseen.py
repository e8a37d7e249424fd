"""What LangChain does not tell a cache: each line of the table in docs/langchain.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.language_models import BaseLLM
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk, Generation, LLMResult
from langchain_core.prompts import PromptTemplate
from pydantic import PrivateAttr

from langchain_tiered_cache import TieredCache, cached_model
from tests.langchain.chat_models import Chat

FORMS = pytest.mark.parametrize("form", ["invoke", "ainvoke", "batch", "abatch"])


class Completion(BaseLLM):
    """A completion model that answers with the arguments of its call."""

    name_of_it: str = "a"
    _count: list[str] = PrivateAttr(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "completion-of-tests"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.name_of_it}

    def _generate(
        self, prompts: list[str], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> LLMResult:
        self._count.extend(prompts)
        return LLMResult(generations=[[Generation(text=f"{one} {kwargs}")] for one in prompts])


async def ask(form: str, model: Any, **arguments: Any) -> str:
    match form:
        case "invoke":
            return str(model.invoke("q", **arguments))
        case "ainvoke":
            return str(await model.ainvoke("q", **arguments))
        case "batch":
            return str(model.batch(["q"], **arguments)[0])
        case _:
            return str((await model.abatch(["q"], **arguments))[0])


@pytest.fixture
def tiered() -> Iterator[TieredCache]:
    cache = TieredCache(semantic=False)
    yield cache
    cache.close()


@FORMS
async def test_arguments_of_one_completion_pass_the_cache_over_and_are_warned_of_once(
    form: str, tiered: TieredCache, caplog: pytest.LogCaptureFixture
) -> None:
    model = Completion(cache=tiered)
    for _ in range(2):
        assert await ask(form, model) == "q {}"
        assert await ask(form, model, temperature=1) == "q {'temperature': 1}"
        assert await ask(form, model, temperature=2) == "q {'temperature': 2}"
    assert len(model._count) == 5
    (record,) = caplog.records
    assert "temperature" in record.getMessage()
    assert tiered.errors == {"arguments:unseen": 8}


@pytest.mark.parametrize("form", ["invoke", "ainvoke"])
async def test_bound_arguments_in_a_chain_too(form: str, tiered: TieredCache) -> None:
    chain = PromptTemplate.from_template("{q}") | Completion(cache=tiered).bind(top_p=0.5)
    given: Any = {"q": "q"}
    for _ in range(2):
        answer = chain.invoke(given) if form == "invoke" else await chain.ainvoke(given)
        assert answer == "q {'top_p': 0.5}"
    assert tiered.cache.stats().stores == 0


async def test_stop_words_and_the_config_are_no_such_arguments(
    tiered: TieredCache, caplog: pytest.LogCaptureFixture
) -> None:
    model = Completion(cache=tiered)
    for _ in range(2):
        model.invoke("q", {"tags": ["a"], "run_name": "b"}, stop=["x"])
        await model.ainvoke("q", {"metadata": {"a": 1}}, stop=["x"])
    assert model._count == ["q"]
    assert not caplog.records


@FORMS
async def test_a_cached_model_has_them_in_its_key(
    form: str, tiered: TieredCache, caplog: pytest.LogCaptureFixture
) -> None:
    model = cached_model(Completion(), tiered)
    for _ in range(2):
        assert await ask(form, model, temperature=1) == "q {'temperature': 1}"
        assert await ask(form, model, temperature=2) == "q {'temperature': 2}"
    assert model._count == ["q", "q"]
    assert not caplog.records


class Nameless(Chat):
    """A custom chat model that says nothing of itself."""

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {}


def test_models_that_name_nothing_are_warned_of_once(
    tiered: TieredCache, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        tiered.lookup("q", "[('_type', 'chat-of-tests'), ('stop', None)]")
    (record,) = caplog.records
    assert "'chat-of-tests'" in record.getMessage()
    assert "_identifying_params" in record.getMessage()
    assert not tiered.errors, "nothing failed"


def test_models_that_can_be_read_need_no_names(
    tiered: TieredCache, caplog: pytest.LogCaptureFixture
) -> None:
    for model in (Nameless(cache=tiered, settings={"a": 1}), Nameless(cache=tiered)):
        mark = model.invoke("q").response_metadata["tiered_cache"]
        assert not mark["hit"], "what the model says nothing of is read off it"
    assert not caplog.records


def test_models_that_name_a_setting_are_not(
    tiered: TieredCache, caplog: pytest.LogCaptureFixture
) -> None:
    Chat(cache=tiered).invoke("q")
    Completion(cache=tiered).invoke("q")
    tiered.lookup("q", "any string of another kind")
    assert not caplog.records


def test_a_model_that_streams_itself_asks_no_cache(tiered: TieredCache) -> None:
    class Streamer(Chat):
        def _stream(self, messages: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
            message = self._generate(messages).generations[0].message
            yield ChatGenerationChunk(message=AIMessageChunk(message.text))

    model = Streamer(cache=tiered)
    for _ in range(2):
        list(model.stream("q"))
    assert (model.calls, tiered.cache.stats().lookups) == (2, 0)


def test_objects_without_an_identity_are_neither_looked_up_nor_kept(tiered: TieredCache) -> None:
    model = Chat(cache=tiered)
    for _ in range(2):
        model.invoke("q", thing=object())
    stats = tiered.cache.stats()
    assert (model.calls, stats.stores, stats.misses) == (2, 0, {"unstable": 2})
