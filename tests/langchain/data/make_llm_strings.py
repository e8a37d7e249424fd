"""Write llm_strings.json: how real LangChain models spell themselves to a cache.

Not run by the tests, which read the file. To make it anew, in an environment of its own:

    pip install numpy langchain-openai langchain-anthropic langchain-google-genai \
        langchain-mistralai langchain-ollama langchain-groq langchain-aws
    python tests/langchain/data/make_llm_strings.py

No network is used and no key is real. Each entry holds what was called, the string, and the
canonical parameters read from it: review these in the diff, they are part of every stored key.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT))
warnings.simplefilter("ignore")
os.environ.update(
    dict.fromkeys(
        ["OPENAI_API_KEY", "AZURE_OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY",
         "MISTRAL_API_KEY", "GROQ_API_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"],
        "not-a-key",
    ),
    AWS_DEFAULT_REGION="us-east-1",
    OPENAI_API_VERSION="2024-10-21",
)  # fmt: skip

from langchain_anthropic import ChatAnthropic  # noqa: E402 - the keys must be set before
from langchain_aws import ChatBedrock, ChatBedrockConverse  # noqa: E402
from langchain_core.tools import tool  # noqa: E402
from langchain_google_genai import ChatGoogleGenerativeAI  # noqa: E402
from langchain_groq import ChatGroq  # noqa: E402
from langchain_mistralai import ChatMistralAI  # noqa: E402
from langchain_ollama import ChatOllama, OllamaLLM  # noqa: E402
from langchain_openai import AzureChatOpenAI, ChatOpenAI, OpenAI  # noqa: E402
from pydantic import BaseModel, Field  # noqa: E402

from langchain_tiered_cache.call_context import Run  # noqa: E402
from langchain_tiered_cache.llm_string import read_model  # noqa: E402


class Weather(BaseModel):
    """The weather of a place."""

    celsius: int = Field(description="air temperature")


@tool
def weather(city: str) -> str:
    """Tell the weather of a city."""
    return city


CLAUDE = "anthropic.claude-3-sonnet-20240229-v1:0"
THINKING = {"type": "enabled", "budget_tokens": 2000}

MODELS: list[tuple[str, Any]] = [
    ("langchain-openai", ChatOpenAI(model="gpt-4o-mini")),
    ("langchain-openai", ChatOpenAI(model="gpt-4o-mini", temperature=0)),
    (
        "langchain-openai",
        ChatOpenAI(model="gpt-4o-mini", temperature=0, base_url="http://localhost:8000/v1/"),
    ),
    (
        "langchain-openai",
        ChatOpenAI(
            model="gpt-4o-mini",
            temperature=0.7,
            max_tokens=5,
            seed=3,
            top_p=0.4,
            stop=["x"],
            logprobs=True,
            timeout=3,
            max_retries=4,
            default_headers={"a": "b"},
            model_kwargs={"user": "u"},
            name="a name",
            tags=["t"],
            metadata={"a": 1},
            streaming=True,
        ),
    ),
    ("langchain-openai", ChatOpenAI(model="gpt-5", reasoning_effort="low")),
    (
        "langchain-openai",
        ChatOpenAI(
            model="gpt-5", use_responses_api=True, output_version="v1", reasoning={"effort": "low"}
        ),
    ),
    (
        "langchain-openai",
        AzureChatOpenAI(
            azure_deployment="mine",
            azure_endpoint="https://e.openai.azure.com",
            model="gpt-4o",
            temperature=0,
        ),
    ),
    ("langchain-openai", OpenAI(model="gpt-3.5-turbo-instruct", temperature=0)),
    ("langchain-anthropic", ChatAnthropic(model="claude-sonnet-4-5")),
    (
        "langchain-anthropic",
        ChatAnthropic(
            model="claude-sonnet-4-5", temperature=0, max_tokens=500, top_k=4, stop=["x"], timeout=3
        ),
    ),
    (
        "langchain-anthropic",
        ChatAnthropic(
            model="claude-sonnet-4-5",
            max_tokens=5000,
            thinking=THINKING,
            base_url="http://localhost:1",
        ),
    ),
    ("langchain-google-genai", ChatGoogleGenerativeAI(model="gemini-2.5-flash")),
    (
        "langchain-google-genai",
        ChatGoogleGenerativeAI(
            model="gemini-2.5-flash",
            temperature=0,
            max_output_tokens=7,
            top_k=3,
            thinking_budget=100,
        ),
    ),
    ("langchain-mistralai", ChatMistralAI(model="mistral-small-latest")),
    (
        "langchain-mistralai",
        ChatMistralAI(model="mistral-small-latest", temperature=0, max_tokens=5, random_seed=3),
    ),
    ("langchain-groq", ChatGroq(model="llama-3.3-70b-versatile")),
    ("langchain-groq", ChatGroq(model="llama-3.3-70b-versatile", temperature=0, max_tokens=9)),
    ("langchain-ollama", ChatOllama(model="llama3.2")),
    (
        "langchain-ollama",
        ChatOllama(
            model="llama3.2",
            temperature=0,
            num_predict=8,
            num_ctx=4096,
            seed=2,
            format="json",
            base_url="http://gpu:11434",
            keep_alive="5m",
            client_kwargs={"timeout": 3},
        ),
    ),
    ("langchain-ollama", OllamaLLM(model="llama3.2", temperature=0)),
    ("langchain-aws", ChatBedrock(model=CLAUDE, temperature=0, max_tokens=5, region="us-east-1")),
    (
        "langchain-aws",
        ChatBedrockConverse(
            model=CLAUDE, temperature=0, max_tokens=5, top_p=0.3, stop_sequences=["q"]
        ),
    ),
    (
        "langchain-aws",
        ChatBedrockConverse(
            model=CLAUDE,
            region_name="eu-west-1",
            additional_model_request_fields={"thinking": THINKING},
        ),
    ),
]

CALLS: dict[str, Any] = {
    "tools": lambda model: model.bind_tools([weather]),
    "any tool": lambda model: model.bind_tools([weather], tool_choice="any"),
    "structured": lambda model: model.with_structured_output(Weather).first,
    "structured by tool": lambda model: (
        model.with_structured_output(Weather, method="function_calling").first
    ),
    "structured by JSON mode": lambda model: (
        model.with_structured_output(Weather, method="json_mode").first
    ),
    "stop and temperature": lambda model: model.bind(stop=["END"], temperature=0.5),
}
CALLED = (1, 9, 12, 14, 16, 18, 20, 21)


def entry(package: str, model: Any, call: str = "", **kwargs: Any) -> dict[str, Any]:
    """Describe one model and call."""
    for name in ("ls_structured_output_format", "structured_output_format"):
        kwargs.pop(name, None)  # as generate() does before it asks a cache
    stop = kwargs.pop("stop", None)
    name = f"{type(model).__name__} {call}".strip()
    found: dict[str, Any] = {"name": name, "package": package, "version": version(package)}
    runs = ()
    if hasattr(model, "_get_llm_string"):
        found["llm_string"] = model._get_llm_string(stop=stop, **kwargs)
        if found["llm_string"].startswith("[('_type', 'chat-ollama')"):
            params = model._get_invocation_params(stop=stop, **kwargs)
            found["run"] = {"params": params, "serialized": {"repr": model._serialized["repr"]}}
            runs = (Run(None, params, found["run"]["serialized"], {}),)
    else:
        params = {**model._dict_for_compat(), "stop": stop}
        found["llm_string"] = str(sorted(params.items()))
    read = read_model(found["llm_string"], runs)
    found["params"], found["uncacheable"] = dict(read.params), read.uncacheable
    return found


def main() -> None:
    """Write the file beside this script."""
    entries = [entry(package, model) for package, model in MODELS]
    for number in CALLED:
        package, model = MODELS[number]
        for call, bind in CALLS.items():
            entries.append(entry(package, model, call, **bind(model).kwargs))
    path = Path(__file__).with_name("llm_strings.json")
    path.write_text(json.dumps(entries, indent=1) + "\n")
    print(f"{len(entries)} entries in {path}")


if __name__ == "__main__":
    main()
