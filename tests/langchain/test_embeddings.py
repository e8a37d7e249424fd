"""LangChain's embeddings and byte stores on the stores of a cache."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain_classic.embeddings import CacheBackedEmbeddings
from langchain_core.embeddings import Embeddings
from langchain_openai import OpenAIEmbeddings
from langchain_tests.integration_tests.base_store import BaseStoreAsyncTests, BaseStoreSyncTests
from pydantic import BaseModel, Field

from langchain_tiered_cache import CachedEmbeddings, TieredByteStore, TieredCache
from langchain_tiered_cache.embeddings import BATCH
from shared_core import ResponseCache, StoreError
from tests.fakes import Clock


class Numbers(BaseModel, Embeddings):
    """Embeds a text as numbers that no float32 holds; queries are negative. Notes its calls."""

    name: str = "numbers"
    client: Any = None
    calls: list[tuple[str, list[str]]] = Field(default_factory=list, exclude=True)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.calls.append(("document", texts))
        return [[len(text) / 3, ord(text[0]) / 7] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        self.calls.append(("query", [text]))
        return [-len(text) / 3, ord(text[0]) / 7]


class Unnamed(Embeddings):
    """Embeddings that say nothing of themselves."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[1.0] for _ in texts]

    def embed_query(self, text: str) -> list[float]:
        return [1.0]


@pytest.fixture
def cache(store_url: str) -> Iterator[ResponseCache]:
    with ResponseCache.open(store_url, semantic=False) as opened:
        yield opened


Embed = Callable[[CachedEmbeddings, list[str]], list[list[float]]]
WAYS: list[Embed] = [
    lambda model, texts: model.embed_documents(texts),
    lambda model, texts: asyncio.run(model.aembed_documents(texts)),
]


@pytest.mark.parametrize("embed", WAYS, ids=["blocking", "awaited"])
def test_each_document_is_embedded_once_in_one_batch_and_comes_back_equal(
    embed: Embed, cache: ResponseCache
) -> None:
    bare, inner = Numbers(), Numbers()
    texts = ["a b", "c", "a b", "d"]
    assert embed(CachedEmbeddings(inner, cache), texts) == bare.embed_documents(texts)
    assert inner.calls == [("document", ["a b", "c", "d"])]
    other = Numbers()
    assert embed(CachedEmbeddings(other, cache), ["e", *texts, "f"])[1:5] == bare.embed_documents(
        texts
    )
    assert other.calls == [("document", ["e", "f"])]


def test_queries_and_documents_have_vectors_of_their_own(cache: ResponseCache) -> None:
    inner = Numbers()
    model = CachedEmbeddings(inner, cache)
    (document,), query = model.embed_documents(["a"]), model.embed_query("a")
    assert document != query
    assert asyncio.run(model.aembed_query("a")) == model.embed_query("a") == query
    assert inner.calls == [("document", ["a"]), ("query", ["a"])]


def test_nothing_to_embed_asks_nobody(cache: ResponseCache) -> None:
    inner = Numbers()
    assert CachedEmbeddings(inner, cache).embed_documents([]) == []
    assert inner.calls == []


def test_models_of_other_settings_share_no_vector(cache: ResponseCache) -> None:
    models = [Numbers(), Numbers(name="other"), Numbers()]
    for model in models:
        CachedEmbeddings(model, cache).embed_query("a")
    assert [len(model.calls) for model in models] == [1, 1, 0]


def test_namespaces_share_no_vector(cache: ResponseCache) -> None:
    inner = Numbers()
    for namespace in ("one", "two", "one"):
        CachedEmbeddings(inner, cache, namespace=namespace).embed_query("a")
    assert len(inner.calls) == 2


def test_credentials_and_transport_do_not_tell_models_apart() -> None:
    def identity(**settings: Any) -> Any:
        return CachedEmbeddings(OpenAIEmbeddings(**settings)).model()

    first = identity(api_key="one", model="m", chunk_size=5, max_retries=1)
    assert first == identity(api_key="two", model="m")
    assert first != identity(api_key="one", model="n")
    assert first != identity(api_key="one", model="m", dimensions=7)
    assert "one" not in str(first)


def test_a_model_that_does_not_say_which_it_is_needs_a_name(cache: ResponseCache) -> None:
    with pytest.raises(ValueError, match="model="):
        CachedEmbeddings(Unnamed(), cache)
    assert CachedEmbeddings(Unnamed(), cache, model="mine").embed_query("a") == [1.0]
    assert CachedEmbeddings(Numbers(), cache, model="mine").embed_query("a") == [1.0]


def test_a_setting_without_a_json_form_is_a_value_error_that_says_what_to_do() -> None:
    class Odd(Numbers):
        tokenizer: Any = None

    with pytest.raises(ValueError, match="object; give it a name"):
        CachedEmbeddings(Odd(tokenizer=object()))


@pytest.mark.parametrize("wrong", [{"embeddings": 7}, {"cache": 7}, {"model": ""}])
def test_wrong_arguments_are_value_errors(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        CachedEmbeddings(**{"embeddings": Numbers(), **wrong})


def test_vectors_live_as_long_as_entries() -> None:
    clock, inner = Clock(), Numbers()
    with ResponseCache.open("memory://", semantic=False, ttl=60, clock=clock) as cache:
        model = CachedEmbeddings(inner, cache)
        for wait in (0, 30, 31):
            clock.now += wait
            model.embed_query("a")
    assert len(inner.calls) == 2


def test_a_store_that_fails_is_passed_over(
    cache: ResponseCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise StoreError("down")

    monkeypatch.setattr(cache.values, "get_many", broken)
    monkeypatch.setattr(cache.values, "put_many", broken)
    model = CachedEmbeddings(Numbers(), cache)
    assert model.embed_query("a") == Numbers().embed_query("a")


def test_a_pickled_model_keeps_its_cache(cache: ResponseCache) -> None:
    model = CachedEmbeddings(Numbers(), TieredCache(cache=cache))
    vector = model.embed_query("a")
    again = pickle.loads(pickle.dumps(model))  # noqa: S301 - our own, of this very line
    again.embeddings.calls.clear()
    assert again.embed_query("a") == vector
    assert again.embeddings.calls == []


class TestSync(BaseStoreSyncTests[bytes]):
    @pytest.fixture
    def kv_store(self, cache: ResponseCache) -> TieredByteStore:
        return TieredByteStore(cache)

    @pytest.fixture
    def three_values(self) -> tuple[bytes, bytes, bytes]:
        return b"one", b"\x00\xff", b""


class TestAsync(BaseStoreAsyncTests[bytes]):
    @pytest.fixture
    async def kv_store(self, cache: ResponseCache) -> TieredByteStore:
        return TieredByteStore(cache)

    @pytest.fixture
    def three_values(self) -> tuple[bytes, bytes, bytes]:
        return b"one", b"\x00\xff", b""


def test_namespaces_share_no_value(cache: ResponseCache) -> None:
    one, two = (TieredByteStore(cache, namespace=name) for name in ("a", "a:1"))
    one.mset([("1:k", b"one")])
    assert two.mget(["k"]) == [None]
    assert list(two.yield_keys()) == []


def test_more_values_than_one_write_holds(cache: ResponseCache) -> None:
    store = TieredByteStore(cache)
    pairs = [(f"key {n}", str(n).encode()) for n in range(2 * BATCH + 1)]
    store.mset(pairs)
    keys = [key for key, _ in pairs]
    assert store.mget(keys) == [value for _, value in pairs]
    assert sorted(store.yield_keys(prefix="key 1")) == sorted(k for k in keys if k[4] == "1")
    store.mdelete([*keys[1:], "absent"])
    assert list(store.yield_keys()) == keys[:1]


def test_values_live_for_their_ttl() -> None:
    clock = Clock()
    with ResponseCache.open("memory://", semantic=False, clock=clock) as cache:
        store = TieredByteStore(cache, ttl=60)
        store.mset([("a", b"1")])
        clock.now += 61
        assert store.mget(["a"]) == [None]


def test_langchains_own_cached_embeddings_work_on_it(cache: ResponseCache) -> None:
    inner = Numbers()
    store = TieredByteStore(cache)
    model = CacheBackedEmbeddings.from_bytes_store(
        inner, store, namespace="numbers", key_encoder="sha256"
    )
    assert model.embed_documents(["a", "b"]) == model.embed_documents(["a", "b"])
    assert len(inner.calls) == 1


def test_a_pickled_store_reads_what_was_written(cache: ResponseCache) -> None:
    store = TieredByteStore(cache, namespace="n")
    store.mset([("a", b"1")])
    again = pickle.loads(pickle.dumps(store))  # noqa: S301 - our own, of this very line
    assert again.mget(["a"]) == [b"1"]


@pytest.mark.parametrize("wrong", [{"cache": 7}, {"namespace": ""}, {"ttl": -1}])
def test_a_byte_store_takes_no_wrong_arguments(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be|ttl"):
        TieredByteStore(**wrong)
