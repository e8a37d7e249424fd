"""A local model behind LangChain that reads its handbook once.

    python examples/kv_prefix.py

Every question stands behind the same handbook. The first one makes the model read it; for the
others its attention states are there, and only the question runs. The model is a tiny Llama with
random weights, so nothing is downloaded and what it says means nothing; put a model and tokenizer
of your own in its place.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from langchain_core.language_models import LLM
from pydantic import PrivateAttr
from transformers import LlamaConfig, LlamaForCausalLM

from shared_core.prefix.kv_reuse import KVPrefixCache, Reuse

HANDBOOK = (
    "A loan ends after four weeks. It can be renewed twice, unless somebody waits for it. " * 24
)
QUESTIONS = ("How long is a loan?", "How often is it renewed?", "Who may wait for a book?")


def tiny_model(seed: int = 0, **sizes: Any) -> Any:
    """Return a Llama of four layers with random weights whose tokens are bytes.

    ``sizes`` are those of ``LlamaConfig`` that are to be others.
    """
    torch.manual_seed(seed)
    tiny = {
        "vocab_size": 256,
        "hidden_size": 128,
        "intermediate_size": 344,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 0,
    }
    return LlamaForCausalLM(LlamaConfig(**{**tiny, **sizes})).eval()


class LocalModel(LLM):
    """LangChain's LLM over a transformers model whose prompts share fronts."""

    max_new_tokens: int = 16
    _states: KVPrefixCache = PrivateAttr()

    def __init__(self, states: KVPrefixCache, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._states = states

    @property
    def _llm_type(self) -> str:
        return "local"

    def _call(self, prompt: str, stop: list[str] | None = None, *_: Any, **__: Any) -> str:
        ids = list(prompt.encode())
        told = self._states.generate(ids, max_new_tokens=self.max_new_tokens, do_sample=False)
        return bytes(told[0, len(ids) :].tolist()).decode(errors="replace")

    def read(self, front: str) -> Reuse:
        """Read a front now, so that no question has to wait for it."""
        return self._states.prefill(list(front.encode()))


def session(model: Any) -> list[tuple[str, float, Reuse]]:
    """Ask every question; return it with its seconds and what of its prompt was reused."""
    states = KVPrefixCache(model)
    llm = LocalModel(states)
    started = time.perf_counter()
    read = llm.read(HANDBOOK)
    told = [("the handbook", time.perf_counter() - started, read)]
    for question in QUESTIONS:
        prompt = f"{HANDBOOK}\n\nQuestion: {question}\nAnswer:"
        _, reuse = states.past(list(prompt.encode()))
        started = time.perf_counter()
        llm.invoke(prompt)
        told.append((question, time.perf_counter() - started, reuse))
    return told


def main() -> None:
    """Print a line for each prompt."""
    for name, took, reuse in session(tiny_model()):
        print(f"{took * 1e3:8.1f} ms  {reuse.reused:4} of {reuse.tokens} tokens reused  {name}")


if __name__ == "__main__":
    main()
