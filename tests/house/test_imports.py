"""What importing and building a cache costs a process that may never need the rest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "transformers", "sentence_transformers", "redis", "redisvl", "fastapi")
FRAMEWORKS = ("langchain_core", "llama_index")

ADAPTER_MAY_COST_S = 0.15
RUNS = 5

EXACT_ALONE = """
from langchain_core.outputs import Generation
from langchain_tiered_cache import TieredCache
cache = TieredCache({url!r}, semantic=False)
assert cache.lookup("prompt", "model") is None
cache.update("prompt", "model", [Generation(text="answer")])
assert cache.lookup("prompt", "model") == [Generation(text="answer")]
"""


def python(code: str, **environment: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | environment,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def loaded(code: str, names: tuple[str, ...]) -> list[str]:
    """Return which of these packages a new process has loaded after running the code."""
    out = python(f"import sys\n{code}\nprint(*sorted(set(sys.modules) & set({names!r})))")
    return out.split()


def test_importing_the_core_loads_neither_numpy_nor_a_framework() -> None:
    assert loaded("import shared_core", (*HEAVY, *FRAMEWORKS, "numpy")) == []


def test_every_name_of_the_core_is_there_when_it_is_asked_for() -> None:
    import shared_core

    assert len(set(shared_core.__all__)) == len(shared_core.__all__)
    assert set(shared_core.__all__) <= set(dir(shared_core))
    for name in shared_core.__all__:
        found = getattr(shared_core, name)
        assert name == getattr(found, "__name__", name)
    with pytest.raises(AttributeError, match="Nothing"):
        shared_core.Nothing  # noqa: B018


def test_names_that_no_lookup_needs_are_loaded_when_they_are_asked_for() -> None:
    later = ("client", "batcher", "decorator", "chunks", "prefix", "costs", "embedding_cache")
    modules = tuple(f"shared_core.{name}" for name in later)
    assert loaded("import shared_core", modules) == []
    code = "from shared_core import CachedClient, ChunkCache, PrefixCache, cached, Costs"
    assert loaded(code, (*HEAVY, *FRAMEWORKS, "openai")) == []


@pytest.mark.slow
@pytest.mark.parametrize("store", ["memory://", "sqlite"])
def test_the_exact_tier_loads_nothing_heavy(store: str, tmp_path: object) -> None:
    pytest.importorskip("langchain_core")
    url = store if store == "memory://" else f"sqlite:///{tmp_path}/answers.db"
    assert loaded(EXACT_ALONE.format(url=url), HEAVY) == []


def test_building_a_semantic_cache_loads_no_model() -> None:
    code = "from shared_core import ResponseCache\nResponseCache.open()"
    assert loaded(code, HEAVY) == []


@pytest.mark.slow
def test_importing_the_adapter_costs_little_beyond_langchain(tmp_path: Path) -> None:
    pytest.importorskip("langchain_core")
    # Compiled modules, as every process after an app's first one finds them.
    kept = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path)}
    code = "import time\nimport {0}\nprint(time.process_time())"
    python(code.format("langchain_tiered_cache"), **kept)
    alone, adapter = [], []
    for _ in range(RUNS):  # in turns, so that both meet the same machine; the least is the cost
        alone.append(float(python(code.format("langchain_core.caches"), **kept)))
        adapter.append(float(python(code.format("langchain_tiered_cache"), **kept)))
    assert min(adapter) - min(alone) <= ADAPTER_MAY_COST_S


WITHOUT = """
import sys
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {gone!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Nothing())
try:
    {code}
except (ImportError, SystemExit) as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("gone", "code", "remedy"),
    [
        ("langchain_core", "import langchain_tiered_cache", "tiered-llm-cache[langchain]"),
        ("llama_index", "import llamaindex_tiered_cache", "tiered-llm-cache[llamaindex]"),
        ("langchain", "import langchain_tiered_cache.middleware", "langchain>=1"),
        ("langgraph", "from langchain_tiered_cache import TieredNodeCache", "langgraph"),
        ("redis", "import shared_core; shared_core.open_store('redis://x')", "[redis]"),
        ("typer", "import shared_core.cli", "tiered-llm-cache[cli]"),
        (
            "openai",
            "import shared_core as c; c.CachedClient(c.ResponseCache.open(semantic=False), 1)",
            "tiered-llm-cache[client]",
        ),
        (
            "cryptography",
            "import shared_core; shared_core.ResponseCache.open(encryption_key='k')",
            "tiered-llm-cache[encryption]",
        ),
        (
            "opentelemetry",
            "from shared_core.telemetry import *; OpenTelemetryHook()",
            "[telemetry]",
        ),
        (
            "prometheus_client",
            "from shared_core.telemetry import *; PrometheusHook()",
            "[telemetry]",
        ),
        (
            "fastapi",
            "from shared_core.cli import app; app(['serve', '--port', '0'])",
            "tiered-llm-cache[service]",
        ),
    ],
    ids=lambda case: case if case.isidentifier() else None,
)
def test_what_is_not_installed_names_its_remedy(gone: str, code: str, remedy: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(gone={gone}, code=code)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    said = ran.stdout + ran.stderr
    assert "pip install" in said
    assert remedy in said
    assert "Traceback" not in said
