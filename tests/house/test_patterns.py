"""No regular expression of the three packages takes more than linear time, whatever text it reads.

Every pattern is run over texts that are made of its own parts, repeated: those are what makes a
search look at the same letters again and again. Four times the text must not take much longer than
four times the time.
"""

from __future__ import annotations

import ast
import importlib
import itertools
import random
import re
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from re import _parser as sre_parse  # type: ignore[attr-defined]  # untyped, and all there is
from typing import Any

import pytest

from shared_core.guard import reading

ROOT = Path(__file__).parents[2]
PACKAGES = ("shared_core", "langchain_tiered_cache", "llamaindex_tiered_cache")

SHORT, LONG = 1_500, 6_000
SUSPICIOUS_S = 0.001
"""How long a short text may take before a long one is tried: 0.7 µs a letter."""

MAX_RATIO = 9.0
"""Of linear work it is 4, of quadratic work 16."""

ALWAYS = (
    " ",
    "\n",
    "a",
    "A",
    "1",
    ".",
    ",",
    '"',
    "'",
    "(",
    "<",
    "-",
    "_",
    "/",
    "\\",
    ":",
    "é",
    "漢",
    "'s",
)
PAIRS = 80


def modules() -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


def compiled(value: Any, depth: int = 0) -> Iterator[re.Pattern[Any]]:
    """Yield the patterns of a value, which may be a class or a collection of some."""
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, (list, tuple, set, frozenset)) and depth < 3:
        for item in value:
            yield from compiled(item, depth + 1)
    elif isinstance(value, dict) and depth < 3:
        for item in value.values():
            yield from compiled(item, depth + 1)
    elif isinstance(value, type) and depth < 1:
        for item in vars(value).values():
            yield from compiled(item, depth + 1)


def inline(path: Path) -> Iterator[re.Pattern[Any]]:
    """Yield the patterns that are given as a text where they are used."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not (
            isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant)
        ):
            continue
        function = node.func
        if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
            is_used = function.value.id == "re" and function.attr in METHODS
            if is_used and isinstance(node.args[0].value, (str, bytes)):
                yield re.compile(node.args[0].value)


METHODS = ("match", "fullmatch", "search", "findall", "finditer", "sub", "subn", "split")


def uses(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the names in a module of what may be patterns, and how each is used."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr in METHODS:
            held = node.value
            name = held.attr if isinstance(held, ast.Attribute) else getattr(held, "id", "")
            yield name, node.attr


@cache
def all_patterns() -> dict[str, tuple[re.Pattern[Any], set[str], Path]]:
    """Return each pattern, how it is used (``match``, ``fullmatch``, or else a search), and where.

    It takes a second, so only the tests that need it ask for it, and no collection.
    """
    found: dict[str, tuple[re.Pattern[Any], set[str], Path]] = {}
    used: dict[str, set[str]] = {}
    for path in modules():
        for name, method in uses(path):
            used.setdefault(name, set()).add(method)
    for path in modules():
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if name.endswith("__main__"):
            continue
        for where, value in vars(importlib.import_module(name)).items():
            for pattern in compiled(value):
                ways = used.get(where) or {"search"}
                found.setdefault(repr(pattern), (pattern, set(), path))[1].update(ways)
        for pattern in inline(path):
            found.setdefault(repr(pattern), (pattern, {"search"}, path))
    return found


SHORT_TEXTS = {reading._MIXED: "a word that is longer than _LONGEST_WORD does not come so far"}
"""Patterns whose texts are short by other means."""


def parts_of(pattern: re.Pattern[Any]) -> list[str]:
    """Return the literal texts of a pattern, and a letter of each of its classes."""
    flags = pattern.flags & ~re.DEBUG
    text = (
        pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1")
    )
    flags = flags if isinstance(pattern.pattern, str) else flags | re.ASCII
    found: dict[str, None] = {}

    def walk(items: Any) -> None:
        run = ""
        for op, value in items:
            name = str(op)
            if name == "LITERAL":
                run += chr(value)
                continue
            if run:
                found[run] = None
                run = ""
            if name == "IN":
                for kind, one in value:
                    if str(kind) == "LITERAL":
                        found[chr(one)] = None
                    elif str(kind) == "RANGE":
                        found[chr(one[0])] = None
            else:
                inner(value)
        if run:
            found[run] = None

    def inner(value: Any) -> None:
        if isinstance(value, sre_parse.SubPattern):
            walk(value)
        elif isinstance(value, (list, tuple)):
            for one in value:
                inner(one)

    walk(sre_parse.parse(text, flags))
    return list(found)


def texts_for(pattern: re.Pattern[Any]) -> Iterator[tuple[str, str, str]]:
    """Yield how texts begin, what is repeated in them, and how they end."""
    own = parts_of(pattern)
    chance = random.Random(pattern.pattern if isinstance(pattern.pattern, str) else "bytes")
    parts = list(dict.fromkeys([*ALWAYS, *chance.sample(own, min(len(own), 30))]))
    for part in parts:
        yield "", part, ""
        yield "", part, "\x00"
    pairs = list(itertools.permutations(parts, 2))
    for one, other in chance.sample(pairs, min(PAIRS, len(pairs))):
        yield "", one + other, "\x00"
        yield one, other, "\x00"
    for one in own[:10]:  # each beginning, with the letters that stand between parts
        for other in (" ", "a", "1", "\n", "a "):
            yield "", one + other, ""
            yield one, other, "\x00"


def seconds(
    pattern: re.Pattern[Any], ways: set[str], text: tuple[str, str, str], size: int
) -> float:
    """Return how long the pattern takes to read a text in the ways in which it is used."""
    begin, part, end = text
    whole = begin + part * (size // len(part)) + end
    read: Any = whole if isinstance(pattern.pattern, str) else whole.encode("utf-8", "replace")
    began = time.process_time()
    if "match" in ways:
        pattern.match(read)
    if "fullmatch" in ways:
        pattern.fullmatch(read)
    if ways - {"match", "fullmatch"}:
        for _ in pattern.finditer(read):
            pass
    return time.process_time() - began


def is_superlinear(
    pattern: re.Pattern[Any],
    text: tuple[str, str, str],
    ways: set[str] = frozenset({"search"}),  # type: ignore[assignment]
) -> bool:
    if seconds(pattern, ways, text, SHORT) < SUSPICIOUS_S:
        return False
    for times in (1, 5):  # a single slow reading is noise: the second look takes the best of five
        short, long = (
            min(seconds(pattern, ways, text, size) for _ in range(times)) for size in (SHORT, LONG)
        )
        if short < SUSPICIOUS_S or long / short <= MAX_RATIO:
            return False
    return True


def test_every_pattern_is_found() -> None:
    compiles = sum(path.read_text().count("re.compile(") for path in modules())
    assert len(all_patterns()) >= compiles * 0.9, "patterns hide where this test does not look"


@pytest.mark.slow
@pytest.mark.parametrize("module", list(modules()), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_pattern_is_slower_than_linear(module: Path) -> None:
    for pattern, ways, where in all_patterns().values():
        if where == module and pattern not in SHORT_TEXTS:
            for text in texts_for(pattern):
                assert not is_superlinear(pattern, text, ways), f"{pattern.pattern!r} on {text}"


@pytest.mark.parametrize("bad", [r"\s+$", r"\w+@", r"(?m)^\s*x"])
def test_what_is_slower_than_linear_is_noticed(bad: str) -> None:
    pattern = re.compile(bad)
    assert any(is_superlinear(pattern, text) for text in texts_for(pattern)), bad
