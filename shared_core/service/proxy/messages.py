"""Anthropic's Messages API through the cache: what is asked, what is kept, and a hit's events.

A message is kept as the upstream gave it, or as its events add up, and given out again under a new
id.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from shared_core.openai_format import Endpoint, request_of
from shared_core.record import EMPTY, Answer, is_cut_off
from shared_core.request import Request
from shared_core.service.proxy.dialect import Body, Head, typed_event
from shared_core.usage import tokens_of

_FORMAT = "anthropic-messages/1"

_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}
"""Why a message ended, in the words of completions; after another reason it is not kept."""

_NO_MATTER = frozenset({"messages", "system", "cache_control"})
_THOUGHTS = frozenset({"thinking", "redacted_thinking"})


class MessagesAPI:
    """``/v1/messages``."""

    path = "messages"

    def request_of(self, endpoint: Endpoint, body: Body) -> Request:
        """Return the request of a body. Raises TypeError or ValueError if it has no identity."""
        messages = body.get("messages")
        if not isinstance(body.get("model"), str) or not isinstance(messages, list):
            raise TypeError("model must be a text, messages a list")
        if not isinstance(body.get("stream") or False, bool) or body.get("container"):
            raise ValueError("an answer that depends on what the upstream keeps")
        if body.get("system") is not None:
            messages = [{"role": "system", "content": body["system"]}, *messages]
        arguments = {name: value for name, value in body.items() if name not in _NO_MATTER}
        if isinstance(arguments.get("tools"), list):
            arguments["tools"] = list(map(_without_marker, arguments["tools"]))
        own = replace(endpoint, provider=f"{endpoint.provider} messages")
        request = replace(request_of(own, messages, arguments), format=_FORMAT)
        tools = body.get("tools") or ()
        hosted = any(one.get("type", "custom") != "custom" for one in tools)
        if request.exact_only is None and (hosted or body.get("mcp_servers")):
            return replace(request, exact_only="opaque")
        return request

    def answer_of(self, body: Body) -> Answer | None:
        """Return the answer that a message gives, None if it may not be kept.

        Raises what is wrong with a body that is no message.
        """
        if body["type"] != "message":
            return None
        reason = _REASONS.get(body.get("stop_reason") or "")
        blocks = body["content"]
        if reason is None or not blocks:
            return None
        text = "".join(block["text"] for block in blocks if block["type"] == "text")
        is_plain = all(block["type"] in (*_THOUGHTS, "text") for block in blocks)
        return Answer(
            text=text,
            payload=json.dumps({"v": _FORMAT, "body": body}),
            format=_FORMAT,
            model=body.get("model"),
            usage=tokens_of(body.get("usage")),
            finish_reason=reason,
            exact_only=not is_plain or not text or is_cut_off(reason),
            flaw=EMPTY if is_plain and not text.strip() else None,
        )

    def recording(self) -> _Recorded:
        """Return what notes the events of a stream."""
        return _Recorded(self)

    def completion(self, answer: Answer, head: Head) -> dict[str, Any]:
        """Return an answer as a message. Raises ValueError if its payload cannot be read."""
        kept = json.loads(answer.payload or "{}")
        if kept.get("v") != _FORMAT:
            raise ValueError("another format")
        body: dict[str, Any] = kept["body"]
        return {**body, "id": f"msg_{head.number}"}

    def stream(self, answer: Answer, head: Head, asked: Body) -> Iterator[bytes]:
        """Yield an answer as the events of a stream. Raises as ``completion``."""
        for event in _events(self.completion(answer, head)):
            yield typed_event(event)


class _Recorded:
    """Puts the events of a stream together, as Anthropic's own client does."""

    def __init__(self, of: MessagesAPI) -> None:
        self._of = of
        self._body: dict[str, Any] = {}
        self._inputs: dict[int, str] = {}
        self._is_whole = False

    def note(self, data: str) -> bool:
        """Note an event; say whether it is the last. Raises for one that fits nowhere."""
        event = json.loads(data)
        match event["type"]:
            case "message_start":
                self._body = {**event["message"], "content": []}
            case "content_block_start":
                if event["index"] != len(self._body["content"]):
                    raise ValueError("a block is missing")
                self._body["content"].append(dict(event["content_block"]))
            case "content_block_delta":
                self._add(event["index"], event["delta"])
            case "content_block_stop":
                text = self._inputs.pop(event["index"], None)
                if text:
                    self._body["content"][event["index"]]["input"] = json.loads(text)
            case "message_delta":
                self._body.update(event["delta"])
                counts = {n: v for n, v in (event.get("usage") or {}).items() if v is not None}
                self._body["usage"] = {**(self._body.get("usage") or {}), **counts}
            case "message_stop":
                self._is_whole = not self._inputs
                return True
            case "error":
                raise ValueError("the stream tells of an error")
        return False

    def _add(self, index: int, delta: Mapping[str, Any]) -> None:
        block = self._body["content"][index]
        match delta["type"]:
            case "text_delta":
                block["text"] += delta["text"]
            case "thinking_delta":
                block["thinking"] += delta["thinking"]
            case "signature_delta":
                block["signature"] = delta["signature"]
            case "citations_delta":
                block["citations"] = [*(block.get("citations") or ()), delta["citation"]]
            case "input_json_delta":
                self._inputs[index] = self._inputs.get(index, "") + delta["partial_json"]
            case other:
                raise ValueError(f"an unknown delta: {other}")

    def answer(self) -> tuple[Answer, bool]:
        """Return the answer, and whether it is whole."""
        found = self._of.answer_of(self._body) if self._is_whole else None
        return found or Answer(""), found is not None


def _without_marker(tool: Any) -> Any:
    if not isinstance(tool, Mapping):
        raise TypeError("a tool must be an object")
    return {name: value for name, value in tool.items() if name != "cache_control"}


def _events(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the events that make up a message, each block in one piece."""
    usage = body.get("usage") or {}
    begun = {**body, "content": [], "stop_reason": None, "stop_sequence": None}
    yield {"type": "message_start", "message": {**begun, "usage": {**usage, "output_tokens": 0}}}
    for index, block in enumerate(body["content"]):
        empty, deltas = _parts(block)
        yield {"type": "content_block_start", "index": index, "content_block": empty}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    delta = {name: body.get(name) for name in ("stop_reason", "stop_sequence")}
    more = {name: body[name] for name in ("stop_details", "container") if body.get(name)}
    yield {"type": "message_delta", "delta": {**delta, **more}, "usage": usage}
    yield {"type": "message_stop"}


def _parts(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return a block as it begins, and what is added to it."""
    match block["type"]:
        case "text":
            cited = [
                {"type": "citations_delta", "citation": one} for one in block.get("citations") or ()
            ]
            empty = {**block, "text": "", **({"citations": []} if cited else {})}
            return empty, [{"type": "text_delta", "text": block["text"]}, *cited]
        case "thinking":
            thought = {"type": "thinking_delta", "thinking": block["thinking"]}
            signed = {"type": "signature_delta", "signature": block.get("signature") or ""}
            return {**block, "thinking": "", "signature": ""}, [thought, signed]
        case "tool_use" | "server_tool_use" | "mcp_tool_use":
            given = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
            return {**block, "input": {}}, [given]
        case _:
            return block, []
