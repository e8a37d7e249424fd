"""Any message is the sum of its chunks."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, message_chunk_to_message
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, Generation, GenerationChunk

from langchain_tiered_cache.streams import chat_chunks, text_chunks

TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)
BLOCK = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text, "annotations": []}, TEXT),
    st.builds(lambda text: {"type": "thinking", "thinking": text, "signature": "s"}, TEXT),
    st.builds(lambda text: {"type": "reasoning", "reasoning": text}, TEXT),
    st.builds(lambda value: {"type": "tool_use", "id": "t", "input": value}, JSON),
)
INDEXES = st.sampled_from(["none", "numbers", "texts", "equal"])
CALL = st.fixed_dictionaries(
    {"name": TEXT.filter(bool), "args": st.dictionaries(TEXT, JSON, max_size=3)}
)


@st.composite
def contents(draw: st.DrawFn) -> Any:
    if draw(st.booleans()):
        return draw(TEXT)
    blocks = draw(st.lists(BLOCK, max_size=4))
    match draw(INDEXES):
        case "none":
            return blocks
        case "numbers":
            return [{**block, "index": place} for place, block in enumerate(blocks)]
        case "texts":
            return [{**block, "index": f"lc_{place}"} for place, block in enumerate(blocks)]
        case _:
            return [{**block, "index": 0} for block in blocks]


@st.composite
def messages(draw: st.DrawFn) -> AIMessage:
    calls = draw(st.lists(CALL, max_size=3))
    metadata = {"finish_reason": "stop", "model_provider": "tester", "logprobs": {"content": [1]}}
    return AIMessage(
        content=draw(contents()),
        tool_calls=[{**call, "id": f"call_{place}"} for place, call in enumerate(calls)],
        additional_kwargs=draw(st.dictionaries(TEXT, JSON, max_size=2)),
        response_metadata={**metadata, "tiered_cache": {"hit": True, "tier": "exact"}},
    )


@settings(deadline=None)
@given(messages())
def test_the_chunks_of_a_message_sum_up_to_it(message: AIMessage) -> None:
    chunks = list(chat_chunks(ChatGeneration(message=message)))
    whole: ChatGenerationChunk = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert message_chunk_to_message(whole.message) == message
    at_once = chunks[0] + chunks[1:]
    assert message_chunk_to_message(at_once.message) == message
    assert [c.message.chunk_position for c in chunks[:-1]] == [None] * (len(chunks) - 1)  # type: ignore[attr-defined]


@given(TEXT)
def test_the_chunks_of_a_completion_sum_up_to_it(text: str) -> None:
    generation = Generation(text=text, generation_info={"finish_reason": "stop"})
    first, *others = text_chunks(generation)
    whole: GenerationChunk = first
    for chunk in others:
        whole += chunk
    assert (whole.text, whole.generation_info) == (text, generation.generation_info)
