"""Responses of query engines as answers and back: text, source nodes and metadata, as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llama_index.core.base.response.schema import RESPONSE_TYPE, Response
from llama_index.core.schema import NodeWithScore
from llama_index.core.storage.docstore.utils import doc_to_json, json_to_doc

from llamaindex_tiered_cache.query_request import QUERY_FORMAT
from llamaindex_tiered_cache.responses import MARK, Delta
from llamaindex_tiered_cache.serving import Serving
from shared_core.record import Answer

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

    def fresh(self, response: RESPONSE_TYPE, entry_id: str | None) -> RESPONSE_TYPE:
        """Note under which id the engine's own response is kept."""
        return _marked(response, {"hit": False, "entry_id": entry_id})


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
