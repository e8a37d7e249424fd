"""LlamaIndex stand-ins that behave like a provider's: an LLM, and an embedding model."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    LLMMetadata,
    MessageRole,
    TextBlock,
    ToolCallBlock,
)
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection

from tests.fakes import fake_embed

Reply = Callable[[Sequence[ChatMessage], dict[str, Any]], ChatMessage]


def said(text: str) -> ChatMessage:
    """Return an assistant's message."""
    return ChatMessage(role=MessageRole.ASSISTANT, content=text)


def calling(name: str, id: str = "call_1", /, **kwargs: Any) -> ChatMessage:
    """Return an assistant's message that calls a tool."""
    block = ToolCallBlock(tool_call_id=id, tool_name=name, tool_kwargs=kwargs)
    return ChatMessage(role=MessageRole.ASSISTANT, blocks=[TextBlock(text=""), block])


def echo(messages: Sequence[ChatMessage], kwargs: dict[str, Any]) -> ChatMessage:
    """Answer with what was said last."""
    return said(f"You said: {messages[-1].content}")


class FakeLLM(FunctionCallingLLM):
    """An LLM that answers by ``reply`` and counts: in words, the tokens; in ``calls``, the calls.

    Like a provider's, it streams cumulative messages, and puts usage and a response id in ``raw``.
    """

    model: str = "fake-1"
    temperature: float = 0.0
    max_tokens: int | None = None
    chat_model: bool = True
    additional_kwargs: dict[str, Any] = Field(default_factory=dict)
    api_key: str = "sk-secret"
    timeout: float = 60.0

    _reply: Reply = PrivateAttr()
    _calls: list[tuple[str, list[ChatMessage]]] = PrivateAttr(default_factory=list)

    def __init__(self, reply: Reply = echo, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._reply = reply

    @classmethod
    def class_name(cls) -> str:
        return "fake_llm"

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(
            is_chat_model=self.chat_model, is_function_calling_model=True, model_name=self.model
        )

    @property
    def calls(self) -> list[str]:
        """Return the endpoints that were called, in order."""
        return [name for name, _ in self._calls]

    @property
    def asked(self) -> list[list[ChatMessage]]:
        """Return the messages of every call."""
        return [messages for _, messages in self._calls]

    def _answer(
        self, name: str, messages: Sequence[ChatMessage], kwargs: dict[str, Any]
    ) -> ChatResponse:
        self._calls.append((name, list(messages)))
        message = self._reply(messages, kwargs)
        asked = sum(len((one.content or "").split()) for one in messages)
        counts = {"prompt_tokens": asked, "completion_tokens": len((message.content or "").split())}
        raw = {"id": f"resp_{len(self._calls)}", "choices": [{"finish_reason": "stop"}]}
        return ChatResponse(message=message, raw=raw, additional_kwargs=counts)

    def _chunks(self, response: ChatResponse) -> list[ChatResponse]:
        """Return the response as a stream: word by word, tool calls with the last."""
        text = response.message.content or ""
        words = text.split(" ")
        deltas = [word if i == 0 else f" {word}" for i, word in enumerate(words)]
        chunks = [
            ChatResponse(message=said("".join(deltas[: i + 1])), delta=delta, raw=response.raw)
            for i, delta in enumerate(deltas)
        ]
        chunks[-1].message = response.message
        chunks[-1].additional_kwargs = response.additional_kwargs
        return chunks

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        return self._answer("chat", messages, kwargs)

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        return self._answer("achat", messages, kwargs)

    @llm_chat_callback()
    def stream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> Generator[ChatResponse, None, None]:
        def chunks() -> Generator[ChatResponse, None, None]:
            yield from self._chunks(self._answer("stream_chat", messages, kwargs))

        return chunks()

    @llm_chat_callback()
    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> AsyncGenerator[ChatResponse, None]:
        async def chunks() -> AsyncGenerator[ChatResponse, None]:
            for chunk in self._chunks(self._answer("astream_chat", messages, kwargs)):
                yield chunk

        return chunks()

    def _completion(self, chunk: ChatResponse) -> CompletionResponse:
        return CompletionResponse(
            text=chunk.message.content or "",
            delta=chunk.delta,
            raw=chunk.raw,
            additional_kwargs=chunk.additional_kwargs,
        )

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return self._completion(self._answer("complete", [ChatMessage(prompt)], kwargs))

    @llm_completion_callback()
    async def acomplete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponse:
        return self._completion(self._answer("acomplete", [ChatMessage(prompt)], kwargs))

    @llm_completion_callback()
    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> Generator[CompletionResponse, None, None]:
        def chunks() -> Generator[CompletionResponse, None, None]:
            answer = self._answer("stream_complete", [ChatMessage(prompt)], kwargs)
            yield from map(self._completion, self._chunks(answer))

        return chunks()

    @llm_completion_callback()
    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> AsyncGenerator[CompletionResponse, None]:
        async def chunks() -> AsyncGenerator[CompletionResponse, None]:
            answer = self._answer("astream_complete", [ChatMessage(prompt)], kwargs)
            for chunk in self._chunks(answer):
                yield self._completion(chunk)

        return chunks()

    def _prepare_chat_with_tools(
        self,
        tools: Sequence[Any],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        messages = list(chat_history or [])
        if user_msg is not None:
            messages.append(ChatMessage(user_msg) if isinstance(user_msg, str) else user_msg)
        return {"messages": messages, "tools": list(tools), **kwargs}

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        calls = [one for one in response.message.blocks if isinstance(one, ToolCallBlock)]
        if not calls and error_on_no_tool_call:
            raise ValueError("no tool call")
        return [
            ToolSelection(
                tool_id=call.tool_call_id or "",
                tool_name=call.tool_name,
                tool_kwargs=call.tool_kwargs if isinstance(call.tool_kwargs, dict) else {},
            )
            for call in calls
        ]


class FakeEmbedding(BaseEmbedding):
    """``fake_embed`` as an embedding model whose queries differ from its texts; keeps its calls."""

    model_name: str = "fake-embedding"
    scale: float = 1.0

    _calls: list[tuple[str, list[str]]] = PrivateAttr(default_factory=list)

    @classmethod
    def class_name(cls) -> str:
        return "fake_embedding"

    @property
    def calls(self) -> list[tuple[str, list[str]]]:
        """Return role and texts of every call."""
        return self._calls

    def _embed(self, role: str, texts: list[str]) -> list[list[float]]:
        self._calls.append((role, texts))
        sign = -1.0 if role == "query" else 1.0
        rows: list[list[float]] = (fake_embed(texts).astype(float) * self.scale).tolist()
        return [[sign * row[0], *row[1:]] for row in rows]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._embed("query", [query])[0]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._embed("query", [query])[0]

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._embed("text", [text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._embed("text", texts)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._embed("text", texts)
