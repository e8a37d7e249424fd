"""The embedding cache: each text embedded once, on every store, by all who ask at a time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared_core import ResponseCache
from shared_core.embedding_cache import EmbeddingCache
from tests.fakes import Clock

Vector = list[float]
MODEL, ROLE = "text-embedding-3-small", "document"


class Embed:
    """Gives every text a vector of its own, and remembers the batches that it was given."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.go = threading.Event()
        self.go.set()
        self.begun = threading.Event()

    def __call__(self, texts: list[str]) -> list[Vector]:
        self.batches.append(texts)
        self.begun.set()
        assert self.go.wait(10)
        return [[len(text) + 0.1, *map(float, text.encode()[:3])] for text in texts]

    async def later(self, texts: list[str]) -> list[Vector]:
        self.batches.append(texts)
        await asyncio.sleep(0.01)
        return [[len(text) + 0.1, *map(float, text.encode()[:3])] for text in texts]

    @property
    def texts(self) -> list[str]:
        return sorted(text for batch in self.batches for text in batch)


@pytest.fixture
def cache(store_url: str) -> Iterator[ResponseCache]:
    with ResponseCache.open(store_url, semantic=False) as opened:
        yield opened


@pytest.fixture
def embed() -> Embed:
    return Embed()


def test_what_is_missing_is_embedded_in_one_batch_and_comes_back_equal(
    cache: ResponseCache, embed: Embed
) -> None:
    vectors = EmbeddingCache(cache)
    first = vectors.embedded(MODEL, ROLE, ["a", "b", "a"], embed)
    assert first == Embed()(["a", "b", "a"])
    assert vectors.embedded(MODEL, ROLE, ["c", "b", "a"], embed) == Embed()(["c", "b", "a"])
    assert embed.batches == [["a", "b"], ["c"]]
    assert EmbeddingCache(cache).embedded(MODEL, ROLE, ["b"], embed) == [first[1]]
    assert vectors.embedded(MODEL, ROLE, [], embed) == []
    assert len(embed.batches) == 2


@pytest.mark.parametrize(
    "other",
    [
        lambda cache: (EmbeddingCache(cache), "text-embedding-3-large", ROLE),
        lambda cache: (EmbeddingCache(cache), {"name": MODEL, "dimensions": 256}, ROLE),
        lambda cache: (EmbeddingCache(cache), MODEL, "query"),
        lambda cache: (EmbeddingCache(cache, "another"), MODEL, ROLE),
    ],
    ids=["model", "settings", "role", "namespace"],
)
def test_models_roles_and_namespaces_share_no_vector(
    cache: ResponseCache, embed: Embed, other: object
) -> None:
    EmbeddingCache(cache).embedded(MODEL, ROLE, ["a"], embed)
    vectors, model, role = other(cache)  # type: ignore[operator]
    vectors.embedded(model, role, ["a"], embed)
    assert embed.batches == [["a"], ["a"]]


def test_threads_that_ask_at_a_time_embed_each_text_once(
    cache: ResponseCache, embed: Embed
) -> None:
    vectors = EmbeddingCache(cache)
    embed.go.clear()
    texts = [[f"text {n % 7}", f"text {(n + 3) % 7}"] for n in range(16)]
    with ThreadPoolExecutor(16) as pool:
        found = [pool.submit(vectors.embedded, MODEL, ROLE, some, embed) for some in texts]
        assert embed.begun.wait(10)
        embed.go.set()
        for some, one in zip(texts, found, strict=True):
            assert one.result(10) == Embed()(some)
    assert embed.texts == [f"text {n}" for n in range(7)]


async def test_tasks_that_ask_at_a_time_embed_each_text_once(
    cache: ResponseCache, embed: Embed
) -> None:
    vectors = EmbeddingCache(cache)
    texts = [[f"text {n % 7}", f"text {(n + 3) % 7}"] for n in range(16)]
    found = await asyncio.gather(
        *(vectors.aembedded(MODEL, ROLE, some, embed.later) for some in texts)
    )
    assert found == [Embed()(some) for some in texts]
    assert embed.texts == [f"text {n}" for n in range(7)]


def test_who_waits_for_an_embedder_that_fails_embeds_for_itself(embed: Embed) -> None:
    vectors = EmbeddingCache(ResponseCache.open(semantic=False))
    begun, go = threading.Event(), threading.Event()

    def fails(texts: list[str]) -> list[Vector]:
        begun.set()
        assert go.wait(10)
        raise ConnectionError("no")

    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(vectors.embedded, MODEL, ROLE, ["a"], fails)
        assert begun.wait(10)
        follower = pool.submit(vectors.embedded, MODEL, ROLE, ["a", "b"], embed)
        assert embed.begun.wait(10), "what nobody embeds is embedded at once"
        go.set()
        with pytest.raises(ConnectionError):
            leader.result(10)
        assert follower.result(10) == Embed()(["a", "b"])
    assert embed.batches == [["b"], ["a"]]


def test_an_embedder_that_asks_the_cache_for_the_same_text_does_not_wait_for_itself(
    embed: Embed,
) -> None:
    vectors = EmbeddingCache(ResponseCache.open(semantic=False))

    def nested(texts: list[str]) -> list[Vector]:
        return vectors.embedded(MODEL, ROLE, texts, embed)

    assert vectors.embedded(MODEL, ROLE, ["a"], nested) == Embed()(["a"])


def test_another_number_of_vectors_than_of_texts_is_refused(cache: ResponseCache) -> None:
    vectors = EmbeddingCache(cache)
    with pytest.raises(ValueError, match="argument"):
        vectors.embedded(MODEL, ROLE, ["a", "b"], lambda _: [[1.0]])


def test_a_vector_that_cannot_be_read_is_embedded_anew(embed: Embed) -> None:
    cache = ResponseCache.open(semantic=False)
    vectors = EmbeddingCache(cache)
    vectors.embedded(MODEL, ROLE, ["a"], embed)
    (key,) = cache.values.scan("embedding:", "")[0]
    cache.values.put_many({key: b"123"})
    assert vectors.embedded(MODEL, ROLE, ["a"], embed) == Embed()(["a"])
    assert embed.batches == [["a"], ["a"]]


def test_a_model_without_identity_is_asked_each_time(embed: Embed) -> None:
    vectors = EmbeddingCache(ResponseCache.open(semantic=False))
    for _ in range(2):
        vectors.embedded(None, ROLE, ["a", "a"], embed)
    assert embed.batches == [["a"], ["a"]]


def test_vectors_live_as_long_as_entries(embed: Embed) -> None:
    clock = Clock(now=1000.0)
    vectors = EmbeddingCache(ResponseCache.open(semantic=False, ttl=10, clock=clock))
    for now in (1000.0, 1009.0, 1011.0):
        clock.now = now
        vectors.embedded(MODEL, ROLE, ["a"], embed)
    assert embed.batches == [["a"], ["a"]]
