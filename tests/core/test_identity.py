"""Digests of objects: what differs anywhere has another, what is equal has the same for ever."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import itertools
import os
import socket
import subprocess
import sys
import threading
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, PrivateAttr, SecretStr, field_serializer

from shared_core.harmless import header_identity, header_names
from shared_core.identity import Digest, StateReader
from shared_core.request import canonical_json
from shared_core.state_places import Unreadable, digest_of


def spelt(value: Any, **options: Any) -> str:
    return canonical_json(StateReader(**options).spell(value))


class Color(Enum):
    RED = 1
    BLUE = 2


class Hidden(BaseModel):
    """A model that shows nothing of its settings."""

    shown: int = 1
    excluded: str = Field("", exclude=True)
    unprinted: str = Field("", repr=False)
    secret: SecretStr = SecretStr("")
    masked: str = ""
    inner: Base | None = None
    _private: Any = PrivateAttr(None)

    @field_serializer("masked")
    def mask(self, value: str) -> str:
        return "***"


class Base(BaseModel):
    x: int = 0


class Wider(Base):
    y: int = 0


Hidden.model_rebuild()


@dataclass
class Record:
    name: str
    quiet: str = field(default="", compare=False, repr=False)


class Plain:
    def __init__(self, value: Any = None) -> None:
        self.value = value

    def method(self, x: int) -> int:
        return x

    def __call__(self) -> Any:
        return self.value

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def private(value: Any) -> Hidden:
    made = Hidden()
    made._private = value
    return made


def adder(n: Any) -> Callable[[Any], Any]:
    return lambda x: x + n


def with_default(n: int) -> Callable[..., int]:
    def function(x: int, n: int = n) -> int:
        return x + n

    return function


def attributed(**attributes: Any) -> Any:
    made = Plain()
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


class Text(str):
    extra: Any = None


def text(value: str, extra: Any) -> Text:
    made = Text(value)
    made.extra = extra
    return made


DIFFERENT: list[Any] = [
    None, True, 1, 1.0, -0.0, 0, float("nan"), float("inf"), "1", "", b"1", [1], (1,), {1},
    {"1": 1}, {1: 1}, [[1]], [1, 1], frozenset({1}), deque([1]), Color.RED, Color.BLUE, "RED",
    date(2024, 1, 2), "2024-01-02", timedelta(1), Decimal("1"), Path("a"), "a", SecretStr("a"),
    SecretStr("b"),
    Hidden(), Hidden(shown=2), Hidden(excluded="a"), Hidden(unprinted="a"),
    Hidden(secret=SecretStr("a")), Hidden(secret=SecretStr("b")), Hidden(masked="a"),
    Hidden(masked="b"), Hidden(inner=Base(x=1)), Hidden(inner=Wider(x=1)),
    Hidden(inner=Wider(x=1, y=2)), private("a"), private("b"), private([SecretStr("a")]),
    Record("a"), Record("a", "b"), Record("a", "c"), Plain(), Plain(1), Plain(2), Slotted(1),
    Slotted(2), attributed(more=1), Plain(1).method, Plain(2).method, Plain.method, Plain, Slotted,
    adder(1), adder(2), adder("a"), with_default(1), with_default(2), lambda x: x, lambda x: x + 1,
    functools.partial(adder, 1), functools.partial(adder, 2), functools.partial(adder, n=2), len,
    os.getcwd, [1].append, iter([1]), iter([2]), OrderedDict(a=1), defaultdict(int, a=1),
    defaultdict(list, a=1), {"a": 1}, text("a", 1), text("a", 2), Base, Wider, os,
    httpx.Client(headers={"x-tenant": "a"}), httpx.Client(headers={"x-tenant": "b"}),
    httpx.Client(base_url="http://a"), httpx.Client(auth=("u", "p")),
    httpx.Client(auth=("u", "q")), httpx.Client(cookies={"a": "b"}),
    httpx.Client(params={"a": "b"}),
    httpx.Client(event_hooks={"request": [adder(1)]}),
    httpx.Client(event_hooks={"request": [adder(2)]}),
]  # fmt: skip


def test_what_differs_anywhere_differs() -> None:
    found: dict[str, Any] = {}
    for value in DIFFERENT:
        one = spelt(value)
        assert one not in found, (value, found[one])
        found[one] = value


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Hidden(secret=SecretStr("a")), Hidden(secret=SecretStr("a"))),
        (private({"a": [1]}), private({"a": [1]})),
        (Plain([1]), Plain([1])),
        (adder(3), adder(3)),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({3, 1, 2}, {2, 3, 1}),
        (attributed(a=1, b=2), attributed(b=2, a=1)),
        (
            httpx.Client(),
            httpx.Client(timeout=3, headers={"User-Agent": "me", "X-Request-Id": "1"}),
        ),
        (threading.Lock(), threading.Event()),
        (attributed(lock=threading.RLock()), attributed(lock=threading.RLock())),
        (attributed(gate=asyncio.Semaphore(2)), attributed(gate=asyncio.Event())),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_equal_or_harmless_is_the_same(one: Any, other: Any) -> None:
    assert spelt(one) == spelt(other)


@pytest.mark.parametrize(
    "value",
    [
        socket.socket(),
        itertools.count(),
        contextvars.ContextVar("v"),
        open(os.devnull),  # noqa: SIM115
        Plain(sys.stdout),
        private([contextvars.ContextVar("v")]),
        adder(sys.stdout),
        sys.stdout,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_read_says_so(value: Any) -> None:
    with pytest.raises(Unreadable):
        StateReader().spell(value)
    if isinstance(value, socket.socket):
        value.close()


def test_a_bare_object_is_itself_alone() -> None:
    one, other = object(), object()
    assert spelt(one) == spelt(one) != spelt(other)
    assert spelt(Plain(one)) != spelt(Plain(other))


def test_cycles_and_depth_end() -> None:
    ring: list[Any] = [1]
    ring.append(ring)
    other: list[Any] = [1]
    other.append([1, other])
    assert spelt(ring) != spelt(other)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(Unreadable):
        StateReader().spell(deep)


LIMIT = 3


def helper(x: int) -> int:
    return x + LIMIT


def uses_helper(x: int) -> int:
    return helper(x)


def test_constants_and_helpers_that_a_function_names_are_read_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = spelt(uses_helper)
    monkeypatch.setitem(globals(), "LIMIT", 4)
    assert spelt(uses_helper) != before
    monkeypatch.undo()
    assert spelt(uses_helper) == before


VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable")


def uses_variable() -> str:
    return VARIABLE.get()


def test_a_function_that_reads_a_context_variable_cannot_be_read() -> None:
    with pytest.raises(Unreadable):
        StateReader().spell(uses_variable)


@pytest.mark.slow
def test_a_digest_is_the_same_in_another_process() -> None:
    code = (
        "from tests.core.test_identity import *\n"
        "values = [Hidden(secret=SecretStr('a')), Plain({'a', 'b', 'c'}), adder(3), uses_helper]\n"
        "print([spelt(value) for value in values])"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


# ------------------------------------------------------------------------------------- headers


def test_headers_are_named_in_small_letters_and_their_values_digested() -> None:
    found = header_identity(
        {"X-Tenant": "alice", "User-Agent": "me"}, {"authorization": "Bearer b"}
    )
    assert list(found) == ["authorization", "x-tenant"]
    assert "alice" not in str(found)
    assert found == header_identity({"x-tenant": "alice", "Authorization": "Bearer b"})
    assert header_identity({"a": "1"}, {"A": "2"}) == header_identity({"a": "2"})
    assert header_identity({"a": "1"}, {"A": None}) == {}
    assert header_identity({"a": SecretStr("1")}) == header_identity([("a", b"1")])
    assert header_identity({"a": "1", "b": "1"}, ignore=header_names(["B"])) == header_identity(
        {"a": "1"}
    )


@pytest.mark.parametrize("odd", ["text", 3, {"a": object()}, [1]])
def test_what_is_no_header_is_refused(odd: Any) -> None:
    with pytest.raises(ValueError, match="header"):
        header_identity(odd)


@pytest.mark.parametrize("odd", ["x-trace", [1], [""]])
def test_names_of_headers_to_ignore_are_checked(odd: Any) -> None:
    with pytest.raises(ValueError, match="ignore_headers"):
        header_names(odd)


# -------------------------------------------------------------------- digests taken only once


def digest(value: Any) -> Digest:
    return Digest(lambda reader: reader.spell(value))


def test_a_digest_is_taken_once_and_again_when_its_object_changed() -> None:
    taken = []
    value = attributed(a=[1, {"b": 2}], c=Hidden())

    def spell(reader: StateReader) -> Any:
        taken.append(1)
        return reader.spell(value)

    watched = Digest(spell)
    before = watched.now()
    assert [watched.now() for _ in range(3)] == [before] * 3
    assert len(taken) == 1
    changes: list[Callable[[], Any]] = [
        lambda: value.a.append(3),
        lambda: value.a[1].update(b=3),
        lambda: setattr(value.c, "shown", 5),
        lambda: setattr(value.c, "_private", "x"),
        lambda: setattr(value, "new", 1),
        lambda: setattr(value, "a", [1, {"b": 3}, 3]),
        lambda: value.a.append(4),
    ]
    seen = [before]
    for change in changes:
        change()
        seen.append(watched.now())
        assert watched.now() == seen[-1]
    assert len(set(seen)) == len(seen) - 1, "a list that was replaced by an equal one is no change"
    assert seen[-1] == digest(value).now()


def test_what_an_object_changes_in_itself_while_it_answers_is_no_setting() -> None:
    value = attributed(calls=0, seen=[], last=None, tenant="a", it=iter([1, 2, 3]), kept={})
    watched = digest(value)
    before = watched.now()
    for n in range(4):
        watched.began()
        value.calls += 1
        value.seen.append(n)
        value.last = f"question {n}"
        value.kept[n] = n
        next(value.it, None)
        watched.settle()
        assert watched.now() == before
    fresh = attributed(calls=0, seen=[], last=None, tenant="a", it=iter([1, 2, 3]), kept={})
    assert digest(fresh).now() == before
    value.tenant = "b"
    assert watched.now() != before
    value.tenant = "a"
    assert watched.now() == before


def test_what_grows_while_a_call_is_under_way_is_no_setting_but_another_text_is() -> None:
    value = attributed(calls=0, seen=[], tenant="a", limit=3)
    watched = digest(value)
    before = watched.now()
    watched.began()
    value.calls += 1
    value.seen.append(1)
    assert watched.now() == before
    value.tenant = "b"
    assert watched.now() != before


def test_a_closure_that_counts_is_one_function_and_a_rebound_one_another() -> None:
    count, factor = 0, 2

    def function(n: int) -> int:
        nonlocal count
        count += 1
        return n * factor

    watched = digest(function)
    before = watched.now()
    watched.began()
    function(1)
    watched.settle()
    assert watched.now() == before
    factor = 3
    assert watched.now() != before


def test_a_copy_of_an_object_has_a_digest_of_its_own() -> None:
    one = attributed(tenant="a")

    def make(owner: Any) -> Digest:
        return digest_of(owner, "test", lambda: Digest(lambda reader: reader.spell(owner)))

    assert make(one) is make(one)
    two = attributed()
    two.__dict__.update(one.__dict__)
    assert make(two) is not make(one)
    two.tenant = "b"
    assert make(two).now() != make(one).now()
    assert make(one).now() == spelt_digest(attributed(tenant="a"))


def spelt_digest(value: Any) -> str:
    return digest(value).now()


# ----------------------------------------------------------------------------- random mutations

leaves = (
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(allow_nan=False)
    | st.text(max_size=3)
    | st.binary(max_size=2)
    | st.sampled_from([Color.RED, Color.BLUE])
    | st.text(max_size=2).map(SecretStr)
)


def holders(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=2), inner, max_size=3)
        | inner.map(Plain)
        | inner.map(Slotted)
        | inner.map(private)
        | inner.map(adder)
        | inner.map(lambda value: functools.partial(adder, value))
        | inner.map(lambda value: attributed(a=value, b=1))
    )


trees = st.recursive(leaves, holders, max_leaves=6)


def shape(value: Any) -> Any:  # noqa: PLR0911 - one for each kind
    """Spell a tree by rules of the test's own, which know how it was made."""
    match value:
        case SecretStr():
            return ["secret", value.get_secret_value()]
        case list() | tuple():
            return [type(value).__name__, *map(shape, value)]
        case dict():
            return ["dict", sorted((repr(key), shape(item)) for key, item in value.items())]
        case functools.partial():
            return ["partial", *map(shape, value.args)]
        case Hidden():
            return ["hidden", shape(value._private)]
        case Slotted():
            return ["slotted", shape(value.value)]
        case Plain():
            return ["plain", sorted((key, shape(item)) for key, item in vars(value).items())]
        case _ if callable(value) and getattr(value, "__closure__", None):
            return ["adder", shape(value.__closure__[0].cell_contents)]
        case _:
            return [type(value).__name__, repr(value)]


@settings(max_examples=100, deadline=None)
@given(trees, trees)
def test_two_trees_have_one_spelling_only_if_they_are_equal(one: Any, other: Any) -> None:
    assert (spelt(one) == spelt(other)) == (repr(shape(one)) == repr(shape(other)))


def _torn() -> tuple[tuple[str, ...], tuple[int, ...]]:
    return ("a", "b"), (1,)


def _resized() -> tuple[tuple[str, ...], tuple[int, ...]]:
    raise RuntimeError("dictionary changed size during iteration")


def _gone() -> tuple[tuple[str, ...], tuple[int, ...]]:
    raise AttributeError("slot")


@pytest.mark.parametrize("read", [_torn, _resized, _gone])
@pytest.mark.parametrize("place", [0, -1])
def test_a_state_that_another_thread_is_changing_costs_no_call_and_is_read_anew(
    read: Any, place: int
) -> None:
    class Model:
        def __init__(self) -> None:
            self.seen, self.name = {"a": 1}, "m"

    model = Model()
    digest = Digest(lambda reader: reader.spell(model), owner=model)
    before = digest.now()
    digest._watches[place].read = read
    with digest.calling():
        pass
    assert digest.now() == before
    model.name = "n"
    assert digest.now() != before
