"""Ask the provider for a cached client: the SDK's clients, limits, retries, and what calls cost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared_core.client.throttle import Dispatch
from shared_core.costs import Costs
from shared_core.digests import Digest, digest_of
from shared_core.openai_format import Endpoint, answer_of, text_of
from shared_core.record import Answer, Hit
from shared_core.request import DEFAULT_BASE_URLS, Request
from shared_core.usage import estimated_usage

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI


MISSING_SDK = "CachedClient needs openai and tenacity: pip install 'tiered-llm-cache[client]'"
Settle = Callable[[int], None]


@dataclass(slots=True, eq=False)
class Call:
    """One call of a model: what is asked, what is sent, and what came of it.

    ``request`` None: the arguments have no identity, so the cache is not asked. ``hit`` is what the
    cache answered with, ``entry_id`` under what id the provider's own answer is kept.
    """

    model: str
    messages: Sequence[Any]
    arguments: Mapping[str, Any]
    request: Request | None
    controls: Mapping[str, Any]
    namespace: str
    started: float
    hit: Hit | None = None
    entry_id: str | None = None

    @property
    def tokens(self) -> int:
        """Return how many tokens the call may take, by estimate."""
        most = self.arguments.get("max_completion_tokens") or self.arguments.get("max_tokens") or 0
        return self.usage_of(None)["input_tokens"] + int(most)

    def usage_of(self, answer: Answer | None) -> dict[str, int]:
        """Return an estimate of the tokens of this call and an answer to it."""
        try:
            asked = text_of(self.messages)
        except (TypeError, AttributeError):  # the provider will say what is wrong with it
            asked = ""
        return estimated_usage(asked, "" if answer is None else answer.text)


class Provider:
    """Makes calls, within the limits, and keeps account of them.

    Raises ImportError without the extra "client", ValueError without a client of either kind.
    """

    def __init__(
        self,
        client: OpenAI | None,
        async_client: AsyncOpenAI | None,
        costs: Costs,
        dispatch: Callable[[tuple[type[BaseException], ...]], Dispatch],
        ignore: frozenset[str] = frozenset(),
    ) -> None:
        try:
            import openai
            import tenacity  # noqa: F401 - at the first call it would be too late to say so
        except ImportError:
            raise ImportError(MISSING_SDK) from None
        either: Any = client or async_client
        if either is None:
            raise ValueError("give a client: CachedClient(cache, openai.OpenAI())")
        # What is tried again, and when, is for the limits to say: the SDK's own retries know none.
        self._client: Any = client and client.with_options(max_retries=0)
        self._async_client: Any = async_client and async_client.with_options(max_retries=0)
        azure = (openai.AzureOpenAI, openai.AsyncAzureOpenAI)
        self._provider = "azure" if isinstance(either, azure) else "openai"
        self._ignore = ignore
        self.costs = costs
        self._dispatch = dispatch((openai.APIConnectionError, ConnectionError, TimeoutError))

    def endpoint(self, *, awaited: bool = False) -> Endpoint:
        """Return whom a call asks, with all that the SDK's client adds to it."""
        chosen = (self._async_client if awaited else self._client) or (
            self._client or self._async_client
        )
        headers = {
            "openai-organization": getattr(chosen, "organization", None),
            "openai-project": getattr(chosen, "project", None),
            **getattr(chosen, "_custom_headers", {}),
        }
        return Endpoint(
            self._provider,
            str(chosen.base_url).rstrip("/"),
            dict(chosen.default_query),
            headers,
            self._ignore,
            _hidden_in(getattr(chosen, "_client", None)),
        )

    # --------------------------------------------------------------------------- whole answers

    def ask(self, call: Call) -> Answer:
        """Return the provider's answer. Raises what the SDK raises in the end."""
        create = self._sync().chat.completions.create
        with self._dispatch.call(lambda: create(**self._sent(call)), call.tokens) as (
            found,
            settle,
        ):
            answer = answer_of(found)
            self._counted(call, answer, settle)
        return answer

    async def aask(self, call: Call) -> Answer:
        """Do as ``ask`` does."""
        create = self._async().chat.completions.create
        sent = self._sent(call)
        async with self._dispatch.acall(lambda: create(**sent), call.tokens) as (found, settle):
            answer = answer_of(found)
            self._counted(call, answer, settle)
        return answer

    # --------------------------------------------------------------------------------- streams

    @contextmanager
    def open(self, call: Call) -> Iterator[tuple[Any, Callable[[Answer], None]]]:
        """Give the SDK's stream, and what is to be told its answer when it ended."""
        create = self._sync().chat.completions.create
        sent = self._streamed(call)
        with (
            self._dispatch.call(lambda: create(**sent), call.tokens) as (stream, settle),
            stream,
        ):
            yield stream, lambda answer: self._counted(call, answer, settle)

    @asynccontextmanager
    async def aopen(self, call: Call) -> AsyncIterator[tuple[Any, Callable[[Answer], None]]]:
        """Do as ``open`` does."""
        create = self._async().chat.completions.create
        sent = self._streamed(call)
        async with (
            self._dispatch.acall(lambda: create(**sent), call.tokens) as (stream, settle),
            stream,
        ):
            yield stream, lambda answer: self._counted(call, answer, settle)

    # ------------------------------------------------------------------------------------ parts

    def _sync(self) -> Any:
        if self._client is None:
            raise ValueError("chat and stream need client=openai.OpenAI()")
        return self._client

    def _async(self) -> Any:
        if self._async_client is None:
            raise ValueError("achat and astream need async_client=openai.AsyncOpenAI()")
        return self._async_client

    def _sent(self, call: Call) -> dict[str, Any]:
        return {**call.arguments, "model": call.model, "messages": call.messages}

    def _streamed(self, call: Call) -> dict[str, Any]:
        sent = {**self._sent(call), "stream": True}
        endpoint = self.endpoint()
        if endpoint.base_url == DEFAULT_BASE_URLS.get(endpoint.provider):
            # others may refuse what they do not know; without it, tokens are estimated
            sent.setdefault("stream_options", {"include_usage": True})
        return sent

    def _counted(self, call: Call, answer: Answer, settle: Settle) -> None:
        usage, estimated = usage_or_estimate(call, answer)
        settle(usage.get("input_tokens", 0) + usage.get("output_tokens", 0))
        self.costs.spend(call.model, usage, namespace=call.namespace, estimated=estimated)


def _hidden_in(http_client: Any) -> str:
    """Return the digest of what an app's own HTTP client adds to requests; "" for the SDK's.

    Raises Unreadable.
    """
    if http_client is None or type(http_client).__module__.startswith("openai."):
        return ""

    def make() -> Digest:
        return Digest(lambda reader: reader.spell(http_client), owner=http_client)

    return digest_of(http_client, "client", make).now()


def usage_or_estimate(call: Call, answer: Answer) -> tuple[Mapping[str, int], bool]:
    """Return the tokens of an answer, and whether they are an estimate."""
    if answer.usage:
        return answer.usage, False
    return call.usage_of(answer), True
