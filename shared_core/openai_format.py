"""Read OpenAI's chat completions into requests and answers, streams included.

messages   -> history and the last user message -> question (by meaning) and the rest (scope)
parameters -> canonical parameters (scope)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared_core.harmless import (
    HARMLESS_ARGUMENTS,
    HEADER_DIGESTS,
    SERVER_STATE,
    header_identity,
)
from shared_core.record import CUT, EMPTY, ERROR, UNFINISHED, Answer, is_cut_off
from shared_core.request import PARAMETER_NAMES, Request, split_question
from shared_core.usage import tokens_of

FORMAT = "openai/1"
"""Format of answers that only this client can read; also the version of their payloads."""


_NOT_GIVEN = frozenset({"NotGiven", "Omit"})
"""Classes of the SDK's marks for arguments that are left out."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Whom a client asks: ``query`` is what it adds to every URL, such as Azure's version.

    ``headers`` is what it adds to every request, as it is sent; ``ignore`` names headers on which
    no answer depends; ``more`` is the digest of what else the client adds, "" for nothing.
    """

    provider: str
    base_url: str
    query: Mapping[str, Any]
    headers: Mapping[str, Any] = field(default_factory=dict, repr=False)
    ignore: frozenset[str] = frozenset()
    more: str = ""


def request_of(
    endpoint: Endpoint,
    messages: Sequence[Any],
    arguments: Mapping[str, Any],
    *,
    is_completion: bool = False,
) -> Request:
    """Build the request of one call; ``is_completion``: of a completion model's prompt.

    Raises TypeError or ValueError for arguments without a JSON form: such a call has no identity.
    """
    params = _parameters(endpoint, arguments)
    asked = split_question(list(map(plain_message, messages)), is_completion=is_completion)
    return asked.request(params, FORMAT)


def plain_message(message: Any) -> dict[str, Any]:
    """Return a message as a dictionary, whether it is one or an object of the SDK."""
    dump = getattr(message, "model_dump", None)
    found = dump(mode="json", exclude_none=True) if callable(dump) else message
    if not isinstance(found, Mapping):
        raise TypeError(f"a message must be a mapping, not {type(message).__qualname__}")
    return dict(found)


def text_of(messages: Sequence[Any]) -> str:
    """Return all text of messages, for an estimate of their tokens."""
    texts = []
    for message in messages:
        content = plain_message(message).get("content")
        parts = [content] if isinstance(content, str) else content or []
        for part in parts:
            text = part.get("text") if isinstance(part, Mapping) else part
            texts.append(text if isinstance(text, str) else "")
    return "\n".join(texts)


def _parameters(endpoint: Endpoint, arguments: Mapping[str, Any]) -> dict[str, Any]:
    given = {
        name: value
        for name, value in arguments.items()
        if name not in HARMLESS_ARGUMENTS and type(value).__name__ not in _NOT_GIVEN
    }
    own = given.pop("extra_headers", None)
    given |= given.pop("extra_body", None) or {}
    if any(given.get(name) for name in SERVER_STATE):
        raise ValueError("an answer that depends on what the provider keeps")
    extra: dict[str, Any] = {}
    if headers := header_identity(endpoint.headers, own, ignore=endpoint.ignore):
        extra[HEADER_DIGESTS] = headers
    if endpoint.more:
        extra["hidden settings"] = endpoint.more
    if endpoint.query:
        extra["query"] = dict(endpoint.query)
    if more := given.pop("extra_query", None):
        extra["query"] = {**extra.get("query", {}), **more}
    known: dict[str, Any] = {"provider": endpoint.provider, "base_url": endpoint.base_url}
    for name, value in given.items():
        canonical = PARAMETER_NAMES.get(name)
        if value is None:
            continue
        if canonical is None or known.get(canonical, value) != value:
            extra[name] = value
        else:
            known[canonical] = {"effort": value} if name == "reasoning_effort" else value
    return {**known, "extra": extra}


# Chat completions as neutral answers and back: our own versioned JSON, no ids.
#
# completion --answer_of--> Answer(text, payload) --message_of--> the assistant's message


SHARED = "shared"
"""The tier of an answer that was awaited from an equal call under way."""

_PLAIN_FIELDS = frozenset({"role", "content"})


@dataclass(frozen=True, slots=True)
class CachedResponse:
    """An answer of a chat model, from the cache or fresh.

    ``cached``: no call was made for it; ``cache_tier`` then says "exact", "semantic", or "shared"
    for the answer to an equal call that was under way. ``latency_ms`` is what the caller waited.
    ``cost`` is what this answer cost now in US dollars: 0.0 if cached, None without a price;
    ``saved`` what it would have cost. ``usage`` are the tokens of the call that made the answer,
    whenever that was; ``estimated`` if no provider counted them. ``message`` is the assistant's
    message as JSON, tool calls included: ready to go back into a conversation. ``entry_id`` is for
    ``cache.feedback``.

        response: CachedResponse = client.chat(messages, model="gpt-4o-mini")
        print(response.content, response.cached, response.cost)
    """

    content: str
    cached: bool
    cache_tier: str | None
    latency_ms: float
    cost: float | None
    usage: Mapping[str, int] | None
    model: str
    message: Mapping[str, Any]
    finish_reason: str | None = None
    entry_id: str | None = None
    saved: float | None = None
    estimated: bool = False


def answer_of(completion: Any) -> Answer:
    """Return the answer that a completion gives: an object of the SDK, or the provider's JSON.

    One message that is its text and nothing else can be read by every framework. Raises ValueError
    for what is no completion, or one without a choice.
    """
    body = as_json(completion)
    choices = [_kept(choice) for choice in body.get("choices") or ()]
    if not choices:
        raise ValueError("a completion without a choice")
    first, message = choices[0], choices[0].get("message") or {}
    for choice in choices:
        choice.get("message", {}).pop("parsed", None)
    text = message.get("content") or ""
    plain = len(choices) == 1 and message.keys() <= _PLAIN_FIELDS and "logprobs" not in first
    reasons = {choice.get("finish_reason") for choice in choices}
    special = message.get("tool_calls") or message.get("function_call") or message.get("refusal")
    kept: dict[str, Any] = {} if plain else {"choices": choices}
    if about := {name: body[name] for name in _ABOUT if body.get(name)}:
        kept["about"] = about
    return Answer(
        text=text,
        payload=json.dumps({"v": FORMAT, **kept}) if kept else None,
        format="text" if plain else FORMAT,
        model=body.get("model") or None,
        usage=tokens_of(body.get("usage")),
        finish_reason=first.get("finish_reason"),
        exact_only=bool(special or not text or any(map(is_cut_off, reasons))),
        flaw=_flaw(body, choices),
    )


_ABOUT = ("system_fingerprint", "service_tier")
"""What a completion says of itself, beside ids and times of its own."""


def about_of(answer: Answer) -> dict[str, Any]:
    """Return what the completion of an answer said of itself; nothing where it said nothing.

    {"system_fingerprint": "fp_1", "service_tier": "default"}
    """
    if answer.payload is None or not answer.payload.startswith(_HEAD):
        return {}
    about = json.loads(answer.payload).get("about") or {}
    return {name: about[name] for name in _ABOUT if name in about}


_HEAD = json.dumps({"v": FORMAT})[:-1]
"""How a payload of this format begins: a plain answer of another framework has its own."""

_NO_CONTENT = frozenset({"role", "reasoning", "reasoning_content", "reasoning_details"})
"""Fields of a message that are no answer by themselves."""


def _flaw(body: Mapping[str, Any], choices: Sequence[Mapping[str, Any]]) -> str | None:
    """Return why a completion is not to be served again: this API always says why it ended.

    Of several choices, one that is good is enough.
    """
    if body.get("error") or any(choice.get("error") for choice in choices):
        return ERROR
    if any(choice.get("finish_reason") is None for choice in choices):
        return UNFINISHED
    flaws = [_flaw_of_choice(choice) for choice in choices]
    return None if None in flaws else flaws[0]


def _flaw_of_choice(choice: Mapping[str, Any]) -> str | None:
    if is_cut_off(choice["finish_reason"]):
        return CUT
    message = choice.get("message") or {}
    said = [value for name, value in message.items() if name not in _NO_CONTENT and value]
    return None if any(not isinstance(one, str) or one.strip() for one in said) else EMPTY


def as_json(found: Any) -> Mapping[str, Any]:
    """Return an object of the SDK as JSON, and JSON as it is. Raises ValueError for a list."""
    dump = getattr(found, "model_dump", None)
    body = dump(mode="json", exclude_unset=True, warnings=False) if callable(dump) else found
    if not isinstance(body, Mapping):
        raise ValueError(f"not an object of JSON: {type(found).__qualname__}")
    return body


def _kept(choice: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is kept of a choice; log probabilities stay as they are, empty lists too."""
    rest = {name: item for name, item in choice.items() if name not in ("index", "logprobs")}
    kept: dict[str, Any] = _without_nothing(rest)
    if choice.get("logprobs"):
        kept["logprobs"] = choice["logprobs"]
    return kept


def _without_nothing(value: Any) -> Any:
    """Drop what is None or empty at any depth, which is as absent."""
    if isinstance(value, dict):
        kept = {name: _without_nothing(item) for name, item in value.items()}
        return {name: item for name, item in kept.items() if item is not None and item != []}
    return [_without_nothing(item) for item in value] if isinstance(value, list) else value


def message_of(answer: Answer) -> dict[str, Any]:
    """Return the assistant's message, the first if there are several.

    Raises ValueError if the payload is not what ``answer_of`` wrote.
    """
    return choices_of(answer)[0]["message"]  # type: ignore[no-any-return]  # it is JSON


def choices_of(answer: Answer) -> list[dict[str, Any]]:
    """Return all choices of an answer, as JSON. Raises ValueError as ``message_of`` does."""
    if answer.format != FORMAT:
        message = {"role": "assistant", "content": answer.text}
        return [{"message": message, "finish_reason": answer.finish_reason}]
    try:
        body = json.loads(answer.payload or "")
        choices: list[dict[str, Any]] = body["choices"]
        if body["v"] != FORMAT or not isinstance(choices[0]["message"], dict):
            raise ValueError("a payload of another version")
    except (TypeError, KeyError, IndexError) as error:
        raise ValueError(f"not a payload of {FORMAT}: {type(error).__name__}") from None
    return choices


# Puts the chunks of a streamed completion together: choices by their index, texts end to end.
#
#     {"choices": [{"index": 0, "delta": {"content": "It "}}]}  --note-->  completion()
# {"choices": [{"index": 0, "delta": {"content": "melts."}, "finish_reason": "stop"}]}


_SAID_AGAIN = frozenset({"role", "type", "id", "index", "object"})
"""Fields that a provider may repeat in every chunk; other texts go on."""


class Gathered:
    """What came of a stream so far."""

    def __init__(self) -> None:
        self._choices: dict[int, dict[str, Any]] = {}
        self._model: str | None = None
        self._usage: Any = None
        self._about: dict[str, Any] = {}

    def note(self, chunk: Any) -> str:
        """Add a chunk and return the text that it adds to the first choice.

        Raises ValueError, TypeError or AttributeError for one that cannot be put together with
        those before it, or tells of an error.
        """
        body = as_json(chunk)
        if body.get("error"):
            raise ValueError("the chunk tells of an error")
        self._model = self._model or body.get("model")
        self._usage = body.get("usage") or self._usage
        self._about |= {name: body[name] for name in _ABOUT if body.get(name)}
        for choice in body.get("choices") or ():
            found = self._choices.setdefault(choice.get("index") or 0, {"message": {}})
            more = {name: value for name, value in choice.items() if name not in ("delta", "index")}
            found["message"] = _joined(found["message"], choice.get("delta") or {})
            # why it ends is said once, but some say it again with the usage
            found.update(_joined(found, {**more, "finish_reason": None}))
            found["finish_reason"] = more.get("finish_reason") or found.get("finish_reason")
        return text_of_chunk(body)

    @property
    def is_whole(self) -> bool:
        """Say whether there is a choice, and each said why it ended."""
        reasons = [choice.get("finish_reason") for choice in self._choices.values()]
        return bool(reasons) and None not in reasons

    def completion(self) -> dict[str, Any]:
        """Return the whole as the provider would have given it at once."""
        choices = [_listed(choice) for _, choice in sorted(self._choices.items())]
        whole = {"model": self._model, "choices": choices, "usage": self._usage}
        return {**whole, **self._about}


def text_of_chunk(chunk: Any) -> str:
    """Return the text that a chunk adds to the first choice."""
    return "".join(
        (choice.get("delta") or {}).get("content") or ""
        for choice in as_json(chunk).get("choices") or ()
        if not choice.get("index")
    )


def _joined(old: Any, new: Any) -> Any:
    """Return what two values of one field are together."""
    match old, new:
        case (None, _) | (_, None):
            return _indexed(new) if old is None else old
        case (str(), str()):
            return old + new
        case (Mapping(), Mapping()):
            whole = dict(old)
            for name, value in new.items():
                said_again = name in _SAID_AGAIN and value is not None
                whole[name] = value if said_again else _joined(whole.get(name), value)
            return whole
        case (_Items(), list()):
            return old.plus(new)
        case (list(), list()):
            return [*old, *new]
        case _ if type(old) is type(new):
            return new
    raise TypeError(f"{type(old).__name__} and {type(new).__name__} of one field")


class _Items(dict[int, Any]):
    """A list whose items came with an index, such as tool calls."""

    def plus(self, items: list[Any]) -> _Items:
        whole = _Items(self)
        for item in items:
            place = item["index"]
            whole[place] = _joined(whole.get(place), item)
        return whole


def _indexed(value: Any) -> Any:
    """Prepare a first value for more to come: lists with indexes become what can be joined."""
    if isinstance(value, Mapping):
        return {name: _indexed(item) for name, item in value.items()}
    if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        placed = all(isinstance(item.get("index"), int) for item in value)
        return _Items().plus(value) if placed else value
    return value


def _listed(value: Any) -> Any:
    """Undo ``_indexed``."""
    if isinstance(value, _Items):
        items = [_listed(item) for _, item in sorted(value.items())]
        return [{name: part for name, part in item.items() if name != "index"} for item in items]
    if isinstance(value, Mapping):
        return {name: _listed(item) for name, item in value.items()}
    return value
