"""Attention states of a local model: reused, cut, bounded, kept on disk. Tiny random models."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.model

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from examples.kv_prefix import tiny_model  # noqa: E402 - after the skips
from shared_core.prefix.kv_reuse import KVPrefixCache, Reuse  # noqa: E402

VOCABULARY = 97
CLOSE = {"rtol": 0.0, "atol": 1e-4}


def llama(seed: int = 0, **more: Any) -> Any:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    sizes |= {"vocab_size": VOCABULARY, "max_position_embeddings": 512, "eos_token_id": None}
    return tiny_model(seed, **sizes, **more)


def gpt2() -> Any:
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=512, eos_token_id=None
    )
    return transformers.GPT2LMHeadModel(config).eval()


def ids(seed: int, count: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    found: list[int] = torch.randint(1, VOCABULARY, (count,), generator=generator).tolist()
    return found


def full(model: Any, tokens: list[int]) -> Any:
    with torch.inference_mode():
        return model(torch.tensor([tokens])).logits[0, -1]


FRONT = ids(1, 100)


@pytest.fixture(params=[llama, gpt2], ids=["llama", "gpt2"])
def model(request: pytest.FixtureRequest) -> Any:
    return request.param()


def test_logits_after_a_known_front_equal_those_of_a_full_run(model: Any) -> None:
    states = KVPrefixCache(model)
    assert states.prefill(FRONT) == Reuse(100, 0)
    for seed in range(2, 6):  # again and again: what is held must not change
        tokens = FRONT + ids(seed, 7)
        assert states.past(tokens)[1] == Reuse(107, 100)
        torch.testing.assert_close(states.logits(tokens), full(model, tokens), **CLOSE)


def test_of_a_prompt_that_parts_earlier_the_common_front_is_reused(model: Any) -> None:
    states = KVPrefixCache(model)
    states.prefill(FRONT)
    tokens = FRONT[:60] + ids(9, 30)
    common = next(n for n in range(60, 90) if tokens[n] != FRONT[n])
    assert states.past(tokens)[1].reused == common
    torch.testing.assert_close(states.logits(tokens), full(model, tokens), **CLOSE)


def test_a_known_prompt_itself_runs_its_last_token_alone(model: Any) -> None:
    states = KVPrefixCache(model)
    states.prefill(FRONT)
    assert states.past(FRONT)[1] == Reuse(100, 99)
    torch.testing.assert_close(states.logits(FRONT), full(model, FRONT), **CLOSE)


def test_the_longest_of_several_fronts_is_taken(model: Any) -> None:
    states = KVPrefixCache(model)
    longer = FRONT + ids(2, 20)
    states.prefill(FRONT[:50])
    assert states.prefill(longer).reused == 50
    states.prefill(FRONT)
    for _ in range(2):  # whichever was used last
        assert states.past([*longer, 5])[1].reused == 120
    torch.testing.assert_close(states.logits([*longer, 5]), full(model, [*longer, 5]), **CLOSE)


def test_generated_tokens_are_those_of_the_model_alone(model: Any) -> None:
    states = KVPrefixCache(model)
    states.prefill(FRONT)
    tokens = FRONT + ids(3, 5)
    options = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0}
    expected = model.generate(
        torch.tensor([tokens]), attention_mask=torch.ones(1, len(tokens)), **options
    )
    for _ in range(2):
        assert torch.equal(states.generate(torch.tensor([tokens]), **options), expected)
    assert torch.equal(states.generate(tokens, keep=True, **options), expected)
    assert states.past([*tokens, 1])[1].reused == 105


def test_bytes_in_memory_stay_in_their_bound_and_the_least_recently_used_go_first() -> None:
    model = llama()
    each = 100 * 2 * 2 * 2 * 8 * 4  # tokens, layers, keys and values, heads, size, float32
    states = KVPrefixCache(model, max_bytes=3 * each)
    fronts = [ids(seed, 100) for seed in range(10, 14)]
    for front in fronts[:3]:
        states.prefill(front)
    assert states.bytes_held == 3 * each
    states.past(fronts[0])
    states.prefill(fronts[3])
    assert states.bytes_held == 3 * each
    assert [states.past(front)[1].reused > 50 for front in fronts] == [True, False, True, True]
    states.clear()
    assert states.bytes_held == 0
    assert states.past(fronts[0])[1].reused == 0


def test_a_prompt_larger_than_the_bound_is_answered_and_not_held() -> None:
    model = llama()
    states = KVPrefixCache(model, max_bytes=1000)
    states.prefill(FRONT)
    assert states.bytes_held == 0
    torch.testing.assert_close(states.logits(FRONT), full(model, FRONT), **CLOSE)


def test_another_process_finds_the_states_in_the_folder(tmp_path: Path) -> None:
    KVPrefixCache(llama(), folder=tmp_path).prefill(FRONT)
    states = KVPrefixCache(llama(), folder=tmp_path)
    assert states.bytes_held == 0
    tokens = FRONT + ids(4, 6)
    torch.testing.assert_close(states.logits(tokens), full(llama(), tokens), **CLOSE)
    assert states.past(tokens)[1].reused == 100
    assert states.bytes_held > 0


@pytest.mark.parametrize(
    "other", [lambda: llama(seed=1), lambda: llama().double(), lambda: llama(rope_theta=5e5)]
)
def test_states_of_other_weights_or_precision_are_not_taken(tmp_path: Path, other: Any) -> None:
    KVPrefixCache(llama(), folder=tmp_path).prefill(FRONT)
    assert KVPrefixCache(other(), folder=tmp_path).past(FRONT)[1].reused == 0


def test_files_that_cannot_be_read_are_as_none(tmp_path: Path) -> None:
    first = KVPrefixCache(llama(), max_bytes=1, folder=tmp_path)
    first.prefill(FRONT)
    (path,) = tmp_path.iterdir()
    found = KVPrefixCache(llama(), folder=tmp_path)
    path.write_bytes(b"broken")
    assert found.past(FRONT)[1].reused == 0
    assert first.past(FRONT)[1].reused == 0
    assert KVPrefixCache(llama(), folder=tmp_path).past(FRONT)[1].reused == 0


def test_what_was_dropped_from_memory_is_read_from_the_folder(tmp_path: Path) -> None:
    model = llama()
    states = KVPrefixCache(model, max_bytes=60_000, folder=tmp_path)
    other = ids(5, 100)
    states.prefill(FRONT)
    states.prefill(other)
    for front in (FRONT, other, FRONT):
        assert states.past(front)[1].reused == 99
        torch.testing.assert_close(states.logits(front), full(model, front), **CLOSE)
        assert states.bytes_held <= 60_000


def test_threads_share_the_states() -> None:
    model = llama()
    states = KVPrefixCache(model)
    states.prefill(FRONT)
    prompts = [FRONT + ids(seed, 5) for seed in range(20, 28)]
    expected, found = [full(model, tokens) for tokens in prompts], dict[int, Any]()

    def ask(n: int) -> None:
        for _ in range(5):
            found[n] = states.logits(prompts[n], keep=n % 2 == 0)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(len(prompts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n, logits in enumerate(expected):
        torch.testing.assert_close(found[n], logits, **CLOSE)


def test_a_model_whose_layers_forget_is_refused() -> None:
    config = transformers.MistralConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=16,
    )
    states = KVPrefixCache(transformers.MistralForCausalLM(config).eval())
    with pytest.raises(ValueError, match="cannot be cut to a common front"):
        states.prefill(FRONT)


@pytest.mark.parametrize("wrong", [[], [[1, 2], [3, 4]]], ids=str)
def test_ids_that_are_no_single_sequence_are_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="one sequence"):
        KVPrefixCache(llama()).prefill(wrong)
    with pytest.raises(ValueError, match="max_bytes"):
        KVPrefixCache(llama(), max_bytes=0)


def test_the_example_reads_its_handbook_once() -> None:
    import importlib.util

    path = Path(__file__).parents[2] / "examples" / "kv_prefix.py"
    spec = importlib.util.spec_from_file_location("example_kv_prefix", path)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    (_, _, first), *others = example.session(example.tiny_model())
    assert first.reused == 0
    assert len(others) == 3
    assert all(reuse.reused >= first.tokens for _, _, reuse in others)
