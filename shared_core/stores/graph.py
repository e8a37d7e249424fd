"""Approximate search by cosine in process: an HNSW graph, for scopes too large for a matrix."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from shared_core.embedding.gate import gate, keep_gate

if TYPE_CHECKING:
    from numpy import float32, uint64
    from numpy.typing import NDArray

    from shared_core.record import Vector

logger = logging.getLogger("tiered_cache")

CONNECTIVITY = 32
"""Links of a vector: with 16, 5 % of the nearest among 200,000 were out of reach at any width."""
EXPANSION = 128
"""How many candidates a search follows: some 0.6 ms among 100,000."""

WIDEST = 4096
"""How many are looked at where those that were discarded lie nearest, which takes some 5 ms."""

ROWS_BETWEEN = 500
"""Rows that are written or read, in about a millisecond, before other threads have their turn."""

_told = False


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

        They are fewer where ``WIDEST`` nearer ones were discarded.
        """
        wanted = k
        while len(self._index):
            keys = self._index.search(vector, wanted, threads=1).keys.tolist()
            found = [number for number in keys if number not in self._dead]
            if len(found) >= k or len(keys) < wanted or wanted >= WIDEST:
                return found[:k]
            wanted = min(4 * wanted, WIDEST)
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
    global _told  # noqa: PLW0603 - one warning is enough
    if not _told:
        _told = True
        logger.warning(
            "%d entries share a scope, and every search compares them all; faster searches need "
            "usearch: pip install 'tiered-llm-cache[ann]'",
            rows,
        )
