"""Keep the attention states of a prompt's front, for a local transformers model.

ids -> longest common front of what is held -> states of it, shared, never changed -> the rest runs

A model that reads a prompt of 2,032 tokens, 2,000 of which it has read before, runs 32.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared_core.concurrency import free_after_fork

Ids = NDArray[np.int64]
Layers = tuple[tuple[Any, Any], ...]
"""Keys and values of each layer, tensors of shape (1, heads, tokens, size)."""

FOLDER_SUFFIX = ".kv.safetensors"


@dataclass(frozen=True, slots=True)
class Reuse:
    """What was reused for a prompt: ``reused`` of ``tokens`` were not run again."""

    tokens: int
    reused: int

    @property
    def share(self) -> float:
        """Return the share of tokens that were not run again."""
        return self.reused / self.tokens if self.tokens else 0.0


@dataclass(slots=True)
class _Held:
    """Token ids, and their states: in memory, in a file, or both."""

    ids: Ids
    layers: Layers | None
    size: int
    path: Path | None = None


class KVPrefixCache:
    """Attention states of prompts that one causal model has read; safe for threads.

    - ``model``: a transformers model; its weights must not change while it is used here
    - ``max_bytes``: of states in memory; the least recently used go first. A state of a common
      model takes from some ten to some hundred kilobytes for each token
    - ``folder``: where states are kept as safetensors too, for later processes; nothing there is
      ever deleted. They are found again for the same weights and precision alone

    Prompts are of one sequence. Layers that forget (sliding windows, linear attention) cannot be
    cut to a common front: ValueError at the first prompt. ImportError without torch and
    transformers.

        states = KVPrefixCache(model)
        states.prefill(tokenizer(handbook, return_tensors="pt").input_ids)
        states.generate(tokenizer(handbook + question, return_tensors="pt").input_ids)
    """

    def __init__(
        self, model: Any, max_bytes: int = 1 << 30, folder: str | Path | None = None
    ) -> None:
        if not isinstance(max_bytes, int) or isinstance(max_bytes, bool) or max_bytes < 1:
            raise ValueError(f"max_bytes must be a whole number of at least 1, not {max_bytes!r}")
        try:
            import torch
            import transformers
        except ImportError as error:
            raise ImportError(
                "reuse of attention states needs torch and transformers: "
                "pip install 'tiered-llm-cache[local]'"
            ) from error
        self._torch, self._transformers = torch, transformers
        self._model, self._most = model, max_bytes
        self._held: OrderedDict[bytes, _Held] = OrderedDict()
        self._bytes = 0
        self._folder = None if folder is None else Path(folder)
        self._fingerprint = ""
        self._lock = free_after_fork(threading.RLock())
        if self._folder is not None:
            self._fingerprint = _fingerprint(model)
            self._folder.mkdir(parents=True, exist_ok=True)
            self._list_folder(self._folder)

    @property
    def bytes_held(self) -> int:
        """Return the bytes of states in memory."""
        return self._bytes

    def prefill(self, ids: Any) -> Reuse:
        """Run a front through the model and keep its states; what is known of it is not run.

        ``ids`` is a sequence of token ids, or a tensor of shape (n,) or (1, n).
        """
        return self._run(_ids_of(ids), keep=True)[1]

    def logits(self, ids: Any, *, keep: bool = False) -> Any:
        """Return the logits after a prompt's last token, of shape (vocabulary,)."""
        return self._run(_ids_of(ids), keep=keep)[0][0, -1]

    def past(self, ids: Any) -> tuple[Any, Reuse]:
        """Return states of the longest known front of a prompt, for ``past_key_values``.

        They are the caller's: what a model adds to them does not change what is held. At least the
        last token is left to run, whose logits are wanted.
        """
        tokens = _ids_of(ids)
        layers, reused = self._front(tokens, len(tokens) - 1)
        return self._cache(layers), Reuse(len(tokens), reused)

    def generate(self, ids: Any, *, keep: bool = False, **options: Any) -> Any:
        """Generate as ``model.generate(ids, **options)`` does, of what is known already.

        ``keep`` also keeps the states of the whole prompt, for a next turn.
        """
        tokens = _ids_of(ids)
        if keep:
            self._run(tokens, keep=True)
        past, _ = self.past(tokens)
        given = self._tensor(tokens)
        options.setdefault("attention_mask", self._torch.ones_like(given))
        return self._model.generate(given, past_key_values=past, **options)

    def clear(self) -> None:
        """Let go of every state in memory."""
        with self._lock:
            for key, held in list(self._held.items()):
                self._drop(key, held)

    def _run(self, tokens: Ids, *, keep: bool) -> tuple[Any, Reuse]:
        layers, reused = self._front(tokens, len(tokens) - 1)
        with self._torch.inference_mode():
            out = self._model(
                self._tensor(tokens[reused:]), past_key_values=self._cache(layers), use_cache=True
            )
        if keep:
            self._keep(tokens, self._layers_of(out.past_key_values))
        return out.logits, Reuse(len(tokens), reused)

    def _tensor(self, tokens: Ids) -> Any:
        return self._torch.from_numpy(tokens.copy())[None].to(self._model.device)

    def _cache(self, layers: Layers) -> Any:
        """Make a cache that shares tensors: a layer grows into new ones, never in place."""
        if not layers:
            return self._transformers.DynamicCache(config=self._model.config)
        return self._transformers.DynamicCache(layers)

    def _layers_of(self, cache: Any) -> Layers:
        from transformers.cache_utils import DynamicLayer

        for layer in cache.layers:
            if type(layer) is not DynamicLayer:  # a subclass holds less, or more
                raise ValueError(
                    f"{type(self._model).__name__} has layers of {type(layer).__name__}, whose "
                    "states cannot be cut to a common front"
                )
        return tuple((layer.keys.detach(), layer.values.detach()) for layer in cache.layers)

    def _front(self, tokens: Ids, most: int) -> tuple[Layers, int]:
        """Return the states of the longest known front of at most ``most`` tokens."""
        with self._lock:
            best, key = 0, b""
            for one, held in self._held.items():
                common = min(_common(held.ids, tokens), most)
                if common > best:
                    best, key = common, one
            if not best:
                return (), 0
            held = self._held[key]
            self._held.move_to_end(key)
            layers = held.layers if held.layers is not None else self._read(key, held)
            if layers is None:
                return self._front(tokens, most)  # its file is gone, and so is the entry
        return tuple((k[..., :best, :], v[..., :best, :]) for k, v in layers), best

    def _keep(self, tokens: Ids, layers: Layers) -> None:
        key = sha256(tokens.tobytes()).digest()
        size = sum(t.numel() * t.element_size() for layer in layers for t in layer)
        with self._lock:
            known = self._held.get(key)
            if known is not None and known.layers is not None:
                self._held.move_to_end(key)
                return
            held = _Held(tokens, layers, size, known.path if known else None)
            if held.path is None:
                held.path = self._write(key, held)
            self._held[key] = held
            self._held.move_to_end(key)
            self._bytes += size
            self._shrink()

    def _shrink(self) -> None:
        for key, held in list(self._held.items()):
            if self._bytes <= self._most:
                return
            self._drop(key, held)

    def _drop(self, key: bytes, held: _Held) -> None:
        """Let go of states in memory; those in a file stay known."""
        if held.layers is not None:
            held.layers = None
            self._bytes -= held.size
        if held.path is None:
            self._held.pop(key, None)

    # ---------------------------------------------------------------------------------- folder

    def _write(self, key: bytes, held: _Held) -> Path | None:
        if self._folder is None or held.layers is None:
            return None
        from safetensors.torch import save_file

        path = self._folder / f"{self._fingerprint}-{key.hex()[:32]}{FOLDER_SUFFIX}"
        tensors = {"ids": self._torch.from_numpy(held.ids)}
        for n, (keys, values) in enumerate(held.layers):
            tensors |= {f"{n}.keys": keys.contiguous(), f"{n}.values": values.contiguous()}
        unfinished = path.with_suffix(".tmp")
        save_file(tensors, unfinished)
        unfinished.replace(path)  # a reader finds a whole file or none
        return path

    def _read(self, key: bytes, held: _Held) -> Layers | None:
        """Return states out of their file; None, and no entry any more, if it cannot be read."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            found = load_file(held.path or "", device=str(self._model.device))
            count = (len(found) - 1) // 2
            layers = tuple((found[f"{n}.keys"], found[f"{n}.values"]) for n in range(count))
        except (OSError, SafetensorError, KeyError):
            del self._held[key]
            return None
        held.layers = layers
        held.size = sum(t.numel() * t.element_size() for layer in layers for t in layer)
        self._bytes += held.size
        self._shrink()
        return layers

    def _list_folder(self, folder: Path) -> None:
        from safetensors import SafetensorError, safe_open

        for path in sorted(folder.glob(f"{self._fingerprint}-*{FOLDER_SUFFIX}")):
            try:
                with safe_open(path, "np") as file:
                    ids = file.get_tensor("ids")
            except (OSError, SafetensorError):  # of a process that was killed, or none of ours
                continue
            self._held[sha256(ids.tobytes()).digest()] = _Held(ids, None, 0, path)


def _ids_of(ids: Any) -> Ids:
    if not isinstance(ids, Sequence):
        ids = ids.detach().cpu().numpy() if hasattr(ids, "detach") else ids
    tokens = np.asarray(ids, np.int64)
    if tokens.ndim == 2 and len(tokens) == 1:  # noqa: PLR2004 - (1, n), as tokenizers give it
        tokens = tokens[0]
    if tokens.ndim != 1 or not tokens.size:
        raise ValueError(f"ids must be one sequence of at least one token, not of {tokens.shape}")
    return np.ascontiguousarray(tokens)


def _common(one: Ids, other: Ids) -> int:
    """Return how many tokens two prompts share at their front."""
    size = min(len(one), len(other))
    differs = one[:size] != other[:size]
    return int(differs.argmax()) if differs.any() else size


def _fingerprint(model: Any) -> str:
    """Digest what a model computes by: its configuration, precision, and a part of each weight."""
    digest = sha256(model.config.to_json_string().encode())
    for name, weight in sorted(model.state_dict().items()):
        part = weight.detach().flatten()[:64].float().cpu().numpy()
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode() + part.tobytes())
    return digest.hexdigest()[:32]
