"""onnxruntime and sentence-transformers run one model, and nobody can tell which it was."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared_core.embedding import LoadError, bert, local
from shared_core.embedding.bert import GROUP_SIZE, _groups, open_bert, shape_of
from shared_core.embedding.local import Route, SentenceTransformerEmbedder, folder_of, source_of
from shared_core.embedding.memo import Memo

pytestmark = pytest.mark.model

EQUAL = 0.99999
WAIT = 30.0


def texts(vocabulary: list[str]) -> list[str]:
    """Return texts of every length, script and kind, the empty and the endless among them."""
    rng = random.Random(7)
    ranges = ((32, 127), (0xA0, 0x3000), (0x3000, 0xD7FF), (0x1F300, 0x1FAFF), (1, 32))

    def sign() -> str:
        return chr(rng.randrange(*rng.choice(ranges)))

    return [
        *("", " ", "x", "?", "\n\t", "\ufffd\ue000", "\x1c\x1d a", "\u2003wide\u00a0", "e\u0301 é"),
        *("[CLS]", "[MASK] and [SEP]", "##ing ##s", "a" * 300, "zero\u200bwidth", "Straße ÀÉ ñ"),
        *("日本語の質問です。", "мой привет", "🙏 what?", "line\nbreak", "ＦＵＬＬ width"),
        *("word " * n for n in (1, 2, 7, 8, 20, 100, 253, 254, 255, 256, 400)),
        *(" ".join(rng.choices(vocabulary, k=n)) for n in (*range(1, 30), 60, 120, 200, 300)),
        *("".join(sign() for _ in range(rng.randrange(1, 50))) for _ in range(60)),
    ]


@pytest.fixture(scope="module")
def folder() -> Path:
    found = folder_of(source_of(None))
    if found is None:
        pytest.skip("the weights are not installed as a package")
    return found


@pytest.fixture(scope="module")
def vocabulary(folder: Path) -> list[str]:
    return list(json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]["vocab"])


def opened(route: Route, folder: Path | None = None) -> SentenceTransformerEmbedder:
    package = "onnxruntime" if route == "onnx" else "sentence_transformers"
    pytest.importorskip(package, exc_type=ImportError)
    return SentenceTransformerEmbedder(folder, route=route)


@pytest.fixture(scope="module")
def library() -> SentenceTransformerEmbedder:
    return opened("sentence-transformers")


@pytest.fixture(scope="module")
def light() -> SentenceTransformerEmbedder:
    return opened("onnx")


# ----------------------------------------------------------------------------- the same vectors


def test_onnxruntime_gives_the_library_s_vectors(
    light: SentenceTransformerEmbedder,
    library: SentenceTransformerEmbedder,
    vocabulary: list[str],
) -> None:
    asked = texts(vocabulary)
    wanted = np.concatenate([library.embed([text]) for text in asked])
    alone = np.concatenate([light.embed([text]) for text in asked])
    assert np.einsum("nd,nd->n", alone, wanted).min() >= EQUAL
    assert np.einsum("nd,nd->n", light.embed(asked), wanted).min() >= EQUAL


def test_onnxruntime_reads_as_the_library_does(
    light: SentenceTransformerEmbedder,
    library: SentenceTransformerEmbedder,
    vocabulary: list[str],
) -> None:
    asked = texts(vocabulary)
    assert [light.count_tokens(one) for one in asked] == [
        library.count_tokens(one) for one in asked
    ]
    assert [light.reads(one) for one in asked] == [library.reads(one) for one in asked]
    assert light.max_tokens == library.max_tokens == 256


def test_both_routes_have_one_space(
    light: SentenceTransformerEmbedder, library: SentenceTransformerEmbedder
) -> None:
    assert Memo(light).space == Memo(library).space == "all-MiniLM-L6-v2:384"


# ---------------------------------------------------------------------------- which route is taken


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    from importlib.util import find_spec

    for module in (bert, local):
        monkeypatch.setattr(
            module, "find_spec", lambda name: None if name in packages else find_spec(name)
        )


@pytest.mark.parametrize(
    ("absent", "route"),
    [
        ((), "onnx"),
        (("onnxruntime",), "sentence-transformers"),
        (("tokenizers",), "sentence-transformers"),
        (("sentence_transformers",), "onnx"),
    ],
)
def test_the_lightest_route_that_is_installed_is_taken(
    absent: tuple[str, ...], route: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("onnxruntime", "tokenizers", "sentence_transformers"):
        pytest.importorskip(package, exc_type=ImportError)
    without(monkeypatch, *absent)
    assert SentenceTransformerEmbedder().route == route


def test_a_device_is_given_to_the_library() -> None:
    pytest.importorskip("sentence_transformers", exc_type=ImportError)
    assert SentenceTransformerEmbedder(device="cpu").route == "sentence-transformers"
    with pytest.raises(ValueError, match="cuda"):
        SentenceTransformerEmbedder(device="cuda", route="onnx")


def test_an_onnxruntime_that_cannot_run_the_graph_leaves_it_to_the_library(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")

    def fail(*_: Any) -> Any:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(bert, "_session", fail)
    assert SentenceTransformerEmbedder().route == "sentence-transformers"
    with pytest.raises(LoadError, match="RuntimeError"):
        SentenceTransformerEmbedder(route="onnx").load()


@pytest.fixture
def other(folder: Path, tmp_path: Path) -> Path:
    """Return a folder with all of the model but its weights, which a test may change."""
    for path in folder.rglob("*.json"):
        target = tmp_path / path.relative_to(folder)
        target.parent.mkdir(exist_ok=True)
        shutil.copy(path, target)
    return tmp_path


def test_a_plain_model_is_known_as_such(other: Path) -> None:
    shape = shape_of(other)
    assert shape is not None
    assert (shape.layers, shape.heads, shape.dimension, shape.max_tokens) == (6, 12, 384, 256)


def change(file: str, **values: Any) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / file
        said = json.loads(path.read_text("utf-8"))
        path.write_text(json.dumps({**said, **values}))

    return apply


def pool(**modes: bool) -> Callable[[Path], None]:
    return change("1_Pooling/config.json", **{f"pooling_mode_{k}": v for k, v in modes.items()})


def add_module(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    dense = {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}
    (folder / "modules.json").write_text(json.dumps([*modules[:2], dense, modules[2]]))


def remove(file: str) -> Callable[[Path], None]:
    return lambda folder: (folder / file).unlink()


def cut_short(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "bert"')


UNLIKE = {
    "other architecture": change("config.json", model_type="mpnet"),
    "other activation": change("config.json", hidden_act="gelu_new"),
    "relative positions": change("config.json", position_embedding_type="relative_key"),
    "decoder": change("config.json", is_decoder=True),
    "lower case first": change("sentence_bert_config.json", do_lower_case=True),
    "prompt": change("config_sentence_transformers.json", default_prompt_name="query"),
    "first token": pool(cls_token=True, mean_tokens=False),
    "two poolings": pool(max_tokens=True),
    "no pooling": pool(mean_tokens=False),
    "pooling of new versions": change("1_Pooling/config.json", pooling_mode="cls"),
    "dense layer": add_module,
    "no modules": remove("modules.json"),
    "no tokenizer": remove("tokenizer.json"),
    "other tokenizer": change("tokenizer.json", pre_tokenizer={"type": "Whitespace"}),
    "tokenizer overruled": change("tokenizer_config.json", do_lower_case=False),
    "accents overruled": change("tokenizer_config.json", strip_accents=False),
    "broken file": cut_short,
}


@pytest.mark.parametrize("make", UNLIKE.values(), ids=UNLIKE.keys())
def test_a_model_that_is_not_plain_is_left_to_the_library(
    other: Path, make: Callable[[Path], None]
) -> None:
    make(other)
    assert shape_of(other) is None
    assert open_bert(other) is None


# ---------------------------------------------------------------------------------- other models


@pytest.fixture(scope="module", params=["float32", "float16"])
def small(
    request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return the folder of a small model as sentence-transformers saves it, not normalised."""
    library = pytest.importorskip("sentence_transformers", exc_type=ImportError)
    import torch
    from sentence_transformers import models
    from transformers import AutoTokenizer, BertConfig, BertModel

    torch.manual_seed(0)
    size = {"hidden_size": 48, "intermediate_size": 96}
    config = BertConfig(
        **size,
        num_hidden_layers=2,
        num_attention_heads=4,
        initializer_range=0.4,
        layer_norm_eps=1e-5,
    )
    bare, saved = (tmp_path_factory.mktemp(name) for name in ("bare", "saved"))
    BertModel(config).to(getattr(torch, request.param)).save_pretrained(bare)
    AutoTokenizer.from_pretrained(folder, model_max_length=64).save_pretrained(bare)
    modules = [models.Transformer(str(bare)), models.Pooling(size["hidden_size"], "mean")]
    library.SentenceTransformer(modules=modules, device="cpu").save(str(saved))
    return saved


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_model_of_another_size_has_the_library_s_vectors_or_the_library(
    small: Path, vocabulary: list[str]
) -> None:
    if "float16" in json.loads((small / "config.json").read_text())["dtype"]:
        assert SentenceTransformerEmbedder(small).route == "sentence-transformers"
        with pytest.raises(LoadError, match="F16"):
            opened("onnx", small).load()
        return
    light, library = opened("onnx", small), opened("sentence-transformers", small)
    asked = texts(vocabulary)
    wanted = np.concatenate([library.embed([text]) for text in asked])
    assert np.einsum("nd,nd->n", light.embed(asked), wanted).min() >= EQUAL
    assert light.max_tokens == library.max_tokens == 64
    assert light.name == library.name


# -------------------------------------------------------------------------------- many and forks


def test_texts_are_put_together_with_little_padding() -> None:
    rng = random.Random(3)
    lengths = [rng.randrange(2, 256) for _ in range(200)] + [8] * 40
    groups = list(_groups(lengths))
    assert sorted(place for group in groups for place in group) == list(range(len(lengths)))
    assert max(map(len, groups)) == GROUP_SIZE
    padded = sum(max(lengths[i] for i in group) * len(group) for group in groups)
    assert padded < 1.15 * sum(lengths)
    assert list(_groups([])) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_children_forked_while_threads_read_and_embed_do_so_too(
    light: SentenceTransformerEmbedder,
) -> None:
    memo, stop = Memo(light), threading.Event()
    memo.preload()
    wanted = light.embed(["How do I reset my password?"])[0]

    def busy(name: int) -> None:
        n = 0
        while not stop.is_set():
            n += 1
            text = f"question {n} of thread {name}"
            memo.truncates(text)
            memo.vector(text)

    threads = [threading.Thread(target=busy, args=(name,)) for name in range(3)]
    for thread in threads:
        thread.start()
    codes = []
    try:
        for _ in range(20):
            child = os.fork()
            if child == 0:
                signal.alarm(20)
                read = not memo.truncates("How do I reset my password?")
                same = float(memo.vector("How do I reset my password?") @ wanted) > EQUAL
                os._exit(0 if read and same else 1)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    finally:
        stop.set()
        for thread in threads:
            thread.join(WAIT)
    assert codes == [0] * 20
