"""Read LlamaIndex's components (LLMs, embedding models, tools) into JSON values for a key.

component --fields, less transport--> canonical names --plain--> JSON values, or Unstable
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import lru_cache
from typing import Any

from llama_index.core.base.llms.generic_utils import (
    messages_to_prompt as generic_messages_to_prompt,
)
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.llms.llm import LLM, default_completion_to_prompt

from shared_core.request import PARAMETER_NAMES

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

TRANSPORT = frozenset(
    {
        # about the call, not about the answer
        "timeout", "request_timeout", "max_retries", "retries", "reuse_client", "keep_alive",
        "num_workers", "embed_batch_size", "show_progress", "verbose", "rate_limiter",
        # connections and credentials
        "api_key", "auth_token", "token", "password", "credentials", "default_headers", "headers",
        "additional_headers", "extra_headers", "client", "async_client", "http_client",
        "async_http_client", "client_kwargs", "async_client_kwargs", "profile_name",
        "aws_access_key_id", "aws_secret_access_key", "aws_session_token", "botocore_session",
        "botocore_config", "azure_ad_token", "azure_ad_token_provider", "use_azure_ad",
        # of the framework: they make the messages, which are in the key themselves
        "callback_manager", "output_parser", "pydantic_program_mode", "embeddings_cache",
        "system_prompt", "messages_to_prompt", "completion_to_prompt", "query_wrapper_prompt",
        "class_name",
    }
)  # fmt: skip
"""Fields that no answer depends on, or that are read elsewhere."""

PROVIDER_TRANSPORT: Mapping[str, frozenset[str]] = {
    "openai": frozenset({"api_version", "strict"}),  # strict is written into each tool
}


class Unstable(ValueError):
    """A value without an identity beyond this process: a lambda, a client, an open file."""


def kind_of(component: Any) -> str:
    """Name a component's class: its provider if it is one of LlamaIndex's, else its path."""
    kind = type(component)
    parts = kind.__module__.split(".")
    if parts[:2] == ["llama_index", "llms"] and len(parts) > 2:  # noqa: PLR2004 - the third names it
        return PROVIDERS.get(parts[2], parts[2])
    return f"{kind.__module__}.{kind.__qualname__}"


def fields_of(component: BaseModel) -> dict[str, Any]:
    """Return the set fields of a component that an answer may depend on, as they are."""
    values = component.__dict__
    found = {
        name: value
        for name in _field_names(type(component))
        if (value := values.get(name)) is not None
    }
    if component.__pydantic_extra__:
        found.update(
            (name, value)
            for name, value in component.__pydantic_extra__.items()
            if value is not None and not is_transport(name)
        )
    return found


@lru_cache(maxsize=256)
def _field_names(kind: type[BaseModel]) -> tuple[str, ...]:
    return tuple(name for name in kind.model_fields if not is_transport(name))


def is_transport(name: str) -> bool:
    """Tell whether no answer depends on a field of this name."""
    return name in TRANSPORT or name.endswith(("_api_key", "_secret", "_password"))


def plain(value: Any) -> Any:
    """Return a value as JSON values, tools and schemas included.

    Raises Unstable for what has no identity beyond this process, ValueError or TypeError for what
    does not say its own JSON form.
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
        case BaseModel():
            found = value.model_dump(mode="json")
        case _ if callable(value):
            found = {"function": function_name(value)}
        case _:
            raise Unstable(type(value).__qualname__)
    return found


def function_name(function: Callable[..., Any], owner: object = None) -> str:
    """Name a function that any process finds under this name.

    A method counts only if it is ``owner``'s. Raises Unstable for all others: two lambdas share
    their name.
    """
    name = getattr(function, "__qualname__", "<")
    bound_to = getattr(function, "__self__", None)
    if "<" in name or (bound_to is not None and bound_to is not owner):
        raise Unstable(name)
    return f"{function.__module__}.{name}"


def merged(provider: str, sources: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Bring fields under canonical names, from the weakest source to the strongest.

    LLM classes differ in which source wins. So a value that another overrides stays too, under its
    source's name: whatever the class makes of the two, both are in the key.
    """
    dropped = PROVIDER_TRANSPORT.get(provider, frozenset())
    known: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for source, fields in sources:
        for name, given in fields.items():
            if given is None or name in dropped or is_transport(name):
                continue
            value = plain(given)
            canonical = PARAMETER_NAMES.get(name)
            place = extra if canonical is None else known
            slot = canonical or name
            if slot == "reasoning" and isinstance(value, str):
                value = {"effort": value}
            if slot in place and place[slot] != value:
                extra[f"{slot} before {source}"] = place[slot]
            place[slot] = value
    if not extra.get("logprobs"):
        extra.pop("logprobs", None)
        extra.pop("top_logprobs", None)
    extra = {name: value for name, value in extra.items() if value not in (None, [], {})}
    return {**known, "extra": extra} if extra else known


# Reads an LLM object and the arguments of one call into canonical parameters.


_STATEFUL = ("track_previous_responses", "previous_response_id")
"""Fields that let an answer depend on a conversation kept on the provider's server."""


def parameters_of(
    llm: LLM, call: Mapping[str, Any], *, system: str | None = None
) -> dict[str, Any]:
    """Return the canonical parameters of an LLM and one call of it.

    ``call`` holds the keyword arguments of the endpoint, ``system`` the text of the system message
    that the endpoint is given. Raises Unstable if they have no identity beyond this process, and
    what values of others raise when asked for their JSON form.
    """
    own = fields_of(llm)
    if any(own.get(name) for name in _STATEFUL):
        raise Unstable("an answer that continues a conversation on the server")
    provider = kind_of(llm)
    more = own.pop("additional_kwargs", None) or {}
    params = merged(provider, [("model", own), ("additional_kwargs", more), ("call", call)])
    params["provider"] = provider
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
        found["messages_to_prompt"] = function_name(llm.messages_to_prompt, llm)
    if llm.completion_to_prompt is not None and not has_default_prompting(llm):
        found["completion_to_prompt"] = function_name(llm.completion_to_prompt, llm)
    if llm.system_prompt and llm.system_prompt != system:
        # predict() puts it into the messages; some classes add it in their endpoints
        found["system_prompt"] = llm.system_prompt
    wrapper = llm.query_wrapper_prompt
    if wrapper is not None:
        found["query_wrapper_prompt"] = wrapper.get_template()
    return found
