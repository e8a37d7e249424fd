"""Read logs of model calls: CSV, JSON lines, LangSmith, Langfuse and OpenAI exports, in one way.

    file -> objects, each with its line -> LoggedCall(messages, answer, model) | BadLine(reason)

The first object tells which format a file has. What cannot be read is named with its line, the
field and the remedy; no call is read in part.
"""

from __future__ import annotations

import csv
import difflib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from shared_core.openai_format import answer_of
from shared_core.record import Answer
from shared_core.request import split_question
from shared_core.usage import tokens_of

COLUMNS = (
    *("question", "answer", "model", "system", "history", "params", "tags", "ttl"),
    *("time", "input_tokens", "output_tokens"),
)
"""What a row of the plain format may hold."""

JSON_COLUMNS = ("history", "params", "tags")
"""Those that hold JSON in a CSV."""


@dataclass(frozen=True, slots=True)
class LoggedCall:
    """One call of a model, as a log has it.

    ``messages`` are what the provider was sent, the question last. ``answer`` and ``model`` are
    None where the log has none; ``time`` is in seconds since the epoch. Token counts are the
    answer's ``usage``. ``line`` is where the call begins in its file, from 1; ``text`` is its
    spelling there.
    """

    line: int
    text: str = field(repr=False)
    messages: tuple[Mapping[str, Any], ...]
    answer: Answer | None = None
    model: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    time: float | None = None
    tags: tuple[str, ...] = ()
    ttl: float | None = None

    @property
    def question(self) -> str | None:
        """Return the part of the last message that is matched by meaning, None if none is."""
        asked = split_question(self.messages)
        return None if asked.exact_only else asked.question


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that holds no call that can be used, and why; ``text`` is all of it.

    ``is_other``: nothing is wrong with it, but it is no answered question: a tool's run, a call
    that failed, an answer that calls tools.
    """

    line: int
    reason: str
    text: str
    is_other: bool = False


def read_log(path: Path) -> Iterator[LoggedCall | BadLine]:
    """Read the calls of a log one by one, in whichever of the known formats it is.

    - CSV, if the name ends so, or JSON lines, with the columns ``question``, ``answer``, ``model``,
      ``system``, ``history``, ``params``, ``tags``, ``ttl``, ``time``, ``input_tokens``,
      ``output_tokens``: the first must be there.
    - LangSmith: runs (``list_runs``, exported as JSON or CSV), examples of a dataset.
    - Langfuse: observations or traces, as JSON, JSON lines or CSV.
    - OpenAI: lines of ``request`` and ``response``, or of ``messages``; stored completions with
      their messages; a batch's input file with its output file after it (``cat in.jsonl
      out.jsonl``).

    A ``.json`` file may be one list of such objects, or an object with them in ``data``, ``runs``,
    ``observations`` or ``traces``. Raises ValueError for a file that cannot be read at all, naming
    the remedy.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     log = Path(folder) / "log.jsonl"
    ...     _ = log.write_text('{"question": "What is a fuse?", "answer": "It melts."}')
    ...     [call.question for call in read_log(log) if isinstance(call, LoggedCall)]
    ['What is a fuse?']
    """
    read: _Reader | None = None
    try:
        with path.open("rb") as file:
            for line, text, value in _objects(path, file):
                if isinstance(value, str):
                    yield BadLine(line, value, text)
                    continue
                read = read or FORMATS[format_of(value)]()
                try:
                    if (call := read(line, text, value)) is not None:
                        yield call
                except _OtherError as other:
                    yield BadLine(line, str(other), text, is_other=True)
                except (TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
                    yield BadLine(line, _said(error), text)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    if isinstance(read, _OpenAI):
        yield from read.unanswered()


def format_of(value: Mapping[str, Any]) -> str:
    """Return the name of the format that an object is in, "rows" if it is no other."""
    names = value.keys()
    if "question" in names:
        return "rows"
    if "run_type" in names or {"inputs", "outputs"} <= names:
        return "langsmith"
    if names & {"custom_id", "choices", "messages"} or {"request", "response"} <= names:
        return "openai"
    if names & {"traceId", "trace_id"} or {"input", "output"} <= names:
        return "langfuse"
    return "rows"


def count_lines(path: Path) -> int:
    """Return how many lines a file has, to tell how far its reading is."""
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


class _OtherError(Exception):
    """A line is no answered question, and nothing is wrong with it."""


def _said(error: Exception) -> str:
    match error:
        case KeyError():
            return f"it has no {error.args[0]!r}"
        case IndexError():
            return "a list is empty that should hold a message"
        case _:
            return str(error)


# From a file to objects.


_Found = tuple[int, str, Any]
"""Line number, its text, and its value, or a text that says what is wrong with it."""

LIST_FIELDS = ("data", "runs", "observations", "traces")
"""Fields in which an object holds the list of calls."""

PARQUET = b"PAR1"
UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def _objects(path: Path, file: BinaryIO) -> Iterator[_Found]:
    head = file.read(4096)
    file.seek(0)
    if head.startswith(PARQUET):
        raise ValueError(
            f"{path} is Parquet, which is not read; write it as JSON lines: "
            "pandas.read_parquet(…).to_json(…, orient='records', lines=True)"
        )
    if head.startswith(UTF_16):
        raise ValueError(f"{path} is UTF-16; save it as UTF-8")
    if path.suffix.lower() == ".csv":
        return _of_csv(path, file)
    first = head.decode("utf-8-sig", "replace").lstrip()
    front = first.partition("\n")[0].rstrip()
    if front == "[" or (first[:1] == "[" and first[1:].lstrip()[:1] == "{") or front == "{":
        return _of_json(path, file)
    return _of_json_lines(file)


def _of_json(path: Path, file: BinaryIO) -> Iterator[_Found]:
    """Read one JSON value over several lines: a list, or an object that holds one."""
    try:
        text = file.read().decode("utf-8-sig")
        whole = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {error}; one object a line can be read too") from None
    if isinstance(whole, dict):
        if (name := _list_in(whole)) is None:
            yield 1, text, whole
            return
        whole, start = whole[name], _start_of(name, whole[name], text)
    else:
        start = text.index("[")
    decoder, at, line, counted = json.JSONDecoder(), start + 1, 1, 0
    for value in whole:
        at = next(n for n in range(at, len(text)) if text[n] not in " \t\r\n,")
        line, counted = line + text.count("\n", counted, at), at
        _, end = decoder.raw_decode(text, at)
        yield line, text[at:end], value if isinstance(value, dict) else "no JSON object"
        at = end


def _start_of(name: str, values: list[Any], text: str) -> int:
    """Return where a field's list begins in its JSON: others may have such a field, further in."""
    decoder = json.JSONDecoder()
    fields = re.finditer(rf'"{name}"\s*:\s*(?=\[)', text)
    for at in reversed([one.end() for one in fields]):
        if repr(decoder.raw_decode(text, at)[0]) == repr(values):  # NaN equals nothing, not itself
            return at
    raise ValueError(f"{name} is spelled oddly; one object a line can be read too")


def _of_json_lines(file: Iterable[bytes]) -> Iterator[_Found]:
    for line, spelled in enumerate(file, 1):
        text = spelled.decode("utf-8-sig" if line == 1 else "utf-8", "backslashreplace")
        text = text.rstrip("\r\n")
        if not text.strip():
            continue
        try:
            spelled.decode()
            value = json.loads(text)
        except UnicodeDecodeError as error:
            yield line, text, f"no UTF-8: {error.reason}"
        except (ValueError, RecursionError) as error:
            yield line, text, f"no JSON: {error}"
        else:
            if isinstance(value, dict) and (name := _list_in(value)) is not None:
                for one in value[name]:
                    yield line, json.dumps(one), one if isinstance(one, dict) else "no JSON object"
                continue
            yield line, text, value if isinstance(value, dict) else "no JSON object"


def _list_in(value: Mapping[str, Any]) -> str | None:
    """Return the field in which an object holds a list of calls, None if it is a call itself."""
    if format_of(value) != "rows" or "question" in value:
        return None
    return next((name for name in LIST_FIELDS if isinstance(value.get(name), list)), None)


def _of_csv(path: Path, file: Iterable[bytes]) -> Iterator[_Found]:
    texts = (line.decode("utf-8", "backslashreplace") for line in file)
    reader = csv.reader(texts, strict=True)
    names = [name.removeprefix("\ufeff").strip() for name in next(reader, [])]
    is_plain = format_of(dict.fromkeys(names)) == "rows"
    unknown = [name for name in names if name not in COLUMNS]
    if is_plain and ("question" not in names or unknown):
        raise ValueError(
            f"{path}, line 1 names {', '.join(names) or 'nothing'}; a first line must name "
            f"question, and of {', '.join(COLUMNS[1:])} what there is"
        )
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, f"lines {line} to {reader.line_num}", f"no CSV: {error}"
            continue
        if not any(cells):
            continue
        text = json.dumps(cells, ensure_ascii=False)
        if len(cells) != len(names):
            yield line, text, f"{len(cells)} cells, and the first line names {len(names)}"
            continue
        row = {name: cell for name, cell in zip(names, cells, strict=True) if cell.strip()}
        try:
            yield line, text, _plain_cells(row) if is_plain else row
        except ValueError as error:
            yield line, text, str(error)


def _plain_cells(row: Mapping[str, str]) -> dict[str, Any]:
    """Return the cells as values. Raises ValueError for what is no JSON or no number."""
    found: dict[str, Any] = dict(row)
    for name in JSON_COLUMNS:
        if name in found:
            try:
                found[name] = json.loads(found[name])
            except ValueError as error:
                raise ValueError(f"{name} is no JSON: {error}") from None
    for name, kind, what in (
        ("ttl", float, "seconds"),
        ("input_tokens", int, "a whole number"),
        ("output_tokens", int, "a whole number"),
    ):
        if name in found:
            try:
                found[name] = kind(found[name])
            except ValueError:
                raise ValueError(f"{name} must be {what}, not {found[name]!r}") from None
    return found


def _cells(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an export as values, those too that hold JSON as a text."""
    found = dict(row)
    for name, cell in row.items():
        if not isinstance(cell, str):
            continue
        text = cell.strip()
        if text.startswith(('{"', "[{", "[[", '"')) or text in ("{}", "[]", "null"):
            try:
                found[name] = json.loads(text)
            except ValueError as error:
                if text.startswith('"'):
                    continue  # a text that begins with a quotation
                cut = "; a spreadsheet cuts cells at 32,767 characters: export JSON lines"
                raise ValueError(f"{name} is no JSON: {error}{cut}") from None
    return found


# From objects to calls: a reader for each format.


_Reader = Callable[[int, str, Mapping[str, Any]], LoggedCall | None]


def _read_row(line: int, text: str, value: Mapping[str, Any]) -> LoggedCall:
    for name in value:
        if name not in COLUMNS:
            near = difflib.get_close_matches(name, COLUMNS, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(COLUMNS)}"
            raise ValueError(f"unknown field {name!r}; {hint}")
    for name in ("question", "answer", "model", "system"):
        if value.get(name) is not None and not isinstance(value[name], str):
            raise ValueError(f"{name} must be a text, not {value[name]!r}")
    question, params, system = value.get("question"), value.get("params") or {}, value.get("system")
    if not (question or "").strip():
        raise ValueError("no question")
    if not isinstance(params, dict):
        raise ValueError(f"params must be an object, not {params!r}")
    messages = (
        *([{"role": "system", "content": system}] if system else ()),
        *(value.get("history") or ()),
        {"role": "user", "content": question},
    )
    given = {name: value[name] for name in ("input_tokens", "output_tokens") if value.get(name)}
    answer = Answer(value["answer"], usage=tokens_of(given)) if value.get("answer") else None
    return LoggedCall(
        *(line, text, messages, answer, value.get("model"), params, _time(value.get("time"))),
        *(value.get("tags") or (), value.get("ttl")),
    )


IDLE_PARAMETERS = ("_type", "stream", "stream_options", "model", "model_name", "ls_provider")
"""What logs hold among the parameters of a call, and no answer depends on, or is told elsewhere."""


def _parameters(*sources: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in sources:
        source = json.loads(one) if isinstance(one, str) and one.strip() else one or {}
        if not isinstance(source, Mapping):
            raise ValueError(f"parameters must be an object, not {_short(source)}")
        found |= source
    return {
        name: value
        for name, value in found.items()
        if name not in IDLE_PARAMETERS and value is not None
    }


def _read_langsmith(line: int, text: str, value: Mapping[str, Any]) -> LoggedCall:
    kind = value.get("run_type") or "llm"
    if kind not in ("llm", "chat_model"):
        raise _OtherError(f"a run of type {kind}, no model call; export the runs of type llm")
    if value.get("error"):
        raise _OtherError("the call failed")
    value = _cells(value)
    inputs, extra = value["inputs"], value.get("extra") or {}
    beside = _beside_messages(inputs)
    settings, about = extra.get("invocation_params") or {}, extra.get("metadata") or {}
    named = (settings.get("model"), settings.get("model_name"), about.get("ls_model_name"))
    model = next((name for name in (*named, beside.get("model")) if name), None)
    usage = {name: value.get(name) for name in ("prompt_tokens", "completion_tokens")}
    answer = _answer(value.get("outputs"), "outputs", usage)
    params = _parameters(beside, settings)
    time = _time(value.get("start_time"))
    return LoggedCall(line, text, _messages(inputs, "inputs"), answer, model, params, time)


OF_LANGFUSE = ("GENERATION", "TRACE")


def _read_langfuse(line: int, text: str, value: Mapping[str, Any]) -> LoggedCall:
    kind = str(value.get("type") or "TRACE").upper()
    if kind not in OF_LANGFUSE:
        raise _OtherError(
            f"an observation of type {kind}, no model call; export those of type GENERATION"
        )
    if value.get("level") == "ERROR":
        raise _OtherError("the call failed")
    value = _cells(value)
    asked = value["input"]
    settings = value.get("modelParameters") or value.get("model_parameters")
    usage = value.get("usageDetails") or value.get("usage_details") or value.get("usage")
    if not isinstance(usage, Mapping):
        usage = {"input": value.get("promptTokens"), "output": value.get("completionTokens")}
    usage = {
        "prompt_tokens": usage.get("input", usage.get("promptTokens")),
        "completion_tokens": usage.get("output", usage.get("completionTokens")),
    }
    model = value.get("model") or value.get("providedModelName") or value.get("provided_model_name")
    when = next(
        (value[name] for name in ("startTime", "start_time", "timestamp") if value.get(name)), None
    )
    answer = _answer(value.get("output"), "output", usage)
    params = _parameters(_beside_messages(asked), settings)
    messages = _messages(asked, "input")
    return LoggedCall(line, text, messages, answer, model or None, params, _time(when))


RESPONSE_FIELDS = ("response", "output", "completion")
"""Fields in which a response stands beside its request."""


class _OpenAI:
    """Reads requests and responses; ``custom_id`` brings those of a batch together."""

    def __init__(self) -> None:
        self._asked: dict[str, tuple[int, str, Mapping[str, Any]]] = {}

    def __call__(self, line: int, text: str, value: Mapping[str, Any]) -> LoggedCall | None:
        given = next((value[field] for field in RESPONSE_FIELDS if field in value), None)
        request = value.get("request", value.get("body", value))
        name = value.get("custom_id")
        if name is not None and given is None and "body" in value:
            if str(value.get("url", "")).rpartition("/")[2] not in ("", "completions"):
                raise ValueError(f"url {value['url']} is not read; /v1/chat/completions is")
            self._asked[name] = line, text, request
            return None
        if name is not None and "request" not in value and "body" not in value:
            if name not in self._asked:
                raise ValueError(
                    f"no line before it asks {name!r}: put the batch's input file in front of "
                    "its output file (cat input.jsonl output.jsonl > log.jsonl)"
                )
            line, text, request = self._asked.pop(name)
        if value.get("error"):
            raise _OtherError("the call failed")
        if isinstance(given, Mapping) and "body" in given:
            if given.get("status_code", 200) != 200:  # noqa: PLR2004 - what HTTP calls success
                raise _OtherError(f"the call failed with status {given['status_code']}")
            given = given["body"]
        if isinstance(request, Mapping) and "input" in request and "messages" not in request:
            raise ValueError("a request of the Responses API is not read; chat completions are")
        return self._call(line, text, request, value if "choices" in value else given)

    @staticmethod
    def _call(line: int, text: str, request: Any, response: Any) -> LoggedCall:
        messages = _messages(request["messages"], "messages")
        when, model, params = None, request.get("model"), {}
        answer: Answer | None = None
        if response is None and messages[-1]["role"] == "assistant":
            answer = _answer(messages[-1], "messages", {})  # a line of training data
            messages = messages[:-1]
        elif response is not None:
            answer = _answer(response, "response", {})
            when = response.get("created") if isinstance(response, Mapping) else None
        if response is not request:
            params = {n: v for n, v in request.items() if n not in _OF_COMPLETION}
        return LoggedCall(
            line, text, messages, answer, model, _parameters(params), _time(when or None)
        )

    def unanswered(self) -> Iterator[LoggedCall | BadLine]:
        """Yield the requests of a batch for which no answer came."""
        for line, text, request in self._asked.values():
            try:
                yield self._call(line, text, request, None)
            except _OtherError as other:
                yield BadLine(line, str(other), text, is_other=True)
            except (TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
                yield BadLine(line, _said(error), text)


_OF_COMPLETION = frozenset(
    (
        *("id", "object", "created", "choices", "usage", "model", "messages", "system_fingerprint"),
        *("service_tier", "request_id", "metadata", "input_user", "timestamp", "time"),
        *("custom_id", "request", "error", "method", "url", "body", *RESPONSE_FIELDS),
    )
)
"""Fields of a stored completion, or beside request and response, that are no parameters."""

FORMATS: Mapping[str, Callable[[], _Reader]] = {
    "rows": lambda: _read_row,
    "langsmith": lambda: _read_langsmith,
    "langfuse": lambda: _read_langfuse,
    "openai": _OpenAI,
}
"""Name of a format to what makes its reader."""


# Messages and answers, however they are spelled.


QUESTION_FIELDS = ("question", "query", "input", "prompt", "text")
ANSWER_FIELDS = ("answer", "output", "result", "response", "content", "text")
"""Fields in which a question or an answer stands alone."""

_ROLES: Mapping[str, str] = {
    "human": "user",
    "ai": "assistant",
    "HumanMessage": "user",
    "AIMessage": "assistant",
    "SystemMessage": "system",
    "ToolMessage": "tool",
    "HumanMessageChunk": "user",
    "AIMessageChunk": "assistant",
}


def _messages(value: Any, name: str) -> tuple[Mapping[str, Any], ...]:
    """Return the messages that a call was sent. Raises ValueError, naming the field."""
    match value:
        case str() if value.strip():
            return ({"role": "user", "content": value},)
        case {"messages": inner}:
            return _messages(inner, f"{name}.messages")
        case {"prompts": [str() as only]}:
            return ({"role": "user", "content": only},)
        case {"role": _} | {"lc": _} | {"data": _, "type": _}:
            found: Sequence[Any] = [value]
        case dict():
            only = _alone(value, QUESTION_FIELDS, name)
            return ({"role": "user", "content": only},)
        case [[*inner]] if not inner or not isinstance(inner[0], str):
            found = inner
        case [_, *_]:
            found = value
        case _:
            raise ValueError(f"{name} must hold messages or one question, not {_short(value)}")
    messages = tuple(_message(one, f"{name}[{place}]") for place, one in enumerate(found))
    if not messages:
        raise ValueError(f"{name} holds no message")
    return messages


def _beside_messages(value: Any) -> dict[str, Any]:
    """Return what stands beside the messages in one object: the parameters of the call."""
    if not isinstance(value, Mapping) or "messages" not in value:
        return {}
    return {name: item for name, item in value.items() if name != "messages"}


def _alone(value: Mapping[str, Any], names: Sequence[str], where: str) -> str:
    """Return the one text that an object holds under a known name."""
    held = {name: item for name, item in value.items() if item not in (None, "", [], {})}
    if len(held) == 1:
        ((name, item),) = held.items()
        if name in names and isinstance(item, str):
            return item
    raise ValueError(
        f"{where} holds {', '.join(map(str, held)) or 'nothing'}; it must hold messages, or one "
        f"text named {', '.join(names[:-1])} or {names[-1]}"
    )


def _message(value: Any, name: str) -> dict[str, Any]:
    """Return one message as a provider is sent it, whether it is one or a framework's."""
    spelled: Any = value
    match value:
        case {"lc": _, "id": [*_, str(name_of_class)], "kwargs": Mapping() as inner}:
            is_known = name_of_class in _ROLES
            spelled = {**inner, "role": name_of_class if is_known else inner.get("type")}
        case {"type": str(kind), "data": Mapping() as inner}:
            spelled = {**inner, "role": kind}
        case {"type": str(kind), "content": _} if "role" not in value:
            spelled = {**value, "role": kind}
        case [str(kind), str(text)]:
            spelled = {"role": kind, "content": text}
    if not isinstance(spelled, Mapping) or not isinstance(spelled.get("role"), str):
        raise ValueError(f'{name} is no message: it has no "role"')
    role, content = _ROLES.get(spelled["role"], spelled["role"]), spelled.get("content")
    if content is not None and not isinstance(content, (str, list)):
        raise ValueError(f"{name}.content must be a text or a list of parts, not {_short(content)}")
    found: dict[str, Any] = {"role": role, "content": content}
    for field_name in ("tool_calls", "tool_call_id", "name"):
        if spelled.get(field_name):
            found[field_name] = spelled[field_name]
    return found


def _answer(value: Any, name: str, usage: Mapping[str, Any]) -> Answer | None:
    """Return the answer that a call gave, None if the log holds none.

    ``usage`` are its tokens as OpenAI names them. Raises ValueError, naming the field, and
    _OtherError for an answer that is more than its text.
    """
    if value in (None, "", {}, []):
        return None
    if isinstance(value, Mapping) and "choices" in value:
        completion: Mapping[str, Any] = value
    else:
        said = _said_of(value, name)
        if said.get("role", "assistant") != "assistant":
            raise ValueError(f"{name} is a message of the {said['role']}, no answer")
        message = {
            "role": "assistant",
            "content": _text(said.get("content")),
            "tool_calls": said.get("tool_calls"),
        }
        reason, counted = said.get("finish_reason"), said.get("usage") or usage
        completion = {
            "choices": [{"message": message, "finish_reason": reason or "stop"}],
            "usage": {key: int(count) for key, count in counted.items() if _is_count(count)}
            or None,
        }
    found = answer_of(completion)
    if found.exact_only or found.format != "text":
        whole = "the answer calls tools, refuses, or is more than text"
        raise _OtherError(f"the answer is not whole: {found.flaw}" if found.flaw else whole)
    return found


def _is_count(value: Any) -> bool:
    """Say whether this counts tokens: a number above 0, or a cell of a CSV that holds one."""
    if isinstance(value, str):
        return value.isdecimal() and int(value) > 0
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf


def _said_of(value: Any, name: str) -> Mapping[str, Any]:
    """Return the message that holds an answer, with its tokens and why it ended, if known."""
    match value:
        case str():
            return {"content": value}
        case {"generations": [[Mapping() as first, *_], *_]} | {
            "generations": [Mapping() as first, *_]
        }:
            return _generation(first, f"{name}.generations")
        case {"messages": [*_, last]} | [*_, last]:
            return _message(last, f"{name}[-1]")
        case {"message": Mapping() as inner} if len(value) == 1:
            return _message(inner, f"{name}.message")
        case {"role": _} | {"lc": _} | {"data": _, "type": _}:
            return _message(value, name)
        case Mapping():
            return {"content": _alone(value, ANSWER_FIELDS, name)}
    raise ValueError(f"{name} must be a text or a message, not {_short(value)}")


def _generation(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return the message of one of LangChain's generations."""
    message = value.get("message") or {}
    said = _message(message, name) if message else {"content": value.get("text")}
    inner = message.get("kwargs", message)
    about = {**(inner.get("response_metadata") or {}), **(value.get("generation_info") or {})}
    return {
        **said,
        "finish_reason": about.get("finish_reason"),
        "usage": inner.get("usage_metadata"),
    }


def _text(content: Any) -> Any:
    """Return the text of a message's parts, if all of them are text."""
    if not isinstance(content, list):
        return content
    parts = [part.get("text") if isinstance(part, Mapping) else part for part in content]
    if not all(isinstance(part, str) for part in parts):
        raise _OtherError("the answer is more than text")
    return "".join(map(str, parts))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"  # noqa: PLR2004 - a line of a terminal


def _time(value: Any) -> float | None:
    """Return a time of a log in seconds since the epoch. Raises ValueError for what is none."""
    if value in (None, ""):
        return None
    try:
        if not isinstance(value, bool):
            return float(value)
    except (TypeError, ValueError):
        pass
    try:
        found = datetime.fromisoformat(str(value).strip().replace(" UTC", "+00:00"))
    except ValueError:
        raise ValueError(f"the time {value!r} is neither ISO 8601 nor seconds") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
