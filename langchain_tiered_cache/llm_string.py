"""Reads LangChain's ``llm_string`` into canonical parameters.

'{"id": [...], "kwargs": {...}}---[("stop", None)]'   a serialisable model, then the call
"[('_type', 'x'), ('temperature', 0.0)]"              any other model, both in one list
anything else                                         the string itself is the identity
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from langchain_tiered_cache.literal import ClassMark, marks_in, read_call, read_repr
from langchain_tiered_cache.providers import (
    PROVIDER_ALIASES,
    PROVIDER_TRANSPORT,
    PROVIDERS,
    SMALLEST_TEMPERATURE,
    TRANSPORT,
    UNNAMED_MODELS,
)
from langchain_tiered_cache.runs import Run
from langchain_tiered_cache.schema import with_schemas
from shared_core.parameter_names import PARAMETER_NAMES
from shared_core.request import canonical_json, canonical_parameters

_SEPARATOR = "---"
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Model:
    """Which model is asked, and how: canonical parameters.

    ``uncacheable`` is a ``Miss.reason`` if they have no stable identity, or is None.
    """

    params: Mapping[str, Any]
    uncacheable: str | None = None


@dataclass(frozen=True, slots=True)
class _Spelt:
    """What a string says: class, the model's own fields, those of the call (which override them).

    ``names`` and ``call`` are the call's parameters and their spelling, by which a run is
    recognised.
    """

    kind: str
    own: Mapping[str, Any]
    called: Mapping[str, Any]
    names: tuple[str, ...]
    call: str

    @property
    def provider(self) -> str:
        return PROVIDERS.get(self.kind, self.kind)

    @property
    def is_nameless(self) -> bool:
        """Tell whether no field names the model."""
        return not any(PARAMETER_NAMES.get(name) == "model" for name in (*self.own, *self.called))


def read_model(llm_string: str, runs: Sequence[Run] = ()) -> Model:
    """Return the canonical parameters of a model and call.

    ``runs`` are asked for what the string leaves out: structured-output classes, and the model of
    classes that do not name it. A string that cannot be read is its own identity.
    """
    known = _read(llm_string)
    if isinstance(known, Model):
        return known
    run = next((run for run in runs if run.called(known.names, known.call)), None)
    if run is not None:
        known = _completed(known, run)
    elif known.kind in UNNAMED_MODELS:
        return _unstable(known)
    return _canonical(known) or _opaque(llm_string)


def says_all(llm_string: str) -> bool:
    """Tell whether a string alone says which model is asked, and how."""
    return isinstance(_read(llm_string), Model)


def names_nothing(llm_string: str) -> str | None:
    """Return the type of a model of which the string holds neither name nor settings, else None."""
    known = _read(llm_string)
    if isinstance(known, Model) or known.own or known.called.keys() - {"stop"}:
        return None
    return known.kind


@lru_cache(maxsize=256)
def _read(llm_string: str) -> Model | _Spelt:
    """Read a string, once: to a model if it says all, else to what it says."""
    try:
        if llm_string.startswith("{"):
            spelt = _constructor(llm_string)
        elif llm_string.startswith("["):
            spelt = _list(llm_string)
        else:
            return _opaque(llm_string)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return _opaque(llm_string)
    if spelt.is_nameless or ClassMark in marks_in(spelt.called):
        return spelt
    return _canonical(spelt) or _opaque(llm_string)


def _constructor(llm_string: str) -> _Spelt:
    head, end = _DECODER.raw_decode(llm_string)
    if not llm_string.startswith(_SEPARATOR, end):
        raise ValueError("no call parameters")
    call = llm_string[end + len(_SEPARATOR) :]
    called = dict(read_repr(call))
    kind = ".".join(head["id"])
    own = {name: value for name, value in head["kwargs"].items() if name != "name"}
    return _Spelt(kind, _kept(own, kind), _kept(called, kind), tuple(sorted(called)), call)


def _list(llm_string: str) -> _Spelt:
    fields = dict(read_repr(llm_string))
    names = tuple(sorted(fields))
    kind = fields.pop("_type", "")
    if not isinstance(kind, str):
        raise TypeError("a _type that is no text")
    return _Spelt(kind, {}, _kept(fields, kind), names, llm_string)


def _kept(fields: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Drop transport, secrets and what is not set; spread ``model_kwargs``."""
    transport = TRANSPORT | PROVIDER_TRANSPORT.get(PROVIDERS.get(kind, kind), frozenset())
    kept: dict[str, Any] = {}
    for name, value in fields.items():
        if name in transport or name.endswith("_api_key") or value is None:
            continue
        if name == "model_kwargs" and isinstance(value, dict):
            kept.update(_kept(value, kind))
        elif not _is_lc(value, "secret") and not _says_nothing(value):
            kept[name] = value
    return kept


def _completed(spelt: _Spelt, run: Run) -> _Spelt:
    """Add what a run knows: schemas in the place of class names, and the model's own settings."""
    called = {
        name: with_schemas(run.params[name]) if ClassMark in marks_in(value) else value
        for name, value in spelt.called.items()
    }
    own: dict[str, Any] = dict(spelt.own)
    if spelt.kind in UNNAMED_MODELS:
        try:
            own = _kept(read_call(str(run.serialized.get("repr"))), spelt.kind)
        except ValueError:
            own = {"model": ClassMark(spelt.kind)}
        own.pop("name", None)
    elif spelt.is_nameless:
        told = {name: run.metadata.get(f"ls_{name}") for name in ("temperature", "max_tokens")}
        own |= _kept({"model": run.metadata.get("ls_model_name"), **told}, spelt.kind)
    return replace(spelt, own=own, called=called)


def _canonical(spelt: _Spelt) -> Model | None:
    """Return the model, or None if its parameters have no JSON form."""
    if marks_in([spelt.own, spelt.called]) or _has_unknown([spelt.own, spelt.called]):
        return _unstable(spelt)
    aliases = {**PARAMETER_NAMES, **PROVIDER_ALIASES.get(spelt.provider, {})}
    params: dict[str, Any] = {"provider": spelt.provider}
    extra: dict[str, Any] = {}
    for fields in (spelt.own, spelt.called):
        renamed, unknown = _renamed(fields, aliases)
        params |= renamed
        extra |= unknown
    temperature = params.get("temperature")
    if isinstance(temperature, float) and 0 < temperature < SMALLEST_TEMPERATURE:
        params["temperature"] = 0
    try:
        params = canonical_parameters({**params, "extra": extra})
        canonical_json(params)
    except (TypeError, ValueError, RecursionError):
        return None
    return Model(params)


def _renamed(
    fields: Mapping[str, Any], aliases: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return fields under canonical names, and the others verbatim."""
    known: dict[str, Any] = {}
    unknown: dict[str, Any] = {}
    for name, value in fields.items():
        canonical = aliases.get(name)
        if canonical is None or known.get(canonical, value) != value:
            unknown[name] = value
        else:
            known[canonical] = {"effort": value} if name == "reasoning_effort" else value
    return known, unknown


def _unstable(spelt: _Spelt) -> Model:
    return Model({"provider": spelt.provider}, "unstable")


def _opaque(llm_string: str) -> Model:
    has_objects = " at 0x" in llm_string or "<class '" in llm_string
    return Model({"extra": {"llm_string": llm_string}}, "unstable" if has_objects else None)


def _says_nothing(value: Any) -> bool:
    return isinstance(value, dict) and all(item is None for item in value.values())


def _has_unknown(value: Any) -> bool:
    """Tell whether an object is in there of which LangChain wrote the class alone."""
    if isinstance(value, dict):
        return _is_lc(value, "not_implemented") or any(map(_has_unknown, value.values()))
    return isinstance(value, (list, tuple)) and any(map(_has_unknown, value))


def _is_lc(value: Any, type: str) -> bool:
    return isinstance(value, dict) and value.get("lc") == 1 and value.get("type") == type
