"""Only whole, good answers are served again: through every way in, whatever ends an answer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, cast

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("llama_index.llms.openai")

from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI

from langchain_tiered_cache import TieredCache
from shared_core import Answer, Hit, Miss, Request, ResponseCache
from shared_core.record import is_cut_off
from shared_core.testing import CountedModel, ModelCall, Way
from tests.end_to_end import ways_in
from tests.end_to_end.ways_in import (
    USAGE,
    ClientDriver,
    LangChainDriver,
    LlamaIndexDriver,
    ProxyDriver,
    run,
)

CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city": "Rome"}'},
}
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


class Upstream:
    """OpenAI's API, whose answers end as they are told; ``reason`` None: it breaks off."""

    reason: str | None = "stop"
    text: str | None = None
    calls_tool = False
    ends_with_done = True
    more: Mapping[str, Any] = {}

    def __init__(self, model: CountedModel) -> None:
        self._model = model

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        is_chat = request.url.path.endswith("/chat/completions")
        answer = self._model.answer()
        text = answer if self.text is None else self.text
        head = {"id": f"c-{self._model.calls}", "created": 1, "model": body["model"], **self.more}
        kind = "chat.completion" if is_chat else "text_completion"
        if not body.get("stream"):
            message: dict[str, Any] = {"role": "assistant", "content": text}
            if self.calls_tool:
                message = {"role": "assistant", "content": None, "tool_calls": [CALL]}
            said: dict[str, Any] = {"message": message} if is_chat else {"text": text}
            choice = {"index": 0, "finish_reason": self.reason, "logprobs": None, **said}
            whole = {**head, "object": kind, "choices": [choice], "usage": USAGE}
            return httpx.Response(200, json=whole)
        kind += ".chunk" if is_chat else ""
        lines = [
            {**head, "object": kind, "choices": [{"index": 0, "finish_reason": None, **part}]}
            for part in self._parts(text, is_chat)
        ]
        if self.reason is not None:
            end: dict[str, Any] = {"delta": {}} if is_chat else {"text": ""}
            choice = {"index": 0, "finish_reason": self.reason, **end}
            lines.append({**head, "object": kind, "choices": [choice]})
        events = "".join(f"data: {json.dumps(line)}\n\n" for line in lines)
        if self.reason is not None:
            events += "data: [DONE]\n\n"
        return httpx.Response(200, text=events, headers={"content-type": "text/event-stream"})

    def _parts(self, text: str, is_chat: bool) -> Iterator[dict[str, Any]]:
        if self.calls_tool:
            arguments = CALL["function"]["arguments"]  # type: ignore[index]
            first = {"name": "weather", "arguments": arguments[:8]}
            yield {
                "delta": {
                    "role": "assistant",
                    "tool_calls": [{**CALL, "index": 0, "function": first}],
                }
            }
            rest = {"index": 0, "function": {"arguments": arguments[8:]}}
            yield {"delta": {"tool_calls": [rest]}}
            return
        for piece in (text[:7], text[7:]):
            yield {"delta": {"role": "assistant", "content": piece}} if is_chat else {"text": piece}


WAYS_IN: list[tuple[str, Any, Way]] = [
    (name, driver, way)
    for name, driver in {
        "langchain": LangChainDriver(),
        "llamaindex": LlamaIndexDriver(),
        "client": ClientDriver(),
        "proxy": ProxyDriver(),
    }.items()
    for way in driver.ways
]


class StreamingDriver(LangChainDriver):
    """ChatOpenAI(streaming=True) behind a TieredCache: LangChain puts the stream together."""

    def ask(self, cache: ResponseCache, model: CountedModel, call: ModelCall, way: Way) -> str:
        http = ways_in.clients(model)
        llm = ChatOpenAI(
            model=call.model,
            api_key=cast("Any", ways_in.KEY),
            http_client=http["http_client"],
            http_async_client=http["async_http_client"],
            streaming=True,
            temperature=0,
            cache=TieredCache(cache=cache),
        )
        bound: Any = llm.bind(**{k: v for k, v in call.arguments.items() if k == "tools"})
        asked = [HumanMessage(call.messages[-1]["content"])]
        return str((bound.invoke(asked) if way == "call" else run(bound.ainvoke(asked))).text)


WAYS_IN += [
    ("streaming=True", StreamingDriver(), "call"),
    ("streaming=True", StreamingDriver(), "acall"),
]
ASKED = ({"role": "user", "content": "What is a fuse?"},)
CHAT = ModelCall(messages=ASKED)


def params(ways_in: list[tuple[str, Any, Way]]) -> list[Any]:
    """Return the ways in as parameters; the awaited ones are slow, but for the service's."""
    return [
        pytest.param(
            *one,
            id=f"{one[0]}-{one[2]}",
            marks=[pytest.mark.slow] if one[2].startswith("a") and one[0] != "proxy" else [],
        )
        for one in ways_in
    ]


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> type[Upstream]:
    class Told(Upstream):
        """One test's own."""

    monkeypatch.setattr(ways_in, "OpenAIServer", Told)
    return Told


def calls_of_two(driver: Any, way: Way, call: ModelCall, **options: Any) -> int:
    """Ask twice, and return how often the model was called."""
    model = CountedModel()
    with ResponseCache.open(semantic=False, **options) as cache:
        for _ in range(2):
            driver.ask(cache, model, call, way)
        assert not [kind for kind in cache.stats().errors if not kind.startswith("unstorable")]
    return model.calls


SLOW = pytest.mark.slow
ENDINGS: dict[str, dict[str, Any]] = {
    "broke off": {"reason": None},
    "length": {"reason": "length"},
    "content_filter": {"reason": "content_filter"},
    "another's spelling": {"reason": "MAX_TOKENS"},
    "error": {"reason": "error"},
    "empty": {"text": ""},
    "blank": {"text": " \n"},
}


@pytest.mark.parametrize(("name", "driver", "way"), params(WAYS_IN))
@pytest.mark.parametrize(
    "ending",
    [
        name if name in ("broke off", "length", "empty") else pytest.param(name, marks=SLOW)
        for name in ENDINGS
    ],
)
def test_an_answer_that_is_not_whole_is_not_served_again(
    upstream: type[Upstream], name: str, driver: Any, way: Way, ending: str
) -> None:
    for field, value in ENDINGS[ending].items():
        setattr(upstream, field, value)
    assert calls_of_two(driver, way, CHAT) == 2


@pytest.mark.parametrize(("name", "driver", "way"), params(WAYS_IN))
@pytest.mark.parametrize(
    "reason", ["stop", *(pytest.param(one, marks=SLOW) for one in ("function_call", "end_turn"))]
)
def test_an_answer_that_is_whole_is_served_again(
    upstream: type[Upstream], name: str, driver: Any, way: Way, reason: str
) -> None:
    upstream.reason = reason
    assert calls_of_two(driver, way, CHAT) == 1


@pytest.mark.parametrize(("name", "driver", "way"), params(WAYS_IN))
@pytest.mark.parametrize(("reason", "calls"), [("tool_calls", 1), (None, 2), ("length", 2)])
def test_a_tool_call_is_served_again_if_it_is_whole(
    upstream: type[Upstream], name: str, driver: Any, way: Way, reason: str | None, calls: int
) -> None:
    upstream.calls_tool, upstream.reason = True, reason
    call = ModelCall(messages=ASKED, arguments={"temperature": 0, "tools": [TOOL]})
    assert calls_of_two(driver, way, call) == calls


@pytest.mark.parametrize(
    ("name", "driver", "way"),
    params([one for one in WAYS_IN if one[0] in ("langchain", "llamaindex", "proxy")]),
)
@pytest.mark.parametrize(
    ("reason", "text", "calls"),
    [("stop", None, 1), ("length", None, 2), (None, None, 2), ("stop", "", 2)],
)
def test_a_completion_is_served_again_if_it_is_whole(
    upstream: type[Upstream],
    name: str,
    driver: Any,
    way: Way,
    reason: str | None,
    text: str | None,
    calls: int,
) -> None:
    upstream.reason, upstream.text = reason, text
    call = ModelCall(prompt="A fuse is", model="gpt-3.5-turbo-instruct")
    assert calls_of_two(driver, way, call) == calls


@pytest.mark.parametrize(("name", "driver", "way"), params(WAYS_IN))
@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_a_cut_answer_is_kept_on_demand(
    upstream: type[Upstream], name: str, driver: Any, way: Way, reason: str
) -> None:
    upstream.reason = reason
    assert calls_of_two(driver, way, CHAT, keep_cut=True) == 1


@pytest.mark.parametrize(("name", "driver", "way"), params(WAYS_IN))
def test_validate_says_what_may_be_kept(
    upstream: type[Upstream], name: str, driver: Any, way: Way
) -> None:
    seen: list[Answer] = []

    def validate(answer: Answer) -> bool:
        seen.append(answer)
        return answer.text != "Answer number 1."

    model = CountedModel()
    with ResponseCache.open(semantic=False, validate=validate) as cache:
        got = [driver.ask(cache, model, CHAT, way) for _ in range(3)]
    assert got == ["Answer number 1.", "Answer number 2.", "Answer number 2."]
    assert [one.text for one in seen] == ["Answer number 1.", "Answer number 2."]


def test_what_validate_raises_means_no_and_is_counted() -> None:
    request = Request.of("q", model="m")
    with ResponseCache.open(
        semantic=False, validate=lambda answer: json.loads(answer.text)
    ) as cache:
        assert cache.answer(request, lambda: "no JSON") == Answer("no JSON")
        assert isinstance(cache.lookup(request), Miss)
        assert cache.stats().errors == {"validate": 1}
        cache.answer(request, lambda: '{"a": 1}')
        assert isinstance(cache.lookup(request), Hit)
    with pytest.raises(ValueError, match="validate"):
        ResponseCache.open(validate="json")


# --------------------------------------------------------------------------- reasons, in 2,000

NORMAL = [
    "stop", "STOP", "end_turn", "tool_calls", "tool_use", "function_call", "stop_sequence",
    "COMPLETE", "eos", "eos_token", "completed", "FinishReason.STOP", "done", "finished",
]  # fmt: skip
"""How whole answers end: OpenAI, Anthropic, Google, Cohere, text-generation-inference, others."""

NOT_WHOLE = [
    *("length", "content_filter", "insufficient_system_resource", "error", "abort"),
    *("max_tokens", "refusal", "pause_turn", "model_context_window_exceeded"),
    *("MAX_TOKENS", "SAFETY", "RECITATION", "LANGUAGE", "OTHER", "BLOCKLIST", "SPII"),
    *("PROHIBITED_CONTENT", "MALFORMED_FUNCTION_CALL", "IMAGE_SAFETY", "UNEXPECTED_TOOL_CALL"),
    *("FINISH_REASON_UNSPECIFIED", "FinishReason.MAX_TOKENS", "TOO_MANY_TOOL_CALLS"),
    *("guardrail_intervened", "content_filtered", "malformed_model_output"),
    *("ERROR_TOXIC", "ERROR_LIMIT", "USER_CANCEL", "TIMEOUT", "model_length", "load"),
    *("max_output_tokens", "incomplete", "failed", "cancelled", "TIME_LIMIT", "TOKEN_LIMIT"),
    *("max-tokens", "Max Tokens", "truncated", "sensitive", "network_error"),
]


@pytest.mark.parametrize("reason", [*NORMAL, None, ""])
def test_a_normal_end_is_no_cut(reason: str | None) -> None:
    assert not is_cut_off(reason)


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(NOT_WHOLE),
    st.sampled_from([str, str.lower, str.upper, str.title]),
    st.sampled_from(["", "FinishReason.", "finish_reason."]),
    st.booleans(),
)
def test_no_answer_that_is_not_whole_is_kept(
    reason: str, case: Any, prefix: str, is_kept_by_hand: bool
) -> None:
    spelt, request = prefix + case(reason), Request.of("q", model="m")
    with ResponseCache.open(semantic=False) as cache:
        if is_kept_by_hand:
            assert cache.store(request, Answer("It is", finish_reason=spelt)) is None
        else:
            cache.answer(request, lambda: Answer("It is", finish_reason=spelt))
        assert isinstance(cache.lookup(request), Miss)


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from([one for one in WAYS_IN if "stream" in one[2] or one[0] == "streaming=True"]),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=8, max_size=40),
    st.booleans(),
    st.booleans(),
)
def test_whatever_a_stream_says_it_is_served_again_only_if_it_said_why_it_ended(
    upstream: type[Upstream], way_in: tuple[str, Any, Way], text: str, calls_tool: bool, cut: bool
) -> None:
    _, driver, way = way_in
    upstream.text, upstream.calls_tool = f"It is {text}", calls_tool
    upstream.reason = None if cut else "tool_calls" if calls_tool else "stop"
    arguments = {"temperature": 0, "tools": [TOOL]} if calls_tool else {"temperature": 0}
    call = ModelCall(messages=ASKED, arguments=arguments)
    assert calls_of_two(driver, way, call) == (2 if cut else 1)
