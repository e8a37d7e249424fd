"""The four ways into a cache agree: LangChain, LlamaIndex, the client and the proxy."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage
from llama_index.core.base.llms.types import ChatMessage

from langchain_tiered_cache.request import parse
from llamaindex_tiered_cache.request import chat_request, completion_request
from shared_core import ResponseCache
from shared_core.openai_format import Endpoint, request_of
from shared_core.service.proxy.completions import Completions
from shared_core.testing import (
    AdapterConformance,
    CompletionConformance,
    CountedModel,
    ModelCall,
    Way,
)
from tests.end_to_end.ways_in import ClientDriver, LangChainDriver, LlamaIndexDriver, ProxyDriver
from tests.langchain.chat_models import openai_string, prompt_of
from tests.llamaindex.fakes import FakeLLM
from tests.llamaindex.leftovers import MARKS, collected  # noqa: F401 - for every test here

pytestmark = MARKS

Ways = tuple[Way, Way]

OPENAI = Endpoint("openai", "https://api.openai.com/v1", {})
MODEL = FakeLLM()


@pytest.fixture(
    params=[("call", "astream"), pytest.param(("acall", "stream"), marks=pytest.mark.slow)],
    ids=" and ".join,
)
def ways(request: pytest.FixtureRequest) -> Ways:
    """Give half of the ways in: two by default, the others with all tests."""
    found: Ways = request.param
    return found


class TestLangChain(AdapterConformance, CompletionConformance):
    @pytest.fixture
    def adapter(self, ways: Ways) -> LangChainDriver:
        return LangChainDriver(ways)


class TestLlamaIndex(AdapterConformance, CompletionConformance):
    @pytest.fixture
    def adapter(self, ways: Ways) -> LlamaIndexDriver:
        return LlamaIndexDriver(ways)


class TestClient(AdapterConformance):
    @pytest.fixture
    def adapter(self, ways: Ways) -> ClientDriver:
        return ClientDriver(ways)


class TestProxy(AdapterConformance, CompletionConformance):
    @pytest.fixture
    def adapter(self) -> ProxyDriver:
        return ProxyDriver()


# ------------------------------------------------------ one rule for any text, one key for all

PIECES = st.sampled_from(
    [
        "How do I change a fuse?", "fuse", "yes", "YES", "no", "or", "NO", "true", "/", "false",
        "Observation:", "Context:", "Question:", "<context>", "</context>", "\n", "\n\n", " ", "é",
    ]
)  # fmt: skip


@given(st.lists(PIECES, max_size=6).map("".join))
@settings(max_examples=200, deadline=None)
def test_all_say_the_same_of_any_text_of_a_user(text: str) -> None:
    message = {"role": "user", "content": text}
    by = {
        "langchain": parse(prompt_of(HumanMessage(text)), openai_string()),
        "llamaindex": chat_request(MODEL, [ChatMessage(text)], {}),
        "client and proxy": request_of(OPENAI, [message], {"model": "m", "temperature": 0}),
    }
    assert len({(one.question, one.exact_only) for one in by.values()}) == 1, by


@given(st.lists(PIECES, min_size=1, max_size=6).map("".join))
@settings(max_examples=100, deadline=None)
def test_all_say_the_same_of_any_prompt_of_a_completion_model(text: str) -> None:
    body = {"model": "m", "temperature": 0, "prompt": text}
    by = {
        "langchain": parse(text, openai_string()),
        "llamaindex": completion_request(MODEL, text, False, {}),
        "proxy": Completions().request_of(OPENAI, body),
    }
    assert len({(one.question, one.exact_only) for one in by.values()}) == 1, by


IN_PROCESS = (LangChainDriver, LlamaIndexDriver, ClientDriver)


@pytest.mark.parametrize("asks", IN_PROCESS)
@pytest.mark.parametrize("asks_again", IN_PROCESS)
def test_a_text_answered_by_one_way_is_found_by_every_other(asks: Any, asks_again: Any) -> None:
    with closing(ResponseCache.open("memory://", semantic=False)) as cache:
        model = CountedModel()
        messages = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"})
        call = ModelCall(messages)
        first, second = (driver().ask(cache, model, call, "call") for driver in (asks, asks_again))
        assert (second, model.calls) == (first, 1)
