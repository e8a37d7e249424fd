"""What docs/security.md promises: each promise has a test of its own, which is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "security.md").read_text()


def rows() -> list[tuple[str, list[str]]]:
    table = PAGE.partition("## What is promised")[2].partition("\n## ")[0]
    found = re.findall(r"^\| (.+?) \| (.+?) \|$", table, re.MULTILINE)
    return [(promise, re.findall(r"`(test_\w+)`", tests)) for promise, tests in found[1:]]


def test_each_promise_has_a_test_that_is_there() -> None:
    there = {
        node.name
        for path in TESTS.rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    assert len(rows()) > 20
    for promise, tests in rows():
        assert tests, f"no test: {promise}"
        assert set(tests) <= there, f"{promise}: {set(tests) - there}"


def test_every_attack_of_the_suite_is_promised() -> None:
    promised = {test for _, tests in rows() for test in tests}
    suite = ast.parse((TESTS / "service" / "test_attacks.py").read_text())
    names = {
        node.name
        for node in suite.body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.name.startswith("test_no_")
    }
    assert names <= promised, names - promised
