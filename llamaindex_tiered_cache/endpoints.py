"""What a cached LLM does instead of its class: eight endpoints, and the predict family.

What the cache does not answer is delegated to the inner LLM object, never to ``super()``: some
classes call one endpoint from another, which would ask the cache twice.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse
from llama_index.core.llms.llm import LLM
from llama_index_instrumentation import get_dispatcher

from llamaindex_tiered_cache.calls import Call, arun, run
from llamaindex_tiered_cache.question import asking
from llamaindex_tiered_cache.request import chat_request, completion_request
from llamaindex_tiered_cache.responses import Kept, Response
from llamaindex_tiered_cache.serving import ResponseForm
from llamaindex_tiered_cache.streams import astream, stream
from shared_core.cache import ResponseCache
from shared_core.request import Request

if TYPE_CHECKING:
    Mixed = LLM
else:
    Mixed = object

_dispatcher = get_dispatcher(__name__)

SLOT = "__tiered_cache__"
"""Where a cached LLM keeps ``Wrapped``; beside its state, which it shares with the inner LLM."""

_STATE = ("__dict__", "__pydantic_private__", "__pydantic_fields_set__", "__pydantic_extra__")

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
    kept: Kept


@dataclass(frozen=True, slots=True)
class Wrapped:
    """The LLM inside a cached one, and on what terms it is cached."""

    inner: LLM
    terms: Terms

    def chat(self, messages: Sequence[ChatMessage], kwargs: dict[str, Any]) -> Call[ChatResponse]:
        """Make the call of a chat endpoint."""
        return self._call(chat_request(self.inner, messages, kwargs), ChatResponse)

    def completion(
        self, prompt: str, formatted: bool, kwargs: dict[str, Any]
    ) -> Call[CompletionResponse]:
        """Make the call of a completion endpoint."""
        request = completion_request(self.inner, prompt, formatted, kwargs)
        return self._call(request, CompletionResponse)

    def _call(self, request: Request, kind: type[Response]) -> Call[Response]:
        terms = self.terms
        if not terms.by_meaning and request.exact_only is None:
            request = replace(request, exact_only="off")
        form = ResponseForm(kind, terms.kept, terms.cache.options.hit_usage)
        return Call(terms.cache, terms.namespace, request, form)


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
    for name in _STATE:
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

    # These have their span from the class they come from, and only say what is asked.

    def predict(self, prompt: Any, **prompt_args: Any) -> str:
        """Predict as the LLM's class does, knowing the question."""
        with asking(prompt, prompt_args):
            return super().predict(prompt, **prompt_args)

    async def apredict(self, prompt: Any, **prompt_args: Any) -> str:
        """Predict as the LLM's class does, knowing the question."""
        with asking(prompt, prompt_args):
            return await super().apredict(prompt, **prompt_args)

    def stream(self, prompt: Any, **prompt_args: Any) -> Generator[str, None, None]:
        """Stream as the LLM's class does, knowing the question."""
        with asking(prompt, prompt_args):
            return super().stream(prompt, **prompt_args)

    async def astream(self, prompt: Any, **prompt_args: Any) -> AsyncGenerator[str, None]:
        """Stream as the LLM's class does, knowing the question."""
        with asking(prompt, prompt_args):
            return await super().astream(prompt, **prompt_args)


def passed_on(twin_of: Callable[[Any], LLM]) -> dict[str, Callable[..., Any]]:
    """Return endpoints that are those of another LLM object, given this one."""

    def endpoint(name: str) -> Callable[..., Any]:
        def passing(self: LLM, *args: Any, **kwargs: Any) -> Any:
            return getattr(twin_of(self), name)(*args, **kwargs)

        return passing

    return {name: endpoint(name) for name in NAMES}
