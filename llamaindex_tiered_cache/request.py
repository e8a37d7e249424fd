"""Makes a ``Request`` of what an LLM endpoint is called with.

messages -> history and the last user message -> question (by meaning) and the rest of it (scope)
LLM object, arguments -> canonical parameters (scope)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.llms.llm import LLM

from llamaindex_tiered_cache.llm_parameters import has_default_prompting, parameters_of
from llamaindex_tiered_cache.messages import neutral_messages, text_of_system
from llamaindex_tiered_cache.question import Split, split
from shared_core.canonical_messages import canonical_messages
from shared_core.request import Request

FORMAT = "llamaindex/1"
"""Format of answers that only LlamaIndex can read; also the mark and version of every payload."""

_UNREADABLE = (TypeError, ValueError, KeyError, AttributeError, RecursionError, OSError)


def chat_request(llm: LLM, messages: Sequence[ChatMessage], call: Mapping[str, Any]) -> Request:
    """Build the request of a chat endpoint; one that has no stable identity is uncacheable."""
    try:
        neutral = neutral_messages(messages)
        params = parameters_of(llm, call, system=text_of_system(neutral))
        if not neutral or neutral[-1]["role"] != "user":
            return _request(None, params, history=neutral, exact_only="not_user_text")
        return _asked(neutral, params)
    except _UNREADABLE:
        return _uncacheable(llm)


def completion_request(llm: LLM, prompt: str, formatted: bool, call: Mapping[str, Any]) -> Request:
    """Build the request of a completion endpoint, as ``chat_request`` does."""
    context: dict[str, Any] = {"form": "completion"}
    try:
        if not formatted and not has_default_prompting(llm):
            context["formatted"] = False
        found = split(prompt)
        if found.rest is not None:
            context["rest"] = {"text": found.rest}
        return _request(
            found.question,
            parameters_of(llm, call),
            context=context,
            exact_only=found.exact_only,
        )
    except _UNREADABLE:
        return _uncacheable(llm)


def _asked(neutral: list[dict[str, Any]], params: Mapping[str, Any]) -> Request:
    """Build the request whose last message is a user's."""
    last = canonical_messages(neutral[-1:])[0]
    content = last.pop("content")
    del last["role"]
    context: dict[str, Any] = {"message": last} if last else {}
    if isinstance(content, str):
        found = split(content)
        if found.rest is not None:
            context["rest"] = {"text": found.rest}
    else:
        texts = [part for part in content if isinstance(part, str)]
        reason = "template" if len(texts) == len(content) else "multimodal"
        found = Split("\n\n".join(texts), None, reason)
        context["content"] = content
    return _request(
        found.question,
        params,
        history=neutral[:-1],
        context=context or None,
        exact_only=found.exact_only,
    )


def _request(
    question: str | None,
    params: Mapping[str, Any],
    *,
    history: Sequence[Mapping[str, Any]] = (),
    context: Mapping[str, Any] | None = None,
    exact_only: str | None = None,
) -> Request:
    return Request.of(
        question,
        history=history,
        params=params,
        context=context,
        exact_only=exact_only,
        format=FORMAT,
    )


def _uncacheable(llm: LLM) -> Request:
    """Build the request that is neither looked up nor stored."""
    model = llm.metadata.model_name
    return Request(None, "", model, "unstable", FORMAT, uncacheable="unstable")
