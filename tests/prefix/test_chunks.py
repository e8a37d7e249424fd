"""Chunks of long texts, and what an edit leaves of them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from shared_core import open_store
from shared_core.prefix.chunks import MAX_CHARACTERS, ChunkCache, split
from shared_core.prefix.token_budget import estimate_tokens
from shared_core.stores import StoreError
from tests.fakes import FakeEmbedder, fake_embed

WORDS = ["reader", "lends", "book", "desk", "keeps", "card", "until", "four", "weeks", "passed"]


def prose(rng: random.Random, sentences: int) -> str:
    made = (" ".join(rng.choices(WORDS, k=rng.randint(6, 16))) for _ in range(sentences))
    return " ".join(f"{text.capitalize()}." for text in made)


def handbook(seed: int = 1, paragraphs: int = 140, sentences: int = 5) -> str:
    rng = random.Random(seed)
    parts = [
        (f"## Section {n}\n\n" if n % 10 == 0 else "") + prose(rng, sentences)
        for n in range(paragraphs)
    ]
    return "\n\n".join(parts)


TEXTS = [
    "",
    "One line",
    "\n\n\nA\n\n\nB\n",
    "# Title\n\nText.\n# Next\n## Deeper\nMore.",
    "# Only a heading",
    handbook(paragraphs=9, sentences=60),
    "x" * 5000,
    "日本語の文。" * 900,
    "a,b,c\n" * 700,
    " \r\n \r\n",
    "lone surrogate \ud800 here",
]


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: repr(text[:12]))
def test_chunks_joined_are_the_text_and_none_is_too_long_or_empty(text: str) -> None:
    chunks = split(text)
    assert "".join(chunks) == text
    assert all(0 < len(chunk) <= MAX_CHARACTERS for chunk in chunks)


def test_paragraphs_are_chunks_and_a_heading_stays_with_the_next() -> None:
    assert split("# One\n\nFirst.\n\nSecond.\n# Two\nThird.") == [
        "# One\n\nFirst.\n\n",
        "Second.\n",
        "# Two\nThird.",
    ]


def counting(calls: list[list[str]]) -> Any:
    def lengths(chunks: list[str]) -> list[int]:
        calls.append(chunks)
        return [len(chunk) for chunk in chunks]

    return lengths


def test_only_what_an_edit_touches_is_computed_again() -> None:
    text = handbook()
    assert 9_000 <= estimate_tokens(text) <= 12_000
    cache, calls = ChunkCache(open_store("memory://")), list[list[str]]()
    first = cache.compute(text, "length", counting(calls))
    assert (first.reused, first.share) == (0, 0.0)
    edited = text.replace(split(text)[70], "Another paragraph altogether.\n\n")
    second = cache.compute(edited, "length", counting(calls))
    assert calls[1] == ["Another paragraph altogether.\n\n"]
    assert second.share >= 0.9
    assert second.share_of_text >= 0.9
    assert list(second.values) == [len(chunk) for chunk in second.chunks]


@pytest.mark.parametrize("seed", range(20))
def test_a_sentence_edited_in_very_long_paragraphs_leaves_nine_chunks_of_ten(seed: int) -> None:
    """Ten paragraphs of a thousand tokens: whole paragraphs would leave nine of ten at best."""
    text = handbook(seed, paragraphs=10, sentences=65)
    cache = ChunkCache(open_store("memory://"))
    cache.compute(text, "length", counting([]))
    at = random.Random(seed).randrange(len(text))
    end = text.index(". ", at) if ". " in text[at:] else len(text) - 1
    edited = text[:end] + " with one more clause" + text[end:]
    assert cache.compute(edited, "length", counting([])).share >= 0.9


@pytest.mark.parametrize("seed", range(10))
def test_an_insertion_at_the_start_of_one_endless_paragraph_moves_no_later_cut(seed: int) -> None:
    text = handbook(seed, paragraphs=1, sentences=650)
    cache = ChunkCache(open_store("memory://"))
    cache.compute(text, "length", counting([]))
    edited = prose(random.Random(seed + 99), 2) + " " + text
    assert cache.compute(edited, "length", counting([])).share >= 0.9


def test_a_text_that_repeats_itself_is_computed_once() -> None:
    calls: list[list[str]] = []
    found = ChunkCache(open_store("memory://")).compute("Same.\n\n" * 5, "length", counting(calls))
    assert calls == [["Same.\n\n"]]
    assert found.values == (7,) * 5


def test_kinds_and_namespaces_never_meet() -> None:
    store = open_store("memory://")
    ChunkCache(store).compute("Text.", "a", lambda chunks: ["a"] * len(chunks))
    other = ChunkCache(store, "tenant").compute("Text.", "a", lambda chunks: ["b"] * len(chunks))
    kind = ChunkCache(store).compute("Text.", "b", lambda chunks: ["c"] * len(chunks))
    assert (other.values, kind.values) == (("b",), ("c",))


def test_embeddings_come_back_as_they_were_made(store_url: str) -> None:
    store, embedder = open_store(store_url), FakeEmbedder()
    text = handbook(paragraphs=6)
    first = ChunkCache(store).embeddings(text, embedder)
    second = ChunkCache(store).embeddings(text, embedder)
    assert len(embedder.calls) == 1
    assert second.share == 1.0
    assert np.array_equal(np.stack(second.values), fake_embed(split(text)))
    assert np.array_equal(np.stack(first.values), np.stack(second.values))
    assert ChunkCache(store).embeddings(text, FakeEmbedder("other")).reused == 0
    store.close()


def test_tokens_are_counted_once_for_each_chunk() -> None:
    cache, counted = ChunkCache(open_store("memory://")), list[str]()

    def count(text: str) -> int:
        counted.append(text)
        return len(text.split())

    text = handbook(paragraphs=8)
    assert cache.tokens(text, count, "words") == cache.tokens(text, count, "words")
    assert cache.tokens(text, count, "words") == len(text.split())
    assert len(counted) == len(set(split(text)))


def test_a_store_that_fails_costs_the_reuse_and_nothing_else() -> None:
    class Broken:
        def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
            raise StoreError("down")

        def put_many(self, items: Any, ttl: float | None = None) -> None:
            raise StoreError("down")

    broken: Any = Broken()
    assert ChunkCache(broken).compute("Text.", "length", counting([])).values == (5,)


def test_a_value_that_cannot_be_read_is_computed_again() -> None:
    store = open_store("memory://")
    cache = ChunkCache(store)
    cache.compute("Text.", "length", counting([]), encode=lambda _: b"{broken")
    assert cache.compute("Text.", "length", counting([])).values == (5,)
    assert cache.compute("Text.", "length", counting([])).reused == 1


def test_values_that_do_not_match_the_chunks_are_refused() -> None:
    cache = ChunkCache(open_store("memory://"))
    with pytest.raises(ValueError, match="1 chunks were given, and 0 values"):
        cache.compute("Text.", "length", lambda _: [])
    with pytest.raises(ValueError, match="kind must say"):
        cache.compute("Text.", "", lambda chunks: chunks)
    with pytest.raises(ValueError, match="namespace"):
        ChunkCache(open_store("memory://"), "")
