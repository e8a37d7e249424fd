"""What a hit in memory costs through LlamaIndex, beyond the core's own lookup.

    python benchmarks/llamaindex_overhead.py [--rounds 2000]

One conversation of four messages, answered once; then asked again through each endpoint in turn,
interleaved with the core's lookup of the same request: p10, p50 and p99 in microseconds, and what
the endpoint adds at p10. Then the parts of a hit: request (messages and LLM object into a request),
lookup (key and store), response (a fresh response of the stored JSON).
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    LLMMetadata,
    MessageRole,
)
from llama_index.core.llms.custom import CustomLLM
from llama_index.core.prompts import ChatPromptTemplate
from rounds import measured

from llamaindex_tiered_cache import cached_llm
from llamaindex_tiered_cache.answers import ResponseForm, Retention, Serving
from llamaindex_tiered_cache.request import chat_request
from shared_core import Hit, ResponseCache

ANSWER = "Open your account page, choose the book, and press renew. " * 3
MESSAGES = [
    ChatMessage("You are a helpful assistant of a public library. " * 8, role=MessageRole.SYSTEM),
    ChatMessage("Are you open today?", role=MessageRole.USER),
    ChatMessage("Yes, until eight.", role=MessageRole.ASSISTANT),
    ChatMessage("How do I renew a book that I borrowed?", role=MessageRole.USER),
]
PROMPT = ChatPromptTemplate([*MESSAGES[:3], ChatMessage("{query_str}", role=MessageRole.USER)])


class Model(CustomLLM):
    """An LLM with as many settings as providers' have."""

    model: str = "gpt-4o-mini"
    temperature: float = 0.0
    max_tokens: int | None = 500
    top_p: float = 1.0
    seed: int | None = 7
    additional_kwargs: dict[str, Any] = {}  # noqa: RUF012 - pydantic copies it
    api_key: str = "sk-none"

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(is_chat_model=True, model_name=self.model)

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return CompletionResponse(text=ANSWER)

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        raise AssertionError("a stream replays what was answered at once")


def main() -> None:
    """Print one line for each endpoint and part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2000)
    rounds = parser.parse_args().rounds
    cache = ResponseCache.open(semantic=False)
    inner = Model()
    llm = cached_llm(inner, cache)
    llm.chat(MESSAGES)
    request = chat_request(inner, MESSAGES, {})
    hit = cache.lookup(request)
    assert isinstance(hit, Hit)
    form = ResponseForm(ChatResponse, Retention(), "mark")
    loop = asyncio.new_event_loop()
    question = MESSAGES[-1].content
    calls: dict[str, Callable[[], object]] = {
        "core lookup": lambda: cache.lookup(request),
        "core alookup": lambda: loop.run_until_complete(cache.alookup(request)),
        "chat": lambda: llm.chat(MESSAGES),
        "achat": lambda: loop.run_until_complete(llm.achat(MESSAGES)),
        "stream_chat": lambda: list(llm.stream_chat(MESSAGES)),
        "predict": lambda: llm.predict(PROMPT, query_str=question),
        "bare predict": lambda: inner.predict(PROMPT, query_str=question),
        "part: request": lambda: chat_request(inner, MESSAGES, {}),
        "part: response": lambda: form.read(hit.answer, Serving.of_hit(hit)),
    }
    times = measured(calls, rounds)
    assert cache.stats().stores == 1
    print("                     p10     p50     p99   beyond the core at p10   (microseconds)")
    for name, found in times.items():
        p10, p50, p99 = (found[int(len(found) * share)] for share in (0.1, 0.5, 0.99))
        core = "core alookup" if name == "achat" else "core lookup"
        beyond = (
            ""
            if name.startswith(("core", "part", "bare"))
            else f"{p10 - times[core][int(rounds * 0.1)]:10.0f}"
        )
        print(f"{name:16} {p10:7.0f} {p50:7.0f} {p99:7.0f}   {beyond}")
    loop.close()
    cache.close()


if __name__ == "__main__":
    main()
