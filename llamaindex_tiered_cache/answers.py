"""Turn LlamaIndex's responses into neutral answers and back: our own JSON, no object loader.

ChatResponse, CompletionResponse --answer_of--> Answer(text, payload) --response_of--> a new one
chunks of a stream --streamed_answer--> Answer(text, payload) --chunks_of--> new chunks

``raw`` comes back as a ``RawResponse``, with the attributes of the provider's own object but for
its id, which names another user's response.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    LogProb,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.bridge.pydantic import BaseModel
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.base import BaseEvent

from llamaindex_tiered_cache.request import FORMAT
from shared_core.controls import LookupEvent, StoreEvent, Trace
from shared_core.record import CUT, EMPTY, Answer, Hit, is_cut_off
from shared_core.usage import COUNTS, HOLDERS, tokens_of

if TYPE_CHECKING:
    from llama_index.core.evaluation import EvaluationResult

    from shared_core.cache import ResponseCache

# Token counts and finish reason, wherever an integration puts them.


_REASONS = ("finish_reason", "stop_reason", "done_reason", "stopReason")


def usage_of(response: ChatResponse | CompletionResponse) -> dict[str, int] | None:
    """Return the token counts of a response, or None if it tells none."""
    return tokens_of(response.additional_kwargs, response.raw)


def without_usage(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields without token counts."""
    return {
        name: value for name, value in fields.items() if name not in COUNTS and name not in HOLDERS
    }


def finish_reason_of(response: ChatResponse | CompletionResponse) -> str | None:
    """Return why the model stopped, as its provider spells it, or None."""
    choices = _get(response.raw, "choices") or _get(response.raw, "candidates")
    first = choices[0] if isinstance(choices, (list, tuple)) and choices else None
    for source in (response.additional_kwargs, response.raw, first):
        for name in _REASONS:
            reason = _get(source, name)
            reason = getattr(reason, "name", reason)
            if isinstance(reason, str) and reason:
                return reason
    return None


def _get(source: Any, name: str) -> Any:
    if isinstance(source, Mapping):
        return source.get(name)
    return (
        None if source is None or isinstance(source, (str, type)) else getattr(source, name, None)
    )


MARK = "tiered_cache"
"""Where in ``additional_kwargs`` a response says what the cache did."""

Response = TypeVar("Response", ChatResponse, CompletionResponse)
Delta = tuple[str | None, dict[str, Any] | None]
"""What one chunk of a stream adds: its text, and its own ``additional_kwargs``."""

_FAILURES = (TypeError, ValueError, KeyError, AttributeError, RecursionError, IndexError)


class RawResponse(dict[str, Any]):
    """Give the fields of a provider's response, as attributes and as items, without its class.

        response.raw.usage.total_tokens == response.raw["usage"]["total_tokens"]

    ``id`` is None: the provider's id names the response that was given to somebody else.
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(
                f"the provider's response had no {name!r} when it was kept"
            ) from None

    def model_dump(self, **_: Any) -> dict[str, Any]:
        """Return the fields as plain data."""
        plain: dict[str, Any] = json.loads(json.dumps(self))
        return plain


_TEXT = "$text"
"""Stands in a kept ``raw`` for the text of the answer, which is kept once."""


def _dump_raw(raw: Any, text: str) -> Any:
    """Return a provider's response as JSON without its id, None if there is no such form."""

    def plain(value: Any) -> Any:
        if isinstance(value, BaseModel):
            value = value.model_dump()
        if isinstance(value, Mapping):
            return {str(name): plain(item) for name, item in value.items() if name != MARK}
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        if isinstance(value, Enum):
            return value.value
        return {_TEXT: len(text)} if value == text and text else value

    if not isinstance(raw, (BaseModel, Mapping)):
        return None
    try:
        dump = plain(raw)
        if json.loads(json.dumps(dump, allow_nan=False)) != dump:
            return None
    except _FAILURES:
        return None
    return {**dump, "id": None} if "id" in dump else dump


def _load_raw(dump: Any, text: str) -> Any:
    """Return the object that ``_dump_raw`` wrote down."""
    if isinstance(dump, Mapping):
        if dump.keys() == {_TEXT}:
            return text
        return RawResponse({name: _load_raw(item, text) for name, item in dump.items()})
    if isinstance(dump, list):
        return [_load_raw(item, text) for item in dump]
    return dump


@dataclass(frozen=True, slots=True)
class Retention:
    """What is kept of responses: tool calls by default; ``raw``: all of it, ids too."""

    raw: bool = False
    tool_calls: bool = True


def answer_of(
    response: ChatResponse | CompletionResponse,
    kept: Retention,
    deltas: Sequence[Delta] | None = None,
) -> Answer | None:
    """Return the answer that a response gives, or None if it cannot be kept.

    It is kept only if it reads back equal. ``deltas`` are those of the stream whose last chunk the
    response is.
    """
    try:
        body = _dump(response, kept, deltas)
        payload = json.dumps(body, separators=(",", ":"), allow_nan=False)
        again = json.loads(payload)
        if again != body or not _is_equal(_load(again), response, kept, deltas):
            return None
    except _FAILURES:
        return None
    calls = isinstance(response, ChatResponse) and _calls(response.message)
    if calls and not kept.tool_calls:
        return None
    return _answer(response, payload, deltas, bool(calls))


def response_of(answer: Answer, kind: type[Response]) -> Response:
    """Build a new response of an answer: from LlamaIndex's own payload, else of its text.

    Raises ValueError if the answer cannot be read as ``kind``, or only as a stream.
    """
    body = _body(answer)
    if body is None:
        return _of_text(answer, kind)
    if body.get("deltas") is not None and not body["whole"]:
        raise ValueError("an answer that only its stream says in full")
    return _loaded(body, kind)


def chunks_of(answer: Answer, kind: type[Response]) -> Iterator[Response]:
    """Build the chunks of a stream: the deltas as recorded, the last chunk with all there is.

    An answer that did not come as a stream is one chunk. Raises ValueError, at once, if it cannot
    be read.
    """
    body = _body(answer)
    last = _of_text(answer, kind) if body is None else _loaded(body, kind)
    deltas = None if body is None else body.get("deltas")
    if deltas is None:
        last.delta = answer.text
        return iter([last])
    return _replayed(last, deltas)


def _replayed(last: Response, deltas: Sequence[Any]) -> Iterator[Response]:
    said = ""
    for delta, more in deltas[:-1]:
        said += delta or ""
        yield _partial(last, said, delta, dict(more or {}))
    last.delta, more = deltas[-1]
    last.additional_kwargs = dict(more or {})
    yield last


def _partial(last: Response, said: str, delta: str | None, more: dict[str, Any]) -> Response:
    update: dict[str, Any] = {
        "delta": delta, "additional_kwargs": more, "logprobs": None, "raw": None,
    }  # fmt: skip
    if isinstance(last, ChatResponse):
        update["message"] = ChatMessage(role=last.message.role, content=said)
    else:
        update["text"] = said
    return last.model_copy(update=update)


def _body(answer: Answer) -> dict[str, Any] | None:
    """Return LlamaIndex's own payload, or None for an answer of which the text says all."""
    if answer.payload is not None and answer.payload.startswith(_HEAD):
        body: dict[str, Any] = json.loads(answer.payload)
        return body
    if answer.format != "text":
        raise ValueError(f"an answer of format {answer.format} has no payload of {FORMAT}")
    return None


_HEAD = json.dumps({"v": FORMAT}, separators=(",", ":"))[:-1]


def _of_text(answer: Answer, kind: type[Response]) -> Response:
    if issubclass(kind, ChatResponse):
        message = ChatMessage(role=MessageRole.ASSISTANT, content=answer.text)
        return kind.model_validate({"message": message})
    return kind.model_validate({"text": answer.text})


def _dump(
    response: ChatResponse | CompletionResponse, kept: Retention, deltas: Sequence[Delta] | None
) -> dict[str, Any]:
    body: dict[str, Any] = {"v": FORMAT}
    if isinstance(response, ChatResponse):
        body["message"] = _dump_message(response.message)
        text = response.message.content or ""
    else:
        body["text"] = text = response.text
    if response.logprobs is not None:
        body["logprobs"] = [[one.model_dump() for one in row] for row in response.logprobs]
    if kept.raw:
        raw = response.raw
        body["raw"] = raw.model_dump(mode="json") if isinstance(raw, BaseModel) else raw
    elif (fields := _dump_raw(response.raw, text)) is not None:
        body["fields"] = fields
    if deltas is None:
        body["delta"] = response.delta
        body["more"] = {k: v for k, v in response.additional_kwargs.items() if k != MARK}
    else:
        body["deltas"] = [[delta, more or None] for delta, more in deltas]
        body["whole"] = "".join(delta or "" for delta, _ in deltas) == text
    return body


def _is_equal(
    loaded: ChatResponse | CompletionResponse,
    response: ChatResponse | CompletionResponse,
    kept: Retention,
    deltas: Sequence[Delta] | None,
) -> bool:
    if _dump(loaded, kept, deltas) != _dump(response, kept, deltas):
        return False
    if not isinstance(loaded, ChatResponse) or not isinstance(response, ChatResponse):
        return True
    return loaded.message.blocks == response.message.blocks  # NaN is written as null


def _dump_message(message: ChatMessage) -> dict[str, Any]:
    more = dict(message.additional_kwargs)
    if _has_call_blocks(message):
        more.pop("tool_calls", None)  # the provider's objects for what the blocks say already
    if type(message) is not ChatMessage:
        raise TypeError(f"{type(message).__name__} is not LlamaIndex's own message")
    blocks = [block.model_dump(mode="json", exclude_none=True) for block in message.blocks]
    return {"role": message.role.value, "blocks": blocks, "more": without_usage(more)}


def _load(body: Mapping[str, Any]) -> ChatResponse | CompletionResponse:
    logprobs, text = body.get("logprobs"), body.get("text")
    message = None
    if text is None:
        dump = body["message"]
        message = ChatMessage.model_validate(
            {"role": dump["role"], "blocks": dump["blocks"], "additional_kwargs": dump["more"]}
        )
        text = message.content or ""
    more: dict[str, Any] = {
        "raw": _load_raw(body["fields"], text) if "fields" in body else body.get("raw"),
        "delta": body.get("delta"),
        "additional_kwargs": body.get("more") or {},
        "logprobs": None
        if logprobs is None
        else [[LogProb(**one) for one in row] for row in logprobs],
    }
    if message is None:
        return CompletionResponse(text=text, **more)
    return ChatResponse(message=message, **more)


def _loaded(body: Mapping[str, Any], kind: type[Response]) -> Response:
    try:
        response = _load(body)
    except _FAILURES as error:
        raise ValueError(f"not a payload of {FORMAT}: {type(error).__name__}") from None
    if not isinstance(response, kind):
        raise ValueError(f"a payload of {type(response).__name__}")
    return response


def _has_call_blocks(message: ChatMessage) -> bool:
    return any(isinstance(block, ToolCallBlock) for block in message.blocks)


def _calls(message: ChatMessage) -> bool:
    return _has_call_blocks(message) or bool(
        message.additional_kwargs.get("tool_calls")
        or message.additional_kwargs.get("function_call")
    )


def _answer(
    response: ChatResponse | CompletionResponse,
    payload: str,
    deltas: Sequence[Delta] | None,
    calls: bool,
) -> Answer:
    message = response.message if isinstance(response, ChatResponse) else None
    text = (message.content or "") if message else getattr(response, "text", "")
    said = text if deltas is None else "".join(delta or "" for delta, _ in deltas)
    blocks = message.blocks if message else []
    special = any(not isinstance(block, (TextBlock, ThinkingBlock)) for block in blocks)
    reason = finish_reason_of(response)
    model = getattr(response.raw, "model", None)
    return Answer(
        text=max(text, said, key=len),
        payload=payload,
        format="text" if said == text and (message is None or _is_plain(message)) else FORMAT,
        model=model if isinstance(model, str) else None,
        usage=usage_of(response),
        finish_reason=reason,
        exact_only=calls or special or not text or is_cut_off(reason),
        flaw=CUT if is_cut_off(reason) else None if text.strip() or calls or special else EMPTY,
    )


def _is_plain(message: ChatMessage) -> bool:
    """Tell whether a message is its text and nothing else."""
    return (
        message.role is MessageRole.ASSISTANT
        and [type(block) for block in message.blocks] == [TextBlock]
        and not without_usage(message.additional_kwargs)
    )


# What the caller gets: new responses with a mark, and an event on every hit.


FLIGHT = "flight"
"""The tier of an answer that another call, under way, brought."""

_dispatcher = get_dispatcher(__name__)


class TieredCacheHitEvent(BaseEvent):
    """An answer came from the cache: no event of the model follows, and no token was spent.

    ``age`` is in seconds; ``entry_id`` is for ``ResponseCache.feedback``.

        class Handler(BaseEventHandler):
            def handle(self, event, **kwargs):
                if isinstance(event, TieredCacheHitEvent):
                    print(event.tier, event.similarity)
    """

    model: str
    tier: str
    similarity: float
    entry_id: str
    age: float

    @classmethod
    def class_name(cls) -> str:
        """Return the name that handlers see."""
        return "TieredCacheHitEvent"


@dataclass(frozen=True, slots=True)
class Serving:
    """How one answer was served; ``age`` is in seconds."""

    tier: str
    similarity: float
    entry_id: str
    age: float

    @classmethod
    def of_hit(cls, hit: Hit) -> Serving:
        """Describe what a lookup found, or what an equal call under way brought."""
        tier = FLIGHT if hit.is_shared else str(hit.tier)
        return cls(tier, hit.similarity, hit.entry_id, hit.age)

    def mark(self, answer: Answer) -> dict[str, Any]:
        """Return what a response says of itself."""
        return {
            "hit": True,
            "tier": self.tier,
            "similarity": self.similarity,
            "entry_id": self.entry_id,
            "age": self.age,
            "usage": None if answer.usage is None else dict(answer.usage),
        }

    def tell(self, model: str) -> None:
        """Emit the event, in the span of the endpoint that answers."""
        _dispatcher.event(
            TieredCacheHitEvent(
                model=model,
                tier=self.tier,
                similarity=self.similarity,
                entry_id=self.entry_id,
                age=self.age,
            )
        )


@dataclass(frozen=True, slots=True)
class ResponseForm(Generic[Response]):
    """How one kind of response is written into answers, read from them and marked."""

    kind: type[Response]
    kept: Retention
    hit_usage: Literal["mark", "keep"]

    def write(self, response: Response, deltas: Sequence[Delta] | None = None) -> Answer | None:
        """Return the answer that a response gives, None if it cannot be kept."""
        if not isinstance(response, self.kind):
            return None
        return answer_of(response, self.kept, deltas)

    def read(self, answer: Answer, serving: Serving) -> Response:
        """Build a new response. Raises ValueError if the answer cannot be read."""
        return self._marked(response_of(answer, self.kind), serving.mark(answer))

    def chunks(self, answer: Answer, serving: Serving) -> Iterator[Response]:
        """Build the chunks of a stream. Raises ValueError, at once, if it cannot be read."""
        chunks = chunks_of(answer, self.kind)
        mark = serving.mark(answer)
        return (self._marked(chunk, mark) for chunk in chunks)

    def _marked(self, response: Response, mark: dict[str, Any]) -> Response:
        more = response.additional_kwargs
        if self.hit_usage == "mark":
            more = without_usage(more)
        response.additional_kwargs = {**more, MARK: dict(mark)}
        return response

    def fresh(self, response: Response, mark: dict[str, Any]) -> Response:
        """Note in the model's own response what the cache says of it; else it is the same."""
        more = {**response.additional_kwargs, MARK: mark}
        return response.model_copy(update={"additional_kwargs": more})


# What LlamaIndex's evaluators say of the answers.


def feedback_from(cache: ResponseCache, answered: Any, result: EvaluationResult) -> int:
    """Pass an evaluator's verdict to ``cache.feedback``; return how many answers it labels.

    - ``cache``: the cache that served or kept the answers
    - ``answered``: which answers were judged: a trace, a response of a cached LLM or query engine,
      or an entry id
    - ``result``: what the evaluator said; an invalid one, or one that neither passes nor fails,
      labels none

    A served answer that fails is not served for that question again; the policy learns from both.
    Raises nothing: an entry that is no longer known is ignored and counted.

        cache = cache_of(Settings.llm)
        with cache.trace() as trace:
            response = engine.query(question)
        verdict = FaithfulnessEvaluator().evaluate_response(response=response)
        feedback_from(cache, trace, verdict)
    """
    if result.invalid_result or result.passing is None:
        return 0
    entry_ids = dict.fromkeys(_entry_ids(answered))
    for entry_id in entry_ids:
        cache.feedback(entry_id, correct=result.passing)
    return len(entry_ids)


def _entry_ids(answered: Any) -> list[str]:
    """Return the ids of the entries that an object names, in order."""
    if isinstance(answered, str):
        return [answered]
    if isinstance(answered, Trace):
        events = [e for e in answered.events if isinstance(e, (LookupEvent, StoreEvent))]
        return [event.entry_id for event in events if event.entry_id is not None]
    for holder in ("additional_kwargs", "metadata"):
        mark = (getattr(answered, holder, None) or {}).get(MARK)
        if mark and mark["entry_id"]:
            return [mark["entry_id"]]
    return []
