"""Remember the newest vectors of questions, and bound the time that a new one may take."""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from shared_core.concurrency import renew_after_fork
from shared_core.embedding.api import Embedder, EmbedderError, LoadError
from shared_core.embedding.batching import Turns, Worker
from shared_core.embedding.resolve import PROBE, resolve_embedder

if TYPE_CHECKING:
    from shared_core.record import Vector


T = TypeVar("T")

MAX_VECTORS = 1024
MAX_WAITING = 1000
RETRY_S = 30.0
"""How long a model that did not load is left alone."""

PATIENCE_S = 10.0
"""How long a call of an embedder is waited for."""

UNKNOWN_LIMIT = 512
"""How many tokens an embedder is taken to read that does not say."""

ADDED_TOKENS = 8
"""More than any tokenizer puts around a text."""

CHARACTERS_PER_TOKEN = 20
_MAX_CHARACTERS = 50_000
"""What is longer, by either, is not read whole; nobody waits for its tokens to be counted."""

_WORD = re.compile(r"[A-Za-z]+|\S")
LETTERS_PER_TOKEN = 3


class _State(Enum):
    WAITING = auto()
    LOADING = auto()
    LOADED = auto()
    FAILED = auto()


class Memo:
    """Vectors of questions, by one embedder. Safe for threads and forks.

    ``embedder`` is anything that ``resolve_embedder`` takes. ``load`` "lazy": the first vector
    loads the model; "background": a thread does, and ``ready`` is False until it is there.
    ``patience``: seconds that a call of the embedder is waited for, once its model is loaded.
    ``clock`` is in seconds. Calls that wait for the embedder share its next one.

    Raises ValueError at construction if there is no way to make an embedder of ``embedder``.
    """

    def __init__(
        self,
        embedder: Any = None,
        *,
        load: Literal["lazy", "background"] = "lazy",
        patience: float = PATIENCE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._embedder = resolve_embedder(embedder)
        self._load: Callable[[], None] | None = getattr(self._embedder, "load", None)
        kind = Worker if self._load is None else Turns  # a model in this process does not hang
        self._calls: Worker | Turns = kind(self._embedder.embed, patience)
        self._background = load == "background"
        self._clock = clock
        self._vectors: OrderedDict[str, Vector] = OrderedDict()
        self._truncated: OrderedDict[str, bool] = OrderedDict()
        self._space: str | None = None
        self._limit: int | None = None
        self._state = _State.WAITING
        self._failure: tuple[str, float] | None = None  # what went wrong, when to try again
        self._waiting: list[Callable[[], object]] = []
        self._lock = threading.Lock()
        renew_after_fork(self)
        if self._background:
            import numpy  # noqa: F401 - here, as a fork may cut an import in another thread in half

            self._start_loading()

    def renew_after_fork(self) -> None:
        """Give the child a lock of its own; a load that was under way starts again there."""
        self._lock = threading.Lock()
        self._waiting = []  # the parent's thread calls those back
        if self._state is _State.LOADING:
            self._state = _State.WAITING

    @property
    def ready(self) -> bool:
        """Say whether a vector can be had without waiting for a load in the background.

        True after a load that failed, too: ``vector`` then says why there is none. Once ``RETRY_S``
        have passed since, asking starts the next attempt.
        """
        if not self._background or self._state is _State.LOADED:
            return True
        if self._state is _State.FAILED and not self._may_retry():
            return True
        self._start_loading()
        return False

    @property
    def space(self) -> str:
        """Return "name:dimension" of the embedder.

        Vectors of two spaces are never compared. Loads the model if need be. Raises EmbedderError.
        """
        if self._space is None:
            self._space = self._ask_soon(lambda one: f"{one.name}:{one.dimension}")
        return self._space

    def preload(self) -> None:
        """Load the model now. Raises EmbedderError."""
        try:
            self._embedder.embed([PROBE])
            self._space = f"{self._embedder.name}:{self._embedder.dimension}"
        except EmbedderError as error:
            self._failed(error)
            raise
        self._finish()

    def vector(self, text: str, keep: bool = True) -> Vector:
        """Return the text's vector: float32 (d,), length 1, read-only. Raises EmbedderError.

        ``keep``: False for a text that is not asked for again, and must not drive others out.

        A load that failed is not tried again for ``RETRY_S``. With a load in the background, no
        call waits for it: it is an EmbedderError until ``ready``.
        """
        with self._lock:
            known = self._vectors.get(text)
            if known is not None:
                self._vectors.move_to_end(text)
                return known
        vector = self._ask(lambda: self._calls.vector(text)).copy()  # it may be of a larger array
        vector.flags.writeable = False
        if keep:
            self._keep(self._vectors, text, vector)
        return vector

    def truncates(self, text: str) -> bool:
        """Say whether the embedder reads less than the whole text; never fails.

        The embedder's ``reads`` says so, if it has it: signs that it does not know are not read,
        either. Else its tokens are counted, or estimated, rather too high than too low.
        """
        if len(text) > _MAX_CHARACTERS:
            return True
        with self._lock:
            known = self._truncated.get(text)
        if known is not None:
            return known
        try:
            if self._limit is None:
                self._limit = self._ask_soon(lambda one: one.max_tokens) or UNKNOWN_LIMIT
            truncated = self._is_truncated(text, self._limit)
        except EmbedderError:
            return estimated_tokens(text) > UNKNOWN_LIMIT
        self._keep(self._truncated, text, truncated)
        return truncated

    def _is_truncated(self, text: str, limit: int) -> bool:
        if len(text) > CHARACTERS_PER_TOKEN * limit:
            return True
        reads: Callable[[str], bool] | None = getattr(self._embedder, "reads", None)
        if reads is not None:
            return self._ask_soon(lambda _: not reads(text))
        if text.isascii() and len(text) + ADDED_TOKENS <= limit:
            return False  # no token is shorter than a character
        count = getattr(self._embedder, "count_tokens", None) or estimated_tokens
        return self._ask_soon(lambda _: int(count(text))) > limit

    def _keep(self, newest: OrderedDict[str, T], text: str, value: T) -> None:
        with self._lock:
            newest[text] = value
            if len(newest) > MAX_VECTORS:
                newest.popitem(last=False)

    def when_ready(self, callback: Callable[[], object]) -> None:
        """Call back once the model is there: now, or in the thread that loads it.

        The newest ``MAX_WAITING`` callbacks are kept; they must not raise.
        """
        with self._lock:
            if self._background and self._state is not _State.LOADED:
                self._waiting = [*self._waiting[1 - MAX_WAITING :], callback]
                return
        callback()

    # ----------------------------------------------------------------------- loading

    def _ask_soon(self, ask: Callable[[Embedder], T]) -> T:
        """Ask for something that takes a moment once the model is there. Raises EmbedderError."""
        return self._ask(lambda: self._calls.ask(lambda: ask(self._embedder)))

    def _ask(self, ask: Callable[[], T]) -> T:
        """Ask the embedder something, with its model loaded. Raises EmbedderError."""
        failure = self._failure
        if self._background and self._state is not _State.LOADED:
            raise LoadError(failure[0] if failure else "the model is being loaded")
        if failure is not None and not self._may_retry():
            raise LoadError(failure[0])
        try:
            if self._load is not None:
                self._load()
            answer = ask()
        except LoadError as error:
            self._failed(error)
            raise
        self._failure = None
        return answer

    def _may_retry(self) -> bool:
        failure = self._failure
        return failure is None or self._clock() >= failure[1]

    def _start_loading(self) -> None:
        with self._lock:
            if self._state in (_State.LOADING, _State.LOADED):
                return
            self._state = _State.LOADING
        # No daemon: one that is torn out of C++ code when the process ends may abort it.
        threading.Thread(target=self._load_in_background, name="tiered-cache-loader").start()

    def _load_in_background(self) -> None:
        try:
            self.preload()
        except EmbedderError:
            return  # kept as the failure, which the next ``vector`` raises

    def _failed(self, error: EmbedderError) -> None:
        with self._lock:
            self._failure = (str(error), self._clock() + RETRY_S)
            self._state = _State.FAILED

    def _finish(self) -> None:
        with self._lock:
            self._failure, self._state = None, _State.LOADED
            waiting, self._waiting = self._waiting, []
        for callback in waiting:
            callback()


def estimated_tokens(text: str) -> int:
    """Estimate how many tokens a text has: words by their letters, all else one a character."""
    return ADDED_TOKENS + sum(-(-len(word) // LETTERS_PER_TOKEN) for word in _WORD.findall(text))
