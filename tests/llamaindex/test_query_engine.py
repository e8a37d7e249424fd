"""The cached query engine: whole responses by question, within a version or the nodes found."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.response.schema import Response, StreamingResponse
from llama_index.core.evaluation import EvaluationResult, FaithfulnessEvaluator
from llama_index.core.postprocessor import SimilarityPostprocessor
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.prompts import PromptTemplate
from llama_index.core.query_engine import CustomQueryEngine
from llama_index.core.schema import QueryBundle, TextNode

from llamaindex_tiered_cache import CachedQueryEngine, cached_llm, feedback_from
from shared_core import ResponseCache
from tests.fakes import fake_embed
from tests.llamaindex.cases import QUESTION, TEXTS, City, oracle
from tests.llamaindex.fakes import FakeEmbedding, FakeLLM, said
from tests.llamaindex.leftovers import MARKS, collected  # noqa: F401 - for every test here

pytestmark = MARKS

PARAPHRASE = "How often should I descale the kettle please?"


@pytest.fixture
def cache(store_url: str) -> Iterator[ResponseCache]:
    with ResponseCache.open(store_url, embedder=fake_embed, threshold=0.8) as opened:
        yield opened


def engine(llm: Any, texts: Sequence[str] = TEXTS, **options: Any) -> Any:
    nodes = [TextNode(text=text, metadata={"n": len(text)}) for text in texts]
    index = VectorStoreIndex(nodes, embed_model=FakeEmbedding())
    return index.as_query_engine(llm=llm, **{"similarity_top_k": len(texts), **options})


class Reversed(BaseNodePostprocessor):
    """Turns the order around."""

    def _postprocess_nodes(self, nodes: Any, query_bundle: Any = None) -> Any:
        return nodes[::-1]


def contents(response: Any) -> list[str]:
    return [one.node.get_content() for one in response.source_nodes]


def mark(response: Any) -> dict[str, Any]:
    found: dict[str, Any] = response.metadata["tiered_cache"]
    return found


@pytest.mark.parametrize("version", [None, "handbook 1"])
@pytest.mark.parametrize("asked", [QUESTION, PARAPHRASE])
def test_a_question_is_answered_once_with_its_sources(
    cache: ResponseCache, asked: str, version: str | None
) -> None:
    llm = FakeLLM()
    first = CachedQueryEngine(engine(llm), cache, version=version).query(QUESTION)
    hit = CachedQueryEngine(engine(llm), cache, version=version).query(asked)
    assert llm.calls == ["chat"]
    assert isinstance(hit, Response)
    assert (str(hit), contents(hit)) == (str(first), contents(first))
    assert [one.score for one in hit.source_nodes] == pytest.approx(
        [one.score for one in first.source_nodes], abs=0.1
    )
    assert mark(first)["hit"] is False
    assert mark(hit)["tier"] == ("exact" if asked == QUESTION else "semantic")


@pytest.mark.parametrize("version", [None, "handbook 1"])
def test_blocking_and_awaited_queries_share_answers(
    cache: ResponseCache, version: str | None
) -> None:
    llm = FakeLLM()
    cached = CachedQueryEngine(engine(llm), cache, version=version)
    first = asyncio.run(cached.aquery(QUESTION))
    assert str(cached.query(QUESTION)) == str(first)
    assert mark(asyncio.run(cached.aquery(QUESTION)))["hit"]
    assert llm.calls == ["achat"]


def test_another_version_is_another_scope(cache: ResponseCache) -> None:
    llm = FakeLLM()
    for version in ("1", "2", "1"):
        CachedQueryEngine(engine(llm), cache, version=version).query(QUESTION)
    assert len(llm.calls) == 2


@pytest.mark.parametrize("asked", [QUESTION, PARAPHRASE])
def test_without_a_version_changed_documents_never_get_an_old_answer(
    cache: ResponseCache, asked: str
) -> None:
    llm = FakeLLM()
    CachedQueryEngine(engine(llm), cache).query(QUESTION)
    changed = [*TEXTS[:2], TEXTS[2].replace("20", "25")]
    CachedQueryEngine(engine(llm, changed), cache).query(asked)
    assert len(llm.calls) == 2


def test_without_a_version_the_order_of_nodes_is_no_matter(cache: ResponseCache) -> None:
    llm = FakeLLM()
    first = CachedQueryEngine(engine(llm), cache).query(QUESTION)
    other = engine(llm, node_postprocessors=[Reversed()])
    hit = CachedQueryEngine(other, cache).query(QUESTION)
    assert str(hit) == str(first)
    assert contents(hit) == contents(first)[::-1]
    assert len(llm.calls) == 1


def test_without_a_version_the_sources_are_the_nodes_of_this_very_query(
    cache: ResponseCache,
) -> None:
    llm = FakeLLM()
    CachedQueryEngine(engine(llm), cache).query(QUESTION)
    again = engine(llm)  # another index, whose nodes have other ids
    hit = CachedQueryEngine(again, cache).query(QUESTION)
    found = again.retrieve(QueryBundle(QUESTION))
    assert [one.node_id for one in hit.source_nodes] == [one.node_id for one in found]
    assert len(llm.calls) == 1


def test_with_a_version_a_hit_retrieves_nothing(cache: ResponseCache) -> None:
    inner = engine(FakeLLM())
    cached = CachedQueryEngine(inner, cache, version=1)
    cached.query(QUESTION)
    inner._retriever = None
    assert mark(cached.query(QUESTION))["hit"]


def test_engines_that_answer_otherwise_share_nothing(cache: ResponseCache) -> None:
    llm, other = FakeLLM(), FakeLLM(model="fake-2")
    template = PromptTemplate("{context_str} {query_str}")
    engines = [
        engine(llm),
        engine(other),
        engine(llm, response_mode="tree_summarize"),
        engine(llm, text_qa_template=template),
        engine(llm, text_qa_template=template.partial_format(context_str="x")),
    ]
    for one in engines:
        assert not mark(CachedQueryEngine(one, cache, version=1).query(QUESTION))["hit"]
    cached = CachedQueryEngine(engines[0], cache, version=1)
    cached.update_prompts({"response_synthesizer:text_qa_template": template})
    assert mark(cached.query(QUESTION))["hit"]  # as the fourth engine
    assert cached.get_prompts().keys() >= {"response_synthesizer:text_qa_template"}


@pytest.mark.parametrize("version", [None, "handbook 1"])
def test_streams_are_replayed_and_kept_when_they_end(
    cache: ResponseCache, version: str | None
) -> None:
    llm = FakeLLM()
    cached = CachedQueryEngine(engine(llm, streaming=True), cache, version=version)
    left: Any = cached.query(QUESTION)
    next(left.response_gen)
    del left
    miss: Any = cached.query(QUESTION)
    tokens = list(miss.response_gen)
    assert len(llm.calls) == 2
    hit: Any = cached.query(PARAPHRASE)
    assert isinstance(hit, StreamingResponse)
    assert list(hit.response_gen) == tokens
    assert len(tokens) > 1
    assert contents(hit) == contents(miss)

    async def ask() -> list[str]:
        response: Any = await cached.aquery(QUESTION)
        return [token async for token in response.async_response_gen()]

    assert asyncio.run(ask()) == tokens
    assert len(llm.calls) == 2


def test_an_awaited_stream_is_kept_when_it_ends(cache: ResponseCache) -> None:
    llm = FakeLLM()
    cached = CachedQueryEngine(engine(llm, streaming=True), cache, version=1)

    async def ask() -> list[str]:
        response: Any = await cached.aquery(QUESTION)
        return [token async for token in response.async_response_gen()]

    assert asyncio.run(ask()) == asyncio.run(ask())
    assert llm.calls == ["astream_chat"]


class Numbers(CustomQueryEngine):
    """An engine that does not tell what it retrieves."""

    def custom_query(self, query_str: str) -> Response:
        return Response("42", source_nodes=engine(FakeLLM()).retrieve(QueryBundle(query_str)))


def test_an_engine_that_cannot_retrieve_needs_a_version(cache: ResponseCache) -> None:
    with pytest.raises(ValueError, match="version="):
        CachedQueryEngine(Numbers(), cache)
    cached = CachedQueryEngine(Numbers(), cache, version="n")
    assert not mark(cached.query("How many?"))["hit"]
    assert mark(cached.query("How many?"))["hit"]


def test_answers_without_sources_and_objects_are_not_kept(cache: ResponseCache) -> None:
    nothing = engine(FakeLLM(), node_postprocessors=[SimilarityPostprocessor(similarity_cutoff=2)])
    cached = CachedQueryEngine(nothing, cache, version=1)
    for _ in range(2):
        assert not mark(cached.query(QUESTION))["hit"]
    objects = CachedQueryEngine(engine(FakeLLM(oracle), output_cls=City), cache, version=1)
    for _ in range(2):
        response = objects.query(QUESTION)
        assert response.response == City(name="Rome", people=3)
        assert not mark(response)["hit"]


def test_a_temperature_above_zero_is_matched_only_exactly(cache: ResponseCache) -> None:
    llm = FakeLLM(temperature=0.5)
    for asked in (QUESTION, PARAPHRASE, QUESTION):
        CachedQueryEngine(engine(llm), cache, version=1).query(asked)
    assert len(llm.calls) == 2


def test_what_the_engine_raises_is_raised(cache: ResponseCache) -> None:
    def fail(messages: Any, kwargs: Any) -> Any:
        raise LookupError("gone")

    cached = CachedQueryEngine(engine(FakeLLM(fail)), cache, version=1)
    for _ in range(2):
        with pytest.raises(LookupError, match="gone"):
            cached.query(QUESTION)


def test_namespaces_share_nothing(cache: ResponseCache) -> None:
    llm = FakeLLM()
    for namespace in ("a", "b", "a"):
        CachedQueryEngine(engine(llm), cache, version=1, namespace=namespace).query(QUESTION)
    assert len(llm.calls) == 2


# -------------------------------------------------------------------------------- evaluators


def judged(passing: bool) -> FaithfulnessEvaluator:
    verdict = "YES" if passing else "NO"
    return FaithfulnessEvaluator(llm=FakeLLM(lambda messages, kwargs: said(verdict)))


def evaluated(response: Any, passing: bool) -> EvaluationResult:
    return asyncio.run(judged(passing).aevaluate_response(response=response))


def test_an_evaluator_takes_wrong_answers_back(cache: ResponseCache) -> None:
    cached = CachedQueryEngine(engine(FakeLLM()), cache, version=1)
    response = cached.query(QUESTION)
    assert feedback_from(cache, response, evaluated(response, passing=True)) == 1
    response = cached.query(QUESTION)
    assert mark(response)["hit"]
    assert feedback_from(cache, response, evaluated(response, passing=False)) == 1
    assert not mark(cached.query(QUESTION))["hit"]


def test_an_evaluator_labels_what_is_served_by_meaning(cache: ResponseCache) -> None:
    llm = cached_llm(FakeLLM(), cache)
    engine(llm).query(QUESTION)
    with cache.trace() as trace:
        response = engine(llm).query(PARAPHRASE)
    assert feedback_from(cache, trace, evaluated(response, passing=False)) == 1
    assert cache.stats().labels == 1
    with cache.trace() as trace:
        engine(llm).query(PARAPHRASE)
    assert [getattr(event, "outcome", "stored") for event in trace.events] == ["miss", "stored"]


@pytest.mark.parametrize(
    "result", [EvaluationResult(), EvaluationResult(passing=True, invalid_result=True)], ids=str
)
def test_a_result_without_a_verdict_labels_nothing(
    cache: ResponseCache, result: EvaluationResult
) -> None:
    assert feedback_from(cache, "any id", result) == 0


def test_a_response_of_the_bare_model_labels_nothing(cache: ResponseCache) -> None:
    assert feedback_from(cache, FakeLLM().complete("x"), EvaluationResult(passing=True)) == 0


def test_wrong_arguments_raise_at_construction() -> None:
    with pytest.raises(ValueError, match="cache must be"):
        CachedQueryEngine(engine(FakeLLM()), 3)
    assert isinstance(CachedQueryEngine(engine(FakeLLM()), "memory://").cache, ResponseCache)
    assert issubclass(CachedQueryEngine, BaseQueryEngine)
