"""Spells the arguments of a call as text: equal for equal calls, in every process, for ever."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from hashlib import sha256
from pathlib import PurePath
from typing import Any
from uuid import UUID

from shared_core.request import canonical_json

_SPELT_BY_STR = (date, time, timedelta, Decimal, PurePath, UUID)
"""What is known by its text, and says by its type what the text means."""


class UnkeyableError(TypeError):
    """An argument has no identity beyond this process, so no key can be made of it."""


def argument_digest(
    signature: inspect.Signature,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    ignore: Collection[str] = (),
) -> str:
    """Return the hex sha256 of a call's bound arguments.

    Defaults count as given, the order of keywords does not matter. ``ignore`` names parameters that
    the result does not depend on. Raises TypeError for arguments that the signature does not take,
    UnkeyableError for one that cannot be part of a key, naming it and the remedy.
    """
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    spelt = {}
    for name, value in bound.arguments.items():
        if name in ignore:
            continue
        try:
            spelt[name] = _spelt(value)
            canonical_json(spelt[name])
        except (TypeError, ValueError, RecursionError) as error:
            raise UnkeyableError(
                f"argument {name!r} cannot be part of a key: {error}; leave it out with "
                f"ignore=({name!r},) if the result does not depend on it, or give key="
            ) from None
    return sha256(canonical_json(spelt).encode()).hexdigest()


def _spelt(value: Any) -> Any:
    """Return a JSON value that is equal only for equal values of equal types."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    spelt: list[Any]
    match value:
        case Enum():
            spelt = ["enum", _name(type(value)), value.name]
        case bytes() | bytearray():
            spelt = ["bytes", bytes(value).hex()]
        case Mapping():
            pairs = [[_spelt(key), _spelt(item)] for key, item in value.items()]
            spelt = ["mapping", *sorted(pairs, key=lambda pair: canonical_json(pair[0]))]
        case list() | tuple():
            spelt = ["list" if isinstance(value, list) else "tuple", *map(_spelt, value)]
        case set() | frozenset():
            spelt = ["set", *sorted(map(_spelt, value), key=canonical_json)]
        case _ if isinstance(value, _SPELT_BY_STR):
            spelt = [_name(type(value)), str(value)]
        case _:
            spelt = [_name(type(value)), _spelt(_fields(value))]
    return spelt


def _fields(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass or a pydantic model. Raises TypeError for anything else."""
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: getattr(value, one.name) for one in fields(value) if one.compare}
    dump: Callable[[], Any] | None = getattr(value, "model_dump", None)
    if dump is not None and not isinstance(value, type):
        found = dump()
        if isinstance(found, dict):
            return found
    raise TypeError(f"{_name(type(value))} has no identity beyond this process")


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
