"""Vectors of the upstream's embedding models: each input asked for once, by all who ask at a time.

inputs -> known vectors
      \\-> the others -> an equal call under way? its vectors
                      \\-> ask -> kept
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256
from typing import Any

from shared_core.cache import ResponseCache
from shared_core.control import controls_of
from shared_core.embedding_cache import EmbeddingCache, Vector
from shared_core.flights import Flight, Flights
from shared_core.request import canonical_json


class Embeddings:
    """What is known of vectors, and what is being asked for in this process."""

    def __init__(self, cache: ResponseCache) -> None:
        self._cache, self._vectors = cache, EmbeddingCache(cache)
        self._flights = Flights(cache.options.lease)

    async def embedded(
        self,
        model: Any,
        role: str,
        texts: Sequence[str],
        embed: Callable[[list[str]], Awaitable[list[Vector]]],
    ) -> list[Vector]:
        """Return the vectors of texts; ``embed`` gets those that nobody knows or asks for.

        The controls in force hold. Raises what ``embed`` raises.
        """
        led: list[Flight] = []

        async def once(new: list[str]) -> list[Vector]:
            controls = controls_of(self._cache)
            if not (controls.read and controls.write):
                return await embed(new)
            key = sha256(
                canonical_json([controls.namespace, model, role, new]).encode()
            ).hexdigest()
            found, flight = await self._flights.board(
                self._cache.on_loop, key, lambda: self._found(model, role, new)
            )
            if found is not None:
                return found[0]
            if flight is None:
                return await embed(new)
            led.append(flight)
            vectors = await embed(new)
            flight.arrive(vectors)
            return vectors

        try:
            return await self._vectors.aembedded(model, role, texts, once)
        finally:
            for flight in led:  # after they are kept: who comes later finds them
                self._flights.land(flight)

    def _found(self, model: Any, role: str, texts: Sequence[str]) -> tuple[list[Vector]] | None:
        known = self._vectors.known(model, role, texts)
        return None if known is None else (known,)
