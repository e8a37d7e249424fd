"""Reads what ``repr`` wrote: literals, and marks for the objects that have none. Evaluates nothing.

``[('response_format', <class 'm.Out'>), ('stop', None)]`` is not Python, yet LangChain spells call
parameters so.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ClassMark:
    """Stands for ``<class 'name'>``: a name is no identity, two classes may share it."""

    name: str


@dataclass(frozen=True, slots=True)
class ObjectMark:
    """Stands for ``<… at 0x…>``: an object with no identity beyond this process."""

    text: str


_CLASS, _OBJECT = "_ClassMark", "_ObjectMark"
_MARKS: Mapping[str, type[ClassMark] | type[ObjectMark]] = {_CLASS: ClassMark, _OBJECT: ObjectMark}
_TOKEN = re.compile(
    r"""(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
    r"""|<class\ '(?P<class>[^']*)'>"""
    r"""|(?P<object><(?:[^<>'"]|<[\w.]+>|'[\w.]*')*\ at\ 0x[0-9a-fA-F]+>)""",
    re.DOTALL,
)


def read_repr(text: str) -> Any:
    """Return the value that ``text`` spells, with marks in the place of objects.

    A call such as ``Out(x=1)`` becomes ``{"repr": "Out(x=1)"}``. Raises ValueError if the text
    cannot be read; nothing in it is ever run.
    """
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        pass
    try:
        marked = _TOKEN.sub(_mark, text)
        return _value(ast.parse(marked, mode="eval").body)
    except (TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError(f"not a value: {type(error).__name__}") from None


def read_call(text: str) -> dict[str, Any]:
    """Return the keyword arguments of ``Name(a=1, b='x')``.

    Raises ValueError if it is no such call.
    """
    try:
        call = ast.parse(_TOKEN.sub(_mark, text), mode="eval").body
        if isinstance(call, ast.Call) and not call.args:
            return {word.arg: _value(word.value) for word in call.keywords if word.arg}
    except (TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError(f"not a call: {type(error).__name__}") from None
    raise ValueError("not a call with keywords alone")


def marks_in(value: Any) -> set[type]:
    """Return which kinds of marks occur anywhere in a value."""
    if isinstance(value, (ClassMark, ObjectMark)):
        return {type(value)}
    if isinstance(value, dict):
        return set().union(*(marks_in(item) for pair in value.items() for item in pair))
    if isinstance(value, (list, tuple)):
        return set().union(*(marks_in(item) for item in value))
    return set()


def _mark(match: re.Match[str]) -> str:
    if match["class"] is not None:
        return f"{_CLASS}({match['class']!r})"
    if match["object"] is not None:
        return f"{_OBJECT}({match['object']!r})"
    return match[0]


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value):
            return value
        case ast.List(items) | ast.Tuple(items):
            return [_value(item) for item in items]
        case ast.Dict(keys, values) if None not in keys:
            return {_value(k): _value(v) for k, v in zip(keys, values, strict=True) if k}
        case ast.UnaryOp(ast.USub(), ast.Constant(int() | float() as number)):
            return -number
        case ast.Call(ast.Name(name), [ast.Constant(str(text))], []) if name in _MARKS:
            return _MARKS[name](text)
        case _:
            return _spelling(node)


def _spelling(node: ast.expr) -> Any:
    spelling = ast.unparse(node)
    return ObjectMark(spelling) if any(map(_is_object, ast.walk(node))) else {"repr": spelling}


def _is_object(node: ast.AST) -> bool:
    """Return whether a node is a mark: one inside a call makes the whole call unstable."""
    return isinstance(node, ast.Name) and node.id in _MARKS
