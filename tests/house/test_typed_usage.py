"""The typed examples do at run time what their types say."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared_core import Request

QUESTION = Request.of("What is a fuse?", model="m", params={"temperature": 0})


def test_the_typed_examples_of_the_core_run() -> None:
    from tests.house import typed_usage

    with typed_usage.open_caches() as cache:
        assert typed_usage.look_up(cache, QUESTION)
        typed_usage.control(cache, QUESTION)
        assert typed_usage.answer(cache, QUESTION).text == "a text will do"
        assert typed_usage.decorate(cache) == 3
    typed_usage.keep()
    assert [policy.k >= 1 for policy in typed_usage.choose()] == [True] * 4


async def test_the_typed_examples_of_the_event_loop_run() -> None:
    from tests.house import typed_usage

    await typed_usage.answer_on_a_loop(typed_usage.open_caches(), QUESTION)


def test_the_typed_examples_of_the_adapters_run() -> None:
    pytest.importorskip("langchain_core")
    pytest.importorskip("llama_index.core")
    from langchain_core.language_models.fake_chat_models import FakeListChatModel
    from llama_index.core.llms import MockLLM

    from tests.house import typed_usage

    typed_usage.langchain(FakeListChatModel(responses=["It melts."]))
    typed_usage.llamaindex(MockLLM())


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning"
)  # LlamaIndex' agents give it of themselves
def test_the_typed_examples_of_types_and_options_run() -> None:
    from llama_index.core import Settings

    from tests.house import typed_usage

    before = Settings._llm, Settings._embed_model
    try:
        typed_usage.types_given()
        typed_usage.options_of_adapters()
    finally:
        Settings._llm, Settings._embed_model = before


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_the_type_checkers_refuse_fails_at_once() -> None:
    from tests.house import typed_usage

    for number, wrong in enumerate(typed_usage.REFUSED):
        with pytest.raises((TypeError, ValueError)):
            pytest.fail(f"example {number} gave {wrong()!r}")


def test_there_are_at_least_sixty_typed_usages() -> None:
    """A usage: a type that is asserted, or a call that is refused."""
    text = (Path(__file__).parent / "typed_usage.py").read_text()
    right, wrong = text.count("    assert_type("), text.count("# type: ignore[")
    assert right + wrong >= 60
    assert wrong >= 20
