"""Wrap an LLM so that its provider keeps the front of its prompts: ``marked_llm(llm)``.

LlamaIndex has no hook before a chat call, so the LLM is replaced by an instance of a subclass of
its own class that marks the messages and then does what the class does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core.base.llms.types import CacheControl, CachePoint, ChatMessage, TextBlock
from llama_index.core.llms.llm import LLM

from llamaindex_tiered_cache.llm import SLOT, Mixed, share_state
from shared_core.prefix import Provider, mark

_PROVIDERS: dict[str, Provider] = {
    "Anthropic_LLM": "anthropic",
    "openai_llm": "openai",
    "azure_openai_llm": "openai",
    "Bedrock_Converse_LLM": "bedrock",
    "GoogleGenAI": "gemini",
}
"""By ``class_name()``."""

_BEFORE_BASE = 2
"""How many classes stand before the LLM's own one: the marked one, and what is mixed in."""


def mark_messages(
    messages: Sequence[ChatMessage], provider: Provider, **options: Any
) -> tuple[list[ChatMessage], dict[str, Any]]:
    """Return messages as the provider is to see them, and keyword arguments for the call.

    ``options`` are those of ``shared_core.prefix.mark``. A system message is dynamic if its
    ``additional_kwargs`` say ``"dynamic": True``. Breakpoints are LlamaIndex's own ``CachePoint``
    blocks. The messages that were given are not changed.
    """
    neutral = [
        {
            "role": one.role.value,
            "content": [_part(block, at, n) for n, block in enumerate(one.blocks)],
            "at": at,
            "dynamic": bool(one.additional_kwargs.get("dynamic")),
        }
        for at, one in enumerate(messages)
    ]
    marked = mark(neutral, provider, **options)
    return [_message(one, messages) for one in marked.messages], marked.params


def _part(block: Any, at: int, number: int) -> dict[str, Any]:
    """Return a block as a neutral part that remembers where it stood."""
    part: dict[str, Any] = {"type": block.block_type, "stood": (at, number)}
    if isinstance(block, TextBlock):
        return part | {"text": block.text}
    if isinstance(block, CachePoint):
        return part | {"cache_control": block.cache_control.model_dump()}
    return part


def _message(marked: dict[str, Any], messages: Sequence[ChatMessage]) -> ChatMessage:
    blocks: list[Any] = []
    for part in marked["content"]:
        if (stood := part.get("stood")) is not None:
            blocks.append(messages[stood[0]].blocks[stood[1]])
        control = part.get("cache_control") or part.get("cachePoint")
        if control and part.get("type") != "cache":
            ttl = control.get("ttl", "5m")
            blocks.append(CachePoint(cache_control=CacheControl(type="ephemeral", ttl=ttl)))
    first = messages[marked["at"]]
    rest = {k: v for k, v in first.additional_kwargs.items() if k != "dynamic"}
    made: ChatMessage = first.model_copy(update={"blocks": blocks, "additional_kwargs": rest})
    return made


def marked_llm(llm: LLM, *, provider: Provider | None = None, **options: Any) -> LLM:
    """Return an LLM like this one that marks its prompts; it shares this one's attributes.

        Settings.llm = marked_llm(Anthropic(model="claude-sonnet-5"), ttl="1h")

    ``provider`` None: the LLM's own, by its ``class_name()``. ``options`` are those of
    ``shared_core.prefix.mark``. Only chat calls are marked. Raises ValueError for what is no LLM,
    and for options that ``mark`` refuses.
    """
    if not isinstance(llm, LLM):
        raise ValueError(f"llm must be an LLM of LlamaIndex, not {type(llm).__name__}")
    if hasattr(llm, SLOT):
        raise ValueError("mark first, then cache: cached_llm(marked_llm(llm))")
    if options.get("cached_content") is not None:
        raise ValueError("LlamaIndex takes cached_content at construction: GoogleGenAI(…)")
    chosen = provider or _PROVIDERS.get(llm.class_name(), "automatic")
    options = {"model": llm.metadata.model_name, **options}
    mark([], chosen, **options)  # wrong options raise now, not at the first call
    base = type(llm)
    if issubclass(base, _MarkedEndpoints):
        base = base.__mro__[_BEFORE_BASE]  # marked on new terms
    made = _class_of(base, chosen, options)
    twin: LLM = object.__new__(made)
    share_state(twin, llm)
    return twin


def _class_of(base: type[LLM], provider: Provider, options: dict[str, Any]) -> type[LLM]:
    name = f"Marked{base.__name__}"
    members: dict[str, Any] = {
        "__module__": base.__module__,
        "__qualname__": name,
        "__doc__": base.__doc__,
        "__slots__": (),
        "_marks": staticmethod(lambda messages: mark_messages(messages, provider, **options)),
        "__reduce__": lambda self: (_again, (_plain(self, base), provider, options)),
    }
    metaclass: Any = type(base)
    made: type[LLM] = metaclass(name, (_MarkedEndpoints, base), members)
    return made


def _again(llm: LLM, provider: Provider, options: dict[str, Any]) -> LLM:
    return marked_llm(llm, provider=provider, **options)


def _plain(llm: LLM, base: type[LLM]) -> LLM:
    plain: LLM = object.__new__(base)
    share_state(plain, llm)
    return plain


class _MarkedEndpoints(Mixed):
    """The chat endpoints, marking first; a class whose endpoints call each other marks once."""

    __slots__ = ()
    _marks: Any

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Any:
        marked, params = self._marks(messages)
        own: Any = super()
        return own.chat(marked, **{**params, **kwargs})

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Any:
        marked, params = self._marks(messages)
        own: Any = super()
        return await own.achat(marked, **{**params, **kwargs})

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Any:
        marked, params = self._marks(messages)
        own: Any = super()
        return own.stream_chat(marked, **{**params, **kwargs})

    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Any:
        marked, params = self._marks(messages)
        own: Any = super()
        return await own.astream_chat(marked, **{**params, **kwargs})
