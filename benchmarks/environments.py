"""Make the environments of caches whose requirements clash with ours: .bench-envs/NAME.

    python benchmarks/environments.py

Each sees the packages of the environment that this runs in (a path file says where they are), so
that all have the same torch, sentence-transformers and redis-py; what a peer needs otherwise is
installed in its own and comes first. One that cannot be installed is left out of the comparison.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv

from worker import ENVIRONMENTS

REQUIREMENTS = {
    "langchain-redis": ["langchain-redis==0.2.6"],  # wants hf-xet<1.5.3, huggingface-hub a later
    "gptcache": ["gptcache==0.1.44", "faiss-cpu==1.15.1"],
    "gptcache-openai": ["gptcache==0.1.44", "openai==0.28.1"],  # its adapter wants openai<1
    "litellm": ["litellm==1.110.2", "soundfile==0.13.1"],  # a hit imports soundfile
    "langgraph-redis": ["langgraph-checkpoint-redis==0.5.2"],
    "betterdb": ["betterdb-semantic-cache==0.13.0"],
    "fow-cache": ["fow-cache==0.1.0"],  # pairs of questions: what a cache should tell apart
}


def make(name: str) -> None:
    """Make one environment unless it is there. Raises CalledProcessError."""
    place = ENVIRONMENTS / name
    done = place / ".installed"
    wanted = "\n".join(REQUIREMENTS[name])
    if done.exists() and done.read_text() == wanted:
        return
    venv.create(place, clear=True, with_pip=False)
    python = str(place / "bin/python")
    find = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    told = subprocess.run([python, "-c", find], capture_output=True, check=True, text=True)
    shared = sysconfig.get_paths()["purelib"]
    with open(f"{told.stdout.strip()}/shared.pth", "w") as file:
        file.write(shared + "\n")
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, *REQUIREMENTS[name]], check=True)
    done.write_text(wanted)


def main() -> None:
    for name in REQUIREMENTS:
        try:
            make(name)
        except subprocess.CalledProcessError as error:
            print(f"without {name}: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
