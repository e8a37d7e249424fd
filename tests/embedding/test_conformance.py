"""Every kind of embedder that a cache takes passes the suite for embedders."""

from __future__ import annotations

import pytest

from shared_core.embedding import Embedder, resolve_embedder
from shared_core.testing import EmbedderConformance
from tests.fakes import FakeEmbedder, fake_embed


class TestAnEmbedderOfTheApp(EmbedderConformance):
    @pytest.fixture
    def embedder(self) -> Embedder:
        return FakeEmbedder()


class TestAFunction(EmbedderConformance):
    @pytest.fixture
    def embedder(self) -> Embedder:
        return resolve_embedder(fake_embed)


@pytest.mark.model
class TestTheLocalModel(EmbedderConformance):
    @pytest.fixture
    def embedder(self, model_embedder: Embedder) -> Embedder:
        return model_embedder
