"""Per-call controls and traces: context variables, which follow the task or thread."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from shared_core.events import Trace


@dataclass(frozen=True, slots=True)
class Controls:
    """What one call wants: see ``ResponseCache.control``.

    ``max_age``: an answer that was kept more seconds ago is not for this call.
    """

    read: bool = True
    write: bool = True
    ttl: float | None = None
    tags: tuple[str, ...] = ()
    namespace: str | None = None
    max_age: float | None = None

    def is_too_old(self, age: float) -> bool:
        """Say whether an answer of this age, in seconds, is not for this call."""
        return self.max_age is not None and age > self.max_age


DEFAULT = Controls()
BYPASS = Controls(read=False, write=False)
EVERY = 0
"""Stands for every cache: no object has this id."""

# One variable for all caches, keyed by the cache: variables made per object would never be freed.
_controls: ContextVar[dict[int, Controls] | None] = ContextVar(
    "tiered_cache_controls", default=None
)
_traces: ContextVar[dict[int, tuple[Trace, ...]] | None] = ContextVar(
    "tiered_cache_traces", default=None
)


def controls_of(cache: object) -> Controls:
    """Return the controls in force for this cache here."""
    current = _controls.get()
    if current is None:
        return DEFAULT
    return BYPASS if EVERY in current else current.get(id(cache), DEFAULT)


def traces_of(cache: object) -> tuple[Trace, ...]:
    """Return the traces that are open for this cache here, and those for all."""
    current = _traces.get()
    if current is None:
        return ()
    return (*current.get(EVERY, ()), *current.get(id(cache), ()))


@contextmanager
def controlling(cache: object, controls: Controls) -> Iterator[None]:
    """Put controls in force for a block; the innermost block wins."""
    token = _controls.set({**(_controls.get() or {}), id(cache): controls})
    try:
        yield
    finally:
        _controls.reset(token)


@contextmanager
def bypassing() -> Iterator[None]:
    """Keep every cache out of a block: nothing is looked up, kept or counted, whatever it says."""
    token = _controls.set({**(_controls.get() or {}), EVERY: BYPASS})
    try:
        yield
    finally:
        _controls.reset(token)


@contextmanager
def tracing(cache: object = None) -> Iterator[Trace]:
    """Collect the events of a block, of a cache or of all (None).

    Blocks nest, each sees what happens inside it.
    """
    trace, open_ones = Trace(), _traces.get() or {}
    which = EVERY if cache is None else id(cache)
    token = _traces.set({**open_ones, which: (*open_ones.get(which, ()), trace)})
    try:
        yield trace
    finally:
        _traces.reset(token)


def tag_tuple(tags: Iterable[str]) -> tuple[str, ...]:
    """Return tags without repeats, in order; raises ValueError for one that is no text or empty."""
    if isinstance(tags, str):
        raise ValueError(f"tags must be a list of texts, not the text {tags!r}; write [{tags!r}]")
    found = tuple(dict.fromkeys(tags))
    for tag in found:
        if not isinstance(tag, str) or not tag:
            raise ValueError(f"a tag must be a text that is not empty, not {tag!r}")
    return found
