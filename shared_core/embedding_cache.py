"""Vectors of an app's own embedding model, kept by model, role and text in a cache's store.

    texts -> keys -> known vectors
                 \\-> the others, each once -> embed -> kept

Not the vectors by which the cache matches questions: those are ``shared_core.embedding``'s.
"""

from __future__ import annotations

from array import array
from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256
from typing import Any

from shared_core.cache import ResponseCache
from shared_core.control import controls_of
from shared_core.hop import Hop
from shared_core.options import seconds
from shared_core.request import canonical_json
from shared_core.resilience import Fuse, Unavailable

Vector = list[float]


class EmbeddingCache:
    """What is known of texts' vectors; a store that fails is passed over.

    Vectors live as long as the cache's entries do (``ttl``), and what ``cache.control`` says in a
    block holds for them: ``read``, ``write``, ``ttl``, ``namespace``. ``model`` is a JSON value
    that tells models apart, None for one that cannot be told apart, of which nothing is kept;
    ``role`` is what a text is embedded as, since many models embed queries and documents
    differently.
    """

    def __init__(self, cache: ResponseCache, namespace: str | None = None) -> None:
        self.cache = cache
        self.namespace = namespace or cache.options.namespace
        self._fuse = Fuse("embeddings", cache.count_error)
        self._hop = Hop()

    def __reduce__(self) -> tuple[Any, ...]:
        return EmbeddingCache, (self.cache, self.namespace)

    def embedded(
        self,
        model: Any,
        role: str,
        texts: Sequence[str],
        embed: Callable[[list[str]], list[Vector]],
    ) -> list[Vector]:
        """Return the vectors of texts, in their order; ``embed`` gets those unknown, each once."""
        keys = self._keys(model, role, texts)
        known = self._read(keys)
        new = [text for text in keys if text not in known]
        if new:
            fresh = dict(zip(new, embed(new), strict=True))
            self._write(keys, fresh)
            known |= fresh
        return [list(known[text]) for text in texts]

    def known(self, model: Any, role: str, texts: Sequence[str]) -> list[Vector] | None:
        """Return the vectors of texts if all are known."""
        known = self._read(self._keys(model, role, texts))
        return [known[text] for text in texts] if all(text in known for text in texts) else None

    async def aembedded(
        self,
        model: Any,
        role: str,
        texts: Sequence[str],
        embed: Callable[[list[str]], Awaitable[list[Vector]]],
    ) -> list[Vector]:
        """Do as ``embedded`` does; the event loop is not blocked."""
        keys = self._keys(model, role, texts)
        known = await self._hop.run(self._read, keys)
        new = [text for text in keys if text not in known]
        if new:
            fresh = dict(zip(new, await embed(new), strict=True))
            await self._hop.run(self._write, keys, fresh)
            known |= fresh
        return [list(known[text]) for text in texts]

    def _keys(self, model: Any, role: str, texts: Sequence[str]) -> dict[str, str | None]:
        """Return each text's key, None where the model has no identity beyond this process."""
        try:
            namespace = controls_of(self.cache).namespace or self.namespace
            head = None if model is None else canonical_json([namespace, model, role])
        except (TypeError, ValueError):
            head = None
        return {text: None if head is None else _key(head, text) for text in texts}

    def _read(self, keys: dict[str, str | None]) -> dict[str, Vector]:
        named = {key: text for text, key in keys.items() if key is not None}
        if not named or not controls_of(self.cache).read:
            return {}
        try:
            values = self._fuse.call(self.cache.values.get_many, list(named))
        except Unavailable:
            return {}
        return {named[key]: _vector(value) for key, value in values.items()}

    def _write(self, keys: dict[str, str | None], fresh: dict[str, Vector]) -> None:
        items = {
            key: array("d", vector).tobytes()  # float64: they come back equal
            for text, vector in fresh.items()
            if (key := keys[text]) is not None
        }
        controls, ttl = controls_of(self.cache), self.cache.options.ttl
        lifetime = None if ttl is None else seconds("ttl", ttl)
        lifetime = lifetime if controls.ttl is None else controls.ttl
        try:
            if items and controls.write:
                forever = lifetime is None or lifetime == float("inf")
                self._fuse.call(self.cache.values.put_many, items, None if forever else lifetime)
        except Unavailable:
            return


def _key(head: str, text: str) -> str:
    return "embedding:" + sha256(f"{head}\n{text}".encode("utf-8", "surrogatepass")).hexdigest()


def _vector(value: bytes) -> Vector:
    numbers: array[float] = array("d", value)
    return numbers.tolist()
