"""What lies in the folder of a sentence-transformers model, if it is a plain BERT."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy import bool_, float32, int32
    from numpy.typing import NDArray

    Weights = Mapping[str, NDArray[float32]]

    States = Callable[[NDArray[int32], NDArray[bool_]], NDArray[float32]]
    """Token ids and mask, both (n, l) -> states (n, l, d); where the mask is False, any numbers."""

KINDS = (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])

PLAIN: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "config.json": {
        "model_type": ("bert",),
        "hidden_act": ("gelu",),
        "position_embedding_type": ("absolute", None),
        "is_decoder": (False, None),
        "add_cross_attention": (False, None),
    },
    "sentence_bert_config.json": {"do_lower_case": (False, None), "query_expansion": (None,)},
    "config_sentence_transformers.json": {"default_prompt_name": (None,)},
}
"""What files must say; None is what they may leave out."""

NORMALIZER = {"lowercase": "do_lower_case", "handle_chinese_chars": "tokenize_chinese_chars"}
"""What tokenizer.json says and tokenizer_config.json may overrule: both must say the same."""


AROUND = ["SpecialToken", "Sequence", "SpecialToken"]
"""[CLS], the text, [SEP]."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a BERT is, and what its tokenizer calls what it does not know."""

    layers: int
    heads: int
    dimension: int
    epsilon: float
    max_tokens: int
    unknown: int


def shape_of(folder: Path) -> Shape | None:
    """Return the shape of a folder's model, or None for one that needs sentence-transformers.

    Plain is: BERT, BERT's own tokenizer, the mean over all tokens, and nothing after it but
    normalisation, which every vector gets. Whatever does not say that it is so is not.
    """
    try:
        said = {name: _read(folder / name) for name in (*PLAIN, "tokenizer_config.json")}
        modules, tokenizer = _read(folder / "modules.json"), _read(folder / "tokenizer.json")
        pooling = _read(folder / modules[1]["path"] / "config.json")
        plain = (
            modules[0]["path"] == ""
            and [str(one["type"]).rpartition(".")[2] for one in modules] in KINDS
            and _is_mean(pooling)
            and _is_of_bert(tokenizer, said["tokenizer_config.json"])
            and all(
                said[name].get(key) in values
                for name, wanted in PLAIN.items()
                for key, values in wanted.items()
            )
        )
        return _shape(said, tokenizer) if plain else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None  # not as such folders are


def _read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def _is_mean(pooling: Mapping[str, Any]) -> bool:
    """Say whether the pooling is the mean, in the words of any version."""
    flags = {key for key, on in pooling.items() if key.startswith("pooling_mode_") and on is True}
    named = pooling.get("pooling_mode")
    return (
        named in ("mean", ["mean"]) if named is not None else flags == {"pooling_mode_mean_tokens"}
    )


def _is_of_bert(tokenizer: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    normalizer = tokenizer["normalizer"]
    return (
        normalizer["type"] == "BertNormalizer"
        and normalizer["clean_text"] is True
        and normalizer["strip_accents"] is config.get("strip_accents")
        and all(normalizer[key] is config.get(name, True) for key, name in NORMALIZER.items())
        and tokenizer["pre_tokenizer"]["type"] == "BertPreTokenizer"
        and tokenizer["model"]["type"] == "WordPiece"
        and [next(iter(part)) for part in tokenizer["post_processor"]["single"]] == AROUND
    )


def _shape(said: Mapping[str, Mapping[str, Any]], tokenizer: Mapping[str, Any]) -> Shape:
    config = said["config.json"]
    positions = int(config["max_position_embeddings"])
    limit = said["sentence_bert_config.json"].get("max_seq_length")
    if limit is None:
        limit = said["tokenizer_config.json"]["model_max_length"]
    model = tokenizer["model"]
    return Shape(
        config["num_hidden_layers"],
        config["num_attention_heads"],
        config["hidden_size"],
        config["layer_norm_eps"],
        min(int(limit), positions),
        model["vocab"][model["unk_token"]],
    )


def weights_of(folder: Path) -> Weights:
    """Return the float32 tensors of model.safetensors by their names, mapped: nothing is read yet.

    Raises ValueError for numbers of another kind, and OSError.
    """
    import numpy as np

    raw = np.memmap(folder / "model.safetensors", np.uint8, "r")
    start = 8 + int(raw[:8].view("<u8")[0])
    weights = {}
    for name, tensor in json.loads(raw[8:start].tobytes()).items():
        if name.startswith(("encoder.", "embeddings.")) and not name.endswith("position_ids"):
            if tensor["dtype"] != "F32":
                raise ValueError(f"weights are {tensor['dtype']}, not F32")
            first, last = tensor["data_offsets"]
            weights[name] = raw[start + first : start + last].view("<f4").reshape(tensor["shape"])
    return weights
