"""Cache the whole responses of a query engine, with their source nodes, by question.

query --retrieve, unless a version stands for the index--> Request(question, scope)
      --hit--> response of the cache      --miss--> the engine's own, kept
"""

from __future__ import annotations

import json
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, replace
from typing import Any

from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.response.schema import (
    RESPONSE_TYPE,
    AsyncStreamingResponse,
    Response,
    StreamingResponse,
)
from llama_index.core.llms.llm import LLM
from llama_index.core.prompts.mixin import PromptDictType, PromptMixinType
from llama_index.core.schema import NodeWithScore, QueryBundle
from llama_index.core.storage.docstore.utils import doc_to_json, json_to_doc

from llamaindex_tiered_cache.answers import MARK, Delta, Serving
from llamaindex_tiered_cache.calls import Call, anoted_chunks, arun, noted_chunks, open_cache, run
from llamaindex_tiered_cache.components import hidden_of, object_digest, parameters_of, plain
from llamaindex_tiered_cache.llm import uncached
from shared_core.cache import ResponseCache
from shared_core.compute import astream_through, stream_through
from shared_core.harmless import is_harmless_setting
from shared_core.record import Answer, Hit
from shared_core.request import Request, why_exact_only
from shared_core.state_places import Unreadable

# Makes a ``Request`` of a question to a query engine: engine, and version or nodes, are scope.


QUERY_FORMAT = "llamaindex-query/1"
"""Format of whole responses with their source nodes."""

_UNREADABLE = (TypeError, ValueError, KeyError, AttributeError, RecursionError)


def query_request(
    engine: BaseQueryEngine,
    bundle: QueryBundle,
    nodes: Sequence[NodeWithScore] | None,
    version: str | int | None,
) -> Request:
    """Build the request of one query; one that has no stable identity is uncacheable.

    The scope holds the nodes that were retrieved, in no order, or else the version.
    """
    try:
        if bundle.image_path:
            raise Unreadable("a file that may change")
        context: dict[str, Any] = {"form": "query", "engine": _identity(engine)}
        if nodes is None:
            context["version"] = version
        else:
            context["nodes"] = sorted(one.node.hash for one in nodes)
        strings = bundle.custom_embedding_strs
        if strings and strings != [bundle.query_str]:
            context["retrieved_by"] = plain(strings)
        llm = _llm(engine)
        return Request.of(
            bundle.query_str,
            params=None if llm is None else parameters_of(llm, {}),
            context=context,
            exact_only=why_exact_only(bundle.query_str),
            format=QUERY_FORMAT,
        )
    except _UNREADABLE:
        return Request(None, "", "", "unstable", QUERY_FORMAT, uncacheable="unstable")


def is_streaming(engine: BaseQueryEngine) -> bool:
    """Tell whether an engine answers in streams."""
    return bool(getattr(_synthesizer(engine), "_streaming", False))


def _identity(engine: BaseQueryEngine) -> dict[str, Any]:
    """Return what of an engine its answers depend on, besides documents and LLM."""
    synthesizer = _synthesizer(engine)
    identity = {
        "class": f"{type(engine).__module__}.{type(engine).__qualname__}",
        "synthesizer": type(synthesizer).__qualname__,
        "streaming": is_streaming(engine),
        "output": plain(getattr(synthesizer, "_output_cls", None)),
        "prompts": {name: _prompt(prompt, engine) for name, prompt in engine.get_prompts().items()},
        "settings": [_constants(engine), _constants(synthesizer)],
    }
    return {name: value for name, value in identity.items() if value is not None}


def _constants(owner: Any) -> dict[str, Any]:
    """Return the texts, numbers and flags among the attributes of an engine's part."""
    attributes = getattr(owner, "__dict__", {})
    return {
        name: value
        for name, value in attributes.items()
        if isinstance(value, (str, int, float)) and not is_harmless_setting(name.lstrip("_"))
    }


def _prompt(prompt: Any, engine: BaseQueryEngine) -> list[Any]:
    functions = getattr(prompt, "function_mappings", None) or {}
    return [
        prompt.get_template(llm=_llm(engine)),
        plain(getattr(prompt, "kwargs", {})),
        {name: object_digest(function) for name, function in functions.items()},
    ]


def _synthesizer(engine: BaseQueryEngine) -> Any:
    return getattr(engine, "_response_synthesizer", None)


def _llm(engine: BaseQueryEngine) -> LLM | None:
    for owner in (_synthesizer(engine), engine):
        for name in ("_llm", "llm"):
            llm = getattr(owner, name, None)
            if isinstance(llm, LLM):
                return uncached(llm)
    return None


# Responses of query engines as answers and back: text, source nodes and metadata, as JSON.


_FAILURES = (TypeError, ValueError, KeyError, AttributeError, RecursionError)


@dataclass(frozen=True, slots=True)
class QueryForm:
    """How responses are written, read and marked.

    ``nodes`` are those retrieved for this very question, if any were: a hit gives them as sources.
    """

    nodes: Sequence[NodeWithScore] | None = None

    def write(
        self, response: RESPONSE_TYPE, deltas: Sequence[Delta] | None = None
    ) -> Answer | None:
        """Return the answer that a response gives, None if it cannot be kept.

        Kept are texts that rest on source nodes; an object of the user's class cannot be rebuilt.
        """
        if not isinstance(response, Response) or not response.response or not response.source_nodes:
            return None
        try:
            body = _dump(response, deltas)
            payload = json.dumps(body, separators=(",", ":"), allow_nan=False)
            again = json.loads(payload)
            if again != body or _dump(_load(again), deltas) != body:
                return None
        except _FAILURES:
            return None
        return Answer(response.response, payload, QUERY_FORMAT)

    def read(self, answer: Answer, serving: Serving) -> RESPONSE_TYPE:
        """Build a new response. Raises ValueError if the answer cannot be read."""
        body = _body(answer)
        try:
            response = _load(body)
        except _FAILURES as error:
            raise ValueError(f"not a payload of {QUERY_FORMAT}: {type(error).__name__}") from None
        if self.nodes is not None:
            response.source_nodes = list(self.nodes)
        return _marked(response, serving.mark(answer))

    def chunks(self, answer: Answer, serving: Serving) -> Iterator[RESPONSE_TYPE]:
        """Build the response, as the only chunk. Raises ValueError if it cannot be read."""
        return iter([self.read(answer, serving)])

    def fresh(self, response: RESPONSE_TYPE, mark: dict[str, Any]) -> RESPONSE_TYPE:
        """Note in the engine's own response what the cache says of it."""
        return _marked(response, mark)


def tokens_of(answer: Answer) -> list[str]:
    """Return the tokens that an answer was streamed in, or its text as one."""
    tokens = _body(answer).get("tokens")
    return [answer.text] if tokens is None else list(tokens)


def _marked(response: RESPONSE_TYPE, mark: Mapping[str, Any]) -> RESPONSE_TYPE:
    return replace(response, metadata={**(response.metadata or {}), MARK: dict(mark)})


def _body(answer: Answer) -> dict[str, Any]:
    if answer.format != QUERY_FORMAT or answer.payload is None:
        raise ValueError(f"an answer of format {answer.format}")
    body: dict[str, Any] = json.loads(answer.payload)
    if body.get("v") != QUERY_FORMAT:
        raise ValueError("a payload of another version")
    return body


def _dump(response: Response, deltas: Sequence[Delta] | None) -> dict[str, Any]:
    nodes = [{"node": doc_to_json(one.node), "score": one.score} for one in response.source_nodes]
    metadata = response.metadata
    if metadata is not None:
        metadata = {name: value for name, value in metadata.items() if name != MARK}
    return {
        "v": QUERY_FORMAT,
        "text": response.response,
        "nodes": nodes,
        "metadata": metadata,
        "tokens": None if deltas is None else [delta or "" for delta, _ in deltas],
    }


def _load(body: Mapping[str, Any]) -> Response:
    nodes = [
        NodeWithScore(node=json_to_doc(dump["node"]), score=dump["score"]) for dump in body["nodes"]
    ]
    return Response(response=body["text"], source_nodes=nodes, metadata=body["metadata"])


# Streaming responses of query engines through a cache: replayed on a hit, recorded on a miss.


_STREAMING = (StreamingResponse, AsyncStreamingResponse)


class _Tokens:
    """The tokens of one streaming response, on their way out of the cache or into it.

    ``response`` is the engine's own, or the one of a hit, whose tokens are yet to be put in.
    """

    def __init__(self, call: Call[Any]) -> None:
        self._call, self._seen = call, list[str]()
        self.response: Any = None
        self._is_hit = False

    def tokens_of(self, own: RESPONSE_TYPE) -> Any:
        """Note the engine's own response; return its tokens, None if it does not stream."""
        self.response = own
        return own.response_gen if isinstance(own, _STREAMING) else None

    def streaming(self, kind: Any, tokens: Any) -> RESPONSE_TYPE:
        """Return the response with these tokens; one that does not stream, as it is."""
        response: RESPONSE_TYPE = self.response
        if self._is_hit:
            return kind(tokens, response.source_nodes, response.metadata)  # type: ignore[no-any-return]
        if isinstance(response, _STREAMING):
            response.response_gen = tokens
        return response

    def chunks(self, hit: Hit) -> Iterator[str]:
        """Return the tokens of a hit."""
        self.response, self._is_hit = self._call.read(hit), True
        return iter(tokens_of(hit.answer))

    def recorder(self) -> _Tokens:
        """Return what notes the tokens of the engine's own response."""
        return self

    def take(self, token: str) -> tuple[str]:
        """Note a token and pass it on."""
        self._seen.append(token)
        return (token,)

    def whole(self) -> Answer | None:
        """Return the answer of the response that ended, None if it cannot be kept."""
        own = self.response
        whole = Response("".join(self._seen), own.source_nodes, own.metadata)
        return self._call.write(whole, [(token, None) for token in self._seen])

    def rest(self, entry_id: str | None) -> tuple[()]:
        """Pass nothing on at the end."""
        return ()


def stream_query(call: Call[RESPONSE_TYPE], compute: Callable[[], RESPONSE_TYPE]) -> RESPONSE_TYPE:
    """Return a streaming response; the engine's own is kept when it has been read to its end."""
    of = _Tokens(call)
    with call.controlled():
        open = noted_chunks(call, lambda: of.tokens_of(compute()) or iter(()))
        tokens = stream_through(call.cache, call.request, open, of, call.fail)
    return of.streaming(StreamingResponse, tokens)


async def astream_query(
    call: Call[RESPONSE_TYPE], compute: Callable[[], Awaitable[RESPONSE_TYPE]]
) -> RESPONSE_TYPE:
    """Do as ``stream_query`` does; the event loop is not blocked."""
    of = _Tokens(call)

    async def open() -> AsyncIterator[str]:
        found: AsyncIterator[str] = of.tokens_of(await compute()) or _nothing()
        return found

    with call.controlled():
        tokens = await astream_through(
            call.cache, call.request, anoted_chunks(call, open), of, call.fail
        )
    return of.streaming(AsyncStreamingResponse, tokens)


async def _nothing() -> AsyncGenerator[str, None]:
    for token in tuple[str]():
        yield token


class CachedQueryEngine(BaseQueryEngine):
    """A query engine that answers a question it has answered before, in these or other words.

        engine = CachedQueryEngine(index.as_query_engine(), cache, version="handbook 7")

    With ``version`` the question is all that is looked up: nothing is retrieved on a hit, and
    whoever asks the same of the same version gets the same response. It must name the index and its
    state, and change whenever a document or the retriever does. Without it the engine retrieves
    first, and the nodes found, in whatever order, are part of what must be equal: nothing old is
    served, and paraphrases hit only where they retrieve the same.

    Responses hold a mark in ``metadata["tiered_cache"]``. ``cache`` is a ``ResponseCache`` or a
    URL. Raises ValueError for an engine that cannot retrieve by itself and has no version.
    """

    def __init__(
        self,
        engine: BaseQueryEngine,
        cache: ResponseCache | str = "memory://",
        *,
        version: str | int | None = None,
        namespace: str | None = None,
    ) -> None:
        if version is None and type(engine).retrieve is BaseQueryEngine.retrieve:
            raise ValueError(
                f"{type(engine).__name__} does not tell what it retrieves, so version= must say "
                "which state of its documents answers are of"
            )
        self._engine = engine
        self._cache = open_cache(cache)
        self._version = version
        self._namespace = namespace
        super().__init__(callback_manager=engine.callback_manager)

    @property
    def cache(self) -> ResponseCache:
        """Return the cache."""
        return self._cache

    def retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        """Retrieve as the engine does; not cached."""
        return self._engine.retrieve(query_bundle)

    def synthesize(self, *args: Any, **kwargs: Any) -> RESPONSE_TYPE:
        """Synthesize as the engine does; not cached."""
        return self._engine.synthesize(*args, **kwargs)

    async def asynthesize(self, *args: Any, **kwargs: Any) -> RESPONSE_TYPE:
        """Synthesize as the engine does; not cached."""
        return await self._engine.asynthesize(*args, **kwargs)

    def _get_prompts(self) -> PromptDictType:
        prompts: PromptDictType = self._engine._get_prompts()
        return prompts

    def _get_prompt_modules(self) -> PromptMixinType:
        return self._engine._get_prompt_modules()

    def _update_prompts(self, prompts: PromptDictType) -> None:
        self._engine._update_prompts(prompts)

    def _query(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        nodes = None if self._version is not None else self._engine.retrieve(query_bundle)
        call = self._call(query_bundle, nodes)

        def compute() -> RESPONSE_TYPE:
            if nodes is None:
                return self._engine.query(query_bundle)
            return self._engine.synthesize(query_bundle, nodes)

        return stream_query(call, compute) if is_streaming(self._engine) else run(call, compute)

    async def _aquery(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        nodes = None if self._version is not None else await self._aretrieve(query_bundle)
        call = self._call(query_bundle, nodes)

        async def compute() -> RESPONSE_TYPE:
            if nodes is None:
                return await self._engine.aquery(query_bundle)
            return await self._engine.asynthesize(query_bundle, nodes)

        if is_streaming(self._engine):
            return await astream_query(call, compute)
        return await arun(call, compute)

    async def _aretrieve(self, bundle: QueryBundle) -> list[NodeWithScore]:
        aretrieve = getattr(self._engine, "aretrieve", None)
        if aretrieve is None:
            return self._engine.retrieve(bundle)
        found: list[NodeWithScore] = await aretrieve(bundle)
        return found

    def _call(self, bundle: QueryBundle, nodes: list[NodeWithScore] | None) -> Call[RESPONSE_TYPE]:
        request = query_request(self._engine, bundle, nodes, self._version)
        llm = _llm(self._engine)
        model = None if llm is None else hidden_of(llm)
        return Call(self._cache, self._namespace, request, QueryForm(nodes), model)
