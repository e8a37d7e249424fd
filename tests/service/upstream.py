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
        self.output: list[dict[str, Any]] | None = None  # of responses
        self.blocks: list[dict[str, Any]] | None = None  # of messages
        self.reason = "end_turn"
        self.cut: int | None = None
        self.packed = False
        self.sent: list[int] = []  # events of each stream
        self.told: list[bytes] = []  # bodies and streams of responses and messages
        self.latency = self.pause = 0.0
        self.url = ""
        self.app = FastAPI()
        self.app.post("/v1/chat/completions")(self._chat)
        self.app.post("/v1/completions")(self._completions)
        self.app.post("/v1/embeddings")(self._embeddings)
        self.app.api_route("/v1/echo/{path:path}", methods=["GET", "PUT", "DELETE"])(self._echo)
        self.app.post("/v1/responses")(self._responses)
        self.app.post("/v1/messages")(self._messages)
        self.app.post("/v1/messages/count_tokens")(self._count_tokens)
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

    async def _responses(self, request: Request) -> Response:
        body, refusal = await self._noted(request)
        if refusal is not None:
            return refusal
        number = len(self.bodies)
        part = {"type": "output_text", "text": f"answer {number}", "annotations": []}
        message = {"id": f"msg_{number}", "type": "message", "role": "assistant"}
        message |= {"status": "completed", "content": [part]}
        details = {"input_tokens_details": {"cached_tokens": 0}}
        details |= {"output_tokens_details": {"reasoning_tokens": 0}}
        whole: dict[str, Any] = {
            "id": f"resp_{number}", "object": "response", "created_at": 1_700_000_000 + number,
            "status": "completed", "model": body["model"], "output": self.output or [message],
            "error": None, "incomplete_details": None, "instructions": body.get("instructions"),
            "parallel_tool_calls": True, "tools": body.get("tools") or [], "tool_choice": "auto",
            "temperature": body.get("temperature"), "top_p": None, "metadata": {},
            "usage": {"input_tokens": 9, "output_tokens": 4, "total_tokens": 13, **details},
        }  # fmt: skip
        if not body.get("stream"):
            found = JSONResponse(whole)
            self.told.append(bytes(found.body))
            return found
        return StreamingResponse(
            self._named(list(_response_events(whole))), media_type="text/event-stream"
        )

    async def _messages(self, request: Request) -> Response:
        body, refusal = await self._noted(request)
        if refusal is not None:
            return refusal
        number = len(self.bodies)
        blocks = self.blocks or [{"type": "text", "text": f"answer {number}"}]
        whole: dict[str, Any] = {
            "id": f"msg_{number}", "type": "message", "role": "assistant", "model": body["model"],
            "content": blocks, "stop_reason": self.reason, "stop_sequence": None,
            "usage": {"input_tokens": 9, "output_tokens": 4, "service_tier": "standard"},
        }  # fmt: skip
        if not body.get("stream"):
            found = JSONResponse(whole)
            self.told.append(bytes(found.body))
            return found
        return StreamingResponse(
            self._named(list(_message_events(whole))), media_type="text/event-stream"
        )

    async def _count_tokens(self, request: Request) -> Response:
        _, refusal = await self._noted(request)
        return refusal or JSONResponse({"input_tokens": 9})

    async def _named(self, events: list[dict[str, Any]]) -> AsyncIterator[str]:
        self.told.append(b"")
        for number, told in enumerate(events):
            if number == self.cut:
                raise ConnectionError("the upstream breaks off")
            text = f"event: {told['type']}\ndata: {json.dumps(told)}\n\n"
            self.told[-1] += text.encode()
            yield text
            if self.pause:
                await asyncio.sleep(self.pause)

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


def _halves(text: str) -> list[str]:
    return [text[: len(text) // 2], text[len(text) // 2 :]]


def _response_events(whole: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a response as OpenAI streams it: texts and arguments in two pieces."""
    numbers = iter(range(10_000))

    def told(kind: str, **more: Any) -> dict[str, Any]:
        return {"type": f"response.{kind}", "sequence_number": next(numbers), **more}

    begun = {**whole, "status": "in_progress", "output": [], "usage": None}
    yield told("created", response=begun)
    for place, item in enumerate(whole["output"]):
        at = {"output_index": place, "item_id": item.get("id")}
        empty = {**item}
        if item["type"] == "message":
            empty["content"] = []
        elif item["type"] == "function_call":
            empty["arguments"] = ""
        yield told("output_item.added", output_index=place, item=empty)
        for index, part in enumerate(item.get("content") or ()):
            here = {**at, "content_index": index}
            if part["type"] != "output_text":
                continue
            yield told("content_part.added", **here, part={**part, "text": "", "annotations": []})
            for half in _halves(part["text"]):
                yield told("output_text.delta", **here, delta=half, logprobs=[])
            yield told("output_text.done", **here, text=part["text"], logprobs=[])
            yield told("content_part.done", **here, part=part)
        if item["type"] == "function_call":
            for half in _halves(item["arguments"]):
                yield told("function_call_arguments.delta", **at, delta=half)
            ended = {"arguments": item["arguments"], "name": item["name"]}
            yield told("function_call_arguments.done", **at, **ended)
        yield told("output_item.done", output_index=place, item=item)
    yield told("completed" if whole["status"] == "completed" else "incomplete", response=whole)


def _message_events(whole: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a message as Anthropic streams it: texts and inputs in two pieces."""
    begun = {**whole, "content": [], "stop_reason": None}
    usage = {**whole["usage"], "output_tokens": 1}
    yield {"type": "message_start", "message": {**begun, "usage": usage}}
    yield {"type": "ping"}
    for index, block in enumerate(whole["content"]):
        at = {"index": index}

        def delta(at: dict[str, Any] = at, **more: Any) -> dict[str, Any]:
            return {"type": "content_block_delta", **at, "delta": more}

        match block["type"]:
            case "text":
                cited = block.get("citations")
                empty = {**block, "text": "", **({"citations": []} if cited else {})}
                yield {"type": "content_block_start", **at, "content_block": empty}
                for half in _halves(block["text"]):
                    yield delta(type="text_delta", text=half)
                for one in cited or ():
                    yield delta(type="citations_delta", citation=one)
            case "thinking":
                empty = {**block, "thinking": "", "signature": ""}
                yield {"type": "content_block_start", **at, "content_block": empty}
                for half in _halves(block["thinking"]):
                    yield delta(type="thinking_delta", thinking=half)
                yield delta(type="signature_delta", signature=block["signature"])
            case "tool_use" | "server_tool_use" | "mcp_tool_use":
                yield {"type": "content_block_start", **at, "content_block": {**block, "input": {}}}
                for half in _halves(json.dumps(block["input"])):
                    yield delta(type="input_json_delta", partial_json=half)
            case _:
                yield {"type": "content_block_start", **at, "content_block": block}
        yield {"type": "content_block_stop", **at}
    ended = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    yield {"type": "message_delta", "delta": ended, "usage": {"output_tokens": 4}}
    yield {"type": "message_stop"}


def problem_of(body: Any, path: str) -> str | None:
    """Say what is wrong with a body, as strictly as the service's OpenAPI document does."""
    if not isinstance(body, dict) or not isinstance(body.get("model"), str) or not body["model"]:
        return "model must be a text"
    if not isinstance(body.get("stream", False), bool):
        return "stream must be true or false"
    if path.endswith("/responses"):
        return None if body.get("input") else "input must be there"
    if path.endswith(("/chat/completions", "/messages", "/count_tokens")):
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
