"""Copies of generations that share nothing with their pattern: callers change what they get.

Building a message validates every field; copying one that is known to be right does not.
"""

from __future__ import annotations

from typing import Any, TypeVar

from langchain_core.outputs import ChatGeneration, Generation
from pydantic import BaseModel

M = TypeVar("M", bound=BaseModel)

_CHANGEABLE = frozenset({dict, list})
"""What came out of JSON and can be changed."""


def copied(pattern: Generation) -> Generation:
    """Copy a generation, and its message, whose fields all came out of JSON."""
    twin = _own(pattern)
    if isinstance(twin, ChatGeneration):
        twin.__dict__["message"] = _own(twin.message)
    return twin


def _own(model: M) -> M:
    twin = model.model_copy()
    for fields in (twin.__dict__, twin.model_extra or {}):
        for name, value in fields.items():
            if type(value) in _CHANGEABLE:
                fields[name] = _own_json(value)
    return twin


def _own_json(value: Any) -> Any:
    if type(value) is dict:
        return {
            name: _own_json(item) if type(item) in _CHANGEABLE else item
            for name, item in value.items()
        }
    return [_own_json(item) if type(item) in _CHANGEABLE else item for item in value]
