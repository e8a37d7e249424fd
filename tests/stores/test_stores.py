"""Both embedded stores pass the suite, and behave as a plain dict does."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared_core.stores import Selector, Store, epoch_key, open_store
from shared_core.testing.stores import SPACE, BoundedStoreConformance, FakeClock, record, unit


class TestMemory(BoundedStoreConformance):
    @pytest.fixture
    def open_one(self, clock: FakeClock) -> Callable[..., Store]:
        return lambda **options: open_store("memory://", clock=clock, **options)

    def test_each_open_is_a_store_of_its_own(self, open_one: Callable[..., Store]) -> None:
        one, other = open_one(), open_one()
        one.put(record())
        assert other.get("k") is None


class TestSqlite(BoundedStoreConformance):
    @pytest.fixture
    def open_one(self, clock: FakeClock, tmp_path: Path) -> Iterator[Callable[..., Store]]:
        opened: list[Store] = []

        def open_one(**options: Any) -> Store:
            url = f"sqlite:///{tmp_path}/answers.db"
            opened.append(open_store(url, clock=clock, timeout=5.0, **options))
            return opened[-1]

        yield open_one
        for store in opened:
            store.close()


class Model:
    """What a store is, in a plain dict: least recently used first."""

    def __init__(self, limit: int) -> None:
        self.limit, self.now, self.epochs = limit, 0.0, {"s": 0, "t": 0}
        self.kept: dict[str, tuple[Any, float, dict[str, int]]] = {}

    def live(self, key: str) -> bool:
        if key not in self.kept:
            return False
        _, expires, epochs = self.kept[key]
        return expires > self.now and all(self.epochs[tag] == n for tag, n in epochs.items())

    def use(self, key: str) -> None:
        self.kept[key] = self.kept.pop(key)

    def put(self, key: str, vector: Any, ttl: float, tags: tuple[str, ...]) -> None:
        self.kept = {k: v for k, v in self.kept.items() if v[1] > self.now and k != key}
        self.kept[key] = (vector, self.now + ttl, {tag: self.epochs[tag] for tag in tags})
        while len(self.kept) > self.limit:
            del self.kept[next(iter(self.kept))]


KEYS = st.sampled_from("abcdefgh")
STEPS = st.one_of(
    st.tuples(st.just("put"), KEYS, st.integers(0, 7), st.sampled_from(["", "s", "st"])),
    st.tuples(st.just("get"), KEYS),
    st.tuples(st.just("delete"), KEYS),
    st.tuples(st.just("bump"), st.sampled_from("st")),
    st.tuples(st.just("wait"), st.integers(1, 5)),
    st.tuples(st.just("nearest"), st.integers(0, 7)),
)


@pytest.mark.parametrize("url", ["memory://", "sqlite:///{folder}/{name}.db"])
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=st.lists(STEPS, max_size=40))
def test_any_history_is_that_of_a_plain_dict(url: str, steps: list[Any], tmp_path: Path) -> None:
    clock, model = FakeClock(), Model(limit=4)
    start = clock.now
    name = len(os.listdir(tmp_path))
    store = open_store(url.format(folder=tmp_path, name=name), max_entries=4, clock=clock)
    try:
        for step in steps:
            play(step, store, model)
            clock.now = start + model.now
            assert store.info().entries <= 4
    finally:
        store.close()


def play(step: Any, store: Store, model: Model) -> None:
    match step:
        case ("put", key, angle, tags):
            expires = 1_700_000_000.0 + model.now + angle + 1
            vector = unit(1, angle / 10, 0)
            store.put(record(key, vector, tags=tuple(tags), expires=expires))
            model.put(key, vector, angle + 1, tuple(tags))
        case ("get", key):
            assert (store.get(key) is not None) == model.live(key)
            if model.live(key):
                model.use(key)
        case ("delete", key):
            assert store.delete(Selector("n", key=key)) == model.live(key)
            model.kept.pop(key, None)
        case ("bump", tag):
            store.increment({epoch_key("n", tag): 1})
            model.epochs[tag] += 1
        case ("wait", seconds):
            model.now += seconds
        case ("nearest", angle):
            query = unit(1, angle / 10, 0)
            live = {k: float(v[0] @ query) for k, v in model.kept.items() if model.live(k)}
            found = store.nearest("scope", SPACE, query, 9)
            assert {n.record.key: pytest.approx(n.similarity, abs=1e-5) for n in found} == live
            assert [n.similarity for n in found] == sorted(live.values(), reverse=True) or all(
                abs(n.similarity - s) < 1e-5
                for n, s in zip(found, sorted(live.values(), reverse=True), strict=True)
            )
            if found:
                model.use(found[0].record.key)
            for key in [k for k in model.kept if not model.live(k)]:
                del model.kept[key]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "memory",
        "memory://name",
        "memory:",
        "sqlite",
        "sqlite://",
        "sqlite:///",
        "sqlite:////",
        "sqlite://answers.db",
        "sqlite:///:memory:",
        "sqlite:///answers.db?mode=ro",
        "postgres://host/db",
        "answers.db",
    ],
)
def test_a_url_that_is_not_understood_is_named_with_the_known_forms(url: str) -> None:
    with pytest.raises(ValueError, match="known forms") as caught:
        open_store(url)
    assert repr(url) in str(caught.value)
    assert "sqlite:///relative.db" in str(caught.value)


@pytest.mark.parametrize(
    ("option", "value"), [("max_entries", 0), ("max_entries", -1), ("timeout", 0), ("timeout", -1)]
)
def test_an_option_that_can_not_be_is_named(option: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{option}={value}"):
        open_store("memory://", **{option: value})  # type: ignore[arg-type]  # both are numbers


def test_a_relative_and_an_encoded_path_name_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one = open_store("sqlite:///my%20answers.db")
    monkeypatch.chdir("/")
    one.put(record())
    other = open_store(f"sqlite:///{tmp_path}/my answers.db")
    assert other.get("k") is not None
    one.close()
    other.close()
