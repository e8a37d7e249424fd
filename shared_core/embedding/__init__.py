"""Turn texts into vectors: one embedder out of anything that embeds, batched and remembered.

text --memo--> batching --> resolve: the app's own model, or local: a BERT on onnxruntime
"""

from shared_core.embedding.api import Embedder, EmbedderError, LoadError, Unresponsive, unit_rows
from shared_core.embedding.local import SentenceTransformerEmbedder, folder_of, source_of
from shared_core.embedding.memo import Memo
from shared_core.embedding.resolve import known_model, resolve_embedder

__all__ = [
    "Embedder",
    "EmbedderError",
    "LoadError",
    "Memo",
    "SentenceTransformerEmbedder",
    "Unresponsive",
    "folder_of",
    "known_model",
    "resolve_embedder",
    "source_of",
    "unit_rows",
]
