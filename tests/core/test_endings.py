"""Whose answers say why they ended, and what that says of one that does not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk

from langchain_tiered_cache import TieredCache, cached_model
from shared_core import Request
from shared_core.record import Endings
from tests.langchain.chat_models import Chat


def request(provider: str = "their-own", model: str = "m") -> Request:
    return Request.of("q", params={"provider": provider, "model": model})


def test_one_that_never_gives_a_reason_is_whole_without_one() -> None:
    endings = Endings()
    for _ in range(3):
        assert not endings.is_unfinished(request(), "langchain", "stream", None)


def test_one_that_gave_a_reason_once_is_cut_without_one() -> None:
    endings = Endings()
    assert not endings.is_unfinished(request(), "langchain", "stream", "stop")
    assert endings.is_unfinished(request(), "langchain", "stream", None)
    for other in (
        (request(model="n"), "langchain", "stream"),
        (request("another"), "langchain", "stream"),
        (request(), "langchain", "call"),
        (request(), "llamaindex", "stream"),
    ):
        assert not endings.is_unfinished(*other, None)


@pytest.mark.parametrize("provider", ["openai", "anthropic", "google", "mistralai", "groq"])
def test_one_that_is_known_to_give_reasons_is_cut_without_one_from_the_first(provider: str) -> None:
    assert Endings().is_unfinished(request(provider), "langchain", "call", None)
    assert not Endings().is_unfinished(request(provider), "langchain", "call", "stop")


def test_a_provider_s_name_in_a_message_says_nothing() -> None:
    history = [{"role": "user", "content": '{"provider":"openai"}', "provider": "openai"}]
    asked = Request.of("q", history=history, params={"provider": "their-own", "model": "m"})
    assert not Endings().is_unfinished(asked, "langchain", "stream", None)


class Streamed(Chat):
    """A custom model that streams; it says why it ended where it is told to, or breaks off."""

    reason: str | None = None
    says: bool = True

    def _stream(self, messages: Any, *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        self._seen.append(messages)
        for text in ("It ", "melts."):
            yield ChatGenerationChunk(message=AIMessageChunk(text))
        if self.reason is not None and self.says:
            end = AIMessageChunk("", response_metadata={"finish_reason": self.reason})
            yield ChatGenerationChunk(message=end)

    async def _astream(
        self, messages: Any, *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self._stream(messages):
            yield chunk


async def stream(model: Any, question: str, is_async: bool) -> None:
    if is_async:
        assert [chunk async for chunk in model.astream(question)]
    else:
        assert list(model.stream(question))


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(("reason", "calls"), [(None, 1), ("stop", 2)])
async def test_a_custom_model_s_own_way_of_ending_is_learnt(
    reason: str | None, calls: int, is_async: bool
) -> None:
    inner = Streamed(reason=reason)
    model: Any = cached_model(inner, TieredCache(semantic=False))
    for _ in range(2):
        await stream(model, "whole", is_async)
    assert len(inner._seen) == 1
    model.says = False  # if it ever said why it ended, it breaks off from here on
    for _ in range(2):
        await stream(model, "the next", is_async)
    assert len(inner._seen) == 1 + calls
