"""The examples of README.md and docs/ run as they stand; a stand-in plays the provider."""

from __future__ import annotations

import gc
import re
import sys
import tomllib
import types
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

pytest.importorskip("langchain_core")
pytest.importorskip("openai")

import openai
from langchain_core.embeddings import Embeddings
from langchain_core.globals import set_llm_cache
from pydantic import BaseModel

from shared_core.embedding import Embedder
from tests.fakes import FakeChatModel
from tests.openai_server import Server

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class ChatOpenAI(FakeChatModel):
    """Takes what the examples give to the provider's class."""

    def __init__(self, model: str = "gpt-4o-mini", **kwargs: Any) -> None:
        super().__init__(model_name=model, **kwargs)


class OpenAIEmbeddings(BaseModel, Embeddings):
    """Notes which words a text has, in the place of the provider's class."""

    model: str = "text-embedding-3-small"

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        words = [set(re.findall(r"\w+", text.lower())) for text in texts]
        places = [{crc32(word.encode()) % 256 for word in found} for found in words]
        return [[float(place in found) for place in range(256)] for found in places]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(document: Path) -> Iterator[str]:
    """Return the examples of a document, each on the line where it stands."""
    text = document.read_text()
    for found in BLOCK.finditer(text):
        yield "\n" * (text.count("\n", 0, found.start()) + 1) + found[1]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give an example a folder of its own and a provider without a network."""
    provider = types.ModuleType("langchain_openai")
    provider.ChatOpenAI = ChatOpenAI  # type: ignore[attr-defined]
    provider.OpenAIEmbeddings = OpenAIEmbeddings  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "langchain_openai", provider)
    server = Server()
    monkeypatch.setattr(openai, "OpenAI", server.client)
    monkeypatch.setattr(openai, "AsyncOpenAI", server.async_client)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    set_llm_cache(None)
    with warnings.catch_warnings():  # examples leave open what an app closes at its end
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def run(document: Path, codes: Iterable[str]) -> None:
    """Run examples one after the other; a later one may use the names of an earlier one."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for code in codes:
        exec(compile(code, str(document), "exec"), names)  # noqa: S102 - our own documents


def test_the_readme_has_examples() -> None:
    assert len(list(blocks(ROOT / "README.md"))) >= 2


# LlamaIndex' workflows look at every attribute of an agent, deprecated ones of pydantic included.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.model
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_the_examples_of_a_document_run(
    document: Path, workplace: Path, model_embedder: Embedder
) -> None:
    run(document, blocks(document))


@pytest.mark.model
def test_the_langchain_example_is_answered_by_the_cache(
    workplace: Path, model_embedder: Embedder, capsys: pytest.CaptureFixture[str]
) -> None:
    document = ROOT / "README.md"
    run(document, [code for code in blocks(document) if "set_llm_cache" in code])
    (printed,) = capsys.readouterr().out.splitlines()
    assert "'tier': 'semantic'" in printed


@pytest.mark.model
def test_the_tutorial_shows_what_it_says(
    workplace: Path, model_embedder: Embedder, capsys: pytest.CaptureFixture[str]
) -> None:
    document = ROOT / "docs" / "first-cache.md"
    run(document, list(blocks(document))[:3])
    first, second, third, reason = capsys.readouterr().out.splitlines()
    assert "'reason': 'new_scope'" in first
    assert "'tier': 'exact'" in second
    assert "'tier': 'semantic'" in third
    assert reason in ("guard", "risk")


@pytest.mark.model
def test_the_rag_tutorial_answers_a_paraphrase(
    workplace: Path, model_embedder: Embedder, capsys: pytest.CaptureFixture[str]
) -> None:
    document = ROOT / "docs" / "first-rag-app.md"
    again = 'print(ask("How long may I keep a book?").response_metadata["tiered_cache"]["hit"])'
    run(document, [*list(blocks(document))[:2], again, list(blocks(document))[-1], again])
    paraphrase, before, after = capsys.readouterr().out.splitlines()
    assert "'tier': 'semantic'" in paraphrase
    assert (before, after) == ("True", "False"), "the page was forgotten"


def test_the_commands_that_the_readme_names_are_there() -> None:
    text = (ROOT / "README.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


EXTRAS: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
    "optional-dependencies"
]
NAMED = re.compile(r"tiered-llm-cache\[([\w,]+)\]")


def brought_by(extras: Iterable[str]) -> set[str]:
    """Return the names of the packages that extras bring, those of further extras included."""
    found = set()
    for requirement in (line for extra in extras for line in EXTRAS[extra]):
        if inner := NAMED.match(requirement):
            found |= brought_by(inner[1].split(","))
        else:
            found.add(re.split(r"[^\w-]", requirement)[0])
    return found


def test_the_extras_that_texts_name_are_there() -> None:
    for path in [*DOCUMENTS, *ROOT.glob("shared_core/**/*.py")]:
        for named in NAMED.findall(path.read_text()):
            assert set(named.split(",")) <= set(EXTRAS), f"{path.name}: {named}"


def test_no_line_of_the_documents_brings_torch_unless_it_says_so() -> None:
    assert "torch" in brought_by(["all"])
    for path in DOCUMENTS:
        for line in path.read_text().splitlines():
            for named in NAMED.findall(line):
                heavy = {"torch", "sentence-transformers"} & brought_by(named.split(","))
                assert not heavy or "torch" in line, f"{path.name}: {line}"


COMMAND = re.compile(r"tiered-cache ((?:[a-z]+)(?: [^`\n#|;]*)?)")


def test_the_commands_and_flags_that_texts_name_are_there() -> None:
    import typer

    from shared_core.cli import app
    from shared_core.service import Settings

    root: Any = typer.main.get_command(app)
    flags = {
        name: {flag for given in command.params for flag in (*given.opts, *given.secondary_opts)}
        for name, command in root.commands.items()
    }
    flags["serve"] |= {f"--{name.replace('_', '-')}" for name in Settings.model_fields}
    flags["serve"] |= {"--print-config"}
    seen = set()
    for path in DOCUMENTS:
        for line in COMMAND.findall(path.read_text()):
            name, *words = line.split()
            if name not in flags:
                continue  # a sentence about the command
            seen.add(name)
            for word in words:
                flag = word.partition("=")[0]
                if flag.startswith("--") and flag != "--help":
                    assert flag in flags[name], f"{path.name}: tiered-cache {line}"
    assert {"serve", "stats", "tune", "warm", "doctor", "inspect", "review"} <= seen
