"""The structural rules of ARCHITECTURE.md, read off the source.

Every list of exceptions below holds work that is left: an exception that is no longer needed fails
its test, so that the lists only grow shorter.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

from tests.house.test_layers import ROOT, imports, modules, nodes, tree, under

# Rule 1. A package is entered by its face (its ``__init__``).

PAST_THE_FACE: Mapping[str, tuple[str, ...]] = {}
"""Module -> who imports it from outside of its package."""

# Rule 3. A module that one other imports is merged into it, unless it is a boundary.

BOUNDARIES: Mapping[str, str] = {
    "shared_core.embedding.batching": "threads of the local model, apart from what is remembered",
    "shared_core.embedding.bert": "needs onnxruntime and tokenizers",
    "shared_core.learning.answers": "an idea of its own: what an answer says, without any judge",
    "shared_core.learning.phrases": "word lists and patterns, apart from what reads by them",
    "shared_core.learning.prior_fit": "loads numpy at import",
    "shared_core.stores.redis.near_cache": "an option, and a thread of its own",
    "shared_core.stores.redis.schema": "hash fields, scripts and index: what lies in the server",
    "shared_core.stores.sqlite.index": "loads numpy at import",
    "shared_core.service.dashboard": "routes of one kind",
    "shared_core.service.proxy.embeddings": "routes of one kind",
    "shared_core.service.proxy.messages": "one kind of API",
    "shared_core.service.proxy.responses": "one kind of API",
    "shared_core.cli.demo": "a command, loaded when it is called",
    "shared_core.cli.doctor": "a command, loaded when it is called",
    "langchain_tiered_cache.streams": "an idea of its own: streams replayed and recorded",
}

# Rule 4. A module has one idea.

MAX_MODULES = 120
"""How many files of the three packages may define a function or class, faces included."""

MIN_LINES, MAX_LINES = 60, 700
LARGE: Mapping[str, str] = {}
"""Modules over MAX_LINES, each with its reason."""
SMALL: Mapping[str, str] = {}
"""Modules under MIN_LINES that at most one other imports, each with its reason."""

# Rule 5. What one lookup crosses, through LangChain.

MAX_CROSSED = {
    ("memory://", "exact"): 16,
    ("memory://", "semantic"): 30,
    ("sqlite", "exact"): 18,
    ("sqlite", "semantic"): 33,
}
"""Store and tier -> how many modules, with the local model."""

MAX_CALLS = {"exact": 130, "semantic": 440}
"""Tier -> how many Python calls of the project, with the local model, on either store."""

OF_THE_MODEL = 3
"""How many of them are the local model's."""

# Rule 6. The words of the field.

GLOSSARY: Mapping[str, str] = {
    "DataPath": "Pipeline",
    "Fuse": "CircuitBreaker",
    "quietly": "swallow",
    "calmly": "aswallow",
    "raising": "reraise_as",
    "araising": "areraise_as",
    "told": "safe_message",
    "told_of": "describe",
    "told_as_store_errors": "as_store_errors",
    "Hop": "ThreadRunner",
    "twin": "async_twin",
    "soon": "run_soon",
    "Flights": "SingleFlight",
    "board": "join_or_lead",
    "land": "finish",
    "Upkeep": "BackgroundFlush (cache), Eviction (SQLite)",
    "Exploration": "PendingLabel",
    "Explorations": "PendingLabels",
    "Docket": "JudgeQueue",
    "Case": "JudgeTask",
    "LateJudge": "BackgroundJudge",
    "Labeller": "Labeler",
    "Learner": "LabelStore",
    "Refusals": "Denylist",
    "Refusal": "APIError (service), RateLimited (client)",
    "suit": "use_embedder",
    "is_suited": "knows_embedder",
    "suited_to": "for_embedder",
    "lent": "copy_for_reader",
    "owned": "copy_for_store",
    "seal": "key_fingerprint",
    "allowance": "deadline",
    "waiting": "bounded_wait",
    "is_material": "is_prompt_template",
    "Origin": "OpenedFrom",
    "way_to": "reduce",
    "reopened": "reopen",
    "Ring": "RingBuffer",
    "NOBODY": "NO_CANDIDATE",
    "FLAT": "ERROR_FLOOR",
    "BELIEF": "PRIOR_WEIGHT",
    "LABELS_OF_A_WORLD": "LABELS_BEFORE_DRIFT",
    "Asking": "CallContext",
    "RunWatcher": "RunHandler",
    "Servings": "ServedRuns",
    "view": "as_class",
    "Asked": "LookupRequest",
    "Answered": "LookupResponse",
    "AskedAndAnswered": "StoreRequest",
    "Found": "LookupResponse",
    "Kept": "StoreResponse",
    "Taken": "FeedbackResponse",
    "ToInvalidate": "InvalidateRequest",
    "KEPT": "MAX_ and the thing",
    "MOST": "MAX_ and the thing",
}
"""Name not to use -> name to use."""


OWN_MAKING = re.compile(r"(^|_)(told|sight|docket|lent)($|_)", re.IGNORECASE)
"""Words that name no thing of the field, in any name: say what it is (headers, an event, why)."""

BOUND_BY_ANOTHER_WORD = re.compile(r"^_?(MOST|FEWEST|LEAST|KEPT)_|[A-Z]_(MOST|LEAST|KEPT)$")
"""A constant that bounds something is MAX_ or MIN_ and the thing."""


DEFINED_TWICE: Mapping[str, str] = {
    "Explore": "the outcome of a lookup in `record`; the word of a policy in `thresholds.policy`",
    "Provider": "who is asked, in the client; a provider's name, which users write, in `prefix`",
    "Skip": "the word of a policy; in `identity` the test of what a reader leaves out",
    "logger": "one logger, by logging's convention got by its name in each module",
    "router": "a module's routes, by FastAPI's convention",
}
"""Public names with two definitions in one distribution, each with its reason; at most five."""


MAX_TWICE = 5
TYPE_VARIABLES = ("TypeVar", "ParamSpec")


def _faces() -> set[str]:
    return {name for name, path in modules().items() if path.name == "__init__.py"}


@cache
def _graph() -> dict[str, frozenset[str]]:
    """Return who imports whom of the project, types and late imports too."""
    found: dict[str, set[str]] = defaultdict(set)
    for i in imports():
        if i.imported in modules() and i.imported != i.importer:
            found[i.importer].add(i.imported)
    return {name: frozenset(others) for name, others in found.items()}


def _circles(graph: Mapping[str, frozenset[str]]) -> list[list[str]]:
    """Return the strongly connected parts of more than one node (R. Tarjan, 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph.get(node, ()):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            at = stack.index(node)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for node in graph:
        if node not in index:
            visit(node)
    return found


def _package(module: str) -> str:
    """Return the package of a module; a module at the root of the core stands for itself."""
    first, _, rest = module.partition(".")
    return f"{first}.{rest.partition('.')[0]}" if first == "shared_core" and rest else first


def test_a_package_is_entered_by_its_face() -> None:
    past: dict[str, set[str]] = defaultdict(set)
    for importer, others in _graph().items():
        for module in others:
            parts = module.split(".")
            packages = [".".join(parts[:end]) for end in range(2, len(parts))]
            if any(not under(importer, package) for package in packages):
                past[module].add(importer)
    assert {m: tuple(sorted(who)) for m, who in past.items()} == dict(PAST_THE_FACE)


def test_no_module_imports_itself_by_a_detour() -> None:
    assert _circles(_graph()) == []


def test_no_package_imports_itself_by_a_detour() -> None:
    packages: dict[str, set[str]] = defaultdict(set)
    for importer, others in _graph().items():
        packages[_package(importer)] |= {_package(m) for m in others} - {_package(importer)}
    assert _circles({name: frozenset(others) for name, others in packages.items()}) == []


def test_a_module_that_one_other_imports_is_a_boundary() -> None:
    importers: dict[str, set[str]] = defaultdict(set)
    for importer, others in _graph().items():
        for module in others:
            importers[module].add(importer)
    alone = {
        module
        for module, who in importers.items()
        if len(who) == 1 and not who & _faces() and module not in _faces()
    }
    assert alone == set(BOUNDARIES)


def test_there_are_few_modules() -> None:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    with_code = [m for m in modules() if any(isinstance(node, kinds) for node in nodes(m))]
    assert len(with_code) <= MAX_MODULES


def test_a_module_has_the_size_of_one_idea() -> None:
    importers: dict[str, set[str]] = defaultdict(set)
    for importer, others in _graph().items():
        for module in others:
            importers[module].add(importer)
    sizes = {
        name: len(path.read_text(encoding="utf-8").splitlines())
        for name, path in modules().items()
        if not path.name.startswith("__")
    }
    small = {n for n, lines in sizes.items() if lines < MIN_LINES and len(importers[n]) < 2}
    assert small == set(SMALL)
    assert {name for name, lines in sizes.items() if lines > MAX_LINES} == set(LARGE)


@cache
def _crossed(*options: str) -> Mapping[tuple[str, str], tuple[int, int]]:
    """Return how many modules and calls an exact and a semantic hit take on each store."""
    program = Path(__file__).with_name("trace_lookup.py")
    ran = subprocess.run(
        [sys.executable, program, "memory://", "sqlite", "--json", "--checkout", ROOT, *options],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    found = {
        (url, tier): what
        for url, tiers in json.loads(ran.stdout).items()
        for tier, what in tiers.items()
        if tier != "miss"
    }
    assert all(tier == what["tier"] for (_, tier), what in found.items())
    return {key: (len(what["modules"]), what["calls"]) for key, what in found.items()}


def test_a_hit_crosses_few_modules() -> None:
    most = {
        (url, tier): count - OF_THE_MODEL * (tier == "semantic")
        for (url, tier), count in MAX_CROSSED.items()
    }
    crossed = _crossed("--fake")
    assert {key: crossed[key] for key in most if crossed[key][0] > most[key]} == {}
    assert {key: two for key, two in crossed.items() if two[1] > MAX_CALLS[key[1]]} == {}


@pytest.mark.model
def test_a_hit_by_the_local_model_crosses_few_modules() -> None:
    crossed = _crossed()
    over = {key: crossed[key] for key, most in MAX_CROSSED.items() if crossed[key][0] > most}
    assert over == {}
    assert {key: two for key, two in crossed.items() if two[1] > MAX_CALLS[key[1]]} == {}


@cache
def _defined() -> dict[str, set[str]]:
    """Return every class, function, method and top-level name, with the modules defining it."""
    found: dict[str, set[str]] = defaultdict(set)
    for module in modules():
        for node in nodes(module):
            if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                found[node.name].add(module)
        for name in _top_level(tree(module)):
            found[name].add(module)
    return found


def _top_level(module: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in module.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {t.id for t in node.targets if isinstance(t, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names


def test_names_are_those_of_the_glossary() -> None:
    assert {name for name in GLOSSARY if _defined().get(name)} == set()


def test_no_name_is_of_the_projects_own_making() -> None:
    """Local names, arguments and attributes too."""
    found = {
        f"{module}:{node.lineno} {name}"
        for module in modules()
        for node in nodes(module)
        for name in _names_set_by(node)
        if OWN_MAKING.search(name)
    }
    assert found == set()


def _names_set_by(node: ast.AST) -> Iterator[str]:
    if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        yield node.name
    elif isinstance(node, ast.arg):
        yield node.arg
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
        yield node.attr


def test_bounds_are_called_max_and_min() -> None:
    constants = {name for module in modules() for name in _top_level(tree(module))}
    assert {name for name in constants if BOUND_BY_ANOTHER_WORD.search(name)} == set()


def test_a_public_name_has_one_definition_in_a_distribution() -> None:
    """The adapters mirror each other, so that they share names; suites have names of their own.

    Type variables are nobody's names, and what a decorator registers goes by a route or a command.
    """
    where: dict[tuple[str, str], set[str]] = defaultdict(set)
    for module in modules():
        if under(module, "shared_core.testing"):
            continue
        for node in tree(module).body:
            if getattr(node, "decorator_list", []) and not isinstance(node, ast.ClassDef):
                continue
            value = getattr(node, "value", None)
            if isinstance(value, ast.Call) and getattr(value.func, "id", "") in TYPE_VARIABLES:
                continue
            for name in _top_level(ast.Module([node], [])):
                if not name.startswith("_"):
                    where[module.partition(".")[0], name].add(module)
    twice = {name: who for (_, name), who in where.items() if len(who) > 1}
    assert {n: sorted(who) for n, who in twice.items() if n not in DEFINED_TWICE} == {}
    assert set(DEFINED_TWICE) <= set(twice)
    assert len(DEFINED_TWICE) <= MAX_TWICE


def test_architecture_has_a_line_for_every_module() -> None:
    tree_of_files = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").split("```")[3]
    listed, parents = set[str](), list[str]()
    for line in tree_of_files.strip("\n").splitlines():
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        assert len(line.split()) > 1, f"{name}: say what it does"
        parents[depth:] = [name.rstrip("/").removesuffix(".py")]
        listed.add(".".join(parents))
    assert listed == set(modules())
