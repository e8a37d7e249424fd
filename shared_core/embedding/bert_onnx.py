"""BERT's layers with onnxruntime: the graph is written here, the weights stay where they are.

Nobody has to export a file, and nothing is kept on disk. The graph is five kilobytes in ONNX's
format, which is protobuf; the few kinds of fields that it needs are written by ``_field``.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from shared_core.embedding import LoadError
from shared_core.embedding.bert_folder import Shape
from shared_core.resilience import raising

if TYPE_CHECKING:
    from numpy import bool_, float32, int32
    from numpy.typing import NDArray

    from shared_core.embedding.bert import States
    from shared_core.embedding.bert_folder import Weights

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
    session = raising(LoadError, _session, _graph(shape, tensors), tensors)

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
