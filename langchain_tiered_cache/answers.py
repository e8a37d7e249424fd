"""Turn LangChain's generations into neutral answers and back: our own JSON, no object loader.

    list[Generation] --answer_of--> Answer(text, payload) --generations_of--> list[Generation]

Ids of messages and of provider responses are not kept: a message that is served again is a new one,
and a response id would continue another user's conversation on the provider's server.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, Generation, GenerationChunk
from pydantic import BaseModel

from shared_core.record import CUT, EMPTY, ERROR, Answer, is_cut_off
from shared_core.usage import tokens_of

# Copies of generations that share nothing with their pattern: callers change what they get.
#
# Building a message validates every field; copying one that is known to be right does not.


M = TypeVar("M", bound=BaseModel)

_CHANGEABLE = frozenset({dict, list})
"""The types of JSON values that a caller could change, so that each gets a copy."""


def copied(pattern: Generation) -> Generation:
    """Copy a generation, and its message, whose fields all came out of JSON."""
    twin = _own(pattern)
    if isinstance(twin, ChatGeneration):
        twin.__dict__["message"] = _own(twin.message)
    return twin


def _own(model: M) -> M:
    """Do what ``model_copy`` does, in half of its time; every hit comes here twice."""
    kind, put = type(model), object.__setattr__
    twin = kind.__new__(kind)
    put(twin, "__dict__", _own_json(model.__dict__))
    extra, private = model.__pydantic_extra__, getattr(model, "__pydantic_private__", None)
    put(twin, "__pydantic_extra__", None if extra is None else _own_json(extra))
    put(twin, "__pydantic_fields_set__", model.__pydantic_fields_set__.copy())
    put(twin, "__pydantic_private__", None if private is None else private.copy())
    return twin


def _own_json(value: Any) -> Any:
    twin = value.copy()
    if not twin:
        return twin
    for place, item in value.items() if type(value) is dict else enumerate(value):
        if type(item) in _CHANGEABLE:
            twin[place] = _own_json(item)
    return twin


FORMAT = "langchain/1"
"""Format of answers that only LangChain can read; also the mark and version of every payload."""

MARK = "tiered_cache"
"""Where in ``response_metadata`` a message says what the cache did."""

_GENERATIONS: Mapping[str, type[Generation]] = {
    "Generation": Generation,
    "GenerationChunk": GenerationChunk,
}
_CHAT_GENERATIONS: Mapping[str, type[ChatGeneration]] = {
    "ChatGeneration": ChatGeneration,
    "ChatGenerationChunk": ChatGenerationChunk,
}
_MESSAGES: Mapping[str, type[AIMessage]] = {
    "AIMessage": AIMessage,
    "AIMessageChunk": AIMessageChunk,
}

_FIELDS = (
    "content", "additional_kwargs", "response_metadata", "name", "tool_calls", "invalid_tool_calls",
    "usage_metadata", "tool_call_chunks", "chunk_position",
)  # fmt: skip

_RESPONSE_IDS = (
    "rs_", "msg_", "resp_", "fc_", "ws_", "fs_", "ci_", "ig_", "cu_", "ctc_", "mcp", "lc_", "run-",
)  # fmt: skip
"""How ids begin that name an item of one response; ids of tool calls begin otherwise."""

PATTERNS, LONGEST_PATTERN = 512, 16_000
"""Payloads of which built messages are kept to be copied, and the characters of the longest."""

_FINISH_FIELDS = ("finish_reason", "stop_reason", "stopReason", "done_reason")
_COST_OF_A_HIT = {"total_cost": 0}


class ServedGeneration(ChatGeneration):
    """A chat generation out of the cache, whose message has no usage.

    On every hit langchain-core replaces the message by a copy with ``usage_metadata["total_cost"] =
    0``. Of a message without usage that makes a usage without its required fields, which does not
    validate when the message is sent or stored again; here it stays None.
    """

    @classmethod
    def lc_id(cls) -> list[str]:
        """Return the id of the class that this one stands for."""
        return [*cls.get_lc_namespace(), "ChatGeneration"]

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "message" and getattr(value, "usage_metadata", None) == _COST_OF_A_HIT:
            value.usage_metadata = None
        super().__setattr__(name, value)


def answer_of(generations: Sequence[Generation]) -> Answer | None:
    """Return the answer that these generations give, or None if it cannot be kept.

    It is kept only if it reads back equal, but for ids.
    """
    try:
        body = {"v": FORMAT, "generations": [_dump(generation) for generation in generations]}
        payload = json.dumps(body, separators=(",", ":"), allow_nan=False)
        again = _load(payload)
        if [_dump(generation) for generation in again] != body["generations"]:
            return None
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError):
        return None
    return _answer(list(generations), payload) if again else None


def generations_of(answer: Answer, chat: type[ChatGeneration] = ChatGeneration) -> list[Generation]:
    """Build new generations of an answer; its own of LangChain's, else one of its text.

    ``chat`` is the class of those with whole chat messages. Raises ValueError if the payload is not
    what ``answer_of`` wrote.
    """
    payload = answer.payload
    if payload is not None and payload.startswith(_HEAD):
        try:
            return _generations_of(payload, chat)
        except (TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError(f"not a payload of {FORMAT}: {type(error).__name__}") from None
    if answer.format != "text":
        raise ValueError(f"an answer of format {answer.format} has no payload of {FORMAT}")
    metadata = {"finish_reason": answer.finish_reason, "model_name": answer.model}
    message = AIMessage(
        content=answer.text,
        response_metadata={name: value for name, value in metadata.items() if value is not None},
    )
    return [chat(message=message)]


_HEAD = json.dumps({"v": FORMAT}, separators=(",", ":"))[:-1]


def _dump(generation: Generation) -> dict[str, Any]:
    own = type(generation)
    if own is ServedGeneration:  # out of a cache in front of the model
        own = ChatGeneration
    kind = own.__name__
    if (_CHAT_GENERATIONS.get(kind) or _GENERATIONS.get(kind)) is not own:
        raise TypeError(f"{kind} is not a generation of LangChain's own")
    dump: dict[str, Any] = {"kind": kind}
    if generation.generation_info is not None:
        dump["info"] = generation.generation_info
    if isinstance(generation, ChatGeneration):
        dump["message"] = _dump_message(generation.message)
    else:
        dump["text"] = generation.text
    return dump


def _dump_message(message: Any) -> dict[str, Any]:
    kind = type(message).__name__
    if _MESSAGES.get(kind) is not type(message):
        raise TypeError(f"{kind} is not a message of LangChain's own")
    dump: dict[str, Any] = {"kind": kind}
    for name in _FIELDS:
        value = getattr(message, name, None)
        if value:
            dump[name] = value
    dump["content"] = _content(message.content)
    if message.model_extra:
        dump["extra"] = dict(message.model_extra)
    for name, clean in (("additional_kwargs", _additional), ("response_metadata", _metadata)):
        if name in dump and (kept := clean(dump.pop(name))):
            dump[name] = kept
    return dump


def _content(content: Any) -> Any:
    if isinstance(content, str):
        return content
    return [_without_response_id(block) for block in content]


def _without_response_id(block: Any) -> Any:
    if not isinstance(block, dict):
        return block
    block = {
        name: value
        for name, value in block.items()
        if not (name == "id" and str(value).startswith(_RESPONSE_IDS))
    }
    extras = block.get("extras")
    if isinstance(extras, dict) and "item_id" in extras:
        block["extras"] = {name: value for name, value in extras.items() if name != "item_id"}
    return block


def _additional(fields: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in fields.items() if name != "__openai_function_call_ids__"}
    if hasattr(kept.get("parsed"), "model_dump"):
        kept["parsed"] = kept["parsed"].model_dump(mode="json")  # a chain parses it again
    if "reasoning" in kept:
        kept["reasoning"] = _without_response_id(kept["reasoning"])
    return kept


def _metadata(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in ("id", MARK)}


def _generations_of(payload: str, chat: type[ChatGeneration]) -> list[Generation]:
    """Build generations; from the second time on they are copies of some that were built."""
    if len(payload) > LONGEST_PATTERN:
        return _load(payload, chat)
    patterns = _patterns(payload, chat)
    if not patterns:
        patterns.append(None)  # most payloads are met once: copies of them would be for nothing
        return _load(payload, chat)
    pattern = patterns[0] = patterns[0] or _load(payload, chat)
    return [copied(generation) for generation in pattern]


@lru_cache(PATTERNS)
def _patterns(payload: str, chat: type[ChatGeneration]) -> list[list[Generation] | None]:
    """Return a place for what is built of a payload: nothing in it means that it is a new one."""
    return []


def _load(payload: str, chat: type[ChatGeneration] = ChatGeneration) -> list[Generation]:
    body = json.loads(payload)
    if body["v"] != FORMAT:
        raise ValueError("a payload of another version")
    return [_load_generation(dump, chat) for dump in body["generations"]]


def _load_generation(dump: Mapping[str, Any], chat: type[ChatGeneration]) -> Generation:
    info = dump.get("info")
    kind = _CHAT_GENERATIONS.get(dump["kind"])
    if kind is None:
        return _GENERATIONS[dump["kind"]](text=dump["text"], generation_info=info)
    message = _load_message(dump["message"])
    return (chat if kind is ChatGeneration else kind)(message=message, generation_info=info)


def _load_message(dump: dict[str, Any]) -> AIMessage:
    kind = _MESSAGES[dump.pop("kind")]
    message = kind(**dump.pop("extra", {}), **dump)
    for name in ("tool_calls", "invalid_tool_calls"):
        # The constructor keeps only the fields it knows of a call, and drops "extras".
        if name in dump and getattr(message, name) != dump[name]:
            setattr(message, name, dump[name])
    return message


def _answer(generations: list[Generation], payload: str) -> Answer:
    first = generations[0]
    message = first.message if isinstance(first, ChatGeneration) else None
    metadata = _metadata_of(first)
    model = metadata.get("model_name") or metadata.get("model")
    is_plain = len(generations) == 1 and (message is None or _is_plain(message))
    flaws = list(map(_flaw, generations))
    return Answer(
        text=first.text,
        payload=payload,
        format="text" if is_plain else FORMAT,
        model=model if isinstance(model, str) else None,
        usage=tokens_of(getattr(message, "usage_metadata", None)),
        finish_reason=_finish_reason(metadata),
        exact_only=any(map(_is_exact_only, generations)),
        flaw=None if None in flaws else flaws[0],  # of several, one that is good is enough
    )


def _metadata_of(generation: Generation) -> dict[str, Any]:
    """Return what the provider said about a generation, wherever LangChain put it."""
    metadata = dict(generation.generation_info or {})
    if isinstance(generation, ChatGeneration):
        metadata |= generation.message.response_metadata
    return metadata


def _finish_reason(metadata: Mapping[str, Any]) -> str | None:
    reasons = (metadata.get(name) for name in _FINISH_FIELDS)
    return next((reason for reason in reasons if isinstance(reason, str)), None)


def _status(metadata: Mapping[str, Any]) -> str | None:
    """Return what the Responses API says in place of a reason to finish."""
    status = metadata.get("status")
    return status if isinstance(status, str) else None


def ending_of(generations: Sequence[Generation]) -> str | None:
    """Return how a model's answer ended, None where one of several does not say so."""
    endings = [
        _finish_reason(metadata) or _status(metadata) for metadata in map(_metadata_of, generations)
    ]
    return None if None in endings else endings[0]


def _flaw(generation: Generation) -> str | None:
    """Return why a generation is not to be served again: an error, cut off, or without content."""
    metadata = _metadata_of(generation)
    if metadata.get("error"):
        return ERROR
    if is_cut_off(_finish_reason(metadata)) or is_cut_off(_status(metadata)):
        return CUT
    if generation.text.strip():
        return None
    if not isinstance(generation, ChatGeneration):
        return EMPTY
    message: Any = generation.message
    blocks = message.content if isinstance(message.content, list) else []
    more = [value for name, value in message.additional_kwargs.items() if name not in _THOUGHTS]
    says = (message.tool_calls, message.invalid_tool_calls, any(more), _special(blocks))
    return None if any(says) else EMPTY


_THOUGHTS = frozenset({"reasoning", "reasoning_content"})


def _special(blocks: Sequence[Any]) -> set[object]:
    """Return the types of blocks that are neither text nor thoughts."""
    kinds = {block.get("type") for block in blocks if isinstance(block, dict)}
    return kinds - {"text", "output_text", "reasoning", "thinking", "redacted_thinking"}


def _is_plain(message: Any) -> bool:
    """Tell whether a message is its text and nothing else."""
    rich = (message.tool_calls, message.invalid_tool_calls, message.name)
    more = any(value is not None for value in message.additional_kwargs.values())
    return isinstance(message.content, str) and not any(rich) and not more


def _is_exact_only(generation: Generation) -> bool:
    """Tell whether an answer fits no other wording: calls tools, is cut off, refused or empty."""
    metadata = _metadata_of(generation)
    if is_cut_off(_finish_reason(metadata)) or is_cut_off(_status(metadata)):
        return True
    if not isinstance(generation, ChatGeneration):
        return not generation.text
    message: Any = generation.message
    more = message.additional_kwargs
    calls = message.tool_calls or message.invalid_tool_calls or more.get("function_call")
    blocks = message.content if isinstance(message.content, list) else []
    return bool(calls or more.get("refusal") or _special(blocks) or not generation.text)
