"""The four ways into a cache, as drivers of the adapter suite: all before one fake of OpenAI's API.

A driver makes the objects of its framework anew for each call, as two workers of an app would.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import lru_cache
from typing import Any

import httpx
import openai
from fastapi import FastAPI
from langchain_core.messages import convert_to_messages
from langchain_openai import ChatOpenAI
from langchain_openai import OpenAI as LangChainOpenAI
from llama_index.llms.openai import OpenAI as LlamaIndexOpenAI
from llama_index.llms.openai.utils import from_openai_message_dicts

from langchain_tiered_cache import TieredCache, cached_model
from llamaindex_tiered_cache import cached_llm
from shared_core import ResponseCache
from shared_core.client import CachedClient
from shared_core.service.app import create_app
from shared_core.service.settings import Settings
from shared_core.service.upstream import Upstreams
from shared_core.testing import WAYS, CountedModel, ModelCall, Way

KEY = "sk-of-tests"
USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}


class OpenAIServer:
    """``/chat/completions`` and ``/completions``, whole and streamed, by a counted model."""

    def __init__(self, model: CountedModel) -> None:
        self._model = model

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        is_chat = request.url.path.endswith("/chat/completions")
        text = self._model.answer()
        head = {"id": f"cmpl-{self._model.calls}", "created": 1, "model": body["model"]}
        if not body.get("stream"):
            said = (
                {"message": {"role": "assistant", "content": text}} if is_chat else {"text": text}
            )
            choice = {"index": 0, "finish_reason": "stop", "logprobs": None, **said}
            kind = "chat.completion" if is_chat else "text_completion"
            return httpx.Response(
                200, json={**head, "object": kind, "choices": [choice], "usage": USAGE}
            )
        lines = [{**head, **chunk} for chunk in self._chunks(text, is_chat)]
        events = "".join(f"data: {json.dumps(line)}\n\n" for line in lines) + "data: [DONE]\n\n"
        return httpx.Response(200, text=events, headers={"content-type": "text/event-stream"})

    @staticmethod
    def _chunks(text: str, is_chat: bool) -> Iterator[dict[str, Any]]:
        first, *others = text.split(" ")
        for word in (first, *(f" {one}" for one in others), None):
            delta = {"role": "assistant", "content": word} if word else {}
            said: dict[str, Any] = {"delta": delta} if is_chat else {"text": word or ""}
            choice = {"index": 0, "finish_reason": None if word else "stop", **said}
            kind = "chat.completion.chunk" if is_chat else "text_completion"
            yield {"object": kind, "choices": [choice]}


def clients(model: CountedModel) -> dict[str, Any]:
    transport = httpx.MockTransport(OpenAIServer(model))
    return {
        "http_client": httpx.Client(transport=transport, trust_env=False),
        "async_http_client": httpx.AsyncClient(transport=transport, trust_env=False),
    }


def parted(arguments: Mapping[str, Any], fields: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arguments that are settings of a model, and those of each call."""
    settings = {name: value for name, value in arguments.items() if name in fields}
    return settings, {name: value for name, value in arguments.items() if name not in fields}


class LangChainDriver:
    """ChatOpenAI and OpenAI behind a TieredCache, streams by ``cached_model``."""

    def __init__(self, ways: Sequence[Way] = WAYS) -> None:
        self.ways = ways

    def ask(self, cache: ResponseCache, model: CountedModel, call: ModelCall, way: Way) -> str:
        kind: Any = ChatOpenAI if call.prompt is None else LangChainOpenAI
        http = clients(model)
        settings, given = parted(call.arguments, kind.model_fields)
        llm = kind(
            model=call.model,
            api_key=KEY,
            http_client=http["http_client"],
            http_async_client=http["async_http_client"],
            **settings,
        )
        tiered = TieredCache(cache=cache)
        if way in ("stream", "astream") or (given and call.prompt is not None):
            llm = cached_model(llm, tiered)
        else:
            llm.cache = tiered
        asked: Any = call.prompt
        if asked is None:
            asked = convert_to_messages([dict(one) for one in call.messages])
        with cache.control(namespace=call.namespace):
            found = self._asked(llm, asked, given, way)
        return "".join(one if isinstance(one, str) else str(one.text) for one in found)

    @staticmethod
    def _asked(llm: Any, asked: Any, given: dict[str, Any], way: Way) -> list[Any]:
        if way == "call":
            return [llm.invoke(asked, **given)]
        if way == "acall":
            return [run(llm.ainvoke(asked, **given))]
        if way == "stream":
            return list(llm.stream(asked, **given))
        return run(listed(llm.astream(asked, **given)))


def run(flow: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine on a loop of its own, in less time than ``asyncio.run`` takes."""
    with closing(asyncio.new_event_loop()) as loop:
        return loop.run_until_complete(_settled(flow))


async def _settled(flow: Coroutine[Any, Any, Any]) -> Any:
    found = await flow
    await asyncio.sleep(0)  # the SDK leaves generators behind, which are closed now
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others, return_exceptions=True)
    return found


async def listed(chunks: Any) -> list[Any]:
    return [chunk async for chunk in chunks]


class LlamaIndexDriver:
    """LlamaIndex's OpenAI as a cached LLM; deltas are what its streams add."""

    def __init__(self, ways: Sequence[Way] = WAYS) -> None:
        self.ways = ways

    def ask(self, cache: ResponseCache, model: CountedModel, call: ModelCall, way: Way) -> str:
        settings, given = parted(call.arguments, ("temperature", "max_tokens"))
        if call.prompt is not None:
            settings.setdefault("max_tokens", 100)  # or it counts tokens with a file of the net
        http = clients(model)
        inner = LlamaIndexOpenAI(model=call.model, api_key=KEY, max_retries=0, **settings, **http)
        llm: Any = cached_llm(inner, cache, namespace=call.namespace)
        name = "complete" if call.prompt is not None else "chat"
        asked: Any = call.prompt
        if asked is None:
            asked = from_openai_message_dicts([dict(one) for one in call.messages])
        if way == "call":
            return str(self._text(getattr(llm, name)(asked, **given)))
        if way == "acall":
            return str(self._text(run(getattr(llm, f"a{name}")(asked, **given))))
        if way == "stream":
            return "".join(
                one.delta or "" for one in getattr(llm, f"stream_{name}")(asked, **given)
            )

        async def all_deltas() -> str:
            chunks = await getattr(llm, f"astream_{name}")(asked, **given)
            return "".join([one.delta or "" async for one in chunks])

        return run(all_deltas())

    @staticmethod
    def _text(response: Any) -> Any:
        return response.text if hasattr(response, "text") else response.message.content


class ClientDriver:
    """CachedClient over the SDK's clients."""

    def __init__(self, ways: Sequence[Way] = WAYS) -> None:
        self.ways = ways

    def ask(self, cache: ResponseCache, model: CountedModel, call: ModelCall, way: Way) -> str:
        http = clients(model)
        client = CachedClient(
            cache,
            openai.OpenAI(api_key=KEY, http_client=http["http_client"], max_retries=0),
            openai.AsyncOpenAI(api_key=KEY, http_client=http["async_http_client"], max_retries=0),
        )
        given: Any = {"model": call.model, "namespace": call.namespace, **call.arguments}
        try:
            if way == "call":
                return client.chat(call.messages, **given).content
            if way == "acall":
                return run(client.achat(call.messages, **given)).content
            if way == "stream":
                return "".join(client.stream(call.messages, **given))
            return "".join(run(listed(client.astream(call.messages, **given))))
        finally:
            client.close()


@lru_cache(1)
def application() -> FastAPI:
    """Return the service, whose routes take long to make; each call gives it a cache of its own."""
    unused = ResponseCache.open("memory://", semantic=False)
    nobody = httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(500)))
    return create_app(Settings(upstream="http://upstream/v1"), cache=unused, upstream=nobody)


class ProxyDriver:
    """The service's routes in this process, whole and streamed."""

    ways: Sequence[Way] = ("acall", "astream")

    def ask(self, cache: ResponseCache, model: CountedModel, call: ModelCall, way: Way) -> str:
        return run(self._asked(cache, model, call, way == "astream"))

    async def _asked(
        self, cache: ResponseCache, model: CountedModel, call: ModelCall, streams: bool
    ) -> str:
        server = httpx.AsyncClient(transport=httpx.MockTransport(OpenAIServer(model)))
        app = application()
        asked: dict[str, Any] = {"messages": list(call.messages)}
        if call.prompt is not None:
            asked = {"prompt": call.prompt}
        path = "/v1/completions" if call.prompt is not None else "/v1/chat/completions"
        body = {
            **call.arguments,
            "model": call.model,
            **asked,
            **({"stream": True} if streams else {}),
        }
        named = {} if call.namespace is None else {"x-tiered-cache-namespace": call.namespace}
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(
                transport=httpx.ASGITransport(app), base_url="http://localhost"
            ) as caller,
        ):
            now = app.state.service
            opened = Upstreams.open(now.settings, server, now.activity, now.meter)
            app.state.service = replace(now, cache=cache, upstreams=opened)
            reply = await caller.post(path, json=body, headers=named)
        assert reply.status_code == httpx.codes.OK, reply.text
        if not streams:
            return self._said(reply.json(), "message")
        lines = [line.removeprefix("data: ") for line in reply.text.splitlines() if line]
        return "".join(self._said(json.loads(line), "delta") for line in lines if line != "[DONE]")

    @staticmethod
    def _said(body: Mapping[str, Any], part: str) -> str:
        texts = [
            one["text"] if "text" in one else one[part].get("content") for one in body["choices"]
        ]
        return "".join(text or "" for text in texts)
