"""Define what is stored and what a lookup may find: ``Answer``, ``Record``, the outcomes.

Whether an answer is whole and good, and so may be served again, is read from how it ended, in all
providers' spellings: ``flaw_of``.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from shared_core.request import Request

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

    Vector = NDArray[float32]


class Tier(StrEnum):
    """Which tier answered; ``str(tier)`` is its name.

    >>> str(Tier.EXACT), str(Tier.SEMANTIC)
    ('exact', 'semantic')
    """

    EXACT = "exact"
    SEMANTIC = "semantic"


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's answer, in no framework's types.

    ``format`` "text" means that ``text`` is all of it: such answers are served across frameworks.
    Any other format is served only to the framework that wrote it, which finds its own message as
    JSON in ``payload`` (a "text" answer may carry one too, for what text cannot say).
    ``exact_only`` answers are never served by meaning: tool calls, refusals, cut-off texts.
    ``usage`` counts tokens: ``input_tokens``, ``output_tokens`` and what the provider adds.
    ``flaw`` is why its adapter says that it must not be served again, None if it is whole and good.

    >>> Answer("It melts.", usage={"input_tokens": 12, "output_tokens": 3}).format
    'text'
    """

    text: str
    payload: str | None = None
    format: str = "text"
    model: str | None = None
    usage: Mapping[str, int] | None = None
    finish_reason: str | None = None
    exact_only: bool = False
    flaw: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of a store: found by its exact key or, within its scope, by its vector.

    ``vector`` is float32 of shape (d,) and length 1, or None if the question is only matched
    exactly; ``space`` names the embedder that made it. ``created`` and ``expires`` are seconds
    since the epoch; ``expires`` None means never. ``group`` names the answers that say the same.

    >>> Record("key", "scope", "default", "What is a fuse?", Answer("It melts.")).expires is None
    True
    """

    key: str
    scope: str
    namespace: str
    question: str | None
    answer: Answer
    model: str = ""
    tags: tuple[str, ...] = ()
    created: float = 0.0
    expires: float | None = None
    space: str = ""
    group: str = ""
    vector: Vector | None = field(default=None, compare=False)


def is_fresh(record: Record, until: float) -> bool:
    """Tell whether a record is to live beyond this time, in seconds since the epoch."""
    return record.expires is None or record.expires > until


def copy_for_reader(record: Record) -> Record:
    """Copy what a reader could change for all others: the token counts."""
    found = record.answer
    usage = found.usage
    if not usage or not isinstance(usage, Mapping):
        return record
    # Every hit in memory comes here, and ``replace`` takes three times as long as the constructors.
    answer = Answer(
        *(found.text, found.payload, found.format, found.model),
        *({**usage}, found.finish_reason, found.exact_only, found.flaw),
    )
    return Record(
        *(record.key, record.scope, record.namespace, record.question, answer, record.model),
        *(record.tags, record.created, record.expires, record.space, record.group, record.vector),
    )


def copy_for_store(record: Record) -> Record:
    """Copy what its maker could still change: the vector and the token counts."""
    if record.vector is not None:
        vector = record.vector.astype("f4")
        vector.setflags(write=False)
        record = replace(record, vector=vector)
    return copy_for_reader(record)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A live record near a question; ``similarity`` is the cosine of their vectors, -1..1."""

    record: Record
    similarity: float


@dataclass(frozen=True, slots=True)
class Hit:
    """An answer from the cache. ``age`` is in seconds, ``similarity`` 1.0 for exact hits.

    ``is_stale``: its time is over, and the model is to be asked anew. ``is_shared``: it is the
    answer to an equal call that was under way.

        match cache.lookup(request):
            case Hit(answer=answer, tier=tier, age=seconds):
                print(tier, answer.text)
    """

    answer: Answer
    tier: Tier
    similarity: float
    entry_id: str
    age: float
    is_stale: bool = False
    is_shared: bool = False


@dataclass(frozen=True, slots=True)
class PrefixMatch:
    """The front of a prompt that was sent before.

    ``messages`` of it are known whole; ``blocks`` counts their blocks and those of the message that
    differs; ``tokens_estimate`` is what they hold, ``share`` that part of the prompt, 0..1.
    """

    messages: int
    blocks: int
    tokens_estimate: int
    share: float


@dataclass(frozen=True, slots=True)
class Explore:
    """A candidate that is not proven: ask the model, its fresh answer labels the candidate.

    ``reason``: "learning" while nothing may be served by meaning yet, "risk" for a candidate that
    is not sure enough, "audit" for one that is checked although it is, "shadow" in shadow mode.
    ``prefix`` is None unless the cache was opened with a prefix cache; ``progress`` says how far
    the policy is while it serves nothing yet ("34 of about 80 labels").

        match cache.lookup(request):
            case Explore(candidate=old, reason=why):
                print(why, "near is:", old.question)
    """

    candidate: Record
    similarity: float
    reason: str = "learning"
    prefix: PrefixMatch | None = None
    progress: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Miss:
    """No answer, and why: ``absent new_scope temperature time language guard threshold store …``.

    "new_scope": nothing was ever asked with this system message, history and settings.
    ``similarity`` is that of the nearest candidate, when there was one; ``prefix`` and ``progress``
    are those of ``Explore``.

        match cache.lookup(request):
            case Miss(reason=why):
                print("asking the model:", why)
    """

    reason: str
    similarity: float | None = None
    prefix: PrefixMatch | None = None
    progress: str | None = field(default=None, compare=False)


Outcome = Hit | Explore | Miss


class Explained(Protocol):
    """What says why a lookup did not hit: an outcome or its event."""

    @property
    def reason(self) -> str | None: ...

    @property
    def similarity(self) -> float | None: ...

    @property
    def progress(self) -> str | None: ...


def fresh_mark(entry_id: str | None, outcome: Hit | Explained | None = None) -> dict[str, Any]:
    """Return what the model's own answer says of the cache: that it did not hit, and why.

    ``entry_id`` is None if the answer was not kept. ``outcome`` is that of the lookup before the
    call, or its event; what is not known is left out.
    """
    mark = {"hit": False, "entry_id": entry_id}
    if outcome is None or isinstance(outcome, Hit):
        return mark
    known = {name: getattr(outcome, name) for name in ("reason", "similarity", "progress")}
    return mark | {name: value for name, value in known.items() if value is not None}


# Opaque names of what was served; feedback needs nothing else, from any process.


_FORM = re.compile(
    r"([0-9a-f]{64})(?:\.([0-9a-f]{64})\.(-?[01]\.\d{4})(?:\.(-?\d+\.\d{4}))?(\.s)?)?"
)


@dataclass(frozen=True, slots=True)
class EntryId:
    """The record served; for a semantic hit also the question's key, similarity and score.

    ``rewritten``: the question was rewritten to stand alone, and has labels of its own.
    """

    record: str
    asked: str | None = None
    similarity: float = 1.0
    score: float | None = None
    rewritten: bool = False

    def __str__(self) -> str:
        if self.asked is None:
            return self.record
        score = "" if self.score is None else f".{self.score:.4f}"
        kind = ".s" if self.rewritten else ""
        return f"{self.record}.{self.asked}.{self.similarity:.4f}{score}{kind}"

    @classmethod
    def parse(cls, text: object) -> EntryId | None:
        """Read an id; None if this library did not make it."""
        found = _FORM.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            return None
        record, asked, similarity, score, kind = found.groups()
        if asked is None:
            return cls(record)
        number = None if score is None else float(score)
        return cls(record, asked, float(similarity), number, kind is not None)


REFUSED = "refused/1"
"""Format of what is no answer, and so is served to nobody."""


def are_refusals(record: Record) -> bool:
    """Say whether this is no answer, but what ``Denylist`` keeps in its place."""
    return record.answer.format == REFUSED


def is_readable(record: Record, request: Request) -> bool:
    """Say whether the asker's framework can read the record's answer."""
    return record.answer.format in ("text", request.format)


UNFINISHED = "unfinished"
"""The flaw of an answer that ended without the reason that its provider always gives."""
CUT, EMPTY, ERROR = "cut", "empty", "error"

_KIN = re.compile(
    r"length|limit|max_|maximum|filter|safety|error|fail|cancel|abort|time_?out|block|refus"
    r"|incomplete|truncat|interrupt|guardrail|prohibit|malformed|exceeded|overload|recitation"
    r"|toxic|moderat|insufficient|sensitive|unexpected|too_many"
)
"""What is in the reasons of answers that are not whole, of all providers, in lower case."""

_ODD = frozenset(
    {"other", "language", "spii", "model_armor", "image_other", "no_image", "unspecified",
     "finish_reason_unspecified", "load", "unload", "pause_turn", "unknown"}
)  # fmt: skip
"""Reasons that do not say so by their words: Google's, Ollama's, a turn that is to go on."""

_NORMAL = frozenset({"stop_sequence", "max_marginal_relevance"})


@lru_cache(256)
def is_cut_off(finish_reason: str | None) -> bool:
    """Say whether a reason to finish means that the answer is not whole, or not the model's own."""
    reason = (finish_reason or "").lower().rpartition(".")[2].replace("-", "_").replace(" ", "_")
    if not reason or reason in _NORMAL:
        return False
    return reason in _ODD or _KIN.search(reason) is not None


ALWAYS_SAY: Mapping[str, frozenset[str]] = {
    "langchain": frozenset({"openai", "anthropic", "google", "mistralai", "groq", "ollama"}),
    "llamaindex": frozenset({"openai"}),
}
"""By framework, the providers whose classes hand on a reason to finish with every whole answer, in
streams too: without one, an answer was cut. Of others it is learnt."""

MAX_SOURCES = 1000
_PROVIDER = re.compile(r'"provider":"([^"\\]*)"')


class Endings:
    """Learns whose whole answers say why they ended: without a reason, others of theirs were cut.

    Of a source that never gives one, a stream that ends without an error is whole.
    """

    def __init__(self) -> None:
        self._say: set[str] = set()
        self._lock = threading.Lock()

    def is_unfinished(self, request: Request, framework: str, way: str, reason: str | None) -> bool:
        """Say whether a reason is missing; ``way`` names how the framework asks its model."""
        providers = _PROVIDER.findall(request.scope)  # the parameters come after the messages
        provider = providers[-1] if providers else ""
        source = f"{framework} {provider} {request.model} {way}"
        if reason is None:
            return provider in ALWAYS_SAY[framework] or source in self._say
        if source not in self._say and len(self._say) < MAX_SOURCES:
            with self._lock:
                self._say.add(source)
        return False


def flaw_of(answer: Answer) -> str | None:
    """Return why an answer is not to be served again, None if it is whole and good."""
    if answer.flaw is not None:
        return answer.flaw
    if is_cut_off(answer.finish_reason):
        return ERROR if (answer.finish_reason or "").lower() == ERROR else CUT
    # Of other formats, those who wrote them know what else an answer holds.
    return EMPTY if answer.format == "text" and not answer.text.strip() else None
