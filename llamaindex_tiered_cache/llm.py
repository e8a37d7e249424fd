"""Copy an LLM into one that is what it was, and answers from the cache: cached_llm, install.

LlamaIndex has no hook for a cache, so the LLM itself is replaced: by an instance of a subclass of
its own class that shares its state. A wrapper of another class would fail type checks, and change
what classes such as OpenAI send for structured output.
"""

from __future__ import annotations

import copy
import inspect
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, cast
from weakref import WeakKeyDictionary

from llama_index.core import Settings
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse
from llama_index.core.bridge.pydantic import Field
from llama_index.core.llms.llm import LLM
from llama_index.core.llms.structured_llm import StructuredLLM
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.span.base import BaseSpan
from llama_index_instrumentation.span_handlers.base import BaseSpanHandler

from llamaindex_tiered_cache.answers import Response, ResponseForm, Retention
from llamaindex_tiered_cache.calls import (
    AgentStep,
    Call,
    Parsing,
    arun,
    astream,
    open_cache,
    run,
    stream,
)
from llamaindex_tiered_cache.components import hidden_of
from llamaindex_tiered_cache.embeddings import CachedEmbedding
from llamaindex_tiered_cache.request import asking, chat_request, completion_request
from shared_core.cache import ResponseCache
from shared_core.options import CacheOptions, shows_options
from shared_core.request import Request

# What a cached LLM does instead of its class: eight endpoints, and the predict family.
#
# What the cache does not answer is delegated to the inner LLM object, never to ``super()``: some
# classes call one endpoint from another, which would ask the cache twice.


if TYPE_CHECKING:
    Mixed = LLM
else:
    Mixed = object

_dispatcher = get_dispatcher(__name__)

SLOT = "__tiered_cache__"
"""Where a cached LLM keeps ``Wrapped``; beside its state, which it shares with the inner LLM."""

STATE = ("__dict__", "__pydantic_private__", "__pydantic_fields_set__", "__pydantic_extra__")

NAMES = (
    "chat", "achat", "stream_chat", "astream_chat",
    "complete", "acomplete", "stream_complete", "astream_complete",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms an LLM is cached: where, for whom, whether by meaning, and what is kept."""

    cache: ResponseCache
    namespace: str | None
    by_meaning: bool
    kept: Retention


@dataclass(frozen=True, slots=True)
class Wrapped:
    """The LLM inside a cached one, and on what terms it is cached."""

    inner: LLM
    terms: Terms

    def chat(self, messages: Sequence[ChatMessage], kwargs: dict[str, Any]) -> Call[ChatResponse]:
        """Make the call of a chat endpoint."""
        request = chat_request(self.inner, messages, kwargs, self.ignored)
        return self._call(request, ChatResponse)

    def completion(
        self, prompt: str, formatted: bool, kwargs: dict[str, Any]
    ) -> Call[CompletionResponse]:
        """Make the call of a completion endpoint."""
        request = completion_request(self.inner, prompt, formatted, kwargs, self.ignored)
        return self._call(request, CompletionResponse)

    def _call(self, request: Request, kind: type[Response]) -> Call[Response]:
        terms = self.terms
        if not terms.by_meaning and request.exact_only is None:
            request = replace(request, exact_only="off")
        form = ResponseForm(kind, terms.kept, terms.cache.options.hit_usage)
        model = hidden_of(self.inner, self.ignored)
        step = AgentStep.now()
        if step is not None and step.under is not None and not request.uncacheable:
            request = step.under(request)
        call = Call(terms.cache, terms.namespace, request, form, model, step)
        if step is not None:
            step.call = call
        return call

    @property
    def ignored(self) -> frozenset[str]:
        """Return the names of headers on which no answer depends."""
        return frozenset(self.terms.cache.options.ignore_headers)


def wrapped(llm: Any) -> Wrapped:
    """Return what a cached LLM wraps, and see to it that they still share their state.

    A class that validates assignments gives its objects a new dictionary each time.
    """
    found: Wrapped = getattr(llm, SLOT)
    if llm.__dict__ is not found.inner.__dict__:
        share_state(llm, found.inner)
    return found


def share_state(twin: LLM, inner: LLM) -> None:
    """Let the twin hold the very dictionaries of the inner LLM, so that changes go both ways."""
    for name in STATE:
        object.__setattr__(twin, name, getattr(inner, name))


class CachedEndpoints(Mixed):
    """The endpoints that ask the cache first; mixed in before the LLM's own class."""

    __slots__ = ()

    @_dispatcher.span
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer from the cache or by the model."""
        of = wrapped(self)
        return run(of.chat(messages, kwargs), lambda: of.inner.chat(messages, **kwargs))

    @_dispatcher.span
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer from the cache or by the model."""
        of = wrapped(self)
        return await arun(of.chat(messages, kwargs), lambda: of.inner.achat(messages, **kwargs))

    @_dispatcher.span
    def stream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> Generator[ChatResponse, None, None]:
        """Replay the cache's answer, or pass the model's on and keep it when it ends."""
        of = wrapped(self)
        return stream(of.chat(messages, kwargs), lambda: of.inner.stream_chat(messages, **kwargs))

    @_dispatcher.span
    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> AsyncGenerator[ChatResponse, None]:
        """Replay the cache's answer, or pass the model's on and keep it when it ends."""
        of = wrapped(self)
        call = of.chat(messages, kwargs)
        return await astream(call, lambda: of.inner.astream_chat(messages, **kwargs))

    @_dispatcher.span
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer from the cache or by the model."""
        of = wrapped(self)
        call = of.completion(prompt, formatted, kwargs)
        return run(call, lambda: of.inner.complete(prompt, formatted=formatted, **kwargs))

    @_dispatcher.span
    async def acomplete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponse:
        """Answer from the cache or by the model."""
        of = wrapped(self)
        call = of.completion(prompt, formatted, kwargs)
        return await arun(call, lambda: of.inner.acomplete(prompt, formatted=formatted, **kwargs))

    @_dispatcher.span
    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> Generator[CompletionResponse, None, None]:
        """Replay the cache's answer, or pass the model's on and keep it when it ends."""
        of = wrapped(self)
        call = of.completion(prompt, formatted, kwargs)
        return stream(call, lambda: of.inner.stream_complete(prompt, formatted=formatted, **kwargs))

    @_dispatcher.span
    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> AsyncGenerator[CompletionResponse, None]:
        """Replay the cache's answer, or pass the model's on and keep it when it ends."""
        of = wrapped(self)
        call = of.completion(prompt, formatted, kwargs)
        return await astream(
            call, lambda: of.inner.astream_complete(prompt, formatted=formatted, **kwargs)
        )

    # These have their span from the class they come from. They say what is asked, and drop the
    # answers of which no prediction could be made.

    def predict(self, prompt: Any, **prompt_args: Any) -> str:
        """Predict as the LLM's class does, knowing the question."""
        with asking(prompt, prompt_args), Parsing(cache_of(self)):
            return super().predict(prompt, **prompt_args)

    async def apredict(self, prompt: Any, **prompt_args: Any) -> str:
        """Predict as the LLM's class does, knowing the question."""
        with asking(prompt, prompt_args):
            async with Parsing(cache_of(self)):
                return await super().apredict(prompt, **prompt_args)

    def structured_predict(self, output_cls: Any, *args: Any, **kwargs: Any) -> Any:
        """Predict an object as the LLM's class does."""
        with Parsing(cache_of(self)) as parsing:
            found = super().structured_predict(output_cls, *args, **kwargs)
        if not _is_of(found, output_cls):
            parsing.drop()
        return found

    async def astructured_predict(self, output_cls: Any, *args: Any, **kwargs: Any) -> Any:
        """Predict an object as the LLM's class does."""
        async with Parsing(cache_of(self)) as parsing:
            found = await super().astructured_predict(output_cls, *args, **kwargs)
        if not _is_of(found, output_cls):
            await parsing.adrop()
        return found

    def stream(self, prompt: Any, **prompt_args: Any) -> Generator[str, None, None]:
        """Stream as the LLM's class does, knowing the question."""
        with asking(prompt, prompt_args):
            return super().stream(prompt, **prompt_args)

    async def astream(self, prompt: Any, **prompt_args: Any) -> AsyncGenerator[str, None]:
        """Stream as the LLM's class does, knowing the question."""
        with asking(prompt, prompt_args):
            return await super().astream(prompt, **prompt_args)


def _is_of(found: Any, output_cls: Any) -> bool:
    """Say whether a prediction is of its class, or a list of it."""
    several = found if isinstance(found, list) else [found]
    return not isinstance(output_cls, type) or all(isinstance(one, output_cls) for one in several)


def passed_on(twin_of: Callable[[Any], LLM]) -> dict[str, Callable[..., Any]]:
    """Return endpoints that are those of another LLM object, given this one."""

    def endpoint(name: str) -> Callable[..., Any]:
        def passing(self: LLM, *args: Any, **kwargs: Any) -> Any:
            return getattr(twin_of(self), name)(*args, **kwargs)

        return passing

    return {name: endpoint(name) for name in NAMES}


L = TypeVar("L", bound=LLM)


def cached_llm(
    llm: L,
    cache: ResponseCache | str = "memory://",
    *,
    namespace: str | None = None,
    semantic: Literal["auto", "off"] = "auto",
    cache_tool_calls: bool = True,
    keep_raw: bool = False,
) -> L:
    """Return an LLM like this one whose answers come from the cache where it has them.

        Settings.llm = cached_llm(OpenAI(model="gpt-4o-mini", temperature=0), "sqlite:///llm.db")

    It is an instance of the LLM's own class and shares its attributes both ways. ``cache`` is a
    ``ResponseCache`` or the URL of one; ``namespace`` replaces the cache's own; ``semantic="off"``
    leaves the exact tier alone; ``cache_tool_calls=False`` keeps no answer that calls tools;
    ``keep_raw`` keeps the provider's raw response, as a dict.

    A response says where it is from: ``response.additional_kwargs["tiered_cache"]``. An LLM that is
    cached already is cached anew on these terms. Raises ValueError for arguments that make no
    sense.
    """
    if not isinstance(llm, LLM):
        raise ValueError(f"llm must be an LLM of LlamaIndex, not {type(llm).__name__}")
    if semantic not in ("auto", "off"):
        raise ValueError(f'semantic must be "auto" or "off", not {semantic!r}')
    if namespace is not None and (not isinstance(namespace, str) or not namespace):
        raise ValueError(f"namespace must be a text that is not empty, or None, not {namespace!r}")
    terms = Terms(
        open_cache(cache),
        namespace,
        semantic == "auto",
        Retention(keep_raw, bool(cache_tool_calls)),
    )
    return cast(L, wrap(uncached(llm), terms))


def uncached(llm: LLM) -> LLM:
    """Return the LLM inside a cached one; any other as it is.

    Its calls ask the model:

        uncached(llm).complete("asks the model, whatever is cached")
    """
    found = getattr(llm, SLOT, None)
    return found.inner if isinstance(found, Wrapped) else llm


def cache_of(llm: LLM) -> ResponseCache:
    """Return the cache of a cached LLM. Raises ValueError for any other.

    Judge its answers there:

        cache_of(llm).feedback(entry_id, correct=False)
    """
    found = getattr(llm, SLOT, None)
    if not isinstance(found, Wrapped):
        raise ValueError(f"this {type(llm).__name__} has no cache; cached_llm() gives it one")
    return found.terms.cache


class CachedTwin(Mixed):
    """How a cached LLM is made, changed, copied and pickled: as its inner LLM, wrapped anew."""

    __slots__ = ()

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Make what the LLM's own class makes: only ``wrap`` makes twins."""
        base: Any = cls.__mro__[_BEFORE_BASE]
        return base(*args, **kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        inner = wrapped(self).inner
        setattr(inner, name, value)
        share_state(self, inner)

    def __copy__(self) -> Any:
        return wrap(copy.copy(wrapped(self).inner), wrapped(self).terms)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Any:
        return wrap(copy.deepcopy(wrapped(self).inner, memo), wrapped(self).terms)

    def __reduce__(self) -> tuple[Any, ...]:
        return wrap, (wrapped(self).inner, wrapped(self).terms)

    def model_copy(self, *, update: Any = None, deep: bool = False) -> Any:
        """Copy the inner LLM and wrap the copy; they share the cache."""
        inner = wrapped(self).inner.model_copy(update=update, deep=deep)
        return wrap(inner, wrapped(self).terms)


def wrap(inner: LLM, terms: Terms) -> LLM:
    """Make the cached twin of an LLM."""
    twin: LLM = object.__new__(_class_of(type(inner)))
    object.__setattr__(twin, SLOT, Wrapped(inner, terms))
    share_state(twin, inner)
    return twin


_classes: WeakKeyDictionary[type[LLM], type[LLM]] = WeakKeyDictionary()
_making = threading.Lock()


def _class_of(base: type[LLM]) -> type[LLM]:
    """Return the class of the twins of a class, made once."""
    with _making:
        if base not in _classes:
            _classes[base] = _subclass(base)
        return _classes[base]


def _subclass(base: type[LLM]) -> type[LLM]:
    name = f"Cached{base.__name__}"
    namespace: dict[str, Any] = {
        "__module__": base.__module__,
        "__qualname__": name,
        "__doc__": base.__doc__,
        "__slots__": (SLOT,),
    }
    if issubclass(base, StructuredLLM):
        namespace |= passed_on(_with_cached_llm)
    metaclass: Any = type(base)
    made: type[LLM] = metaclass(name, (CachedTwin, CachedEndpoints, base), namespace)
    return made


_BEFORE_BASE = 3
"""How many classes stand before the LLM's own one: the twin's, and two that are mixed in."""


def _with_cached_llm(structured: Any) -> LLM:
    """Return a structured LLM whose inner LLM is cached: its own answers are objects of a class.

    It is made anew for each call, so that it always has the state of now.
    """
    of = wrapped(structured)
    inner: Any = of.inner
    return of.inner.model_copy(update={"llm": wrap(uncached(inner.llm), of.terms)})


# A cache before the models that LlamaIndex' ``Settings`` name, and what goes past it.
#
# install(url) --> Settings.llm, Settings.embed_model are cached, and calls of models are watched
# cache_report() --> each model of the app that was seen: is it cached, how often was it called?


class InstallOptions(CacheOptions, total=False):
    """The options of ``install``: those of ``ResponseCache.open`` and of ``cached_llm``."""

    cache_tool_calls: bool
    keep_raw: bool


_OF_LLM = ("namespace", "semantic", "cache_tool_calls", "keep_raw")


@shows_options
def install(
    cache: ResponseCache | str = "memory://",
    *,
    embeddings: bool = False,
    **options: Unpack[InstallOptions],
) -> LLM:
    """Put a cache before ``Settings.llm`` and return the LLM.

        install("sqlite:///answers.db", threshold=0.92, ttl=86_400, embeddings=True)

    ``cache`` is the URL of a cache, or a ``ResponseCache``. With a URL, ``options`` are those of
    ``ResponseCache.open``; with both, ``namespace``, ``semantic``, ``cache_tool_calls`` and
    ``keep_raw`` are those of ``cached_llm``. ``embeddings=True`` caches ``Settings.embed_model``
    too, so that a query that is known calls nothing at all.

    Engines and agents made from now on use it; those made before hold the LLM they were given. A
    model that is called without the cache, because it was set later or passed as ``llm=``, is
    named in one warning, and in ``cache_report()``. Raises ValueError for options that make no
    sense.
    """
    terms: dict[str, Any] = {name: options[name] for name in _OF_LLM if name in options}  # type: ignore[literal-required]
    semantic = terms.pop("semantic", True)
    if semantic not in (True, False, "auto", "off"):
        raise ValueError(f"semantic must be True or False, not {semantic!r}")
    is_semantic = semantic in (True, "auto")
    of_cache = {name: value for name, value in options.items() if name not in _OF_LLM}
    if isinstance(cache, str):
        if "namespace" in terms:
            of_cache["namespace"] = terms.pop("namespace")
        cache = ResponseCache.open(cache, semantic=is_semantic, **of_cache)  # type: ignore[arg-type]
    elif of_cache:
        raise ValueError(
            f"the cache is open already: {', '.join(of_cache)} must go where it is opened"
        )
    terms["semantic"] = "auto" if is_semantic else "off"
    llm = cached_llm(Settings.llm, cache, **terms)
    if embeddings and not isinstance(Settings.embed_model, CachedEmbedding):
        Settings.embed_model = CachedEmbedding(
            Settings.embed_model, cache, namespace=terms.get("namespace")
        )
    Settings.llm = llm
    _watch()
    return llm


@dataclass(frozen=True, slots=True)
class Component:
    """One model of the app: what it is, whether its calls go through the cache, how many did.

    ``cache_report`` returns them:

        assert all(component.is_cached for component in cache_report())  # each is a Component
    """

    name: str
    is_cached: bool
    calls: int

    def __str__(self) -> str:
        return f"{'cached' if self.is_cached else 'NOT CACHED':12}{self.calls:6} calls  {self.name}"


def cache_report() -> list[Component]:
    """List the models that LlamaIndex has in its settings, or called since ``install()``.

        print(*cache_report(), sep="\\n")

    Calls are those that the app made, answered by the cache or not; those that a cached model
    makes of the model inside it do not count.
    """
    counts = dict(_watcher.calls) if _watcher is not None else {}
    for model in (Settings._llm, Settings._embed_model):
        if model is not None:
            counts.setdefault(_named(model), 0)
    return [Component(name, is_cached, calls) for (name, is_cached), calls in counts.items()]


def _is_cached(model: object) -> bool:
    if isinstance(model, LLM):
        return uncached(model) is not model
    return isinstance(model, CachedEmbedding)


def _named(model: LLM | BaseEmbedding) -> tuple[str, bool]:
    inside = model.embed_model if isinstance(model, CachedEmbedding) else model
    kind = type(uncached(inside) if isinstance(inside, LLM) else inside).__name__
    name = getattr(inside, "model", None) or getattr(inside, "model_name", None)
    return f"{kind}({name})" if isinstance(name, str) else kind, _is_cached(model)


class _OpenSpan(BaseSpan):
    """A model's span under way; ``is_covered``: it is of a cached model, or inside one's."""

    is_covered: bool


MAX_OPEN_SPANS = 10_000
"""Spans of models under way that are remembered, the newest."""


class _Watcher(BaseSpanHandler[_OpenSpan]):
    """Counts the calls of models, and warns once of each that does not go through the cache."""

    calls: dict[tuple[str, bool], int] = Field(default_factory=dict)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> _Watcher:
        """Return itself: an agent is copied with what hears its spans, and locks cannot be."""
        return self

    def new_span(
        self,
        id_: str,
        bound_args: inspect.BoundArguments,
        instance: Any = None,
        parent_span_id: str | None = None,
        tags: dict[str, Any] | None = None,
        **_: Any,
    ) -> _OpenSpan | None:
        """Take note of a model's span that begins; no other is kept."""
        parent = self.open_spans.get(parent_span_id or "")
        is_covered = parent is not None and parent.is_covered
        if isinstance(instance, (LLM, BaseEmbedding)) and not is_covered:
            named = _named(instance)
            is_outermost = parent is None or not _is_same(parent, instance)
            if is_outermost:
                with self.lock:
                    self.calls[named] = self.calls.get(named, 0) + 1
                if not named[1] and isinstance(instance, LLM) and self.calls[named] == 1:
                    _warn(named[0])
            is_covered = named[1]
        elif not is_covered:
            return None
        with self.lock:
            while len(self.open_spans) >= MAX_OPEN_SPANS:  # of calls whose end nobody reported
                del self.open_spans[next(iter(self.open_spans))]
        return _OpenSpan(
            id_=id_, parent_id=parent_span_id, is_covered=is_covered, tags=_of(instance)
        )

    def prepare_to_exit_span(self, id_: str, *_: Any, **__: Any) -> _OpenSpan | None:
        """Forget a span that ends."""
        return self.open_spans.get(id_)

    def prepare_to_drop_span(self, id_: str, *_: Any, **__: Any) -> _OpenSpan | None:
        """Forget a span that failed."""
        return self.open_spans.get(id_)


def _of(instance: object) -> dict[str, Any]:
    return {"of": id(instance)}


def _is_same(parent: _OpenSpan, instance: object) -> bool:
    """Say whether one method of a model called another, as predict calls chat."""
    return parent.tags == _of(instance)


def _warn(name: str) -> None:
    logging.getLogger("tiered_cache").warning(
        "calls of %s do not go through the cache: it was set after install(), or passed as llm=; "
        "wrap it with cached_llm(llm, cache), or call install() after setting it",
        name,
    )


_watcher: _Watcher | None = None
_watching = threading.Lock()


def _watch() -> None:
    """Watch the calls of models from now on, once for the process."""
    global _watcher  # noqa: PLW0603 - LlamaIndex' dispatcher is one for the process
    with _watching:
        if _watcher is None:
            _watcher = _Watcher()
            get_dispatcher().add_span_handler(_watcher)
