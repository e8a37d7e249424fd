"""The two kinds of completions: their bodies as requests, their answers as bodies and chunks.

Both are kept in the form of chat completions; ``/v1/completions`` is another in its spelling alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from shared_core.client_request import Endpoint, request_of
from shared_core.client_response import choices_of
from shared_core.record import Answer
from shared_core.request import Request

_OF_SDK = frozenset({"extra_body", "extra_headers", "extra_query", "timeout"})
"""Arguments of the SDK that never go into a body: a body with one is read by nobody knows what."""

Body = Mapping[str, Any]
Part = Literal["message", "delta"]


@dataclass(frozen=True, slots=True)
class Head:
    """What stands in a completion and in each of its chunks."""

    number: str
    created: int
    model: str


class Dialect(Protocol):
    """How one kind of completions is spelt."""

    path: str

    def request_of(self, endpoint: Endpoint, body: Body) -> Request:
        """Return the request of a body. Raises TypeError or ValueError if it has no identity."""

    def as_chat(self, body: Body, part: Part) -> Body:
        """Return a completion ("message"), or a chunk of one ("delta"), as chat has it."""

    def completion(self, answer: Answer, head: Head) -> dict[str, Any]:
        """Return an answer as a completion. Raises ValueError if its payload cannot be read."""

    def chunks(self, answer: Answer, head: Head) -> Iterator[dict[str, Any]]:
        """Yield an answer as the chunks of a stream, but its usage. Raises as ``completion``."""


class Chat:
    """``/v1/chat/completions``."""

    path = "chat/completions"

    def request_of(self, endpoint: Endpoint, body: Body) -> Request:
        arguments, messages = _arguments(body, "messages")
        if not isinstance(messages, list):
            raise TypeError("messages must be a list")
        return request_of(endpoint, messages, arguments)

    def as_chat(self, body: Body, part: Part) -> Body:
        return body

    def completion(self, answer: Answer, head: Head) -> dict[str, Any]:
        choices = [
            {
                **choice,
                "index": i,
                "message": {"role": "assistant", "content": None, "refusal": None}
                | choice["message"],
                "logprobs": choice.get("logprobs"),
                "finish_reason": choice.get("finish_reason"),
            }
            for i, choice in enumerate(choices_of(answer))
        ]
        return _body(answer, "chat.completion", f"chatcmpl-{head.number}", head, choices)

    def chunks(self, answer: Answer, head: Head) -> Iterator[dict[str, Any]]:
        for i, choice in enumerate(choices_of(answer)):
            message = {"role": "assistant", "content": None, **choice["message"]}
            if "tool_calls" in message:
                calls = enumerate(message["tool_calls"])
                message["tool_calls"] = [{**call, "index": place} for place, call in calls]
            said = {"delta": message, "logprobs": choice.get("logprobs"), "finish_reason": None}
            rest = {name: value for name, value in choice.items() if name != "message"}
            end = {**rest, "delta": {}, "logprobs": None}
            for one in (said, end):
                yield {
                    "id": f"chatcmpl-{head.number}",
                    "object": "chat.completion.chunk",
                    "created": head.created,
                    "model": answer.model or head.model,
                    "choices": [{**one, "index": i}],
                }


class Completions:
    """``/v1/completions``, whose prompt is asked like a user's message."""

    path = "completions"

    def request_of(self, endpoint: Endpoint, body: Body) -> Request:
        arguments, prompt = _arguments(body, "prompt")
        if not isinstance(prompt, (str, list)):
            raise TypeError("prompt must be a text or a list")
        # no provider of chat completions has this name: the two never share a scope
        own = Endpoint(f"{endpoint.provider} completions", endpoint.base_url, endpoint.query)
        return request_of(own, [{"role": "user", "content": prompt}], arguments)

    def as_chat(self, body: Body, part: Part) -> Body:
        choices = [
            {
                **{name: value for name, value in choice.items() if name != "text"},
                part: {"role": "assistant", "content": choice.get("text") or ""},
            }
            for choice in body.get("choices") or ()
        ]
        return {**body, "choices": choices}

    def completion(self, answer: Answer, head: Head) -> dict[str, Any]:
        choices = list(self._choices(answer))
        return _body(answer, "text_completion", f"cmpl-{head.number}", head, choices)

    def chunks(self, answer: Answer, head: Head) -> Iterator[dict[str, Any]]:
        for choice in self._choices(answer):
            yield {
                "id": f"cmpl-{head.number}",
                "object": "text_completion",
                "created": head.created,
                "model": answer.model or head.model,
                "choices": [choice],
            }

    def _choices(self, answer: Answer) -> Iterator[dict[str, Any]]:
        for i, choice in enumerate(choices_of(answer)):
            rest = {name: value for name, value in choice.items() if name != "message"}
            text = choice["message"].get("content") or ""
            yield {"logprobs": None, "finish_reason": None, **rest, "index": i, "text": text}


def _arguments(body: Body, asked: str) -> tuple[dict[str, Any], Any]:
    """Return the arguments of a body, and what it asks. Raises ValueError or TypeError."""
    if not isinstance(body, Mapping) or _OF_SDK & body.keys():
        raise ValueError("not the body of a completion")
    if not isinstance(body.get("model"), str) or not isinstance(body.get("stream", False), bool):
        raise TypeError("model must be a text, stream true or false")
    return {name: value for name, value in body.items() if name != asked}, body.get(asked)


def _body(
    answer: Answer, kind: str, number: str, head: Head, choices: list[dict[str, Any]]
) -> dict[str, Any]:
    usage = usage_as_told(answer.usage)
    return {
        "id": number,
        "object": kind,
        "created": head.created,
        "model": answer.model or head.model,
        "choices": choices,
        **({} if usage is None else {"usage": usage}),
    }


def usage_as_told(usage: Mapping[str, int] | None) -> dict[str, Any] | None:
    """Return neutral token counts as OpenAI's API tells them."""
    if usage is None:
        return None
    asked, said = usage.get("input_tokens", 0), usage.get("output_tokens", 0)
    told: dict[str, Any] = {
        "prompt_tokens": asked,
        "completion_tokens": said,
        "total_tokens": usage.get("total_tokens", asked + said),
    }
    if "cached_tokens" in usage:
        told["prompt_tokens_details"] = {"cached_tokens": usage["cached_tokens"]}
    if "reasoning_tokens" in usage:
        told["completion_tokens_details"] = {"reasoning_tokens": usage["reasoning_tokens"]}
    return told
