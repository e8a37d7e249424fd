"""What a request's key holds: everything an answer depends on, and nothing else."""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.base.llms.types import (
    CacheControl,
    CachePoint,
    ChatMessage,
    ImageBlock,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.evaluation import FaithfulnessEvaluator
from llama_index.core.llms.llm import LLM
from llama_index.core.llms.mock import MockLLM
from llama_index.core.prompts import ChatPromptTemplate, PromptTemplate
from llama_index.core.schema import TextNode
from llama_index.core.tools import FunctionTool

from llamaindex_tiered_cache import cached_llm
from llamaindex_tiered_cache.request import chat_request, completion_request
from shared_core import LookupEvent, Request, ResponseCache
from tests.fakes import fake_embed
from tests.llamaindex.cases import QUESTION, TEXTS
from tests.llamaindex.fakes import FakeEmbedding, FakeLLM, calling, said
from tests.llamaindex.leftovers import MARKS, collected  # noqa: F401 - for every test here

pytestmark = MARKS


def user(text: str) -> ChatMessage:
    return ChatMessage(text, role="user")


ASKED = [ChatMessage("Help.", role="system"), user("What is a fuse?")]


def key(request: Request) -> str:
    assert request.uncacheable is None
    return request.address("default").key


def chat_key(llm: LLM | None = None, messages: Any = ASKED, **call: Any) -> str:
    return key(chat_request(llm or FakeLLM(), messages, call))


def weather(city: str) -> str:
    """Tell the weather of a city."""
    return city


def tool(description: str = "Tell the weather.", name: str = "weather") -> FunctionTool:
    return FunctionTool.from_defaults(weather, name=name, description=description)


# ------------------------------------------------------------------------------ parameters


def test_transport_and_secrets_are_no_part_of_a_key() -> None:
    other = FakeLLM(api_key="sk-other", timeout=1.0)
    assert chat_key(other) == chat_key()
    scope = chat_request(other, ASKED, {"timeout": 3, "extra_headers": {"a": "sk-x"}}).scope
    assert "sk-" not in scope


def test_model_settings_and_arguments_are_part_of_a_key() -> None:
    keys = {
        chat_key(),
        chat_key(FakeLLM(model="fake-2")),
        chat_key(FakeLLM(temperature=0.5)),
        chat_key(FakeLLM(max_tokens=5)),
        chat_key(FakeLLM(additional_kwargs={"top_p": 0.5})),
        chat_key(FakeLLM(additional_kwargs={"logit_bias": {"1": 2}})),
        chat_key(FakeLLM(system_prompt="Be brief.")),
        chat_key(MockLLM()),
        chat_key(seed=1),
        chat_key(stop=["x"]),
        chat_key(tools=[tool()]),
        chat_key(tools=[tool("Other.")]),
        chat_key(tools=[tool()], tool_choice="auto"),
        chat_key(response_format={"type": "json_object"}),
    }
    assert len(keys) == 14


def test_a_value_that_another_overrides_stays_in_the_key() -> None:
    """Classes differ in which one wins: OpenAI's own max_tokens beats the call's."""
    assert chat_key(FakeLLM(max_tokens=5), max_tokens=9) != chat_key(max_tokens=9)
    assert chat_key(FakeLLM(max_tokens=9), max_tokens=9) == chat_key(max_tokens=9)
    request = chat_request(FakeLLM(temperature=0.9), ASKED, {"temperature": 0})
    assert request.exact_only == "temperature"


def test_equal_tools_have_one_key_as_objects_and_as_specifications() -> None:
    spec = tool().metadata.to_openai_tool(skip_length_check=True)
    assert chat_key(tools=[tool()]) == chat_key(tools=[tool()]) == chat_key(tools=[spec])


ODD: ContextVar[str] = ContextVar("odd")


@pytest.mark.parametrize(
    "thing",
    [object(), [object()], {"a": object()}, float("nan"), ODD.get],
    ids=["object", "list", "mapping", "nan", "method"],
)
def test_what_has_no_identity_is_neither_looked_up_nor_kept(thing: Any) -> None:
    inner = FakeLLM()
    llm = cached_llm(inner, cache := ResponseCache.open(semantic=False))
    for _ in range(2):
        llm.chat(ASKED, thing=thing)
    assert len(inner.calls) == 2
    assert cache.stats().misses == {"unstable": 2}
    assert cache.stats().stores == 0


def named(messages: Sequence[ChatMessage]) -> str:
    return "prompt"


class Prompting:
    def to_prompt(self, messages: Sequence[ChatMessage]) -> str:
        return "prompt"


def test_functions_that_make_prompts_are_known_by_what_they_do_or_not_at_all() -> None:
    made = [named, lambda messages: "", lambda messages: "x", Prompting().to_prompt, None]
    keys = {chat_key(FakeLLM(messages_to_prompt=one)) for one in made}
    assert len(keys) == len(made)
    assert chat_key(FakeLLM(messages_to_prompt=lambda messages: "")) in keys
    unknown = FakeLLM(messages_to_prompt=lambda messages: ODD.get())
    assert chat_request(unknown, ASKED, {}).uncacheable == "unstable"


def test_an_unformatted_prompt_is_told_apart_where_the_llm_formats_it() -> None:
    plain, own = FakeLLM(), FakeLLM(completion_to_prompt=named)
    keys = [key(completion_request(plain, "x", formatted, {})) for formatted in (True, False)]
    assert keys[0] == keys[1]
    keys = [key(completion_request(own, "x", formatted, {})) for formatted in (True, False)]
    assert keys[0] != keys[1]


# -------------------------------------------------------------------------------- messages


def conversation(id: str, **more: Any) -> list[ChatMessage]:
    answer = calling("weather", id, city="Rome")
    answer.additional_kwargs.update(more)
    result = ChatMessage("31 C", role="tool", additional_kwargs={"tool_call_id": id})
    return [user("Warm in Rome?"), answer, result]


def test_ids_and_counts_of_earlier_turns_are_no_part_of_a_key() -> None:
    keys = {
        chat_key(messages=conversation("call_1")),
        chat_key(messages=conversation("toolu_abc")),
        chat_key(messages=conversation("x", prompt_tokens=4)),
        chat_key(messages=conversation("x", tool_calls=[{"id": "x", "function": {"name": "w"}}])),
    }
    assert len(keys) == 1


def test_which_result_answers_which_call_is_part_of_a_key() -> None:
    def two(first: str, second: str) -> list[ChatMessage]:
        calls = [
            ToolCallBlock(tool_call_id=id, tool_name="weather", tool_kwargs={"city": id})
            for id in ("a", "b")
        ]
        results = [
            ChatMessage("31 C", role="tool", additional_kwargs={"tool_call_id": id})
            for id in (first, second)
        ]
        return [user("Where?"), ChatMessage(role="assistant", blocks=calls), *results]

    assert chat_key(messages=two("a", "b")) != chat_key(messages=two("b", "a"))


def test_cache_points_are_no_part_of_a_key_and_thoughts_are() -> None:
    point = CachePoint(cache_control=CacheControl(type="ephemeral"))
    pointed = [ChatMessage(role="system", blocks=[TextBlock(text="Help."), point]), ASKED[1]]
    assert chat_key(messages=pointed) == chat_key()
    thought = [ThinkingBlock(content="hm", num_tokens=1), TextBlock(text="Yes.")]
    history = [user("Hi"), ChatMessage(role="assistant", blocks=thought), user("Why?")]
    plain = [user("Hi"), said("Yes."), user("Why?")]
    assert chat_key(messages=history) != chat_key(messages=plain)


def test_an_image_is_known_by_what_is_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a.png"

    def asked() -> Request:
        blocks = [TextBlock(text="What is it?"), ImageBlock(path=file)]
        return chat_request(FakeLLM(), [ChatMessage(role="user", blocks=blocks)], {})

    file.write_bytes(b"one")
    first = asked()
    assert first.exact_only == "multimodal"
    file.write_bytes(b"two")
    assert key(asked()) != key(first)
    file.unlink()
    missing = ImageBlock.model_construct(path=file)
    request = chat_request(FakeLLM(), [ChatMessage(role="user", blocks=[])], {})
    request = chat_request(FakeLLM(), [ChatMessage.model_construct(blocks=[missing])], {})
    assert request.uncacheable == "unstable"


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        (ASKED, None),
        (conversation("x"), "agent_turn"),
        ([said("Hello")], "not_user_text"),
        ([user("")], "not_user_text"),
        ([user("Observation: 31 C")], "not_user_text"),
        ([user("Use this.\n\nWhat is a fuse?")], "template"),
        ([user("<context>a</context> What is a fuse?")], "template"),
        ([user("Context: a. Question: b?")], "template"),
    ],
    ids=str,
)
def test_only_a_users_own_words_are_matched_by_meaning(
    messages: list[ChatMessage], reason: str | None
) -> None:
    assert chat_request(FakeLLM(), messages, {}).exact_only == reason


# ---------------------------------------------------------------------- question and scope


def mutations(rng: random.Random) -> tuple[LLM, list[ChatMessage], dict[str, Any]]:
    """Return one of many calls that ask the same question."""
    llm = FakeLLM(
        model=rng.choice(["a", "b", "c"]),
        temperature=rng.choice([0.0, 0.1, 1.0]),
        max_tokens=rng.choice([None, 1, 2]),
        system_prompt=rng.choice([None, "s", "t"]),
        additional_kwargs=rng.choice([{}, {"top_p": 0.5}, {"user": "u"}]),
    )
    messages = [user(QUESTION)]
    for _ in range(rng.randrange(3)):
        messages.insert(0, rng.choice([user("Hi"), said("Hi"), said("Ho")]))
    if system := rng.choice([None, "a", "b", "a b"]):
        messages.insert(0, ChatMessage(system, role="system"))
    call: dict[str, Any] = {}
    if tools := rng.choice([[], ["a"], ["b"], ["a", "b"]]):
        call["tools"] = [tool(name=name) for name in tools]
    if stop := rng.choice([None, ["x"], ["y"]]):
        call["stop"] = stop
    if seed := rng.choice([None, 1, 2]):
        call["seed"] = seed
    return llm, messages, call


def told(llm: Any, messages: list[ChatMessage], call: dict[str, Any]) -> str:
    """Spell a call in another way than the key does."""
    tools = [one.metadata.name for one in call.get("tools", ())]
    fields = (llm.model, llm.temperature, llm.max_tokens, llm.system_prompt, llm.additional_kwargs)
    turns = [(one.role.value, one.content) for one in messages]
    return repr((fields, turns, tools, call.get("stop"), call.get("seed")))


@pytest.mark.slow
def test_no_two_of_2000_random_mutations_share_an_answer() -> None:
    rng = random.Random(11)
    keys: dict[str, str] = {}
    scopes: dict[str, str] = {}
    for _ in range(2000):
        drawn = mutations(rng)
        address = chat_request(*drawn).address("default")
        spelt = told(*drawn)
        assert keys.setdefault(address.key, spelt) == spelt
        assert scopes.setdefault(address.scope, spelt) == spelt
        assert chat_request(*copy.deepcopy(drawn)).address("default") == address
    assert len(keys) > 1500


def engine(llm: LLM, texts: Sequence[str] = TEXTS, **options: Any) -> Any:
    nodes = [TextNode(text=text, id_=f"node-{i}") for i, text in enumerate(texts)]
    index = VectorStoreIndex(nodes, embed_model=FakeEmbedding())
    return index.as_query_engine(llm=llm, similarity_top_k=len(texts), **options)


def by_meaning() -> ResponseCache:
    return ResponseCache.open(embedder=fake_embed, threshold=0.8)


PARAPHRASE = "How often should I descale the kettle please?"


def test_a_query_engine_matches_the_question_and_not_the_context() -> None:
    inner = FakeLLM()
    llm = cached_llm(inner, cache := by_meaning())
    first = engine(llm).query(QUESTION)
    with cache.trace() as trace:
        assert str(engine(llm).query(PARAPHRASE)) == str(first)
    (event,) = [event for event in trace.events if isinstance(event, LookupEvent)]
    assert (event.outcome, str(event.tier)) == ("hit", "semantic")
    assert len(inner.calls) == 1


@pytest.mark.parametrize("asked", [QUESTION, PARAPHRASE])
def test_changed_documents_never_get_an_old_answer(asked: str) -> None:
    inner = FakeLLM()
    llm = cached_llm(inner, by_meaning())
    engine(llm).query(QUESTION)
    changed = [TEXTS[0].replace("once a month", "once a year"), *TEXTS[1:]]
    engine(llm, changed).query(asked)
    assert len(inner.calls) == 2


def test_another_template_or_system_prompt_is_another_scope() -> None:
    inner = FakeLLM()
    llm = cached_llm(inner, by_meaning())
    template = PromptTemplate("{context_str}\n{query_str}")
    engine(llm).query(QUESTION)
    engine(llm, text_qa_template=template).query(QUESTION)
    engine(llm, text_qa_template=template).query(PARAPHRASE)
    llm.system_prompt = "Be brief."
    engine(llm, text_qa_template=template).query(PARAPHRASE)
    assert len(inner.calls) == 3


PREDICTIONS: dict[str, Callable[..., Any]] = {
    "predict": lambda llm, prompt, **args: llm.predict(prompt, **args),
    "apredict": lambda llm, prompt, **args: asyncio.run(llm.apredict(prompt, **args)),
    "stream": lambda llm, prompt, **args: "".join(llm.stream(prompt, **args)),
}


@pytest.mark.parametrize("chat_model", [True, False], ids=["chat", "completion"])
@pytest.mark.parametrize("way", PREDICTIONS)
def test_predictions_know_their_question(way: str, chat_model: bool) -> None:
    predict = PREDICTIONS[way]
    inner = FakeLLM(chat_model=chat_model)
    llm = cached_llm(inner, by_meaning())
    prompt = PromptTemplate("Context: {context_str}\n\nQuestion: {query_str}\nAnswer:")
    for question in (QUESTION, PARAPHRASE):
        predict(llm, prompt, context_str=TEXTS[0], query_str=question)
    predict(llm, prompt.partial_format(query_str=PARAPHRASE), context_str=TEXTS[0])
    assert len(inner.calls) == 1
    predict(llm, prompt, context_str=TEXTS[1], query_str=PARAPHRASE)
    assert len(inner.calls) == 2


def test_async_streams_know_their_question() -> None:
    inner = FakeLLM()
    llm = cached_llm(inner, by_meaning())
    prompt = PromptTemplate("Context: a\n\nQuestion: {query_str}\nAnswer:")

    async def ask(question: str) -> str:
        return "".join([token async for token in await llm.astream(prompt, query_str=question)])

    assert asyncio.run(ask(QUESTION)) == asyncio.run(ask(PARAPHRASE))
    assert len(inner.calls) == 1


def test_a_question_that_the_context_repeats_is_cut_out_where_it_is_asked() -> None:
    inner = FakeLLM()
    llm = cached_llm(inner, by_meaning())
    prompt = PromptTemplate("Context: {context_str}\n\nQuestion: {query_str}\nAnswer:")
    context = f"FAQ. {QUESTION} Monthly."
    for question in (QUESTION, PARAPHRASE):
        llm.predict(prompt, context_str=context, query_str=question)
    assert len(inner.calls) == 1


def test_a_prediction_without_a_question_is_matched_only_exactly() -> None:
    inner = FakeLLM()
    llm = cached_llm(inner, cache := by_meaning())
    prompt = PromptTemplate("Given the text:\n\n{text}\n\nsummarise it {how}.")
    for how in ("briefly", "briefly please", "briefly"):
        llm.predict(prompt, text=TEXTS[0], how=how)
    assert len(inner.calls) == 2
    assert cache.stats().misses == {"template": 2}


def test_a_plain_question_in_a_chat_template_is_a_plain_question() -> None:
    llm = cached_llm(inner := FakeLLM(), by_meaning())
    prompt = ChatPromptTemplate([ChatMessage("Help.", role="system"), user("{query_str}")])
    llm.predict(prompt, query_str="What is a fuse?")
    assert llm.chat(ASKED).additional_kwargs["tiered_cache"]["hit"]
    assert len(inner.calls) == 1


def test_what_a_judge_is_shown_is_matched_only_exactly() -> None:
    inner = FakeLLM(lambda messages, kwargs: said("YES"))
    llm = cached_llm(inner, cache := by_meaning())
    evaluator = FaithfulnessEvaluator(llm=llm)
    for response in ("Descale it once a month.", "Descale it once a month please."):
        asyncio.run(evaluator.aevaluate(response=response, contexts=TEXTS[:1]))
    assert len(inner.calls) == 2
    assert cache.stats().misses == {"verdict": 2}


def test_a_temperature_above_zero_is_matched_only_exactly() -> None:
    inner = FakeLLM(temperature=0.1)
    llm = cached_llm(inner, by_meaning())
    for question in (QUESTION, PARAPHRASE, QUESTION):
        llm.chat([user(question)])
    assert len(inner.calls) == 2
