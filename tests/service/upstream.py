"""A fake OpenAI-compatible API that runs on a port of its own and counts what it is asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from types import NoneType
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

USAGE = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}

ROLES = ("system", "developer", "user", "assistant", "tool")


class Upstream:
    """Answers "answer to QUESTION" after ``latency`` seconds; ``bodies`` and ``headers`` are kept.

    ``refusals`` are given out first, one a request: (status, body, headers).
    """

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.refusals: list[tuple[int, Any, dict[str, str]]] = []
        self.latency = 0.0
        self.url = ""
        self.app = FastAPI()
        self.app.post("/v1/chat/completions")(self._chat)
        self.app.post("/v1/embeddings")(self._embeddings)
        self.app.get("/v1/models")(self._models)

    @property
    def calls(self) -> int:
        """Return how many requests came."""
        return len(self.bodies)

    async def _noted(
        self, request: Request, is_right: Callable[[dict[str, Any]], bool]
    ) -> tuple[dict[str, Any], Response | None]:
        try:
            body = json.loads(await request.body())
        except ValueError:
            body = None
        if not isinstance(body, dict) or not is_right(body):
            error = {"message": "no such request", "type": "invalid_request_error"}
            return {}, JSONResponse({"error": {**error, "param": None, "code": None}}, 400)
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        if self.latency:
            await asyncio.sleep(self.latency)
        if self.refusals:
            status, told, headers = self.refusals.pop(0)
            return body, JSONResponse(told, status, headers)
        return body, None

    async def _chat(self, request: Request) -> Response:
        body, refusal = await self._noted(request, _is_chat)
        if refusal is not None:
            return refusal
        number = len(self.bodies)
        head = {"id": f"chatcmpl-{number}", "created": number, "model": body["model"]}
        content = body["messages"][-1]["content"]
        text = f"answer to {content if isinstance(content, str) else json.dumps(content)}"
        if body.get("stream"):
            lines = self._stream(head, text, body)
            return StreamingResponse(lines, media_type="text/event-stream")
        message = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        whole = {**head, "object": "chat.completion", "choices": [choice], "usage": USAGE}
        return JSONResponse(whole)

    async def _stream(
        self, head: dict[str, Any], text: str, body: dict[str, Any]
    ) -> AsyncIterator[str]:
        def line(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
            choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
            return {**head, "object": "chat.completion.chunk", "choices": [choice]}

        yield f"data: {json.dumps(line({'role': 'assistant', 'content': ''}))}\n\n"
        for i, word in enumerate(text.split(" ")):
            yield f"data: {json.dumps(line({'content': word if i == 0 else f' {word}'}))}\n\n"
        yield f"data: {json.dumps(line({}, 'stop'))}\n\n"
        if (body.get("stream_options") or {}).get("include_usage"):
            yield f"data: {json.dumps({**line({}), 'choices': [], 'usage': USAGE})}\n\n"
        yield "data: [DONE]\n\n"

    async def _embeddings(self, request: Request) -> Response:
        body, refusal = await self._noted(request, _is_embedding)
        if refusal is not None:
            return refusal
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        data = [
            {"object": "embedding", "index": i, "embedding": [float(len(str(text))), 0.5]}
            for i, text in enumerate(texts)
        ]
        usage = {"prompt_tokens": 7, "total_tokens": 7}
        found = {"object": "list", "data": data, "model": body["model"], "usage": usage}
        return JSONResponse(found)

    async def _models(self) -> dict[str, Any]:
        return {"object": "list", "data": [{"id": "gpt-4o-mini", "object": "model"}]}


def _is_chat(body: dict[str, Any]) -> bool:
    messages = body.get("messages")
    return (
        isinstance(body.get("model"), str)
        and isinstance(body.get("stream"), (bool, NoneType))
        and isinstance(messages, list)
        and bool(messages)
        and all(_is_message(message) for message in messages)
    )


def _is_message(message: Any) -> bool:
    if not isinstance(message, dict) or message.get("role") not in ROLES:
        return False
    content = message.get("content")
    if isinstance(content, list):
        return all(isinstance(part, dict) and isinstance(part.get("type"), str) for part in content)
    return isinstance(content, str) or "tool_calls" in message


def _is_embedding(body: dict[str, Any]) -> bool:
    given = body.get("input")
    texts = [given] if isinstance(given, str) else given
    return isinstance(body.get("model"), str) and isinstance(texts, list) and bool(texts)
