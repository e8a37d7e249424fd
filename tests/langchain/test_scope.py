"""Which requests share an answer, and which never do: blocking and awaited."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.outputs import ChatGeneration, Generation

from langchain_tiered_cache import TieredCache, parse
from shared_core import Request
from tests.fakes import fake_embed
from tests.langchain.chat_models import openai_string, prompt_of
from tests.soak import SCOPE_MUTATIONS

Asked = tuple[str, str]
DATA = Path(__file__).parents[1] / "data"
QUESTION = "Where is the button?"
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
TOOL_B = {"type": "function", "function": {"name": "f", "parameters": {"type": "string"}}}


def asked(*messages: BaseMessage, call: str = "[('stop', None)]", **model: Any) -> Asked:
    return prompt_of(*messages), openai_string(call, **model)


def with_image(url: str) -> HumanMessage:
    picture = {"type": "image_url", "image_url": {"url": url}}
    return HumanMessage([{"type": "text", "text": QUESTION}, picture])


def tool_turn(first: str, second: str, answered: str, **changes: Any) -> list[BaseMessage]:
    calls = [{"name": "f", "args": {"x": n}, "id": id} for n, id in enumerate((first, second))]
    return [
        HumanMessage("Compare."),
        AIMessage("", tool_calls=calls, **changes),
        ToolMessage("one", tool_call_id=answered),
        AIMessage("Done."),
        HumanMessage(QUESTION),
    ]


BASE = asked(HumanMessage(QUESTION))
SYSTEM = asked(SystemMessage("Be brief."), HumanMessage(QUESTION))
CHAT = [HumanMessage("Hi"), AIMessage("Hello"), HumanMessage(QUESTION)]

NEVER_SHARED: dict[str, tuple[Asked, Asked]] = {
    "provider": (BASE, (BASE[0], BASE[1].replace('"openai", "ChatOpenAI"', '"x", "ChatX"'))),
    "base URL": (BASE, asked(HumanMessage(QUESTION), openai_api_base="http://localhost")),
    "model": (BASE, asked(HumanMessage(QUESTION), model_name="gpt-5")),
    "temperature": (BASE, asked(HumanMessage(QUESTION), temperature=0.5)),
    "temperature of the call": (
        BASE,
        asked(HumanMessage(QUESTION), call="[('stop', None), ('temperature', 0.9)]"),
    ),
    "top_p": (BASE, asked(HumanMessage(QUESTION), top_p=0.5)),
    "seed": (BASE, asked(HumanMessage(QUESTION), seed=1)),
    "stop": (BASE, asked(HumanMessage(QUESTION), call="[('stop', ['x'])]")),
    "max_tokens": (BASE, asked(HumanMessage(QUESTION), max_tokens=9)),
    "n": (BASE, asked(HumanMessage(QUESTION), n=2)),
    "unknown parameter": (BASE, asked(HumanMessage(QUESTION), model_kwargs={"user": "u"})),
    "system prompt": (SYSTEM, asked(SystemMessage("Be long."), HumanMessage(QUESTION))),
    "no system prompt": (SYSTEM, BASE),
    "developer role": (
        SYSTEM,
        asked(
            SystemMessage("Be brief.", additional_kwargs={"__openai_role__": "developer"}),
            HumanMessage(QUESTION),
        ),
    ),
    "history": (asked(*CHAT), asked(CHAT[0], AIMessage("Good day"), CHAT[2])),
    "history at all": (asked(*CHAT), BASE),
    "who said it": (asked(*CHAT), asked(AIMessage("Hi"), HumanMessage("Hello"), CHAT[2])),
    "name of the user": (BASE, asked(HumanMessage(QUESTION, name="bob"))),
    "role given": (
        asked(ChatMessage("a", role="critic"), HumanMessage(QUESTION)),
        asked(ChatMessage("a", role="poet"), HumanMessage(QUESTION)),
    ),
    "function result": (
        asked(FunctionMessage("a", name="f"), HumanMessage(QUESTION)),
        asked(FunctionMessage("a", name="g"), HumanMessage(QUESTION)),
    ),
    "tools": (BASE, asked(HumanMessage(QUESTION), call=f"[('stop', None), ('tools', {[TOOL]})]")),
    "tools of one name": (
        asked(HumanMessage(QUESTION), call=f"[('stop', None), ('tools', {[TOOL]})]"),
        asked(HumanMessage(QUESTION), call=f"[('stop', None), ('tools', {[TOOL_B]})]"),
    ),
    "tool_choice": (
        BASE,
        asked(HumanMessage(QUESTION), call="[('stop', None), ('tool_choice', 'required')]"),
    ),
    "response schema": (
        asked(HumanMessage(QUESTION), call="[('response_format', {'type': 'a'}), ('stop', None)]"),
        asked(HumanMessage(QUESTION), call="[('response_format', {'type': 'b'}), ('stop', None)]"),
    ),
    "image": (asked(with_image("data:a")), asked(with_image("data:b"))),
    "image at all": (asked(with_image("data:a")), BASE),
    "image in the history": (
        asked(with_image("data:a"), AIMessage("a"), HumanMessage(QUESTION)),
        asked(with_image("data:b"), AIMessage("a"), HumanMessage(QUESTION)),
    ),
    "which result answers which call": (
        asked(*tool_turn("call_a", "call_b", "call_a")),
        asked(*tool_turn("call_a", "call_b", "call_b")),
    ),
    "failed tool": (
        asked(HumanMessage("a"), ToolMessage("r", tool_call_id="c"), HumanMessage(QUESTION)),
        asked(
            HumanMessage("a"),
            ToolMessage("r", tool_call_id="c", status="error"),
            HumanMessage(QUESTION),
        ),
    ),
    "raw text and chat": (BASE, (QUESTION, BASE[1])),
    "raw text that holds the chat": (("As JSON: " + BASE[0], BASE[1]), BASE),
    "two text parts": (
        asked(HumanMessage(["a b", "c"])),
        asked(HumanMessage(["a", "b c"])),
    ),
}

SHARED: dict[str, tuple[Asked, Asked]] = {
    "message ids": (
        (BASE[0], BASE[1]),
        (BASE[0].replace('"type": "human"', '"type": "human", "id": "x"'), BASE[1]),
    ),
    "usage and metadata of earlier turns": (
        asked(*CHAT),
        asked(
            CHAT[0],
            AIMessage(
                "Hello",
                usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
                response_metadata={"id": "chatcmpl-1", "system_fingerprint": "fp"},
                additional_kwargs={"refusal": None},
            ),
            CHAT[2],
        ),
    ),
    "the mark of an earlier hit": (
        asked(*CHAT),
        asked(
            CHAT[0],
            AIMessage("Hello", response_metadata={"tiered_cache": {"hit": True, "age": 1.5}}),
            CHAT[2],
        ),
    ),
    "cost of an earlier hit": (
        asked(*CHAT),
        asked(
            CHAT[0],
            AIMessage("Hello").model_copy(update={"usage_metadata": {"total_cost": 0}}),
            CHAT[2],
        ),
    ),
    "tool-call ids": (
        asked(*tool_turn("call_a", "call_b", "call_a")),
        asked(*tool_turn("call_y", "call_x", "call_y")),
    ),
    "tool calls said twice": (
        asked(*tool_turn("call_a", "call_b", "call_a")),
        asked(
            *tool_turn(
                "call_y",
                "call_x",
                "call_y",
                additional_kwargs={"tool_calls": [{"id": "call_y", "function": {"name": "f"}}]},
            )
        ),
    ),
    "artifact of a tool": (
        asked(HumanMessage("a"), ToolMessage("r", tool_call_id="c"), HumanMessage(QUESTION)),
        asked(
            HumanMessage("a"),
            ToolMessage("r", tool_call_id="c", artifact={"x": object()}),
            HumanMessage(QUESTION),
        ),
    ),
    "dict order": (
        asked(HumanMessage(QUESTION), call=f"[('stop', None), ('tools', {[TOOL]})]"),
        asked(
            HumanMessage(QUESTION),
            call=f"[('stop', None), ('tools', {[dict(reversed(TOOL.items()))]})]",
        ),
    ),
    "text as a part": (BASE, asked(HumanMessage([{"type": "text", "text": QUESTION}]))),
    "transport": (BASE, asked(HumanMessage(QUESTION), max_retries=5, request_timeout=1.0)),
    "nothing set": (BASE, asked(HumanMessage(QUESTION), top_p=None)),
}


class Driver:
    """Calls the cache in its blocking or its awaited form."""

    def __init__(self, cache: TieredCache, awaited: bool) -> None:
        self.cache, self._awaited = cache, awaited

    def lookup(self, asked: Asked) -> list[Generation] | None:
        if self._awaited:
            return asyncio.run(self.cache.alookup(*asked))
        return self.cache.lookup(*asked)

    def update(self, asked: Asked, text: str = "stored") -> None:
        generations = [ChatGeneration(message=AIMessage(text))]
        if self._awaited:
            asyncio.run(self.cache.aupdate(*asked, generations))
        else:
            self.cache.update(*asked, generations)


@pytest.fixture(params=["blocking", "awaited"])
def driver(request: pytest.FixtureRequest) -> Iterator[Driver]:
    # The lowest threshold and no guard: only the scope stands between two requests.
    cache = TieredCache(embedder=fake_embed, threshold=0.0, guard=False)
    yield Driver(cache, request.param == "awaited")
    assert not cache.errors
    cache.close()


@pytest.mark.parametrize("what", NEVER_SHARED)
def test_never_shared(driver: Driver, what: str) -> None:
    for one, other in (NEVER_SHARED[what], reversed(NEVER_SHARED[what])):
        driver.cache.clear()
        driver.update(one)
        assert driver.lookup(one) is not None
        assert driver.lookup(other) is None


@pytest.mark.parametrize("what", SHARED)
def test_always_shared(driver: Driver, what: str) -> None:
    one, other = SHARED[what]
    driver.update(one)
    (generation,) = driver.lookup(other) or []
    assert generation.message.response_metadata["tiered_cache"]["tier"] == "exact"  # type: ignore[attr-defined]


def test_another_namespace_never_shares(driver: Driver) -> None:
    driver.update(BASE)
    with driver.cache.cache.control(namespace="other"):
        assert driver.lookup(BASE) is None
    assert driver.lookup(BASE) is not None


def reason(prompt: str, llm_string: str = BASE[1], **options: Any) -> str | None:
    return parse(prompt, llm_string, **options).exact_only


def test_the_last_user_text_alone_is_the_question() -> None:
    request = parse(*asked(SystemMessage("Be brief."), *CHAT))
    assert (request.question, request.exact_only) == (QUESTION, None)
    assert "Be brief." in request.scope
    assert QUESTION not in request.scope


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (prompt_of(HumanMessage("a"), AIMessage("b")), "not_user_text"),
        (prompt_of(ToolMessage("a", tool_call_id="b")), "agent_turn"),
        (prompt_of(), "not_user_text"),
        (prompt_of(HumanMessage("  ")), "not_user_text"),
        (prompt_of(with_image("data:a")), "multimodal"),
        (prompt_of(HumanMessage("Read this.\n\nSome text.")), "template"),
        (prompt_of(HumanMessage("Context: a\nQuestion: b")), "template"),
        (prompt_of(HumanMessage("Query: b, context: a")), "template"),
        (prompt_of(HumanMessage("<documents>a</documents> b")), "template"),
        (prompt_of(HumanMessage(["a", "b"])), "template"),
        (prompt_of(HumanMessage("My question: why?")), None),
        (prompt_of(HumanMessage("Two lines\nof text\n\n")), None),
        ("What is it?", None),
        ("System: a\nHuman: b", "template"),
        ('{"a": 1}', "opaque"),
        ("[1, 2]", "opaque"),
        ('[{"lc": 1, broken', "opaque"),
        ("[INST] a [/INST]", None),
    ],
)
def test_why_a_prompt_is_matched_only_exactly(prompt: str, expected: str | None) -> None:
    assert reason(prompt) == expected


def test_a_temperature_above_zero_is_matched_only_exactly() -> None:
    assert reason(BASE[0], openai_string(temperature=0.7)) == "temperature"


def test_an_unknown_temperature_may_be_matched_by_meaning() -> None:
    assert reason(BASE[0], openai_string(temperature=None)) is None


def test_objects_in_a_message_that_have_no_identity_are_not_cached() -> None:
    thing = HumanMessage(QUESTION, additional_kwargs={"x": object()})
    assert parse(*asked(thing)).uncacheable == "unstable"
    data = HumanMessage(QUESTION, additional_kwargs={"x": b"bytes"})
    assert parse(*asked(data)).uncacheable is None


# ------------------------------------------------------------------------ question=


def last_line(text: str) -> str:
    return text.rsplit("\n", 1)[-1]


def test_an_extractor_says_the_question_and_the_rest_stays_in_the_scope() -> None:
    one = parse(*asked(HumanMessage("Text A.\n\nWhy?")), last_line)
    other = parse(*asked(HumanMessage("Text B.\n\nWhy?")), last_line)
    assert (one.question, one.exact_only) == ("Why?", None)
    assert one.scope != other.scope
    assert "Text A." in one.scope


def test_an_extractor_that_returns_the_whole_text_changes_nothing() -> None:
    assert parse(*BASE, lambda text: text) == parse(*BASE)


def test_an_extractor_may_say_what_stands_in_the_scope() -> None:
    one = parse(*asked(HumanMessage("Text A.\n\nWhy?")), lambda text: ("Why?", {"index": 7}))
    other = parse(*asked(HumanMessage("Text B.\n\nWhy?")), lambda text: ("Why?", {"index": 7}))
    assert one == other


def test_an_extractor_that_returns_none_leaves_the_text_to_exact_matches() -> None:
    request = parse(*BASE, lambda text: None)
    assert (request.question, request.exact_only) == (QUESTION, "template")


def test_a_question_that_is_no_part_of_the_text_leaves_all_of_it_in_the_scope() -> None:
    request = parse(*BASE, lambda text: "Something else")
    assert QUESTION in request.scope


def test_an_extractor_is_not_asked_about_images() -> None:
    request = parse(*asked(with_image("data:a")), last_line)
    assert request.exact_only == "multimodal"


# ------------------------------------------------------------------------ any input


@settings(max_examples=200, deadline=None)
@given(st.text(), st.text())
@example("[" * 100_000, "{" * 100_000)
@example('[{"lc": 1, "type": "constructor", "kwargs": 5}]', '{"id": 3, "kwargs": {}}---[]')
@example('[{"lc": 1, "type": "constructor", "kwargs": {"type": "ai"}}]', "[(1, 2), [3]]")
@example("\ud800", "[('a', {1, 2})]")
@example(
    '[{"lc":1,"type":"constructor","kwargs":{"type":"human","content":NaN}}]', "[('a', 1e999)]"
)
@example(BASE[0], "[('temperature', 'hot')]")
def test_any_two_strings_are_a_request(prompt: str, llm_string: str) -> None:
    request = parse(prompt, llm_string)
    assert request.address("default").key == parse(prompt, llm_string).address("default").key


plain = st.text(alphabet="ab \n", max_size=3)
MUTATIONS: list[tuple[str, st.SearchStrategy[Any]]] = [
    ("system", plain),
    ("earlier", st.lists(st.tuples(st.sampled_from(["human", "ai"]), plain), max_size=2)),
    ("image", st.sampled_from(["", "data:a", "data:b"])),
    ("model", st.sampled_from(["a", "b", "a b"])),
    ("top_p", st.sampled_from([None, 0.1, 0.5])),
    ("seed", st.sampled_from([None, 1, 2])),
    ("stop", st.lists(plain.filter(bool), max_size=2)),
    ("tools", st.lists(st.sampled_from(["f", "g"]), max_size=2, unique=True)),
    ("max_tokens", st.sampled_from([None, 1, 2])),
]
scopes = st.fixed_dictionaries(dict(MUTATIONS))


def spelt(scope: dict[str, Any]) -> Asked:
    earlier = [HumanMessage(t) if role == "human" else AIMessage(t) for role, t in scope["earlier"]]
    last = with_image(scope["image"]) if scope["image"] else HumanMessage(QUESTION)
    call = {"stop": scope["stop"] or None}
    if scope["tools"]:
        call["tools"] = [{"name": name} for name in scope["tools"]]
    fields = {name: scope[name] for name in ("top_p", "seed", "max_tokens")}
    llm_string = openai_string(str(sorted(call.items())), model_name=scope["model"], **fields)
    return prompt_of(SystemMessage(scope["system"]), *earlier, last), llm_string


@settings(max_examples=SCOPE_MUTATIONS, deadline=None)
@given(scopes, scopes)
def test_two_scopes_share_an_answer_only_if_they_are_equal(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    first, second = (parse(*spelt(scope)).address("default") for scope in (one, other))
    assert (first.scope == second.scope) == (one == other)
    assert (first.key == second.key) == (one == other)


@pytest.mark.slow
def test_random_scopes_have_as_many_digests() -> None:
    rng = random.Random(7)
    texts = ["", "a", "b", "a b", "a\nb", "1", "null", '"a"', "user", "[]"]
    choices = (texts, ["", "data:a", "data:b"], ["a", "b"], [None, 0.1, 0.5], [None, 1, 2])
    found: dict[str, str] = {}
    for _ in range(20 * SCOPE_MUTATIONS):
        system, image, model, top_p, seed = map(rng.choice, choices)
        scope = {
            "system": system,
            "earlier": [
                (rng.choice(["human", "ai"]), rng.choice(texts)) for _ in range(rng.randrange(3))
            ],
            "image": image,
            "model": model,
            "top_p": top_p,
            "seed": seed,
            "stop": rng.sample(texts[1:], rng.randrange(3)),
            "tools": rng.sample(["f", "g"], rng.randrange(3)),
            "max_tokens": rng.choice([None, 1, 2]),
        }
        digest = parse(*spelt(scope)).address("default").scope
        assert found.setdefault(digest, repr(scope)) == repr(scope)


@pytest.mark.slow
@settings(max_examples=SCOPE_MUTATIONS, deadline=None)
@given(scopes, st.data())
def test_one_mutation_of_a_scope_is_enough(scope: dict[str, Any], data: st.DataObject) -> None:
    name, values = data.draw(st.sampled_from(MUTATIONS))
    mutated = {**scope, name: data.draw(values.filter(lambda value: value != scope[name]))}
    assert parse(*spelt(scope)).address("n").scope != parse(*spelt(mutated)).address("n").scope


# ----------------------------------------------------------------------------- golden

GOLDEN = json.loads((DATA / "golden_keys.json").read_text())


@pytest.mark.parametrize("golden", GOLDEN, ids=[golden["name"] for golden in GOLDEN])
def test_keys_are_frozen(golden: dict[str, Any]) -> None:
    request = parse(golden["prompt"], golden["llm_string"])
    assert request.address("default").key == golden["key"]


@pytest.mark.parametrize("golden", GOLDEN, ids=[golden["name"] for golden in GOLDEN])
def test_a_request_built_by_hand_has_the_same_key(golden: dict[str, Any]) -> None:
    by_hand: Callable[..., Request] = Request.of
    assert by_hand(**golden["request"]).address("default").key == golden["key"]
