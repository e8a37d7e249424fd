"""The chat completions endpoint of OpenAI behind a mock transport, and the SDK's clients on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
from openai import AsyncOpenAI, OpenAI

USAGE = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
TOOL_CALL = {
    "id": "call_9",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city": "Rome"}'},
}


class Server:
    """Answers "answer to QUESTION", or what it is told to; keeps the bodies that it was sent.

    ``refusals`` are given out first, one a request: (status, headers).
    """

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.refusals: list[tuple[int, dict[str, str]]] = []
        self.message: dict[str, Any] | None = None
        self.usage: dict[str, Any] | None = USAGE
        self.finish_reason: str | None = "stop"
        self.hook: Callable[[], object] = lambda: None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        self.bodies.append(body)
        self.hook()
        if self.refusals:
            status, headers = self.refusals.pop(0)
            return httpx.Response(status, json={"error": {"message": "no"}}, headers=headers)
        message = self.message or self._answer(body)
        reason = "tool_calls" if message.get("tool_calls") else self.finish_reason
        number = len(self.bodies)
        head = {"id": f"chatcmpl-{number}", "created": number, "model": f"{body['model']}-0718"}
        if body.get("stream"):
            return self._stream(head, body, message, reason)
        choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": None}
        whole = {**head, "object": "chat.completion", "choices": [choice], "usage": self.usage}
        return httpx.Response(200, json=whole)

    @staticmethod
    def _answer(body: dict[str, Any]) -> dict[str, Any]:
        content = body["messages"][-1]["content"]
        return {
            "role": "assistant",
            "content": f"answer to {content}",
            "refusal": None,
            "annotations": [],
        }

    def _stream(
        self, head: dict[str, Any], body: dict[str, Any], message: dict[str, Any], reason: Any
    ) -> httpx.Response:
        def line(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
            choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
            return {**head, "object": "chat.completion.chunk", "choices": [choice]}

        lines = [line({"role": "assistant", "content": ""})]
        words = (message.get("content") or "").split(" ")
        lines += [line({"content": word if i == 0 else f" {word}"}) for i, word in enumerate(words)]
        for number, call in enumerate(message.get("tool_calls", ())):
            function = call["function"]
            first = {**call, "index": number, "function": {**function, "arguments": ""}}
            lines.append(line({"tool_calls": [first]}))
            rest = {"index": number, "function": {"arguments": function["arguments"]}}
            lines.append(line({"tool_calls": [rest]}))
        if reason is not None:
            lines.append(line({}, reason))
        if (body.get("stream_options") or {}).get("include_usage"):
            lines.append({**line({}), "choices": [], "usage": self.usage})
        text = "".join(f"data: {json.dumps(one)}\n\n" for one in lines) + "data: [DONE]\n\n"
        return httpx.Response(200, text=text, headers={"content-type": "text/event-stream"})

    def client(self, **options: Any) -> OpenAI:
        http = httpx.Client(transport=httpx.MockTransport(self))
        return OpenAI(api_key="sk-secret", http_client=http, **options)

    def async_client(self, **options: Any) -> AsyncOpenAI:
        http = httpx.AsyncClient(transport=httpx.MockTransport(self))
        return AsyncOpenAI(api_key="sk-secret", http_client=http, **options)
