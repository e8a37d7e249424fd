"""Measure what no cache can be faster than: the one thing each way of answering cannot do without.

They answer as contenders do, and stand beside the caches in the tables: a dictionary, one GET, one
pass of the model over the bare question, and that pass with one FT.SEARCH of one field. No scope,
no guard, no message is built.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from asks import Ask
from contender import Contender, Setting

DIMENSION = 384


def dictionary(setting: Setting) -> Contender:
    kept: dict[str, str] = {}
    return Contender(
        lambda ask, text: kept.update({ask.prompt: text}), lambda a: kept.get(a.prompt)
    )


def one_get(setting: Setting) -> Contender:
    import redis

    client = redis.Redis.from_url(setting.redis)

    def name(ask: Ask) -> str:
        return f"floor:get:{sha256(ask.prompt.encode()).hexdigest()}"

    def look(ask: Ask) -> str | None:
        found: Any = client.get(name(ask))
        return None if found is None else str(found, "utf-8")

    return Contender(lambda ask, text: client.set(name(ask), text), look, close=client.close)


def embedder(setting: Setting) -> Any:
    from shared_core.embedding import SentenceTransformerEmbedder

    return SentenceTransformerEmbedder(setting.model, route="onnx")


def one_pass(setting: Setting) -> Contender:
    """Embed the question and answer nothing."""
    embed = embedder(setting).embed
    return Contender(lambda ask, text: None, lambda ask: (embed([ask.question]), None)[1])


def pass_and_search(setting: Setting) -> Contender:
    import numpy as np
    import redis

    client, embed = redis.Redis.from_url(setting.redis, protocol=2), embedder(setting).embed
    vector = ("VECTOR", "FLAT", 6, "TYPE", "FLOAT16", "DIM", DIMENSION, "DISTANCE_METRIC", "COSINE")
    place = ("ON", "HASH", "PREFIX", 1, "floor:search:")
    client.execute_command("FT.CREATE", "floor", *place, "SCHEMA", "v", *vector)

    def data(ask: Ask) -> bytes:
        return np.asarray(embed([ask.question])[0], "<f2").tobytes()

    def store(ask: Ask, text: str) -> None:
        digest = sha256(ask.question.encode()).hexdigest()
        client.hset(f"floor:search:{digest}", mapping={"v": data(ask), "text": text})

    def look(ask: Ask) -> str | None:
        search = ("FT.SEARCH", "floor", "*=>[KNN 1 @v $v AS d]", "RETURN", 2, "text", "d")
        reply = client.execute_command(*search, "DIALECT", 2, "PARAMS", 2, "v", data(ask))
        found = dict(zip(reply[2][::2], reply[2][1::2], strict=True))
        near = 1 - float(found[b"d"]) >= (setting.similarity or 0)
        return str(found[b"text"], "utf-8") if near else None

    return Contender(store, look, close=client.close)
