"""Read LlamaIndex's components (LLMs, embedding models, tools) into JSON values for a key.

component --fields, less what is harmless--> canonical names --plain--> JSON values
          --all else that it holds--> digest, or Unreadable
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import lru_cache
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.base.llms.generic_utils import (
    messages_to_prompt as generic_messages_to_prompt,
)
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.llms.llm import LLM, default_completion_to_prompt

from shared_core.harmless import (
    HEADER_SETTINGS,
    SERVER_STATE,
    headers_digested,
    is_harmless_setting,
)
from shared_core.identity import Digest, StateReader, plain_name
from shared_core.request import PARAMETER_NAMES
from shared_core.state_places import Unreadable, digest_of

PROVIDERS: Mapping[str, str] = {
    "anthropic": "anthropic",
    "azure_openai": "azure",
    "bedrock": "bedrock",
    "bedrock_converse": "bedrock",
    "gemini": "google",
    "google_genai": "google",
    "groq": "groq",
    "mistralai": "mistralai",
    "ollama": "ollama",
    "openai": "openai",
}
"""Package under ``llama_index.llms`` to provider; any other class stands for itself."""

READ_ELSEWHERE = frozenset(
    {"system_prompt", "messages_to_prompt", "completion_to_prompt", "query_wrapper_prompt"}
)
"""Fields that make the messages, which are in the key themselves."""

PROVIDER_TRANSPORT: Mapping[str, frozenset[str]] = {
    "openai": frozenset({"api_version", "strict"}),  # strict is written into each tool
}


def kind_of(component: Any) -> str:
    """Name a component's class: its provider if it is one of LlamaIndex's, else its path."""
    kind = type(component)
    parts = kind.__module__.split(".")
    if parts[:2] == ["llama_index", "llms"] and len(parts) > 2:  # noqa: PLR2004 - the third names it
        return PROVIDERS.get(parts[2], parts[2])
    return f"{kind.__module__}.{kind.__qualname__}"


def fields_of(component: BaseModel) -> dict[str, Any]:
    """Return the set fields of a component that an answer may depend on and that it shows.

    What it shows are public fields of JSON values; ``hidden_of`` is the digest of the others.
    """
    values = component.__dict__
    return {
        name: value
        for name in _field_names(type(component))
        if _is_plain(value := values.get(name)) and value not in _UNSET
    }


_UNSET: tuple[Any, ...] = (None, [], {})
"""What a field holds that nobody set; LlamaIndex writes some of them empty."""


def hidden_of(component: BaseModel, ignore: frozenset[str] = frozenset()) -> Digest:
    """Return the digest of what a component has besides ``fields_of``; "" if that is nothing."""

    def make() -> Digest:
        # Held apart from the component, which a cached one is not: both share their state.
        own = component

        def spell(reader: StateReader) -> Any:
            shown = fields_of(own)
            found = reader.settings(own, lambda name: name in shown or _is_read_elsewhere(name))
            return found or None

        return Digest(spell, is_component, ignore, own)

    return digest_of(component, ("llamaindex", ignore), make)


def is_component(value: Any) -> bool:
    """Tell whether an object is a model of LlamaIndex, whose harmless settings are known."""
    return isinstance(value, (LLM, BaseEmbedding))


@lru_cache(maxsize=256)
def _field_names(kind: type[BaseModel]) -> tuple[str, ...]:
    return tuple(
        name
        for name, about in kind.model_fields.items()
        if not about.exclude and not _is_read_elsewhere(name)
    )


def _is_read_elsewhere(name: str) -> bool:
    return name in READ_ELSEWHERE or is_harmless_setting(name)


def _is_plain(value: Any) -> bool:
    if value is None or isinstance(value, (str, int, float)):
        return True
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    return isinstance(value, (list, tuple)) and all(map(_is_plain, value))


def plain(value: Any) -> Any:
    """Return a value as JSON values, tools and schemas included.

    Objects become digests of all their state. Raises Unreadable for what has no identity beyond
    this process, ValueError or TypeError for what does not say its own JSON form.
    """
    if value is None or isinstance(value, (str, int, float)):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return _of_object(value)


def _of_object(value: Any) -> Any:
    metadata = getattr(value, "metadata", None)
    match value:
        case Enum():
            found = plain(value.value)
        case bytes():
            found = {"bytes": value.hex()}
        case set() | frozenset():
            found = sorted(map(plain, value))
        case type() if issubclass(value, BaseModel):
            found = value.model_json_schema()
        case _ if callable(spec := getattr(metadata, "to_openai_tool", None)):
            found = plain(spec(skip_length_check=True))
        case _:
            found = {"object": object_digest(value)}
    return found


def object_digest(value: Any) -> str:
    """Return the digest of an object or a function. Raises Unreadable."""

    def spell(reader: StateReader) -> Any:
        reader.takes_sentinels = False
        return reader.spell(value)

    return Digest(spell, is_component).now()


def function_identity(function: Callable[..., Any], owner: object = None) -> str:
    """Name a method of ``owner``, which is read itself; return the digest of any other function.

    Raises Unreadable.
    """
    if getattr(function, "__self__", None) is owner and owner is not None:
        return plain_name(function)
    return object_digest(function)


def merged(
    provider: str,
    sources: Sequence[tuple[str, Mapping[str, Any]]],
    ignore: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    """Bring fields under canonical names, from the weakest source to the strongest.

    LLM classes differ in which source wins. So a value that another overrides stays too, under its
    source's name: whatever the class makes of the two, both are in the key. ``ignore`` names
    harmless headers.
    """
    dropped = PROVIDER_TRANSPORT.get(provider, frozenset())
    known: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for source, fields in sources:
        for name, given in fields.items():
            if given is None or name in dropped or _is_read_elsewhere(name):
                continue
            value = given if name in HEADER_SETTINGS else plain(given)
            canonical = PARAMETER_NAMES.get(name)
            place = extra if canonical is None else known
            slot = canonical or name
            if slot == "reasoning" and isinstance(value, str):
                value = {"effort": value}
            if slot in place and place[slot] != value:
                extra[f"{slot} before {source}"] = headers_digested({slot: place[slot]}, ignore)
            place[slot] = value
    if provider in _OPENAI and not extra.get("logprobs"):  # it sends neither then
        extra.pop("logprobs", None)
        extra.pop("top_logprobs", None)
    extra = headers_digested(extra, ignore, provider=provider)
    return {**known, "extra": extra} if extra else known


_OPENAI = ("openai", "azure")


# Reads an LLM object and the arguments of one call into canonical parameters.


def parameters_of(
    llm: LLM,
    call: Mapping[str, Any],
    *,
    system: str | None = None,
    ignore: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    """Return the canonical parameters of an LLM and one call of it.

    ``call`` holds the keyword arguments of the endpoint, ``system`` the text of the system message
    that the endpoint is given; ``ignore`` names harmless headers. Raises Unreadable if they have no
    identity beyond this process, and what values of others raise when asked for their JSON form.
    """
    own = fields_of(llm)
    more = own.pop("additional_kwargs", None) or {}
    if any(source.get(name) for name in SERVER_STATE for source in (own, more, call)):
        raise Unreadable("an answer that depends on what the provider keeps")
    provider = kind_of(llm)
    sources = [("model", own), ("additional_kwargs", more), ("call", call)]
    params = merged(provider, sources, ignore)
    params["provider"] = provider
    if hidden := hidden_of(llm, ignore).now():
        params["extra"] = {**params.get("extra", {}), "hidden settings": hidden}
    if "model" not in params and (name := llm.metadata.model_name) != "unknown":
        params["model"] = name
    prompting = _prompting(llm, system)
    if prompting:
        params["extra"] = {**params.get("extra", {}), **prompting}
    return params


def has_default_prompting(llm: LLM) -> bool:
    """Tell whether a prompt reaches the model as it is."""
    return llm.completion_to_prompt in (None, default_completion_to_prompt)


def _prompting(llm: LLM, system: str | None) -> dict[str, Any]:
    """Return what an LLM object itself may do to messages and prompts, beyond the default."""
    found: dict[str, Any] = {}
    if llm.messages_to_prompt is not None and (
        llm.messages_to_prompt is not generic_messages_to_prompt
    ):
        found["messages_to_prompt"] = function_identity(llm.messages_to_prompt, llm)
    if llm.completion_to_prompt is not None and not has_default_prompting(llm):
        found["completion_to_prompt"] = function_identity(llm.completion_to_prompt, llm)
    if llm.system_prompt and llm.system_prompt != system:
        # predict() puts it into the messages; some classes add it in their endpoints
        found["system_prompt"] = llm.system_prompt
    wrapper = llm.query_wrapper_prompt
    if wrapper is not None:
        found["query_wrapper_prompt"] = [wrapper.get_template(), object_digest(wrapper)]
    return found
