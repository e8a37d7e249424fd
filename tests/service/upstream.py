"""A fake OpenAI-compatible API that runs on a port of its own and counts what it is asked."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import struct
from collections.abc import AsyncIterator, Iterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

USAGE = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}

ROLES = ("system", "developer", "user", "assistant", "tool")


class Upstream:
    """Answers "answer to QUESTION" after ``latency`` seconds; ``bodies`` and ``headers`` are kept.

    ``refusals`` are given out first, one a request: (status, body, headers). ``choices`` are said
    instead of that answer; ``cut`` is after how many events a stream breaks off, ``pause`` how many
    seconds pass between two. ``packed``: whole answers come as gzip.
    """

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.refusals: list[tuple[int, Any, dict[str, str]]] = []
        self.choices: list[dict[str, Any]] | None = None
        self.cut: int | None = None
        self.packed = False
        self.sent: list[int] = []  # events of each stream
        self.latency = self.pause = 0.0
        self.url = ""
        self.app = FastAPI()
        self.app.post("/v1/chat/completions")(self._chat)
        self.app.post("/v1/completions")(self._completions)
        self.app.post("/v1/embeddings")(self._embeddings)
        self.app.api_route("/v1/echo/{path:path}", methods=["GET", "PUT", "DELETE"])(self._echo)
        self.app.get("/v1/models")(self._models)

    @property
    def calls(self) -> int:
        """Return how many requests came."""
        return len(self.bodies)

    async def _noted(self, request: Request) -> tuple[dict[str, Any], Response | None]:
        try:
            body = await request.json()
        except ValueError:
            return {}, JSONResponse({"error": {"message": "no JSON", "type": "invalid"}}, 400)
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        if self.latency:
            await asyncio.sleep(self.latency)
        if self.refusals:
            status, told, headers = self.refusals.pop(0)
            return body, JSONResponse(told, status, headers)
        if problem := problem_of(body, request.url.path):
            return body, JSONResponse({"error": {"message": problem, "type": "invalid"}}, 400)
        return body, None

    async def _chat(self, request: Request) -> Response:
        body, refusal = await self._noted(request)
        if refusal is not None:
            return refusal
        content = body["messages"][-1]["content"]
        text = f"answer to {content if isinstance(content, str) else json.dumps(content)}"
        head = self._head(body, "chatcmpl")
        if body.get("stream"):
            lines = self._sent(list(self._chunks(head, self._said(text), body)))
            return StreamingResponse(lines, media_type="text/event-stream")
        said = [
            {"index": i, "logprobs": None, **choice} for i, choice in enumerate(self._said(text))
        ]
        whole = {**head, "object": "chat.completion", "choices": said, "usage": USAGE}
        told = JSONResponse({**whole, "unknown": {"kept": [1, None, "é"]}})
        if not self.packed:
            return told
        packed = gzip.compress(bytes(told.body))
        return Response(packed, headers={"content-encoding": "gzip"}, media_type=told.media_type)

    async def _completions(self, request: Request) -> Response:
        body, refusal = await self._noted(request)
        if refusal is not None:
            return refusal
        head = {**self._head(body, "cmpl"), "object": "text_completion"}
        choice = {"index": 0, "text": f"more of {body['prompt']}", "logprobs": None}
        if body.get("stream"):
            texts = [{**choice, "text": text, "finish_reason": None} for text in ("more", " of it")]
            last = {**choice, "text": "", "finish_reason": "stop"}
            lines = self._sent([{**head, "choices": [one]} for one in (*texts, last)])
            return StreamingResponse(lines, media_type="text/event-stream")
        return JSONResponse(
            {**head, "choices": [{**choice, "finish_reason": "stop"}], "usage": USAGE}
        )

    def _head(self, body: dict[str, Any], kind: str) -> dict[str, Any]:
        number = len(self.bodies)
        return {"id": f"{kind}-{number}", "created": number, "model": body["model"]}

    def _said(self, text: str) -> list[dict[str, Any]]:
        message = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
        return self.choices or [{"message": message, "finish_reason": "stop"}]

    def _chunks(
        self, head: dict[str, Any], choices: list[dict[str, Any]], body: dict[str, Any]
    ) -> Iterator[dict[str, Any]]:
        def chunk(index: int, delta: Any, reason: Any = None, logprobs: Any = None) -> Any:
            choice = {"index": index, "delta": delta, "finish_reason": reason, "logprobs": logprobs}
            return {**head, "object": "chat.completion.chunk", "choices": [choice]}

        for i, choice in enumerate(choices):
            message = choice["message"]
            yield chunk(i, {"role": "assistant", "content": ""})
            if reasons := message.get("reasoning_content"):
                yield chunk(i, {"reasoning_content": reasons})
            words = (message.get("content") or "").split(" ")
            for n, word in enumerate(words):
                odds = choice.get("logprobs") if n == 0 else None
                yield chunk(i, {"content": word if n == 0 else f" {word}"}, logprobs=odds)
            for number, call in enumerate(message.get("tool_calls") or ()):
                function = call["function"]
                first = {**call, "index": number, "function": {**function, "arguments": ""}}
                yield chunk(i, {"tool_calls": [first]})
                rest = {"index": number, "function": {"arguments": function["arguments"]}}
                yield chunk(i, {"tool_calls": [rest]})
            yield chunk(i, {}, choice["finish_reason"])
        if (body.get("stream_options") or {}).get("include_usage"):
            yield {**head, "object": "chat.completion.chunk", "choices": [], "usage": USAGE}

    async def _sent(self, chunks: list[dict[str, Any]]) -> AsyncIterator[str]:
        stream = len(self.sent)
        self.sent.append(0)
        for number, chunk in enumerate(chunks):
            if number == self.cut:
                raise ConnectionError("the upstream breaks off")
            yield f"data: {json.dumps(chunk)}\n\n"
            self.sent[stream] += 1
            if self.pause:
                await asyncio.sleep(self.pause)
        yield "data: [DONE]\n\n"

    async def _embeddings(self, request: Request) -> Response:
        body, refusal = await self._noted(request)
        if refusal is not None:
            return refusal
        texts = body["input"]
        if isinstance(texts, str) or isinstance(texts[0], int):
            texts = [texts]
        packed = body.get("encoding_format") == "base64"
        data = []
        for i, text in enumerate(texts):
            vector = [len(str(text)) / 3, 0.5]
            shown = base64.b64encode(struct.pack("<2f", *vector)).decode() if packed else vector
            data.append({"object": "embedding", "index": i, "embedding": shown})
        usage = {"prompt_tokens": 7 * len(texts), "total_tokens": 7 * len(texts)}
        found = {"object": "list", "data": data, "model": body["model"], "usage": usage}
        return JSONResponse(found)

    async def _echo(self, path: str, request: Request) -> Response:
        """Say what came, byte for byte, and set a cookie."""
        content = await request.body()
        self.headers.append(dict(request.headers))
        told = {"path": request.scope["raw_path"].decode(), "query": request.url.query}
        response = Response(content or json.dumps(told), headers={"x-of": path, "connection": "x"})
        response.set_cookie("session", "of-one-caller")
        return response

    async def _models(self) -> dict[str, Any]:
        return {"object": "list", "data": [{"id": "gpt-4o-mini", "object": "model"}]}


def problem_of(body: Any, path: str) -> str | None:
    """Say what is wrong with a body, as strictly as the service's OpenAPI document does."""
    if not isinstance(body, dict) or not isinstance(body.get("model"), str) or not body["model"]:
        return "model must be a text"
    if not isinstance(body.get("stream", False), bool):
        return "stream must be true or false"
    if path.endswith("/chat/completions"):
        messages = body.get("messages")
        good = isinstance(messages, list) and messages and all(map(_is_message, messages))
        return None if good else "messages must be a list of messages"
    if path.endswith("/completions"):
        return None if isinstance(body.get("prompt"), str) else "prompt must be a text"
    asked = body.get("input")
    items = asked if isinstance(asked, list) and asked else [asked]
    good = isinstance(items[0], (str, int, list))
    good = good and all(isinstance(one, type(items[0])) and one for one in items)
    return None if good else "input must be texts or tokens"


def _is_message(one: Any) -> bool:
    if not isinstance(one, dict) or one.get("role") not in ROLES:
        return False
    return "tool_calls" in one or isinstance(one.get("content"), (str, list))
