"""What the cache API is sent and what it answers, as OpenAPI describes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints

Text = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
Tag = Annotated[str, StringConstraints(min_length=1, max_length=256)]
NamespaceName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9_.\-]{1,64}(:[A-Za-z0-9_.\-]{1,64}){0,2}$"),
]
Lifetime = Annotated[float, Field(gt=0, le=10**10, allow_inf_nan=False)]
Interval = Annotated[list[float], Field(min_length=2, max_length=2)]

QUESTION: dict[str, Any] = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "What is a fuse?"}],
    "params": {"temperature": 0},
}
ENTRY = "7c9e" * 16


def _example(value: Any) -> ConfigDict:
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [value]})


class Function(BaseModel):
    """What a tool call calls; ``arguments`` is JSON as the model wrote it."""

    name: str
    arguments: str


class ToolCall(BaseModel):
    """A tool call of an assistant's message."""

    id: str
    type: str = "function"
    function: Function


class Message(BaseModel):
    """A message as chat completions take it; other fields than these are taken as they are."""

    model_config = ConfigDict(extra="allow")

    role: Text
    content: str | list[str | dict[str, JsonValue]] | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None


class Params(BaseModel):
    """The other arguments of a chat completion, such as ``temperature`` or ``tools``."""

    model_config = ConfigDict(extra="allow")

    temperature: Annotated[float, Field(allow_inf_nan=False)] | None = None


class Asked(BaseModel):
    """One request to a model; its answers are those that the proxy gives and keeps."""

    model_config = _example(QUESTION)

    model: Text
    messages: Annotated[list[Message], Field(min_length=1)]
    params: Params = Params()


class Answered(BaseModel):
    """A model's answer in plain text; ``usage`` counts ``input_tokens`` and ``output_tokens``."""

    model_config = ConfigDict(extra="forbid")

    content: str
    model: Text | None = None
    finish_reason: Text | None = None
    usage: dict[Text, Annotated[int, Field(ge=0, le=10**12)]] | None = None


class AskedAndAnswered(Asked):
    """An answer to be kept."""

    model_config = _example({**QUESTION, "answer": {"content": "It melts."}, "tags": ["wiring"]})

    answer: Answered
    tags: list[Tag] = []
    ttl: Lifetime | None = Field(
        default=None, description="Seconds; none: as long as the server says."
    )


class Found(BaseModel):
    """How a lookup ended: ``answer`` is there on a hit, ``reason`` otherwise.

    An "explore" has a candidate that is not proven: ask the model, and set its answer.
    """

    model_config = _example(
        {
            "outcome": "hit",
            "answer": {"content": "It melts.", "model": None, "finish_reason": "stop"},
            "tier": "exact",
            "similarity": 1.0,
            "entry_id": ENTRY,
            "age": 12.5,
            "reason": None,
            "namespace": "shop",
        }
    )

    outcome: Literal["hit", "explore", "miss"]
    answer: Answered | None = None
    tier: Literal["exact", "semantic"] | None = None
    similarity: float | None = None
    entry_id: str | None = None
    age: float | None = Field(default=None, description="Seconds since the answer was stored.")
    reason: str | None = None
    namespace: str = Field(description="Where it was looked for.")


class Kept(BaseModel):
    """Whether an answer is kept, and under what name for feedback."""

    model_config = _example({"stored": True, "entry_id": ENTRY, "namespace": "shop"})

    stored: bool
    entry_id: str | None
    namespace: str


class Verdict(BaseModel):
    """What somebody says of an answer that was served."""

    model_config = _example({"entry_id": ENTRY, "correct": False})

    entry_id: Text
    correct: bool
    source: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_\-]{1,32}$")] = "app"


class Taken(BaseModel):
    """Whether the verdict counts; not of an entry that is not there, or is another tenant's."""

    model_config = _example({"taken": True})

    taken: bool


class ToInvalidate(BaseModel):
    """Which entries are to go: those that match all that is given, of which there is something."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"tag": "wiring"}, {"older_than": 86400.0, "model": "gpt-4o-mini"}],
            "anyOf": [
                {"required": [name], "properties": {name: {"not": {"type": "null"}}}}
                for name in ("entry_id", "model", "tag", "older_than", "similar_to")
            ],
        },
    )

    entry_id: Text | None = None
    model: Text | None = None
    tag: Tag | None = None
    older_than: Annotated[float, Field(ge=0, le=10**10, allow_inf_nan=False)] | None = Field(
        default=None, description="Seconds."
    )
    similar_to: Asked | None = Field(
        default=None, description="All questions of its scope that are near."
    )
    similarity: Annotated[float, Field(ge=-1, le=1)] = 0.9
    namespace: NamespaceName | None = Field(
        default=None,
        description="For administrators: a part of the key's namespace, such as shop:eu.",
    )


class Removed(BaseModel):
    """How many entries are gone."""

    model_config = _example({"removed": 3})

    removed: int


class ToWarm(BaseModel):
    """Answers to be kept before anybody asks; what is there already is left as it is."""

    model_config = _example({"rows": [{**QUESTION, "answer": {"content": "It melts."}}]})

    rows: Annotated[list[AskedAndAnswered], Field(min_length=1, max_length=10_000)]


class Progress(BaseModel):
    """How far warming is; the last event has ``done`` equal to ``total``."""

    model_config = _example({"done": 50, "total": 50, "stored": 48, "present": 2, "failed": 0})

    done: int
    total: int
    stored: int
    present: int
    failed: int


class CacheStats(BaseModel):
    """What all processes that share the store ever did; see ``shared_core.Stats`` for the fields.

    Latencies are those of the process that answers.
    """

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"lookups": 4, "hits": 3, "hit_rate": 0.75}]}
    )

    lookups: int
    hits: int
    hits_by_tier: Mapping[str, int]
    rates_by_tier: Mapping[str, float]
    hit_rate: float
    explores: int
    misses: Mapping[str, int]
    coalesced: int
    stores: int
    feedback: Mapping[str, int]
    policy: Mapping[str, Any]
    progress: str | None
    labels: int
    error_per_hit: float | None
    error_interval: Interval
    error_per_request: float | None
    error_per_request_interval: Interval
    shadow: Mapping[str, Any] | None
    errors: Mapping[str, int]
    breakers: Mapping[str, str]
    tokens_saved: Mapping[str, int]
    money_saved: float | None
    latency: Mapping[str, Mapping[str, float]]
    prefix_hits: int
    prefix_tokens: int
