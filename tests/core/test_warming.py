"""Warm-up: of pairs and of files; what is skipped, asked for, foreseen, and reported as bad."""

from __future__ import annotations

import asyncio
import io
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shared_core import Answer, Hit, Request, ResponseCache
from shared_core.learning import BadLine
from shared_core.openai_format import Endpoint, request_of
from shared_core.warming import Asker, Row, read_file, warm_rows
from tests.fakes import FakeEmbedder

ROOT = Path(__file__).parents[2]
OPENAI = Endpoint("openai", "https://api.openai.com/v1", {})


def of_question(text: str, model: str = "m", **params: Any) -> Request:
    return request_of(OPENAI, [{"role": "user", "content": text}], {"model": model, **params})


def text_in(cache: ResponseCache, request: Request) -> str | None:
    found = cache.lookup(request)
    return found.answer.text if isinstance(found, Hit) else None


@pytest.fixture
def cache(store_url: str) -> Iterator[ResponseCache]:
    with ResponseCache.open(store_url, semantic=False) as opened:
        yield opened


def file_of(path: Path, *rows: Any, name: str = "rows.jsonl") -> Path:
    file = path / name
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def read(path: Path, model: str | None = "m") -> list[Row | BadLine]:
    return list(read_file(path, Asker(model)))


# ----------------------------------------------------------------------------------------- pairs


def test_pairs_are_stored_once(cache: ResponseCache) -> None:
    pairs = [(of_question(f"question {n}"), f"answer {n}") for n in range(200)]
    assert cache.warm(pairs, progress=False) == 200
    assert cache.warm(pairs, progress=False) == 0
    assert cache.warm([*pairs, ("a text", Answer("its answer"))], progress=False) == 1
    assert text_in(cache, of_question("question 77")) == "answer 77"
    assert text_in(cache, Request.of("a text")) == "its answer"


def test_pairs_may_be_awaited_and_streamed(cache: ResponseCache) -> None:
    pairs = ((of_question(f"question {n}"), "yes") for n in range(50))
    assert asyncio.run(cache.awarm(pairs, progress=False)) == 50


def test_questions_of_a_warm_up_are_found_by_meaning() -> None:
    cache = ResponseCache.open(embedder=FakeEmbedder(), threshold=0.9)
    pairs = [(of_question(f"what is thing number {n}"), f"thing {n}") for n in range(300)]
    assert cache.warm(pairs, progress=False) == 300
    found = cache.lookup(of_question("What is thing number 17?"))
    assert isinstance(found, Hit)
    assert found.answer.text == "thing 17"


def test_controls_in_force_hold_for_pairs(cache: ResponseCache) -> None:
    with cache.control(namespace="shop", tags=["old"]):
        assert cache.warm([(of_question("a"), "b")], progress=False) == 1
        assert text_in(cache, of_question("a")) == "b"
        cache.bump("old")
        assert text_in(cache, of_question("a")) is None
    assert text_in(cache, of_question("a")) is None


def test_what_is_no_pair_is_refused(cache: ResponseCache) -> None:
    with pytest.raises(TypeError, match="warm takes pairs"):
        cache.warm([("question", 3)], progress=False)


def test_progress_says_rate_and_total(
    cache: ResponseCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tqdm")
    screen = io.StringIO()
    monkeypatch.setattr("sys.stderr", screen)
    cache.warm([(of_question(f"q {n}"), "a") for n in range(30)])
    assert "30/30" in screen.getvalue()
    assert "rows/s" in screen.getvalue()


# ------------------------------------------------------------------------------------------ rows


def test_a_row_has_the_key_of_the_app_that_asks_it(tmp_path: Path) -> None:
    system, history = "Be brief.", [{"role": "user", "content": "Hi"}]
    (row,) = read(
        file_of(
            tmp_path,
            {
                "question": "What is a fuse?",
                "answer": "It melts.",
                "model": "n",
                "system": system,
                "history": history,
                "params": {"temperature": 0, "max_completion_tokens": 9},
                "tags": ["fuses"],
                "ttl": 60,
            },
        )
    )
    assert isinstance(row, Row)
    messages = [{"role": "system", "content": system}, *history,
                {"role": "user", "content": "What is a fuse?"}]  # fmt: skip
    asked = {"model": "n", "temperature": 0, "max_tokens": 9}
    assert row.request == request_of(OPENAI, messages, asked)
    assert row.answer == Answer("It melts.")
    assert (row.tags, row.ttl, list(row.messages)) == (("fuses",), 60.0, messages)


def test_a_csv_says_the_same_as_json_lines(tmp_path: Path) -> None:
    rows = [
        {"question": 'a, "b"\nc', "answer": "x", "params": {"temperature": 0}, "tags": ["t"]},
        {"question": "ümläut", "model": "n", "ttl": 5},
    ]
    csv = (
        "\ufeffquestion,answer,model,params,tags,ttl\r\n"
        '"a, ""b""\nc",x,,"{""temperature"": 0}","[""t""]",\r\n'
        "\r\n"
        "ümläut,,n,,,5\r\n"
    )
    (tmp_path / "rows.csv").write_bytes(csv.encode())
    of_json, of_csv = read(file_of(tmp_path, *rows)), read(tmp_path / "rows.csv")

    def said(row: Row | BadLine) -> Any:
        assert isinstance(row, Row), row
        return row.request, row.answer, row.tags, row.ttl

    assert list(map(said, of_json)) == list(map(said, of_csv))
    assert [row.line for row in of_csv] == [2, 5]


BAD = [
    ("{not json", "no JSON"),
    ("[1, 2]", "no JSON object"),
    ({"answer": "x"}, "no question"),
    ({"question": "  "}, "no question"),
    ({"question": 3}, "question must be a text"),
    ({"question": "q", "anwser": "x"}, "did you mean 'answer'"),
    ({"question": "q", "params": [1]}, "params must be an object"),
    ({"question": "q", "ttl": -1}, "ttl must be"),
    ({"question": "q", "tags": "t"}, "tags must be a list"),
    ({"question": "q", "history": [{"content": "x"}]}, 'with a "role"'),
    ({"question": "q", "history": ["x"]}, "must be a mapping"),
    ({"question": "q", "answer": None, "system": ["x"]}, "system must be a text"),
]


@pytest.mark.parametrize(("line", "reason"), BAD)
def test_a_bad_line_says_why_and_spoils_no_other(tmp_path: Path, line: Any, reason: str) -> None:
    good = {"question": "good", "answer": "yes"}
    first, bad, last = read(file_of(tmp_path, good, line, good))
    assert isinstance(first, Row)
    assert isinstance(last, Row)
    assert isinstance(bad, BadLine)
    assert bad.line == 2
    assert reason in bad.reason
    assert bad.text == (line if isinstance(line, str) else json.dumps(line))


def test_bytes_that_are_no_utf8_and_bad_cells_are_bad_lines(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"question": "\xff"}\n{"question": "q"}\n')
    bad, good = read(tmp_path / "a.jsonl")
    assert isinstance(bad, BadLine)
    assert "no UTF-8" in bad.reason
    assert isinstance(good, Row)
    text = 'question,params,ttl\na,b\nc,{x,\nd,,soon\n"e"f,,\ng,,\n'
    rows = read(file_of(tmp_path, text, name="a.csv"))
    reasons = [row.reason for row in rows if isinstance(row, BadLine)]
    assert [reason.split(":")[0] for reason in reasons] == [
        "2 cells, and the first line names 3",
        "params is no JSON",
        "ttl must be seconds, not 'soon'",
        "no CSV",
    ]
    assert isinstance(rows[-1], Row)


def test_a_line_without_a_model_is_bad_and_a_file_that_is_none_an_error(tmp_path: Path) -> None:
    (bad,) = read(file_of(tmp_path, {"question": "q"}), model=None)
    assert isinstance(bad, BadLine)
    assert "--model" in bad.reason
    with pytest.raises(ValueError, match="cannot be read"):
        read(tmp_path / "none.jsonl")
    with pytest.raises(ValueError, match="a first line must name question"):
        read(file_of(tmp_path, "frage,antwort", name="b.csv"))


def test_a_run_that_was_stopped_is_taken_up_again(cache: ResponseCache, tmp_path: Path) -> None:
    rows = [{"question": f"q {n}"} for n in range(60)]
    file = file_of(tmp_path, *rows)
    asked: list[str] = []

    class Stopped(BaseException):
        pass

    def ask(row: Row) -> None:
        if len(asked) == 25:
            raise Stopped
        question = str(row.messages[-1]["content"])
        asked.append(question)
        cache.store(row.request, Answer(f"answer to {question}"))

    with pytest.raises(Stopped):
        warm_rows(cache._path, read_file(file, Asker("m")), ask=ask, threads=1, progress=False)
    assert len(asked) == 25
    done = set(asked)
    asked.append("")  # past the stop
    report = warm_rows(cache._path, read_file(file, Asker("m")), ask=ask, progress=False)
    assert (report.rows, report.present, report.asked, report.bad) == (60, 25, 35, 0)
    assert not done & set(asked[26:])
    assert text_in(cache, of_question("q 59")) == "answer to q 59"


def test_only_so_many_rows_are_read_ahead(cache: ResponseCache) -> None:
    taken, done = [], []

    def rows() -> Iterator[Row]:
        for n in range(500):
            taken.append(n)
            assert len(taken) - len(done) <= 17
            yield Row(n, "", of_question(str(n)), (), "m", {}, None)

    def ask(row: Row) -> None:
        done.append(row.line)

    warm_rows(cache._path, rows(), ask=ask, threads=2, progress=False)
    assert len(done) == 500


def test_a_model_that_fails_makes_its_line_bad(cache: ResponseCache, tmp_path: Path) -> None:
    bad: list[BadLine] = []

    def ask(row: Row) -> None:
        if row.line == 2:
            raise TimeoutError("too slow")
        cache.store(row.request, Answer("yes"))

    file = file_of(tmp_path, *({"question": f"q {n}"} for n in range(3)))
    report = warm_rows(
        cache._path, read_file(file, Asker("m")), ask=ask, bad=bad.append, progress=False
    )
    assert (report.asked, report.bad) == (2, 1)
    assert [(one.line, one.reason) for one in bad] == [
        (2, "the model did not answer: TimeoutError")
    ]


# --------------------------------------------------------------------------------------- command


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    pytest.importorskip("typer")
    from typer.testing import CliRunner

    from shared_core.cli import app

    def run(*arguments: object) -> tuple[int, str]:
        asked = ["warm", *map(str, arguments), "--exact", "--no-progress"]
        ran = CliRunner().invoke(app, asked)
        assert ran.exception is None or isinstance(ran.exception, SystemExit), ran.exception
        return ran.exit_code, ran.output

    return run


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'answers.db'}"


def test_the_command_stores_and_reports_every_bad_line(
    command: Callable[..., tuple[int, str]], tmp_path: Path, url: str
) -> None:
    lines = [{"question": f"q {n}", "answer": f"a {n}"} for n in range(20)]
    file = file_of(tmp_path, *lines, *["oops"] * 15)
    code, output = command(file, url, "--model", "m")
    assert code == 1
    assert "35 lines: 20 stored, 0 of them asked for, 0 already there, 15 bad" in output
    assert output.count("no JSON") == 10
    report = (tmp_path / "rows.jsonl.bad.jsonl").read_text().splitlines()
    assert [json.loads(line)["line"] for line in report] == list(range(21, 36))
    assert {json.loads(line)["text"] for line in report} == {"oops"}
    code, output = command(file_of(tmp_path, *lines), url, "--model", "m")
    assert (code, "20 already there, 0 bad" in output) == (0, True)
    assert not (tmp_path / "rows.jsonl.bad.jsonl").exists()
    with ResponseCache.open(url, semantic=False) as cache:
        assert text_in(cache, of_question("q 7")) == "a 7"


def test_the_command_asks_for_what_is_missing(
    command: Callable[..., tuple[int, str]],
    tmp_path: Path,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    openai = pytest.importorskip("openai")
    from tests.openai_server import Server

    server = Server()
    made = {url: server.client(base_url=url) for url in (None, "http://localhost:8000/v1")}
    monkeypatch.setattr(openai, "OpenAI", lambda base_url: made[base_url])
    file = file_of(tmp_path, {"question": "a"}, {"question": "b", "answer": "known"})
    code, output = command(file, url)
    assert (code, "--model or --ask" in output) == (1, True)
    code, output = command(file, url, "--ask", "gpt-4o-mini", "--rpm", 100)
    assert (code, len(server.bodies)) == (0, 1)
    assert "2 lines: 2 stored, 1 of them asked for" in output
    assert "1 calls" in output
    command(file, url, "--ask", "gpt-4o-mini")
    assert len(server.bodies) == 1, "it is there"
    command(file, url, "--ask", "x", "--base-url", "http://localhost:8000/v1")
    with ResponseCache.open(url, semantic=False) as cache:
        local = Endpoint("openai", "http://localhost:8000/v1", {})
        asked = [{"role": "user", "content": "a"}]
        assert text_in(cache, request_of(local, asked, {"model": "x"})) == "answer to a"
        assert text_in(cache, of_question("a", "gpt-4o-mini")) == "answer to a"


def test_a_dry_run_says_the_cost_and_does_nothing(
    command: Callable[..., tuple[int, str]], tmp_path: Path, url: str
) -> None:
    pytest.importorskip("genai_prices")
    file = file_of(tmp_path, {"question": "x" * 400}, {"question": "b", "answer": "known"}, "oops")
    code, output = command(file, url, "--ask", "gpt-4o-mini", "--dry-run", "--answer-tokens", 1000)
    assert code == 1
    assert "3 lines: 2 would be stored, 1 of them would be asked for, 0 already there, 1" in output
    assert "about 100 input and 1,000 output tokens" in output
    assert "about $0.0006" in output
    with ResponseCache.open(url, semantic=False) as cache:
        assert text_in(cache, of_question("b", "gpt-4o-mini")) is None


@pytest.mark.slow
def test_a_command_that_was_stopped_goes_on_where_it_was(tmp_path: Path, url: str) -> None:
    pytest.importorskip("typer")
    count = 5000
    file = file_of(tmp_path, *({"question": f"q {n}", "answer": f"a {n}"} for n in range(count)))
    command = [sys.executable, "-m", "shared_core.cli", "warm", str(file), url]
    command += ["--model", "m", "--exact", "--no-progress"]
    with ResponseCache.open(url, semantic=False) as cache:
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as stopped:
            deadline = time.monotonic() + 60
            while text_in(cache, of_question("q 200")) is None:
                assert stopped.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.005)
            stopped.send_signal(signal.SIGINT)
            _, told = stopped.communicate(timeout=60)
        assert (stopped.returncode, "goes on from here" in told) == (130, True)
        assert text_in(cache, of_question(f"q {count - 1}")) is None, "it was stopped too late"
        again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        found = re.search(r"5,000 lines: ([\d,]+) stored, .* ([\d,]+) already there", again.stdout)
        assert found is not None
        stored, there = (int(one.replace(",", "")) for one in found.groups())
        assert stored + there == count
        assert there > 200
        assert text_in(cache, of_question(f"q {count - 1}")) == f"a {count - 1}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rows.jsonl", "memory://"], "memory:// ends with this command"),
        (["none.jsonl", "sqlite:///{0}/a.db"], "cannot be read"),
        (["rows.jsonl", "nonsense"], "not understood"),
    ],
)
def test_the_command_says_what_is_wrong(
    command: Callable[..., tuple[int, str]],
    tmp_path: Path,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    file_of(tmp_path, {"question": "q", "answer": "a"})
    code, output = command(*(one.format(tmp_path) for one in arguments), "--model", "m")
    assert (code, message in output) == (1, True)
