"""Scope, question and key: what makes two requests one, and what never does."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_core.request import Request, canonical_json, canonical_parameters

QUESTION = "What is a fuse?"
CALL = {"name": "find", "args": {"what": "fuse", "n": 2}}
HISTORY: list[dict[str, Any]] = [
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "", "tool_calls": [{**CALL, "id": "call_xyz"}]},
    {"role": "tool", "content": "in the box", "tool_call_id": "call_xyz"},
]
BASE: dict[str, Any] = {
    "question": QUESTION,
    "model": "gpt-4o-mini",
    "system": "You are an electrician.",
    "history": HISTORY,
    "params": {"provider": "openai", "temperature": 0, "top_p": 0.5, "max_tokens": 100},
}


def key(namespace: str = "default", **changes: Any) -> str:
    return Request.of(**{**BASE, **changes}).address(namespace).key


def with_params(**changes: Any) -> dict[str, Any]:
    return {**BASE["params"], **changes}


@pytest.mark.parametrize(
    "changes",
    [
        {"question": "What is a fuse"},
        {"question": None},
        {"question": ""},
        {"model": "gpt-4o"},
        {"system": None},
        {"system": "You are a plumber."},
        {"history": HISTORY[:1]},
        {"history": []},
        {"history": [*HISTORY, {"role": "user", "content": "And?"}]},
        {"history": [{"role": "assistant", "content": "Hello"}, *HISTORY[1:]]},
        {"context": "page 1"},
        {"params": with_params(provider="azure")},
        {"params": with_params(base_url="http://localhost:8000/v1")},
        {"params": with_params(temperature=0.1)},
        {"params": with_params(temperature=None)},
        {"params": with_params(top_p=0.6)},
        {"params": with_params(seed=1)},
        {"params": with_params(stop=["\n"])},
        {"params": with_params(max_tokens=101)},
        {"params": with_params(n=2)},
        {"params": with_params(tools=[{"name": "find"}])},
        {"params": with_params(tool_choice="any")},
        {"params": with_params(response_schema={"type": "object"})},
        {"params": with_params(reasoning={"effort": "low"})},
        {"params": with_params(anything_else=True)},
        {"params": with_params(anything_else=False)},
        {"params": with_params(anything_else=0)},
        {"params": with_params(anything_else="")},
        {"params": with_params(anything_else=[])},
        {"params": with_params(anything_else={})},
        {"params": with_params(stop=[])},
        {"params": with_params(stop="")},
        {"params": with_params(tools=[])},
        {"params": with_params(seed=0)},
        {"params": with_params(tool_choice="")},
        {"params": with_params(n=True)},
        {"params": with_params(temperature="0")},
        {"params": with_params(extra_headers={"x-tenant": "a"})},
        {"params": with_params(organization="a")},
        {"system": ""},
        {"context": ""},
        {"context": []},
        {"context": False},
    ],
    ids=str,
)
def test_other_requests_have_other_keys(changes: dict[str, Any]) -> None:
    assert key(**changes) != key()


@pytest.mark.parametrize(
    "changes",
    [
        {"params": with_params(temperature=0.0)},
        {"params": with_params(seed=None, n=1, stop=None, tools=None)},
        {"params": with_params(base_url="https://api.openai.com/v1/")},
        {"params": dict(reversed(BASE["params"].items()))},
        {"params": {**{k: v for k, v in BASE["params"].items()}, "model": "gpt-4o-mini"}},
        {
            "history": [
                {**HISTORY[0], "id": "msg_1", "response_metadata": {"x": 1}},
                {
                    "role": "assistant",
                    "content": "",
                    "id": "run-1",
                    "usage_metadata": {"total_tokens": 3},
                    "tool_calls": [{**CALL, "id": "toolu_999", "type": "tool_call"}],
                },
                {**HISTORY[2], "tool_call_id": "toolu_999", "artifact": [1]},
            ]
        },
        {
            "history": [
                HISTORY[0],
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {
                            "id": "a",
                            "type": "function",
                            "function": {"name": "find", "arguments": '{"n": 2, "what": "fuse"}'},
                        }
                    ],
                },
                {**HISTORY[2], "tool_call_id": "a"},
            ]
        },
        {
            "history": [
                {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
                *HISTORY[1:],
            ]
        },
    ],
    ids=str,
)
def test_the_same_request_in_another_spelling_has_the_same_key(changes: dict[str, Any]) -> None:
    assert key(**changes) == key()


def test_namespaces_never_share_a_key_or_a_scope() -> None:
    request = Request.of(QUESTION)
    one, two = request.address("one"), request.address("two")
    assert one.key != two.key
    assert one.scope != two.scope


def test_requests_that_differ_in_the_question_alone_share_a_scope() -> None:
    one, two = Request.of("a", "m").address("n"), Request.of("b", "m").address("n")
    assert one.scope == two.scope
    assert one.key != two.key


def test_which_result_answers_which_call_stays_in_the_key() -> None:
    calls = [{"name": "f", "args": {}, "id": "a"}, {"name": "f", "args": {}, "id": "b"}]
    asked = {"role": "assistant", "content": "", "tool_calls": calls}
    straight = [{"role": "tool", "content": str(i), "tool_call_id": c} for i, c in enumerate("ab")]
    crossed = [{"role": "tool", "content": str(i), "tool_call_id": c} for i, c in enumerate("ba")]
    assert key(history=[asked, *straight]) != key(history=[asked, *crossed])


def test_volatile_ids_in_content_parts_do_not_count_but_images_do() -> None:
    def image(id: str, data: str) -> list[dict[str, Any]]:
        part = {"type": "image", "base64": data, "id": id, "cache_control": {"type": "ephemeral"}}
        return [{"role": "user", "content": [{"type": "text", "text": "this?"}, part]}]

    assert key(history=image("lc_1", "AA")) == key(history=image("lc_2", "AA"))
    assert key(history=image("lc_1", "AA")) != key(history=image("lc_1", "BB"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"params": {}}, None),
        ({"params": {"temperature": 0.7}}, "temperature"),
        ({"question": None}, "not_user_text"),
    ],
)
def test_what_must_not_be_matched_by_meaning_says_why(
    changes: dict[str, Any], reason: str | None
) -> None:
    assert Request.of(**{**BASE, **changes}).exact_only == reason


@pytest.mark.parametrize("history", ["hello", [{"type": "human", "content": "a"}], [("user", "a")]])
def test_a_message_without_a_role_is_refused(history: Any) -> None:
    with pytest.raises(ValueError, match="role"):
        key(history=history)


def test_an_id_that_is_all_a_content_part_has_counts() -> None:
    def said(id: str) -> list[dict[str, Any]]:
        return [{"role": "assistant", "content": [{"type": "image", "id": id}]}]

    assert key(history=said("file-1")) != key(history=said("file-2"))


@pytest.mark.parametrize("value", [object(), {1, 2}, b"x", print])
def test_a_value_without_json_form_is_refused_by_its_type(value: object) -> None:
    with pytest.raises(TypeError, match=type(value).__name__):
        Request.of(QUESTION, params={"odd": value})


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_json_lacks_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"x": value})


def test_lone_surrogates_and_any_unicode_have_keys() -> None:
    assert Request.of("\ud800 ü 漢", system="\udfff").address("ñ").key


scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
texts = st.text(max_size=8)
values = st.recursive(
    scalars | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(texts, values, max_size=4))
def test_canonical_parameters_are_a_fixed_point(params: dict[str, Any]) -> None:
    try:
        once = canonical_parameters(params)
    except (TypeError, ValueError):
        return
    assert canonical_json(canonical_parameters(once)) == canonical_json(once)


@given(values, values)
def test_different_contexts_have_different_keys(one: Any, two: Any) -> None:
    same = key(context=one) == key(context=two)
    assert same == (canonical_json(one) == canonical_json(two))


@pytest.mark.parametrize("arguments", ["NaN", '{"x": -Infinity}', '{"x": 1e999}', '{"x": 1'])
def test_arguments_of_a_tool_call_that_are_no_json_are_compared_as_text(arguments: str) -> None:
    def asked(text: str) -> str:
        call = {"id": "a", "function": {"name": "find", "arguments": text}}
        return key(history=[{"role": "assistant", "content": "", "tool_calls": [call]}])

    assert asked(arguments) == asked(arguments)
    assert asked(arguments) != asked(arguments + " ")
    assert asked('{"x": 1.5}') == asked('{ "x": 1.5 }')


def test_another_version_of_a_prompt_shares_no_answer() -> None:
    plain, one, two = (Request.of("q", model="m", version=version) for version in (None, 1, "2"))
    assert plain == Request.of("q", model="m")
    assert len({each.address("n").scope for each in (plain, one, two)}) == 3
    with pytest.raises(TypeError):
        Request.of("q", version=object())  # type: ignore[arg-type]


@pytest.mark.parametrize("temperature", ["0.5", "0", "warm", [0.5], {"value": 1}, 0.01, 1, True])
@pytest.mark.parametrize("place", ["plain", "extra", "inside"])
def test_a_temperature_that_is_no_number_is_matched_only_exactly(
    temperature: Any, place: str
) -> None:
    params = {
        "plain": {"temperature": temperature},
        "extra": {"extra": {"options": {"temperature": temperature}}},
        "inside": {"inferenceConfig": [{"Temperature": temperature}]},
    }[place]
    if place != "plain" and not isinstance(temperature, (str, int, float)):
        return
    assert Request.of(QUESTION, params=params).exact_only == "temperature"


def turn(*parts: Any, role: str = "assistant", **fields: Any) -> str:
    return key(history=[{"role": role, "content": list(parts), **fields}])


def calls(*calls: Any) -> str:
    return key(history=[{"role": "assistant", "content": "", "tool_calls": list(calls)}])


CUSTOM = {"type": "custom", "id": "c", "custom": {"name": "sh", "input": "ls"}}
MCP = {"type": "mcp_call", "id": "m", "server_label": "a", "name": "f", "arguments": "{}"}
FUNCTION = {"type": "function", "id": "f", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (calls(CUSTOM), calls({**CUSTOM, "custom": {"name": "sh", "input": "rm"}})),
        (calls(CUSTOM), calls({**CUSTOM, "custom": {"name": "py", "input": "ls"}})),
        (calls({"type": "custom", "input": "a"}), calls({"type": "custom", "input": "b"})),
        (calls(MCP), calls({**MCP, "server_label": "b"})),
        (calls(MCP), calls({**MCP, "type": "mcp_approval"})),
        (calls(FUNCTION), calls({**FUNCTION, "type": "custom"})),
        (calls(FUNCTION), calls({**FUNCTION, "function": {"name": "f", "strict": True}})),
        (calls(FUNCTION), calls({**FUNCTION, "extras": {"signature": "x"}})),
        (calls({"name": "f", "args": {}}), calls({"name": "f", "args": None})),
        (turn({"type": "image_generation_call", "id": "1", "status": "done"}),
         turn({"type": "image_generation_call", "id": "2", "status": "done"})),
        (turn({"type": "reasoning", "id": "rs_1", "summary": []}),
         turn({"type": "reasoning", "id": "rs_2", "summary": []})),
        (turn({"type": "item", "index": 1, "x": 1}), turn({"type": "item", "index": 2, "x": 1})),
        (turn({"type": "refusal", "refusal": "a"}), turn({"type": "refusal", "refusal": "b"})),
        (turn({"type": "odd", "a": []}), turn({"type": "odd"})),
        (turn({"type": "odd", "a": False}), turn({"type": "odd"})),
        (turn({"type": "text", "text": "a", "annotations": [1]}),
         turn({"type": "text", "text": "a"})),
        (turn("a", role="user", type="odd"), turn("a", role="user")),
        (turn({"type": "text", "text": "a", "index": 1}, role="user"),
         turn({"type": "text", "text": "a", "index": 2}, role="user")),
        (turn({"type": "file", "id": "1", "x": 1}, role="user"),
         turn({"type": "file", "id": "2", "x": 1}, role="user")),
        (turn("a", note=[]), turn("a")),
        (turn("a", note=0), turn("a")),
    ],
)  # fmt: skip
def test_canonical_messages_keep_all_that_they_do_not_know(one: str, other: str) -> None:
    assert one != other


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (calls(FUNCTION), calls({"name": "f", "args": {}, "id": "x", "type": "tool_call"})),
        (calls(FUNCTION), calls({**FUNCTION, "index": 0})),
        (turn({"type": "text", "text": "a", "id": "msg_1", "index": 0}), turn("a")),
        (turn({"type": "thinking", "thinking": "a", "index": 0}),
         turn({"type": "thinking", "thinking": "a", "index": 1})),
        (turn("a", tool_calls=[], additional_kwargs={}, note=None), turn("a")),
        (turn("a", role="user", type="message"), turn("a", role="user")),
    ],
)  # fmt: skip
def test_canonical_messages_leave_out_what_is_harmless(one: str, other: str) -> None:
    assert one == other


@pytest.mark.parametrize(
    "harmless",
    [
        {"extra_headers": {"User-Agent": "me", "X-Request-Id": "1", "Accept-Language": "de"}},
        {"default_headers": {"traceparent": "00-1", "x-stainless-retry-count": "2"}},
        {"headers": {}, "extra_headers": {"Idempotency-Key": "1", "connection": "close"}},
    ],
)
def test_harmless_headers_are_no_part_of_a_request(harmless: dict[str, Any]) -> None:
    assert key(params=with_params(**harmless)) == key()


def test_headers_count_by_their_values_and_not_by_where_they_are_given() -> None:
    by_call = key(params=with_params(extra_headers={"X-Tenant": "a"}))
    by_model = key(params=with_params(default_headers={"x-tenant": "a"}))
    other = key(params=with_params(default_headers={"x-tenant": "b"}))
    both = key(
        params=with_params(default_headers={"x-tenant": "b"}, extra_headers={"X-Tenant": "a"})
    )
    assert by_call == by_model == both != other
    request = Request.of(QUESTION, params={"extra_headers": {"authorization": "Bearer secret"}})
    assert "secret" not in request.scope
