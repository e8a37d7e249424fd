"""Look up, coalesce, ask, record, keep, fail open: written once, for whoever computes an answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from shared_core import Answer, Hit, Request, ResponseCache
from shared_core.compute import (
    aread_through,
    astream_through,
    read_through,
    stream_through,
)

REQUEST = Request.of("What is a fuse?", model="m")


class Upper:
    """A form whose values are answers in capitals; says what was done, and fails where told."""

    def __init__(self, fails: str = "") -> None:
        self.fails, self.ids = fails, list[str | None]()

    def _may_fail(self, at: str) -> None:
        if self.fails == at:
            raise ValueError(at)

    def read(self, hit: Hit) -> str:
        self._may_fail("read")
        return hit.answer.text.upper()

    def write(self, value: str) -> Answer | None:
        self._may_fail("write")
        return None if value == "UNKEPT" else Answer(value.lower())

    def fresh(self, value: str, mark: dict[str, Any]) -> str:
        self.ids.append(mark["entry_id"])
        return value

    def chunks(self, hit: Hit) -> Iterator[str]:
        self._may_fail("read")
        return iter(hit.answer.text.upper().split())

    def recorder(self) -> Recorder:
        return Recorder(self)


class Recorder:
    def __init__(self, form: Upper) -> None:
        self.form, self.seen = form, list[str]()

    def take(self, chunk: str) -> list[str]:
        self.seen.append(chunk)
        return [chunk]

    def whole(self) -> Answer | None:
        return self.form.write(" ".join(self.seen))

    def rest(self, entry_id: str | None) -> list[str]:
        self.form.ids.append(entry_id)
        return ["END"]


class Model:
    def __init__(self, *words: str) -> None:
        self.words, self.calls = words or ("IT", "MELTS"), 0

    def __call__(self) -> str:
        self.calls += 1
        return " ".join(self.words)

    def stream(self) -> Iterator[str]:
        self.calls += 1
        yield from self.words


Way = Callable[[ResponseCache, Model, Upper, Any], str]


def by_call(cache: ResponseCache, model: Model, form: Upper, fail: Any = None) -> str:
    return read_through(cache, REQUEST, model, form, fail)


def by_acall(cache: ResponseCache, model: Model, form: Upper, fail: Any = None) -> str:
    async def ask() -> str:
        return model()

    return asyncio.run(aread_through(cache, REQUEST, ask, form, fail))


def by_stream(cache: ResponseCache, model: Model, form: Upper, fail: Any = None) -> str:
    chunks = stream_through(cache, REQUEST, model.stream, form, fail, joins=True)
    return " ".join(chunk for chunk in chunks if chunk != "END")


def by_astream(cache: ResponseCache, model: Model, form: Upper, fail: Any = None) -> str:
    async def whole() -> str:
        async def open() -> AsyncIterator[str]:
            async def chunks() -> AsyncIterator[str]:
                for word in model.stream():
                    yield word

            return chunks()

        found = await astream_through(cache, REQUEST, open, form, fail, joins=True)
        return " ".join([chunk async for chunk in found if chunk != "END"])

    return asyncio.run(whole())


def elsewhere(way: Way, cache: ResponseCache, model: Model, form: Upper) -> str:
    """Ask in another thread, which waits for nobody that has given up: at most five seconds."""
    pool = ThreadPoolExecutor(1)
    try:
        return pool.submit(way, cache, model, form, None).result(5)
    finally:
        pool.shutdown(wait=False)


WAYS = [by_call, by_acall, by_stream, by_astream]


@pytest.fixture
def cache() -> Iterator[ResponseCache]:
    found = ResponseCache.open("memory://", semantic=False)
    yield found
    found.close()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("again", WAYS)
def test_the_model_is_asked_once_whichever_way(cache: ResponseCache, way: Way, again: Way) -> None:
    model, form = Model(), Upper()
    assert way(cache, model, form, None) == again(cache, model, form, None) == "IT MELTS"
    assert model.calls == 1
    (entry_id,) = form.ids
    found = cache.lookup(REQUEST)
    assert isinstance(found, Hit)
    assert found.entry_id == entry_id


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("broken", ["lookup", "store", "read"])
def test_whatever_fails_in_the_cache_is_passed_over_and_told(
    cache: ResponseCache, way: Way, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise OSError(broken)

    told: list[tuple[str, str]] = []
    if broken == "read":
        cache.store(REQUEST, Answer("it melts"))
    else:
        monkeypatch.setattr(cache, broken, fails)
    model, form = Model("A", "NEW", "ONE"), Upper("read" if broken == "read" else "")
    found = way(cache, model, form, lambda part, error: told.append((part, str(error))))
    assert (found, model.calls) == ("A NEW ONE", 1)
    assert told == [(broken, broken)]


@pytest.mark.parametrize("way", [by_call, by_acall])
def test_a_value_that_cannot_be_written_is_given_and_not_kept(
    cache: ResponseCache, way: Way
) -> None:
    told: list[str] = []
    for form, model in ((Upper("write"), Model()), (Upper(), Model("UNKEPT"))):
        assert way(cache, model, form, lambda part, _: told.append(part)) == " ".join(model.words)
        assert form.ids == [None]
    assert told == ["write"]
    assert not isinstance(cache.lookup(REQUEST), Hit)


@pytest.mark.parametrize("way", WAYS)
def test_without_anybody_to_be_told_a_failure_is_counted(
    cache: ResponseCache, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise KeyError("store")

    monkeypatch.setattr(cache, "store", fails)
    way(cache, Model(), Upper(), None)
    assert cache.stats().errors == {"store:KeyError": 1}


@pytest.mark.parametrize("way", WAYS)
def test_what_the_model_raises_is_raised_and_holds_nobody_up(
    cache: ResponseCache, way: Way
) -> None:
    class Failing(Model):
        def __call__(self) -> str:
            raise ZeroDivisionError

        def stream(self) -> Iterator[str]:
            yield "IT"
            raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            way(cache, Failing(), Upper(), None)
    assert elsewhere(way, cache, Model(), Upper()) == "IT MELTS"


@pytest.mark.parametrize("way", [by_call, by_stream])
def test_equal_calls_under_way_make_one_call(cache: ResponseCache, way: Way) -> None:
    inside = threading.Barrier(2, timeout=10)
    go = threading.Event()

    class Slow(Model):
        def _waits(self) -> None:
            inside.wait()
            go.wait(10)

        def __call__(self) -> str:
            self._waits()
            return super().__call__()

        def stream(self) -> Iterator[str]:
            self._waits()
            return super().stream()

    model = Slow()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(way, cache, model, Upper(), None)
        inside.wait()
        second = pool.submit(way, cache, model, Upper(), None)
        with suppress(TimeoutError):
            second.result(0.2)
        go.set()
        assert first.result(10) == second.result(10) == "IT MELTS"
    assert model.calls == 1


@pytest.mark.parametrize("leaves_at", [0, 1])
def test_a_stream_that_is_left_early_is_not_kept_and_holds_nobody_up(
    cache: ResponseCache, leaves_at: int
) -> None:
    model, form = Model(), Upper()
    chunks = stream_through(cache, REQUEST, model.stream, form, joins=True)
    assert [next(chunks) for _ in range(leaves_at + 1)] == ["IT", "MELTS"][: leaves_at + 1]
    chunks.close()
    assert form.ids == []
    assert elsewhere(by_call, cache, model, form) == "IT MELTS"
    assert model.calls == 2


def test_an_answer_that_is_an_error_is_its_callers_alone(cache: ResponseCache) -> None:
    class Error(Upper):
        def write(self, value: str) -> Answer | None:
            return Answer(value, finish_reason="error")

    form, model = Error(), Model()
    assert by_call(cache, model, form) == by_call(cache, model, form) == "IT MELTS"
    assert (model.calls, form.ids) == (2, [None, None])
