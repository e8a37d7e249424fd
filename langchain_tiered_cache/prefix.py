"""Wrap a chat model so that its provider keeps the front of its prompts: ``marked(model)``.

messages -> static before dynamic, breakpoints -> the model, with what goes beside the messages
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, convert_to_messages
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import Runnable, RunnableBinding, RunnableLambda

from shared_core.prefix import Marked, Provider, mark

_PROVIDERS: dict[str, Provider] = {
    "anthropic": "anthropic",
    "openai": "openai",
    "azure": "openai",
    "google_genai": "gemini",
    "google_vertexai": "gemini",
    "amazon_bedrock": "bedrock",
}
_ROLES = {"human": "user", "ai": "assistant"}


def mark_messages(
    messages: Sequence[BaseMessage], provider: Provider, **options: Any
) -> tuple[list[BaseMessage], Marked]:
    """Return messages as the provider is to see them, and all else that ``mark`` says.

    ``options`` are those of ``shared_core.prefix.mark``. A system message is dynamic if its
    ``additional_kwargs`` say ``"dynamic": True``, a part of one if it says so itself. The messages
    that were given are not changed.
    """
    neutral = [
        {"role": _ROLES.get(one.type, one.type), "content": one.content, "at": at}
        | ({"dynamic": True} if one.additional_kwargs.get("dynamic") else {})
        for at, one in enumerate(messages)
    ]
    marked = mark(neutral, provider, **options)
    return [_updated(messages[one["at"]], one["content"]) for one in marked.messages], marked


def _updated(message: BaseMessage, content: Any) -> BaseMessage:
    if content == message.content and "dynamic" not in message.additional_kwargs:
        return message
    rest = {k: v for k, v in message.additional_kwargs.items() if k != "dynamic"}
    return message.model_copy(update={"content": content, "additional_kwargs": rest})


def marked(
    model: Runnable[LanguageModelInput, AIMessage],
    *,
    provider: Provider | None = None,
    **options: Any,
) -> Runnable[LanguageModelInput, AIMessage]:
    """Return a model that marks its prompts; invoke, stream and batch it as before.

        model = marked(ChatAnthropic(model="claude-sonnet-5").bind_tools(tools), ttl="1h")

    ``model`` is a chat model, also one with tools or other arguments bound. ``provider`` None: the
    model's own, by LangChain's name for it. ``options`` are those of ``shared_core.prefix.mark``.
    Raises ValueError for what is no chat model, and for options that ``mark`` refuses.
    """
    bound: dict[str, Any] = {}
    inner: Any = model
    while isinstance(inner, RunnableBinding):
        bound = {**inner.kwargs, **bound}
        inner = inner.bound
    if not isinstance(inner, BaseChatModel):
        raise ValueError(
            f"model must be a chat model, with tools bound or not, not {type(inner).__name__}; "
            "mark it before with_structured_output or a chain is made of it"
        )
    chosen, name = _provider_of(inner)
    chosen = provider or chosen
    options = {"model": name, **options}
    mark([], chosen, **options)  # wrong options raise now, not at the first call

    def route(value: LanguageModelInput) -> Runnable[Any, AIMessage]:
        tools = bound.get("tools") or ()
        plain = tools if all(isinstance(tool, dict) for tool in tools) else ()
        messages, found = mark_messages(_messages_of(value), chosen, tools=plain, **options)
        beside = found.params | ({"tools": found.tools} if plain else {})

        def given(_: Any) -> list[BaseMessage]:
            return messages

        return RunnableLambda(given) | (model.bind(**beside) if beside else model)

    return RunnableLambda(route, name=f"marked {inner.get_name()}")


def _messages_of(value: Any) -> list[BaseMessage]:
    if isinstance(value, PromptValue):
        return value.to_messages()
    return [HumanMessage(value)] if isinstance(value, str) else convert_to_messages(value)


def _provider_of(model: BaseChatModel) -> tuple[Provider, str]:
    """Return provider and model by what the model tells LangSmith of itself."""
    params = model._get_ls_params()
    name = str(params.get("ls_model_name") or "")
    return _PROVIDERS.get(str(params.get("ls_provider")), "automatic"), name


def prefix_middleware(*, provider: Provider | None = None, **options: Any) -> Any:
    """Return an agent middleware that marks every prompt of ``create_agent``'s model.

    It takes what ``marked`` takes. Raises ImportError without the package ``langchain``.
    """
    try:
        from langchain.agents.middleware import AgentMiddleware
    except ImportError as error:
        raise ImportError("a middleware is of langchain's agents: pip install langchain") from error

    def override(request: Any) -> Any:
        chosen, name = _provider_of(request.model)
        system = [request.system_message] if request.system_message is not None else []
        messages, found = mark_messages(
            [*system, *request.messages], provider or chosen, **{"model": name, **options}
        )
        changed: dict[str, Any] = {"model_settings": {**request.model_settings, **found.params}}
        if system and messages and messages[0].type == "system":
            changed["system_message"] = messages.pop(0)
        return request.override(messages=messages, **changed)

    class PrefixMiddleware(AgentMiddleware[Any, Any]):
        """Marks the front of each prompt before the model is called."""

        def wrap_model_call(self, request: Any, handler: Any) -> Any:
            return handler(override(request))

        async def awrap_model_call(self, request: Any, handler: Any) -> Any:
            return await handler(override(request))

    return PrefixMiddleware()
