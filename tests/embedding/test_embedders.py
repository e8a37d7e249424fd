"""Embedders made of anything, and the memo that the cache asks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest

from shared_core.embedding import Embedder, EmbedderError, LoadError, unit_rows
from shared_core.embedding.local import SentenceTransformerEmbedder, folder_of, source_of
from shared_core.embedding.memo import (
    _MAX_CHARACTERS,
    CHARACTERS_PER_TOKEN,
    MAX_VECTORS,
    RETRY_S,
    UNKNOWN_LIMIT,
    Memo,
    estimated_tokens,
)
from shared_core.embedding.resolve import PROBE, resolve_embedder
from tests.fakes import DIMENSION, Clock, FakeEmbedder, fake_embed

QUESTION = "How do I reset my password?"


def other_embed(texts: Sequence[str]) -> Any:
    return fake_embed(texts)[:, ::-1]


class Embeddings:
    """The methods of LangChain's embeddings, without LangChain."""

    def __init__(self, model: str | None = None, dimensions: int | None = None) -> None:
        self.model, self.dimensions = model, dimensions

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[3.0 * x for x in row] for row in fake_embed(texts).tolist()]


class IndexEmbedding:
    """The methods of LlamaIndex's embeddings, without LlamaIndex."""

    model_name = "unknown"

    def get_text_embedding_batch(self, texts: list[str]) -> list[list[float]]:
        rows: list[list[float]] = fake_embed(texts).tolist()
        return rows


class Wrapped(Embeddings):
    """LangChain's embeddings around a sentence-transformers model."""

    def __init__(self, model: Any) -> None:
        super().__init__("all-MiniLM-L6-v2")
        self._client = model


class Failing(FakeEmbedder):
    """An embedder whose model does not load until it is mended."""

    def __init__(self) -> None:
        super().__init__()
        self.broken = True
        self.loads = 0

    def embed(self, texts: Sequence[str]) -> Any:
        self.loads += 1
        if self.broken:
            raise LoadError("no such model")
        return super().embed(texts)


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.model)])
def embedder(request: pytest.FixtureRequest) -> Embedder:
    if request.param == "real":
        real: Embedder = request.getfixturevalue("model_embedder")
        return real
    return resolve_embedder(FakeEmbedder())


@pytest.fixture(scope="module")
def library_model() -> Any:
    """Return all-MiniLM-L6-v2 as sentence-transformers' own object."""
    library = pytest.importorskip("sentence_transformers", exc_type=ImportError)
    return library.SentenceTransformer(str(folder_of(source_of(None))), local_files_only=True)


# ------------------------------------------------------------------------------------ embedders


def test_rows_are_float32_of_length_one_in_the_order_asked(embedder: Embedder) -> None:
    texts = [QUESTION, "a longer text about something else, to be padded with", "x"]
    rows = embedder.embed(texts)
    assert rows.dtype == np.float32
    assert rows.shape == (3, embedder.dimension)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    for row, text in zip(rows, texts, strict=True):
        assert float(row @ embedder.embed([text])[0]) > 0.99999


def test_no_texts_are_no_rows(embedder: Embedder) -> None:
    assert embedder.embed([]).shape == (0, embedder.dimension)


def test_many_threads_get_what_one_gets(embedder: Embedder) -> None:
    texts = [f"{QUESTION} {i}" for i in range(8)]
    expected = {text: embedder.embed([text])[0] for text in texts}
    wrong: list[str] = []

    def ask(text: str) -> None:
        if float(embedder.embed([text])[0] @ expected[text]) < 0.99999:
            wrong.append(text)

    threads = [threading.Thread(target=ask, args=(text,)) for text in texts * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    "thing", [fake_embed, Embeddings(), IndexEmbedding(), FakeEmbedder(), FakeEmbedder().embed]
)
def test_whatever_embeds_becomes_an_embedder(thing: Any) -> None:
    made = resolve_embedder(thing)
    assert isinstance(made, Embedder)
    assert np.allclose(made.embed([QUESTION]), fake_embed([QUESTION]), atol=1e-6)
    assert made.dimension == DIMENSION


@pytest.mark.parametrize(
    "thing",
    [
        *(3, 0.5, "", " ", b"x", object(), ["all-MiniLM-L6-v2"], {"name": "x"}, Embeddings),
        *(Path("/no/such/model"), "./no/such/model"),
    ],
)
def test_what_embeds_nothing_is_refused(thing: Any) -> None:
    with pytest.raises(ValueError, match="embedder"):
        resolve_embedder(thing)


def test_a_coroutine_function_is_refused() -> None:
    async def embed(texts: list[str]) -> Any:
        return fake_embed(texts)

    with pytest.raises(ValueError, match="coroutine"):
        resolve_embedder(embed)


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        (np.ones((1, 4)), "shape"),
        (np.ones(4), "shape"),
        (np.ones((2, 0)), "shape"),
        (np.ones((2, 2, 2)), "shape"),
        ([[1.0, 2.0], [1.0]], "array"),
        ("text", "array"),
        (None, "shape"),
        ([[1.0, float("nan")], [1.0, 1.0]], "finite"),
        ([[1.0, float("inf")], [1.0, 1.0]], "finite"),
        ([[0.0, 0.0], [1.0, 1.0]], "zeros"),
    ],
)
def test_rows_that_are_no_vectors_are_an_error(rows: Any, complaint: str) -> None:
    with pytest.raises(EmbedderError, match=complaint):
        resolve_embedder(lambda texts: rows).embed(["a", "b"])


def test_rows_of_a_new_dimension_are_an_error() -> None:
    made = resolve_embedder(lambda texts: np.ones((len(texts), 3 if texts == ["a"] else 4)))
    made.embed(["a"])
    with pytest.raises(EmbedderError, match="shape"):
        made.embed(["b"])


def test_very_large_and_very_small_rows_are_normalised() -> None:
    rows = unit_rows([[3e200, 4e200], [3e-200, 4e-200]], 2)
    assert np.allclose(rows, [[0.6, 0.8], [0.6, 0.8]])


@pytest.mark.parametrize("make", [lambda f: f, lambda f: type("E", (), {"embed_documents": f})()])
def test_what_an_embedder_raises_is_an_embedder_error(make: Callable[[Any], Any]) -> None:
    def embed(*texts: Any) -> Any:
        raise KeyError("no key")

    with pytest.raises(EmbedderError, match="KeyError"):
        resolve_embedder(make(embed)).embed(["a"])


# --------------------------------------------------------------------------------------- spaces


def test_two_functions_never_share_a_space() -> None:
    names = {resolve_embedder(function).name for function in (fake_embed, other_embed)}
    lambdas = {
        resolve_embedder(lambda texts, k=k: np.roll(fake_embed(texts), k, axis=1)).name
        for k in range(8)
    }
    assert len(names) == 2
    assert len(lambdas) == 8


@pytest.mark.slow
def test_one_function_has_one_space_in_every_process() -> None:
    code = (
        "from shared_core.embedding import resolve_embedder; from tests.fakes import fake_embed;"
        "print(resolve_embedder(fake_embed).name)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert ran.stdout.strip() == resolve_embedder(fake_embed).name


def test_noise_of_float32_does_not_change_the_space() -> None:
    noise = np.random.default_rng(0).normal(0, 1e-8, (20, DIMENSION))
    assert (
        len({resolve_embedder(lambda texts, n=n: fake_embed(texts) + n).name for n in noise}) == 1
    )


def test_embeddings_of_one_class_and_other_models_never_share_a_space() -> None:
    made = [Embeddings("a"), Embeddings("b"), Embeddings("a", 32), Embeddings()]
    assert len({resolve_embedder(one).name for one in made}) == 4
    assert resolve_embedder(Embeddings("a")).name == resolve_embedder(Embeddings("a")).name


def test_a_model_that_names_itself_is_asked_nothing_to_be_known() -> None:
    calls: list[list[str]] = []

    class Counted(Embeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            calls.append(texts)
            return super().embed_documents(texts)

    memo = Memo(Counted("a"))
    memo.vector(QUESTION)
    assert memo.space.endswith(f"Counted a:{DIMENSION}")
    assert calls == [[QUESTION]]


def test_a_function_that_knows_some_texts_only_has_a_space_of_its_own() -> None:
    def table(texts: list[str]) -> Any:
        return [{QUESTION: [1.0, 0.0]}[text] for text in texts]

    def same(texts: list[str]) -> Any:
        return table(texts)

    memos = Memo(table), Memo(same)
    for memo in memos:
        memo.vector(QUESTION)
    assert memos[0].space != memos[1].space
    again = Memo(table)
    again.vector(QUESTION)
    assert again.space == memos[0].space


def test_making_an_embedder_of_something_calls_and_loads_nothing() -> None:
    class Lazy:
        loaded = False

        @property
        def name(self) -> str:
            self.loaded = True
            return "lazy"

        dimension = max_tokens = name

        def embed(self, texts: Sequence[str]) -> Any:
            self.loaded = True
            return fake_embed(texts)

    lazy = Lazy()
    Memo(lazy)
    assert not lazy.loaded


# ----------------------------------------------------------------------------------------- memo


def test_a_text_is_embedded_once() -> None:
    fake = FakeEmbedder()
    memo = Memo(fake)
    first = memo.vector(QUESTION)
    assert memo.vector(QUESTION) is first
    assert fake.calls == [[QUESTION]]


def test_two_memos_of_two_embedders_never_mix() -> None:
    one, two = Memo(fake_embed), Memo(other_embed)
    assert not np.allclose(one.vector(QUESTION), two.vector(QUESTION))


def test_the_least_recently_used_vector_is_forgotten_first() -> None:
    fake = FakeEmbedder()
    memo = Memo(fake)
    for i in range(MAX_VECTORS):
        memo.vector(f"text {i}")
    memo.vector("text 0")
    memo.vector("one more")
    fake.calls.clear()
    memo.vector("text 0")
    memo.vector("text 1")
    assert fake.calls == [["text 1"]]


def test_a_vector_that_was_handed_out_cannot_be_changed() -> None:
    vector = Memo(fake_embed).vector(QUESTION)
    with pytest.raises(ValueError, match="read-only"):
        vector[0] = 5


def test_a_space_is_a_name_and_a_dimension(embedder: Embedder) -> None:
    memo = Memo(embedder)
    assert memo.space == f"{embedder.name}:{embedder.dimension}"


@pytest.mark.parametrize(("words", "truncated"), [(32, False), (33, True)])
def test_a_text_longer_than_the_embedder_reads_is_truncated(words: int, truncated: bool) -> None:
    assert Memo(FakeEmbedder(max_tokens=32)).truncates("word " * words) is truncated


@pytest.mark.model
@pytest.mark.parametrize(("words", "truncated"), [(254, False), (255, True)])
def test_the_model_counts_its_own_tokens(
    model_embedder: Embedder, words: int, truncated: bool
) -> None:
    assert Memo(model_embedder).truncates("word " * words) is truncated


UNSEEN = {
    "thai": ("สวัสดี", "ขอบคุณ"),
    "khmer": ("សួស្តី", "លាហើយ"),
    "amharic": ("ሰላም", "ቻው"),
    "emoji": ("What does 🙏 mean?", "What does 💩 mean?"),
    "check marks": ("Is it ✓?", "Is it ✗?"),
    "mathematics": ("Compute ∫ x", "Compute ∑ x"),
    "long words": ("decode " + "a" * 101, "decode " + "b" * 101),
    "voicing marks": ("かぎ", "がき"),
    "vowel signs": ("कुल", "कूल"),
    "private use": ("What is \ue001?", "What is \ue002?"),
    "nothing decoded": ("What is \ufffd?", "What is \ufffd\ufffd?"),
}


@pytest.mark.model
@pytest.mark.parametrize("texts", UNSEEN.values(), ids=UNSEEN.keys())
def test_what_the_model_takes_for_equal_it_does_not_read(
    model_embedder: Embedder, library_model: Any, texts: tuple[str, str]
) -> None:
    rows = model_embedder.embed(texts)
    assert float(rows[0] @ rows[1]) > 0.9999
    for embedder in (model_embedder, library_model, Wrapped(library_model)):
        assert all(Memo(embedder).truncates(text) for text in texts)


@pytest.mark.model
@pytest.mark.parametrize(
    "text",
    [
        *("".join(map(chr, range(32, 127))), QUESTION, "decode " + "a" * 100, "tab\tand\nline"),
        *("Wie lautet die Übersetzung von Straße?", "日本語", "мой привет", "5 € → “ok”…"),
    ],
)
def test_what_the_model_knows_it_reads(model_embedder: Embedder, text: str) -> None:
    assert not Memo(model_embedder).truncates(text)


def test_an_embedder_is_asked_once_what_it_reads() -> None:
    class Picky(FakeEmbedder):
        asked: list[str] = []  # noqa: RUF012 - of this test alone

        def reads(self, text: str) -> bool:
            self.asked.append(text)
            return "x" not in text

    memo = Memo(Picky())
    assert [memo.truncates(text) for text in ("a", "x", "a", "x")] == [False, True, False, True]
    assert Picky.asked == ["a", "x"]


def test_tokens_of_very_long_texts_are_not_counted() -> None:
    class Counted(FakeEmbedder):
        def count_tokens(self, text: str) -> int:
            raise AssertionError(len(text))

    assert Memo(Counted(max_tokens=32)).truncates(" " * (32 * CHARACTERS_PER_TOKEN + 1))
    assert Memo(Counted(max_tokens=10**6)).truncates(" " * (_MAX_CHARACTERS + 1))


def test_an_embedder_that_does_not_say_is_taken_to_read_512_estimated_tokens() -> None:
    memo = Memo(fake_embed)
    assert not memo.truncates("word " * (UNKNOWN_LIMIT // 2 - 20))
    assert memo.truncates("word " * UNKNOWN_LIMIT)
    assert memo.truncates("語" * UNKNOWN_LIMIT)


@pytest.mark.model
def test_the_estimate_is_rather_too_high(model_embedder: Embedder) -> None:
    count = model_embedder.count_tokens  # type: ignore[attr-defined]  # that of the local model
    texts = [
        "How do I reset the password of my account on the mobile application, please?",
        "SELECT user_id, COUNT(*) FROM orders WHERE total >= 19.99 GROUP BY 1;",
        "Wie kann ich mein Passwort zurücksetzen, wenn ich keinen Zugriff mehr habe?",
        "https://example.org/a/b?c=1&d=two 2024-05-17T12:00:00Z 0x7ffe",
        "天気はどうですか。明日は雨が降りますか。",
    ]
    for text in texts:
        assert count(text * 5) <= estimated_tokens(text * 5)


# -------------------------------------------------------------------------------------- loading


def test_a_load_that_failed_is_tried_again_after_a_rest() -> None:
    clock, failing = Clock(), Failing()
    memo = Memo(failing, clock=clock)
    for _ in range(3):
        with pytest.raises(LoadError, match="no such model"):
            memo.vector(QUESTION)
        memo.truncates("word " * 1000)
    assert failing.loads == 1
    failing.broken = False
    clock.now += RETRY_S
    assert memo.vector(QUESTION).shape == (DIMENSION,)


def test_a_call_that_failed_is_tried_again_at_once() -> None:
    replies: list[Any] = [TimeoutError("slow"), fake_embed([QUESTION])]

    def flaky(texts: list[str]) -> Any:
        reply = replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    memo = Memo(flaky)
    with pytest.raises(EmbedderError, match="TimeoutError"):
        memo.vector(QUESTION)
    assert memo.vector(QUESTION).shape == (DIMENSION,)


class Slow(FakeEmbedder):
    """An embedder whose first call waits until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()

    def embed(self, texts: Sequence[str]) -> Any:
        assert self.let_go.wait(10)
        return super().embed(texts)


def test_a_load_in_the_background_keeps_nobody_waiting() -> None:
    slow, called = Slow(), threading.Event()
    memo = Memo(slow, load="background")
    memo.when_ready(called.set)
    assert not memo.ready
    with pytest.raises(EmbedderError, match="being loaded"):
        memo.vector(QUESTION)
    assert not memo.truncates("short")
    assert not called.is_set()
    slow.let_go.set()
    assert called.wait(10)
    assert memo.ready
    assert memo.vector(QUESTION).shape == (DIMENSION,)
    assert slow.calls[0] == [PROBE]
    now: list[int] = []
    memo.when_ready(lambda: now.append(1))
    assert now == [1]


def test_a_load_in_the_background_that_failed_says_why_and_starts_again_after_a_rest() -> None:
    clock, failing, called = Clock(), Failing(), threading.Event()
    memo = Memo(failing, load="background", clock=clock)
    memo.when_ready(called.set)
    _join_loader()
    assert memo.ready
    with pytest.raises(LoadError, match="no such model"):
        memo.vector(QUESTION)
    assert failing.loads == 1
    failing.broken = False
    clock.now += RETRY_S
    assert not memo.ready
    assert called.wait(10)
    assert memo.ready
    assert memo.vector(QUESTION).shape == (DIMENSION,)


def _join_loader() -> None:
    for thread in threading.enumerate():
        if thread.name == "tiered-cache-loader":
            thread.join(10)


def test_preload_loads_now_and_says_what_is_wrong() -> None:
    fake = FakeEmbedder()
    Memo(fake).preload()
    assert fake.calls == [[PROBE]]
    with pytest.raises(LoadError, match="no such model"):
        Memo(Failing()).preload()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_after_a_fork_a_lock_that_was_held_does_not_hang_the_child() -> None:
    slow = Slow()
    memo = Memo(slow, load="background")
    memo._lock.acquire()  # held by a thread that the child does not have
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        slow.let_go.set()
        _wait_until_ready(memo)
        os._exit(0 if memo.vector(QUESTION).shape == (DIMENSION,) else 1)
    memo._lock.release()
    slow.let_go.set()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _wait_until_ready(memo: Memo) -> None:
    ready = threading.Event()
    assert not memo.ready or memo.vector(QUESTION) is not None
    memo.when_ready(ready.set)
    assert ready.wait(10)


# -------------------------------------------------------------------------------- the real model


@pytest.mark.model
def test_paraphrases_are_near_and_others_are_not(model_embedder: Embedder) -> None:
    rows = model_embedder.embed([QUESTION, "How can I change my password?", "Is it raining?"])
    assert float(rows[0] @ rows[1]) > 0.8
    assert float(rows[0] @ rows[2]) < 0.3


@pytest.mark.model
def test_the_packaged_weights_and_the_hub_share_one_name_and_one_model() -> None:
    named = [None, "all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"]
    made = [resolve_embedder(one) for one in named]
    assert {one.name for one in made} == {"all-MiniLM-L6-v2"}
    assert all(one is made[0] for one in made)


def test_a_folder_is_known_by_what_is_in_it(tmp_path: Path) -> None:
    names = []
    for weights in (b"one", b"two", b"one"):
        (tmp_path / "model.safetensors").write_bytes(weights)
        names.append(SentenceTransformerEmbedder(tmp_path).name)
    assert names[0] == names[2]
    assert names[0] != names[1]


def test_a_missing_package_is_an_error_that_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shared_core.embedding.local.find_spec", lambda name: None)
    with pytest.raises(LoadError, match=r"pip install 'tiered-llm-cache\[embeddings\]'"):
        SentenceTransformerEmbedder().embed(["a"])


@pytest.mark.model
def test_a_model_that_is_not_on_disk_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    asked: list[tuple[str, float]] = []

    def download(name: str, *, etag_timeout: float, **_: Any) -> str:
        asked.append((name, etag_timeout))
        raise ConnectionError("no network")

    monkeypatch.setattr(hub, "snapshot_download", download)
    memo = Memo("no-such-organisation/no-such-model", clock=Clock())
    for _ in range(3):
        with pytest.raises(LoadError, match="cannot be downloaded"):
            memo.vector(QUESTION)
    assert asked == [("no-such-organisation/no-such-model", 10.0)]


@pytest.mark.model
def test_a_folder_without_a_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LoadError):
        SentenceTransformerEmbedder(tmp_path).embed(["a"])


# Left out: what torch and scikit-learn write themselves, on import (KMP_…, TORCHINDUCTOR_…).
QUIET = """
import os, signal, sys, threading
ours = ("OMP_", "MKL_", "TOKENIZERS_", "HF_", "TRANSFORMERS_", "PYTORCH_", "CUDA_")
settings = lambda: {k: v for k, v in os.environ.items() if k.startswith(ours)}
before = settings()
from shared_core.embedding.memo import Memo
memo = Memo(load=sys.argv[1])
if sys.argv[1] == "lazy":
    memo.preload()
    memo.vector("hello " * 20)
child = os.fork()
if child == 0:
    signal.alarm(90)
    there = threading.Event()
    memo.ready
    memo.when_ready(there.set)
    ok = there.wait(60) and memo.vector("hello there").shape == (384,)
    ok = ok and memo.truncates("word " * 300)
    os._exit(0 if ok else 1)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
assert settings() == before, "the environment was changed"
sys.exit(code)
"""


@pytest.mark.model
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("load", ["lazy", "background"])
def test_the_model_is_quiet_and_works_in_a_forked_child(load: str) -> None:
    threads = {**os.environ, "OMP_NUM_THREADS": "2"}  # one would not hang in a child anyway
    ran = subprocess.run(
        [sys.executable, "-c", QUIET, load],
        capture_output=True, text=True, check=False, timeout=120, env=threads,
    )  # fmt: skip
    noise = [line for line in ran.stderr.splitlines() if "B/s" in line or "it/s" in line]
    assert (ran.returncode, ran.stdout, noise) == (0, "", []), ran.stderr


# ------------------------------------------------------------------- weights that are a package


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an archive of weights that the package is taken to have; the cache is empty."""
    archive = tmp_path / "model.zip"
    with ZipFile(archive, "w") as made:
        made.writestr("model.safetensors", b"weights")
        made.writestr("tokenizer.json", "{}")
        made.writestr("1_Pooling/config.json", "{}")
    monkeypatch.setattr("shared_core.embedding.local._packaged", lambda: archive)
    monkeypatch.setattr(
        "shared_core.embedding.local.WEIGHTS_DIGEST", sha256(b"weights").hexdigest()
    )
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return archive


def test_packaged_weights_are_unpacked_once_into_the_cache_of_the_user(packed: Path) -> None:
    folder = folder_of(source_of(None))
    assert folder is not None
    assert folder.is_relative_to(packed.parent / "cache" / "tiered-llm-cache")
    assert (folder / "1_Pooling" / "config.json").read_text() == "{}"
    packed.unlink()
    assert folder_of(source_of("all-MiniLM-L6-v2")) == folder
    assert [one.name for one in folder.parent.iterdir()] == [folder.name], "nothing half-made stays"


def test_other_weights_than_the_published_are_refused(
    packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared_core.embedding.local.WEIGHTS_DIGEST", "0" * 64)
    with pytest.raises(LoadError, match="not the published ones"):
        folder_of(source_of(None))
    assert not list((packed.parent / "cache" / "tiered-llm-cache").iterdir())


def test_without_a_cache_folder_weights_are_unpacked_for_this_process(
    packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (packed.parent / "cache").write_text("a file, where a folder should be")
    folder = folder_of(source_of(None))
    assert folder is not None
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    assert folder_of(source_of(None)) == folder


def test_processes_that_unpack_at_one_time_get_one_folder(packed: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: folder_of(source_of(None)), range(8)))
    assert len(set(folders)) == 1
