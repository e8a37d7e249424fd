"""Prompts as providers want them: order, breakpoints, keys and names; and what they tell back."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from shared_core.prefix import CachedTokens, Marked, cached_tokens, mark
from shared_core.prefix.marking import Provider, minimum_tokens

HANDBOOK = "Every loan ends after four weeks and can be renewed twice. " * 120  # about 1,770 tokens
LONGER = HANDBOOK * 3
SYSTEM = {"role": "system", "content": HANDBOOK}
ASK = {"role": "user", "content": "How long is a loan?"}
TODAY = {"type": "text", "text": "Today is Monday.", "dynamic": True}
EPHEMERAL = {"type": "ephemeral"}
SONNET = "claude-sonnet-4-5-20250929"
TOOLS = [
    {"name": n, "description": n, "input_schema": {"type": "object"}} for n in ("loans", "holds")
]


def text(value: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": value, **more}


def breakpoints(marked: Marked) -> list[str]:
    """Return the place of every breakpoint: "tools", or "message.part"."""
    names = ("cache_control", "cachePoint", "prompt_cache_breakpoint")
    tools = ["tools" for tool in marked.tools for name in names if name in tool]
    return tools + [
        f"{at}.{n}"
        for at, message in enumerate(marked.messages)
        if isinstance(message["content"], list)
        for n, part in enumerate(message["content"])
        for name in names
        if name in part
    ]


# ---------------------------------------------------------------------------------------- order


def test_what_is_not_marked_as_dynamic_stays_where_it_is() -> None:
    messages = [SYSTEM, {"role": "system", "content": "Be brief."}, ASK]
    assert mark(messages, "automatic").messages == messages


def test_static_parts_of_the_system_messages_go_before_dynamic_ones_and_keep_their_order() -> None:
    first = {"role": "system", "content": [TODAY, text("A"), text("B")]}
    second = {"role": "system", "content": "C"}
    third = {"role": "system", "content": "You talk to Ann.", "dynamic": True}
    marked = mark([first, second, third, ASK], "automatic")
    order = ["A", "B", "C", "Today is Monday.", "You talk to Ann."]
    assert marked.messages == [{"role": "system", "content": [text(t) for t in order]}, ASK]


def test_a_conversation_is_never_put_in_another_order() -> None:
    turns = [
        {"role": "user", "content": "Hi", "dynamic": True},
        {"role": "assistant", "content": "Hello"},
        {"role": "system", "content": "Late rule."},
        ASK,
    ]
    marked = mark([SYSTEM, *turns], "automatic")
    assert [m["content"] for m in marked.messages[1:]] == [m["content"] for m in turns]
    assert "dynamic" not in json.dumps(marked.messages)


def test_the_messages_that_were_given_are_not_changed() -> None:
    given = [{"role": "system", "content": [TODAY, text(HANDBOOK)]}, ASK]
    before = json.dumps(given)
    mark(given, "anthropic", model=SONNET, tools=TOOLS)
    mark(given, "bedrock")
    assert json.dumps(given) == before


@pytest.mark.parametrize("provider", ["anthropic", "bedrock", "openai", "gemini", "automatic"])
def test_no_text_is_lost_or_added(provider: Provider) -> None:
    given = [{"role": "system", "content": [TODAY, text(HANDBOOK)]}, *conversation(3)]
    marked = mark(given, provider, model="gpt-5.6" if provider == "openai" else "")

    def texts(messages: list[dict[str, Any]]) -> list[str]:
        return sorted(
            part if isinstance(part, str) else part.get("text", "")
            for m in messages
            for part in ([m["content"]] if isinstance(m["content"], str) else m["content"])
            if isinstance(part, str) or "text" in part
        )

    assert texts(marked.messages) == texts(given)


def conversation(turns: int) -> list[dict[str, Any]]:
    messages = []
    for n in range(turns):
        messages += [
            {"role": "user", "content": f"Question {n}?"},
            {"role": "assistant", "content": f"Answer {n}."},
        ]
    return [*messages, ASK]


# ------------------------------------------------------------------------------------ anthropic


def test_a_single_question_gets_a_breakpoint_after_the_system_prompt_alone() -> None:
    marked = mark([SYSTEM, ASK], "anthropic", model=SONNET)
    assert marked.messages == [
        {"role": "system", "content": [text(HANDBOOK, cache_control=EPHEMERAL)]},
        ASK,
    ]
    assert marked.breakpoints == 1


def test_the_breakpoint_stands_before_what_is_dynamic() -> None:
    marked = mark([{"role": "system", "content": [TODAY, text(HANDBOOK)]}, ASK], "anthropic")
    assert breakpoints(marked) == ["0.0"]


def test_a_conversation_is_marked_at_its_end_and_where_the_turn_before_ended() -> None:
    before = mark([SYSTEM, *conversation(1)], "anthropic", model=SONNET)
    now = mark([SYSTEM, *conversation(2)], "anthropic", model=SONNET)
    assert breakpoints(before) == ["0.0", "1.0", "3.0"]
    assert breakpoints(now) == ["0.0", "3.0", "5.0"]  # 3.0: what the turn before has written


def test_there_are_at_most_four_breakpoints_and_tools_get_one() -> None:
    big = [dict(tool, description=HANDBOOK) for tool in TOOLS]
    marked = mark([SYSTEM, *conversation(9)], "anthropic", model=SONNET, tools=big)
    assert breakpoints(marked) == ["tools", "0.0", "17.0", "19.0"]
    assert "cache_control" in marked.tools[-1]
    assert "cache_control" not in marked.tools[0]
    assert marked.breakpoints == 4


@pytest.mark.parametrize(
    ("model", "least"),
    [
        ("claude-opus-5", 512),
        (SONNET, 1024),
        ("claude-opus-4-1-20250805", 1024),
        ("claude-opus-4-7", 2048),
        ("claude-3-5-haiku-20241022", 2048),
        ("claude-opus-4-5-20251101", 4096),
        ("anthropic/claude-opus-4.6", 4096),
        ("claude-haiku-4-5", 4096),
    ],
)
def test_a_front_shorter_than_the_models_minimum_is_not_marked(model: str, least: int) -> None:
    assert minimum_tokens("anthropic", model) == least
    for tokens, expected in ((least, 1), (least - 1, 0)):
        messages = [{"role": "system", "content": "abcd" * tokens}, ASK]
        assert mark(messages, "anthropic", model=model).breakpoints == expected


def test_the_front_up_to_a_breakpoint_counts_not_its_own_part() -> None:
    messages = [SYSTEM, {"role": "system", "content": "Be brief."}, ASK]
    assert breakpoints(mark(messages, "anthropic", model=SONNET)) == ["1.0"]


def test_minimum_and_count_can_be_given() -> None:
    assert mark([SYSTEM, ASK], "anthropic", minimum=10**6).breakpoints == 0
    assert mark([SYSTEM, ASK], "anthropic", count=lambda _: 1).breakpoints == 0


def test_an_hour_is_for_what_never_changes_and_stands_before_five_minutes() -> None:
    marked = mark([SYSTEM, *conversation(1)], "anthropic", ttl="1h", tools=[big_tool()])
    assert marked.tools[-1]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    controls = [
        part["cache_control"]
        for message in marked.messages
        for part in message["content"]
        if isinstance(part, dict) and "cache_control" in part
    ]
    assert controls == [{"type": "ephemeral", "ttl": "1h"}, EPHEMERAL, EPHEMERAL]


def big_tool() -> dict[str, Any]:
    return dict(TOOLS[0], description=HANDBOOK)


def test_no_breakpoint_stands_on_thoughts_or_empty_texts() -> None:
    content = [text("Yes"), {"type": "thinking", "thinking": "…"}, text(" ")]
    turns = [*conversation(1)[:-1], {"role": "user", "content": content}]
    marked = mark([SYSTEM, *turns], "anthropic")
    assert breakpoints(marked)[-1] == "3.0"


def test_breakpoints_that_are_there_are_left_alone_and_joined_by_none() -> None:
    mine = {"role": "system", "content": [text(HANDBOOK, cache_control=EPHEMERAL), text(HANDBOOK)]}
    marked = mark([mine, *conversation(3)], "anthropic")
    assert breakpoints(marked) == ["0.0"]
    assert marked.breakpoints == 0
    on_tool = [dict(TOOLS[0], cache_control=EPHEMERAL)]
    assert breakpoints(mark([SYSTEM, ASK], "anthropic", tools=on_tool)) == ["tools"]


def test_anthropics_sdk_sends_the_breakpoints() -> None:
    anthropic = pytest.importorskip("anthropic")
    httpx2 = pytest.importorskip("httpx2")  # its SDK takes no other client
    sent: list[Any] = []

    def answer(request: Any) -> Any:
        sent.append(json.loads(request.content))
        usage = {
            "input_tokens": 9,
            "output_tokens": 1,
            "cache_read_input_tokens": 1700,
            "cache_creation_input_tokens": 30,
        }
        content = [{"type": "text", "text": "Four weeks."}]
        return httpx2.Response(
            200,
            json={
                "id": "m",
                "type": "message",
                "role": "assistant",
                "model": "claude-sonnet-5",
                "content": content,
                "stop_reason": "end_turn",
                "stop_sequence": None,
                "usage": usage,
            },
        )

    with httpx2.Client(transport=httpx2.MockTransport(answer)) as http:
        client = anthropic.Anthropic(api_key="none", http_client=http)
        marked = mark(
            [SYSTEM, *conversation(1)],
            "anthropic",
            model="claude-sonnet-5",
            tools=[big_tool()],
            ttl="1h",
        )
        reply = client.messages.create(model="claude-sonnet-5", max_tokens=9, **marked.body())
    body = sent[0]
    hour = {"type": "ephemeral", "ttl": "1h"}
    assert body["system"] == [text(HANDBOOK, cache_control=hour)]
    assert body["tools"][-1]["cache_control"] == hour
    assert [m["role"] for m in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][-1]["content"] == [text(ASK["content"], cache_control=EPHEMERAL)]
    assert json.dumps(body).count("cache_control") == 4
    assert cached_tokens(reply) == cached_tokens(reply.usage) == CachedTokens(1700, 30)


# --------------------------------------------------------------------------------------- openai


def test_openais_key_is_of_the_static_front_and_nothing_else() -> None:
    def key(*messages: dict[str, Any], tools: Any = ()) -> Any:
        return mark(messages, "openai", tools=tools).params.get("prompt_cache_key")

    of_front = key(SYSTEM, ASK)
    assert len(of_front) == 32
    assert of_front == key(SYSTEM, {"role": "user", "content": "Another?"})
    assert of_front == key({"role": "system", "content": [TODAY, text(HANDBOOK)]}, ASK)
    assert of_front != key({"role": "system", "content": HANDBOOK + "."}, ASK)
    assert of_front != key(SYSTEM, ASK, tools=TOOLS)
    assert key(ASK) is None
    assert mark([ASK], "openai", key="tenant-7").params == {"prompt_cache_key": "tenant-7"}


@pytest.mark.parametrize(
    ("model", "expected"),
    [("gpt-4o-mini", []), ("gpt-5.5", []), ("gpt-5.6-mini", ["0.0"]), ("gpt-6", ["0.0"])],
)
def test_openais_models_from_gpt_5_6_on_get_a_breakpoint(model: str, expected: list[str]) -> None:
    assert breakpoints(mark([SYSTEM, *conversation(2)], "openai", model=model)) == expected


def test_openais_sdk_sends_key_retention_and_breakpoint() -> None:
    openai = pytest.importorskip("openai")
    sent: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(json.loads(request.content))
        message = {"role": "assistant", "content": "Four weeks."}
        usage = {
            "prompt_tokens": 1800,
            "completion_tokens": 3,
            "total_tokens": 1803,
            "prompt_tokens_details": {"cached_tokens": 1664},
        }
        choices = [{"index": 0, "finish_reason": "stop", "message": message}]
        return httpx.Response(
            200,
            json={
                "id": "c",
                "object": "chat.completion",
                "created": 1,
                "model": "gpt-5.6",
                "choices": choices,
                "usage": usage,
            },
        )

    with httpx.Client(transport=httpx.MockTransport(answer)) as http:
        client = openai.OpenAI(api_key="none", http_client=http)
        marked = mark([SYSTEM, ASK], "openai", model="gpt-5.6", ttl="24h")
        reply = client.chat.completions.create(model="gpt-5.6", **marked.body())
    assert sent[0]["prompt_cache_key"] == marked.params["prompt_cache_key"]
    assert sent[0]["prompt_cache_retention"] == "24h"
    assert sent[0]["messages"] == [
        {
            "role": "system",
            "content": [text(HANDBOOK, prompt_cache_breakpoint={"mode": "explicit"})],
        },
        ASK,
    ]
    assert cached_tokens(reply) == CachedTokens(1664, 0)


# ------------------------------------------------------------------------- bedrock and gemini


def test_bedrocks_cache_points_stand_after_what_they_keep() -> None:
    marked = mark(
        [{"role": "system", "content": [TODAY, text(HANDBOOK)]}, *conversation(1)],
        "bedrock",
        model="us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        tools=[{"toolSpec": {"name": "loans", "description": HANDBOOK}}],
        ttl="1h",
    )
    point, hour = {"cachePoint": {"type": "default"}}, {"type": "default", "ttl": "1h"}
    body = marked.body()
    assert body["system"] == [
        {"text": HANDBOOK},
        {"cachePoint": hour},
        {"text": "Today is Monday."},
    ]
    assert body["toolConfig"]["tools"][1:] == [{"cachePoint": hour}]
    assert body["messages"][-1] == {"role": "user", "content": [{"text": ASK["content"]}, point]}
    assert marked.breakpoints == 4


def test_bedrock_marks_no_tools_for_nova_and_nothing_for_models_that_refuse_it() -> None:
    tools = [{"toolSpec": {"name": "loans", "description": HANDBOOK}}]
    nova = mark([SYSTEM, ASK], "bedrock", model="amazon.nova-pro-v1:0", tools=tools, ttl="1h")
    assert breakpoints(nova) == ["0.1"]
    assert nova.messages[0]["content"][1] == {"cachePoint": {"type": "default"}}
    assert mark([SYSTEM, ASK], "bedrock", model="meta.llama3-70b-instruct-v1:0").breakpoints == 0


def test_gemini_gets_the_name_of_what_it_keeps_and_no_system_prompt_beside_it() -> None:
    marked = mark([SYSTEM, *conversation(1)], "gemini", cached_content="cachedContents/abc")
    assert marked.params == {"cached_content": "cachedContents/abc"}
    body = marked.body()
    assert body["config"] == {"cached_content": "cachedContents/abc"}
    assert [content["role"] for content in body["contents"]] == ["user", "model", "user"]
    assert body["contents"][-1]["parts"] == [{"text": ASK["content"]}]


def test_gemini_without_a_name_gets_its_system_instruction() -> None:
    body = mark([SYSTEM, ASK], "gemini").body()
    assert body["config"] == {"system_instruction": [{"text": HANDBOOK}]}


def test_what_gemini_would_refuse_is_refused() -> None:
    name = "cachedContents/abc"
    with pytest.raises(ValueError, match="dynamic parts into the user's message"):
        mark(
            [{"role": "system", "content": [text("A"), TODAY]}, ASK], "gemini", cached_content=name
        )
    with pytest.raises(ValueError, match="no tools beside"):
        mark([ASK], "gemini", cached_content=name, tools=TOOLS)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"provider": "antropic"}, "provider must be one of"),
        ({"provider": "anthropic", "ttl": "24h"}, "must be '5m' or '1h'"),
        ({"provider": "gemini", "ttl": "1h"}, "must be None"),
        ({"provider": "openai", "cached_content": "x"}, "cached_content is of gemini"),
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        mark([ASK], **options)


def test_messages_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match='mapping with a "role"'):
        mark([{"content": "Hi"}], "anthropic")


# ---------------------------------------------------------------------------------- token counts


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"cache_read_input_tokens": 5, "cache_creation_input_tokens": 7}, (5, 7)),
        ({"prompt_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 7}}, (5, 7)),
        ({"input_tokens_details": {"cached_tokens": 5}}, (5, 0)),
        ({"usageMetadata": {"cachedContentTokenCount": 5}}, (5, 0)),
        ({"cached_content_token_count": 5}, (5, 0)),
        ({"usage": {"cacheReadInputTokens": 5, "cacheWriteInputTokens": 7}}, (5, 7)),
        ({"prompt_cache_hit_tokens": 5, "prompt_cache_miss_tokens": 9}, (5, 0)),
        ({"input_token_details": {"cache_read": 5, "cache_creation": 7}}, (5, 7)),
        (
            {
                "input_token_details": {
                    "cache_read": 5,
                    "cache_creation": 0,
                    "ephemeral_5m_input_tokens": 3,
                    "ephemeral_1h_input_tokens": 4,
                }
            },
            (5, 7),
        ),
        ({"input_tokens": 5}, (0, 0)),
        ({"cached_tokens": None}, (0, 0)),
        (None, (0, 0)),
    ],
    ids=str,
)
def test_every_providers_own_counts_are_read(usage: Any, expected: tuple[int, int]) -> None:
    assert cached_tokens(usage) == CachedTokens(*expected)
