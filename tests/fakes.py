"""Stand-ins that behave: a clock, an embedder and a chat model, all deterministic."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from numpy import float32
from numpy.typing import NDArray
from pydantic import Field

DIMENSION = 64


class Clock:
    """A clock that stands until it is moved; seconds since the epoch."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def fake_embed(texts: Sequence[str]) -> NDArray[float32]:
    """Count words by their hash: texts that share words are near. Float32 (n, 64), unit rows."""
    rows = np.zeros((len(texts), DIMENSION), np.float32)
    for row, text in zip(rows, texts, strict=True):
        row[0] = 0.01
        for word in re.findall(r"\w+", text.lower()):
            row[int(hashlib.sha256(word.encode()).hexdigest(), 16) % DIMENSION] += 1
    unit: NDArray[float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


class FakeEmbedder:
    """``fake_embed`` as an ``Embedder`` that counts its tokens as words, and its calls."""

    def __init__(self, name: str = "fake", max_tokens: int | None = 32) -> None:
        self.name, self.dimension, self.max_tokens = name, DIMENSION, max_tokens
        self.calls: list[list[str]] = []

    def embed(self, texts: Sequence[str]) -> NDArray[float32]:
        self.calls.append(list(texts))
        return fake_embed(texts)

    def count_tokens(self, text: str) -> int:
        return len(text.split())


class FakeChatModel(BaseChatModel):
    """A chat model that answers from a table and keeps what it was asked.

    ``answers`` maps a question to its answer; others get "answer to: …". ``wait`` is called with
    ``latency`` (seconds) for each call; by default nothing waits.
    """

    model_name: str = "gpt-4o-mini"
    temperature: float | None = 0.0
    answers: dict[str, str] = Field(default_factory=dict)
    latency: float = 0.8
    wait: Callable[[float], object] = Field(default=lambda seconds: seconds, exclude=True)
    calls: list[list[BaseMessage]] = Field(default_factory=list, exclude=True)

    @property
    def _llm_type(self) -> str:
        return "fake-chat"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_name": self.model_name, "temperature": self.temperature}

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, *_: Any, **__: Any
    ) -> ChatResult:
        self.calls.append(messages)
        self.wait(self.latency)
        question = str(messages[-1].content)
        text = self.answers.get(question, f"answer to: {question}")
        asked = sum(len(str(message.content).split()) for message in messages)
        answered = len(text.split())
        message = AIMessage(
            text,
            response_metadata={"finish_reason": "stop", "model_name": self.model_name},
            usage_metadata={
                "input_tokens": asked,
                "output_tokens": answered,
                "total_tokens": asked + answered,
            },
        )
        return ChatResult(generations=[ChatGeneration(message=message)])
