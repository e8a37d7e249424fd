"""Check what every embedder promises: vectors of one space, one per text, of length 1.

class TestMyEmbedder(EmbedderConformance):
    @pytest.fixture
    def embedder(self):
        return MyEmbedder()
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from shared_core.embedding import Embedder, EmbedderError

TEXTS = (
    "How do I reset my password?",
    "where is the station",
    "HOW DO I RESET MY PASSWORD",
    "Wie setze ich mein Passwort zurück?",
    "パスワードを忘れました",
    "42",
)
ODD_TEXTS = ("", " ", "\n\t", "🐈" * 40, "nul \0 inside", "word " * 5000)


class EmbedderConformance:
    """What every embedder does. Give a fixture ``embedder`` that returns one."""

    rounding = 1e-5
    """How far a text's vector may move with the batch that it is embedded in."""

    @pytest.fixture
    def embedder(self) -> Embedder:
        raise NotImplementedError("give a fixture `embedder` that returns your embedder")

    def test_it_is_an_embedder(self, embedder: Embedder) -> None:
        embedder.embed(TEXTS[:1])  # some learn their dimension from the first vector
        assert isinstance(embedder, Embedder)
        assert isinstance(embedder.name, str)
        assert embedder.name
        assert embedder.dimension >= 1
        assert embedder.max_tokens is None or embedder.max_tokens >= 1

    @pytest.mark.parametrize("n", [1, 2, len(TEXTS)])
    def test_each_text_has_one_vector_of_length_one(self, embedder: Embedder, n: int) -> None:
        vectors = embedder.embed(TEXTS[:n])
        assert vectors.shape == (n, embedder.dimension)
        assert vectors.dtype == np.float32
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(n), abs=1e-4)

    def test_a_text_has_one_vector_whatever_it_is_embedded_with(self, embedder: Embedder) -> None:
        together = embedder.embed(TEXTS)
        backwards = embedder.embed(TEXTS[::-1])[::-1]
        alone = np.concatenate([embedder.embed([text]) for text in TEXTS])
        assert np.allclose(together, backwards, atol=self.rounding)
        assert np.allclose(together, alone, atol=self.rounding)

    def test_a_text_given_twice_has_the_same_vector_twice(self, embedder: Embedder) -> None:
        first, other, second = embedder.embed([TEXTS[0], TEXTS[1], TEXTS[0]])
        assert np.allclose(first, second, atol=self.rounding)
        assert not np.allclose(first, other, atol=self.rounding)

    def test_the_space_does_not_change(self, embedder: Embedder) -> None:
        embedder.embed(TEXTS[:1])
        before = embedder.name, embedder.dimension
        embedder.embed(TEXTS)
        assert (embedder.name, embedder.dimension) == before

    def test_the_texts_given_are_left_alone(self, embedder: Embedder) -> None:
        given = list(TEXTS)
        embedder.embed(given)
        assert given == list(TEXTS)

    @pytest.mark.parametrize("text", ODD_TEXTS, ids=range(len(ODD_TEXTS)))
    def test_an_odd_text_has_a_vector_or_is_refused(self, embedder: Embedder, text: str) -> None:
        try:
            (vector,) = embedder.embed([text])
        except EmbedderError:
            return
        assert np.isfinite(vector).all()
        assert float(np.linalg.norm(vector)) == pytest.approx(1, abs=1e-4)

    def test_threads_get_the_vectors_of_their_own_texts(self, embedder: Embedder) -> None:
        expected = embedder.embed(TEXTS)
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda i: embedder.embed([TEXTS[i % len(TEXTS)]])[0], range(24)))
        for i, vector in enumerate(found):
            assert np.allclose(vector, expected[i % len(TEXTS)], atol=self.rounding)

    def test_what_it_says_of_a_texts_length_fits_what_it_reads(self, embedder: Embedder) -> None:
        count: Callable[[str], int] | None = getattr(embedder, "count_tokens", None)
        reads: Callable[[str], Any] | None = getattr(embedder, "reads", None)
        long = "word " * 5000
        if count is not None:
            assert 0 < count(TEXTS[0]) < count(long)
        if reads is not None:
            assert reads(TEXTS[0]) is True
            assert isinstance(reads(long), bool)
            if embedder.max_tokens is not None and embedder.max_tokens < len(long.split()):
                assert reads(long) is False
