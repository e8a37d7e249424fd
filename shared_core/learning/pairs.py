"""Read labelled pairs from Python objects, JSON lines or CSV; errors name row and remedy."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TRUE, FALSE, NONE = ("true", "1", "yes"), ("false", "0", "no"), ("", "none", "null")
_COLUMNS = "question, cached and same, or similarity and same"
PAIR = 3


@dataclass(frozen=True, slots=True)
class LabelledPair:
    """One request, its nearest candidate, and whether one answer fits both.

    ``similarity`` is the cosine of the two questions, None if it is still to be computed. ``same``
    None means that there was no candidate.
    """

    question: str
    cached: str
    same: bool | None
    similarity: float | None = None


def rows_of(values: Iterable[Any], name: str = "row") -> tuple[LabelledPair, ...]:
    """Return the rows, without repeats and without questions that are equal to the cached one.

    The exact tier answers those. Raises ValueError for a row that makes no sense, naming it.
    """
    return _distinct(
        (_row(value, f"{name} {number}"), f"{name} {number}")
        for number, value in enumerate(values, 1)
    )


def read_rows(path: Path) -> tuple[LabelledPair, ...]:
    """Read a file of JSON lines, or of CSV if its name ends so.

    JSON lines are objects with the columns ``question``, ``cached`` and ``same``, or ``similarity``
    and ``same``, or lists [question, cached, same]; a CSV has these columns in its first line.
    Raises ValueError for what is not such a file, naming the line and the remedy.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text: {error}; save it as UTF-8") from None
    read = _of_csv if path.suffix.lower() == ".csv" else _of_json_lines
    rows = _distinct(
        (_row(value, f"{path}, line {line}"), f"{path}, line {line}")
        for line, value in read(path, text)
    )
    if not rows:
        raise ValueError(f"{path} holds no labelled row; give {_COLUMNS}")
    return rows


def _of_csv(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    reader = csv.DictReader(text.splitlines(keepends=True))
    names = reader.fieldnames or []
    if "same" not in names or not ({"question", "cached"} <= set(names) or "similarity" in names):
        told = ", ".join(names) or "nothing"
        raise ValueError(f"{path}, line 1 names {told}; a first line must name {_COLUMNS}")
    for value in reader:
        yield reader.line_num, {name: item for name, item in value.items() if name is not None}


def _of_json_lines(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    for line, spelled in enumerate(text.split("\n"), 1):
        if not spelled.strip():
            continue
        try:
            yield line, json.loads(spelled)
        except ValueError as error:
            raise ValueError(
                f'{path}, line {line} is no JSON ({error}); write {{"question": …, "cached": …, '
                f'"same": true}}, or name the file .csv'
            ) from None


def _distinct(rows: Iterable[tuple[LabelledPair, str]]) -> tuple[LabelledPair, ...]:
    kept: list[LabelledPair] = []
    labels: dict[tuple[str, str], tuple[bool, str]] = {}
    for row, where in rows:
        if row.question and row.same is not None:
            if row.question == row.cached:
                continue
            pair = (row.question, row.cached)
            known, first = labels.setdefault(pair, (row.same, where))
            if known != row.same:
                raise ValueError(f"{where} contradicts {first}: one pair is labelled both ways")
            if first != where:
                continue
        kept.append(row)
    return tuple(kept)


def _row(value: Any, where: str) -> LabelledPair:
    if isinstance(value, LabelledPair):
        return value
    if isinstance(value, Sequence) and not isinstance(value, str):
        if len(value) != PAIR:
            raise ValueError(f"{where} has {len(value)} items; give question, cached, same")
        value = dict(zip(("question", "cached", "same"), value, strict=True))
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} is {value!r}; give {_COLUMNS}")
    if "same" not in value:
        raise ValueError(f"{where} has no {'same'!r}; give {_COLUMNS}")
    same = _same(value["same"], where)
    similarity = _similarity(value.get("similarity"), where)
    texts = [value.get(name) or "" for name in ("question", "cached")]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{where}: question and cached must be texts, not {texts!r}")
    if same is not None and similarity is None and not all(text.strip() for text in texts):
        raise ValueError(f"{where} has neither two questions nor a similarity; give {_COLUMNS}")
    return LabelledPair(texts[0], texts[1], same, similarity)


def _same(value: Any, where: str) -> bool | None:
    spelled = "" if value is None else str(value).strip().lower()
    for known, meaning in ((TRUE, True), (FALSE, False), (NONE, None)):
        if spelled in known:
            return meaning
    raise ValueError(f"{where}: same is {value!r}; give true, false, or nothing if no candidate")


def _similarity(value: Any, where: str) -> float | None:
    if value is None or value == "":
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not -1 <= number <= 1 + 1e-6:
        raise ValueError(f"{where}: similarity is {value!r}; give a cosine from -1 to 1")
    return number
