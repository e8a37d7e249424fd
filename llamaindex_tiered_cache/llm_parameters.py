"""Reads an LLM object and the arguments of one call into canonical parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_index.core.base.llms.generic_utils import (
    messages_to_prompt as generic_messages_to_prompt,
)
from llama_index.core.llms.llm import LLM, default_completion_to_prompt

from llamaindex_tiered_cache.components import (
    Unstable,
    fields_of,
    function_name,
    kind_of,
    merged,
)

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
