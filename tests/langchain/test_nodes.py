"""LangGraph's node cache: graphs and tasks run once, whatever the store, and never break by it."""

from __future__ import annotations

import asyncio
import operator
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.func import entrypoint, task
from langgraph.graph import StateGraph
from langgraph.types import CachePolicy

from langchain_tiered_cache import TieredCache, TieredNodeCache
from shared_core import ResponseCache

NODES = ("a", "b", "c", "d", "e")


@dataclass
class Verdict:
    text: str
    score: float


class State(TypedDict):
    seen: Annotated[list[Any], operator.add]


class Graph:
    """Five nodes in a row, each counted as it runs."""

    def __init__(self, cache: TieredNodeCache, ttl: int | None = None) -> None:
        self.ran: list[str] = []
        builder = StateGraph(State)
        for name in NODES:
            builder.add_node(name, self._node(name), cache_policy=CachePolicy(ttl=ttl))  # type: ignore[call-overload]
        builder.set_entry_point("a")
        for one, other in pairwise(NODES):
            builder.add_edge(one, other)
        self.compiled = builder.compile(cache=cache)

    def _node(self, name: str) -> Callable[[State], State]:
        def node(state: State) -> State:
            self.ran.append(name)
            return {"seen": [f"{name}{len(state['seen'])}"]}

        return node

    def __call__(self, *start: Any) -> list[Any]:
        found: list[Any] = self.compiled.invoke({"seen": list(start)})["seen"]
        return found


@pytest.fixture(
    params=["memory", "sqlite", pytest.param("redis", marks=pytest.mark.redis)],
)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "redis":
        return str(request.getfixturevalue("redis_url"))
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/nodes.db"


@pytest.fixture
def cache(url: str) -> Iterator[TieredNodeCache]:
    with TieredNodeCache(url) as opened:
        yield opened


def test_the_second_run_of_a_graph_runs_no_node(cache: TieredNodeCache) -> None:
    graph = Graph(cache)
    first = graph("x")
    assert graph.ran == list(NODES)
    assert graph("x") == first == ["x", "a1", "b2", "c3", "d4", "e5"]
    assert graph.ran == list(NODES)


async def test_the_second_run_of_a_graph_runs_no_node_when_awaited(cache: TieredNodeCache) -> None:
    graph = Graph(cache)
    first = await graph.compiled.ainvoke({"seen": ["x"]})
    assert await graph.compiled.ainvoke({"seen": ["x"]}) == first
    assert graph.ran == list(NODES)


def test_another_input_runs_the_nodes(cache: TieredNodeCache) -> None:
    graph = Graph(cache)
    graph("x")
    graph("y")
    assert graph.ran == [*NODES, *NODES]


@pytest.mark.slow
def test_a_result_ends_with_its_time(cache: TieredNodeCache) -> None:
    full = (("node",), "k")
    cache.set({full: (["brief"], 1), (("node",), "kept"): (["long"], None)})
    assert cache.get([full]) == {full: ["brief"]}
    end = time.monotonic() + 5
    while cache.get([full]) and time.monotonic() < end:
        time.sleep(0.05)
    assert list(cache.get([full, (("node",), "kept")])) == [(("node",), "kept")]


def test_clear_forgets_one_namespace_or_all(cache: TieredNodeCache) -> None:
    one, other, longer = (("n", "a"), "k"), (("n", "b"), "k"), (("n", "a", "b"), "k")
    pairs = {key: (["v"], None) for key in (one, other, longer)}
    cache.set(pairs)
    cache.clear([("n", "a")])
    assert set(cache.get(list(pairs))) == {other, longer}
    asyncio.run(cache.aclear())
    assert cache.get(list(pairs)) == {}


def test_many_keys_are_one_read(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = TieredNodeCache()
    reads: list[int] = []
    real = cache.cache.values.get_many

    def counted(keys: Any) -> Any:
        reads.append(len(keys))
        return real(keys)

    monkeypatch.setattr(cache.cache.values, "get_many", counted)
    cache.get([(("n",), str(number)) for number in range(50)])
    assert reads == [50]


def test_messages_documents_and_allowed_classes_come_back_as_they_were() -> None:
    cache, key = TieredNodeCache(allow=[Verdict]), (("n",), "k")
    value = [
        [HumanMessage("Hi", id="1"), AIMessage("Hello", id="2", tool_calls=[])],
        Document("text", metadata={"page": 3}),
        Verdict("good", 0.5),
        {"bytes": b"\0", "set": {1}, "date": date(2026, 1, 2), 7: 1.5},
    ]
    cache.set({key: (value, None)})
    assert cache.get([key]) == {key: value}
    assert type(cache.get([key])[key][2]) is Verdict


def test_a_class_that_is_not_allowed_is_not_kept_and_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cache, key = TieredNodeCache(), (("n",), "k")
    cache.set({key: ([("v", Verdict("good", 0.5))], None)})
    assert cache.get([key]) == {}
    assert "Verdict" in caplog.text
    assert "allow=[" in caplog.text


def test_what_one_list_of_classes_wrote_another_does_not_read(tmp_path: Path) -> None:
    url, key = f"sqlite:///{tmp_path}/nodes.db", (("n",), "k")
    with TieredNodeCache(url, allow=[Verdict]) as wrote, TieredNodeCache(url) as reads:
        wrote.set({key: ([("v", Verdict("good", 0.5))], None)})
        assert reads.get([key]) == {}
        assert wrote.get([key])


def test_nothing_is_pickled() -> None:
    class Local:
        pass

    cache, key = TieredNodeCache(), (("n",), "k")
    cache.set({key: ([("v", Local())], None)})
    assert cache.get([key]) == {}


def test_tenants_share_nothing(tmp_path: Path) -> None:
    url, key = f"sqlite:///{tmp_path}/nodes.db", (("n",), "k")
    with TieredNodeCache(url, namespace="a") as one, TieredNodeCache(url, namespace="b") as other:
        one.set({key: (["a"], None)})
        assert other.get([key]) == {}
        other.clear()
        assert one.get([key]) == {key: ["a"]}
        with one.cache.control(namespace="c"):
            assert one.get([key]) == {}


def test_controls_of_a_call_hold() -> None:
    cache, key = TieredNodeCache(), (("n",), "k")
    with cache.cache.control(write=False):
        cache.set({key: (["v"], None)})
    assert cache.get([key]) == {}
    cache.set({key: (["v"], None)})
    with cache.cache.control(read=False):
        assert cache.get([key]) == {}


def test_a_value_that_is_changed_by_its_reader_stays_as_it_was() -> None:
    cache, key = TieredNodeCache(), (("n",), "k")
    cache.set({key: ([["v"]], None)})
    cache.get([key])[key][0].append("more")
    assert cache.get([key]) == {key: [["v"]]}


def test_a_store_that_fails_lets_the_graph_run(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = TieredNodeCache()

    def fails(*_: Any) -> Any:
        raise OSError("gone")

    for name in ("get_many", "put_many", "scan"):
        monkeypatch.setattr(cache.cache.values, name, fails)
    graph = Graph(cache)
    assert graph("x") == graph("x")
    cache.clear()
    assert graph.ran == [*NODES, *NODES]
    assert cache.cache.stats().errors


def test_garbage_in_the_store_is_a_miss() -> None:
    cache, key = TieredNodeCache(), (("n",), "k")
    cache.set({key: (["v"], None)})
    (name,), _ = cache.cache.values.scan("node:")
    for garbage in (b"", b"x", b"pickle:x", b"msgpack:\xc1", b"json:{", b"\xff:1"):
        cache.cache.values.put_many({name: garbage})
        assert cache.get([key]) == {}


def test_graphs_that_need_one_node_at_a_time_run_it_once(tmp_path: Path) -> None:
    ran, begun = list[int](), threading.Event()

    def slow(state: State) -> State:
        begun.set()
        ran.append(1)
        time.sleep(0.2)
        return {"seen": ["done"]}

    builder = StateGraph(State)
    builder.add_node("slow", slow, cache_policy=CachePolicy())
    builder.set_entry_point("slow")
    graph = builder.compile(cache=TieredNodeCache())
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(graph.invoke, {"seen": []})
        begun.wait()
        others = [pool.submit(graph.invoke, {"seen": []}) for _ in range(7)]
        assert {tuple(one.result()["seen"]) for one in (first, *others)} == {("done",)}
    assert ran == [1]


async def test_a_node_that_fails_frees_those_who_wait() -> None:
    ran = list[float]()

    async def fails(state: State) -> State:
        ran.append(time.monotonic())
        await asyncio.sleep(0.05)
        raise ValueError("no")

    builder = StateGraph(State)
    builder.add_node("fails", fails, cache_policy=CachePolicy())
    builder.set_entry_point("fails")
    graph = builder.compile(cache=TieredNodeCache(lease=30))
    runs = [asyncio.create_task(graph.ainvoke({"seen": []})) for _ in range(3)]
    start = time.monotonic()
    results = await asyncio.gather(*runs, return_exceptions=True)
    assert all(isinstance(one, ValueError) for one in results)
    assert time.monotonic() - start < 5


async def test_a_graph_inside_a_node_that_needs_the_same_node_does_not_wait_for_itself() -> None:
    depth = list[int]()
    key = CachePolicy(key_func=lambda *_: "same")

    async def nested(state: State) -> State:
        depth.append(1)
        if len(depth) < 3:
            await graph.ainvoke({"seen": []})
        return {"seen": [len(depth)]}

    builder = StateGraph(State)
    builder.add_node("nested", nested, cache_policy=key)
    builder.set_entry_point("nested")
    graph = builder.compile(cache=TieredNodeCache(lease=30))
    start = time.monotonic()
    await graph.ainvoke({"seen": []})
    assert time.monotonic() - start < 5


def test_tasks_of_the_functional_api_are_kept(cache: TieredNodeCache) -> None:
    ran = list[int]()

    @task(cache_policy=CachePolicy())
    def double(number: int) -> int:
        ran.append(number)
        return 2 * number

    @entrypoint(cache=cache)
    def whole(numbers: list[int]) -> list[int]:
        return [one.result() for one in [double(number) for number in numbers]]

    assert whole.invoke([1, 2, 3]) == whole.invoke([1, 2, 3]) == [2, 4, 6]
    assert sorted(ran) == [1, 2, 3]


PROGRAM = """
import asyncio, sys
from tests.langchain.test_nodes import Graph
from langchain_tiered_cache import TieredNodeCache
from shared_core import ResponseCache

cache = ResponseCache.open(sys.argv[1], semantic=False, timeout=60)  # the machine is busy
graph = Graph(TieredNodeCache(cache))
found = graph("x") if sys.argv[2] == "sync" else asyncio.run(
    graph.compiled.ainvoke({"seen": ["x"]}))["seen"]
print(found, len(graph.ran))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "url", ["sqlite", pytest.param("redis", marks=pytest.mark.redis)], indirect=True
)
def test_eight_processes_share_what_one_of_them_kept(url: str) -> None:
    root = Path(__file__).parents[2]

    def runs(ways: list[str]) -> list[str]:
        """Run a graph in as many processes at a time; return what each found, and what ran."""
        started = [
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM, url, way],
                stdout=subprocess.PIPE,
                text=True,
                cwd=root,
                env={"PYTHONPATH": str(root), "PATH": "", "OMP_NUM_THREADS": "1"},
            )
            for way in ways
        ]
        return [one.communicate(timeout=120)[0].strip() for one in started]

    found = "['x', 'a1', 'b2', 'c3', 'd4', 'e5']"
    assert runs(["sync"]) == [f"{found} 5"]
    assert runs(["sync", "async"] * 4) == [f"{found} 0"] * 8


@pytest.mark.parametrize("name", ["get", "aget", "set", "aset"])
def test_the_cache_of_model_calls_says_what_langgraph_takes(name: str) -> None:
    with pytest.raises(AttributeError, match="TieredNodeCache"):
        getattr(TieredCache(semantic=False), name)


def test_a_cache_that_is_given_is_used_and_stays_open() -> None:
    inner = ResponseCache.open(semantic=False)
    with TieredNodeCache(TieredCache(cache=inner)) as cache:
        cache.set({(("n",), "k"): (["v"], None)})
    assert inner.values.scan("node:")[0]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"cache": 3}, "cache"),
        ({"allow": [3]}, "allow"),
        ({"ttl": 0}, "ttl"),
        ({"lease": -1}, "lease"),
        ({"namespace": ""}, "namespace"),
    ],
)
def test_wrong_arguments_are_named(options: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        TieredNodeCache(**options)
