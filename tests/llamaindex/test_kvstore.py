"""One suite for key-value stores: ours on every store, and LlamaIndex's own beside them."""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.ingestion import IngestionCache, IngestionPipeline
from llama_index.core.schema import Document, TextNode, TransformComponent
from llama_index.core.storage.docstore.keyval_docstore import KVDocumentStore
from llama_index.core.storage.index_store.keyval_index_store import KVIndexStore
from llama_index.core.storage.kvstore import SimpleKVStore
from llama_index.core.storage.kvstore.types import BaseKVStore

from llamaindex_tiered_cache import TieredKVStore
from shared_core import Answer, Request, ResponseCache, StoreError
from tests.fakes import Clock
from tests.llamaindex.leftovers import MARKS, collected  # noqa: F401 - for every test here

pytestmark = MARKS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def cache(store_url: str) -> Iterator[ResponseCache]:
    with ResponseCache.open(store_url, semantic=False) as opened:
        yield opened


@pytest.fixture(params=["tiered", "simple"])
def store(request: pytest.FixtureRequest, cache: ResponseCache) -> BaseKVStore:
    return SimpleKVStore() if request.param == "simple" else TieredKVStore(cache)


# --------------------------------------------------------------------------------- conformance


def test_what_is_put_is_got_until_it_is_deleted(store: BaseKVStore) -> None:
    assert store.get("a") is None
    store.put("a", {"x": [1, {"y": None}]})
    store.put("a", {"x": 2})
    store.put("", {"empty": "key"})
    assert store.get("a") == {"x": 2}
    assert store.get("") == {"empty": "key"}
    assert store.delete("a") is True
    assert store.delete("a") is False
    assert store.get("a") is None


def test_async_calls_do_the_same(store: BaseKVStore) -> None:
    async def use() -> None:
        await store.aput("a", {"x": 1})
        await store.aput_all([("b", {"x": 2})])
        assert await store.aget("a") == {"x": 1}
        assert await store.aget("c") is None
        assert await store.aget_all() == {"a": {"x": 1}, "b": {"x": 2}}
        assert await store.adelete("a") is True
        assert await store.adelete("a") is False

    asyncio.run(use())


def test_collections_are_apart(store: BaseKVStore) -> None:
    store.put("a", {"x": 1}, collection="one")
    store.put("a", {"x": 2}, collection="two")
    store.put("b:c", {"x": 3}, collection="a")
    store.put("c", {"x": 4}, collection="a:b")
    assert store.get("a", collection="one") == {"x": 1}
    assert store.get("a") is None
    assert store.get_all(collection="two") == {"a": {"x": 2}}
    assert store.get_all(collection="a") == {"b:c": {"x": 3}}
    assert store.get_all(collection="nothing") == {}


def test_batches_hold_what_single_puts_hold(store: BaseKVStore) -> None:
    pairs = [(f"k{i}", {"i": i}) for i in range(1203)]
    store.put_all(pairs)
    assert store.get_all() == dict(pairs)


def test_a_value_that_is_got_is_a_copy(store: BaseKVStore) -> None:
    store.put("a", {"x": 1})
    found = store.get("a")
    assert found is not None
    found["x"] = 2
    assert store.get("a") == {"x": 1}


def test_an_empty_store_is_true(store: BaseKVStore) -> None:
    assert store


# -------------------------------------------------------------------------------------- ours


def test_large_batches_take_the_size_they_are_given(cache: ResponseCache) -> None:
    store = TieredKVStore(cache)
    pairs = [(f"k{i}", {"i": i}) for i in range(7)]
    store.put_all(pairs, batch_size=3)
    assert store.get_many([key for key, _ in pairs]) == dict(pairs)
    assert store.get_many(["k1", "nothing"]) == {"k1": {"i": 1}}


def test_namespaces_are_apart(cache: ResponseCache) -> None:
    one, two = (TieredKVStore(cache, namespace=name) for name in ("a", "a:1"))
    one.put("k", {"x": 1})
    assert two.get("k") is None
    assert two.get_all() == {}


def test_values_live_for_their_ttl(tmp_path: Path) -> None:
    for url in ("memory://", f"sqlite:///{tmp_path / 'values.db'}"):
        clock = Clock()
        with ResponseCache.open(url, semantic=False, clock=clock) as cache:
            TieredKVStore(cache, ttl=60).put("a", {"x": 1})
            TieredKVStore(cache, ttl=float("inf")).put("b", {"x": 2})
            TieredKVStore(cache).put("c", {"x": 3})
            clock.now += 61
            assert set(TieredKVStore(cache).get_all()) == {"b", "c"}


def test_answers_that_are_evicted_or_cleared_leave_values_alone(store_url: str) -> None:
    bound: dict[str, Any] = {} if store_url.startswith("redis") else {"max_entries": 1}
    with ResponseCache.open(store_url, semantic=False, **bound) as cache:
        store = TieredKVStore(cache)
        store.put_all([(f"k{i}", {"i": i}) for i in range(20)])
        for text in "abc":
            cache.store(Request.of(text), Answer(text))
        cache.clear()
        assert len(store.get_all()) == 20


@pytest.mark.slow
def test_values_persist_and_a_pickled_store_reconnects(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'values.db'}"
    with ResponseCache.open(url, semantic=False) as cache:
        store = TieredKVStore(cache, namespace="n", ttl=900)
        store.put("a", {"x": 1})
        assert pickle.loads(pickle.dumps(store)).get("a") == {"x": 1}  # noqa: S301 - its own
        code = "import pickle, sys; print(pickle.load(sys.stdin.buffer).get('a'))"
        child = subprocess.run(
            [sys.executable, "-c", code],
            input=pickle.dumps(store),
            capture_output=True,
            cwd=ROOT,
            check=False,
        )
        assert child.stdout.decode().strip() == "{'x': 1}", child.stderr.decode()
    with ResponseCache.open(url, semantic=False) as again:
        assert TieredKVStore(again, namespace="n").get("a") == {"x": 1}


def test_what_fails_is_raised(cache: ResponseCache) -> None:
    store = TieredKVStore(cache)
    with pytest.raises(TypeError):
        store.put("a", {"x": object()})
    cache.close()
    with pytest.raises(StoreError):
        store.get("a")


@pytest.mark.parametrize(
    "wrong", [{"cache": 3}, {"cache": "nosuch://x"}, {"namespace": ""}, {"ttl": 0}], ids=str
)
def test_wrong_arguments_raise_at_construction(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be|not understood"):
        TieredKVStore(**{"cache": "memory://", **wrong})


# ------------------------------------------------------------------------------- its users


class Shout(TransformComponent):
    """A transformation that counts."""

    runs: int = 0

    def __call__(self, nodes: Any, **kwargs: Any) -> Any:
        SHOUTED.append(len(nodes))
        return [TextNode(text=node.text.upper(), id_=f"s-{node.node_id}") for node in nodes]


SHOUTED: list[int] = []


def test_a_second_run_of_a_pipeline_transforms_nothing(cache: ResponseCache) -> None:
    SHOUTED.clear()
    documents = [Document(text=f"text {i}", id_=f"d{i}") for i in range(5)]

    def run() -> list[str]:
        ingestion = IngestionCache(cache=TieredKVStore(cache, namespace="ingest"))
        pipeline = IngestionPipeline(transformations=[Shout()], cache=ingestion)
        return [node.get_content() for node in pipeline.run(documents=documents)]

    async def arun() -> list[str]:
        ingestion = IngestionCache(cache=TieredKVStore(cache, namespace="ingest"))
        pipeline = IngestionPipeline(transformations=[Shout()], cache=ingestion)
        return [node.get_content() for node in await pipeline.arun(documents=documents)]

    first = run()
    assert run() == first == [f"TEXT {i}" for i in range(5)]
    assert asyncio.run(arun()) == first
    assert SHOUTED == [5]
    IngestionCache(cache=TieredKVStore(cache, namespace="ingest")).clear()
    run()
    assert SHOUTED == [5, 5]


def test_documents_and_indexes_live_in_it(cache: ResponseCache) -> None:
    store = TieredKVStore(cache, namespace="handbook")
    documents = KVDocumentStore(store, batch_size=10)
    documents.add_documents([Document(text=f"text {i}", id_=f"d{i}") for i in range(25)])
    again = KVDocumentStore(TieredKVStore(cache, namespace="handbook"))
    assert again.get_document("d7").text == "text 7"
    assert len(again.docs) == 25
    again.delete_document("d7")
    assert documents.get_document("d7", raise_error=False) is None
    assert KVIndexStore(store).index_structs() == []
