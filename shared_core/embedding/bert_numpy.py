"""BERT's layers with numpy (J. Devlin et al., 2018, and A. Vaswani et al., 2017)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from shared_core.embedding.bert_weights import Shape

if TYPE_CHECKING:
    from numpy import bool_, float32, int32
    from numpy.typing import NDArray

    from shared_core.embedding.bert_weights import States, Weights

    Floats = NDArray[float32]

NEVER = np.float32(-1e30)
"""What is added to the score of a token that is padding."""

ERF = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
ERF_P = np.float32(0.3275911)
"""Abramowitz and Stegun, formula 7.1.26, errs by at most 1.5e-7."""


def states_by_numpy(shape: Shape, weights: Weights) -> States:
    """Return the model as a function. Raises KeyError for weights that are not there.

    numpy takes as many threads as OMP_NUM_THREADS or OPENBLAS_NUM_THREADS say.
    """
    layers = [_layer(weights, f"encoder.layer.{i}.") for i in range(shape.layers)]
    words = weights["embeddings.word_embeddings.weight"]
    places = weights["embeddings.position_embeddings.weight"]
    places = places + weights["embeddings.token_type_embeddings.weight"][0]
    first = [weights[f"embeddings.LayerNorm.{part}"] for part in ("weight", "bias")]

    def states(ids: NDArray[int32], mask: NDArray[bool_]) -> Floats:
        scores = None if mask.all() else np.where(mask, np.float32(0), NEVER)[:, None, None, :]
        x = _norm(words[ids] + places[: ids.shape[1]], shape.epsilon, *first)
        for qkv, out, norm, up, down, last in layers:
            attended = _attend(x @ qkv[0] + qkv[1], scores, shape.heads)
            x = _norm(attended @ out[0] + out[1] + x, shape.epsilon, *norm)
            x = _norm(_gelu(x @ up[0] + up[1]) @ down[0] + down[1] + x, shape.epsilon, *last)
        return x

    return states


def _layer(weights: Weights, layer: str) -> list[list[Floats]]:
    """Return a layer's matrices, as (in, out) and without gaps: twice as fast to multiply by."""

    def parts(*names: str) -> list[Floats]:
        matrix, bias = (
            np.concatenate([weights[f"{layer}{name}.{part}"] for name in names])
            for part in ("weight", "bias")
        )
        return [np.ascontiguousarray(matrix.T), bias]

    return [
        parts(*(f"attention.self.{name}" for name in ("query", "key", "value"))),
        parts("attention.output.dense"),
        parts("attention.output.LayerNorm"),
        parts("intermediate.dense"),
        parts("output.dense"),
        parts("output.LayerNorm"),
    ]


def _attend(qkv: Floats, scores: Floats | None, heads: int) -> Floats:
    """Return (n, l, d) of queries, keys and values side by side, (n, l, 3 d)."""
    n, length, wide = qkv.shape
    size = wide // 3 // heads
    q, k, v = qkv.reshape(n, length, 3, heads, size).transpose(2, 0, 3, 1, 4)
    weight = q @ k.swapaxes(-1, -2)
    weight *= np.float32(1 / math.sqrt(size))
    if scores is not None:
        weight += scores
    weight -= weight.max(axis=-1, keepdims=True)
    np.exp(weight, out=weight)
    weight /= weight.sum(axis=-1, keepdims=True)
    attended: Floats = (weight @ v).transpose(0, 2, 1, 3).reshape(n, length, wide // 3)
    return attended


def _norm(x: Floats, epsilon: float, weight: Floats, bias: Floats) -> Floats:
    x = x - x.mean(axis=-1, keepdims=True)
    x /= np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + np.float32(epsilon))
    x *= weight
    x += bias
    return x


def _gelu(x: Floats) -> Floats:
    """Return x / 2 (1 + erf(x / sqrt 2)), in the place of x."""
    size = np.abs(x)
    size *= np.float32(1 / math.sqrt(2))
    t = 1 / (1 + ERF_P * size)
    tail = np.float32(ERF[0]) * t
    for factor in ERF[1:]:
        tail += np.float32(factor)
        tail *= t
    np.square(size, out=size)
    np.negative(size, out=size)
    tail *= np.exp(size, out=size)  # 1 - erf(|x| / sqrt 2)
    x *= np.float32(0.5) * (1 + np.copysign(1 - tail, x))
    return x
