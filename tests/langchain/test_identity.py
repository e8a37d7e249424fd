"""What of a model makes two calls the same: headers, hidden settings, state kept elsewhere."""

from __future__ import annotations

import asyncio
import copy
import itertools
import json
import pickle
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.caches import BaseCache
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field, PrivateAttr, SecretStr

from langchain_tiered_cache import TieredCache, cached_model

FORMS = ("invoke", "ainvoke", "stream", "astream")
each_form = pytest.mark.parametrize("form", FORMS)


class Provider:
    """Counts what reaches it, and answers each time with another text."""

    def __init__(self) -> None:
        self.seen: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        message = {"role": "assistant", "content": f"answer {len(self.seen)}"}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        head = {"id": "chatcmpl-1", "created": 1, "model": "gpt-4o-mini"}
        body: dict[str, Any] = {**head, "object": "chat.completion", "choices": choices}
        if not json.loads(request.content).get("stream"):
            return httpx.Response(200, json=body)
        (choice,) = body["choices"]
        chunk = {**body, "object": "chat.completion.chunk"}
        deltas = [{"delta": choice["message"]}, {"delta": {}, "finish_reason": "stop"}]
        events = [{**chunk, "choices": [{"index": 0, **delta}]} for delta in deltas]
        lines = [f"data: {json.dumps(event)}\n\n" for event in events]
        headers = {"content-type": "text/event-stream"}
        return httpx.Response(200, content="".join([*lines, "data: [DONE]\n\n"]), headers=headers)

    def chat(self, **options: Any) -> ChatOpenAI:
        transport = httpx.MockTransport(self)
        client = options.pop("headers_of_client", {})
        return ChatOpenAI(
            model="gpt-4o-mini",
            temperature=0,
            api_key="sk-secret",
            max_retries=0,
            http_client=httpx.Client(transport=transport, headers=client),
            http_async_client=httpx.AsyncClient(transport=transport, headers=client),
            **options,
        )


def ask(form: str, model: Any, question: Any = "q", **call: Any) -> str:
    async def awaited() -> str:
        if form == "ainvoke":
            return str((await model.ainvoke(question, **call)).text)
        return "".join([str(chunk.text) async for chunk in model.astream(question, **call)])

    if form in ("ainvoke", "astream"):
        return asyncio.run(awaited())
    if form == "invoke":
        return str(model.invoke(question, **call).text)
    return "".join(str(chunk.text) for chunk in model.stream(question, **call))


@pytest.fixture
def tiered() -> Iterator[TieredCache]:
    cache = TieredCache(semantic=False, ignore_headers=("X-Gateway-Trace",))
    yield cache
    cache.close()


HEADERS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"default_headers": {"x-portkey-config": "a"}},
     {"default_headers": {"x-portkey-config": "b"}}),
    ({"default_headers": {"Helicone-Target-Url": "a"}}, {}),
    ({"default_headers": {"anthropic-beta": "a"}}, {"default_headers": {"anthropic-beta": "a,b"}}),
    ({"organization": "a"}, {"organization": "b"}),
    ({"default_headers": {"OpenAI-Project": "a"}}, {"default_headers": {"OpenAI-Project": "b"}}),
    ({"default_headers": {"Connection": "x-a", "x-a": "1"}}, {"default_headers": {"x-a": "2"}}),
    ({"default_query": {"v": "1"}}, {"default_query": {"v": "2"}}),
    ({"extra_body": {"tenant": 1}}, {"extra_body": {"tenant": 2}}),
    ({"headers_of_client": {"x-tenant": "a"}}, {"headers_of_client": {"x-tenant": "b"}}),
    ({"model_kwargs": {"extra_headers": {"a": "1"}}},
     {"model_kwargs": {"extra_headers": {"a": "2"}}}),
    ({"model_kwargs": {"extra_query": {"a": "1"}}}, {"model_kwargs": {"extra_query": {"a": "2"}}}),
    ({"base_url": "https://one/v1"}, {"base_url": "https://two/v1"}),
]  # fmt: skip


@pytest.mark.parametrize("form", ["invoke", "astream"])
@pytest.mark.parametrize(("one", "other"), HEADERS, ids=str)
def test_models_that_send_something_else_never_share(
    form: str, one: dict[str, Any], other: dict[str, Any], tiered: TieredCache
) -> None:
    provider = Provider()
    for options in (one, other, one):
        ask(form, cached_model(provider.chat(**options), tiered))
    assert len(provider.seen) == 2
    assert not tiered.errors


CALLS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"extra_headers": {"Authorization": "Bearer alice"}},
     {"extra_headers": {"Authorization": "Bearer bob"}}),
    ({"extra_headers": {"x-user": "a"}}, {}),
    ({"extra_query": {"v": 1}}, {"extra_query": {"v": 2}}),
    ({"extra_body": {"v": 1}}, {"extra_body": {"v": 2}}),
    ({"seed": 0}, {}),
    ({"parallel_tool_calls": False}, {}),
]  # fmt: skip


@pytest.mark.parametrize("bound", [False, True], ids=["call", "bound"])
@pytest.mark.parametrize("form", ["ainvoke", "stream"])
@pytest.mark.parametrize(("one", "other"), CALLS, ids=str)
def test_calls_that_send_something_else_never_share(
    form: str, bound: bool, one: dict[str, Any], other: dict[str, Any], tiered: TieredCache
) -> None:
    provider = Provider()
    model = cached_model(provider.chat(), tiered)
    for call in (one, other, one, other):
        if bound:
            ask(form, model.bind(**call))
        else:
            ask(form, model, **call)
    assert len(provider.seen) == 2


@each_form
def test_harmless_headers_and_transport_still_share(form: str, tiered: TieredCache) -> None:
    provider = Provider()
    same: list[dict[str, Any]] = [
        {},
        {"default_headers": {"User-Agent": "mine", "x-request-id": "7"}},
        {
            "default_headers": {
                "traceparent": "00",
                "X-Stainless-Lang": "x",
                "accept-language": "de",
            }
        },
        {"default_headers": {"x-gateway-trace": "1"}},
        {"default_headers": {}},
        {"timeout": 5, "metadata": {"a": 1}, "tags": ["b"], "verbose": False},
        {"headers_of_client": {"user-agent": "mine"}},
        {"base_url": "https://api.openai.com/v1"},
    ]
    for options in same:
        ask(form, cached_model(provider.chat(**options), tiered))
    ask(form, cached_model(provider.chat(), tiered), config={"run_name": "other", "tags": ["c"]})
    assert len(provider.seen) == 1


def test_a_key_of_the_model_s_own_client_tells_no_one_apart_and_no_secret_is_kept(
    tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    tiered, provider = TieredCache(f"sqlite:///{tmp_path}/x.db", semantic=False), Provider()
    for key in ("sk-secret-one", "sk-secret-two"):
        model = provider.chat(default_headers={"x-user": "secret-three"})
        model = model.model_copy(update={"openai_api_key": SecretStr(key)})
        cached_model(model, tiered).invoke("q", extra_headers={"Authorization": "secret-four"})
    assert len(provider.seen) == 1
    tiered.close()
    stored = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"secret" not in stored
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    "state",
    [
        {"use_previous_response_id": True, "use_responses_api": True},
        {"model_kwargs": {"conversation": "conv_1"}},
    ],
    ids=str,
)
def test_an_answer_that_depends_on_the_provider_s_state_is_passed_over(
    state: dict[str, Any], tiered: TieredCache
) -> None:
    model = Provider().chat(**state, cache=tiered)
    llm_string = model._get_llm_string(stop=None)
    from langchain_tiered_cache import parse

    assert parse("q", llm_string).uncacheable == "server_state"
    bound = Provider().chat()._get_llm_string(stop=None, conversation={"id": "c"})
    assert parse("q", bound).uncacheable == "server_state"
    one, two = (Provider().chat()._get_llm_string(previous_response_id=id) for id in "ab")
    assert parse("q", one).scope != parse("q", two).scope


# ----------------------------------------------------------------------- hidden settings


class Base(BaseModel):
    x: int = 0


class Wider(Base):
    y: int = 0


class Hiding(BaseChatModel):
    """A model that names itself and hides all else; answers with the number of its class's call."""

    name_of_model: str = "hiding"
    shown: Any = None
    excluded: Any = Field(None, exclude=True)
    unprinted: Any = Field(None, repr=False)
    secret: SecretStr | None = None
    base: Base | None = None
    reply: Callable[[int], str] | None = None
    calls: list[Any] = Field(default_factory=list)
    count: int = 0
    _private: Any = PrivateAttr(None)
    _last: Any = PrivateAttr(None)

    @property
    def _llm_type(self) -> str:
        return "hiding"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.name_of_model, "temperature": 0.0}

    def _text(self, messages: list[BaseMessage]) -> str:
        self.count += 1
        self.calls.append(messages)
        self._last = messages[-1]
        number = next(NUMBERS)
        return f"answer {number}" if self.reply is None else self.reply(number)

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        message = AIMessage(self._text(messages), response_metadata={"finish_reason": "stop"})
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self, messages: list[BaseMessage], *_: Any, **__: Any
    ) -> Iterator[ChatGenerationChunk]:
        from langchain_core.messages import AIMessageChunk

        yield ChatGenerationChunk(message=AIMessageChunk(self._text(messages)))
        end = AIMessageChunk("", response_metadata={"finish_reason": "stop"})
        yield ChatGenerationChunk(message=end)


class Secretive(Hiding):
    """Serialises itself for LangChain, with one setting masked."""

    servers: Any = None

    @classmethod
    def is_lc_serializable(cls) -> bool:
        return True

    @property
    def lc_secrets(self) -> dict[str, str]:
        return {"servers": "SERVERS"}


NUMBERS = itertools.count()


def hiding(kind: type[Hiding] = Hiding, private: Any = None, **options: Any) -> Hiding:
    made = kind(**options)
    made._private = private
    return made


def replying(text: str) -> Callable[[int], str]:
    return lambda number: f"{text} {number}"


def with_servers(*urls: str) -> dict[str, Any]:
    return {"kind": Secretive, "servers": [{"url": url} for url in urls] or None}


HIDDEN: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"excluded": "a"}, {"excluded": "b"}),
    ({"unprinted": "a"}, {"unprinted": "b"}),
    ({"secret": SecretStr("a")}, {"secret": SecretStr("b")}),
    ({"secret": SecretStr("a")}, {}),
    ({"private": "a"}, {"private": "b"}),
    ({"private": {"a": [SecretStr("a")]}}, {"private": {"a": [SecretStr("b")]}}),
    ({"shown": 1}, {"shown": True}),
    ({"shown": 0}, {}),
    ({"shown": []}, {}),
    ({"base": Wider(x=1)}, {"base": Base(x=1)}),
    ({"base": Wider(x=1, y=1)}, {"base": Wider(x=1, y=2)}),
    ({"reply": replying("a")}, {"reply": replying("b")}),
    (with_servers("a"), with_servers("b")),
    (with_servers("a"), with_servers()),
    ({"private": httpx.Client(headers={"x": "1"})}, {"private": httpx.Client()}),
]


@pytest.mark.parametrize("everywhere", [False, True], ids=["own cache", "global cache"])
@each_form
@pytest.mark.parametrize(("one", "other"), HIDDEN)
def test_hidden_settings_never_share(
    form: str,
    everywhere: bool,
    one: dict[str, Any],
    other: dict[str, Any],
    tiered: TieredCache,
) -> None:
    if everywhere and "stream" in form:
        return  # LangChain asks no cache for streams
    found = []
    if everywhere:
        set_llm_cache(tiered)
    try:
        for options in (one, other, one, other):
            model = hiding(**options)
            model = model if everywhere else cached_model(model, tiered)
            found.append(ask(form, model))
    finally:
        set_llm_cache(None)
    assert found[0] == found[2] != found[1] == found[3]
    assert not tiered.errors


ODD: ContextVar[str] = ContextVar("odd")


@each_form
@pytest.mark.parametrize(
    "odd",
    [sys.stdout, ODD, [open], lambda number: ODD.get("x")],
    ids=["file", "context variable", "builtin", "closure"],
)
def test_a_model_that_cannot_be_read_passes_the_cache_over(
    form: str, odd: Any, tiered: TieredCache
) -> None:
    if odd == [open]:
        odd = [iter(open, None)]
    model = cached_model(hiding(private=odd), tiered)
    assert ask(form, model) != ask(form, model)
    assert tiered.cache.stats().stores == 0
    assert tiered.errors.keys() <= {"unreadable:model"}


def test_what_a_model_counts_and_notes_is_no_setting(tiered: TieredCache) -> None:
    seen: list[int] = []

    def reply(number: int) -> str:
        seen.append(number)
        return f"answer {number}"

    models = [hiding(reply=reply, cache=tiered) for _ in range(3)]
    answers = {ask("invoke", model, question) for question in ("a", "b", "a") for model in models}
    assert len(answers) == len(seen) == 2
    copies = [copy.copy(models[0]), copy.deepcopy(models[0]), models[0].model_copy()]
    assert {ask("invoke", one, "a") for one in copies} <= answers
    assert len(seen) == 2


def test_a_setting_that_is_changed_makes_another_model(tiered: TieredCache) -> None:
    model = hiding(private={"tenant": "a"}, cache=tiered)
    first = ask("invoke", model)
    model._private["tenant"] = "b"
    second = ask("invoke", model)
    model.excluded = "x"
    third = ask("invoke", model)
    assert len({first, second, third}) == 3
    model.excluded = None
    model._private["tenant"] = "a"
    assert ask("invoke", model) == first


class Around(BaseCache):
    """Another cache's wrapper around ours."""

    def __init__(self, inner: TieredCache) -> None:
        self.inner = inner

    def lookup(self, prompt: str, llm_string: str) -> Any:
        return self.inner.lookup(prompt, llm_string)

    def update(self, prompt: str, llm_string: str, return_val: Any) -> None:
        self.inner.update(prompt, llm_string, return_val)

    def clear(self, **kwargs: Any) -> None:
        self.inner.clear(**kwargs)


def test_hidden_settings_are_seen_through_a_cache_around(tiered: TieredCache) -> None:
    around = Around(tiered)
    a, b = (hiding(private=name, cache=around) for name in "ab")
    assert ask("invoke", a) == ask("invoke", a) != ask("invoke", b)


def test_a_masked_setting_that_nobody_can_read_passes_the_cache_over(tiered: TieredCache) -> None:
    llm_string = hiding(Secretive, servers=["a"])._get_llm_string(stop=None)
    answer = [ChatGeneration(message=AIMessage("x"))]
    tiered.update("[]", llm_string, answer)
    assert tiered.lookup("[]", llm_string) is None
    assert tiered.cache.stats().misses == {"unstable": 1}


# --------------------------------------------------------------------------------- tenants


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("path", "config"),
    [
        ("metadata.user_id", lambda name: {"metadata": {"user_id": name}}),
        ("configurable.tenant_id", lambda name: {"configurable": {"tenant_id": name}}),
        ("metadata.user.id", lambda name: {"metadata": {"user": {"id": name}}}),
    ],
)
def test_a_tenant_is_named_by_a_path_into_the_config(
    form: str, path: str, config: Callable[[Any], Any]
) -> None:
    tiered = TieredCache(semantic=False, namespace_from=path)
    model = cached_model(hiding(), tiered)
    a, b = (ask(form, model, config=config(name)) for name in ("a", "b"))
    assert a != b
    assert [ask(form, model, config=config(name)) for name in ("a", "b", 7, 7)][:2] == [a, b]
    none = [
        ask(form, model, config=one) for one in (None, {}, config(None), config(""), config(""))
    ]
    assert len({*none, a, b}) == 7, "who is nobody is a miss, and nothing is kept"
    assert tiered.cache.stats().stores == 3
    with tiered.cache.control(namespace="a"):
        assert ask(form, model) == a


def test_a_path_holds_inside_of_chains_and_batches() -> None:
    tiered = TieredCache(semantic=False, namespace_from="configurable.tenant_id")
    model = cached_model(hiding(), tiered)
    chain = RunnableLambda(lambda text: text) | model
    configs = [{"configurable": {"tenant_id": name}} for name in ("a", "b", "a", "b")]
    found = [message.text for message in chain.batch(["q"] * 4, config=configs)]
    again = asyncio.run(chain.abatch(["q"] * 4, config=configs))
    assert [message.text for message in again] == found
    assert found[0] == found[2] != found[1] == found[3]


@pytest.mark.parametrize("path", ["user_id", "metadata", "metadata.", "tags.0", 3, ""])
def test_a_path_that_names_nothing_is_refused(path: Any) -> None:
    with pytest.raises(ValueError, match="namespace_from"):
        TieredCache(namespace_from=path)


@each_form
def test_where_a_namespace_is_required_none_is_a_miss(form: str) -> None:
    tiered = TieredCache(semantic=False, namespace_required=True)
    model = cached_model(hiding(), tiered)
    assert ask(form, model) != ask(form, model)
    assert tiered.cache.stats().stores == 0
    assert tiered.cache.stats().misses == {"namespace": 2}
    with tiered.cache.control(namespace="a"):
        assert ask(form, model) == ask(form, model)
    told = {"metadata": {"tiered_cache": {"namespace": "b"}}}
    assert ask(form, model, config=told) == ask(form, model, config=told)


def test_forgetting_for_no_tenant_warns_where_a_path_names_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tiered = TieredCache(semantic=False, namespace_from="metadata.user")
    model, alice = hiding(cache=tiered), {"metadata": {"user": "alice"}}
    first = ask("invoke", model, config=alice)
    tiered.clear()
    assert "no namespace is named" in caplog.text
    assert ask("invoke", model, config=alice) == first
    with tiered.cache.control(namespace="alice"):
        tiered.clear()
    assert ask("invoke", model, config=alice) != first


def test_a_pickled_cache_keeps_its_path(tmp_path: Any) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    tiered = TieredCache(url, semantic=False, namespace_from="metadata.user")
    again = pickle.loads(pickle.dumps(tiered))  # noqa: S301 - our own
    model = hiding(cache=again)
    assert ask("invoke", model) != ask("invoke", model)


# ---------------------------------------------------------------------------------- clear


def test_clear_does_what_it_is_told_or_raises(tiered: TieredCache) -> None:
    model = hiding(cache=tiered)
    first = ask("invoke", model)
    for arguments in ({"llm_string": "x"}, {"prompt": "x", "llm_string": "y"}, {"odd": 1}):
        with pytest.raises(ValueError, match=next(iter(sorted(arguments)))):
            tiered.clear(**arguments)
        with pytest.raises(ValueError, match="nothing was deleted"):
            asyncio.run(tiered.aclear(**arguments))
    assert ask("invoke", model) == first
    tiered.clear(asynchronous=True)
    assert ask("invoke", model) != first


# ------------------------------------------------------------------------ random mutations

atoms = st.none() | st.booleans() | st.integers(0, 3) | st.text("ab", max_size=2)
secrets = st.text("ab", max_size=2).map(SecretStr)
values = st.recursive(
    atoms | secrets,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("xy", max_size=1), inner),
    max_leaves=4,
)
names = ("excluded", "unprinted", "shown")


def spelling(value: Any) -> str:
    if isinstance(value, SecretStr):
        return f"secret:{value.get_secret_value()!r}"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key!r}:{spelling(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(spelling, value)) + "]"
    return repr(value)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from([*names, "_private"]), values, st.sampled_from([*names, "_private"]), values)
def test_two_models_share_only_if_all_their_settings_are_equal(
    where: str, one: Any, other_where: str, other: Any
) -> None:
    tiered = TieredCache(semantic=False)

    def answer(name: str, value: Any) -> str:
        options = {} if name == "_private" else {name: value}
        private = value if name == "_private" else None
        return ask("invoke", hiding(private=private, cache=tiered, **options))

    same = spelling(one) == spelling(other) and (where == other_where or one is None)
    assert (answer(where, one) == answer(other_where, other)) == same
    assert not tiered.errors
