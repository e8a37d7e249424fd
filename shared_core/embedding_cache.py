"""Keep the vectors of an app's own embedding model, by model, role and text.

    texts -> keys -> known vectors
                 |-> another embeds them -> awaited
                 '-> the others, each once -> embed -> kept

Not the vectors by which the cache matches questions: those are ``shared_core.embedding``'s.
"""

from __future__ import annotations

from array import array
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Any

from shared_core.cache import ResponseCache
from shared_core.concurrency import Blocking, OnLoop, Runtime, SingleFlight, ThreadRunner, finish
from shared_core.controls import controls_of
from shared_core.options import seconds
from shared_core.request import canonical_json
from shared_core.resilience import CircuitBreaker, Unavailable

Vector = list[float]


class EmbeddingCache:
    """What is known of texts' vectors; a store that fails is passed over. Safe for threads.

    Vectors come back equal, and live as long as the cache's entries do (``ttl``); what
    ``cache.control`` says in a block holds for them: ``read``, ``write``, ``ttl``, ``namespace``.
    ``model`` is a JSON value that tells models apart, None for one that cannot be told apart, of
    which nothing is kept; ``role`` is what a text is embedded as, since many models embed queries
    and documents differently. ``namespace`` None: the cache's own.

        vectors = EmbeddingCache(ResponseCache.open("sqlite:///vectors.db", semantic=False))
        vectors.embedded("text-embedding-3-small", "document", texts, embed)
    """

    def __init__(self, cache: ResponseCache, namespace: str | None = None) -> None:
        self.cache = cache
        own = "" if cache.options.namespace_required else cache.options.namespace
        self.namespace = namespace or own
        self._breaker = CircuitBreaker("embeddings", cache.count_error)
        self._on_loop = OnLoop(ThreadRunner())
        self._flights = SingleFlight(cache.options.lease)

    def __reduce__(self) -> tuple[Any, ...]:
        return EmbeddingCache, (self.cache, self.namespace)

    def embedded(
        self,
        model: Any,
        role: str,
        texts: Sequence[str],
        embed: Callable[[list[str]], list[Vector]],
    ) -> list[Vector]:
        """Return the vectors of texts, in their order; ``embed`` gets those unknown, each once.

        Who asks for a text that another thread or task is embedding waits for its vector, at most
        for the cache's ``lease``. Raises what ``embed`` raises, ValueError for another number of
        vectors than of texts.
        """
        return finish(self._embedded(Blocking(), model, role, texts, embed))

    async def aembedded(
        self,
        model: Any,
        role: str,
        texts: Sequence[str],
        embed: Callable[[list[str]], Awaitable[list[Vector]]],
    ) -> list[Vector]:
        """Do as ``embedded`` does; the event loop is not blocked."""
        return await self._embedded(self._on_loop, model, role, texts, embed)

    async def _embedded(
        self,
        runtime: Runtime,
        model: Any,
        role: str,
        texts: Sequence[str],
        embed: Callable[..., Any],
    ) -> list[Vector]:
        keys = self._keys(model, role, texts)
        known = await runtime.run(lambda: self._read(keys))
        new = [text for text in keys if text not in known]
        if not new:
            return [list(known[text]) for text in texts]
        controls = controls_of(self.cache)
        is_shared = controls.read and controls.write  # else others' calls are none of its business
        named = {key: text for text in new if is_shared and (key := keys[text]) is not None}
        with self._flights.lead(named) as (led, others):
            elsewhere = {named[key] for key in others}
            own = {text: keys[text] for text in new if text not in elsewhere}
            if led:  # another flight may have finished since the first look
                known |= await runtime.run(lambda: self._read(own))
            fresh = await _asked(runtime, embed, [text for text in own if text not in known])
            known |= fresh
            for key, flight in led.items():
                flight.arrive(known[named[key]])
            await runtime.run(lambda: self._write(own, fresh))
        for key, flight in others.items():
            if (found := await self._flights.join(runtime, flight)) is not None:
                known[named[key]] = found[0]
        known |= await _asked(runtime, embed, [text for text in new if text not in known])
        return [list(known[text]) for text in texts]

    def _keys(self, model: Any, role: str, texts: Sequence[str]) -> dict[str, str | None]:
        """Return each text's key, None where the model has no identity beyond this process."""
        try:
            namespace = controls_of(self.cache).namespace or self.namespace
            is_known = model is not None and namespace
            head = canonical_json([namespace, model, role]) if is_known else None
        except (TypeError, ValueError):
            head = None
        return {text: None if head is None else _key(head, text) for text in texts}

    def _read(self, keys: dict[str, str | None]) -> dict[str, Vector]:
        named = {key: text for text, key in keys.items() if key is not None}
        if not named or not controls_of(self.cache).read:
            return {}
        try:
            values = self._breaker.call(self.cache.values.get_many, list(named))
        except Unavailable:
            return {}
        known: dict[str, Vector] = {}
        for key, value in values.items():
            with suppress(ValueError):  # not what was stored: embedded anew
                known[named[key]] = array("d", value).tolist()
        return known

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
                self._breaker.call(self.cache.values.put_many, items, None if forever else lifetime)
        except Unavailable:
            return


async def _asked(
    runtime: Runtime, embed: Callable[..., Any], texts: list[str]
) -> dict[str, Vector]:
    if not texts:
        return {}
    if runtime.blocks:
        return dict(zip(texts, embed(texts), strict=True))
    return dict(zip(texts, await embed(texts), strict=True))


def _key(head: str, text: str) -> str:
    return "embedding:" + sha256(f"{head}\n{text}".encode("utf-8", "surrogatepass")).hexdigest()
