"""Split long static texts into chunks, so that an edit costs only what it touches.

text -> split at sections, paragraphs, sentences -> key of each chunk -> values known | computed
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Generic, TypeVar
from zlib import crc32

from shared_core.options import Seconds, seconds
from shared_core.prefix.token_budget import Count, estimate_tokens
from shared_core.stores import KeyValue, StoreError

if TYPE_CHECKING:
    from shared_core.embedding import Embedder
    from shared_core.record import Vector


T = TypeVar("T")

MAX_CHARACTERS = 1200
"""Of a chunk: about 300 tokens."""

_PARAGRAPH = re.compile(r".+?(?:\n[ \t\r]*(?:\n[ \t\r]*)+|\n(?=#{1,6} )|\Z)", re.DOTALL)
_SENTENCE = re.compile(r".+?(?:[.!?…]['\")\]]*\s+|[。！？]|\n|\Z)", re.DOTALL)
_HEADING = re.compile(r"#{1,6} [^\n]*\s*\Z")


def split(text: str, most: int = MAX_CHARACTERS) -> list[str]:
    """Cut a text into chunks of at most ``most`` characters; joined, they are the text.

    A chunk ends where a paragraph does, a Markdown heading stays with what follows it. A longer
    paragraph is cut between sentences, at places that its own words decide: so an edit changes the
    chunks that it touches and seldom the next, whatever was inserted before them. Raises ValueError
    unless ``most`` is at least 1.
    """
    if most < 1:
        raise ValueError(f"a chunk must have room for a character, not {most!r}")
    chunks: list[str] = []
    heading = ""
    for found in _PARAGRAPH.finditer(text):
        paragraph = heading + found[0]
        heading = ""
        if _HEADING.match(paragraph) and found.end() < len(text):
            heading = paragraph
            continue
        chunks += [paragraph] if len(paragraph) <= most else _cut(paragraph, most)
    return chunks


def _cut(paragraph: str, most: int) -> Iterator[str]:
    """Cut between sentences: where the chunk is full, or where a sentence's digest says so."""
    chunk = ""
    for sentence in _sentences(paragraph, most):
        if len(chunk) + len(sentence) > most:
            yield chunk
            chunk = ""
        chunk += sentence
        # One sentence in four ends a chunk, wherever it stands: cuts find each other again.
        if crc32(sentence.encode("utf-8", "surrogatepass")) % 4 == 0:
            yield chunk
            chunk = ""
    if chunk:
        yield chunk


def _sentences(paragraph: str, most: int) -> Iterator[str]:
    for found in _SENTENCE.finditer(paragraph):
        for start in range(0, len(found[0]), most):
            yield found[0][start : start + most]


@dataclass(frozen=True, slots=True)
class Chunked(Generic[T]):
    """The chunks of a text, a value for each, and whether it was there already.

    ``reused`` counts chunks, ``share`` is their part of all chunks and ``share_of_text`` their part
    of the text's characters, 0..1.
    """

    chunks: tuple[str, ...]
    values: tuple[T, ...]
    known: tuple[bool, ...]

    @property
    def reused(self) -> int:
        """Return how many chunks' values were not computed for this text."""
        return sum(self.known)

    @property
    def share(self) -> float:
        """Return the share of chunks whose values were there."""
        return self.reused / len(self.chunks) if self.chunks else 0.0

    @property
    def share_of_text(self) -> float:
        """Return the share of characters whose chunks' values were there."""
        sizes = list(map(len, self.chunks))
        kept = sum(size for size, known in zip(sizes, self.known, strict=True) if known)
        return kept / sum(sizes) if sizes else 0.0


class ChunkCache:
    """Values of chunks in a store, under the chunk's digest and what was computed of it.

    ``values`` is a ``KeyValue``, such as ``cache.values`` or ``open_store(url)``; ``ttl`` in
    seconds, None for ever. A store that fails is as one that knows nothing. Raises ValueError for
    an empty namespace or a ttl that makes no sense.

        chunks = ChunkCache(cache.values)
        chunks.embeddings(handbook, embedder).share  # 0.0, and after an edit 0.98
    """

    def __init__(
        self,
        values: KeyValue,
        namespace: str = "default",
        ttl: Seconds | None = None,
        most: int = MAX_CHARACTERS,
    ) -> None:
        if not isinstance(namespace, str) or not namespace:
            raise ValueError(f"namespace must be a text that is not empty, not {namespace!r}")
        self._store, self._namespace, self._most = values, namespace, most
        self._ttl = None if ttl is None else seconds("ttl", ttl)

    def compute(
        self,
        text: str,
        kind: str,
        function: Callable[[list[str]], Sequence[T]],
        *,
        encode: Callable[[T], bytes] = lambda value: json.dumps(value).encode(),
        decode: Callable[[bytes], T] = json.loads,
    ) -> Chunked[T]:
        """Return a value for each chunk; ``function`` is given the unknown ones, each once.

        ``kind`` names what is computed and by which model: values of two kinds never meet.
        ``encode`` and ``decode`` are JSON by default. Raises what ``function`` raises, ValueError
        for an empty kind or another number of values than of chunks.
        """
        if not kind:
            raise ValueError('kind must say what is computed, such as "summary:gpt-4o-mini"')
        chunks = split(text, self._most)
        keys = {chunk: self._key(kind, chunk) for chunk in chunks}
        known = self._known(keys, decode)
        missing = [chunk for chunk in keys if chunk not in known]
        made = list(function(missing)) if missing else []
        if len(made) != len(missing):
            raise ValueError(f"{len(missing)} chunks were given, and {len(made)} values came back")
        fresh = dict(zip(missing, made, strict=True))
        self._keep({keys[chunk]: encode(value) for chunk, value in fresh.items()})
        values = known | fresh
        return Chunked(
            tuple(chunks),
            tuple(values[chunk] for chunk in chunks),
            tuple(chunk in known for chunk in chunks),
        )

    def embeddings(self, text: str, embedder: Embedder) -> Chunked[Vector]:
        """Return the vector of each chunk, float32 of shape (d,)."""
        import numpy as np

        def decode(stored: bytes) -> Vector:
            vector = np.frombuffer(stored, np.float32)
            if len(vector) != embedder.dimension:
                raise ValueError("a vector of another model")
            return vector

        def encode(vector: Vector) -> bytes:
            return np.asarray(vector, np.float32).tobytes()

        def made(chunks: list[str]) -> list[Vector]:
            return list(embedder.embed(chunks))

        kind = f"embedding:{embedder.name}:{embedder.dimension}"
        return self.compute(text, kind, made, encode=encode, decode=decode)

    def tokens(self, text: str, count: Count = estimate_tokens, name: str = "estimate") -> int:
        """Return the tokens of a text, chunk by chunk; ``name`` is that of the tokenizer.

        A tokenizer may count a few less in the whole than in its chunks.
        """
        counted = self.compute(text, f"tokens:{name}", lambda chunks: [count(c) for c in chunks])
        return sum(counted.values)

    def _key(self, kind: str, chunk: str) -> str:
        head = f"{len(kind)}:{kind}:"
        digest = sha256((head + chunk).encode("utf-8", "surrogatepass")).hexdigest()
        return f"chunk:{len(self._namespace)}:{self._namespace}:{digest}"

    def _known(self, keys: dict[str, str], decode: Callable[[bytes], T]) -> dict[str, T]:
        try:
            stored = self._store.get_many(list(keys.values())) if keys else {}
        except StoreError:
            return {}
        known: dict[str, T] = {}
        for chunk, key in keys.items():
            if key in stored:
                try:
                    known[chunk] = decode(stored[key])
                except ValueError:  # not what was stored: computed anew
                    continue
        return known

    def _keep(self, values: dict[str, bytes]) -> None:
        if not values:
            return
        try:
            self._store.put_many(values, self._ttl)
        except StoreError:
            return  # next time they are computed again
