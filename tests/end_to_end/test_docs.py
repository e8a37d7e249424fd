"""The documentation is whole: it builds without a warning, and its reference names all there is."""

from __future__ import annotations

import ast
import doctest
import inspect
import os
import re
import subprocess
import sys
import textwrap
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from types import FunctionType

import pytest

from docs import reference_pages
from shared_core import Options

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "shared_core": "core",
    "langchain_tiered_cache": "langchain",
    "llamaindex_tiered_cache": "llamaindex",
}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_reference_names_every_public_name(package: str) -> None:
    page = (ROOT / "docs" / "reference" / f"{PACKAGES[package]}.md").read_text()
    named = set(re.findall(rf"^::: {package}\.(\w+)$", page, re.MULTILINE))
    assert set(import_module(package).__all__) <= named


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_says_what_it_does(package: str) -> None:
    module = import_module(package)
    silent = [
        name
        for name in module.__all__
        if isinstance(getattr(module, name), (type, FunctionType))
        and not (getattr(module, name).__doc__ or "").strip()
    ]
    assert not silent


def examples_of(doc: str) -> list[str]:
    """Return the code in a docstring: lines that are indented, and those behind ">>>"."""
    text = inspect.cleandoc(doc) + "\n"
    blocks = re.findall(r"(?<=\n\n)((?:    .*\n|\n(?=    ))+)", text)
    typed = re.findall(r"^ *(?:>>>|\.\.\.) (.*\n)", text, re.MULTILINE)
    return [textwrap.dedent(block) for block in blocks if ">>>" not in block] + ["".join(typed)]


@pytest.mark.parametrize("page", PACKAGES.values())
def test_every_public_class_and_function_has_an_example(page: str) -> None:
    text = (ROOT / "docs" / "reference" / f"{page}.md").read_text()
    for package, name in re.findall(r"^::: ([\w.]+)\.(\w+)$", text, re.MULTILINE):
        found = getattr(import_module(package), name)
        if not isinstance(found, (type, FunctionType)):
            continue  # another name of types: it has no docstring of its own
        examples = [code for code in examples_of(found.__doc__ or "") if name in code]
        assert examples, f"{package}.{name}"
        for code in examples:
            compile(code, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("package", PACKAGES)
def test_examples_with_results_are_right(package: str) -> None:
    module = import_module(package)
    names = {name: getattr(module, name) for name in module.__all__}
    finder, runner = doctest.DocTestFinder(recurse=False), doctest.DocTestRunner()
    for name, found in names.items():
        for case in finder.find(found, name, module=False, globs=names):
            runner.run(case)
    assert runner.summarize(verbose=False).failed == 0


DOCS = ROOT / "docs"
GENERATED = frozenset(reference_pages.PAGES)


@pytest.fixture(scope="module")
def generated() -> dict[str, str]:
    """Return the pages that are made of the code."""
    return {path: page() for path, page in reference_pages.PAGES.items()}


@pytest.mark.slow
def test_every_option_is_on_its_page(generated: dict[str, str]) -> None:
    shown = re.findall(
        r"^\| `(\w+)` \| .+ \| .+ \|$", generated["reference/options.md"], re.MULTILINE
    )
    assert sorted(shown) == sorted(field.name for field in fields(Options))


@pytest.mark.slow
def test_every_command_is_on_its_page(generated: dict[str, str]) -> None:
    from shared_core.cli import app

    commands = {
        command.name or command.callback.__name__
        for command in app.registered_commands
        if command.callback is not None
    }
    headings = set(re.findall(r"^## (\w+)$", generated["reference/cli.md"], re.MULTILINE))
    assert headings == {name.removesuffix("_command") for name in commands}


@pytest.mark.slow
def test_every_route_is_on_its_page(generated: dict[str, str]) -> None:
    from shared_core.service import Settings, create_app

    page = generated["reference/service.md"]
    for path, methods in create_app(Settings()).openapi()["paths"].items():
        for method in methods:
            assert f"`{method.upper()} {path}`" in page


@pytest.mark.slow
def test_every_metric_is_on_its_page(generated: dict[str, str]) -> None:
    page = generated["reference/metrics.md"]
    found = []
    for folder, name in (
        ("telemetry", r'"(tiered_cache[._][a-z_.]+)"'),
        ("service", r'"(tiered_cache_\w+)"'),
    ):
        for path in (ROOT / "shared_core" / folder).rglob("*.py"):
            found += re.findall(name, path.read_text())
    named = set(found)
    assert len(named) > 10
    assert {name for name in named if name not in page} == set()


def test_every_page_is_in_the_navigation() -> None:
    named = set(re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    written = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert named == written | GENERATED


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.stem)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("https://", "http://127.0.0.1", "#")):
            continue
        found = (page.parent / target.partition("#")[0]).resolve()
        assert found.exists() or found.relative_to(DOCS).as_posix() in GENERATED, target


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert built.returncode == 0, built.stderr
    assert (tmp_path / "site" / "reference" / "core" / "index.html").exists()
