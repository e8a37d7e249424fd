"""What goes wrong with other LangChain caches, each mended and named after itself.

Every case runs through a model's own ``invoke`` and ``ainvoke``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.language_models import FakeListLLM
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.outputs import Generation
from pydantic import BaseModel, Field

from langchain_tiered_cache import TieredCache
from tests.fakes import fake_embed
from tests.langchain.chat_models import Chat, openai_string, prompt_of

Ask = Callable[..., AIMessage]


@pytest.fixture(params=["invoke", "ainvoke"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Ask a model (or one with parameters bound to it) in either form."""
    if request.param == "invoke":
        return lambda model, *args, **kwargs: model.invoke(*args, **kwargs)
    return lambda model, *args, **kwargs: asyncio.run(model.ainvoke(*args, **kwargs))


@pytest.fixture
def cache() -> Iterator[TieredCache]:
    tiered = TieredCache(embedder=fake_embed, threshold=0.9)
    yield tiered
    assert not tiered.errors
    tiered.close()


def mark(message: BaseMessage) -> dict[str, Any]:
    found: dict[str, Any] = message.response_metadata["tiered_cache"]
    return found


def with_usage(messages: list[BaseMessage]) -> AIMessage:
    return AIMessage(
        f"Answer to {messages[-1].text}",
        usage_metadata={"input_tokens": 5, "output_tokens": 2, "total_tokens": 7},
        response_metadata={"model_name": "tester", "finish_reason": "stop", "id": "resp_1"},
    )


# ---------------------------------------------------------------- ids and conversations


def add_by_id(state: list[BaseMessage], message: BaseMessage, fresh: str) -> list[BaseMessage]:
    """Add a message as LangGraph's state does: one of a known id replaces, one of none gets one."""
    if message.id is None:
        message = message.model_copy(update={"id": fresh})
    if any(old.id == message.id for old in state):
        return [message if old.id == message.id else old for old in state]
    return [*state, message]


def thread_of(model: Chat, ask: Ask) -> list[BaseMessage]:
    state: list[BaseMessage] = []
    for turn, text in enumerate(["hi", "other", "hi"]):
        state = add_by_id(state, HumanMessage(text), f"human-{turn}")
        state = add_by_id(state, ask(model, [state[-1]]), f"ai-{turn}")
    return state


def test_message_ids_do_not_overwrite_a_graph_state(ask: Ask, cache: TieredCache) -> None:
    state = thread_of(Chat(cache=cache), ask)
    assert [message.type for message in state] == ["human", "ai"] * 3


def test_the_rule_of_adding_by_id_does_lose_messages_with_another_cache(ask: Ask) -> None:
    assert len(thread_of(Chat(cache=InMemoryCache()), ask)) == 5


def test_each_serving_has_a_message_id_of_its_own(ask: Ask, cache: TieredCache) -> None:
    model = Chat(cache=cache)
    ids = [ask(model, "hi").id for _ in range(4)]
    assert model.calls == 1
    assert None not in ids
    assert len(set(ids)) == 4


@pytest.mark.parametrize("inside", ["options", "generation_config", "inferenceConfig"])
def test_a_temperature_inside_of_other_settings_is_not_overlooked(
    inside: str, ask: Ask, cache: TieredCache
) -> None:
    model = Chat(cache=cache, settings={"temperature": None, inside: {"temperature": 0.9}})
    ask(model, "How do I close my account?")
    ask(model, "how do I close my account")
    assert model.calls == 2
    cold = Chat(cache=cache, settings={"temperature": None, inside: {"temperature": 0.0}})
    ask(cold, "How do I close my account?")
    ask(cold, "how do I close my account")
    assert cold.calls == 1


def test_a_cache_can_stand_before_another(ask: Ask, cache: TieredCache) -> None:
    prompt, llm_string = prompt_of(HumanMessage("hi")), "[('_type', 'chat-of-tests')]"
    ask(Chat(cache=cache), "hi")
    served = cache.lookup(prompt_of(HumanMessage("hi")), Chat()._get_llm_string())
    assert served is not None
    outer = TieredCache(semantic=False)
    outer.update(prompt, llm_string, served)
    again = outer.lookup(prompt, llm_string)
    assert again is not None
    assert again[0].text == served[0].text
    assert outer.errors == {}


def test_keys_do_not_break_after_a_hit(ask: Ask, cache: TieredCache) -> None:
    model = Chat(cache=cache, reply=with_usage)
    calls = []
    for _ in range(3):
        before = model.calls
        first = ask(model, [HumanMessage("hi")])
        ask(model, [HumanMessage("hi"), first, HumanMessage("and then?")])
        calls.append(model.calls - before)
    assert calls == [2, 0, 0]


def test_keys_do_not_depend_on_the_provider_s_ids(ask: Ask, cache: TieredCache) -> None:
    model = Chat(cache=cache)
    turns = [
        [
            HumanMessage("Rome?"),
            AIMessage(
                "",
                id=f"run-{n}",
                tool_calls=[{"name": "weather", "args": {}, "id": f"call_{n}"}],
                response_metadata={"id": f"chatcmpl-{n}"},
            ),
            ToolMessage("31 C", tool_call_id=f"call_{n}"),
        ]
        for n in (1, 2)
    ]
    assert [ask(model, turn) for turn in turns]
    assert model.calls == 1


def test_provider_response_ids_do_not_leak_into_another_conversation(
    ask: Ask, cache: TieredCache
) -> None:
    model = Chat(cache=cache, reply=with_usage)
    assert ask(model, "hi").response_metadata["id"] == "resp_1"
    assert "id" not in ask(model, "hi").response_metadata


# --------------------------------------------------------------------- structured output


def schema_class(**fields: Any) -> type[BaseModel]:
    return type("Out", (BaseModel,), {"__annotations__": fields, "__module__": "m"})


def test_same_named_schemas_never_share_an_answer(ask: Ask, cache: TieredCache) -> None:
    model = Chat(cache=cache)
    number, text = schema_class(x=int), schema_class(y=str)
    assert repr(number) == repr(text)
    for schema, calls in [(number, 1), (text, 2), (number, 2), (text, 2)]:
        ask(model.bind(response_format=schema), "Who?")
        assert model.calls == calls


def test_a_schema_that_gained_a_field_asks_the_model_anew(ask: Ask, cache: TieredCache) -> None:
    model = Chat(cache=cache)
    ask(model.bind(response_format=schema_class(x=int)), "Who?")
    ask(model.bind(response_format=schema_class(x=int, y=int)), "Who?")
    assert model.calls == 2


def test_an_equal_schema_defined_anew_shares_an_answer(ask: Ask, cache: TieredCache) -> None:
    model = Chat(cache=cache)
    for _ in range(2):
        ask(model.bind(response_format=schema_class(x=int)), "Who?")
    assert model.calls == 1


def test_a_class_seen_in_an_earlier_call_is_not_mistaken_for_this_one(cache: TieredCache) -> None:
    Chat(cache=cache).bind(response_format=schema_class(x=int)).invoke("Who?")
    string = openai_string("[('response_format', <class 'm.Out'>), ('stop', None)]")
    cache.update(prompt_of(HumanMessage("Who?")), string, [Generation(text="a")])
    assert cache.lookup(prompt_of(HumanMessage("Who?")), string) is None


def test_a_model_called_inside_another_leaves_the_outer_schema_alone(
    ask: Ask, cache: TieredCache
) -> None:
    inner, schema, other = Chat(), schema_class(x=int), schema_class(y=int)

    def reply(messages: list[BaseMessage]) -> AIMessage:
        return AIMessage("of " + inner.bind(response_format=other).invoke("inner").text)

    outer = Chat(cache=cache, reply=reply)
    for _ in range(2):
        ask(outer.bind(response_format=schema), "Who?")
    assert outer.calls == 1
    ask(outer.bind(response_format=other), "Who?")
    assert outer.calls == 2


# ------------------------------------------------------------------------ parameters


class Anonymous(Chat):
    """A model that does not identify itself: only its attributes tell two of them apart."""

    model_name: str = "a"
    temperature: float = 0.0

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {}


def test_models_that_do_not_identify_themselves_never_share_an_answer(
    ask: Ask, cache: TieredCache
) -> None:
    models = [
        Anonymous(cache=cache),
        Anonymous(cache=cache, model_name="b"),
        Anonymous(cache=cache, temperature=0.5),
    ]
    for model in models * 2:
        ask(model, "hi")
    assert [model.calls for model in models] == [1, 1, 1]


class ChatOllama(Chat):
    """As silent as the real one: its string says ``chat-ollama`` and nothing else."""

    model: str = "llama3.2"
    num_ctx: int | None = None
    client: Any = Field(default_factory=object)

    @property
    def _llm_type(self) -> str:
        return "chat-ollama"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {}


def test_ollama_models_never_share_an_answer(ask: Ask, cache: TieredCache) -> None:
    models = [
        ChatOllama(cache=cache, settings={}, reply=lambda messages: AIMessage("a")),
        ChatOllama(cache=cache, model="mistral", reply=lambda messages: AIMessage("b")),
        ChatOllama(cache=cache, num_ctx=99, reply=lambda messages: AIMessage("c")),
    ]
    assert {model._get_llm_string() for model in models} == {
        "[('_type', 'chat-ollama'), ('stop', None)]"
    }
    for model in models * 2:
        ask(model, "hi")
    assert [ask(model, "hi").text for model in models] == ["a", "b", "c"]


def test_an_object_in_the_parameters_is_never_cached(ask: Ask, cache: TieredCache) -> None:
    model = Chat(cache=cache)
    for _ in range(2):
        assert mark(ask(model.bind(foo=object()), "hi")) == {
            "hit": False,
            "entry_id": None,
            "reason": "unstable",
        }
    assert model.calls == 2


def test_an_unknown_temperature_may_be_matched_by_meaning(ask: Ask, cache: TieredCache) -> None:
    model = Chat(cache=cache, settings={"temperature": None})
    ask(model, "Where is the button?")
    assert mark(ask(model, "where is the button"))["tier"] == "semantic"


def test_a_known_temperature_above_zero_is_not_matched_by_meaning(
    ask: Ask, cache: TieredCache
) -> None:
    model = Chat(cache=cache, settings={"temperature": 0.7})
    ask(model, "Where is the button?")
    assert mark(ask(model, "where is the button"))["hit"] is False
    assert mark(ask(model, "where is the button"))["tier"] == "exact"


# --------------------------------------------------------------------------- matching


def test_unrelated_questions_behind_one_long_system_prompt_are_not_answered(ask: Ask) -> None:
    cache = TieredCache(embedder=fake_embed, threshold=0.5)
    model = Chat(cache=cache)
    system = SystemMessage("You are a careful assistant who answers briefly. " * 60)
    questions = ["Capital of France?", "Who wrote Hamlet?", "Tell one joke", "Is tea hot?"]
    for question in questions:
        assert ask(model, [system, HumanMessage(question)]).text == f"You said: {question}"
    assert model.calls == len(questions)


def test_a_tool_message_last_is_matched_only_exactly(ask: Ask, cache: TieredCache) -> None:
    model = Chat(cache=cache)

    def steps(result: str) -> list[BaseMessage]:
        call = {"name": "weather", "args": {}, "id": "call_1"}
        asked = HumanMessage("How warm is it?")
        return [asked, AIMessage("", tool_calls=[call]), ToolMessage(result, tool_call_id="call_1")]

    ask(model, steps("It is 31 degrees"))
    assert mark(ask(model, steps("it is 31 degrees")))["hit"] is False
    assert mark(ask(model, steps("It is 31 degrees")))["tier"] == "exact"


def test_multimodal_parts_are_in_the_scope(ask: Ask, cache: TieredCache) -> None:
    model = Chat(cache=cache)

    def look(text: str, image: str) -> list[BaseMessage]:
        picture = {"type": "image", "base64": image, "mime_type": "image/png"}
        return [HumanMessage([{"type": "text", "text": text}, picture])]

    ask(model, look("What is this?", "aGk="))
    assert mark(ask(model, look("What is this?", "aGs=")))["hit"] is False
    assert mark(ask(model, look("what is this", "aGk=")))["hit"] is False
    assert mark(ask(model, look("What is this?", "aGk=")))["tier"] == "exact"


def test_tool_calls_are_served_only_to_the_very_same_question(ask: Ask, cache: TieredCache) -> None:
    call = {"name": "weather", "args": {"city": "Rome"}, "id": "call_1"}
    model = Chat(cache=cache, reply=lambda messages: AIMessage("", tool_calls=[call]))
    ask(model, "Is it warm in Rome?")
    assert mark(ask(model, "is it warm in Rome"))["hit"] is False
    assert ask(model, "Is it warm in Rome?").tool_calls[0]["args"] == {"city": "Rome"}


# -------------------------------------------------------------------- what a hit gives


def test_lookup_returns_a_list(cache: TieredCache) -> None:
    cache.update("hi", "llm", (Generation(text="a"),))
    assert type(cache.lookup("hi", "llm")) is list
    assert type(asyncio.run(cache.alookup("hi", "llm"))) is list


def test_aliasing_changes_to_a_returned_message_reach_nobody(ask: Ask, cache: TieredCache) -> None:
    model = Chat(cache=cache, reply=with_usage)
    for _ in range(3):
        answer = ask(model, "hi")
        assert answer.text == "Answer to hi"
        answer.content = "POLLUTED"
        answer.response_metadata["finish_reason"] = "POLLUTED"
    assert ask(model, "hi").response_metadata["finish_reason"] == "stop"


def test_a_hit_says_so_and_has_the_usage_at_no_cost(ask: Ask, cache: TieredCache) -> None:
    model = Chat(cache=cache, reply=with_usage)
    fresh = ask(model, "hi")
    hit = ask(model, "hi")
    assert fresh.usage_metadata is not None
    assert mark(fresh) == {"hit": False, "entry_id": mark(hit)["entry_id"], "reason": "new_scope"}
    assert hit.usage_metadata == {**fresh.usage_metadata, "total_cost": 0}
    found = mark(hit)
    assert found.pop("age") >= 0
    assert found == {
        "hit": True,
        "tier": "exact",
        "similarity": 1.0,
        "entry_id": mark(fresh)["entry_id"],
        "usage": fresh.usage_metadata,
    }


def test_a_hit_s_message_can_be_validated_again(ask: Ask, cache: TieredCache) -> None:
    model = Chat(cache=cache)
    ask(model, "hi")
    hit = ask(model, "hi")
    assert AIMessage(**hit.model_dump()) == hit
    assert type(hit) is AIMessage


def test_tokens_of_a_hit_are_not_counted_twice_on_demand(ask: Ask) -> None:
    cache, counter = TieredCache(semantic=False, hit_usage="mark"), UsageMetadataCallbackHandler()
    model = Chat(cache=cache, reply=with_usage)
    for _ in range(3):
        ask(model, "hi", config={"callbacks": [counter]})
    assert counter.usage_metadata["tester"]["total_tokens"] == 7


def test_a_hit_of_an_answer_without_usage_has_none(ask: Ask, cache: TieredCache) -> None:
    model = Chat(cache=cache)
    ask(model, "hi")
    assert ask(model, "hi").usage_metadata is None


def test_feedback_works_on_a_fresh_answer_and_on_a_hit(ask: Ask, cache: TieredCache) -> None:
    model = Chat(cache=cache)
    for _ in range(2):
        cache.feedback(mark(ask(model, "hi"))["entry_id"], correct=False)
        assert mark(ask(model, "hi"))["hit"] is False
        cache.feedback(mark(ask(model, "hi"))["entry_id"], correct=False)


# -------------------------------------------------------------------- completion models


def test_opaque_prompts_are_exact(cache: TieredCache) -> None:
    cache.update('{"question": "Where is it"}', "llm", [Generation(text="a")])
    assert cache.lookup('{"question": "where is it"}', "llm") is None
    assert cache.lookup('{"question": "Where is it"}', "llm") == [Generation(text="a")]


def test_a_completion_model_is_served_by_meaning(ask: Ask, cache: TieredCache) -> None:
    model = FakeListLLM(responses=["one", "two"], cache=cache)
    assert ask(model, "Where is the button?") == "one"
    assert ask(model, "where is the button") == "one"


def test_many_prompts_of_one_call_wait_for_nobody(cache: TieredCache) -> None:
    model = FakeListLLM(responses=["one"], cache=cache)
    assert len(model.generate(["q"] * 3).generations) == 3
    assert len(asyncio.run(model.agenerate(["p"] * 3)).generations) == 3
