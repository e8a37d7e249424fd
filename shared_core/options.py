"""Check every setting of a cache once, at construction."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict, TypeVar

from shared_core.controls import LookupEvent
from shared_core.guard import Guard
from shared_core.harmless import header_names
from shared_core.learning import Judge, text_method, verifier_of
from shared_core.record import Answer
from shared_core.thresholds import Policy, Static, Verified

if TYPE_CHECKING:
    from shared_core.record import PrefixMatch
    from shared_core.request import Request


Seconds = float | int | timedelta
Hook = Callable[[LookupEvent], object]


class PrefixObserver(Protocol):
    """What the cache asks of the option ``prefix=``; ``shared_core.prefix.PrefixCache`` is one."""

    def note(self, request: Request, namespace: str) -> PrefixMatch:
        """Take note of a request, and return how much of its front was sent before."""


@dataclass(frozen=True, slots=True)
class Standalone:
    """How follow-ups are rewritten: what ``history=`` is given, see ``standalone``.

    ``standalone`` makes one:

        rewriting: Standalone = standalone(model, timeout=1.0)
        cache = ResponseCache.open(history=rewriting)
    """

    model: Any = field(repr=False)
    timeout: float = 2.0
    name: str | None = None

    def __post_init__(self) -> None:
        model = self.model
        if isinstance(model, type) or not (callable(model) or text_method(model)):
            raise ValueError(
                "standalone(model) needs a function of a prompt that returns a text, or a model "
                f"of LangChain or LlamaIndex, not a {type(model).__name__}"
            )
        limit = seconds("timeout", self.timeout)
        if limit == math.inf:
            raise ValueError("timeout must be a limit: give a number of seconds")
        object.__setattr__(self, "timeout", limit)


def standalone(model: Any, *, timeout: float = 2.0, name: str | None = None) -> Standalone:
    """Have a model rewrite follow-ups to questions that stand alone, to match them by meaning.

    ``model`` is a function of a prompt that returns a text (an asynchronous one runs on an event
    loop of the cache's own: give it a client of its own), a chat model or LLM of LangChain, or an
    LLM of LlamaIndex; a small, fast one will do. ``timeout`` is in seconds; what takes longer is
    matched as without. ``name`` names the model, for the rewritings that are kept and for what they
    cost, if it does not do so itself.

    >>> standalone(lambda prompt: "What is a fuse?", timeout=1).timeout
    1.0

    Raises ValueError for a model that cannot be asked, or a timeout that is not above 0.
    """
    return Standalone(model, timeout, name)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Options:
    """The options of ``ResponseCache.open``.

    - ``namespace``: tenant; hashed into every key and scope, never crossed
    - ``semantic``: False for the exact tier alone; no embedder is ever loaded
    - ``threshold``: a policy, or a similarity 0..1, which means ``Static(similarity)``; by default
      ``Verified()``, which learns what may be served, so that at most 2 % of its hits are wrong
    - ``embedder``: None for the local all-MiniLM-L6-v2; a name, a path, an ``Embedder``, LangChain
      or LlamaIndex embeddings, or a callable: list of n texts -> (n, d) array
    - ``load``: "lazy": the first lookup that needs the model loads it; "background": no answer is
      ever delayed by its loading, the semantic tier is silent until it is there
    - ``guard``: True, False, or a ``Guard``
    - ``judge``: (fresh Answer, cached Answer) -> True, False or None: do they say the same? None:
      ``AnswerJudge`` with the cache's embedder, in the background
    - ``verifier``: asked, before the app's model, whether two questions want one answer, about
      candidates that are neither proven nor hopeless: a callable (asked, cached question) -> True,
      False, a probability or None, a LangChain or LlamaIndex model, or a decision model; None (the
      default): nobody is asked
    - ``verify_timeout``: seconds that one verification may take; then the model is asked
    - ``history``: "exact" (the default): the messages before a question are compared as they are;
      ``standalone(model)``: a model rewrites a follow-up to a question that stands alone, which is
      then matched by meaning without them; the exact tier compares them all the same
    - ``shadow``: True: learn and report, serve nothing by meaning
    - ``ttl``: seconds or timedelta that an entry lives, None for ever; a hit does not extend it
    - ``stale_ttl``: seconds or timedelta that an entry is still given after its ttl, while the
      model is asked anew in the background, by whoever can: ``answer``, a cached model, an agent's
      middleware; None (the default): none
    - ``max_entries``: most entries in the store; the least recently used goes first
    - ``timeout``: seconds that a lookup or a store may wait for the store
    - ``coalesce``: equal requests of ``answer`` in flight wait for one model call
    - ``lease``: seconds that they wait at most
    - ``hit_usage``: "keep": a hit has the token counts of the answer that it repeats, and where
      LangChain has a place for it a cost of 0; "mark": they stand in the mark alone, so that code
      that adds up tokens counts none
    - ``encryption_key``: Fernet key for question and answer at rest, or a list of keys: the first
      seals, all of them open, so that a key can be changed
    - ``keep_cut``: True: also keep answers that were cut off, filtered or are empty, and serve them
      to the very same request
    - ``validate``: a callable (Answer) -> bool: may it be kept? What it raises means no
    - ``strict``: True: raise ValueError at start where the file of ``sqlite:///`` cannot be used
      (unreadable, read-only, on a full disk); else answers are kept in memory, with a warning
    - ``ignore_headers``: names of further headers on which no answer depends, such as a gateway's
      trace ids; see ``shared_core.harmless`` for those that are known
    - ``namespace_required``: True: what is asked outside of any named namespace is a miss
    - ``hooks``: callables given each ``LookupEvent``; one with a method ``stored`` is given each
      ``StoreEvent`` too
    - ``prefix``: a ``shared_core.prefix.PrefixCache``: what is not answered says how much of its
      prompt was sent before; None: it does not

    On Redis alone:

    - ``index``: "flat" (the default): exact search; "hnsw": a graph, for very many entries in one
      scope
    - ``precision``: "float16" (the default) or "float32", of the vectors in the server
    - ``near_cache``: most entries that this process holds too, so that an exact hit takes no round
      trip; what others change is let go when the server tells it; 0 (the default): none
    - ``client``: a ``redis.Redis`` or ``RedisCluster`` of the app's: says where the server is and
      how to log in; the connections are the cache's own
    - ``ssl``: of TLS: redis-py's options without their "ssl_", such as ``ca_certs``

    Raises ValueError for a value that makes no sense, naming it and the remedy.

    >>> Options(ttl=3600, threshold=0.9).timeout
    0.25
    """

    namespace: str = "default"
    semantic: bool = True
    threshold: Policy | float = field(default_factory=Verified)
    embedder: Any = None
    load: Literal["lazy", "background"] = "lazy"
    guard: bool | Guard = True
    judge: Judge | None = None
    verifier: Any = None
    verify_timeout: float = 1.0
    history: Literal["exact"] | Standalone = "exact"
    shadow: bool = False
    ttl: Seconds | None = timedelta(days=7)
    stale_ttl: Seconds | None = None
    max_entries: int | None = None
    timeout: float = 0.25
    coalesce: bool = True
    lease: float = 30.0
    hit_usage: Literal["mark", "keep"] = "keep"
    encryption_key: str | bytes | Sequence[str | bytes] | None = None
    keep_cut: bool = False
    validate: Callable[[Answer], object] | None = None
    strict: bool = False
    ignore_headers: Iterable[str] = ()
    namespace_required: bool = False
    hooks: Iterable[Hook] = ()
    prefix: PrefixObserver | None = None
    index: Literal["flat", "hnsw"] | None = None
    precision: Literal["float32", "float16"] | None = None
    near_cache: int = 0
    client: Any = None
    ssl: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Options:
        """Check names, then values."""
        names = [one.name for one in fields(cls)]
        for name in options:
            if name not in names:
                raise ValueError(f"unknown option {name!r}; {_hint(name, names)}")
        return cls(**options)

    def __repr__(self) -> str:
        """Spell plain settings; of keys and of others' objects, which may hold some, the kind."""
        shown = (f"{one.name}={_shown(one.name, getattr(self, one.name))}" for one in fields(self))
        return f"Options({', '.join(shown)})"

    def __post_init__(self) -> None:
        if not isinstance(self.namespace, str) or not self.namespace:
            raise ValueError(f"namespace must be a text that is not empty, not {self.namespace!r}")
        _choose("load", self.load, ("lazy", "background"))
        _choose("hit_usage", self.hit_usage, ("mark", "keep"))
        _choose("index", self.index, ("flat", "hnsw", None))
        _choose("precision", self.precision, ("float32", "float16", None))
        if self.ssl is not None and not isinstance(self.ssl, Mapping):
            raise ValueError(
                "ssl must be a mapping such as {'ca_certs': '/etc/ssl/redis.pem'}, or None"
            )
        object.__setattr__(self, "ignore_headers", header_names(self.ignore_headers))
        for name in ("semantic", "coalesce", "shadow", "strict", "keep_cut", "namespace_required"):
            _choose(name, getattr(self, name), (True, False))
        _verifier(self.verifier)
        _history(self.history, self.semantic)
        for name in ("timeout", "lease", "verify_timeout"):
            limit = seconds(name, getattr(self, name))
            if limit == math.inf:
                raise ValueError(f"{name} must be a limit: give a number of seconds, not {limit!r}")
            object.__setattr__(self, name, limit)
        _life("ttl", self.ttl)
        _life("stale_ttl", self.stale_ttl)
        most = self.max_entries
        if most is not None and (not isinstance(most, int) or isinstance(most, bool) or most < 1):
            raise ValueError(
                f"max_entries must be a whole number of at least 1, or None, not {most!r}"
            )
        near = self.near_cache
        if not isinstance(near, int) or isinstance(near, bool) or near < 0:
            raise ValueError(f"near_cache must be a number of entries, or 0 for none, not {near!r}")
        object.__setattr__(self, "threshold", _policy(self.threshold))
        if self.judge is not None and not callable(self.judge):
            raise ValueError(f"judge must be a callable of two answers or None, not {self.judge!r}")
        if self.validate is not None and not callable(self.validate):
            raise ValueError(
                f"validate must be a callable of an answer or None, not {self.validate!r}"
            )
        if not isinstance(self.hooks, Iterable):
            raise ValueError(f"hooks must be a list of callables, not {self.hooks!r}")
        hooks = tuple(self.hooks)
        for hook in hooks:
            if not callable(hook):
                raise ValueError(f"hooks must be callables that take a LookupEvent, not {hook!r}")
        object.__setattr__(self, "hooks", hooks)
        _prefix(self.prefix)

    @property
    def stale(self) -> float:
        """Return ``stale_ttl`` in seconds, 0 for none."""
        return _life("stale_ttl", self.stale_ttl) or 0.0

    @property
    def policy(self) -> Policy:
        """Return the threshold as a policy."""
        return _policy(self.threshold)

    def of_store(self) -> dict[str, Any]:
        """Return the settings of the store."""
        names = ("max_entries", "timeout", "index", "precision", "near_cache", "client", "ssl")
        return {name: getattr(self, name) for name in (*names, "strict")}

    def chosen_guard(self) -> Guard | None:
        """Return the guard to ask, or None. Raises ValueError for what is none."""
        if self.guard is False:
            return None
        guard: Any = Guard() if self.guard is True else self.guard
        methods = ("differences", "timeless")
        if isinstance(guard, type) or not all(callable(getattr(guard, m, None)) for m in methods):
            raise ValueError(f"guard must be True, False or a Guard, not {self.guard!r}")
        chosen: Guard = guard
        return chosen


def _verifier(verifier: Any) -> None:
    """Raise ValueError for what cannot verify."""
    if verifier is not None:
        verifier_of(verifier)


def _history(history: Any, semantic: bool) -> None:
    """Raise ValueError for what says nothing of histories."""
    if history == "exact":
        return
    if not isinstance(history, Standalone):
        raise ValueError(f'history must be "exact" or standalone(model), not {history!r}')
    if not semantic:
        raise ValueError(
            "history=standalone(model) matches follow-ups by meaning: it needs semantic=True"
        )


class CacheOptions(TypedDict, total=False):
    """The options of ``ResponseCache.open`` as editors and type checkers see them: see ``Options``.

    A test holds its names to the fields of ``Options``.
    """

    namespace: str
    semantic: bool
    threshold: Policy | float
    embedder: Any
    load: Literal["lazy", "background"]
    guard: bool | Guard
    judge: Judge | None
    verifier: Any
    verify_timeout: float
    history: Literal["exact"] | Standalone
    shadow: bool
    ttl: Seconds | None
    stale_ttl: Seconds | None
    max_entries: int | None
    timeout: float
    coalesce: bool
    lease: float
    hit_usage: Literal["mark", "keep"]
    encryption_key: str | bytes | Sequence[str | bytes] | None
    keep_cut: bool
    validate: Callable[[Answer], object] | None
    strict: bool
    ignore_headers: Iterable[str]
    namespace_required: bool
    hooks: Iterable[Hook]
    prefix: PrefixObserver | None
    index: Literal["flat", "hnsw"] | None
    precision: Literal["float32", "float16"] | None
    near_cache: int
    client: Any
    ssl: Mapping[str, Any] | None


FOREIGN_NAMES: Mapping[str, str] = {
    "redis_url": "give the URL first: TieredCache('redis://…')",
    "url": "give the URL first: TieredCache('redis://…')",
    "distance_threshold": "threshold= is a similarity, higher is nearer: threshold=1 - distance",
    "score_threshold": "threshold= is a cosine from 0 to 1: threshold=0.92",
    "similarity_threshold": "threshold= is a cosine from 0 to 1: threshold=0.92",
    "embedding": "it is embedder= here",
    "embeddings": "it is embedder= here",
    "embedding_function": "it is embedder= here",
    "vectorizer": "it is embedder= here",
    "ttl_seconds": "it is ttl= here, in seconds or as a timedelta",
    "expire": "it is ttl= here, in seconds or as a timedelta",
    "redis_client": "it is client= here, beside the URL",
    "name": "it is namespace= here",
    "prefix_name": "it is namespace= here",
    "max_size": "it is max_entries= here",
    "maxsize": "it is max_entries= here",
}
"""What other caches call an option, and what to write instead."""


def _hint(name: str, names: Sequence[str]) -> str:
    if name in FOREIGN_NAMES:
        return FOREIGN_NAMES[name]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names)}"


F = TypeVar("F", bound=Callable[..., Any])


def shows_options(function: F) -> F:
    """Spell out a function's ``**options`` in the signature that ``inspect`` and notebooks show."""
    signature = inspect.signature(function)
    own = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
    there = {one.name for one in own}
    options = [
        inspect.Parameter(
            one.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=one.default if one.default_factory is MISSING else one.default_factory(),
            annotation=one.type,
        )
        for one in fields(Options)
        if one.name not in there
    ]
    shown: Any = function
    shown.__signature__ = signature.replace(parameters=[*own, *options])
    return function


def _shown(name: str, value: Any) -> str:
    if name == "encryption_key":
        return "None" if value is None else "'***'"
    is_plain = value is None or isinstance(value, (bool, int, float, str, timedelta))
    is_plain = is_plain or name == "threshold"
    return repr(value) if is_plain else f"<{type(value).__name__}>"


def seconds(name: str, value: Seconds) -> float:
    """Return a duration in seconds; raises ValueError unless above 0. Infinity is for ever."""
    number = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not number > 0:
        raise ValueError(f"{name} must be seconds above 0 or a timedelta, not {value!r}")
    return math.inf if number == math.inf else float(number)


def _life(name: str, value: Seconds | None) -> float | None:
    return None if value is None else seconds(name, value)


def _choose(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if not any(value is one or (isinstance(one, str) and value == one) for one in allowed):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, not {value!r}")


def _prefix(prefix: Any) -> None:
    notes = callable(getattr(prefix, "note", None)) and not isinstance(prefix, type)
    if prefix is not None and not notes:
        raise ValueError(f"prefix must be a PrefixCache() or None, not {prefix!r}")


def _policy(threshold: Any) -> Policy:
    if isinstance(threshold, (int, float)) and not isinstance(threshold, bool):
        return Static(threshold)
    methods = ("decide", "learn", "initial_state", "settle", "for_embedder", "describe")
    if not isinstance(threshold, type) and all(
        callable(getattr(threshold, name, None)) for name in methods
    ):
        policy: Policy = threshold
        return policy
    raise ValueError(
        "threshold must be a similarity from 0 to 1 or a policy such as Static(0.9) or Feedback(), "
        f"not {threshold!r}"
    )
