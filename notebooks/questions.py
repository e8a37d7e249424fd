"""Labelled questions for the notebooks: those written for them, or a public set from a folder.

file -> [Question] -> pairs for histograms | a log of requests for tuning | a stream of requests
"""

from __future__ import annotations

import csv
import gzip
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy import float32
from numpy.typing import NDArray

from shared_core.embedding import resolve_embedder

DATA = Path(__file__).parent / "data"
WRITTEN = DATA / "questions.jsonl"

FRAMES = (
    "Hello, {}",
    "{} Thanks in advance!",
    "A quick question: {}",
    "I would like to know: {}",
    "{} I could not find it anywhere.",
)
"""What people write around a question; none of it changes what is asked."""

BATCH = 64

Vectors = NDArray[float32]
Pair = tuple[str, str, bool]


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and the group of all that have the same answer."""

    text: str
    group: int
    answer: str


def written() -> list[Question]:
    """Return the 604 questions of this folder: 151 groups of four wordings, many nearly alike."""
    with WRITTEN.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [Question(row["t"], row["c"], row["a"]) for row in rows]


def public_set(folder: Path, name: str) -> list[Question]:
    """Read ``<name>.jsonl.gz`` with rows ``{"t": question, "c": class}``; a class is an answer.

    Raises OSError for a file that is not there, KeyError for rows without these names.
    """
    with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    numbers: dict[str, int] = {}
    return [
        Question(row["t"], numbers.setdefault(str(row["c"]), len(numbers)), f"Answer {row['c']}")
        for row in rows
    ]


class Embedded:
    """The default embedder, with texts embedded beforehand in batches; others when they come.

    It goes by the model's name, as its vectors are the model's.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._model = resolve_embedder(None)
        self._known: dict[str, Vectors] = {}
        wanted = sorted(
            set(texts), key=lambda text: (len(text), text)
        )  # a batch pads to its longest
        for start in range(0, len(wanted), BATCH):
            batch = wanted[start : start + BATCH]
            self._known.update(zip(batch, self._model.embed(batch), strict=True))
        self.name, self.dimension = self._model.name, self._model.dimension
        self.max_tokens = self._model.max_tokens
        self.count_tokens = self._model.count_tokens

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return float32 (n, d), rows of length 1."""
        return np.stack([self._vector(text) for text in texts])

    def _vector(self, text: str) -> Vectors:
        if text not in self._known:
            self._known[text] = self._model.embed([text])[0]
        return self._known[text]


def labelled_pairs(questions: Sequence[Question], vectors: Vectors) -> list[Pair]:
    """Pair the wordings of each group (same), and each question with the nearest of another.

    ``vectors`` (n, d) are of length 1. The second kind are hard negatives: of all that must not be
    served, the one most like the question.
    """
    groups = np.array([one.group for one in questions])
    cosines = vectors @ vectors.T
    cosines[groups[:, None] == groups] = -1.0
    same = [
        (one.text, other.text, True)
        for at, one in enumerate(questions)
        for other in questions[at + 1 :]
        if one.group == other.group
    ]
    nearest = cosines.argmax(axis=1)
    return same + [
        (one.text, questions[at].text, False) for one, at in zip(questions, nearest, strict=True)
    ]


def log_of_requests(questions: Sequence[Question], vectors: Vectors) -> list[Pair]:
    """Pair each question with the nearest that was asked before it: what a cache would hold.

    ``vectors`` (n, d) are of length 1. The first question has none before it, and no pair.
    """
    cosines = vectors @ vectors.T
    nearest = [int(cosines[at, :at].argmax()) for at in range(1, len(questions))]
    return [
        (one.text, questions[at].text, one.group == questions[at].group)
        for one, at in zip(questions[1:], nearest, strict=True)
    ]


def stream(questions: Sequence[Question], requests: int, seed: int) -> list[Question]:
    """Return that many requests in an order of arrival, no two of the same wording.

    Each question comes as it is, and as often within frames, drawn by chance, as makes up the
    number.
    """
    rng = random.Random(seed)
    framed = [replace(one, text=frame.format(one.text)) for one in questions for frame in FRAMES]
    rng.shuffle(framed)
    chosen = [*questions, *framed][:requests]
    rng.shuffle(chosen)
    return chosen


# A support bot's log, as its app or a tracing service would export it. `python questions.py` writes
# the samples in the folder data.

SUPPORT = 39
"""The first groups of the questions are those of a bank's customers."""

SYSTEM = "You answer questions of a bank's customers, briefly and correctly."
MODEL = "gpt-4o"
BEGINS = datetime(2026, 11, 2, 8, tzinfo=UTC).timestamp()
REQUESTS_A_DAY = 100

SAID = (
    "{}",
    "{}",
    "Sure! {}",
    "{} Let me know if there is anything else.",
    "Thanks for asking. {}",
    "{} I hope that helps!",
    "Of course: {}",
)
"""What a model writes around an answer; none of it changes what is said."""


def support_log(requests: int = 1000, seed: int = 1) -> list[dict[str, Any]]:
    """Return what a bank's support bot was asked in ten days: few questions often, many seldom."""
    rng = random.Random(seed)
    questions = [one for one in written() if one.group < SUPPORT]
    groups = rng.sample(range(SUPPORT), SUPPORT)
    often = [1 / (place + 3) for place in range(SUPPORT)]
    rows, now = list[dict[str, Any]](), BEGINS
    for _ in range(requests):
        (group,) = rng.choices(groups, often)
        one = rng.choice([question for question in questions if question.group == group])
        text = rng.choice([*FRAMES, "{}", "{}", "{}"]).format(one.text)
        answer = rng.choice(SAID).format(one.answer)
        now += rng.expovariate(REQUESTS_A_DAY / 86_400)
        tokens = {
            "input_tokens": len(SYSTEM + text) // 4 + 8,
            "output_tokens": len(answer) // 4 + 1,
        }
        when = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
        rows.append(
            {"time": when, "model": MODEL, "system": SYSTEM, "params": {"temperature": 0}}
            | {"question": text, "answer": answer}
            | tokens
        )
    return rows


def known_answer(text: str) -> int | None:
    """Return the group that a question of the sample belongs to: its answer, whatever the words."""
    bare = {one.text: one.group for one in written()}
    for frame in ("{}", *FRAMES):
        front, _, back = frame.partition("{}")
        if text.startswith(front) and text.endswith(back):
            group = bare.get(text[len(front) : len(text) - len(back) or None])
            if group is not None:
                return group
    return None


def as_langsmith(row: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Return a row as LangSmith exports the run of a chat model."""
    kinds = ("SystemMessage", "system"), ("HumanMessage", "human"), ("AIMessage", "ai")
    texts = row["system"], row["question"], row["answer"]
    system, human, said = (
        {
            "lc": 1,
            "type": "constructor",
            "id": ["langchain", "schema", "messages", name],
            "kwargs": {"content": text, "type": kind},
        }
        for (name, kind), text in zip(kinds, texts, strict=True)
    )
    about = {"finish_reason": "stop", "model_name": row["model"]}
    said["kwargs"]["response_metadata"] = about
    generation = {"text": row["answer"], "generation_info": about, "message": said}
    asked, told = row["input_tokens"], row["output_tokens"]
    return {
        "id": f"00000000-0000-4000-8000-{number:012d}",
        "name": "ChatOpenAI",
        "run_type": "llm",
        "start_time": row["time"],
        "error": None,
        "inputs": {"messages": [[system, human]]},
        "outputs": {"generations": [[generation]], "llm_output": None},
        "extra": {
            "invocation_params": {
                **{"model": row["model"], "model_name": row["model"], "_type": "openai-chat"},
                **{"stream": False, "stop": None, **row["params"]},
            },
            "metadata": {"ls_provider": "openai", "ls_model_name": row["model"]},
        },
        "prompt_tokens": asked,
        "completion_tokens": told,
        "total_tokens": asked + told,
    }


def as_langfuse(row: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Return a row as Langfuse exports a generation."""
    asked, told = row["input_tokens"], row["output_tokens"]
    return {
        "id": f"observation-{number}",
        "traceId": f"trace-{number}",
        "type": "GENERATION",
        "name": "answer",
        "startTime": row["time"].replace("+00:00", ".000Z"),
        "level": "DEFAULT",
        "model": row["model"],
        "modelParameters": row["params"],
        "input": [
            {"role": "system", "content": row["system"]},
            {"role": "user", "content": row["question"]},
        ],
        "output": {"role": "assistant", "content": row["answer"]},
        "usageDetails": {"input": asked, "output": told, "total": asked + told},
    }


def as_openai(row: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Return a row as an app logs what it sent to OpenAI and what came back."""
    messages = as_langfuse(row, number)["input"]
    asked, told = row["input_tokens"], row["output_tokens"]
    said = {"role": "assistant", "content": row["answer"], "refusal": None}
    return {
        "request": {"model": row["model"], "messages": messages, **row["params"]},
        "response": {
            "id": f"chatcmpl-{number}",
            "object": "chat.completion",
            "created": int(datetime.fromisoformat(row["time"]).timestamp()),
            "model": f"{row['model']}-2024-08-06",
            "choices": [{"index": 0, "message": said, "finish_reason": "stop"}],
            "usage": {
                "prompt_tokens": asked,
                "completion_tokens": told,
                "total_tokens": asked + told,
            },
        },
    }


def as_batch(row: Mapping[str, Any], number: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a row as a line of a batch's input file and one of its output file."""
    both, name = as_openai(row, number), f"question-{number}"
    asked = {"custom_id": name, "method": "POST", "url": "/v1/chat/completions"}
    response = {"status_code": 200, "request_id": f"req-{number}", "body": both["response"]}
    told = {"id": f"batch_req_{number}", "custom_id": name, "response": response, "error": None}
    return {**asked, "body": both["request"]}, told


def write_samples(folder: Path = DATA, few: int = 12) -> list[Path]:
    """Write the support log as CSV, its first rows in the other formats too; return the files."""
    log = support_log()
    rows = list(enumerate(log[:few], 1))
    runs = [as_langsmith(row, number) for number, row in rows]
    observations = [as_langfuse(row, number) for number, row in rows]
    asked, told = zip(*(as_batch(row, number) for number, row in rows), strict=True)
    return [
        _write_csv(folder / "support.csv", log),
        _write_lines(folder / "langsmith.jsonl", runs),
        _write_csv(folder / "langsmith.csv", runs),
        _write_lines(folder / "langfuse.jsonl", observations),
        _write_csv(folder / "langfuse.csv", observations),
        _write_lines(folder / "openai.jsonl", [as_openai(row, number) for number, row in rows]),
        _write_lines(folder / "openai_batch.jsonl", [*asked, *told[::-1]]),
    ]


def _write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            cells = {
                name: json.dumps(cell) if isinstance(cell, (dict, list)) else cell
                for name, cell in row.items()
            }
            writer.writerow(cells)
    return path


if __name__ == "__main__":
    for written_file in write_samples():
        print(written_file.name, f"{written_file.stat().st_size:,} bytes")
