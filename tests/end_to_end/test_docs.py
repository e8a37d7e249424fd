"""The documentation is whole: it builds without a warning, and its reference names all there is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import FunctionType

import pytest

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
