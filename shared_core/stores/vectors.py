"""Search vectors by cosine in process: exactly in a matrix, by a graph in large scopes."""

from __future__ import annotations

import itertools
import logging
import sys
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np

from shared_core.concurrency import gate, keep_gate
from shared_core.record import Record
from shared_core.stores.api import StoreError

if TYPE_CHECKING:
    from numpy import float32, uint64
    from numpy.typing import NDArray

    from shared_core.record import Vector


Place = TypeVar("Place", bound=Hashable)
Shelved = TypeVar("Shelved")

SMALLEST = 8
"""Rows of the first matrix; it doubles from there, so that an addition is amortised O(1)."""


def dots(rows: NDArray[float32], vector: Vector) -> NDArray[float32]:
    """Return the dot product of every row with the vector, shape (n,), in the calling thread alone.

    ``rows @ vector`` would wake BLAS's threads for more than 24 rows. On two busy cores that took
    20 ms for 5,000 rows of 384 (p50), and 0.14 ms this way; row by row it is also faster for
    20,000 rows.
    """
    if hasattr(np, "vecdot"):
        return np.vecdot(rows, vector)  # type: ignore[no-any-return]  # numpy types it as Any
    return np.einsum("ij,j->i", rows, vector)  # type: ignore[no-any-return]  # numpy before 2.0


class VectorIndex:
    """Vectors of length 1 by number, searched exactly; not thread-safe.

    >>> index = VectorIndex(2)
    >>> index.extend([7, 8], np.eye(2, dtype=np.float32))
    >>> index.search(np.array([0.8, 0.6], dtype=np.float32), 1)[0][0]
    7
    """

    def __init__(self, dimension: int) -> None:
        self._rows: NDArray[float32] = np.empty((0, dimension), np.float32)
        self._ids: list[int] = []
        self._places: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def nbytes(self) -> int:
        """Say about how many bytes the index takes, its spare rows and the ids included."""
        return self._rows.nbytes + 150 * len(self._ids)

    @property
    def ids(self) -> Sequence[int]:
        """Return the ids, in no order."""
        return self._ids

    def extend(self, ids: Sequence[int], vectors: NDArray[float32]) -> None:
        """Add vectors, shape (n, d), under new ids; rows that are not finite are left out.

        A NaN would compare as nearest of all and hide every live neighbour.
        """
        finite = np.isfinite(vectors)
        if not finite.all():
            kept = np.flatnonzero(finite.all(axis=1)).tolist()
            ids = [ids[i] for i in kept]
            vectors = vectors[kept]
        size = len(self._ids)
        self.reserve(size + len(ids))
        self._rows[size : size + len(ids)] = vectors
        self._places.update(zip(ids, range(size, size + len(ids)), strict=True))
        self._ids.extend(ids)

    def discard(self, id: int) -> None:
        """Drop an id if it is there; the last row takes its place."""
        place = self._places.pop(id, None)
        if place is None:
            return
        last = self._ids.pop()
        if last != id:
            self._ids[place] = last
            self._places[last] = place
            self._rows[place] = self._rows[len(self._ids)]
        if len(self._ids) * 4 < len(self._rows) and len(self._rows) > SMALLEST:
            self._resize(len(self._rows) // 2)

    def rows(self, ids: Sequence[int]) -> tuple[list[int], NDArray[float32]]:
        """Return those of the ids that are there, and a copy of their rows, shape (n, d)."""
        there = [id for id in ids if id in self._places]
        return there, self._rows[[self._places[id] for id in there]]

    def search(self, vector: Vector, k: int, least: float = -1.0) -> list[tuple[int, float]]:
        """Return the k nearest ids with their cosines, nearest first.

        The nearest comes in any case, others only from the cosine ``least`` on.
        """
        size = len(self._ids)
        if size == 0 or k < 1:
            return []
        similarities = dots(self._rows[:size], vector)
        if k < size:
            nearest = np.argpartition(similarities, size - k)[size - k :]
        else:
            nearest = np.arange(size)
        nearest = nearest[np.argsort(-similarities[nearest], kind="stable")]
        # Rounding makes equal vectors 1.0000001.
        found = [(self._ids[i], min(1.0, max(-1.0, float(similarities[i])))) for i in nearest]
        return found[:1] + [one for one in found[1:] if one[1] >= least]

    def reserve(self, rows: int) -> None:
        """Make room for as many rows in all."""
        if rows > len(self._rows):
            self._resize(max(rows, 2 * len(self._rows), SMALLEST))

    def _resize(self, rows: int) -> None:
        grown = np.empty((rows, self._rows.shape[1]), np.float32)
        grown[: len(self._ids)] = self._rows[: len(self._ids)]
        self._rows = grown


class Shelf(Generic[Place, Shelved]):
    """What was used last, up to ``capacity`` bytes; not thread-safe.

    The one in use stays, however large.
    """

    def __init__(self, capacity: int, weigh: Callable[[Shelved], int]) -> None:
        self._capacity = capacity
        self._weigh = weigh
        self._kept: OrderedDict[Place, Shelved] = OrderedDict()
        self._weights: dict[Place, int] = {}
        self._total = 0

    def take(self, place: Place, make: Callable[[], Shelved]) -> Shelved:
        """Return what is kept at a place, made anew if it is not there."""
        if place not in self._kept:
            self._kept[place] = make()
        self._kept.move_to_end(place)
        return self._kept[place]

    def weigh(self, place: Place) -> None:
        """Note what a place weighs by now, and let the least recently used go."""
        if place not in self._kept:
            return
        weight = self._weigh(self._kept[place])
        self._total += weight - self._weights.get(place, 0)
        self._weights[place] = weight
        while self._total > self._capacity and len(self._kept) > 1:
            gone, _ = self._kept.popitem(last=False)
            self._total -= self._weights.pop(gone, 0)


# Approximate search by cosine in process: an HNSW graph, for scopes too large for a matrix.


logger = logging.getLogger("tiered_cache")

CONNECTIVITY = 32
"""Links of a vector: with 16, 5 % of the nearest among 200,000 were out of reach at any width."""
EXPANSION = 128
"""How many candidates a search follows: some 0.6 ms among 100,000."""

_WIDEST = 4096
"""How many are looked at where those that were discarded lie nearest, which takes some 5 ms."""

ROWS_BETWEEN = 500
"""Rows that are written or read, in about a millisecond, before other threads have their turn."""

_warned = False


class GraphsUnavailableError(Exception):
    """usearch is not installed, or does not work here."""


class Graph:
    """Vectors of length 1 under whole numbers, at half precision; not thread-safe.

    It names the numbers that are probably nearest; their similarity is for the caller to compute
    from what it holds at full precision. What is discarded is passed over, and stays: usearch would
    give its place to the next addition, and links that led through it would end elsewhere, so that
    living ones were found no more. Raises GraphsUnavailableError at construction.
    """

    def __init__(self, dimension: int) -> None:
        self._index = _usearch()(
            ndim=dimension,
            metric="ip",
            dtype="f16",  # int8 finds a tenth fewer of the nearest
            connectivity=CONNECTIVITY,
            expansion_search=EXPANSION,
        )
        self._dead: set[int] = set()

    def __len__(self) -> int:
        return len(self._index) - len(self._dead)

    @property
    def size(self) -> int:
        """Return how many numbers there are, with those that were discarded."""
        return len(self._index)

    @property
    def nbytes(self) -> int:
        """Say about how many bytes the graph takes."""
        return int(self._index.memory_usage)

    @property
    def numbers(self) -> NDArray[uint64]:
        """Return the numbers that are left, in no order."""
        held: NDArray[uint64] = np.asarray(self._index.keys[:], np.uint64)
        return held[~np.isin(held, list(self._dead))] if self._dead else held

    def holds(self, numbers: NDArray[uint64]) -> NDArray[np.bool_]:
        """Say of each number whether it ever was in the graph."""
        held: NDArray[np.bool_] = np.asarray(self._index.contains(numbers), np.bool_)
        return held

    def add(self, numbers: NDArray[uint64], rows: NDArray[float32]) -> None:
        """Add rows, shape (n, d), that were never there; some 0.3 ms each among 100,000."""
        new = ~self.holds(numbers)
        if new.any():
            self._index.add(numbers[new], rows[new], threads=1)

    def discard(self, numbers: Sequence[int]) -> None:
        """Pass numbers over from now on."""
        self._dead.update(number for number in numbers if number in self._index)

    def nearest(self, vector: Vector, k: int) -> list[int]:
        """Return the numbers of about the k nearest, nearest first by half precision.

        They are fewer where ``_WIDEST`` nearer ones were discarded.
        """
        wanted = k
        while len(self._index):
            keys = self._index.search(vector, wanted, threads=1).keys.tolist()
            found = [number for number in keys if number not in self._dead]
            if len(found) >= k or len(keys) < wanted or wanted >= _WIDEST:
                return found[:k]
            wanted = min(4 * wanted, _WIDEST)
        return []

    def vectors(self, numbers: NDArray[uint64]) -> NDArray[np.float16]:
        """Return the rows of numbers that it holds, shape (n, d)."""
        rows: NDArray[np.float16] = np.asarray(self._index.get(numbers))
        return rows

    def save(self, path: str) -> None:
        """Write the graph to a new file. Raises RuntimeError or OSError."""
        self._index.save(path, progress=_yielding())

    @classmethod
    def load(cls, path: str, dimension: int) -> Graph:
        """Read a graph that ``save`` wrote; what comes after it in the file is not read.

        Raises RuntimeError or ValueError for anything else.
        """
        graph = cls(dimension)
        graph._index.load(path, progress=_yielding())
        if graph._index.ndim != dimension:
            raise ValueError(f"{path} is of {graph._index.ndim} dimensions, not of {dimension}")
        graph._index.expansion_search = EXPANSION
        return graph


def _yielding() -> Callable[[int, int], bool]:
    """Make what usearch calls for every row that it writes or reads.

    It keeps the interpreter meanwhile, so that nothing else in the process goes on, but for what
    this lets in. Half of the time is spent where it does not call: 0.07 s for 60,000 rows.
    """
    calls = 0

    def on_progress(done: int, total: int) -> bool:
        nonlocal calls
        calls += 1
        if calls % ROWS_BETWEEN == 0:
            time.sleep(0.000001)
        return True

    # usearch looks for the types themselves, where this module has their names.
    on_progress.__annotations__ = {"done": int, "total": int, "return": bool}
    return on_progress


def _usearch() -> Any:
    try:
        with gate:  # a fork must not cut the import in half
            keep_gate()
            # usearch 2.26 opens its symbols to what is loaded after it, of which onnxruntime 1.31
            # dies at its import; the other way round both work.
            if "usearch" not in sys.modules and find_spec("onnxruntime") is not None:
                import onnxruntime  # noqa: F401
            from usearch.index import Index
    except ImportError as error:
        raise GraphsUnavailableError(str(error)) from error
    return Index


def warn_of_size(rows: int) -> None:
    """Say, once in a process, what would help a scope of that many rows."""
    global _warned  # noqa: PLW0603 - one warning is enough
    if not _warned:
        _warned = True
        logger.warning(
            "%d entries share a scope, and every search compares them all; faster searches need "
            "usearch: pip install 'tiered-llm-cache[ann]'",
            rows,
        )


# The vectors of one scope: a matrix while they are few, a graph once they are many.
#
# A matrix answers exactly, in time that grows with its rows. From ``GRAPH_FROM`` rows on, a thread
# makes a graph of them; the matrix answers until that is there, and is dropped then. What comes
# later waits in a small matrix beside the graph until the thread has moved it over.


GRAPH_FROM = 20_000
"""Rows from which a graph is worth its making: the matrix takes 1.2 ms there, the graph 0.5."""
_RECENT = 1_000
"""Rows beside the graph that are not yet worth a thread: 0.05 ms of a search."""
AT_ONCE = 32
"""Rows that go into a new graph in one call; the process may end between two."""
FEW = 4
"""Rows that go into a graph in use while searches wait: some ms."""
MORE = 4
"""How many more neighbours the graph is asked for, as it rounds similarities."""
_REST_S = 10.0
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

    def reserve(self, rows: int) -> None:
        """Make room for as many rows in all, where that is known before they come."""
        with self.lock:
            self._rows.reserve(rows)

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
        return len(self._rows) >= _RECENT or self._is_worn(graph)

    def _is_worn(self, graph: Graph) -> bool:
        return graph.size - len(graph) > max(_RECENT, WORN * graph.size)

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
            self._draft, self._rests_until, more = None, time.monotonic() + _REST_S, False
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
            self._rests_until = time.monotonic() + _REST_S
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


# The vectors of a ``MemoryStore``: by scope, under the keys of their records.


RecordPlace = tuple[str, str, int]
"""Scope, space and dimension: vectors are compared only within one."""


class MemoryVectors:
    """Nearest records by scope; the store's lock is held by whoever calls.

    A record that is put anew gets a new number, so that one found in an old graph is known as dead.
    """

    def __init__(self) -> None:
        self._places: dict[RecordPlace, ScopeVectors] = {}
        self._numbers: dict[str, int] = {}
        self._records: dict[int, Record] = {}
        self._next = itertools.count(1)

    def add(self, record: Record) -> None:
        """Add a record whose key is not there; one without a vector is left out."""
        if record.vector is None:
            return
        number = self._numbers[record.key] = next(self._next)
        self._records[number] = record
        place = (record.scope, record.space, len(record.vector))
        if place not in self._places:
            self._places[place] = ScopeVectors(len(record.vector), self._fetch)
        self._places[place].extend([number], record.vector[None, :])

    def remove(self, record: Record) -> None:
        """Remove a record, if it is there."""
        number = self._numbers.pop(record.key, None)
        if number is None or record.vector is None:
            return
        del self._records[number]
        place = (record.scope, record.space, len(record.vector))
        self._places[place].discard([number])
        if not len(self._places[place]):
            del self._places[place]

    def nearest(
        self, scope: str, space: str, vector: Vector, k: int, least: float
    ) -> list[tuple[str, float]]:
        """Return the keys of the k nearest and their cosines, nearest first."""
        vectors = self._places.get((scope, space, len(vector)))
        if vectors is None:
            return []
        found = vectors.search(vector, k, least)
        return [(self._records[number].key, similarity) for number, similarity in found]

    def _fetch(self, numbers: Sequence[int]) -> dict[int, Vector]:
        records = {number: self._records.get(number) for number in numbers}
        return {n: one.vector for n, one in records.items() if one and one.vector is not None}

    def before_fork(self) -> None:
        """Wait until no graph is being changed; keep changes out."""
        for vectors in self._places.values():
            vectors.lock.acquire()

    def after_fork_in_parent(self) -> None:
        """Let changes in again."""
        for vectors in self._places.values():
            vectors.lock.release()

    def renew_after_fork(self) -> None:
        """Begin without threads in the child."""
        for vectors in self._places.values():
            vectors.renew()
