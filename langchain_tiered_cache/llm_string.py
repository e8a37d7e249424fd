"""Read LangChain's ``llm_string`` into canonical parameters.

'{"id": [...], "kwargs": {...}}---[("stop", None)]'   a serialisable model, then the call
"[('_type', 'x'), ('temperature', 0.0)]"              any other model, both in one list
anything else                                         the string itself is the identity
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from types import FrameType
from typing import Any

from langchain_tiered_cache.call_context import Run, as_class, model_class
from shared_core.harmless import (
    HEADER_SETTINGS,
    SERVER_STATE,
    headers_digested,
    is_harmless_setting,
)
from shared_core.identity import Digest, StateReader, class_identity
from shared_core.request import PARAMETER_NAMES, canonical_json, canonical_parameters
from shared_core.state_places import digest_of

# Reads what ``repr`` wrote: literals, and marks for the objects that have none. Evaluates nothing.
#
# ``[('response_format', <class 'm.Out'>), ('stop', None)]`` is not Python, yet LangChain spells
# call parameters so.


@dataclass(frozen=True, slots=True)
class ClassMark:
    """Stands for ``<class 'name'>``: a name is no identity, two classes may share it."""

    name: str


@dataclass(frozen=True, slots=True)
class ObjectMark:
    """Stands for ``<… at 0x…>``: an object with no identity beyond this process."""

    text: str


_CLASS, _OBJECT = "_ClassMark", "_ObjectMark"
_MARKS: Mapping[str, type[ClassMark] | type[ObjectMark]] = {_CLASS: ClassMark, _OBJECT: ObjectMark}
_TOKEN = re.compile(
    r"""(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
    r"""|<class\ '(?P<class>[^']*)'>"""
    r"""|(?P<object><(?:[^<>'"]|<[\w.]+>|'[\w.]*')*\ at\ 0x[0-9a-fA-F]+>)""",
    re.DOTALL,
)


def read_repr(text: str) -> Any:
    """Return the value that ``text`` spells, with marks in the place of objects.

    A call such as ``Out(x=1)`` becomes ``{"repr": "Out(x=1)"}``. Raises ValueError if the text
    cannot be read; nothing in it is ever run.
    """
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        pass
    try:
        marked = _TOKEN.sub(_mark, text)
        return _value(ast.parse(marked, mode="eval").body)
    except (TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError(f"not a value: {type(error).__name__}") from None


def read_call(text: str) -> dict[str, Any]:
    """Return the keyword arguments of ``Name(a=1, b='x')``.

    Raises ValueError if it is no such call.
    """
    try:
        call = ast.parse(_TOKEN.sub(_mark, text), mode="eval").body
        if isinstance(call, ast.Call) and not call.args:
            return {word.arg: _value(word.value) for word in call.keywords if word.arg}
    except (TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError(f"not a call: {type(error).__name__}") from None
    raise ValueError("not a call with keywords alone")


def marks_in(value: Any) -> set[type]:
    """Return which kinds of marks occur anywhere in a value."""
    if isinstance(value, (ClassMark, ObjectMark)):
        return {type(value)}
    if isinstance(value, dict):
        return set().union(*(marks_in(item) for pair in value.items() for item in pair))
    if isinstance(value, (list, tuple)):
        return set().union(*(marks_in(item) for item in value))
    return set()


def _mark(match: re.Match[str]) -> str:
    if match["class"] is not None:
        return f"{_CLASS}({match['class']!r})"
    if match["object"] is not None:
        return f"{_OBJECT}({match['object']!r})"
    return match[0]


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value):
            return value
        case ast.List(items) | ast.Tuple(items):
            return [_value(item) for item in items]
        case ast.Dict(keys, values) if None not in keys:
            return {_value(k): _value(v) for k, v in zip(keys, values, strict=True) if k}
        case ast.UnaryOp(ast.USub(), ast.Constant(int() | float() as number)):
            return -number
        case ast.Call(ast.Name(name), [ast.Constant(str(text))], []) if name in _MARKS:
            return _MARKS[name](text)
        case _:
            return _spelling(node)


def _spelling(node: ast.expr) -> Any:
    spelling = ast.unparse(node)
    return ObjectMark(spelling) if any(map(_is_object, ast.walk(node))) else {"repr": spelling}


def _is_object(node: ast.AST) -> bool:
    """Return whether a node is a mark: one inside a call makes the whole call unstable."""
    return isinstance(node, ast.Name) and node.id in _MARKS


# How each provider's LangChain classes spell the canonical parameters: tables alone.


PROVIDERS: Mapping[str, str] = {
    "langchain.chat_models.openai.ChatOpenAI": "openai",
    "langchain.llms.openai.OpenAI": "openai",
    "openai": "openai",
    "langchain.chat_models.azure_openai.AzureChatOpenAI": "azure",
    "langchain.llms.openai.AzureOpenAI": "azure",
    "azure": "azure",
    "langchain.chat_models.anthropic.ChatAnthropic": "anthropic",
    "langchain_google_genai.chat_models.ChatGoogleGenerativeAI": "google",
    "langchain.chat_models.mistralai.ChatMistralAI": "mistralai",
    "langchain_groq.chat_models.ChatGroq": "groq",
    "langchain.chat_models.bedrock.ChatBedrock": "bedrock",
    "langchain_aws.chat_models.ChatBedrock": "bedrock",
    "langchain_aws.chat_models.ChatBedrockConverse": "bedrock",
    "chat-ollama": "ollama",
    "ollama-llm": "ollama",
}
"""Class path, or ``_type`` of models that LangChain does not serialise, to provider.

Others stand for themselves."""
PROVIDER_ALIASES: Mapping[str, Mapping[str, str]] = {"ollama": {"format": "response_schema"}}

PROVIDER_TRANSPORT: Mapping[str, frozenset[str]] = {"bedrock": frozenset({"config"})}
"""Fields that no answer of one provider depends on; elsewhere the name may mean something."""

UNNAMED_MODELS = frozenset({"chat-ollama", "ollama-llm"})
"""``_type`` of models whose ``llm_string`` holds none of their settings, not even the model."""

SMALLEST_TEMPERATURE = 1e-6
"""Below it a temperature means 0: ChatGroq turns 0 into 1e-8."""


# Structured-output classes as their JSON schemas: what they ask for, whatever they are called.


def with_schemas(value: Any) -> Any:
    """Replace every class in a value by its JSON schema, and one that has none by a mark."""
    match value:
        case type():
            return _schema(value)
        case dict():
            return {name: with_schemas(item) for name, item in value.items()}
        case list() | tuple():
            return [with_schemas(item) for item in value]
        case _:
            return value


def _schema(cls: type) -> Any:
    """Return the schema of a pydantic model, version 2 or 1."""
    write = getattr(cls, "model_json_schema", None) or getattr(cls, "schema", None)
    try:
        schema = write() if callable(write) else None
    except (ValueError, TypeError, AttributeError, KeyError, RuntimeError):
        schema = None  # pydantic's own errors are of these kinds: a field without a JSON form
    return schema if isinstance(schema, dict) else ClassMark(cls.__qualname__)


_SEPARATOR = "---"
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True, eq=False)
class ModelReading:
    """Which model is asked, and how: canonical parameters.

    ``uncacheable`` is a ``Miss.reason`` if they have no stable identity, or is None. ``shown`` are
    the names of the model's own settings that the string spells; ``hides`` says that it holds one
    which it does not spell. ``is_remembered``: an equal call is read to this very object.
    """

    params: Mapping[str, Any]
    uncacheable: str | None = None
    shown: frozenset[str] = frozenset()
    hides: bool = False
    is_remembered: bool = True


@dataclass(frozen=True, slots=True)
class _Spelt:
    """What a string says: class, the model's own fields, those of the call (which override them).

    ``names`` and ``call`` are the call's parameters and their spelling, by which a run is
    recognised. ``shown`` and ``hides`` are those of ``ModelReading``. ``has_classes``: the names of
    classes stand in the place of schemas.
    """

    kind: str
    own: Mapping[str, Any]
    called: Mapping[str, Any]
    names: tuple[str, ...]
    call: str
    shown: frozenset[str] = frozenset()
    hides: bool = False
    has_classes: bool = False

    @property
    def provider(self) -> str:
        return PROVIDERS.get(self.kind, self.kind)

    @property
    def is_nameless(self) -> bool:
        """Tell whether no field names the model."""
        return not any(PARAMETER_NAMES.get(name) == "model" for name in (*self.own, *self.called))


def read_model(
    llm_string: str, runs: Sequence[Run] = (), ignore: frozenset[str] = frozenset()
) -> ModelReading:
    """Return the canonical parameters of a model and call.

    ``runs`` are asked for what the string leaves out: structured-output classes, and the model of
    classes that do not name it. ``ignore`` names harmless headers. A string that cannot be read is
    its own identity.
    """
    known = read_string(llm_string, ignore)
    if isinstance(known, ModelReading):
        return known
    run = next((run for run in runs if run.called(known.names, known.call)), None)
    if run is None:
        return _read_named(llm_string, ignore, None, None, None)
    in_metadata = [run.metadata.get(f"ls_{name}") for name in _IN_METADATA]
    if not (known.has_classes or known.kind in UNNAMED_MODELS) and _PLAIN.issuperset(
        map(type, in_metadata)
    ):
        return _read_named(llm_string, ignore, *in_metadata)
    found = _canonical(_completed(known, run), ignore) or _opaque(llm_string)
    return replace(found, is_remembered=False)


_PLAIN = frozenset({str, int, float, type(None)})

_IN_METADATA = ("model_name", "temperature", "max_tokens")
"""What a run's metadata tell of a model whose string does not name it."""


@lru_cache(maxsize=256, typed=True)
def _read_named(llm_string: str, ignore: frozenset[str], *in_metadata: Any) -> ModelReading:
    """Read a string, once for what a run tells of the model beside it."""
    known = read_string(llm_string, ignore)
    if isinstance(known, ModelReading):
        return known
    if known.kind in UNNAMED_MODELS:
        return _unstable(known)
    return _canonical(_named(known, in_metadata), ignore) or _opaque(llm_string)


def _named(spelt: _Spelt, in_metadata: Iterable[Any]) -> _Spelt:
    """Add what a run tells of a model that its string does not name."""
    if not spelt.is_nameless:
        return spelt
    named = dict(zip(("model", *_IN_METADATA[1:]), in_metadata, strict=True))
    return replace(spelt, own={**spelt.own, **_kept(named, spelt.kind)})


def shown_settings(llm_string: str) -> tuple[frozenset[str], bool]:
    """Return the model's own settings that a string spells, and whether it says none at all."""
    return read_string(llm_string).shown, names_nothing(llm_string) is not None


def names_nothing(llm_string: str) -> str | None:
    """Return the type of a model of which the string holds neither name nor settings, else None."""
    known = read_string(llm_string)
    if isinstance(known, ModelReading) or known.own or known.called.keys() - {"stop"}:
        return None
    return known.kind


@lru_cache(maxsize=256)
def read_string(llm_string: str, ignore: frozenset[str] = frozenset()) -> ModelReading | _Spelt:
    """Read a string, once: to a model if it says all, else to what it says."""
    try:
        if llm_string.startswith("{"):
            spelt = _constructor(llm_string)
        elif llm_string.startswith("["):
            spelt = _list(llm_string)
        else:
            return _opaque(llm_string)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return _opaque(llm_string)
    has_classes = ClassMark in marks_in(spelt.called)
    if spelt.is_nameless or has_classes:
        return replace(spelt, has_classes=has_classes)
    return _canonical(spelt, ignore) or _opaque(llm_string)


def _constructor(llm_string: str) -> _Spelt:
    head, end = _DECODER.raw_decode(llm_string)
    if not llm_string.startswith(_SEPARATOR, end):
        raise ValueError("no call parameters")
    call = llm_string[end + len(_SEPARATOR) :]
    called = dict(read_repr(call))
    kind = ".".join(head["id"])
    own = {name: value for name, value in head["kwargs"].items() if name != "name"}
    masked = {name for name, value in own.items() if _is_lc(value, "secret") or _has_unknown(value)}
    hides = any(not is_harmless_setting(name) for name in masked)
    shown = {name: value for name, value in own.items() if name not in masked}
    kept, names = _kept(shown, kind), tuple(sorted(called))
    return _Spelt(kind, kept, _kept(called, kind), names, call, frozenset(shown), hides)


def _list(llm_string: str) -> _Spelt:
    fields = dict(read_repr(llm_string))
    names = tuple(sorted(fields))
    kind = fields.pop("_type", "")
    if not isinstance(kind, str):
        raise TypeError("a _type that is no text")
    return _Spelt(kind, {}, _kept(fields, kind), names, llm_string, frozenset(fields))


def _kept(fields: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Drop what is harmless or not set; spread ``model_kwargs``."""
    transport = PROVIDER_TRANSPORT.get(PROVIDERS.get(kind, kind), frozenset())
    kept: dict[str, Any] = {}
    for name, value in fields.items():
        if name in transport or is_harmless_setting(name) or value is None:
            continue
        if name == "model_kwargs" and isinstance(value, dict):
            kept.update(_kept(value, kind))
        else:
            kept[name] = value
    return kept


def _completed(spelt: _Spelt, run: Run) -> _Spelt:
    """Add what a run knows: schemas in the place of class names, and the model's own settings."""
    called = {
        name: with_schemas(run.params[name]) if ClassMark in marks_in(value) else value
        for name, value in spelt.called.items()
    }
    own: dict[str, Any] = dict(spelt.own)
    if spelt.kind in UNNAMED_MODELS:
        try:
            own = _kept(read_call(str(run.serialized.get("repr"))), spelt.kind)
        except ValueError:
            own = {"model": ClassMark(spelt.kind)}
        own.pop("name", None)
        return replace(spelt, own=own, called=called)
    in_metadata = [run.metadata.get(f"ls_{name}") for name in _IN_METADATA]
    return _named(replace(spelt, own=own, called=called), in_metadata)


def _canonical(spelt: _Spelt, ignore: Collection[str]) -> ModelReading | None:
    """Return the model, or None if its parameters have no JSON form."""
    if marks_in([spelt.own, spelt.called]) or _has_unknown([spelt.own, spelt.called]):
        return _unstable(spelt)
    if any((spelt.called.get(name) or spelt.own.get(name)) for name in SERVER_STATE):
        return replace(_unstable(spelt), uncacheable="server_state")
    aliases = {**PARAMETER_NAMES, **PROVIDER_ALIASES.get(spelt.provider, {})}
    params: dict[str, Any] = {"provider": spelt.provider}
    extra: dict[str, Any] = {}
    for fields in (spelt.own, spelt.called):
        renamed, unknown = _renamed(fields, aliases)
        params |= renamed
        for name in HEADER_SETTINGS:
            if name in extra and name in unknown:  # a class may add to them, or replace them
                extra[f"{name} of the model"] = headers_digested({name: extra[name]}, ignore)
        extra |= unknown
    extra = headers_digested(extra, ignore, provider=spelt.provider)
    temperature = params.get("temperature")
    if isinstance(temperature, float) and 0 < temperature < SMALLEST_TEMPERATURE:
        params["temperature"] = 0
    try:
        params = canonical_parameters({**params, "extra": extra})
        canonical_json(params)
    except (TypeError, ValueError, RecursionError):
        return None
    return ModelReading(params, None, spelt.shown, spelt.hides)


def _renamed(
    fields: Mapping[str, Any], aliases: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return fields under canonical names, and the others verbatim."""
    known: dict[str, Any] = {}
    unknown: dict[str, Any] = {}
    for name, value in fields.items():
        canonical = aliases.get(name)
        if canonical is None or known.get(canonical, value) != value:
            unknown[name] = value
        else:
            known[canonical] = {"effort": value} if name == "reasoning_effort" else value
    return known, unknown


def _unstable(spelt: _Spelt) -> ModelReading:
    return ModelReading({"provider": spelt.provider}, "unstable", spelt.shown, spelt.hides)


def _opaque(llm_string: str) -> ModelReading:
    has_objects = " at 0x" in llm_string or "<class '" in llm_string
    return ModelReading({"extra": {"llm_string": llm_string}}, "unstable" if has_objects else None)


def _has_unknown(value: Any) -> bool:
    """Tell whether an object is in there of which LangChain wrote the class alone."""
    if isinstance(value, dict):
        return _is_lc(value, "not_implemented") or any(map(_has_unknown, value.values()))
    return isinstance(value, (list, tuple)) and any(map(_has_unknown, value))


def _is_lc(value: Any, type: str) -> bool:
    return isinstance(value, dict) and value.get("lc") == 1 and value.get("type") == type


# What a model hides from its string: settings that LangChain does not write into it.
#
# lookup --stack--> the model that asks --StateReader--> digest of what its string does not say
#
# LangChain leaves out what a class excludes, marks as secret or keeps in private attributes, and of
# most classes all but a few settings. The model object has it all.


_CALLS = frozenset(
    {
        "_generate_with_cache", "_agenerate_with_cache", "generate", "agenerate", "_stream",
        "_astream",
    }
)  # fmt: skip
"""Methods of models that look something up."""

_BETWEEN = frozenset(
    {
        "lookup", "alookup", "update", "aupdate", "_lookup", "_update", "_asker", "finish",
        "get_prompts", "aget_prompts", "update_cache", "aupdate_cache", "found", "afound",
        "recorded", "arecorded",
    }
)  # fmt: skip
"""What may stand between them and the lookup: of LangChain, of this package, of a cache around."""


def _is_left_out(model: Any, name: str) -> bool:
    """Tell whether a setting is harmless, or says in weights what ``model_id`` says in words."""
    is_local = type(model).__module__.startswith("langchain_huggingface")
    return is_harmless_setting(name) or (is_local and name in ("pipeline", "tokenizer"))


def is_model(value: Any) -> bool:
    """Tell whether an object is a model of LangChain, whose harmless settings are known."""
    from langchain_core.embeddings import Embeddings

    return isinstance(value, (model_class(), Embeddings))


def asking_model(depth: int = 1) -> Any:
    """Return the model whose call made the lookup that calls this, None if none did.

    LangChain gives a cache two strings; the model stands a few frames above. ``depth`` is how many
    frames above this one its caller may stand at the earliest: those between cost nothing then.
    """
    frame: FrameType | None = sys._getframe(depth)
    while frame is not None and frame.f_code.co_name in _BETWEEN:
        frame = frame.f_back
    if frame is None or frame.f_code.co_name not in _CALLS:
        return None
    owner = frame.f_locals.get("self")
    return owner if isinstance(owner, model_class()) else None


def hidden_settings(model: Any, llm_string: str, ignore: frozenset[str]) -> Digest:
    """Return the digest of what a model's string does not say of it; "" if that is nothing."""
    shown, says_nothing = shown_settings(llm_string)

    def make() -> Digest:
        own = as_class(model, type(model))

        def spell(reader: StateReader) -> Any:
            found = reader.settings(own, lambda name: name in shown or _is_left_out(own, name))
            return [class_identity(type(own)), found] if says_nothing else found or None

        return Digest(spell, is_model, ignore, own)

    return digest_of(model, (shown, says_nothing, ignore), make)
