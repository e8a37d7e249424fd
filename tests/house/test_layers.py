"""The dependency rules of ARCHITECTURE.md, read off the source: every import of every module."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("shared_core", "langchain_tiered_cache", "llamaindex_tiered_cache")
FRAMEWORKS = ("langchain", "langchain_core", "langgraph", "llama_index")

LEAVES = ("shared_core.cli",)
"""Nothing imports it."""

PREFIX = ("shared_core.prefix",)
"""Nothing that a lookup runs imports it: delete it, and the rest works."""

PURE = (
    "shared_core.harmless",
    "shared_core.lazy",
    "shared_core.record",
    "shared_core.request",
    "shared_core.guard",
    "shared_core.thresholds",
)
"""These import the standard library, numpy, and each other."""

LAYERS = (
    (
        "shared_core.record",
        "shared_core.request",
        "shared_core.lazy",
        "shared_core.concurrency",
    ),
    ("shared_core.guard", "shared_core.thresholds", "shared_core.embedding", "shared_core.stores"),
    ("shared_core.cache",),
    ("langchain_tiered_cache", "llamaindex_tiered_cache"),
)
"""Lowest first: a module imports none that stands above it."""

REDIS = ("shared_core.stores.redis",)
"""Nothing else of the project knows whose library it is."""

ONLY_IN = {
    "redis": REDIS,
    "redisvl": REDIS,
    "sentence_transformers": ("shared_core.embedding",),
    "torch": ("shared_core.embedding", "shared_core.prefix.kv_reuse"),
    "transformers": ("shared_core.embedding", "shared_core.prefix.kv_reuse"),
    "safetensors": ("shared_core.embedding", "shared_core.prefix.kv_reuse"),
    "typer": LEAVES,
    "rich": LEAVES,
    "fastapi": ("shared_core.service",),
    "uvicorn": ("shared_core.service", *LEAVES),
    "pickle": (),
    "dill": (),
    "cloudpickle": (),
}
"""Who may import what."""

LAZY = ("numpy", "sentence_transformers", "torch", "transformers", "usearch", "cryptography")
"""What core imports inside functions alone."""

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


@dataclass(frozen=True)
class Import:
    """One import: who imports what, whether inside a function, whether for types only."""

    importer: str
    imported: str
    line: int
    inside: bool
    typing: bool


@cache
def modules() -> dict[str, Path]:
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(module: str) -> ast.Module:
    """Return the syntax tree of a module, which every rule reads."""
    return ast.parse(modules()[module].read_text(encoding="utf-8"))


@cache
def nodes(module: str) -> tuple[ast.AST, ...]:
    """Return every node of it."""
    return tuple(ast.walk(tree(module)))


@cache
def imports() -> tuple[Import, ...]:
    return tuple(one for name in modules() for one in _read(name))


def _read(importer: str) -> Iterator[Import]:
    def walk(node: ast.AST, inside: bool, typing: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                continue  # no import is inside of one
            within = inside or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
            types = typing or (
                isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
            )
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(importer, alias.name, child.lineno, within, types)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{importer}: imports are absolute"
                for alias in child.names:
                    name = f"{child.module}.{alias.name}"
                    known = name if name in modules() else str(child.module)
                    yield Import(importer, known, child.lineno, within, types)
            else:
                yield from walk(child, within, types)

    yield from walk(tree(importer), False, False)


def _is_for_types(block: ast.If) -> bool:
    return isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"


def under(module: str, *roots: str) -> bool:
    return any(module == root or module.startswith(f"{root}.") for root in roots)


def broken(rule: object) -> list[str]:
    assert callable(rule)
    return [f"{i.importer}:{i.line} imports {i.imported}" for i in imports() if rule(i)]


def test_the_reader_sees_the_imports_that_are_there() -> None:
    seen = {(i.importer, i.imported, i.inside, i.typing) for i in imports()}
    assert ("shared_core.request", "hashlib", False, False) in seen
    assert ("shared_core.record", "numpy", False, True) in seen
    assert ("shared_core.usage", "genai_prices", True, False) in seen


def test_core_imports_no_framework_and_no_adapter() -> None:
    """The demo is a LangChain session: it alone imports LangChain, inside functions."""
    frameworks = (*FRAMEWORKS, *PACKAGES[1:])
    assert not broken(
        lambda i: (
            under(i.importer, "shared_core")
            and under(i.imported, *frameworks)
            and not (i.importer == "shared_core.cli.demo" and (i.inside or i.typing))
        )
    )


def test_adapters_never_import_each_other() -> None:
    assert not broken(
        lambda i: (
            i.importer.partition(".")[0] != i.imported.partition(".")[0]
            and under(i.importer, *PACKAGES[1:])
            and under(i.imported, *PACKAGES[1:])
        )
    )


def test_pure_modules_import_numpy_and_each_other_alone() -> None:
    from sys import stdlib_module_names

    assert not broken(
        lambda i: (
            under(i.importer, *PURE)
            and not under(i.imported, *PURE, "numpy")
            and i.imported.partition(".")[0] not in stdlib_module_names
        )
    )


def test_arrows_go_down_only() -> None:
    def level(module: str) -> int | None:
        return next((n for n, layer in enumerate(LAYERS) if under(module, *layer)), None)

    def goes_up(i: Import) -> bool:
        low, high = level(i.importer), level(i.imported)
        return low is not None and high is not None and low < high and not i.typing

    assert not broken(goes_up)


def test_the_layers_below_the_cache_do_not_reach_it_by_a_detour() -> None:
    below = [name for layer in LAYERS[:2] for name in modules() if under(name, *layer)]
    for start in below:
        assert "shared_core.cache" not in _reached(start), f"{start} reaches the cache"


def _reached(start: str) -> set[str]:
    seen, todo = set[str](), [start]
    while todo:
        name = todo.pop()
        for i in imports():
            if i.importer == name and not i.typing and i.imported not in seen:
                seen.add(i.imported)
                todo.append(i.imported)
    return seen


def test_nothing_imports_the_command_line() -> None:
    assert not broken(lambda i: under(i.imported, *LEAVES) and not under(i.importer, *LEAVES))


def test_nothing_imports_the_suites_for_other_peoples_tests() -> None:
    suites = "shared_core.testing"
    assert not broken(lambda i: under(i.imported, suites) and not under(i.importer, suites))


def test_nothing_imports_the_service_but_the_command_that_starts_it() -> None:
    assert not broken(
        lambda i: (
            under(i.imported, "shared_core.service")
            and not under(i.importer, "shared_core.service", "shared_core.cli.main")
        )
    )


def test_nothing_imports_what_reuses_a_prompts_front_but_its_own_adapters() -> None:
    hooks = tuple(f"{package}.prefix" for package in PACKAGES)
    assert not broken(
        lambda i: (
            under(i.imported, *PREFIX) and not under(i.importer, *PREFIX, *hooks) and not i.typing
        )
    )


@pytest.mark.parametrize("package", sorted(ONLY_IN))
def test_a_package_is_imported_only_where_it_belongs(package: str) -> None:
    assert not broken(
        lambda i: under(i.imported, package) and not under(i.importer, *ONLY_IN[package])
    )


def test_core_imports_what_is_heavy_inside_functions_alone() -> None:
    """A module that is itself imported inside a function may import numpy at its top."""
    assert not broken(
        lambda i: (
            i.importer in _loaded_with_the_core()
            and under(i.imported, *LAZY)
            and not i.inside
            and not i.typing
        )
    )


@cache
def _loaded_with_the_core() -> frozenset[str]:
    """Return every module that ``import shared_core`` executes."""
    seen, todo = {"shared_core"}, ["shared_core"]
    while todo:
        name = todo.pop()
        for i in imports():
            if i.importer == name and i.imported in modules() and not i.inside and not i.typing:
                parents = i.imported.split(".")
                for end in range(1, len(parents) + 1):
                    parent = ".".join(parents[:end])
                    if parent not in seen:
                        seen.add(parent)
                        todo.append(parent)
    return frozenset(seen)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_says_that_it_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").exists()


def test_broad_excepts_stand_where_they_are_allowed() -> None:
    """In ``resilience`` and in the outermost line of an adapter: whatever else fails is a bug."""
    allowed = ("shared_core.resilience", "langchain_tiered_cache.cache", "llamaindex_tiered_cache")
    found = [
        f"{name}:{node.lineno}"
        for name in modules()
        if not under(name, *allowed)
        for node in nodes(name)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or getattr(node.type, "id", "") in ("Exception", "BaseException"))
        and not any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
    ]
    assert not found
