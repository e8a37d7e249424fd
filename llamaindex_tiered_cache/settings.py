"""Puts a cache before the models that LlamaIndex' ``Settings`` name, and says what goes past it.

install(url) --> Settings.llm, Settings.embed_model are cached, and calls of models are watched
cache_report() --> each model of the app that was seen: is it cached, how often was it called?
"""

from __future__ import annotations

import inspect
import logging
import threading
from dataclasses import dataclass
from typing import Any, Unpack

from llama_index.core import Settings
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import Field
from llama_index.core.llms.llm import LLM
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.span.base import BaseSpan
from llama_index_instrumentation.span_handlers.base import BaseSpanHandler

from llamaindex_tiered_cache.embeddings import CachedEmbedding
from llamaindex_tiered_cache.llm import cached_llm, uncached
from shared_core.cache import ResponseCache
from shared_core.options import CacheOptions, shows_options


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
    """One model of the app: what it is, whether its calls go through the cache, how many did."""

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
    """A span under way; ``is_covered``: it is of a cached model, or inside one's."""

    is_covered: bool


class _Watcher(BaseSpanHandler[_OpenSpan]):
    """Counts the calls of models, and warns once of each that does not go through the cache."""

    calls: dict[tuple[str, bool], int] = Field(default_factory=dict)

    def new_span(
        self,
        id_: str,
        bound_args: inspect.BoundArguments,
        instance: Any = None,
        parent_span_id: str | None = None,
        tags: dict[str, Any] | None = None,
        **_: Any,
    ) -> _OpenSpan:
        """Take note of a span that begins."""
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
