"""``@cached``: what is computed once, what shares a key, what can be no key."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from enum import Enum
from functools import partial
from typing import Any

import pytest
from pydantic import BaseModel, Field, PrivateAttr, SecretStr

from shared_core import ResponseCache
from shared_core.decorator import CacheInfo, UnkeyableError, argument_digest, cached
from tests.fakes import Clock


@pytest.fixture
def cache(store_url: str) -> Iterator[ResponseCache]:
    with ResponseCache.open(store_url, semantic=False) as opened:
        yield opened


@pytest.fixture
def memory() -> ResponseCache:
    return ResponseCache.open(semantic=False)


class Color(Enum):
    RED = 1
    BLUE = 2


@dataclass(frozen=True)
class Place:
    name: str
    zip: int = 0


def digest(*args: Any, **kwargs: Any) -> str:
    def function(a: Any, b: Any = 2, *rest: Any, c: Any = 3, **more: Any) -> None:
        pass

    return argument_digest(inspect.signature(function), args, kwargs)


def test_a_result_is_computed_once_in_every_store(cache: ResponseCache) -> None:
    calls = []

    @cached(cache, name="square")
    def square(n: int) -> dict[str, int]:
        calls.append(n)
        return {"square": n * n}

    assert [square(3), square(3), square(4)] == [{"square": 9}, {"square": 9}, {"square": 16}]
    assert calls == [3, 4]
    assert square.cache_info() == CacheInfo(hits=1, misses=2)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (((1,), {}), ((1, 2), {})),
        (((1,), {"b": 2}), ((), {"b": 2, "a": 1})),
        (((1,), {"c": 3}), ((1,), {})),
        (((1,), {"x": 1, "y": 2}), ((1,), {"y": 2, "x": 1})),
        ((({"p": 1, "q": 2},), {}), (({"q": 2, "p": 1},), {})),
        ((({3, 1, 2},), {}), (({2, 3, 1},), {})),
    ],
    ids=["default", "keyword", "keyword default", "order", "dict order", "set order"],
)
def test_equal_calls_have_one_key(one: Any, other: Any) -> None:
    assert digest(*one[0], **one[1]) == digest(*other[0], **other[1])


def test_values_that_differ_never_share_a_key() -> None:
    values: list[Any] = [
        None, True, 1, 1.0, "1", "", b"1", [1], (1,), {1}, {"1": 1}, {1: 1}, [[1]], [1, 1],
        ["list", 1], ["set", 1], "None", Color.RED, Color.BLUE, "RED", Place("x"), Place("x", 1),
        {"name": "x", "zip": 0}, date(2024, 1, 2), "2024-01-02", [], (), {}, set(), 0, -0.0, False,
    ]  # fmt: skip
    assert len({digest(value) for value in values}) == len(values)


@pytest.mark.slow
def test_a_key_is_the_same_in_another_process() -> None:
    code = (
        "from tests.core.test_decorator import *\n"
        "print(digest(Place('Rome'), {'b': 1, 'a': {3, 1}}, 'x', c=Color.RED))"
    )
    here = digest(Place("Rome"), {"a": {1, 3}, "b": 1}, "x", c=Color.RED)
    there = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        for _ in range(2)
    }
    assert there == {here}


@pytest.mark.parametrize("value", [object(), lambda: 1, open, float("nan"), [object()], int])
def test_what_has_no_identity_is_refused_by_name(memory: ResponseCache, value: Any) -> None:
    @cached(memory, name="f")
    def f(good: int, odd: Any) -> int:
        return 1

    with pytest.raises(UnkeyableError, match=r"'odd' cannot be .* ignore=\('odd',\)"):
        f(1, odd=value)


def test_arguments_that_a_function_does_not_take_are_its_own_error(memory: ResponseCache) -> None:
    @cached(memory, name="f")
    def f(a: int) -> int:
        return a

    with pytest.raises(TypeError, match="missing a required argument"):
        f()  # type: ignore[call-arg]


def test_ignored_parameters_are_in_no_key(memory: ResponseCache) -> None:
    class Shop:
        def __init__(self) -> None:
            self.calls = 0

        @cached(memory, ignore=("self",), name="Shop.price")
        def price(self, item: str) -> str:
            self.calls += 1
            return f"price of {item}"

    one, two = Shop(), Shop()
    assert one.price("tea") == two.price("tea") == "price of tea"
    assert (one.calls, two.calls) == (1, 0)
    with pytest.raises(ValueError, match="ignore names \\['session'\\]"):
        cached(memory, ignore=("session",), name="g")(lambda: 1)


def test_a_key_of_the_users_own_decides(memory: ResponseCache) -> None:
    calls = []

    @cached(memory, name="f", key=lambda text: text.lower())
    def f(text: str) -> str:
        calls.append(text)
        return text

    assert [f("A"), f("a"), f("b"), f("bb")] == ["A", "A", "b", "bb"]
    assert f.invalidate("B") == 1, "and not that of a longer key"
    assert [f("bb"), f("b")] == ["bb", "b"]
    assert calls == ["A", "b", "bb", "b"]


def test_two_functions_never_share_a_result(memory: ResponseCache) -> None:
    def doubling(name: str, factor: int) -> Any:
        return cached(memory, name=name)(lambda n: n * factor)

    f, g = doubling("f", 2), doubling("f2", 3)
    assert (f(5), g(5)) == (10, 15)
    assert f.cache_clear() == 1
    g(5)
    assert g.cache_info().hits == 1
    with pytest.raises(ValueError, match="colon"):
        doubling("f:x", 1)
    with pytest.raises(ValueError, match="give name="):
        cached(memory)(holding(sys.stdout))


def test_invalidate_forgets_one_result_and_clear_all(cache: ResponseCache) -> None:
    calls = []

    @cached(cache, name="f")
    def f(n: int, scale: int = 1) -> int:
        calls.append(n)
        return n * scale

    f(1), f(2), f(3)
    assert f.invalidate(scale=1, n=2) == 1
    f(1), f(2)
    assert calls == [1, 2, 3, 2]
    assert f.cache_clear() == 3
    f(1)
    assert calls == [1, 2, 3, 2, 1]


def test_a_result_lives_as_long_as_its_ttl_and_its_tags() -> None:
    clock = Clock()
    cache = ResponseCache.open(semantic=False, clock=clock)
    calls = []

    @cached(cache, ttl=10, tags=["prices"], name="f")
    def f() -> int:
        calls.append(1)
        return len(calls)

    assert [f(), f()] == [1, 1]
    clock.now += 11
    assert f() == 2
    cache.bump("prices")
    assert f() == 3


def test_an_exception_is_raised_and_not_kept(memory: ResponseCache) -> None:
    calls = []

    @cached(memory, name="f")
    def f() -> int:
        calls.append(1)
        if len(calls) == 1:
            raise LookupError("not yet")
        return 7

    with pytest.raises(LookupError, match="not yet"):
        f()
    assert f() == 7


def test_threads_that_call_at_a_time_share_one_call(memory: ResponseCache) -> None:
    entered, go, calls = threading.Event(), threading.Event(), []

    @cached(memory, name="slow")
    def slow(n: int) -> int:
        calls.append(n)
        entered.set()
        assert go.wait(10)
        return n

    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(slow, 1)
        assert entered.wait(10)
        rest = [pool.submit(slow, 1) for _ in range(7)]
        go.set()
        assert [one.result(10) for one in [first, *rest]] == [1] * 8
    assert calls == [1]


async def test_coroutines_that_call_at_a_time_share_one_call(cache: ResponseCache) -> None:
    calls = []

    @cached(cache, name="slow")
    async def slow(n: int) -> int:
        calls.append(n)
        await asyncio.sleep(0.01)
        return n

    assert inspect.iscoroutinefunction(slow)
    assert await asyncio.gather(*(slow(2) for _ in range(20))) == [2] * 20
    assert calls == [2]
    assert slow.cache_info() == CacheInfo(hits=19, misses=1)


def test_a_generator_is_replayed_item_by_item(cache: ResponseCache) -> None:
    calls = []

    @cached(cache, name="words")
    def words(text: str) -> Iterator[str]:
        calls.append(text)
        yield from text.split()

    assert inspect.isgeneratorfunction(words)
    assert [list(words("a b")), list(words("a b")), list(words("c"))] == [["a", "b"]] * 2 + [["c"]]
    assert calls == ["a b", "c"]


async def test_an_async_generator_is_replayed_item_by_item(cache: ResponseCache) -> None:
    calls = []

    @cached(cache, name="words")
    async def words(text: str) -> AsyncIterator[str]:
        calls.append(text)
        for word in text.split():
            yield word

    assert [[w async for w in words("a b")] for _ in range(2)] == [["a", "b"]] * 2
    assert calls == ["a b"]


def test_a_generator_that_fails_half_way_is_not_kept(memory: ResponseCache) -> None:
    calls = []

    @cached(memory, name="items")
    def items() -> Iterator[int]:
        calls.append(1)
        yield 1
        if len(calls) == 1:
            raise OSError("lost")
        yield 2

    with pytest.raises(OSError, match="lost"):
        list(items())
    assert list(items()) == [1, 2]


def test_namespaces_do_not_share_results(memory: ResponseCache) -> None:
    calls = []

    @cached(memory, name="f")
    def f() -> int:
        calls.append(1)
        return len(calls)

    with memory.control(namespace="a"):
        assert f() == 1
    with memory.control(namespace="b"):
        assert f() == 2


def holding(thing: Any) -> Callable[[int], int]:
    return lambda n: n if thing else 0


def scaling(factor: int) -> Callable[[int], int]:
    def scale(n: int) -> int:
        return n * factor

    return scale


class Shop:
    def __init__(self, price: int) -> None:
        self.price = price

    def total(self, n: int) -> int:
        return n * self.price

    def __call__(self, n: int) -> int:
        return n * self.price + 1


class AsyncShop(Shop):
    async def __call__(self, n: int) -> int:  # type: ignore[override]
        return n * self.price + 2


def times(factor: int, n: int) -> int:
    return n * factor


def with_default(factor: int) -> Callable[[int], int]:
    def scale(n: int, *, factor: int = factor) -> int:
        return n * factor

    return scale


def in_main(body: str) -> Callable[[int], int]:
    """Define ``make`` in a module called __main__, as a script or a notebook does."""
    scope: dict[str, Any] = {"__name__": "__main__"}
    exec(f"def make(n):\n    return {body}\n", scope)  # noqa: S102 - that is the test
    found: Callable[[int], int] = scope["make"]
    return found


PAIRS: list[tuple[Callable[[], Any], Callable[[], Any]]] = [
    (lambda: in_main("n + 1"), lambda: in_main("n + 2")),
    (lambda: in_main("n + 1"), lambda: in_main("n - 1")),
    (lambda: lambda n: n * 2, lambda: lambda n: n * 3),
    (lambda: scaling(2), lambda: scaling(3)),
    (lambda: with_default(2), lambda: with_default(3)),
    (lambda: Shop(2).total, lambda: Shop(3).total),
    (lambda: Shop(2), lambda: Shop(3)),
    (lambda: partial(times, 2), lambda: partial(times, 3)),
    (lambda: partial(times, factor=2), lambda: partial(times, factor=3)),
    (lambda: partial(scaling(2)), lambda: partial(scaling(3))),
]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_functions_that_do_something_else_never_share(
    one: Callable[[], Any], other: Callable[[], Any], memory: ResponseCache
) -> None:
    def result(make: Callable[[], Any]) -> tuple[int, bool]:
        function = cached(memory)(make())
        found = function(n=5)
        return found, function.cache_info().hits == 1

    first, second = result(one), result(other)
    assert first[0] != second[0]
    assert not first[1]
    assert not second[1]
    assert (result(one), result(other)) == ((first[0], True), (second[0], True)), "made anew"


def test_a_function_is_another_when_what_it_holds_is_changed(memory: ResponseCache) -> None:
    factor = 2
    settings = {"more": 0}
    calls: list[int] = []

    @cached(memory)
    def scale(n: int) -> int:
        calls.append(n)
        return n * factor + settings["more"]

    assert [scale(5), scale(5), scale(6), scale(5)] == [10, 10, 12, 10]
    factor = 3
    assert [scale(5), scale(5)] == [15, 15]
    settings["more"] = 1
    assert [scale(5), scale(5)] == [16, 16]
    factor, settings["more"] = 2, 0
    assert scale(5) == 10
    assert calls == [5, 6, 5, 5]


def test_a_function_that_calls_itself_is_found_again(memory: ResponseCache) -> None:
    @cached(memory)
    def fibonacci(n: int) -> int:
        return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

    assert fibonacci(30) == 832040
    assert fibonacci.cache_info().misses == 31


async def test_an_object_that_is_called_and_awaited(memory: ResponseCache) -> None:
    one, other = cached(memory)(AsyncShop(2)), cached(memory)(AsyncShop(3))
    assert [await one(5), await other(5), await one(5)] == [12, 17, 12]
    assert one.cache_info().hits == 1


def test_a_name_replaces_what_a_function_is(memory: ResponseCache) -> None:
    first = cached(memory, name="scale")(scaling(2))
    second = cached(memory, name="scale")(scaling(3))
    assert (first(5), second(5)) == (10, 10)


@dataclass
class Quiet:
    name: str
    tenant: str = field(default="", compare=False, repr=False)


class Hiding(BaseModel):
    name: str = ""
    hidden: str = Field("", exclude=True)
    token: SecretStr = SecretStr("")
    base: Place | None = None
    _private: str = PrivateAttr("")


@dataclass(frozen=True)
class Corner(Place):
    side: str = ""


def private(value: str) -> Hiding:
    made = Hiding()
    made._private = value
    return made


def test_what_arguments_hide_is_in_their_key() -> None:
    values = [
        Quiet("a"), Quiet("a", "b"), Quiet("a", "c"), Hiding(), Hiding(hidden="a"),
        Hiding(hidden="b"), Hiding(token=SecretStr("a")), Hiding(token=SecretStr("b")),
        private("a"), private("b"), Hiding(base=Place("x")), Hiding(base=Corner("x")),
        Hiding(base=Corner("x", side="y")), SecretStr("a"), SecretStr("b"),
    ]  # fmt: skip
    assert len({digest(value) for value in values}) == len(values)
    assert digest(private("a")) == digest(private("a"))
