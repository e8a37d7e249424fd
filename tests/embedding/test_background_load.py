"""load="background": loading delays no answer, and nothing stored meanwhile is lost."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from shared_core import Answer, Hit, Miss, Request, ResponseCache
from tests.fakes import fake_embed

ASKED = Request.of("How do I reset my password?", model="m")
REPHRASED = Request.of("How do I reset my password please?", model="m")


class SlowToLoad:
    """An embedder whose first call takes until it is released."""

    name, dimension, max_tokens = "slow", 64, None

    def __init__(self) -> None:
        self.release, self.loaded = threading.Event(), threading.Event()

    def embed(self, texts: Sequence[str]) -> object:
        assert self.release.wait(10)
        self.loaded.set()
        return fake_embed(texts)


def test_the_semantic_tier_is_silent_until_the_model_is_there() -> None:
    embedder = SlowToLoad()
    cache = ResponseCache.open(embedder=embedder, load="background", threshold=0.8)
    assert cache.lookup(ASKED) == Miss("loading")
    cache.store(ASKED, Answer("Press the button."))
    assert isinstance(cache.lookup(ASKED), Hit)
    assert cache.lookup(REPHRASED) == Miss("loading")
    embedder.release.set()
    cache.preload()
    deadline = threading.Event()
    for _ in range(500):
        if isinstance(found := cache.lookup(REPHRASED), Hit):
            break
        deadline.wait(0.01)
    assert isinstance(found, Hit)
    assert str(found.tier) == "semantic"
