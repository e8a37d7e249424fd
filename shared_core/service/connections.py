"""Connections to the upstream: many small pools, since a pool's work grows with its square.

httpcore looks at all connections of a pool whenever a call begins or ends. With 200 clients, none
of whom was answered by the cache, 100 requests a second became 171 (benchmarks/service.py).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import httpx

CALLS_OF_ONE = 8
"""Calls under way in one pool before the next is used."""


class Pools(httpx.AsyncBaseTransport):
    """Sends a request by the first pool that has room; ``make`` opens one more."""

    def __init__(self, make: Callable[[], httpx.AsyncClient]) -> None:
        self._make = make
        self._pools: list[_Pool] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request. Raises as httpx does."""
        pool = next((one for one in self._pools if one.calls < CALLS_OF_ONE), None)
        if pool is None:
            pool = _Pool(self._make())
            self._pools.append(pool)
        pool.calls += 1
        try:
            response = await pool.client.send(request, stream=True)
        except BaseException:
            pool.calls -= 1
            raise
        return httpx.Response(
            response.status_code,
            headers=response.headers.raw,
            stream=_Counted(response, pool),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        """Close all connections."""
        for pool in self._pools:
            await pool.client.aclose()


class _Pool:
    """A client of httpx and how many of its calls are under way."""

    __slots__ = ("calls", "client")

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client, self.calls = client, 0


class _Counted(httpx.AsyncByteStream):
    """A body that says when its call is over."""

    def __init__(self, response: httpx.Response, pool: _Pool) -> None:
        self._response, self._pool, self._open = response, pool, True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        assert isinstance(self._response.stream, httpx.AsyncByteStream)  # noqa: S101 - it was sent so
        async for part in self._response.stream:
            yield part

    async def aclose(self) -> None:
        if self._open:
            self._open = False
            self._pool.calls -= 1
        await self._response.aclose()
