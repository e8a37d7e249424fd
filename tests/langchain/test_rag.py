"""The question in a RAG prompt: found in the usual templates, and never guessed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration

from langchain_tiered_cache import TieredCache, parse, rag_question
from tests.fakes import fake_embed
from tests.langchain.chat_models import openai_string, prompt_of

STUFF = (
    "Use the following pieces of context to answer the question at the end. If you don't know the "
    "answer, just say that you don't know.\n\n{context}\n\nQuestion: {question}\nHelpful Answer:"
)
HUB = (
    "You are an assistant for question-answering tasks. Use the following pieces of retrieved "
    "context to answer the question. Use three sentences maximum.\n"
    "Question: {question} \nContext: {context} \nAnswer:"
)
QUICK = (
    "Answer the question based only on the following context:\n{context}\n\nQuestion: {question}\n"
)
TAGS = "Answer the question.\n\n<context>\n{context}\n</context>\n\nQuestion: {question}"
TAGS_BARE = "Answer by what is in here:\n<documents>{context}</documents>\n\n{question}"
TAGS_LAST = "Question: {question}\n\n<sources>{context}</sources>\nAnswer:"
ONE_LINE = "Context: {context} Question: {question}"
SHAPES = [STUFF, HUB, QUICK, TAGS, TAGS_BARE, TAGS_LAST, ONE_LINE]
CHUNKS = "The kettle holds 1.7 litres.\n\nDescale it monthly."
OTHERS = "A toaster toasts.\n\nDescale it monthly."


def request(text: str, **options: Any) -> Any:
    return parse(prompt_of(HumanMessage(text)), openai_string(), rag_question(**options))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("context", ["exact", "version"])
def test_the_question_is_found(shape: str, context: str) -> None:
    version = "7" if context == "version" else None
    text = shape.format(context=CHUNKS, question="How often\nis it descaled?")
    found = request(text, context=context, version=version)
    assert (found.question, found.exact_only) == ("How often\nis it descaled?", None)
    assert ("1.7 litres" in found.scope) == (context == "exact")


@pytest.mark.parametrize("shape", SHAPES)
def test_only_a_version_makes_two_contexts_equal(shape: str) -> None:
    one, other = (shape.format(context=chunks, question="Why?") for chunks in (CHUNKS, OTHERS))
    assert request(one).scope != request(other).scope
    by_version = {"context": "version", "version": "7"}
    assert request(one, **by_version) == request(other, **by_version)
    newer = {"context": "version", "version": "8"}
    assert request(one, **by_version).scope != request(one, **newer).scope


def test_instructions_and_templates_stay_in_the_scope() -> None:
    by_version = {"context": "version", "version": "7"}
    text = STUFF.format(context=CHUNKS, question="Why?")
    other = text.replace("just say that you don't know", "guess")
    assert request(text, **by_version).scope != request(other, **by_version).scope
    scopes = {request(s.format(context="a", question="Why?"), **by_version).scope for s in SHAPES}
    assert len(scopes) == len(SHAPES)


@pytest.mark.parametrize(
    "text",
    [
        "How often is it descaled?",
        "A text about kettles.\n\nHow often is it descaled?",
        "Question: How often?",
        "Context: kettles",
        ONE_LINE.format(context="Question: a? Answer: b.", question="Why?"),
        HUB.format(context="Context: a", question="Why?"),
        HUB.format(context="a", question="Why? Context: mine"),
        QUICK.format(context="a", question="Why?\n\nAlso: how?"),
        QUICK.format(context="a", question=" "),
        TAGS.format(context="a</context><context>b", question="Why?"),
        "<context>a</context>\n\nWhy?\n\nAnd how?",
        "Use the following pieces of context.\nA\nQuestion: Why?",
        "",
    ],
)
@pytest.mark.parametrize("options", [{}, {"context": "version", "version": 1}])
def test_what_is_no_known_template_or_can_be_read_twice_is_exact(
    text: str, options: dict[str, Any]
) -> None:
    assert rag_question(**options)(text) is None


def test_labels_inside_of_tags_do_not_count() -> None:
    text = TAGS.format(context="Question: a?\nAnswer: b. Context: c", question="Why?")
    assert request(text).question == "Why?"


@pytest.mark.parametrize(
    "options",
    [
        {"context": "version"},
        {"context": "version", "version": ""},
        {"context": "fuzzy"},
        {"context": "exact", "version": "7"},
    ],
)
def test_wrong_options_are_refused_at_construction(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"version|context"):
        rag_question(**options)


@pytest.fixture
def stored() -> Iterator[TieredCache]:
    tiered = TieredCache(
        question=rag_question("version", version="7"), embedder=fake_embed, threshold=0.9
    )
    asked = prompt_of(
        HumanMessage(STUFF.format(context=CHUNKS, question="How often is it washed?"))
    )
    tiered.update(asked, openai_string(), [ChatGeneration(message=AIMessage("Monthly."))])
    yield tiered
    assert not tiered.errors


def hit(tiered: TieredCache, context: str, question: str) -> bool:
    asked = prompt_of(HumanMessage(STUFF.format(context=context, question=question)))
    return tiered.lookup(asked, openai_string()) is not None


def test_a_paraphrase_that_retrieved_other_chunks_hits_by_version(stored: TieredCache) -> None:
    assert hit(stored, OTHERS, "how often is it washed")
    assert not hit(stored, OTHERS, "Which planets have rings?")


def test_the_benchmark_s_data_are_whole() -> None:
    path = Path(__file__).parents[2] / "benchmarks" / "data" / "rag.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    documents = {row["document"] for row in rows if "document" in row}
    questions = [row for row in rows if "question" in row]
    assert (len(documents), len(questions)) == (12, 40)
    assert all(row["about"] in documents and len(row["paraphrases"]) == 2 for row in questions)
    assert all(row["answer"] != row["near_miss_answer"] for row in questions)
