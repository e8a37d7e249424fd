"""The vectors of one scope: a matrix while they are few, a graph once they are many.

A matrix answers exactly, in time that grows with its rows. From ``GRAPH_FROM`` rows on, a thread
makes a graph of them; the matrix answers until that is there, and is dropped then. What comes later
waits in a small matrix beside the graph until the thread has moved it over.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from shared_core.stores import StoreError
from shared_core.stores.graph import Graph, GraphsUnavailableError, warn_of_size
from shared_core.stores.vectors import VectorIndex, dots

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

    from shared_core.record import Vector

logger = logging.getLogger("tiered_cache")

GRAPH_FROM = 20_000
"""Rows from which a graph is worth its making: the matrix takes 1.2 ms there, the graph 0.5."""
RECENT = 1_000
"""Rows beside the graph that are not yet worth a thread: 0.05 ms of a search."""
AT_ONCE = 32
"""Rows that go into a new graph in one call; the process may end between two."""
FEW = 4
"""Rows that go into a graph in use while searches wait: some ms."""
MORE = 4
"""How many more neighbours the graph is asked for, as it rounds similarities."""
REST_S = 10.0
"""Seconds until a graph that others are making is looked for again, or a failure forgotten."""
WORN = 0.25
"""Share of a graph that is dead when another is made in its place."""
GROWN = 1.25
"""Growth of a graph that is worth writing it down again."""

Fetch = Callable[[Sequence[int]], Mapping[int, "Vector"]]
"""Vectors by number, float32; the dead are left out."""


class Keeper(Protocol):
    """Where the graph of a scope outlives its process."""

    def load(self) -> Graph | None:
        """Return what was kept, if it is of these rows."""

    def claim(self) -> bool:
        """Say whether this process may make the graph: no other is at it."""

    def still_claims(self) -> None:
        """Tell the others that this process is at it."""

    def keep(self, graph: Graph, last: int) -> None:
        """Keep a graph that holds all rows up to the number ``last``; give up the claim."""


class ScopeVectors:
    """Vectors of length 1 by number, which grow; safe for threads.

    ``fetch`` gives the vectors that the graph only knows rounded, so that what is near enough with
    a matrix is so with a graph. It is called with ``lock`` held, which guards every search: who
    forks holds it, so that no search or addition is cut in half, and calls ``renew`` in the child.
    """

    def __init__(self, dimension: int, fetch: Fetch, keeper: Keeper | None = None) -> None:
        self.lock = threading.Lock()
        self._dimension = dimension
        self._fetch = fetch
        self._keeper = keeper
        self._rows = VectorIndex(dimension)
        self._graph: Graph | None = None
        self._kept = 0
        """How many rows the graph had when it was last kept."""
        self._rests_until = float("-inf")
        self.renew()

    def renew(self) -> None:
        """Begin without a thread, in a forked child: what it was making is lost."""
        self.lock = threading.Lock()
        self._worker: threading.Thread | None = None
        self._draft: Graph | None = None
        self._pending: list[int] = []
        self._dropped: list[int] = []  # since the draft was begun

    def __len__(self) -> int:
        return len(self._rows) + (0 if self._graph is None else len(self._graph))

    @property
    def nbytes(self) -> int:
        """Say about how many bytes the vectors take."""
        return self._rows.nbytes + (0 if self._graph is None else self._graph.nbytes)

    @property
    def numbers(self) -> list[int]:
        """Return the numbers, in no order."""
        with self.lock:
            graphed: list[int] = [] if self._graph is None else self._graph.numbers.tolist()
            return [*self._rows.ids, *graphed]

    def extend(self, numbers: Sequence[int], vectors: NDArray[float32]) -> None:
        """Add vectors, shape (n, d), under new numbers; rows that are not finite are left out."""
        with self.lock:
            self._rows.extend(numbers, vectors)

    def discard(self, numbers: Sequence[int]) -> None:
        """Drop numbers, if they are there."""
        with self.lock:
            self._discard(numbers)

    def _discard(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self._rows.discard(number)
        if self._graph is not None:
            self._graph.discard(numbers)
        if self._draft is not None:
            self._dropped += numbers

    def use(self, graph: Graph) -> None:
        """Begin with a graph that was kept, before anything is added."""
        self._graph, self._kept = graph, graph.size

    def search(self, vector: Vector, k: int, least: float = -1.0) -> list[tuple[int, float]]:
        """Return the k nearest numbers with their cosines, nearest first.

        The nearest comes in any case, others only from the cosine ``least`` on. With a graph, a
        near one is missed now and then.
        """
        with self.lock:
            found = self._rows.search(vector, k, least)
            if self._graph is not None:
                merged = dict([*found, *self._graphed(self._graph, vector, k)])
                found = sorted(merged.items(), key=lambda one: -one[1])[:k]
                found = found[:1] + [one for one in found[1:] if one[1] >= least]
            if self._is_due():
                self._wake()
        return found

    def _graphed(self, graph: Graph, vector: Vector, k: int) -> list[tuple[int, float]]:
        while True:
            numbers = graph.nearest(vector, k + MORE)
            vectors = self._fetch(numbers)
            dead = [number for number in numbers if number not in vectors]
            graph.discard(dead)
            if len(vectors) >= k or not dead:
                break
        if not vectors:
            return []
        similarities = dots(np.stack(list(vectors.values())), vector)
        return list(zip(vectors, np.clip(similarities, -1.0, 1.0).tolist(), strict=True))

    def _is_due(self) -> bool:
        """Say whether there is work for a thread."""
        graph = self._graph
        if graph is None:
            return len(self._rows) >= GRAPH_FROM
        return len(self._rows) >= RECENT or self._is_worn(graph)

    def _is_worn(self, graph: Graph) -> bool:
        return graph.size - len(graph) > max(RECENT, WORN * graph.size)

    # ----------------------------------------------------------------------- the thread's part

    def _wake(self) -> None:
        """Have a thread work at the graph, unless one does, or had better not yet."""
        if self._worker is not None or time.monotonic() < self._rests_until:
            return
        self._worker = threading.Thread(
            target=_work, args=(weakref.ref(self),), name="tiered-cache-graph"
        )
        try:
            self._worker.start()  # no daemon, as one torn out of C++ code may abort the process
        except RuntimeError:  # no more threads can be had, or the interpreter ends
            self._worker = None

    def work(self) -> bool:
        """Do a moment's work, and say whether there is more."""
        try:
            graph = self._graph
            if graph is None or self._draft is not None or self._is_worn(graph):
                more = self._make_some()
            else:
                more = self._move_some(graph)
        except GraphsUnavailableError:
            warn_of_size(len(self._rows))
            self._rests_until, more = float("inf"), False
        except (RuntimeError, ValueError, OSError, MemoryError, StoreError) as error:
            logger.warning("no graph of %d vectors could be made: %s", len(self), error)
            self._draft, self._rests_until, more = None, time.monotonic() + REST_S, False
        if not more:
            self._worker = None
        return more

    def _make_some(self) -> bool:
        if self._draft is None:
            return self._begin()
        if self._keeper is not None:
            self._keeper.still_claims()
        some = self._pending[-AT_ONCE:]
        del self._pending[-AT_ONCE:]
        with self.lock:
            held, rows = self._rows.rows(some)
            known = self._fetch([one for one in some if one not in set(held)])
        self._draft.add(np.array(held, np.uint64), rows)
        if known:
            self._draft.add(np.array(list(known), np.uint64), np.stack(list(known.values())))
        if not self._pending:
            self._keep(self._draft, self._last)
            self._take(self._draft)
            self._draft = None
        return True

    def _begin(self) -> bool:
        """Begin a graph of all that is there, unless one was kept or is made by others."""
        kept = None if self._keeper is None or self._graph is not None else self._keeper.load()
        if kept is not None:
            self._take(kept)
            return True
        draft = Graph(self._dimension)
        if self._keeper is not None and not self._keeper.claim():
            self._rests_until = time.monotonic() + REST_S
            return False
        with self.lock:
            self._draft = draft
            graphed = [] if self._graph is None else self._graph.numbers.tolist()
            self._dropped.clear()
            self._pending = sorted({*self._rows.ids, *graphed}, reverse=True)
        self._last = self._pending[0] if self._pending else 0
        return True

    def _take(self, graph: Graph) -> None:
        """Put a graph in the place of the rows that it holds, and of the graph before it."""
        with self.lock:
            ids = np.array(self._rows.ids, np.uint64)
            graph.discard(self._dropped)
            recent, rows = self._rows.rows(ids[~graph.holds(ids)].tolist())
            self._rows = VectorIndex(self._dimension)
            self._rows.extend(recent, rows)
            self._graph, self._kept = graph, graph.size

    def _move_some(self, graph: Graph) -> bool:
        """Move some rows into the graph in use, then rest as long, so that searches get their turn.

        The lock is not fair: who gives it back and asks again at once mostly gets it.
        """
        started = time.monotonic()
        with self.lock:
            some, rows = self._rows.rows(self._rows.ids[:FEW])
            graph.add(np.array(some, np.uint64), rows)
            for number in some:
                self._rows.discard(number)
            left = len(self._rows)
        if not left and graph.size > GROWN * self._kept:
            self._keep(graph, int(graph.numbers.max()))
            self._kept = graph.size
        time.sleep(time.monotonic() - started)
        return left > 0

    def _keep(self, graph: Graph, last: int) -> None:
        if self._keeper is not None:
            self._keeper.keep(graph, last)


def _work(owner: weakref.ref[ScopeVectors]) -> None:
    """Work until there is no more to do, nobody uses the vectors, or the process ends."""
    while (vectors := owner()) is not None and threading.main_thread().is_alive():
        if not vectors.work():
            return
        del vectors
