"""The cached embedding model: each text once, by model and role."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.embeddings.mock_embed_model import MockEmbedding

from llamaindex_tiered_cache import CachedEmbedding
from shared_core import ResponseCache, StoreError
from tests.fakes import Clock
from tests.llamaindex.fakes import FakeEmbedding
from tests.llamaindex.leftovers import MARKS, collected  # noqa: F401 - for every test here

pytestmark = MARKS

Batch = Callable[[CachedEmbedding, list[str]], list[list[float]]]


@pytest.fixture
def cache(store_url: str) -> Iterator[ResponseCache]:
    with ResponseCache.open(store_url, semantic=False) as opened:
        yield opened


def batch(model: CachedEmbedding, texts: list[str]) -> list[list[float]]:
    return model.get_text_embedding_batch(texts)


def abatch(model: CachedEmbedding, texts: list[str]) -> list[list[float]]:
    return asyncio.run(model.aget_text_embedding_batch(texts))


def one_by_one(model: CachedEmbedding, texts: list[str]) -> list[list[float]]:
    return [model.get_text_embedding(text) for text in texts]


def aone_by_one(model: CachedEmbedding, texts: list[str]) -> list[list[float]]:
    return [asyncio.run(model.aget_text_embedding(text)) for text in texts]


BATCHES = [batch, abatch, one_by_one, aone_by_one]


@pytest.mark.parametrize("embed", BATCHES, ids=lambda one: one.__name__)
def test_each_text_is_embedded_once_and_comes_back_equal(
    embed: Batch, cache: ResponseCache
) -> None:
    texts = ["a b", "c", "a b", "d"]
    bare = FakeEmbedding().get_text_embedding_batch(texts)
    inner = FakeEmbedding()
    assert embed(CachedEmbedding(inner, cache), texts) == bare
    assert sorted(text for _, texts in inner.calls for text in texts) == ["a b", "c", "d"]
    other = FakeEmbedding()
    assert embed(CachedEmbedding(other, cache), [*texts, "e"])[:4] == bare
    assert other.calls == [("text", ["e"])]


def test_batches_keep_their_size(cache: ResponseCache) -> None:
    inner = FakeEmbedding(embed_batch_size=3)
    model = CachedEmbedding(inner, cache)
    model.get_text_embedding("a")
    model.get_text_embedding_batch(["a", "b", "c", "b", "d", "e"])
    assert [texts for _, texts in inner.calls] == [["a"], ["b", "c", "d"], ["e"]]


def test_queries_and_texts_have_vectors_of_their_own(cache: ResponseCache) -> None:
    inner = FakeEmbedding()
    model = CachedEmbedding(inner, cache)
    text, query = model.get_text_embedding("a"), model.get_query_embedding("a")
    assert text != query
    assert asyncio.run(model.aget_query_embedding("a")) == query
    assert inner.calls == [("text", ["a"]), ("query", ["a"])]
    assert model.get_agg_embedding_from_queries(["a", "a"]) == query


@pytest.mark.parametrize(
    "other",
    [
        FakeEmbedding(model_name="other"),
        FakeEmbedding(scale=2.0),
        MockEmbedding(embed_dim=3),
    ],
    ids=lambda one: one.model_name,
)
def test_models_share_no_vector(other: Any, cache: ResponseCache) -> None:
    CachedEmbedding(FakeEmbedding(), cache).get_text_embedding("a")
    assert CachedEmbedding(other, cache).get_text_embedding("a") == other.get_text_embedding("a")


def test_transport_makes_no_other_model(cache: ResponseCache) -> None:
    CachedEmbedding(FakeEmbedding(), cache).get_text_embedding("a")
    inner = FakeEmbedding(num_workers=2, embed_batch_size=7)
    CachedEmbedding(inner, cache).get_text_embedding("a")
    assert inner.calls == []


def test_namespaces_share_no_vector(cache: ResponseCache) -> None:
    CachedEmbedding(FakeEmbedding(), cache).get_text_embedding("a")
    inner = FakeEmbedding()
    CachedEmbedding(inner, cache, namespace="other").get_text_embedding("a")
    assert len(inner.calls) == 1


def test_vectors_live_as_long_as_answers_do() -> None:
    clock = Clock()
    with ResponseCache.open(semantic=False, ttl=60, clock=clock) as cache:
        inner = FakeEmbedding()
        model = CachedEmbedding(inner, cache)
        model.get_text_embedding("a")
        clock.now += 61
        model.get_text_embedding("a")
    assert len(inner.calls) == 2


def test_only_what_is_embedded_counts_tokens(cache: ResponseCache) -> None:
    counter = TokenCountingHandler(tokenizer=str.split)
    model = CachedEmbedding(FakeEmbedding(), cache)
    model.callback_manager = CallbackManager([counter])
    for _ in range(3):
        model.get_text_embedding_batch(["a b", "c"])
        model.get_query_embedding("d")
    assert counter.total_embedding_token_count == 4


def test_a_store_that_fails_is_passed_over_and_counted() -> None:
    cache = ResponseCache.open(semantic=False)
    cache.close()
    with pytest.raises(StoreError):
        cache.values.get_many(["a"])
    inner = FakeEmbedding()
    model = CachedEmbedding(inner, cache)
    assert model.get_text_embedding("a") == FakeEmbedding().get_text_embedding("a")
    assert cache.stats().errors["embeddings"] > 0


def test_it_is_pickled_with_its_cache(cache: ResponseCache) -> None:
    model = CachedEmbedding(MockEmbedding(embed_dim=3), cache, namespace="n")
    again = pickle.loads(pickle.dumps(model))  # noqa: S301 - its own
    assert again._vectors.cache is cache
    assert again.get_text_embedding("a") == model.get_text_embedding("a")


def test_it_names_itself_and_its_model(cache: ResponseCache) -> None:
    model = CachedEmbedding(FakeEmbedding(model_name="m"), cache)
    assert (model.class_name(), model.model_name) == ("CachedEmbedding", "m")
    assert model.to_dict()["embed_model"]["model_name"] == "m"
    with pytest.raises(ValueError, match="embed_model must be"):
        CachedEmbedding("m", cache)
