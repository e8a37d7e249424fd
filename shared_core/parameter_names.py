"""What providers and frameworks call the parameters of a call, and what this library calls them.

Adapters read the same names, so that one request has one key whichever framework makes it.
"""

from __future__ import annotations

from collections.abc import Mapping

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
