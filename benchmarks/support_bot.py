"""Show what a support bot gets of the cache in its first requests, through LangChain on SQLite.

    python benchmarks/support_bot.py [--seeds 8] [--requests 600] [--threshold .92] [--zipf]

Forty questions in five wordings each (``data/support_bot.txt``) are asked in random order, behind
one system prompt. A chat model that knows the answers counts how often it is called; every cache
begins empty, with the default policy unless ``--threshold`` names a similarity. A semantic hit with
another question's answer is wrong. A row tells, for a seed, after how many requests the first
semantic hit came, how many there were, and how many were wrong.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from langchain_tiered_cache import TieredCache
from shared_core.embedding import SentenceTransformerEmbedder

QUESTIONS = Path(__file__).parent / "data" / "support_bot.txt"
SYSTEM = "You answer customers of a shop for garden tools, in one or two sentences."


class Run(NamedTuple):
    """Counts the hits of one app; ``first`` is its first semantic one, None if it got none."""

    first: int | None
    exact: int
    semantic: int
    wrong: int


def read_questions(path: Path = QUESTIONS) -> dict[str, str]:
    """Return question -> answer."""
    answer, found = "", {}
    for line in path.read_text("utf-8").splitlines():
        if line.startswith("["):
            answer = line.strip("[]")
        elif line and not line.startswith("#"):
            found[line] = answer
    return found


class Clerk(BaseChatModel):
    """A chat model that knows the answers."""

    answers: dict[str, str]

    @property
    def _llm_type(self) -> str:
        return "clerk"

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        text = self.answers[str(messages[-1].content)]
        return ChatResult(generations=[ChatGeneration(message=AIMessage(text))])


def run(
    seed: int, requests: int, embedder: Any, threshold: float | None = None, zipf: bool = False
) -> Run:
    """Ask in a random order given by ``seed``, and count what came from the cache."""
    answers = read_questions()
    chance = random.Random(seed)
    questions = list(answers)
    chance.shuffle(questions)
    weights = [1 / rank for rank in range(1, len(questions) + 1)] if zipf else None
    asked = chance.choices(questions, weights, k=requests)
    options = {} if threshold is None else {"threshold": threshold}
    first, counts = None, {"exact": 0, "semantic": 0, "wrong": 0}
    with tempfile.TemporaryDirectory() as folder:
        cache = TieredCache(f"sqlite:///{folder}/answers.db", embedder=embedder, **options)
        model = Clerk(answers=answers, cache=cache)
        for number, question in enumerate(asked, 1):
            message = model.invoke([SystemMessage(SYSTEM), HumanMessage(question)])
            mark = message.response_metadata["tiered_cache"]
            if not mark["hit"]:
                continue
            counts[mark["tier"]] += 1
            if mark["tier"] == "semantic":
                first = first or number
                counts["wrong"] += message.text != answers[question]
        cache.close()
    return Run(first, **counts)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--requests", type=int, default=600)
    parser.add_argument("--threshold", type=float, help="a similarity in the place of Verified()")
    parser.add_argument("--zipf", action="store_true", help="few wordings are asked often")
    options = parser.parse_args()
    embedder, runs = SentenceTransformerEmbedder(), []
    for seed in range(options.seeds):
        one = run(seed, options.requests, embedder, options.threshold, options.zipf)
        runs.append(one)
        print(
            f"seed {seed}: first semantic hit {one.first}, {one.exact} exact hits, "
            f"{one.semantic} semantic, {one.wrong} wrong",
            flush=True,
        )
    print(
        f"{sum(one.wrong for one in runs)} wrong of {sum(one.semantic for one in runs)} semantic "
        f"hits; {mean(one.semantic for one in runs):.1f} on average, first after at most "
        f"{max((one.first or options.requests) for one in runs)} requests"
    )


if __name__ == "__main__":
    main()
