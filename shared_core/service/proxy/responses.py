"""OpenAI's Responses API through the cache: what is asked, what is kept, and a hit's events.

A response is kept as the upstream gave it and given out again with the time of now. Its id stays:
it names what the upstream stores, which ``previous_response_id`` may refer to.
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

_FORMAT = "openai-responses/1"

_STATE = ("previous_response_id", "conversation", "background", "store")
"""Arguments by which an answer depends on what the upstream keeps, or changes that."""

_OWN_TOOLS = frozenset({"function", "custom"})
"""Kinds of tools that the app runs; what those of the upstream find changes with the world."""

_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed", "error"})
_REASONS = {"max_output_tokens": "length", "content_filter": "content_filter"}


class ResponsesAPI:
    """``/v1/responses``."""

    path = "responses"

    def request_of(self, endpoint: Endpoint, body: Body) -> Request:
        """Return the request of a body. Raises TypeError or ValueError if it has no identity."""
        if not isinstance(body.get("model"), str) or not isinstance(
            body.get("stream") or False, bool
        ):
            raise TypeError("model must be a text, stream true or false")
        prompt = body.get("prompt")
        if any(body.get(name) for name in _STATE) or (prompt and not prompt.get("version")):
            raise ValueError("an answer that depends on what the upstream keeps")
        messages = list(_messages(body))
        arguments = {
            name: value for name, value in body.items() if name not in ("input", "instructions")
        }
        own = replace(endpoint, provider=f"{endpoint.provider} responses")
        request = replace(request_of(own, messages, arguments), format=_FORMAT)
        tools = body.get("tools") or ()
        if request.exact_only is None and any(one.get("type") not in _OWN_TOOLS for one in tools):
            return replace(request, exact_only="opaque")
        return request

    def answer_of(self, body: Body) -> Answer | None:
        """Return the answer that a response gives, None if it may not be kept.

        Raises what is wrong with a body that is no response.
        """
        reason = _finish_reason(body)
        if reason is None or body.get("error"):
            return None
        parts = [
            part for item in body["output"] if item["type"] == "message" for part in item["content"]
        ]
        text = "".join(part["text"] for part in parts if part["type"] == "output_text")
        is_plain = all(item["type"] in ("message", "reasoning") for item in body["output"])
        refused = any(part["type"] != "output_text" for part in parts)
        return Answer(
            text=text,
            payload=json.dumps({"v": _FORMAT, "body": body}),
            format=_FORMAT,
            model=body.get("model"),
            usage=tokens_of(body.get("usage")),
            finish_reason=reason,
            exact_only=refused or not is_plain or not text or is_cut_off(reason),
            flaw=EMPTY if is_plain and not (text.strip() or refused) else None,
        )

    def recording(self) -> _Recorded:
        """Return what notes the events of a stream."""
        return _Recorded(self)

    def completion(self, answer: Answer, head: Head) -> dict[str, Any]:
        """Return an answer as a response. Raises ValueError if its payload cannot be read."""
        kept = json.loads(answer.payload or "{}")
        if kept.get("v") != _FORMAT:
            raise ValueError("another format")
        body: dict[str, Any] = kept["body"]
        return {**body, "created_at": head.created}

    def stream(self, answer: Answer, head: Head, asked: Body) -> Iterator[bytes]:
        """Yield an answer as the events of a stream. Raises as ``completion``."""
        for number, event in enumerate(_events(self.completion(answer, head))):
            yield typed_event({**event, "sequence_number": number})


class _Recorded:
    """Notes the events of a stream, of which the last has the whole response."""

    def __init__(self, of: ResponsesAPI) -> None:
        self._of, self._answer = of, None

    _answer: Answer | None

    def note(self, data: str) -> bool:
        """Note an event; say whether it is the last."""
        event = json.loads(data)
        if event.get("type") not in _ENDS:
            return False
        self._answer = self._of.answer_of(event.get("response") or {})
        return True

    def answer(self) -> tuple[Answer, bool]:
        """Return the answer, and whether it is whole."""
        return self._answer or Answer(""), self._answer is not None


def _finish_reason(body: Body) -> str | None:
    """Return why a response ended, in the words of completions; None: it did not end well."""
    if body.get("status", "completed") == "incomplete":
        return _REASONS.get((body.get("incomplete_details") or {}).get("reason") or "")
    if body.get("status", "completed") != "completed" or not body.get("output"):
        return None
    calls = any(str(item["type"]).endswith("_call") for item in body["output"])
    return "tool_calls" if calls else "stop"


def _messages(body: Body) -> Iterator[dict[str, Any]]:
    """Yield instructions and input as neutral messages. Raises TypeError for other input."""
    if body.get("instructions") is not None:
        yield {"role": "system", "content": body["instructions"]}
    asked = body.get("input")
    if isinstance(asked, str):
        yield {"role": "user", "content": asked}
        return
    if not isinstance(asked, list):
        raise TypeError("input must be a text or a list")
    for item in asked:
        role = item.get("role")
        if role is None:
            is_result = str(item.get("type")).endswith("_output")
            yield {"role": "tool" if is_result else "assistant", "item": item}
            continue
        message = {name: value for name, value in item.items() if name != "type"}
        if isinstance(message.get("content"), list):
            message["content"] = list(map(_part, message["content"]))
        yield message


def _part(part: Any) -> Any:
    if isinstance(part, Mapping) and part.get("type") == "input_text":
        return {**part, "type": "text"}
    return part


def _events(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the events that make up a response, each text in one piece."""
    begun = {**body, "status": "in_progress", "output": [], "usage": None}
    for name in ("created", "in_progress"):
        yield {"type": f"response.{name}", "response": begun}
    for place, item in enumerate(body["output"]):
        at = {"item_id": item.get("id"), "output_index": place}
        match item["type"]:
            case "message":
                yield from _of_message(item, at)
            case "function_call" | "custom_tool_call":
                yield from _of_call(item, at)
            case "reasoning":
                yield from _of_reasoning(item, at)
            case _:
                yield _added(item, at)
        yield {"type": "response.output_item.done", "output_index": place, "item": item}
    end = "incomplete" if body.get("status") == "incomplete" else "completed"
    yield {"type": f"response.{end}", "response": body}


def _added(item: dict[str, Any], at: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "response.output_item.added",
        "output_index": at["output_index"],
        "item": {**item, "status": "in_progress"} if "status" in item else item,
    }


def _of_message(item: dict[str, Any], at: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield _added({**item, "content": []}, at)
    for index, part in enumerate(item["content"]):
        here = {**at, "content_index": index}
        if part["type"] == "output_text":
            empty = {**part, "text": "", "annotations": []}
            yield {"type": "response.content_part.added", **here, "part": empty}
            logprobs = part.get("logprobs") or []
            text = {"delta": part["text"], "logprobs": logprobs}
            yield {"type": "response.output_text.delta", **here, **text}
            for number, annotation in enumerate(part.get("annotations") or ()):
                event = {"annotation_index": number, "annotation": annotation}
                yield {"type": "response.output_text.annotation.added", **here, **event}
            done = {"text": part["text"], "logprobs": logprobs}
            yield {"type": "response.output_text.done", **here, **done}
        elif part["type"] == "refusal":
            empty = {**part, "refusal": ""}
            yield {"type": "response.content_part.added", **here, "part": empty}
            yield {"type": "response.refusal.delta", **here, "delta": part["refusal"]}
            yield {"type": "response.refusal.done", **here, "refusal": part["refusal"]}
        else:
            yield {"type": "response.content_part.added", **here, "part": part}
        yield {"type": "response.content_part.done", **here, "part": part}


def _of_call(item: dict[str, Any], at: dict[str, Any]) -> Iterator[dict[str, Any]]:
    is_function = item["type"] == "function_call"
    field = "arguments" if is_function else "input"
    kind = "function_call_arguments" if is_function else "custom_tool_call_input"
    yield _added({**item, field: ""}, at)
    yield {"type": f"response.{kind}.delta", **at, "delta": item[field]}
    named = {"name": item.get("name")} if is_function else {}
    yield {"type": f"response.{kind}.done", **at, **named, field: item[field]}


def _of_reasoning(item: dict[str, Any], at: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield _added({**item, "summary": []}, at)
    for index, part in enumerate(item.get("summary") or ()):
        here = {**at, "summary_index": index}
        empty = {**part, "text": ""}
        text = part["text"]
        yield {"type": "response.reasoning_summary_part.added", **here, "part": empty}
        yield {"type": "response.reasoning_summary_text.delta", **here, "delta": text}
        yield {"type": "response.reasoning_summary_text.done", **here, "text": text}
        yield {"type": "response.reasoning_summary_part.done", **here, "part": part}
