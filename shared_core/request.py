"""Define what is asked: scope and question, their canonical form, and the key made of them.

    messages, parameters, context --canonical JSON--> scope --sha256--> Address(key, scope)

    canonical_messages     messages without what differs between two runs
    Request                what is asked; begin there
    canonical_parameters   parameters; ``PARAMETER_NAMES`` is each provider's word for them
    split_question         which part of the last message is the question

Two requests share an answer only if they have one key, or one scope and questions of one meaning.
What is in the scope, and how it is spelt, is frozen: a change needs a new ``KEY_FORMAT``, which
empties every cache.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from types import MappingProxyType
from typing import Any, NamedTuple

from shared_core.harmless import headers_digested

# Messages of any framework in one canonical form, without what differs between two runs.


VOLATILE_MESSAGE_FIELDS = frozenset(
    {"id", "response_metadata", "usage_metadata", "artifact", "tiered_cache"}
)
"""What differs between two runs of one conversation and never reaches the model."""

_OFTEN_EMPTY = frozenset({"tool_calls", "invalid_tool_calls", "additional_kwargs"})
"""Fields that frameworks write empty where nothing was said; any other value counts, but None."""

_NO_ANSWER_DEPENDS = "cache_control"
"""The field of a content part that only says what a provider keeps at hand."""

_STREAMED_PARTS = frozenset({"text", "thinking", "reasoning", "tool_use", "tool_call"})
"""Types of an assistant's parts whose ``index`` is their place in a stream."""

_CALL_TYPES = (None, "function", "tool_call")
"""How the calls of functions are marked; any other type of call is kept as it is."""


def canonical_messages(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Bring messages into canonical form.

    Volatile fields go, tool calls become ``{id, name, args}`` in either framework's spelling, and
    their ids are numbered in order of appearance, so that which result answers which call stays and
    the provider's random ids do not.
    """
    numbers: dict[str, str] = {}
    return [_message(message, numbers) for message in messages]


def _message(message: Mapping[str, Any], numbers: dict[str, str]) -> dict[str, Any]:
    if not isinstance(message, Mapping) or not message.get("role"):
        raise ValueError('a message must be a mapping with a "role", such as "user" or "assistant"')
    kept = {
        name: value
        for name, value in message.items()
        if name not in VOLATILE_MESSAGE_FIELDS
        and value is not None
        and (value or name not in _OFTEN_EMPTY)
        and (name != "type" or value != "message")
    }
    kept.setdefault("content", "")
    if "tool_calls" in kept:
        kept["tool_calls"] = [_tool_call(call, numbers) for call in kept["tool_calls"]]
    if "tool_call_id" in kept:
        kept["tool_call_id"] = numbers.setdefault(kept["tool_call_id"], f"call_{len(numbers)}")
    if isinstance(kept["content"], (list, tuple)):
        kept["content"] = _content(kept["content"], kept.get("role") == "assistant")
    if numbers:
        for name in kept.keys() - {"role", "tool_calls", "tool_call_id"}:
            if not isinstance(kept[name], str):
                kept[name] = _renumbered(kept[name], numbers)
    return kept


def _tool_call(call: Mapping[str, Any], numbers: dict[str, str]) -> dict[str, Any]:
    """Return a call as ``{id, name, args}``, and all else that it holds."""
    rest = {name: value for name, value in call.items() if value is not None}
    function = rest.pop("function", None)
    function = dict(function) if isinstance(function, Mapping) else {"name": function}
    args = rest.pop("args", function.pop("arguments", None))
    if isinstance(args, str):
        with suppress(ValueError):  # a model may write what is not JSON: compared as text
            args = json.loads(args, parse_float=_finite, parse_constant=_finite)
    identifier = rest.pop("id", None) or f"unnamed {len(numbers)}"
    kept = {
        "id": numbers.setdefault(identifier, f"call_{len(numbers)}"),
        "name": rest.pop("name", function.pop("name", None)),
        "args": args,
    }
    if rest.get("type") in _CALL_TYPES:
        rest.pop("type", None)
        rest.pop("index", None)  # its place in a stream
    if function:
        rest["function"] = function
    return {**rest, **kept}


def _finite(number: str) -> float:
    """Read a number of JSON; Python's reader takes NaN and infinities, which JSON does not have."""
    if not math.isfinite(found := float(number)):
        raise ValueError(number)
    return found


def _content(parts: Sequence[Any], of_assistant: bool) -> Any:
    """Drop what is volatile in content parts; a lone text part is the text itself."""
    kept = [_part(part, of_assistant) for part in parts]
    return kept[0] if len(kept) == 1 and isinstance(kept[0], str) else kept


def _part(part: Any, of_assistant: bool) -> Any:
    if not isinstance(part, Mapping):
        return part
    kept = {
        name: value
        for name, value in part.items()
        if name != _NO_ANSWER_DEPENDS
        and value is not None
        and not (name == "index" and of_assistant and part.get("type") in _STREAMED_PARTS)
        and not (name == "id" and _is_volatile_id(part, value, of_assistant))
    }
    if kept.keys() == {"type", "text"} and kept["type"] == "text":
        return kept["text"]
    return kept


def _is_volatile_id(part: Mapping[str, Any], value: Any, of_assistant: bool) -> bool:
    """Tell whether an id says nothing: LangChain's own, or that of a text an assistant wrote.

    Any other may name what the provider keeps; those of tool calls are renumbered instead.
    """
    said = {name for name, one in part.items() if one is not None}
    if said <= {"type", "id", "index"}:
        return False  # the id is all there is of the part
    is_text = part.get("type") == "text" and isinstance(part.get("text"), str)
    return str(value).startswith("lc_") or (of_assistant and is_text)


def _renumbered(value: Any, numbers: Mapping[str, str]) -> Any:
    """Replace every string that is a tool-call id, keys included."""
    if isinstance(value, str):
        return numbers.get(value, value)
    if isinstance(value, Mapping):
        return {numbers.get(k, k): _renumbered(v, numbers) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_renumbered(item, numbers) for item in value]
    return value


KEY_FORMAT = 2
"""Version of the canonical form; part of every scope and key."""

CANONICAL_PARAMETERS = (
    "provider", "base_url", "model", "temperature", "top_p", "max_tokens", "stop", "seed", "n",
    "tools", "tool_choice", "response_schema", "reasoning",
)  # fmt: skip

DEFAULT_BASE_URLS = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
    "mistralai": "https://api.mistral.ai/v1",
    "groq": "https://api.groq.com",
    "ollama": "http://localhost:11434",
    "google": "https://generativelanguage.googleapis.com",
}

HOME_DIGITS = 4
"""How much of a namespace's digest opens its keys and scopes.

A store of many machines places a namespace by it: 65,536 places, and the other 240 bits tell the
requests apart.
"""


class Address(NamedTuple):
    """Where a request lives in a store: hex sha256 digests, with the namespace hashed into both.

    Both open with the same ``HOME_DIGITS`` of the namespace's own digest.

    >>> Request.of("What is a fuse?", model="m").address("default") == Address("…", "…")
    False
    """

    key: str
    scope: str


@dataclass(frozen=True, slots=True)
class Request:
    """One request to a model: everything its answer depends on.

    ``scope`` is compared byte for byte, ``question`` alone may be matched by meaning.
    ``exact_only`` says why it must not be (a ``Miss.reason``), or is None. ``format`` names the
    framework whose messages the asker can read; answers of plain text are read by all.
    ``uncacheable`` says why the request has no stable identity at all (also a ``Miss.reason``): it
    is neither looked up nor stored. ``is_sample``: each answer is drawn by chance, with no seed:
    nobody who asks meanwhile is given another's.

        >>> request = Request.of("What is a fuse?", model="gpt-4o-mini", system="Be brief.")
        >>> request.address("shop").scope == request.address("bank").scope
        False
    """

    question: str | None
    scope: str
    model: str = ""
    exact_only: str | None = None
    format: str = "text"
    uncacheable: str | None = None
    is_sample: bool = False

    @classmethod
    def of(
        cls,
        question: str | None,
        model: str = "",
        system: str | None = None,
        history: Iterable[Mapping[str, Any]] = (),
        params: Mapping[str, Any] | None = None,
        context: Any = None,
        *,
        version: str | int | None = None,
        exact_only: str | None = None,
        format: str = "text",
    ) -> Request:
        """Build a request from neutral messages: ``{"role": …, "content": …}``.

        ``history`` is every message before the question, in order; ``params`` may use the canonical
        names and any others; ``context`` is whatever else the answer depends on, as JSON values;
        ``version`` is that of a prompt, or of whatever makes old answers old when it changes.

        Raises TypeError or ValueError if a value has no JSON form, naming the value.
        """
        messages = [{"role": "system", "content": system}] if system is not None else []
        given = {"model": model or None, **(params or {})} if model or not params else params
        parameters = canonical_parameters(given)
        scope: dict[str, Any] = {
            "messages": canonical_messages([*messages, *history]),
            "params": parameters,
        }
        if context is not None:
            scope["context"] = context
        if version is not None:
            scope["version"] = version
        if question is None:
            exact_only = exact_only or "not_user_text"
        elif parameters.are_sampled:
            exact_only = exact_only or "temperature"
        model = str(parameters.get("model", ""))
        is_sample = parameters.are_sampled and parameters.get("seed") is None
        return cls(
            *(question, canonical_json(scope), model, exact_only, format),
            is_sample=is_sample,
        )

    def address(self, namespace: str) -> Address:
        """Digest this request for one namespace."""
        scope = sha256(f"{_head(namespace)}{self.scope}".encode()).hexdigest()
        tail = "none" if self.question is None else "text " + self.question
        key = sha256(f"{scope}\n{tail}".encode("utf-8", "surrogatepass")).hexdigest()
        home = namespace_digest(namespace)[:HOME_DIGITS]
        return Address(home + key[HOME_DIGITS:], home + scope[HOME_DIGITS:])


_ALONE = "s"
"""The last character of a scope of rewritten questions: no digit, so that no digest ends so."""


def standalone_scope(scope: str) -> str:
    """Return where questions are kept that were rewritten to stand alone, by the digest of their
    scope without the conversation: what opens a conversation is never answered by one's middle.
    """
    return scope[:-1] + _ALONE


def is_standalone(scope: str) -> bool:
    """Tell whether this is where rewritten questions are kept."""
    return scope.endswith(_ALONE)


def _samples(temperature: Any) -> bool:
    """Tell whether a temperature is above 0, or is no number that could be compared."""
    if temperature is None:
        return False
    return not isinstance(temperature, (int, float)) or temperature > 0


def _holds_sampling(settings: Any) -> bool:
    """Say whether settings hold a temperature above 0 at any depth.

    Some providers take it inside of others, as in ``options`` or ``inferenceConfig``.
    """
    if isinstance(settings, dict):
        return any(
            _samples(value)
            if isinstance(value, (int, float, str)) and "temperature" in str(name).lower()
            else _holds_sampling(value)
            for name, value in settings.items()
        )
    return isinstance(settings, (list, tuple)) and any(map(_holds_sampling, settings))


@lru_cache(1024)
def _head(namespace: str) -> str:
    """Return what is digested before a scope: the version, and the namespace in ASCII."""
    return f"{KEY_FORMAT}\n{json.dumps(namespace)}\n"


@lru_cache(1024)
def namespace_digest(namespace: str) -> str:
    """Return the hex sha256 of a namespace's name, whatever text it is."""
    return sha256(namespace.encode("utf-8", "surrogatepass")).hexdigest()


def canonical_json(value: Any) -> str:
    """Spell a JSON value in exactly one way: sorted keys, no spaces, ASCII.

    Raises TypeError for a value that JSON does not have, ValueError for NaN and infinities.
    """
    try:
        return _ENCODER.encode(value)
    except TypeError as error:
        raise TypeError(f"not a JSON value in a request: {error}") from None


def _refuse(value: Any) -> Any:
    raise TypeError(f"{type(value).__module__}.{type(value).__qualname__}")


_ENCODER = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False, default=_refuse
)


class CanonicalParameters(dict[str, Any]):
    """What ``canonical_parameters`` returned; ``are_sampled``: the answer is drawn by chance."""

    __slots__ = ("are_sampled",)

    def __init__(self, known: Mapping[str, Any]) -> None:
        super().__init__(known)
        self.are_sampled = _samples(self.get("temperature")) or _holds_sampling(self.get("extra"))


def canonical_parameters(params: Mapping[str, Any]) -> CanonicalParameters:
    """Bring model parameters into canonical form; None and absent are equal.

    Unknown names go to ``extra`` verbatim, headers as the digests of those that an answer may
    depend on. Whole floats become integers (0.0 is 0), a lone ``stop`` becomes a list, ``n=1`` and
    a provider's default base URL are left out. Any other value counts, empty and false ones too.
    """
    if isinstance(params, CanonicalParameters):
        return params
    known: dict[str, Any] = {}
    extra: dict[str, Any] = dict(params.get("extra") or {})
    for name, value in params.items():
        if value is None or name == "extra":
            continue
        (known if name in CANONICAL_PARAMETERS else extra)[name] = value
    if isinstance(known.get("stop"), str):
        known["stop"] = [known["stop"]]
    for name, value in known.items():
        if isinstance(value, float) and value.is_integer():
            known[name] = int(value)
    if known.get("n") == 1 and known["n"] is not True:
        del known["n"]
    if "base_url" in known:
        url = str(known["base_url"]).rstrip("/")
        known["base_url"] = url
        if url == DEFAULT_BASE_URLS.get(str(known.get("provider", ""))):
            del known["base_url"]
    extra = {name: value for name, value in extra.items() if value is not None}
    extra = headers_digested(extra, provider=str(known.get("provider", "")))
    if extra:
        known["extra"] = extra
    return CanonicalParameters(known)


# What providers and frameworks call the parameters of a call, and what this library calls them.
#
# Adapters read the same names, so that one request has one key whichever framework makes it.


PARAMETER_NAMES: Mapping[str, str] = {
    "model": "model",
    "model_id": "model",
    "model_name": "model",
    "base_url": "base_url",
    "anthropic_api_url": "base_url",
    "api_base": "base_url",
    "azure_endpoint": "base_url",
    "endpoint": "base_url",
    "endpoint_url": "base_url",
    "groq_api_base": "base_url",
    "openai_api_base": "base_url",
    "temperature": "temperature",
    "top_p": "top_p",
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "max_new_tokens": "max_tokens",
    "max_output_tokens": "max_tokens",
    "num_predict": "max_tokens",
    "stop": "stop",
    "stop_sequences": "stop",
    "seed": "seed",
    "random_seed": "seed",
    "n": "n",
    "tools": "tools",
    "tool_choice": "tool_choice",
    "response_schema": "response_schema",
    "response_format": "response_schema",
    "response_json_schema": "response_schema",
    "reasoning": "reasoning",
    "reasoning_effort": "reasoning",
    "thinking": "reasoning",
}
"""A provider's field or argument to its canonical name; any other goes to ``extra`` as it is."""


# Which part of what is asked is the question, and which is material, such as retrieved texts: only
# a question is matched by meaning, material is part of the scope. One rule for every adapter, the
# client and the service.
#
# messages --split_question--> question (by meaning), history and material (scope), why not


FindQuestion = Callable[[str], "str | tuple[str, Any] | None"]
"""Says what a user's text asks. Given the text of the last user message, it returns

- the question, a part of that text: the rest of the text stays in the scope,
- or the question and a JSON value that stands in the scope for the rest,
- or None: this text is matched only exactly.
"""


class SplitQuestion(NamedTuple):
    """What is asked, in parts: ``question`` may be matched by meaning, the others never.

    ``history`` are the messages before it, ``material`` what else of its message the scope must
    hold. ``exact_only`` is the ``Miss.reason`` why the question is matched only as it stands, or
    None: ``not_user_text`` (no user's text is last), ``agent_turn`` (a tool's result is last: the
    model goes on with its work), ``template`` (material and question in one text), ``multimodal``
    (more than text), ``verdict`` (a judge's prompt, where every word counts), ``opaque`` (JSON,
    which says anything).
    """

    question: str | None
    history: Sequence[Mapping[str, Any]] = ()
    material: Mapping[str, Any] = MappingProxyType({})
    exact_only: str | None = None

    def request(self, params: Mapping[str, Any], format: str, **context: Any) -> Request:
        """Return the request with these parameters; ``context`` goes into its scope as well.

        Raises what ``Request.of`` raises.
        """
        return Request.of(
            self.question,
            history=self.history,
            params=params,
            context=({**context, **self.material} if context or self.material else None),
            exact_only=self.exact_only,
            format=format,
        )


def split_question(
    messages: Sequence[Mapping[str, Any]],
    find: FindQuestion | None = None,
    *,
    lifts: bool = True,
    is_completion: bool = False,
) -> SplitQuestion:
    """Split neutral messages into what is asked and what it depends on.

    ``find`` finds the question in the text of the last message; where it does, and ``lifts``, the
    text around it is no reason against matching by meaning. ``is_completion``: the last message is
    the prompt of a completion model, where a second line is a template.

    Raises what ``find`` raises, and TypeError if it returns neither text, pair nor None.

        >>> split_question([{"role": "user", "content": "What is a fuse?"}]).question
        'What is a fuse?'
    """
    if not messages or messages[-1].get("role") != "user":
        is_result = bool(messages) and messages[-1].get("role") in ("tool", "function")
        return SplitQuestion(
            None, messages, exact_only="agent_turn" if is_result else "not_user_text"
        )
    last = canonical_messages(messages[-1:])[0]
    content = last.pop("content")
    del last["role"]
    history, material = messages[:-1], {"message": last} if last else {}
    if isinstance(content, str):
        text, reason = content, why_exact_only(content, is_completion)
    else:
        texts = [part for part in content if isinstance(part, str)]
        text, reason = "\n\n".join(texts), "template"
        if len(texts) < len(content):
            reason = "multimodal"
        elif not text.strip():
            reason = "not_user_text"
        material = {**material, "content": content}
    if find is None or not text.strip() or reason in ("multimodal", "opaque"):
        return SplitQuestion(text, history, material, reason)
    found = _found(find, text)
    if found is None:
        return SplitQuestion(text, history, material, reason or "template")
    question, rest, around = found
    if rest is not None:
        material = {name: part for name, part in material.items() if name != "content"}
        material["rest"] = rest
    reason = why_exact_only(question)
    if reason == "template" and lifts:
        reason = None
    if _wants_a_verdict(around):
        reason = "verdict"
    return SplitQuestion(question, history, material, reason)


def _found(find: FindQuestion, text: str) -> tuple[str, Any, str] | None:
    """Return the question found in a text, what stands for the rest, and the text around it."""
    match find(text):
        case None:
            return None
        case (str(found), rest):
            return found, {"given": rest}, text.replace(found, " ") if found else text
        case str(found) if found.strip():
            start = text.rfind(found)
            rest = [text] if start < 0 else [text[:start], text[start + len(found) :]]
            return found, None if rest == ["", ""] else {"text": rest}, "".join(rest)
        case other:
            raise TypeError(f"question= returned {type(other).__name__}, not text, pair or None")


def why_exact_only(text: str, is_completion: bool = False) -> str | None:
    """Return why a text is no question alone, as a ``Miss.reason``, or None.

    ``is_completion``: it is the prompt of a completion model.
    """
    if len(text) > MAX_QUESTION:
        return "truncated"
    if not text.strip() or ("O" in text and _OBSERVATION.search(text)):
        return "not_user_text"
    if is_completion and _is_json(text):
        return "opaque"
    if is_prompt_template(text) or (is_completion and "\n" in text.strip()):
        return "template"
    return "verdict" if _wants_a_verdict(text) else None


MAX_QUESTION = 50_000
"""A longer text is matched exactly alone: no model reads all of it, and nothing else needs to."""

_OBSERVATION = re.compile(r"^[^\S\n]*Observation:", re.MULTILINE)
"""What a tool said, in the prompt format of ReAct."""

_VERDICT = re.compile(
    r"\bYES\b.{0,80}\bNO\b"
    r"|(?i:\byes\W{0,4}(?:[/|]|\bor\b)\W{0,4}no\b|\btrue\W{0,4}(?:[/|]|\bor\b)\W{0,4}false\b)",
    re.DOTALL,
)
"""A choice of two words: what the prompt of a judge leaves to a model."""


def _wants_a_verdict(text: str) -> bool:
    """Tell whether a text leaves a model the choice of two words."""
    small = text.lower()  # the search takes ten times as long
    return ("yes" in small or "true" in small) and _VERDICT.search(text) is not None


_PARAGRAPHS = re.compile(r"\n[ \t\r]*\n")
_TAG = re.compile(r"<(?:context|documents?|sources?|passages?)\b[^<>]*>", re.IGNORECASE)
_LABEL = re.compile(
    r"\b(?:(context|documents?|sources?|passages?)|question|query)\b[^:\n]{0,40}:", re.IGNORECASE
)


def is_prompt_template(text: str) -> bool:
    """Tell whether a text looks like a template around material.

    A blank line, a tag such as ``<context>``, or labels of both a context and a question.
    """
    text = text.strip()
    if ("\n" in text and _PARAGRAPHS.search(text)) or ("<" in text and _TAG.search(text)):
        return True
    # Most questions have no colon, and this search takes longer than all the rest.
    return ":" in text and len({match[1] is None for match in _LABEL.finditer(text)}) > 1


def _is_json(text: str) -> bool:
    """Tell whether a text is a list or an object of JSON."""
    if not text.lstrip().startswith(("[", "{")):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
