"""Run a BERT with mean pooling on onnxruntime: texts -> tokens -> their states -> the mean.

The weights are read straight from the folder of a sentence-transformers model, and the vectors are
that library's own but for the last bits of a float32; torch is not needed.
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared_core.concurrency import gate
from shared_core.embedding.api import LoadError
from shared_core.resilience import reraise_as

if TYPE_CHECKING:
    from numpy import bool_, float32, int32
    from numpy.typing import NDArray

    Weights = Mapping[str, NDArray[float32]]

    States = Callable[[NDArray[int32], NDArray[bool_]], NDArray[float32]]
    """Token ids and mask, both (n, l) -> states (n, l, d); where the mask is False, any numbers."""

GROUP_SIZE = 16
"""How many texts go through the layers together; more than 8 gain nothing."""

PADDING = 1.25
"""How much longer than the shortest of them the longest may be: the rest is padded to it."""

FREE_PADDING = 4
"""By how many tokens it may be longer in any case."""

MAX_TEXTS = 64
"""Newest texts whose tokens are kept: about as many as may wait for a pass of the model."""


class Bert:
    """One BERT in memory."""

    def __init__(self, folder: Path, shape: Shape, states: States) -> None:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        # One text at a time: encode_batch starts threads, and a fork after that complains. Kept,
        # as a text is read twice: to see that none of it is lost, and to embed it.
        self._tokens = lru_cache(MAX_TEXTS)(lambda text: tuple(tokenizer.encode(text).ids))
        self.unknown, self.dimension = shape.unknown, shape.dimension
        self.max_tokens = shape.max_tokens
        self._states = states

    def tokens(self, text: str) -> list[int]:
        """Return all tokens of a text, however many. Safe for threads."""
        return list(self._tokens(text))

    def rows(self, texts: list[str]) -> NDArray[float32]:
        """Return shape (n, d): the means of the tokens' states."""
        import numpy as np

        read = [self._cut(self.tokens(text)) for text in texts]
        rows = np.empty((len(texts), self.dimension), np.float32)
        for group in _groups([len(tokens) for tokens in read]):
            rows[group] = self._means([read[i] for i in group])
        return rows

    def _cut(self, tokens: list[int]) -> list[int]:
        if len(tokens) <= self.max_tokens:
            return tokens
        return [*tokens[: self.max_tokens - 1], tokens[-1]]

    def _means(self, read: Sequence[Sequence[int]]) -> NDArray[float32]:
        import numpy as np

        lengths = np.array([[len(tokens)] for tokens in read])
        mask = np.arange(lengths.max()) < lengths
        ids = np.zeros(mask.shape, np.int32)
        ids[mask] = [token for tokens in read for token in tokens]
        with gate:
            states = self._states(ids, mask)
        kept = np.where(mask[..., None], states, np.float32(0))
        means: NDArray[float32] = kept.sum(axis=1) / lengths.astype(np.float32)
        return means


def open_bert(folder: Path) -> Bert | None:
    """Load a folder's model; None if it is no plain BERT, or if the packages are not there.

    Raises LoadError for files that cannot be read, and for an onnxruntime that cannot run it.
    """
    if not all(map(find_spec, ("onnxruntime", "tokenizers"))):
        return None
    shape = shape_of(folder)
    if shape is None or not (folder / "model.safetensors").is_file():
        return None
    try:
        return Bert(folder, shape, states_by_onnx(shape, weights_of(folder)))
    except (OSError, ValueError, KeyError) as error:
        raise LoadError(f"the model in {str(folder)!r} cannot be read: {error}") from error


def _groups(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield the places of texts that are worth padding to one length."""
    group: list[int] = []
    most = 0.0
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if group and (len(group) == GROUP_SIZE or lengths[place] > most):
            yield group
            group = []
        if not group:
            most = max(PADDING * lengths[place], lengths[place] + FREE_PADDING)
        group.append(place)
    if group:
        yield group


# What lies in the folder of a sentence-transformers model, if it is a plain BERT.

_KINDS = (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])

_PLAIN: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
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
        said = {name: _read(folder / name) for name in (*_PLAIN, "tokenizer_config.json")}
        modules, tokenizer = _read(folder / "modules.json"), _read(folder / "tokenizer.json")
        pooling = _read(folder / modules[1]["path"] / "config.json")
        plain = (
            modules[0]["path"] == ""
            and [str(one["type"]).rpartition(".")[2] for one in modules] in _KINDS
            and _is_mean(pooling)
            and _is_of_bert(tokenizer, said["tokenizer_config.json"])
            and all(
                said[name].get(key) in values
                for name, wanted in _PLAIN.items()
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


# BERT's layers with onnxruntime: the graph is written here, the weights stay where they are.
#
# Nobody has to export a file, and nothing is kept on disk. The graph is five kilobytes in ONNX's
# format, which is protobuf; the few kinds of fields that it needs are written by ``_field``.


FUSED = "com.microsoft"
"""The domain of onnxruntime's own operators, which do several steps of BERT in one."""

FLOAT, INT32 = 1, 6
"""onnx.TensorProto.DataType"""

TRANSPOSED = {"transB": 1}

QUIET = 3
"""Log errors alone."""


def states_by_onnx(shape: Shape, weights: Weights) -> States:
    """Return the model as a function that runs in the thread that calls it, and in no other.

    Raises LoadError if this onnxruntime cannot do it, KeyError for weights that are not there.
    """
    tensors = _tensors(shape, weights)
    session = reraise_as(LoadError, _session, _graph(shape, tensors), tensors)

    def states(ids: NDArray[int32], mask: NDArray[bool_]) -> NDArray[float32]:
        found: NDArray[float32] = session.run(None, {"ids": ids, "mask": mask.astype("int32")})[0]
        return found

    return states


def _session(graph: bytes, tensors: Weights) -> Any:
    if "usearch" in sys.modules and "onnxruntime" not in sys.modules:
        # usearch 2.26 opens its symbols to what is loaded after it; onnxruntime 1.31 dies of that.
        raise ImportError("onnxruntime can not be loaded any more, as usearch was imported first")
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = QUIET
    values = [ort.OrtValue.ortvalue_from_numpy(tensor) for tensor in tensors.values()]
    options.add_external_initializers(list(tensors), values)
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _tensors(shape: Shape, weights: Weights) -> dict[str, NDArray[float32]]:
    """Return the weights that the graph names; queries, keys and values are one matrix (d, 3 d)."""
    import numpy as np

    tensors = dict(weights)
    for i in range(shape.layers):
        names = [f"encoder.layer.{i}.attention.self.{part}" for part in ("query", "key", "value")]
        matrices = [tensors.pop(f"{name}.weight") for name in names]
        biases = [tensors.pop(f"{name}.bias") for name in names]
        tensors[f"{i}.qkv"] = np.ascontiguousarray(np.concatenate(matrices).T)
        tensors[f"{i}.qkv.bias"] = np.concatenate(biases)
    places, kinds = (f"embeddings.{one}_embeddings.weight" for one in ("position", "token_type"))
    tensors[places] = tensors[places] + tensors.pop(kinds)[0]
    return tensors


def _graph(shape: Shape, tensors: Weights) -> bytes:
    """Return the model as ONNX (onnx.proto, IR version 8): ids, mask -> states."""
    states = f"{shape.layers}.x"
    graph = [
        *(_field(1, node) for node in _nodes(shape)),
        _field(2, "bert"),
        *(_field(5, _external(name, tensor.shape)) for name, tensor in tensors.items()),
        *(_field(11, _value(name, INT32, ("n", "l"))) for name in ("ids", "mask")),
        _field(12, _value(states, FLOAT, ("n", "l", shape.dimension))),
    ]
    opsets = (_field(1, domain) + _field(2, version) for domain, version in (("", 17), (FUSED, 1)))
    return b"".join([_field(1, 8), _field(7, b"".join(graph)), *(_field(8, one) for one in opsets)])


def _nodes(shape: Shape) -> Iterator[bytes]:
    words, places, norm = (f"embeddings.{one}" for one in ("word", "position", "LayerNorm"))
    tables = (f"{words}_embeddings.weight", f"{places}_embeddings.weight")
    read = ("ids", "", tables[0], tables[1], "", *_parts(norm))
    epsilon = {"epsilon": shape.epsilon}
    yield _node("EmbedLayerNormalization", read, "0.x", epsilon)
    for i in range(shape.layers):
        layer = f"encoder.layer.{i}"
        heads = {"num_heads": shape.heads}
        yield _node("Attention", (f"{i}.x", f"{i}.qkv", f"{i}.qkv.bias", "mask"), f"{i}.a", heads)
        yield from _added(f"{i}.a", f"{layer}.attention.output", f"{i}.x", f"{i}.b", epsilon)
        up, bias = _parts(f"{layer}.intermediate.dense")
        yield _node("FusedMatMul", (f"{i}.b", up), f"{i}.up", TRANSPOSED)
        yield _node("BiasGelu", (f"{i}.up", bias), f"{i}.gelu", {})
        yield from _added(f"{i}.gelu", f"{layer}.output", f"{i}.b", f"{i + 1}.x", epsilon)


def _added(
    x: str, block: str, skipped: str, result: str, epsilon: Mapping[str, float]
) -> Iterator[bytes]:
    """Yield a dense layer, what skipped it added, and their sum normalised."""
    dense, bias = _parts(f"{block}.dense")
    yield _node("FusedMatMul", (x, dense), f"{result}.dense", TRANSPOSED)
    inputs = (f"{result}.dense", skipped, *_parts(f"{block}.LayerNorm"), bias)
    yield _node("SkipLayerNormalization", inputs, result, epsilon)


def _parts(name: str) -> tuple[str, str]:
    return f"{name}.weight", f"{name}.bias"


def _node(
    op: str, inputs: Sequence[str], output: str, settings: Mapping[str, int | float]
) -> bytes:
    """Return a NodeProto."""
    spare = (output, f"{output}.spare") if op == "EmbedLayerNormalization" else (output,)
    return b"".join(
        [
            *(_field(1, name) for name in inputs),
            *(_field(2, name) for name in spare),
            _field(4, op),
            *(_field(5, _attribute(name, value)) for name, value in settings.items()),
            _field(7, FUSED),
        ]
    )


def _attribute(name: str, value: float) -> bytes:
    """Return an AttributeProto: a whole number, or a float32."""
    if isinstance(value, int):
        return _field(1, name) + _field(3, value) + _field(20, 2)
    return _field(1, name) + _varint(2 << 3 | 5) + struct.pack("<f", value) + _field(20, 1)


def _external(name: str, shape: Sequence[int]) -> bytes:
    """Return a TensorProto that says: float32, and its numbers are elsewhere."""
    elsewhere = _field(13, _field(1, "location") + _field(2, "given")) + _field(14, 1)
    return b"".join(_field(1, n) for n in shape) + _field(2, FLOAT) + _field(8, name) + elsewhere


def _value(name: str, kind: int, shape: Sequence[int | str]) -> bytes:
    """Return a ValueInfoProto of a tensor; a dimension with a name may be any."""
    sizes = (_field(1, _field(1 if isinstance(n, int) else 2, n)) for n in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, kind) + _field(2, b"".join(sizes))))


def _field(number: int, value: int | str | bytes) -> bytes:
    """Return one field of a protobuf message: a whole number, a text, or a message."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    """Return a whole number from 0 on, seven bits to a byte, the lowest first."""
    out = bytearray()
    while number > 0x7F:  # noqa: PLR2004 - the seven bits
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])
