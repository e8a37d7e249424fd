"""``rag_question``: finds the question in the usual RAG templates.

"<instructions> <context block> Question: <question> Answer:"   and its variants
  -> question (matched by meaning) + instructions and context (scope)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from langchain_tiered_cache.request import Question

_QUESTION = re.compile(r"(?<![\w\"'])(?:question|query)[ \t]*:", re.IGNORECASE)
_CONTEXT = re.compile(
    r"(?<![\w\"'])(?:context|documents?|sources?|passages?)[ \t]*:", re.IGNORECASE
)
_PIECES = re.compile(r"\bpieces of (?:retrieved )?context\b", re.IGNORECASE)
_ANSWER = re.compile(
    r"^[ \t]*(?:[\w ]{1,20} )?(?:answer|response)[ \t]*:", re.IGNORECASE | re.MULTILINE
)
_BLOCK = re.compile(
    r"<(context|documents?|sources?|passages?)>(.*)</\1>", re.IGNORECASE | re.DOTALL
)
_PARAGRAPH = re.compile(r"\n[ \t\r]*\n")


@dataclass(frozen=True, slots=True)
class _Span:
    """A half-open range of characters."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Parts:
    """Where in a text the context block and the question are."""

    context: _Span
    question: _Span


def rag_question(
    context: Literal["exact", "version"] = "exact", version: str | int | None = None
) -> Question:
    """Return a ``question=`` for prompts that hold retrieved context and a question in one message.

    Known are: labels ("Context: … Question: …" in either order, as in the hub's rlm/rag-prompt),
    "Use the following pieces of context …" with the context between instructions and question, and
    a block in tags such as ``<context>``. A text of any other shape, or one that can be read in two
    ways, is matched only exactly.

    With ``context="exact"`` an answer is reused only for the very same context. With "version" the
    index version stands in for the context: a paraphrase hits although it retrieved other chunks,
    and an answer is served that the chunks of this prompt might not support. Change ``version``
    whenever the index or the retriever changes.

    Raises ValueError for another ``context``, or one without its ``version``.
    """
    if context not in ("exact", "version"):
        raise ValueError(f'context must be "exact" or "version", not {context!r}')
    if context == "version" and (version is None or version == ""):
        raise ValueError('context="version" needs version=, the version of your index')
    if context == "exact" and version is not None:
        raise ValueError('version= is of use with context="version" alone')

    return RagQuestion(version if context == "version" else None)


@dataclass(frozen=True, slots=True)
class RagQuestion:
    """Finds the question in a text; ``version`` stands in for the context unless it is None."""

    version: str | int | None = None

    def __call__(self, text: str) -> tuple[str, Any] | None:
        """Return the question and what stands in the scope for the rest, or None."""
        parts = _labelled(text) if _BLOCK.search(text) is None else _tagged(text)
        if parts is None:
            return None
        asked = _stripped(text, parts.question)
        if asked.start >= asked.end or _PARAGRAPH.search(text[asked.start : asked.end]):
            return None
        spans = sorted([parts.context, asked], key=lambda span: span.start)
        if spans[0].end > spans[1].start:
            return None
        frame = [text[: spans[0].start], text[spans[0].end : spans[1].start], text[spans[1].end :]]
        block = text[parts.context.start : parts.context.end]
        stands_in = {"text": block} if self.version is None else {"version": self.version}
        is_first = parts.context.start < asked.start
        return text[asked.start : asked.end], [frame, stands_in, is_first]


def _stripped(text: str, span: _Span) -> _Span:
    inner = text[span.start : span.end]
    left = len(inner) - len(inner.lstrip())
    return _Span(span.start + left, span.start + max(left, len(inner.rstrip())))


def _labelled(text: str) -> _Parts | None:
    """Find "Question:" and the context before or after it; None if there are two of either."""
    questions = list(_QUESTION.finditer(text))
    contexts = list(_CONTEXT.finditer(text))
    if len(questions) != 1 or len(contexts) > 1:
        return None
    label = questions[0]
    if not contexts:
        return _pieces(text, label)
    if contexts[0].start() < label.start():
        end = _answer_after(text, label.end())
        return _Parts(_Span(contexts[0].end(), label.start()), _Span(label.end(), end))
    end = _last_answer(text, contexts[0].end())
    asked = _Span(label.end(), _line_start(text, label.end(), contexts[0].start()))
    return _Parts(_Span(contexts[0].end(), end), asked)


def _pieces(text: str, label: re.Match[str]) -> _Parts | None:
    """Find the context after "Use the following pieces of context" and a blank line."""
    told = _PIECES.search(text, 0, label.start())
    gap = _PARAGRAPH.search(text, told.end(), label.start()) if told else None
    if gap is None:
        return None
    end = _answer_after(text, label.end())
    return _Parts(_Span(gap.end(), label.start()), _Span(label.end(), end))


def _tagged(text: str) -> _Parts | None:
    """Find a block in tags and, outside it, the question: labelled, or all that follows."""
    block = _BLOCK.search(text)
    if block is None or text.lower().count(f"<{block[1].lower()}>") > 1:
        return None
    inside = _Span(block.start(2), block.end(2))
    outside = [m for m in _QUESTION.finditer(text) if not block.start() < m.start() < block.end()]
    if len(outside) > 1:
        return None
    if not outside:
        return _Parts(inside, _Span(block.end(), _answer_after(text, block.end())))
    start = outside[0].end()
    end = block.start() if start < block.start() else _answer_after(text, start)
    return _Parts(inside, _Span(start, end))


def _answer_after(text: str, start: int) -> int:
    """Return where the question ends that starts here: at the answer's label, or with the text."""
    found = _ANSWER.search(text, start)
    return found.start() if found else len(text)


def _last_answer(text: str, start: int) -> int:
    """Return where a context block ends that starts here: at the last answer's label."""
    found = list(_ANSWER.finditer(text, start))
    return found[-1].start() if found else len(text)


def _line_start(text: str, start: int, position: int) -> int:
    """Return the start of the line: "Use this context:" is no part of a question above it."""
    line = text.rfind("\n", start, position) + 1
    return line or position
