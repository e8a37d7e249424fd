"""What is read from an llm_string: real strings of seven provider packages, and hostile ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from langchain_tiered_cache.call_context import Run
from langchain_tiered_cache.llm_string import read_model
from langchain_tiered_cache.request import parse
from tests.langchain.chat_models import openai_string

ENTRIES = json.loads((Path(__file__).parent / "data" / "llm_strings.json").read_text())


def runs_of(entry: dict[str, Any]) -> tuple[Run, ...]:
    run = entry.get("run")
    return (Run(1, run["params"], run["serialized"], {}),) if run else ()


def params_of(llm_string: str, *runs: Run) -> dict[str, Any]:
    model = read_model(llm_string, runs)
    assert model.uncacheable is None
    return dict(model.params)


@pytest.mark.parametrize("entry", ENTRIES, ids=[entry["name"] for entry in ENTRIES])
def test_real_strings_read_as_recorded(entry: dict[str, Any]) -> None:
    model = read_model(entry["llm_string"], runs_of(entry))
    assert (dict(model.params), model.uncacheable) == (entry["params"], entry["uncacheable"])


def test_recorded_parameters_hold_no_transport_and_no_secret() -> None:
    text = json.dumps([entry["params"] for entry in ENTRIES])
    for word in ("api_key", "secret", "timeout", "retries", "headers", "stream", "lc_versions"):
        assert word not in text


def test_groq_writes_temperature_zero_as_a_tiny_number() -> None:
    (entry,) = (e for e in ENTRIES if e["name"] == "ChatGroq" and "1e-08" in e["llm_string"])
    assert entry["params"]["temperature"] == 0


@pytest.mark.parametrize(
    "change",
    [
        {"request_timeout": 9.0},
        {"max_retries": 7},
        {"default_headers": {"User-Agent": "me", "x-request-id": "1"}},
        {"streaming": True},
        {"stream_usage": None},
        {"openai_api_key": {"id": ["OTHER_KEY"], "lc": 1, "type": "secret"}},
        {"name": "mine"},
        {"openai_api_base": "https://api.openai.com/v1/"},
        {"tags": ["a"], "metadata": {"b": 1}, "verbose": True},
        {"top_p": None, "n": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_no_answer_depends_on_is_dropped(change: dict[str, Any]) -> None:
    assert params_of(openai_string(**change)) == params_of(openai_string())


def test_unknown_fields_stay_verbatim() -> None:
    params = params_of(openai_string(logit_bias={"1": 2}, model_kwargs={"user": "u"}))
    assert params["extra"] == {"logit_bias": {"1": 2}, "user": "u"}


def test_parameters_of_the_call_override_those_of_the_model() -> None:
    call = "[('max_completion_tokens', 9), ('model', 'gpt-5'), ('stop', ['x']), ('temperature', 1)]"
    params = params_of(openai_string(call, max_tokens=5, stop=["y"]))
    assert (params["max_tokens"], params["model"]) == (9, "gpt-5")
    assert (params["stop"], params["temperature"]) == (["x"], 1)


def test_two_names_for_one_parameter_lose_nothing() -> None:
    params = params_of("[('_type', 'x'), ('model', 'a'), ('model_name', 'b')]")
    assert (params["model"], params["extra"]) == ("a", {"model_name": "b"})


@pytest.mark.parametrize(
    "text", ["Sample LLM string configuration.", "", "{}", "[1, 2]", "{broken"]
)
def test_a_string_that_cannot_be_read_is_its_own_identity(text: str) -> None:
    assert params_of(text) == {"extra": {"llm_string": text}}


@pytest.mark.parametrize(
    "call",
    [
        "[('foo', <object object at 0x7f0a>), ('stop', None)]",
        "[('foo', [1, <function f.<locals>.<lambda> at 0x7f0a>]), ('stop', None)]",
        "[('foo', Thing(x=<object object at 0x7f0a>)), ('stop', None)]",
        "[('foo', <bound method A.b of <m.A object at 0x7f0a>>), ('stop', None)]",
    ],
)
def test_addresses_of_objects_are_no_identity(call: str) -> None:
    assert read_model(openai_string(call)).uncacheable == "unstable"
    assert read_model("nonsense " + call).uncacheable == "unstable"


def test_an_object_of_which_only_the_class_is_known_is_no_identity() -> None:
    thing = {"lc": 1, "type": "not_implemented", "id": ["m", "Settings"]}
    assert parse("q", openai_string(settings=thing)).uncacheable == "unstable"
    assert parse("q", openai_string(settings=thing), hidden="read").uncacheable is None


def test_texts_that_look_like_objects_are_texts() -> None:
    call = """[('stop', ["<class 'm.Out'>", '<a at 0x12>', "it's"])]"""
    assert params_of(openai_string(call))["stop"] == ["<class 'm.Out'>", "<a at 0x12>", "it's"]


def test_a_call_is_not_evaluated() -> None:
    call = "[('foo', __import__('os').abort()), ('stop', None)]"
    assert params_of(openai_string(call))["extra"] == {"foo": {"repr": "__import__('os').abort()"}}


def schema_class(**fields: Any) -> type[BaseModel]:
    return type("Out", (BaseModel,), {"__annotations__": fields, "__module__": "m"})


def test_a_structured_output_class_is_read_as_its_schema() -> None:
    out = schema_class(x=int)
    call = {"response_format": out, "stop": None}
    run = Run(1, {"model": "gpt-4o-mini", **call}, {}, {})
    params = params_of(openai_string(str(sorted(call.items()))), run)
    assert params["response_schema"] == out.model_json_schema()


def test_texts_beside_a_class_stay_as_they_are() -> None:
    call = {"response_format": schema_class(x=int), "stop": ["<class 'm.Out'>", "<a at 0x1>"]}
    params = params_of(openai_string(str(sorted(call.items()))), Run(1, call, {}, {}))
    assert params["stop"] == call["stop"]


def test_a_class_that_no_run_knows_is_no_identity() -> None:
    string = openai_string("[('response_format', <class 'm.Out'>), ('stop', None)]")
    assert read_model(string).uncacheable == "unstable"
    stale = Run(1, {"response_format": type("Else", (BaseModel,), {}), "stop": None}, {}, {})
    other_call = Run(2, {"response_format": schema_class(x=int), "stop": ["a"]}, {}, {})
    assert read_model(string, [stale, other_call]).uncacheable == "unstable"


def test_a_class_without_a_schema_is_no_identity() -> None:
    out = type("Out", (), {"__module__": "m"})
    call = {"response_format": out, "stop": None}
    run = Run(1, call, {}, {})
    assert read_model(openai_string(str(sorted(call.items()))), [run]).uncacheable == "unstable"


def test_an_ollama_model_that_no_run_describes_is_no_identity() -> None:
    string = "[('_type', 'chat-ollama'), ('stop', None)]"
    assert read_model(string).uncacheable == "unstable"
    other = Run(1, {"_type": "chat-ollama", "stop": ["x"]}, {"repr": "ChatOllama(model='a')"}, {})
    assert read_model(string, [other]).uncacheable == "unstable"


def test_a_custom_model_that_does_not_identify_itself_is_told_apart_by_its_run() -> None:
    string = "[('_type', 'mine'), ('stop', None)]"
    params = {"_type": "mine", "stop": None}
    run = Run(1, params, {}, {"ls_model_name": "a", "ls_temperature": 0.0})
    assert params_of(string, run) == {"provider": "mine", "model": "a", "temperature": 0}
    assert params_of(string) == {"provider": "mine"}
