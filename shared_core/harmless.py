"""What no answer depends on: the one list of harmless headers and settings, each with its reason.

    headers --less what is harmless--> {name: digest}

Unknown means different: what is not listed here is part of a request's identity.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from hashlib import sha256
from typing import Any

# What is harmless, each with its reason. Everything else is part of identity.


HARMLESS_HEADERS: Mapping[str, str] = {
    "user-agent": "names the client's library",
    "accept": "how the answer is spelt on the wire",
    "accept-*": "how the answer is spelt on the wire",
    "content-type": "how the body is spelt, which is read itself",
    "content-length": "how the body is spelt, which is read itself",
    "host": "said by the base URL",
    "connection": "between two machines",
    "traceparent": "names a trace",
    "tracestate": "names a trace",
    "baggage": "names a trace",
    "x-request-id": "names this one call",
    "x-stainless-*": "describes the client's library and its retries",
    "idempotency-key": "names this one call",
    "x-idempotency-key": "names this one call",
    "x-retry-count": "how often it was tried",
    "x-retry-attempt": "how often it was tried",
}
"""Headers on which no answer depends, in small letters; ``*`` ends a prefix."""

HARMLESS_SETTINGS: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "timeout", "request_timeout", "default_request_timeout", "stream_chunk_timeout",
            "max_retries", "retries", "max_concurrent_requests", "rate_limiter", "keep_alive",
            "num_workers", "embed_batch_size", "show_progress", "reuse_client",
        ),
        "how long, how often and how fast it is tried",
    ),
    **dict.fromkeys(
        (
            "streaming", "stream", "stream_usage", "disable_streaming", "stream_options",
            "include_response_headers", "validate_base_url", "validate_model_on_init",
        ),
        "how the same answer comes",
    ),
    **dict.fromkeys(
        (
            "api_key", "credentials", "credentials_profile_name", "profile_name",
            "aws_access_key_id", "aws_secret_access_key", "aws_session_token", "bedrock_api_key",
            "azure_ad_token", "azure_ad_token_provider", "azure_ad_async_token_provider",
            "use_azure_ad", "openai_api_type",
        ),
        "credentials of the model's own client: tenants are told apart by namespaces",
    ),
    **dict.fromkeys(
        (
            "client", "async_client", "root_client", "root_async_client", "bedrock_client",
            "botocore_session", "botocore_config", "http_socket_options", "openai_proxy",
            "anthropic_proxy", "groq_proxy", "async_client_running", "_client", "_aclient",
            "_async_client",
        ),
        "made of the other settings, or the way that the bytes take",
    ),
    **dict.fromkeys(
        (
            "cache", "callbacks", "callback_manager", "verbose", "tags", "metadata", "profile",
            "custom_get_token_ids", "tiktoken_model_name", "ls_structured_output_format",
            "structured_output_format", "provider_stop_reason_key_map",
            "provider_stop_sequence_key_name_map", "supports_tool_choice_values",
            "output_parser", "pydantic_program_mode", "embeddings_cache",
            "class_name",
        ),
        "the framework's own: nothing of it is sent to the model",
    ),
}  # fmt: skip
"""Settings of models, as the frameworks name them, on which no answer depends."""

HARMLESS_ARGUMENTS: Mapping[str, str] = {
    "timeout": "how long it is tried",
    "stream": "how the same answer comes",
    "stream_options": "how the same answer comes",
    "metadata": "labels of what the provider stores",
    "store": "whether the provider keeps the answer, which it has given by then",
    "prompt_cache_key": "where the provider keeps the front of the prompt at hand",
    "prompt_cache_retention": "how long the provider keeps the front of the prompt at hand",
    "safety_identifier": "a user's pseudonym, for the provider to find misuse",
}
"""Arguments of OpenAI's chat completions on which no answer depends."""

DERIVED: Mapping[str, str] = {
    "_tool_call_schema_memo": "LangChain's tools keep their schema there once it was asked for",
}
"""Attributes that only keep what the others say, of whatever object."""

OWN_KEYS = frozenset(
    {
        "openai", "anthropic", "azure", "azure_openai", "groq", "mistral", "mistralai", "google",
        "gemini", "cohere", "fireworks", "together", "deepseek", "xai", "perplexity", "pplx",
        "nvidia", "bedrock", "openrouter", "watsonx", "huggingface", "ollama", "cerebras",
    }
)  # fmt: skip
"""Providers ``X`` whose ``X_api_key`` is the credential of their own client."""

HEADER_SETTINGS = (
    "headers", "custom_headers", "default_metadata", "additional_headers", "default_headers",
    "extra_headers",
)  # fmt: skip
"""Settings and arguments that hold headers; those of the later go over those of the earlier."""

HEADER_DIGESTS = "header digests"
"""Under which name of ``extra`` the digests of headers stand."""

_SENT_AS_HEADERS = {
    "openai": {
        "organization": "openai-organization",
        "openai_organization": "openai-organization",
        "project": "openai-project",
    }
}
"""Settings that a provider's client sends as headers."""

SERVER_STATE: Mapping[str, str] = {
    "use_previous_response_id": "the newest response id stands for the messages before it",
    "reuse_last_container": "files of an earlier answer are at the model's hand",
    "track_previous_responses": "the newest response id stands for the messages before it",
    "conversation": "the provider adds each turn to it",
}
"""Settings that let an answer depend on what the provider keeps: such calls are passed over."""


def is_harmless_header(name: str, ignore: Collection[str] = ()) -> bool:
    """Tell whether no answer depends on a header; ``ignore`` names further ones."""
    name = name.lower()
    return (
        name in HARMLESS_HEADERS
        or name in ignore
        or any(name.startswith(prefix) for prefix in _HARMLESS_PREFIXES)
    )


_HARMLESS_PREFIXES = tuple(name[:-1] for name in HARMLESS_HEADERS if name.endswith("*"))


def is_harmless_setting(name: str) -> bool:
    """Tell whether no answer depends on a model's setting of this name."""
    if name in HARMLESS_SETTINGS:
        return True
    owner, _, rest = name.partition("_api_key")
    return owner in OWN_KEYS and name.endswith("_api_key") and not rest


def header_names(names: Iterable[str]) -> frozenset[str]:
    """Return names of headers in small letters; raises ValueError for what is no name."""
    if isinstance(names, str):
        raise ValueError(f"ignore_headers must be a list of names, not the text {names!r}")
    found = tuple(names)
    for name in found:
        if not isinstance(name, str) or not name:
            raise ValueError(f"ignore_headers must name headers, not {name!r}")
    return frozenset(name.lower() for name in found)


def header_identity(
    *sources: Mapping[str, Any] | Iterable[tuple[str, Any]] | None,
    ignore: Collection[str] = (),
) -> dict[str, str]:
    """Return the headers that an answer may depend on: names in small letters, digests of values.

    Later sources replace headers of earlier ones, and None takes a header away. Raises ValueError
    for what is no set of headers.
    """
    merged: dict[str, list[str]] = {}
    for source in sources:
        if source is None:
            continue
        own: dict[str, list[str]] = {}
        pairs = source.items() if isinstance(source, Mapping) else source
        try:
            for name, value in pairs:
                spelt = _header(name).lower()
                own.setdefault(spelt, [])
                if value is not None:
                    own[spelt].append(_header(value))
        except (TypeError, ValueError):
            raise ValueError("headers must be names and values, texts both") from None
        merged.update(own)
    return {
        name: text_digest("\n".join(values))
        for name, values in sorted(merged.items())
        if values and not is_harmless_header(name, ignore)
    }


def _header(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, (str, int, float)):
        return str(value)
    secret = getattr(value, "get_secret_value", None)
    if callable(secret):
        return str(secret())
    raise ValueError(f"a header must be a text, not {type(value).__qualname__}")


def text_digest(text: str) -> str:
    """Return the start of the hex sha256 of a text: 128 bits."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def headers_digested(
    fields: Mapping[str, Any], ignore: Collection[str] = (), *, provider: str = ""
) -> dict[str, Any]:
    """Return settings with the digests of their headers in the place of headers.

    What is no set of headers, whatever its name says, stays as it is.
    """
    rest = dict(fields)
    sources: list[Any] = []
    for name, header in _SENT_AS_HEADERS.get(provider, {}).items():
        if isinstance(rest.get(name), str):
            sources.append({header: rest.pop(name)})
    for name in HEADER_SETTINGS:
        given = rest.get(name)
        if isinstance(given, (Mapping, list, tuple)):
            try:
                header_identity(given)
            except ValueError:
                continue
            sources.append(rest.pop(name))
    for name in [one for one in rest if one.endswith("client_kwargs")]:
        if isinstance(rest[name], Mapping):
            kept = _client_arguments(rest.pop(name), ignore)
            rest |= {name: kept} if kept else {}
    found = header_identity(*sources, ignore=ignore)
    if found:
        rest[HEADER_DIGESTS] = {**rest.get(HEADER_DIGESTS, {}), **found}
    return rest


def _client_arguments(given: Mapping[str, Any], ignore: Collection[str]) -> dict[str, Any]:
    """Return what an HTTP client is made with that an answer may depend on, as digests."""
    headers = headers_digested({"headers": given.get("headers")}, ignore)
    kept = {
        name: text_digest(repr(value))
        for name, value in given.items()
        if value is not None and name != "headers" and not is_harmless_setting(name)
    }
    return {**kept, **{name: value for name, value in headers.items() if value is not None}}
