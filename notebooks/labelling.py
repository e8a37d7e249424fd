"""Label pairs of questions in a notebook, by single keys, and keep the labels in a file.

pairs --Labels.widget: y, n, s--> labels, kept as CSV --> tune
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from shared_core.learning import LoggedPair

KEYS = {"y": True, "n": False, "s": None}


class Labels(dict[tuple[str, str], bool]):
    """Labels of (question, cached question): does one answer fit both? What is skipped has none.

    ``file`` is a CSV in which they are kept as they come, and found again; None keeps them here
    alone. ``pairs`` should come in a random order, so that the first ones are a fair sample.
    """

    def __init__(self, pairs: Sequence[LoggedPair], file: Path | None = None) -> None:
        super().__init__()
        self.pairs, self.file = pairs, file
        if file is not None and file.exists():
            with file.open(encoding="utf-8", newline="") as lines:
                for row in csv.DictReader(lines):
                    self[row["question"], row["cached"]] = row["same"] == "true"

    def open(self) -> Iterator[LoggedPair]:
        """Yield the pairs that have no label yet."""
        return (pair for pair in self.pairs if pair.questions not in self)

    def say(self, pair: LoggedPair, same: bool) -> None:
        """Label a pair, and keep that."""
        self[pair.questions] = same
        if self.file is not None:
            is_new = not self.file.exists()
            with self.file.open("a", encoding="utf-8", newline="") as lines:
                writer = csv.writer(lines)
                if is_new:
                    writer.writerow(("question", "cached", "same"))
                writer.writerow((*pair.questions, str(same).lower()))

    def fill(self, known: Callable[[str], object]) -> None:
        """Label all open pairs by what is known of each question: its answer, or who has it."""
        for pair in list(self.open()):
            asked, cached = map(known, pair.questions)
            if asked is not None and cached is not None:
                self.say(pair, asked == cached)

    def widget(self) -> Any:
        """Return what shows one pair after the other and takes y, n and s, keys or buttons."""
        import ipywidgets as widgets

        left = list(self.open())
        shown, far = widgets.HTML(), widgets.IntProgress(max=max(1, len(left)))
        key = widgets.Text(placeholder="type y, n or s here", layout={"width": "12em"})
        buttons = [
            widgets.Button(description=text, layout={"width": "9em"})
            for text in ("y: one answer", "n: two answers", "s: skip")
        ]

        def show() -> None:
            far.value = far.max - len(left)
            shown.value = page_of(left[0], far.value + 1, far.max) if left else "All are labelled."

        def take(letter: str) -> None:
            if not left or letter not in KEYS:
                return
            pair, same = left.pop(0), KEYS[letter]
            if same is not None:
                self.say(pair, same)
            show()

        def typed(change: dict[str, Any]) -> None:
            if change["new"]:
                key.value = ""
                take(change["new"].strip().lower()[:1])

        key.observe(typed, "value")
        for button, letter in zip(buttons, KEYS, strict=True):
            button.on_click(lambda _, letter=letter: take(letter))
        show()
        return widgets.VBox([far, shown, widgets.HBox([key, *buttons])])


def page_of(pair: LoggedPair, number: int, of: int) -> str:
    """Return what a person sees of a pair, as HTML."""
    from html import escape

    asked, cached = map(escape, pair.questions)
    answer = escape(pair.cached.answer.text) if pair.cached.answer else "(not in the log)"
    return (
        f"<p>{number} of {of}, similarity {pair.similarity:.3f}</p>"
        f"<p><b>asked:</b> {asked}<br><b>cached:</b> {cached}<br><b>its answer:</b> {answer}</p>"
    )
