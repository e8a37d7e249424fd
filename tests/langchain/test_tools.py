"""Cached tools: what tells two of them apart, which are never kept, what a user may say."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain.agents.middleware import ToolCallRequest
from langchain_core.callbacks import CallbackManagerForToolRun
from langchain_core.messages import ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, InjectedToolArg, StructuredTool, tool
from langgraph.config import get_config
from langgraph.prebuilt import InjectedState, ToolRuntime
from pydantic import BaseModel, Field, PrivateAttr, SecretStr

from langchain_tiered_cache import TieredCache
from langchain_tiered_cache.middleware import TieredCacheMiddleware

ODD: ContextVar[str] = ContextVar("odd", default="x")
FORMS = ("wrap", "awrap")


@dataclass
class Runtime:
    context: Any = None
    config: Any = None


class Bench:
    """Calls tools through a middleware, and counts how often they run."""

    def __init__(self, **options: Any) -> None:
        self.cache = TieredCache(semantic=False)
        self.middleware = TieredCacheMiddleware(self.cache, **options)
        self.runs = 0

    def call(self, one: Any, form: str = "wrap", context: Any = None, **arguments: Any) -> Any:
        call = {"name": one.name, "args": arguments, "id": "call_1", "type": "tool_call"}
        request = ToolCallRequest(call, one, {}, Runtime(context))  # type: ignore[arg-type]

        def handler(_: Any) -> ToolMessage:
            self.runs += 1
            return ToolMessage(f"result {self.runs}", tool_call_id="call_1")

        async def ahandler(_: Any) -> ToolMessage:
            return handler(_)

        if form == "awrap":
            return asyncio.run(self.middleware.awrap_tool_call(request, ahandler))
        return self.middleware.wrap_tool_call(request, handler)


def made(function: Callable[..., Any], name: str = "search", about: str = "Search.") -> BaseTool:
    return StructuredTool.from_function(function, name=name, description=about)


def scaled(factor: Any) -> BaseTool:
    def search(word: str) -> str:
        return word * factor

    return made(search)


def plus(word: str) -> str:
    return word + "+"


def minus(word: str) -> str:
    return word + "-"


def two(word: str, more: int = 0) -> str:
    return word + "+"


class Shop:
    def __init__(self, name: str, handle: Any = None) -> None:
        self.name, self.handle = name, handle

    def search(self, word: str) -> str:
        return self.name + word


class Own(BaseTool):
    name: str = "search"
    description: str = "Search."
    shop: str = ""
    token: SecretStr | None = None
    hidden: str = Field("", exclude=True)
    handle: Any = None
    _private: str = PrivateAttr("")

    def _run(self, word: str) -> str:
        return self.shop + word


class Other(Own):
    def _run(self, word: str) -> str:
        return word + self.shop


def own(private: str = "", **fields: Any) -> BaseTool:
    one = Own(**fields)
    one._private = private
    return one


DIFFERENT: list[Callable[[], BaseTool]] = [
    lambda: made(plus),
    lambda: made(minus),
    lambda: made(two),
    lambda: made(plus, about="Search the shop."),
    lambda: scaled(2),
    lambda: scaled(3),
    lambda: made(Shop("a").search),
    lambda: made(Shop("b").search),
    own,
    lambda: own(shop="a"),
    lambda: own(shop="b"),
    lambda: own(token=SecretStr("a")),
    lambda: own(token=SecretStr("b")),
    lambda: own(hidden="a"),
    lambda: own("a"),
    lambda: own("b"),
    Other,
]


@pytest.mark.parametrize("form", FORMS)
def test_tools_that_differ_never_share_and_equal_ones_made_anew_do(form: str) -> None:
    bench = Bench(tools=["search"])
    first = [bench.call(make(), form, word="a").content for make in DIFFERENT]
    assert len(set(first)) == len(DIFFERENT)
    assert [bench.call(make(), form, word="a").content for make in DIFFERENT] == first
    assert bench.call(DIFFERENT[0](), form, word="b").content not in first


def with_config(word: str, config: RunnableConfig) -> str:
    return word


def with_state(word: str, state: Annotated[dict[str, Any], InjectedState]) -> str:
    return word


def with_runtime(word: str, runtime: ToolRuntime) -> str:
    return word


def with_injected(word: str, user: Annotated[str, InjectedToolArg]) -> str:
    return word


def by_variable(word: str) -> str:
    return word + ODD.get()


def by_config(word: str) -> str:
    return word + str(get_config())


def through_a_helper(word: str) -> str:
    return by_variable(word)


class Managed(Own):
    def _run(  # type: ignore[override]
        self, word: str, run_manager: CallbackManagerForToolRun | None = None
    ) -> str:
        return word


SEE_MORE: list[Callable[[], BaseTool]] = [
    lambda: made(with_config),
    lambda: made(with_state),
    lambda: made(with_runtime),
    lambda: made(with_injected),
    lambda: made(by_variable),
    lambda: made(by_config),
    lambda: made(through_a_helper),
    lambda: made(Shop("a", sys.stdout).search),
    lambda: scaled(ODD),
    lambda: own(handle=sys.stdout),
    Managed,
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("make", SEE_MORE)
def test_tools_that_see_more_than_their_arguments_are_kept_only_with_a_key(
    form: str, make: Callable[[], BaseTool]
) -> None:
    bench = Bench(tools=["search"])
    assert bench.call(make(), form, word="a").content != bench.call(make(), form, word="a").content
    assert bench.cache.cache.stats().stores == 0
    user = "alice"
    bench = Bench(tools=["search"], key=lambda request: user)
    first = bench.call(make(), form, word="a").content
    assert bench.call(make(), form, word="a").content == first
    user = "bob"
    assert bench.call(make(), form, word="a").content != first
    user = None  # type: ignore[assignment]
    assert bench.call(make(), form, word="a").content != bench.call(make(), form, word="a").content


WRITERS = [
    "delete_user",
    "sendEmail",
    "db_insert",
    "update",
    "FileWrite",
    "create-issue",
    "runCode",
]
READERS = [
    "search", "get_post", "list_updates", "read_orders", "weather", "find_book", "searchOrders",
    "population", "lookup_address", "calculator", "get_update",
]  # fmt: skip


@pytest.mark.parametrize("name", WRITERS)
def test_a_tool_whose_name_says_that_it_writes_is_not_kept(name: str) -> None:
    bench = Bench(tools=[name])
    assert (
        bench.call(made(plus, name), word="a").content
        != bench.call(made(plus, name), word="a").content
    )
    bench = Bench(tools=[name], may_write=[name])
    assert (
        bench.call(made(plus, name), word="a").content
        == bench.call(made(plus, name), word="a").content
    )


@pytest.mark.parametrize("name", READERS)
def test_a_tool_whose_name_says_nothing_of_the_kind_is_kept(name: str) -> None:
    bench = Bench(tools=[name])
    bench.call(made(plus, name), word="a")
    bench.call(made(plus, name), word="a")
    assert bench.runs == 1


@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize(
    ("name", "hints", "is_kept"),
    [
        ("update_view", {"readOnlyHint": True}, True),
        ("search", {"readOnlyHint": False}, False),
        ("search", {"destructiveHint": True}, False),
        ("search", {"destructiveHint": False}, True),
        ("search", {"readOnlyHint": True, "destructiveHint": True}, True),
    ],
)
def test_annotations_say_more_than_a_name(
    name: str, hints: dict[str, bool], is_kept: bool, inner: bool
) -> None:
    bench = Bench(tools=[name])
    one = made(plus, name)
    one.metadata = {"annotations": hints} if inner else hints
    for _ in range(2):
        bench.call(one, word="a")
    assert bench.runs == (1 if is_kept else 2)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("make", [*SEE_MORE, lambda: made(plus)])
def test_a_tool_with_a_version_is_known_by_that_and_not_read(
    form: str, make: Callable[[], BaseTool]
) -> None:
    bench = Bench(tools=["search"], versions={"search": 7})
    first = bench.call(make(), form, word="a").content
    assert bench.call(make(), form, word="a").content == first
    assert bench.call(make(), form, word="b").content != first
    later = Bench(tools=["search"], versions={"search": 8})
    later.cache = later.middleware._cache = bench.cache
    later.runs = bench.runs
    assert later.call(make(), form, word="a").content != first


def test_a_version_does_not_say_that_a_tool_only_reads() -> None:
    bench = Bench(tools=["delete_user"], versions={"delete_user": 1})
    for _ in range(2):
        bench.call(made(plus, "delete_user"), word="a")
    assert bench.runs == 2
    with pytest.raises(ValueError, match="serch"):
        Bench(tools=["search"], versions={"serch": 1})


def test_arguments_on_which_no_result_depends_can_be_named() -> None:
    for ignore in (["nonce"], {"search": ["nonce"]}):
        bench = Bench(tools=["search", "other"], ignore=ignore)
        first = bench.call(made(plus), word="a", nonce=1).content
        assert bench.call(made(plus), word="a", nonce=2).content == first
        assert bench.call(made(plus), word="b", nonce=1).content != first


@pytest.mark.parametrize(
    "options",
    [
        {"key": 3}, {"key": {"other": str}}, {"key": {"search": 3}}, {"ignore": "nonce"},
        {"ignore": {"other": ["a"]}}, {"ignore": {"search": "a"}}, {"may_write": ["other"]},
        {"may_write": "search"},
    ],
    ids=str,
)  # fmt: skip
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        TieredCacheMiddleware(TieredCache(semantic=False), tools=["search"], **options)


def test_a_tool_that_counts_is_one_tool_and_one_that_is_changed_another() -> None:
    calls: list[str] = []
    limits = {"most": 3}

    def search(word: str) -> str:
        calls.append(word)
        return word * limits["most"]

    bench, one = Bench(tools=["search"]), made(search)

    def ran(word: str) -> str:
        call = {"name": "search", "args": {"word": word}, "id": "1", "type": "tool_call"}
        request = ToolCallRequest(call, one, {}, Runtime())  # type: ignore[arg-type]
        found = bench.middleware.wrap_tool_call(
            request, lambda _: ToolMessage(one.invoke({"word": word}), tool_call_id="1")
        )
        return str(found.content)  # type: ignore[union-attr]

    assert [ran("a"), ran("a"), ran("b"), ran("a")] == ["aaa", "aaa", "bbb", "aaa"]
    limits["most"] = 1
    assert [ran("a"), ran("a")] == ["a", "a"]
    assert calls == ["a", "b", "a"]


# --------------------------------------------------------------------------------- contexts


class User(BaseModel):
    name: str = ""
    token: SecretStr = SecretStr("")
    hidden: str = Field("", exclude=True)
    _private: str = PrivateAttr("")


def user(private: str, **fields: Any) -> User:
    one = User(**fields)
    one._private = private
    return one


CONTEXTS: list[Any] = [
    None, User(), User(name="a"), User(token=SecretStr("a")), User(token=SecretStr("b")),
    User(hidden="a"), User(hidden="b"), user("a"), user("b"), {"a": 1}, {"a": True},
    {"a": SecretStr("a")}, {"a": SecretStr("b")}, {}, [], "",
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_contexts_that_differ_anywhere_never_share(form: str) -> None:
    bench = Bench(tools=["search"])
    first = [bench.call(made(plus), form, one, word="a").content for one in CONTEXTS]
    assert len(set(first)) == len(CONTEXTS)
    assert [bench.call(made(plus), form, one, word="a").content for one in CONTEXTS] == first
    odd = [bench.call(made(plus), form, object(), word="a").content for _ in range(2)]
    assert odd[0] != odd[1]


# -------------------------------------------------------------------------- random mutations

holdings = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(0, 2)
    | st.text("ab", max_size=2)
    | st.text("ab", max_size=2).map(SecretStr),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("xy"), inner),
    max_leaves=4,
)


def spelling(value: Any) -> str:
    if isinstance(value, SecretStr):
        return f"secret:{value.get_secret_value()!r}"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key!r}:{spelling(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(spelling, value)) + "]"
    return repr(value)


@settings(max_examples=25, deadline=None)
@given(holdings, holdings)
def test_two_tools_share_only_if_all_that_they_hold_is_equal(one: Any, other: Any) -> None:
    bench = Bench(tools=["search"])
    results = [bench.call(scaled(held), word="a").content for held in (one, other)]
    assert (results[0] == results[1]) == (spelling(one) == spelling(other))


@tool
def population(city: str) -> str:
    """Tell how many live in a city."""
    return city


def test_a_tool_made_by_the_decorator_is_kept() -> None:
    bench = Bench(tools=["population"])
    assert (
        bench.call(population, city="Rome") == bench.call(population, city="Rome")
        or bench.runs == 1
    )
    assert bench.runs == 1
