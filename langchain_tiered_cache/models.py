"""Copy a LangChain model into one that is what it was, and streams from the cache too.

LangChain asks a cache for ``invoke`` and ``batch`` alone. So the model is copied into a subclass of
its own class. A wrapper of another class would fail type checks, and change what classes such as
ChatOpenAI send for tools and structured output.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache as remembered
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from langchain_core.language_models import BaseChatModel, BaseLLM
from langchain_core.load import dumps
from langchain_core.messages import BaseMessage
from langchain_core.outputs import (
    ChatGenerationChunk,
    ChatResult,
    Generation,
    GenerationChunk,
    LLMResult,
)

from langchain_tiered_cache.cache import FailingOpen, TieredCache
from langchain_tiered_cache.call_context import (
    SLOT,
    as_class,
    chat_acall,
    chat_call,
    config_above,
    refreshing,
)
from langchain_tiered_cache.request import neutral_messages
from langchain_tiered_cache.streams import (
    TEXT_FORM,
    UNREADABLE,
    Stream,
    aclose,
    apaced,
    chat_chunks,
    chat_form,
    mark_of,
    paced,
)
from shared_core.cache import ResponseCache
from shared_core.compute import aread_through, read_through
from shared_core.identity import Digest, ValueReader
from shared_core.record import Answer, Hit
from shared_core.request import Request
from shared_core.usage import tokens_of

if TYPE_CHECKING:
    from langchain_core.decisions import BaseDecisionModel

# What a cached model does instead of its class: it asks the cache for streams too.
#
# Whatever the cache does not answer is done by a view of the same state in the model's own class:
# some classes call one endpoint from another, which would ask the cache twice.


@dataclass(frozen=True, slots=True)
class ModelOrigin:
    """Which class cached models are made of, and the seconds between two chunks of a replay."""

    base: type[Any]
    pace: float | None


def origin_of(model: object) -> ModelOrigin:
    """Return what the class of a cached model is made of."""
    found: ModelOrigin = getattr(type(model), SLOT)
    return found


def plain(model: object) -> Any:
    """Return a view of a cached model in its own class: of the same state, its streams uncached."""
    return as_class(model, origin_of(model).base)


class CachedChat:
    """A chat model whose hits are heard as streams where somebody listens to one."""

    __slots__ = ()

    def _generate_with_cache(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        own = plain(self)
        with refreshing(own.cache, chat_call(own, messages, stop, kwargs)):
            result: ChatResult = own._generate_with_cache(messages, stop, run_manager, **kwargs)
        if _is_heard(own, result, run_manager, {"async_api": False, **kwargs}):
            for chunk in paced(_heard(result), origin_of(self).pace):
                run_manager.on_llm_new_token(chunk.message.content, chunk=chunk)
        return result

    async def _agenerate_with_cache(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        own = plain(self)
        with refreshing(own.cache, chat_acall(own, messages, stop, kwargs)):
            found = own._agenerate_with_cache(messages, stop, run_manager, **kwargs)
            result: ChatResult = await found
        if _is_heard(own, result, run_manager, {"async_api": True, **kwargs}):
            async for chunk in apaced(_heard(result), origin_of(self).pace):
                await run_manager.on_llm_new_token(chunk.message.content, chunk=chunk)
        return result


class ChatStreams:
    """A chat model that asks the cache for streams.

    Those of LangChain's newer protocol are made of these, also where a class makes its own.
    """

    __slots__ = ()

    _stream_chat_model_events = None

    def _stream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        own = plain(self)
        stream = _chat_stream(own, origin_of(self).pace, messages, stop, kwargs)
        live = partial(own._stream, messages, stop=stop, **kwargs)
        chunks = None if stream is None else stream.found(live)
        if chunks is None:
            chunks = live(**_given(run_manager))
            chunks = chunks if stream is None else stream.recorded(chunks)
        yield from chunks


class AsyncChatStreams:
    """A chat model that asks the cache for asynchronous streams."""

    __slots__ = ()

    _astream_chat_model_events = None

    async def _astream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        own = plain(self)
        stream = _chat_stream(own, origin_of(self).pace, messages, stop, kwargs)
        live = partial(own._astream, messages, stop=stop, **kwargs)
        chunks = None if stream is None else await stream.afound(live)
        if chunks is None:
            chunks = live(**_given(run_manager))
            chunks = chunks if stream is None else stream.arecorded(chunks)
        try:
            async for chunk in chunks:
                yield chunk
        finally:
            await aclose(chunks)


WITHOUT_KEY = "no key can be made of a stream's request, the cache is passed over"


def _chat_stream(
    own: Any, pace: float | None, messages: list[BaseMessage], stop: Any, kwargs: dict[str, Any]
) -> Stream[ChatGenerationChunk] | None:
    """Return the stream of a call, with the keys that ``invoke`` has; None without a cache."""
    cache = own.cache
    if not isinstance(cache, TieredCache):
        return None
    try:
        asked = [_without_id(message) for message in messages]
        key = dumps(asked), own._get_llm_string(stop=stop, **kwargs)
    except UNREADABLE as error:
        cache.count("lookup:key", WITHOUT_KEY, error)
        return None
    return Stream(cache, *key, chat_form(own.output_version), pace)


def _without_id(message: BaseMessage) -> BaseMessage:
    return message if message.id is None else message.model_copy(update={"id": None})


def _given(run_manager: Any) -> dict[str, Any]:
    return {} if run_manager is None else {"run_manager": run_manager}


def _is_heard(own: Any, result: ChatResult, run_manager: Any, call: dict[str, Any]) -> bool:
    """Tell whether a hit has a listener who was told nothing: LangChain streams only misses.

    To listeners of its newer protocol it replays hits itself.
    """
    mark = mark_of(result.generations[0]) if run_manager is not None else None
    if not isinstance(mark, dict) or mark.get("hit") is not True:
        return False
    newer: Any = getattr(own, "_should_use_protocol_streaming", None)
    if newer is not None and newer(run_manager=run_manager, **call):
        return False
    return bool(own._should_stream(run_manager=run_manager, **call))


def _heard(result: ChatResult) -> Iterator[ChatGenerationChunk]:
    """Yield the chunks of a message, with its id: by it, listeners know that they had it all."""
    (generation, *_) = result.generations
    try:
        chunks = chat_chunks(generation)
    except UNREADABLE:
        return
    for chunk in chunks:
        chunk.message.id = generation.message.id
        yield chunk


# What a cached completion model does instead of its class: see ``endpoints``.


class CachedText:
    """A completion model whose cache knows the arguments of each call, too."""

    __slots__ = ()

    def generate(
        self, prompts: list[str], stop: Any = None, *args: Any, **kwargs: Any
    ) -> LLMResult:
        """Generate as LangChain does, with what this call is given in the key."""
        own, arguments = plain(self), _arguments(kwargs)

        def ask(prompt: str) -> Sequence[Generation]:
            found: LLMResult = own._generate([prompt], stop=stop, **arguments)
            return found.generations[0]

        with _calling(arguments), refreshing(own.cache, ask, len(prompts)):
            result: LLMResult = super().generate(  # type: ignore[misc]
                prompts, stop, *args, **kwargs
            )
        return result

    async def agenerate(
        self, prompts: list[str], stop: Any = None, *args: Any, **kwargs: Any
    ) -> LLMResult:
        """Generate as LangChain does, with what this call is given in the key."""
        own, arguments = plain(self), _arguments(kwargs)

        async def ask(prompt: str) -> Sequence[Generation]:
            found: LLMResult = await own._agenerate([prompt], stop=stop, **arguments)
            return found.generations[0]

        with _calling(arguments), refreshing(own.cache, ask, len(prompts)):
            answer = super().agenerate(prompts, stop, *args, **kwargs)  # type: ignore[misc]
            result: LLMResult = await answer
        return result

    def _generate(
        self, prompts: list[str], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> LLMResult:
        own = plain(self)
        result: LLMResult = own._generate(prompts, stop=stop, run_manager=run_manager, **kwargs)
        return result

    async def _agenerate(
        self, prompts: list[str], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> LLMResult:
        own = plain(self)
        answer = own._agenerate(prompts, stop=stop, run_manager=run_manager, **kwargs)
        result: LLMResult = await answer
        return result

    def dict(self, **kwargs: Any) -> Any:
        """Return the parameters, with those of the call under way: LangChain makes keys of it."""
        return {**super().dict(**kwargs), **_called.get()}  # type: ignore[misc]


class TextStreams:
    """A completion model that asks the cache for streams."""

    __slots__ = ()

    def _stream(
        self, prompt: str, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[GenerationChunk]:
        own = plain(self)
        stream = _text_stream(own, origin_of(self).pace, prompt, stop, kwargs)
        live = partial(own._stream, prompt, stop=stop, **kwargs)
        chunks = None if stream is None else stream.found(live)
        if chunks is None:
            chunks = live(run_manager=run_manager)
            yield from chunks if stream is None else stream.recorded(chunks)
            return
        for chunk in chunks:
            if run_manager is not None:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk


class AsyncTextStreams:
    """A completion model that asks the cache for asynchronous streams."""

    __slots__ = ()

    async def _astream(
        self, prompt: str, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[GenerationChunk]:
        own = plain(self)
        stream = _text_stream(own, origin_of(self).pace, prompt, stop, kwargs)
        live = partial(own._astream, prompt, stop=stop, **kwargs)
        found = None if stream is None else await stream.afound(live)
        chunks = found
        if chunks is None:
            chunks = live(run_manager=run_manager)
            chunks = chunks if stream is None else stream.arecorded(chunks)
        try:
            async for chunk in chunks:
                if found is not None and run_manager is not None:
                    await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk
        finally:
            await aclose(chunks)


_called: ContextVar[Mapping[str, Any]] = ContextVar("tiered_cache_called", default={})  # noqa: B039 - never changed
"""The arguments of a completion model's call that its key must hold."""


@contextmanager
def _calling(arguments: Mapping[str, Any]) -> Iterator[None]:
    token = _called.set(arguments)
    try:
        yield
    finally:
        _called.reset(token)


def _arguments(kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    of_langchain = ("callbacks", "tags", "metadata", "run_name", "run_id")
    return {name: value for name, value in kwargs.items() if name not in of_langchain}


def _text_stream(
    own: Any, pace: float | None, prompt: str, stop: Any, kwargs: dict[str, Any]
) -> Stream[GenerationChunk] | None:
    """Return the stream of a call, with the keys that ``invoke`` has; None without a cache."""
    cache = own.cache
    if not isinstance(cache, TieredCache):
        return None
    try:
        asked = getattr(own, "_dict_for_compat", own.dict)()  # older versions have the latter alone
        params = {**asked, "stop": stop, **kwargs}
        llm_string = str(sorted(params.items()))
    except UNREADABLE as error:
        cache.count("lookup:key", WITHOUT_KEY, error)
        return None
    return Stream(cache, prompt, llm_string, TEXT_FORM, pace)


# Decision models, of langchain-core 1.8: typed answers about a state, cached exactly.


DECISION_FORMAT = "langchain-decision/1"


@remembered
def decision_model_class() -> type[Any] | None:
    """Return the class of decision models, None where this langchain-core has none."""
    try:
        from langchain_core.decisions import BaseDecisionModel
    except ImportError:
        return None
    return BaseDecisionModel


class CachedDecisions:
    """A decision model that asks the cache for equal questions about an equal state."""

    __slots__ = ()

    def _classify(self, state: Any, questions: dict[str, Any]) -> Any:
        own, call = plain(self), _Decision.of(self, state, questions)

        def ask() -> Any:
            with call.working():
                return own._classify(state, questions)

        with call.controlled():
            return read_through(call.tiered.cache, call.request, ask, call, call.fail)

    async def _aclassify(self, state: Any, questions: dict[str, Any]) -> Any:
        own, call = plain(self), _Decision.of(self, state, questions)

        async def ask() -> Any:
            with call.working():
                return await own._aclassify(state, questions)

        with call.controlled():
            return await aread_through(call.tiered.cache, call.request, ask, call, call.fail)


@dataclass(frozen=True, slots=True)
class _Decision:
    """Holds one call of a decision model: its cache, its request, how its answers are kept."""

    tiered: TieredCache
    request: Request
    hidden: Digest | None
    ids: tuple[str, ...]
    config: Mapping[str, Any]

    @classmethod
    def of(cls, model: Any, state: Any, questions: Mapping[str, Any]) -> _Decision:
        tiered: TieredCache = model.cache
        asker = tiered.asker_of(plain(model), "[]")
        request = Request(
            None, "", model.model, "unstable", DECISION_FORMAT, uncacheable="unstable"
        )
        with FailingOpen(tiered, "lookup"):
            if asker is not None:
                asked = {
                    name: [type(one).__qualname__, one.model_dump(mode="json")]
                    for name, one in questions.items()
                }
                request = Request.of(
                    None,
                    params={
                        "provider": model._provider,
                        "model": model.model,
                        "temperature": getattr(model, "temperature", None),
                    },
                    context={"state": _spelt(state), "questions": asked, "settings": asker[0]},
                    exact_only="decision",
                    format=DECISION_FORMAT,
                )
        hidden = None if asker is None else asker[1]
        return cls(tiered, request, hidden, tuple(questions), config_above())

    def working(self) -> AbstractContextManager[None]:
        """Note that the model works in a block: what it counts there is no setting of it."""
        return nullcontext() if self.hidden is None else self.hidden.calling()

    def controlled(self) -> AbstractContextManager[None]:
        """Put in force what the config of the call says to the cache, tenant and all."""
        return self.tiered.controlled_by(self.config)

    def fail(self, doing: str, error: Exception) -> None:
        """Count what failed in the cache and log it; the app does not see it."""
        named = f"{doing}:{type(error).__name__}"
        self.tiered.count(named, f"{doing} failed, the cache is passed over", error)

    def read(self, hit: Hit) -> Any:
        """Build the response, its answers in the order of the questions, without a request's id.

        Raises ValueError if it cannot be read.
        """
        from langchain_core.decisions import ClassifierResponse

        found = ClassifierResponse.model_validate_json(hit.answer.payload or "")
        if found.answers.keys() != set(self.ids):
            raise ValueError("an answer to other questions")
        is_kept = self.tiered.cache.options.hit_usage == "keep"
        return found.model_copy(
            update={
                "answers": {name: found.answers[name] for name in self.ids},
                "usage": found.usage if is_kept else None,
                "request_id": None,
            }
        )

    def write(self, value: Any) -> Answer | None:
        """Return what may be kept of a response: one that reads back equal."""
        if value.answers.keys() != set(self.ids):
            return None  # not all were answered
        payload: str = value.model_dump_json()
        if type(value).model_validate_json(payload) != value:
            return None
        said = json.dumps({name: one.model_dump() for name, one in value.answers.items()})
        usage = tokens_of({"usage": dict(value.usage)}) if value.usage else None
        return Answer(
            said, payload, DECISION_FORMAT, model=value.model, usage=usage, exact_only=True
        )

    def fresh(self, value: Any, mark: dict[str, Any]) -> Any:
        """Return the model's own response: it has no place for a mark."""
        return value


def _spelt(state: Any) -> Any:
    """Spell a state as JSON values; a message as what reaches the model of it.

    Raises TypeError or ValueError for what is neither.
    """
    if isinstance(state, BaseMessage):
        return {"message": neutral_messages(dumps([_without_id(state)]))}
    if isinstance(state, Mapping):
        return {"object": {str(name): _spelt(one) for name, one in state.items()}}
    if isinstance(state, Sequence) and not isinstance(state, (str, bytes)):
        return [_spelt(one) for one in state]
    return ValueReader().spell(state)


Model = TypeVar("Model", bound="BaseChatModel | BaseLLM | BaseDecisionModel")


def cached_model(
    model: Model,
    cache: TieredCache | ResponseCache | str = "memory://",
    *,
    pace: float | None = None,
) -> Model:
    """Return a copy of a model that answers from the cache, streams included.

        model = cached_model(ChatOpenAI(model="gpt-4o-mini"), "sqlite:///answers.db")
        for chunk in model.stream("What is the capital of France?"):
            print(chunk.text, end="")

    It is an instance of the model's own class. ``stream``, ``astream``, ``astream_events`` and
    ``invoke`` share their entries, also with other models of equal settings that have this cache. A
    hit is replayed word by word with ``pace`` seconds between two chunks, by default at once; a
    stream that ends is stored, one that breaks or is left early is not.

    A decision model (langchain-core 1.8) is cached exactly: an equal state and equal questions. Its
    responses have no place for a mark; ``get_cache_trace`` tells of hits.

    ``cache`` is a ``TieredCache``, a ``ResponseCache`` or the URL of one. Raises ValueError for
    arguments that make no sense.
    """
    decides = decision_model_class()
    if not isinstance(model, (BaseChatModel, BaseLLM, *((decides,) if decides else ()))):
        raise ValueError(
            f"model must be a chat, completion or decision model, not {type(model).__name__}: "
            "cache the model first, then bind tools, settings or fallbacks to it"
        )
    if pace is not None and not (_is_number(pace) and 0 <= pace < float("inf")):
        raise ValueError(f"pace must be seconds between chunks, 0 or more, or None, not {pace!r}")
    base = origin_of(model).base if hasattr(type(model), SLOT) else type(model)
    twin: Model = _copied(model, base, pace, _tiered(cache))
    return twin


def _tiered(cache: TieredCache | ResponseCache | str) -> TieredCache:
    if isinstance(cache, TieredCache):
        return cache
    if isinstance(cache, ResponseCache):
        return TieredCache(cache=cache)
    if isinstance(cache, str):
        return TieredCache(cache)
    raise ValueError(f"cache must be a TieredCache, a ResponseCache or a URL, not {cache!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


class CachedTwin:
    """How a cached model is pickled: as a model of its own class, which is copied again."""

    __slots__ = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (plain(self), origin_of(self).pace)


def _restored(model: Any, pace: float | None) -> Any:
    return _copied(model, type(model), pace, model.cache)


def _copied(model: Any, base: Any, pace: float | None, cache: object) -> Any:
    twin: Any = object.__new__(_class_of(base, pace))
    fields = {
        "__dict__": {**model.__dict__, "cache": cache},
        "__pydantic_private__": model.__pydantic_private__ and {**model.__pydantic_private__},
        "__pydantic_fields_set__": {*model.__pydantic_fields_set__, "cache"},
        "__pydantic_extra__": model.__pydantic_extra__ and {**model.__pydantic_extra__},
    }
    for name, value in fields.items():
        object.__setattr__(twin, name, value)
    return twin


def _mixed(base: Any) -> list[type[Any]]:
    """Return what is mixed in before a class: its calls, and its streams if it has any."""
    if not issubclass(base, (BaseChatModel, BaseLLM)):
        return [CachedDecisions]
    kind, cached, streams, astreams = (
        (BaseChatModel, CachedChat, ChatStreams, AsyncChatStreams)
        if issubclass(base, BaseChatModel)
        else (BaseLLM, CachedText, TextStreams, AsyncTextStreams)
    )
    if base._stream is not kind._stream:
        return [cached, streams, astreams]
    return [cached, astreams] if base._astream is not kind._astream else [cached]


@remembered
def _class_of(base: Any, pace: float | None) -> type[Any]:
    """Return the class of cached models of a class; the pace is kept there, where copies find it.

    Its name is the one of its base: LangChain makes keys, providers and run names of it.
    """
    mixed: list[type[Any]] = [CachedTwin, *_mixed(base)]
    namespace = {
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
        SLOT: ModelOrigin(base, pace),
    }
    metaclass: Any = type(base)
    made: type[Any] = metaclass(base.__name__, (*mixed, base), namespace)
    return made
