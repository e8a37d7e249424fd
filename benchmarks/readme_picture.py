"""Draw the README's picture from a real session: a hit, a refusal, a saving.

    python benchmarks/readme_picture.py

The cache and its embeddings are real, with the default policy. The model is a stand-in that takes
0.9 seconds and gives fixed answers; a token is counted for every four characters. The picture is
``docs/figures/session.png``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from langchain_tiered_cache import TieredCache
from shared_core.guard import Guard

PICTURE = Path(__file__).parent.parent / "docs" / "figures" / "session.png"
MODEL_S = 0.9
RESET, RETURN = "How do I reset my password?", "Can I return shoes within 30 days?"
ANSWERS = {
    RESET: "Choose Settings, then Security, and follow the link. It is good for one hour.",
    RETURN: "Yes, with the receipt, if they were not worn outside.",
    "Can I return shoes within 60 days?": "No, you have 30 days. After that we can offer a repair.",
}
SESSION = (
    RESET,
    RESET,
    "How can I reset my password?",
    RETURN,
    "Can I return shoes within 60 days?",
)

COLUMNS = 75
BACKGROUND, PLAIN, DIM = "#12161d", "#e6e9ef", "#8b95a7"
GREEN, RED, YELLOW = "#6fd08c", "#ff8f7a", "#ffd479"


class StandIn(BaseChatModel):
    """A model with fixed answers that takes as long as a hosted one."""

    model_name: str = "gpt-4o-mini"
    temperature: float = 0.0

    @property
    def _llm_type(self) -> str:
        return "stand-in"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_name": self.model_name, "temperature": self.temperature}

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        time.sleep(MODEL_S)
        question = str(messages[-1].content)
        tokens = sum(len(str(message.content)) for message in messages) // 4
        answer = ANSWERS[question]
        usage = {"input_tokens": tokens, "output_tokens": len(answer) // 4}
        message = AIMessage(
            answer,
            usage_metadata={**usage, "total_tokens": sum(usage.values())},
            response_metadata={"finish_reason": "stop"},
        )
        return ChatResult(generations=[ChatGeneration(message=message)])


@dataclass(frozen=True, slots=True)
class Line:
    """Holds one line of the picture: pieces of text, each with its colour."""

    pieces: tuple[tuple[str, str], ...]


def play() -> list[Line]:
    """Return the lines of a session, as the cache answered it."""
    cache = TieredCache()
    cache.cache.preload()
    set_llm_cache(cache)
    model, lines, before = StandIn(), [], ""
    for question in SESSION:
        start = time.perf_counter()
        mark = model.invoke(question).response_metadata["tiered_cache"]
        took = time.perf_counter() - start
        lines.append(Line((("> ", YELLOW), (question, PLAIN))))
        lines.append(_outcome(question, before, mark, took))
        before = question if not mark["hit"] else before
    stats = cache.cache.stats()
    saved = sum(stats.tokens_saved.values())
    text = f"saved: {stats.hits} of {stats.lookups} calls to the model, {saved} tokens, "
    lines.append(Line(((f"{text}{stats.hits * MODEL_S:.1f} seconds of waiting", GREEN),)))
    return lines


def _outcome(question: str, before: str, mark: dict[str, Any], took: float) -> Line:
    time_taken = f"{took * 1000:8.1f} ms"
    if mark["hit"]:
        why = "the same question" if mark["tier"] == "exact" else "the same in other words"
        text = f"  answered by the cache: {why}".ljust(62)
        return Line(((text, GREEN), (time_taken, GREEN)))
    if mark["reason"] == "guard":
        (found,) = Guard().differences(question, before)  # it reads units in the singular
        text = f"  refused: {found.asked[0]}s is not {found.cached[0]}s, so the model is asked"
        return Line(((text.ljust(62), RED), (time_taken, DIM)))
    return Line((("  answered by the model".ljust(62), DIM), (time_taken, DIM)))


def draw(lines: list[Line]) -> None:
    """Write the picture: the lines on a dark ground, as a terminal shows them."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    heights = [1.0 if line.pieces[0][0] == "> " else 1.35 for line in lines]
    bottom = sum(heights)
    figure = pyplot.figure(figsize=(8.8, 0.3 * (bottom + 1.1)), facecolor=BACKGROUND)
    axes = figure.add_axes((0, 0, 1, 1), facecolor=BACKGROUND)
    axes.set_xlim(-1.5, COLUMNS)
    axes.set_ylim(bottom + 0.1, -1)
    axes.axis("off")
    style = {"family": "monospace", "fontsize": 13.5}
    for row, line in enumerate(lines):
        column = 0
        for text, colour in line.pieces:
            for at, letter in enumerate(text):
                axes.text(column + at, sum(heights[:row]), letter, color=colour, **style)
            column += len(text)
    figure.savefig(PICTURE, dpi=160, facecolor=BACKGROUND)


if __name__ == "__main__":
    played = play()
    for one in played:
        print("".join(text for text, _ in one.pieces))
    draw(played)
