"""Logs of all formats hold the same calls; what cannot be read says where, what and why."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_core import Answer
from shared_core.learning import BadLine, LoggedCall, count_lines, read_log

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
sys.path.insert(0, str(NOTEBOOKS))

import questions  # noqa: E402 - of the notebooks, as they import it

SAMPLES = [
    *("langsmith.jsonl", "langsmith.csv", "langfuse.jsonl", "langfuse.csv"),
    *("openai.jsonl", "openai_batch.jsonl"),
]

SYSTEM = [{"role": "system", "content": "Be brief."}]
ASKED = [*SYSTEM, {"role": "user", "content": "What is a fuse?"}]


def calls_of(path: Path) -> list[LoggedCall]:
    found = list(read_log(path))
    bad = [one for one in found if isinstance(one, BadLine)]
    assert bad == []
    return [one for one in found if isinstance(one, LoggedCall)]


def said(call: LoggedCall) -> Any:
    answer = call.answer
    assert answer is not None
    tokens = [(answer.usage or {}).get(name) for name in ("input_tokens", "output_tokens")]
    plain = [dict(message) for message in call.messages]
    return plain, answer.text, tokens, call.model, dict(call.params), call.time


def file_of(folder: Path, *values: Any, name: str = "log.jsonl") -> Path:
    path = folder / name
    lines = [value if isinstance(value, str) else json.dumps(value) for value in values]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def read_one(folder: Path, value: Any, name: str = "log.jsonl") -> LoggedCall | BadLine:
    (found,) = read_log(file_of(folder, value, name=name))
    return found


def test_the_samples_are_what_is_written_now(tmp_path: Path) -> None:
    for path in questions.write_samples(tmp_path):
        kept = questions.DATA / path.name
        assert path.read_text() == kept.read_text(), "run python notebooks/questions.py"
        assert kept.stat().st_size < 300_000


@pytest.mark.parametrize("name", SAMPLES)
def test_every_format_tells_the_same_calls(name: str) -> None:
    plain = calls_of(questions.DATA / "support.csv")[:12]
    other = sorted(calls_of(questions.DATA / name), key=lambda call: call.time or 0)
    assert list(map(said, other)) == list(map(said, plain))
    assert all(call.question == call.messages[-1]["content"] for call in other)


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), min_size=1).filter(
    lambda text: bool(text.strip())
)


@settings(max_examples=40, deadline=None)
@given(question=TEXT, answer=TEXT, system=TEXT)
def test_any_text_comes_through_every_format(question: str, answer: str, system: str) -> None:
    import tempfile

    row = {**questions.support_log(1)[0]}
    row |= {"question": question, "answer": answer, "system": system}
    with tempfile.TemporaryDirectory() as folder:
        there, seen = Path(folder), []
        for number, make in enumerate(
            (questions.as_langsmith, questions.as_langfuse, questions.as_openai)
        ):
            seen += calls_of(file_of(there, make(row, 1), name=f"{number}.jsonl"))
            if make is not questions.as_openai:
                seen += calls_of(questions._write_csv(there / f"{number}.csv", [make(row, 1)]))
        seen += calls_of(file_of(there, *questions.as_batch(row, 1), name="batch.jsonl"))
        seen += calls_of(questions._write_csv(there / "plain.csv", [row]))
    assert len(seen) == 7
    for call in seen:
        assert call.answer is not None
        texts = [message["content"] for message in call.messages]
        assert (texts, call.answer.text) == ([system, question], answer)


# --------------------------------------------------------------------------- shapes of one format


def run(inputs: Any, outputs: Any, **more: Any) -> dict[str, Any]:
    return {"run_type": "llm", "inputs": inputs, "outputs": outputs, **more}


def observation(asked: Any, told: Any, **more: Any) -> dict[str, Any]:
    return {"traceId": "t", "type": "GENERATION", "input": asked, "output": told, **more}


COMPLETION = {
    "object": "chat.completion",
    "created": 1_700_000_000,
    "model": "m-1",
    "choices": [
        {"finish_reason": "stop", "message": {"role": "assistant", "content": "It melts."}}
    ],
    "usage": {"prompt_tokens": 7, "completion_tokens": 3},
}
HUMAN = {"type": "human", "content": "What is a fuse?"}

SHAPES: list[tuple[str, Any]] = [
    ("LangSmith, wrapped client", run({"messages": ASKED, "model": "m"}, COMPLETION)),
    (
        "LangSmith, example",
        {"inputs": {"question": "What is a fuse?"}, "outputs": {"answer": "It melts."}},
    ),
    (
        "LangSmith, prompt",
        run({"prompts": ["What is a fuse?"]}, {"generations": [[{"text": "It melts."}]]}),
    ),
    (
        "LangSmith, plain messages",
        run({"messages": [HUMAN]}, {"messages": [HUMAN, {"type": "ai", "content": "It melts."}]}),
    ),
    (
        "LangSmith, data",
        run(
            {"messages": [{"type": "human", "data": {"content": "What is a fuse?"}}]},
            {"output": "It melts."},
        ),
    ),
    ("Langfuse, texts", observation("What is a fuse?", "It melts.")),
    (
        "Langfuse, object",
        observation({"messages": ASKED, "temperature": 0}, {"content": "It melts."}),
    ),
    ("Langfuse, completion", observation(ASKED, COMPLETION)),
    (
        "Langfuse, trace",
        {
            "id": "1",
            "timestamp": "2026-01-01T00:00:00Z",
            "input": {"query": "What is a fuse?"},
            "output": {"output": "It melts."},
        },
    ),
    (
        "Langfuse, its own storage",
        {
            "id": "1",
            "trace_id": "t",
            "type": "GENERATION",
            "start_time": "2026-01-01 00:00:00.5",
            "input": json.dumps(ASKED),
            "output": "It melts.",
            "provided_model_name": "m",
        },
    ),
    ("OpenAI, stored with its messages", {**COMPLETION, "messages": ASKED, "temperature": 1}),
    (
        "OpenAI, request and response",
        {"request": {"model": "m", "messages": ASKED}, "response": COMPLETION},
    ),
    (
        "OpenAI, training data",
        {"messages": [*ASKED, {"role": "assistant", "content": "It melts."}]},
    ),
    ("OpenAI, text beside messages", {"model": "m", "messages": ASKED, "completion": "It melts."}),
    (
        "OpenAI, parts",
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "What is a fuse?"}]}
            ],
            "response": {"role": "assistant", "content": [{"type": "text", "text": "It melts."}]},
        },
    ),
    ("plain", {"question": "What is a fuse?", "answer": "It melts."}),
]


@pytest.mark.parametrize(("name", "value"), SHAPES, ids=[name for name, _ in SHAPES])
def test_a_call_is_read_in_the_shapes_that_exports_have(
    name: str, value: Any, tmp_path: Path
) -> None:
    call = read_one(tmp_path, value)
    assert isinstance(call, LoggedCall), call
    assert call.answer is not None
    assert (call.question or "What is a fuse?", call.answer.text) == (
        "What is a fuse?",
        "It melts.",
    )
    assert "messages" not in call.params


BAD: list[tuple[str, Any, str]] = [
    ("no inputs", {"run_type": "llm", "outputs": {}}, "it has no 'inputs'"),
    (
        "several texts",
        run({"question": "q", "context": "c"}, {"answer": "a"}),
        "inputs holds question, context",
    ),
    ("no message", run({"messages": [[]]}, None), "inputs.messages holds no message"),
    (
        "odd message",
        run({"messages": [{"content": "q"}]}, None),
        'inputs.messages[0] is no message: it has no "role"',
    ),
    (
        "odd content",
        run({"messages": [{"role": "user", "content": 3}]}, None),
        "inputs.messages[0].content must be a text",
    ),
    ("odd outputs", run({"question": "q"}, 7), "outputs must be a text or a message, not 7"),
    (
        "question as answer",
        run({"question": "q"}, {"role": "user", "content": "q"}),
        "a message of the user, no answer",
    ),
    (
        "odd time",
        run({"question": "q"}, {"answer": "a"}, start_time="yesterday"),
        "the time 'yesterday' is neither",
    ),
    ("no input", {"traceId": "t", "output": "a"}, "it has no 'input'"),
    ("empty input", observation("", "a"), "input must hold messages or one question, not ''"),
    ("odd parameters", observation("q", "a", modelParameters=[1]), "parameters must be an object"),
    (
        "answer without question",
        {"custom_id": "1", "response": {"status_code": 200, "body": COMPLETION}},
        "put the batch's input file in front",
    ),
    ("stored without messages", COMPLETION, "it has no 'messages'"),
    (
        "responses API",
        {"request": {"model": "m", "input": "q"}, "response": {}},
        "Responses API is not read",
    ),
    (
        "batch of embeddings",
        {"custom_id": "1", "url": "/v1/embeddings", "body": {}},
        "url /v1/embeddings is not read",
    ),
    (
        "no completion",
        {"messages": ASKED, "response": {"choices": []}},
        "a completion without a choice",
    ),
]

OTHER: list[tuple[str, Any, str]] = [
    (
        "tool run",
        {"run_type": "tool", "inputs": {}, "outputs": {}},
        "a run of type tool, no model call; export",
    ),
    ("failed run", run({"question": "q"}, None, error="Timeout"), "the call failed"),
    (
        "span",
        {"traceId": "t", "type": "SPAN", "input": 1, "output": 2},
        "type SPAN, no model call; export those of type",
    ),
    ("failed generation", observation("q", None, level="ERROR"), "the call failed"),
    (
        "failed request",
        {"request": {"messages": ASKED}, "response": None, "error": {"code": 1}},
        "the call failed",
    ),
    (
        "status",
        {"request": {"messages": ASKED}, "response": {"status_code": 429, "body": {}}},
        "failed with status 429",
    ),
    (
        "cut",
        {
            "messages": ASKED,
            "response": {"choices": [{"finish_reason": "length", "message": {"content": "It"}}]},
        },
        "the answer is not whole: cut",
    ),
    (
        "tool call",
        run(
            {"question": "q"},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
                ],
            },
        ),
        "calls tools",
    ),
    (
        "picture",
        observation("q", {"role": "assistant", "content": [{"type": "image_url"}]}),
        "more than text",
    ),
]


@pytest.mark.parametrize(
    ("name", "value", "reason", "is_other"),
    [*((*one, False) for one in BAD), *((*one, True) for one in OTHER)],
    ids=[name for name, *_ in (*BAD, *OTHER)],
)
def test_what_is_no_call_says_which_field_and_why(
    name: str, value: Any, reason: str, is_other: bool, tmp_path: Path
) -> None:
    found = read_one(tmp_path, value)
    assert isinstance(found, BadLine), found
    assert reason in found.reason
    assert (found.line, found.is_other, json.loads(found.text)) == (1, is_other, value)


def test_a_bad_line_spoils_no_other_and_lines_are_counted_from_the_file(tmp_path: Path) -> None:
    good = questions.as_langfuse(questions.support_log(1)[0], 1)
    path = file_of(tmp_path, "", good, "{oops", {"traceId": "x"}, good)
    found = list(read_log(path))
    assert [(one.line, type(one)) for one in found] == [
        (2, LoggedCall), (3, BadLine), (4, BadLine), (5, LoggedCall)
    ]  # fmt: skip
    assert count_lines(path) == 4


@pytest.mark.parametrize("wrap", [list, lambda rows: {"object": "list", "data": rows, "first": 1}])
@pytest.mark.parametrize("indent", [None, 2])
def test_a_json_file_may_hold_a_list_and_lines_are_those_of_the_file(
    wrap: Callable[[Any], Any], indent: int | None, tmp_path: Path
) -> None:
    rows = [questions.as_langfuse(row, n) for n, row in enumerate(questions.support_log(3))]
    rows.insert(1, {"traceId": "x"})
    path = tmp_path / "export.json"
    path.write_text(json.dumps(wrap(rows), indent=indent))
    first, bad, *rest = read_log(path)
    assert isinstance(first, LoggedCall)
    assert isinstance(bad, BadLine)
    assert len(rest) == 2
    if indent:
        spelled = path.read_text().splitlines()[bad.line - 1 :]
        assert (
            json.loads("\n".join(spelled[: len(bad.text.splitlines())]).rstrip(",\n ")) == rows[1]
        )


@pytest.mark.parametrize(
    ("content", "name", "remedy"),
    [
        (b"PAR1\x00", "runs.jsonl", "write it as JSON lines"),
        ("question".encode("utf-16"), "runs.csv", "save it as UTF-8"),
        (b"[\n{", "runs.json", "is no JSON"),
        (b"frage,antwort\na,b\n", "runs.csv", "a first line must name question"),
    ],
)
def test_a_file_that_is_no_log_says_what_to_do(
    content: bytes, name: str, remedy: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=remedy):
        list(read_log(tmp_path / name))
    with pytest.raises(ValueError, match="cannot be read"):
        list(read_log(tmp_path / "none.jsonl"))


def test_a_cell_that_a_spreadsheet_cut_is_not_read_in_part(tmp_path: Path) -> None:
    cells = json.dumps([{"role": "user", "content": "q" * 50}])[:40].replace('"', '""')
    (tmp_path / "export.csv").write_text(f'input,output\n"{cells}",a\n"[urgent] why?",b\n')
    cut, whole = read_log(tmp_path / "export.csv")
    assert isinstance(cut, BadLine)
    assert "input is no JSON" in cut.reason
    assert "a spreadsheet cuts cells" in cut.reason
    assert isinstance(whole, LoggedCall)
    assert (whole.question, whole.answer) == ("[urgent] why?", Answer("b", finish_reason="stop"))


def test_requests_of_a_batch_that_were_not_answered_come_last(tmp_path: Path) -> None:
    rows = [questions.as_batch(row, n) for n, row in enumerate(questions.support_log(3))]
    (one, told), (two, _), (three, answered) = rows
    found = calls_of(file_of(tmp_path, one, two, three, answered, told))
    assert [call.line for call in found] == [3, 1, 2]
    assert [call.answer is None for call in found] == [False, False, True]


def test_a_run_that_langchain_traces_is_read(tmp_path: Path) -> None:
    pytest.importorskip("langchain_core")
    from langchain_core.language_models import GenericFakeChatModel
    from langchain_core.messages import AIMessage, ToolCall
    from langchain_core.tracers.base import BaseTracer

    kept: list[Mapping[str, Any]] = []

    class Tracer(BaseTracer):
        def _persist_run(self, run: Any) -> None:
            kept.append(run.model_dump(mode="json"))

    usage = {"input_tokens": 9, "output_tokens": 4, "total_tokens": 13}
    call = ToolCall(name="f", args={}, id="1")
    said = [AIMessage("It melts.", usage_metadata=usage), AIMessage("", tool_calls=[call])]
    tracer = Tracer(_schema_format="original+chat")  # as LangSmith's own
    model = GenericFakeChatModel(messages=iter(said))
    for _ in said:
        model.invoke(
            [("system", "Be brief."), ("human", "What is a fuse?")], {"callbacks": [tracer]}
        )
    answered, called = read_log(file_of(tmp_path, *kept))
    assert isinstance(answered, LoggedCall), answered
    assert answered.answer is not None
    assert [dict(message) for message in answered.messages] == ASKED
    assert answered.answer.text == "It melts."
    assert (answered.answer.usage or {}) | {"input_tokens": 9} == answered.answer.usage
    assert isinstance(called, BadLine)
    assert called.is_other


def test_a_log_of_langsmith_warms_the_cache_of_the_app_that_was_traced() -> None:
    pytest.importorskip("langchain_openai")
    from langchain_openai import ChatOpenAI

    from langchain_tiered_cache import TieredCache
    from shared_core.warming import Asker, read_file, warm_rows

    with TieredCache("memory://", semantic=False) as cache:
        log = read_file(questions.DATA / "langsmith.jsonl", Asker())
        assert warm_rows(cache.cache._path, log, progress=False).stored > 5
        row = questions.support_log(1)[0]
        model = ChatOpenAI(model=row["model"], temperature=0, api_key="none", cache=cache)
        told = model.invoke([("system", row["system"]), ("human", row["question"])])
        assert told.response_metadata["tiered_cache"]["tier"] == "exact"
        assert told.content == row["answer"]


@pytest.mark.parametrize("name", ["data", "runs", "observations", "traces"])
@pytest.mark.parametrize("before", [True, False])
def test_fields_of_the_same_name_further_in_hold_no_calls(
    name: str, before: bool, tmp_path: Path
) -> None:
    beside = {"meta": {name: [], "more": {name: [1, {"question": "?"}]}, "said": f'"{name}": [2]'}}
    rows = {name: [{"question": f"What is {n}?", "answer": f"It is {n}."} for n in range(3)]}
    whole = {**beside, **rows} if before else {**rows, **beside}
    path = tmp_path / "log.json"
    path.write_text(json.dumps(whole, indent=1), encoding="utf-8")
    calls = calls_of(path)
    assert [call.question for call in calls] == [f"What is {n}?" for n in range(3)]
    assert [json.loads(call.text) for call in calls] == rows[name]
    lines = path.read_text(encoding="utf-8").splitlines()
    assert all("{" in lines[call.line - 1] for call in calls)


@pytest.mark.parametrize("count", [float("inf"), float("nan"), -3, "many", None, True])
def test_counts_that_are_none_are_left_out(count: object, tmp_path: Path) -> None:
    value = {"input": "What is a fuse?", "output": "It melts.", "usage": {"input": count}}
    call = read_one(tmp_path, value)
    assert isinstance(call, LoggedCall)
    assert call.answer is not None
    assert not call.answer.usage
