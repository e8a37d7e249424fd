"""Without torch on the disk: the environment that ``make demo`` makes, in a folder of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

ABSENT = ("torch", "transformers", "sentence_transformers", "redis", "llama_index")

SEMANTIC_HIT = """
import importlib.util, sys
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import FakeListLLM
from langchain_tiered_cache import TieredCache
there = [name for name in sys.argv[1:] if importlib.util.find_spec(name) is not None]
assert not there, there
cache = TieredCache("memory://", threshold=0.9)
set_llm_cache(cache)
model = FakeListLLM(responses=["Press the button.", "Something else."])
assert model.invoke("How do I reset my password?") == "Press the button."
assert model.invoke("How can I reset my password?") == "Press the button."
print(cache.cache.stats().hits_by_tier)
"""


@pytest.mark.slow
def test_the_demo_s_environment_hits_by_meaning_without_torch(tmp_path: Path) -> None:
    copied = shutil.ignore_patterns(".*", "tests", "notebooks", "docs", "__pycache__")
    shutil.copytree(ROOT, tmp_path / "project", ignore=copied)
    clean = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "VIRTUAL_ENV", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    }

    def run(*command: str) -> str:
        done = subprocess.run(
            command,
            cwd=tmp_path / "project",
            env=clean,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    demo = run("make", "demo", f"PYTHON={sys.executable}")
    assert "cache, by meaning (" in demo
    assert "'semantic': 1" in run(".venv/bin/python", "-c", SEMANTIC_HIT, *ABSENT)
    installed = sum(one.lstat().st_size for one in (tmp_path / "project/.venv").rglob("*"))
    assert installed < 450e6
