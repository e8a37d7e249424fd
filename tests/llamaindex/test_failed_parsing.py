"""An answer of which LlamaIndex can make no object is not read again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

pytest.importorskip("llama_index.llms.openai")

import httpx
from llama_index.core.prompts import PromptTemplate
from llama_index.llms.openai import OpenAI
from pydantic import BaseModel

from llamaindex_tiered_cache import cached_llm
from shared_core import ResponseCache

GOOD, BAD = '{"name": "Rome", "people": 3}', '{"name": "Rome", "people": "many"}'


class Place(BaseModel):
    """A place."""

    name: str
    people: int


class Server:
    """OpenAI's API; its first answers fit no schema."""

    def __init__(self, *texts: str) -> None:
        self.texts, self.calls = texts, 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        text = self.texts[min(self.calls, len(self.texts) - 1)]
        self.calls += 1
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if body.get("tools"):
            call = {"id": "c", "type": "function"}
            name = body["tools"][0]["function"]["name"]
            message = {
                "role": "assistant",
                "content": None,
                "tool_calls": [{**call, "function": {"name": name, "arguments": text}}],
            }
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        whole = {"id": "x", "object": "chat.completion", "created": 1, "model": body["model"]}
        return httpx.Response(200, json={**whole, "choices": [choice]})


@pytest.fixture
def cache() -> Iterator[ResponseCache]:
    with ResponseCache.open(semantic=False) as opened:
        yield opened


def llm(server: Server, cache: ResponseCache, model: str) -> Any:
    transport = httpx.MockTransport(server)
    inner = OpenAI(
        model=model,
        temperature=0,
        api_key="sk",
        max_retries=0,
        http_client=httpx.Client(transport=transport),
        async_http_client=httpx.AsyncClient(transport=transport),
    )
    return cached_llm(inner, cache)


PROMPT = PromptTemplate("Describe {city} as JSON.")


async def predicted(asked: Any, is_async: bool) -> Any:
    if is_async:
        return await asked.astructured_predict(Place, PROMPT, city="Rome")
    return asked.structured_predict(Place, PROMPT, city="Rome")


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("model", ["gpt-4o-mini", "gpt-4"])
async def test_a_structured_prediction_that_failed_is_asked_anew(
    cache: ResponseCache, model: str, is_async: bool
) -> None:
    server = Server(BAD, GOOD)
    asked = llm(server, cache, model)
    with suppress(ValueError):
        assert not isinstance(await predicted(asked, is_async), Place)
    for _ in range(2):
        assert await predicted(asked, is_async) == Place(name="Rome", people=3)
    assert server.calls == 2


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_hit_that_failed_is_asked_anew(cache: ResponseCache, is_async: bool) -> None:
    """The answer was stored before the class became what it is."""
    server = Server(BAD, BAD, GOOD)
    asked = llm(server, cache, "gpt-4o-mini")
    for _ in range(2):
        with suppress(ValueError):
            await predicted(asked, is_async)
    assert await predicted(asked, is_async) == Place(name="Rome", people=3)
    assert server.calls == 3
