"""Structured-output classes as their JSON schemas: what they ask for, whatever they are called."""

from __future__ import annotations

from typing import Any

from langchain_tiered_cache.literal import ClassMark


def with_schemas(value: Any) -> Any:
    """Replace every class in a value by its JSON schema, and one that has none by a mark."""
    match value:
        case type():
            return _schema(value)
        case dict():
            return {name: with_schemas(item) for name, item in value.items()}
        case list() | tuple():
            return [with_schemas(item) for item in value]
        case _:
            return value


def _schema(cls: type) -> Any:
    """Return the schema of a pydantic model, version 2 or 1."""
    write = getattr(cls, "model_json_schema", None) or getattr(cls, "schema", None)
    try:
        schema = write() if callable(write) else None
    except (ValueError, TypeError, AttributeError, KeyError, RuntimeError):
        schema = None  # pydantic's own errors are of these kinds: a field without a JSON form
    return schema if isinstance(schema, dict) else ClassMark(cls.__qualname__)
