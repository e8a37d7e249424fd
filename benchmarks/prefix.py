"""The prefix tier: look-ups of fronts, reuse of chunks after an edit, reuse of attention states.

    python benchmarks/prefix.py [--rounds 1000] [--continuations 8] [--skip-model]

- look-ups: 10,000 prompts of 1 to 200 blocks are known; asked is one that is known whole, and one
  whose only message differs in its last block, which is the most work. Microseconds, p10 and p50
- chunks: one paragraph of a system prompt of about 10,000 tokens is edited
- states: a random Llama (hidden size 256, 4 layers) reads 2,000 tokens and 32 more, with the 2,000
  known and not: wall p10 and CPU time, and the largest difference of the logits
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from shared_core import Request, open_store
from shared_core.prefix import PrefixCache
from shared_core.prefix.chunks import ChunkCache, split
from shared_core.prefix.token_budget import estimate_tokens

PROMPTS, MAX_BLOCKS, BLOCK = 10_000, 200, 256
PREFIX_TOKENS, NEW_TOKENS = 2_000, 32


def timed(function: Callable[[Any], Any], arguments: Iterable[Any]) -> tuple[float, float]:
    """Return p10 and p50 of a call with each argument, in seconds."""
    times = []
    for argument in arguments:
        start = time.perf_counter()
        function(argument)
        times.append(time.perf_counter() - start)
    times.sort()
    return times[len(times) // 10], times[len(times) // 2]


def text_of(rng: random.Random, characters: int) -> str:
    letters = "etaoin shrdlu"
    return "".join(rng.choices(letters, k=characters))


def lookups(rounds: int) -> None:
    rng = random.Random(0)
    base = text_of(rng, MAX_BLOCKS * BLOCK)
    prefixes = PrefixCache(max_blocks=PROMPTS * (MAX_BLOCKS + 2), ttl=None)

    def prompt(seed: int, blocks: int) -> list[dict[str, str]]:
        start = f"{seed:<{BLOCK}}"  # every prompt is another from its first block on
        return [{"role": "system", "content": (start + base)[: blocks * BLOCK]}]

    for seed in range(PROMPTS):
        prefixes.note(prompt(seed, rng.randint(1, MAX_BLOCKS) if seed else MAX_BLOCKS))
    counts = prefixes.counts()
    print(f"{counts.entries} prompts, {counts.blocks} blocks")
    text = prompt(0, MAX_BLOCKS)[0]["content"]

    def system(end: str) -> list[dict[str, str]]:
        return [{"role": "system", "content": text[:-1] + end}]  # new: its hash is not known yet

    def request(end: str) -> Request:
        return Request.of("Where?", model="m", system=text[:-1] + end)

    for name, make, end, blocks in (
        ("known whole", system, text[-1], MAX_BLOCKS),
        ("last block differs", system, "#", MAX_BLOCKS - 1),
        ("a Request, of no known front", request, "#", 0),
    ):
        assert prefixes.match(make(end)).blocks == blocks
        p10, p50 = timed(prefixes.match, [make(end) for _ in range(rounds)])
        print(f"  {name:28} p10 {p10 * 1e6:7.1f} us   p50 {p50 * 1e6:7.1f} us")


def chunks() -> None:
    rng = random.Random(1)
    words = [text_of(rng, rng.randint(2, 9)).replace(" ", "e") for _ in range(2_000)]

    def paragraphs(count: int, sentences: int) -> str:
        return "\n\n".join(
            " ".join(
                f"{' '.join(rng.choices(words, k=12)).capitalize()}." for _ in range(sentences)
            )
            for _ in range(count)
        )

    print("one edited paragraph of a system prompt of about 10,000 tokens")
    for count, sentences in ((120, 5), (40, 15), (10, 60)):
        text = paragraphs(count, sentences)
        cache = ChunkCache(open_store("memory://"))
        cache.compute(text, "length", lambda found: [len(one) for one in found])
        at = text.index(". ", len(text) // 2)
        edited = text[:at] + " in other words" + text[at:]
        found = cache.compute(edited, "length", lambda found: [len(one) for one in found])
        print(
            f"  {estimate_tokens(text)} tokens, {count:3} paragraphs, {len(split(text))} chunks: "
            f"{found.share:.1%} of chunks and {found.share_of_text:.1%} of the text reused"
        )


def states(continuations: int) -> None:
    import torch

    from examples.kv_prefix import tiny_model
    from shared_core.prefix.kv_reuse import KVPrefixCache

    heads = {"num_attention_heads": 8, "num_key_value_heads": 4}
    model = tiny_model(vocab_size=1_000, hidden_size=256, intermediate_size=688, **heads)
    prefix = torch.randint(0, 1_000, (PREFIX_TOKENS,)).tolist()
    cache = KVPrefixCache(model)
    cache.prefill(prefix)
    rows: dict[str, list[tuple[float, float]]] = {"full run": [], "front known": []}
    worst = 0.0
    for _ in range(continuations):
        tokens = prefix + torch.randint(0, 1_000, (NEW_TOKENS,)).tolist()
        outputs = {}
        for name, run in (
            ("full run", lambda tokens=tokens: model(torch.tensor([tokens])).logits[0, -1]),  # type: ignore[misc]
            ("front known", lambda tokens=tokens: cache.logits(tokens)),  # type: ignore[misc]
        ):
            wall, cpu = time.perf_counter(), time.process_time()
            with torch.inference_mode():
                outputs[name] = run()
            rows[name].append((time.perf_counter() - wall, time.process_time() - cpu))
        worst = max(worst, float((outputs["full run"] - outputs["front known"]).abs().max()))
    print(f"{NEW_TOKENS} tokens behind {PREFIX_TOKENS}, {continuations} continuations")
    best = {}
    for name, found in rows.items():
        walls, cpus = sorted(w for w, _ in found), sorted(c for _, c in found)
        best[name] = walls[len(walls) // 10], cpus[len(cpus) // 10]
        wall, cpu = (1e3 * seconds for seconds in best[name])
        print(f"  {name:12} wall p10 {wall:7.1f} ms   CPU p10 {cpu:7.1f} ms")
    by_wall, by_cpu = (a / b for a, b in zip(best["full run"], best["front known"], strict=True))
    print(f"  {by_wall:.1f} times faster by wall, {by_cpu:.1f} by CPU")
    print(f"  largest difference of the logits {worst:.2g}")
    print(f"  {cache.bytes_held / PREFIX_TOKENS / 1e3:.1f} kB of states for a token")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1_000)
    parser.add_argument("--continuations", type=int, default=8)
    parser.add_argument("--skip-model", action="store_true")
    given = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.1f}")
    lookups(given.rounds)
    chunks()
    if not given.skip_model:
        states(given.continuations)
    print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
