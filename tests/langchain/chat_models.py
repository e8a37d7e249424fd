"""Chat models without a network, for tests of the LangChain adapter."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import Field, PrivateAttr

Reply = Callable[[list[BaseMessage]], AIMessage]


def echo(messages: list[BaseMessage]) -> AIMessage:
    """Answer with what was asked last."""
    return AIMessage(f"You said: {messages[-1].text}")


class Chat(BaseChatModel):
    """A model that LangChain does not serialise: its string lists the identifying parameters."""

    settings: dict[str, Any] = Field(default_factory=dict)
    reply: Reply = echo
    _seen: list[list[BaseMessage]] = PrivateAttr(default_factory=list)

    @property
    def calls(self) -> int:
        """Count the requests that reached the model."""
        return len(self._seen)

    @property
    def _llm_type(self) -> str:
        return "chat-of-tests"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": "tester", "temperature": 0.0, **self.settings}

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        self._seen.append(messages)
        return ChatResult(generations=[ChatGeneration(message=self.reply(messages))])


def openai_string(call: str = "[('stop', None)]", **kwargs: Any) -> str:
    """Spell a ChatOpenAI as LangChain does."""
    fields = {
        "model_name": "gpt-4o-mini",
        "temperature": 0.0,
        "openai_api_key": {"id": ["OPENAI_API_KEY"], "lc": 1, "type": "secret"},
        "stream_usage": True,
    }
    head = {
        "id": ["langchain", "chat_models", "openai", "ChatOpenAI"],
        "kwargs": {**fields, **kwargs},
        "lc": 1,
        "name": "ChatOpenAI",
        "type": "constructor",
    }
    return f"{json.dumps(head, sort_keys=True)}---{call}"


def prompt_of(*messages: BaseMessage) -> str:
    """Serialise messages as LangChain does for a cache."""
    return dumps([message.model_copy(update={"id": None}) for message in messages])
