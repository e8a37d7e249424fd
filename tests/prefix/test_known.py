"""How much of a prompt was sent before, and what a cache says of it."""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from shared_core import Answer, Explore, Miss, Request, ResponseCache
from shared_core.prefix import PrefixCache, PrefixMatch, SystemPromptCache
from tests.fakes import Clock, FakeEmbedder

LONG = "".join(f"Rule {n}: a returned book goes back to its own shelf. " for n in range(60))
BLOCK = 256  # characters of a block of 64 estimated tokens


def chat(*texts: str, system: str = LONG) -> list[dict[str, Any]]:
    roles = ("user", "assistant")
    turns = [{"role": roles[n % 2], "content": text} for n, text in enumerate(texts)]
    return [{"role": "system", "content": system}, *turns]


def test_an_unknown_prompt_has_no_known_front() -> None:
    assert PrefixCache().match(chat("Where is the desk?")) == PrefixMatch(0, 0, 0, 0.0)


def test_a_prompt_that_was_sent_is_known_whole() -> None:
    prefixes = PrefixCache()
    prefixes.note(chat("Where is the desk?"))
    found = prefixes.match(chat("Where is the desk?"))
    assert (found.messages, found.share) == (2, 1.0)
    assert found.blocks == -(-len(LONG) // BLOCK) + 1


def test_messages_before_the_first_that_differs_are_known() -> None:
    prefixes = PrefixCache()
    prefixes.note(chat("Where is the desk?", "On the left.", "And the lift?"))
    found = prefixes.match(chat("Where is the desk?", "On the right.", "And the lift?"))
    assert found.messages == 2
    assert 0.9 < found.share < 1


def test_of_the_message_that_differs_the_blocks_before_the_difference_are_known() -> None:
    prefixes = PrefixCache()
    prefixes.note(chat("Hello", system=LONG))
    changed = LONG[: 3 * BLOCK + 10] + "X" + LONG[3 * BLOCK + 11 :]
    found = prefixes.match(chat("Hello", system=changed))
    assert (found.messages, found.blocks) == (0, 3)
    assert found.tokens_estimate == 3 * 64


@pytest.mark.parametrize(
    "other",
    [
        [{"role": "user", "content": LONG}],
        [{"role": "user", "content": "Hello"}, *chat("Hello")],
    ],
    ids=["another role", "behind another message"],
)
def test_the_same_text_in_another_place_is_not_a_front(other: list[dict[str, Any]]) -> None:
    prefixes = PrefixCache()
    prefixes.note(chat("Hello"))
    assert prefixes.match(other).blocks == 0


def request_of(question: str, **kwargs: Any) -> Request:
    return Request.of(question, **{"model": "m", "system": LONG, **kwargs})


@pytest.mark.parametrize(
    "other",
    [{"model": "n"}, {"params": {"tools": [{"name": "t"}]}}, {"params": {"provider": "p"}}],
    ids=str,
)
def test_another_model_or_other_tools_share_no_front(other: dict[str, Any]) -> None:
    prefixes = PrefixCache()
    prefixes.note(request_of("Hello?"))
    assert prefixes.match(request_of("Bye?")).messages == 1
    assert prefixes.match(request_of("Bye?", **other)).blocks == 0


def test_namespaces_share_no_front() -> None:
    prefixes = PrefixCache()
    prefixes.note(chat("Hello"), "one tenant")
    assert prefixes.match(chat("Hello"), "another").blocks == 0


def test_namespaces_of_a_cache_share_no_front() -> None:
    with ResponseCache.open(semantic=False, prefix=PrefixCache()) as cache:
        cache.lookup(request_of("Hello?"))
        with cache.control(namespace="another"):
            outcome = cache.lookup(request_of("Hello?"))
    assert isinstance(outcome, Miss)
    assert outcome.prefix == PrefixMatch(0, 0, 0, 0.0)


def test_markers_of_providers_do_not_make_another_front() -> None:
    prefixes = PrefixCache()
    prefixes.note(chat("Hello"))
    part = {"type": "text", "text": LONG, "cache_control": {"type": "ephemeral"}}
    marked = [{"role": "system", "content": [part]}, {"role": "user", "content": "Hello"}]
    assert prefixes.match(marked).share == 1.0


def test_a_front_is_forgotten_when_it_was_not_used_for_the_ttl_and_kept_while_it_is() -> None:
    clock = Clock()
    prefixes = PrefixCache(ttl=300, clock=clock)
    prefixes.note(chat("Hello"))
    clock.now += 200
    assert prefixes.match(chat("Bye")).messages == 1
    clock.now += 200
    assert prefixes.match(chat("Bye")).messages == 1
    clock.now += 301
    assert prefixes.match(chat("Bye")).blocks == 0


def test_blocks_of_a_longer_lived_message_outlive_those_of_an_expired_one() -> None:
    clock = Clock()
    prefixes = PrefixCache(ttl=300, clock=clock)
    half = LONG[: 4 * BLOCK]
    prefixes.note(chat(system=LONG))
    clock.now += 200
    prefixes.note(chat(system=half + "Another ending."))
    clock.now += 200
    assert prefixes.match(chat(system=LONG[:-1])).blocks == 4


def test_the_least_recently_used_front_goes_first_and_a_prompts_end_before_its_front() -> None:
    prefixes = PrefixCache(max_blocks=3)
    prefixes.note([{"role": "user", "content": text} for text in ("one", "two", "three")])
    prefixes.note([{"role": "user", "content": "other"}])
    found = prefixes.match([{"role": "user", "content": text} for text in ("one", "two", "three")])
    assert found.messages == 2
    assert prefixes.match([{"role": "user", "content": "other"}]).messages == 1


def test_the_bound_on_blocks_holds_whatever_is_sent() -> None:
    prefixes = PrefixCache(max_blocks=100)
    for n in range(200):
        prefixes.note(chat("Hello", system=f"{n % 7} {LONG[: 40 * (n % 50)]}"))
    counts = prefixes.counts()
    assert counts.entries + counts.blocks <= 100
    prefixes.clear()
    assert prefixes.counts().entries == prefixes.counts().blocks == 0


def test_a_known_front_equals_that_of_a_scan_over_all_prompts() -> None:
    """The reference: every noted prompt, cut into blocks, compared one by one."""

    def pieces(messages: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = []
        for n, message in enumerate(messages):
            text = message["content"]
            full = len(text) // 4
            found += [(n, message["role"], text[4 * k : 4 * k + 4]) for k in range(full)]
            found.append((n, message["role"], "end", text[4 * full :]))
        return found

    import random

    rng = random.Random(8)
    prefixes, noted = PrefixCache(block_tokens=1, ttl=None), list[list[dict[str, Any]]]()
    for _ in range(300):
        texts = ["".join(rng.choices("ab", k=rng.randint(1, 9))) for _ in range(rng.randint(1, 4))]
        prompt = chat(*texts[1:], system=texts[0])
        asked = pieces(prompt)
        longest: list[tuple[Any, ...]] = []
        for other in map(pieces, noted):
            same = next(
                (n for n, (a, b) in enumerate(zip(asked, other, strict=False)) if a != b), None
            )
            front = asked[: min(len(asked), len(other)) if same is None else same]
            longest = max(longest, front, key=len)
        found = prefixes.note(prompt)
        assert found.messages == sum(piece[2] == "end" for piece in longest)
        whole = found.messages
        assert found.blocks == sum(piece[2] != "end" or piece[3] != "" for piece in longest)
        assert whole <= len(prompt)
        noted.append(prompt)


def test_counts_tell_hits_and_tokens() -> None:
    prefixes = PrefixCache()
    prefixes.note(chat("Hello"))
    found = prefixes.note(chat("Bye"))
    counts = prefixes.counts()
    assert (counts.lookups, counts.hits, counts.tokens) == (2, 1, found.tokens_estimate)
    assert counts.tokens < counts.tokens_asked


def test_threads_note_and_match_at_once() -> None:
    prefixes, errors = PrefixCache(max_blocks=50), list[BaseException]()

    def work(seed: int) -> None:
        try:
            for n in range(200):
                prefixes.note(chat(f"{seed} {n}", system=LONG[: 100 * (n % 9)]))
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert prefixes.counts().lookups == 800


@pytest.mark.parametrize(
    ("name", "value"), [("max_blocks", 0), ("block_tokens", True), ("ttl", 0)], ids=str
)
def test_limits_that_make_no_sense_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        PrefixCache(**{name: value})


def test_pickled_it_keeps_its_limits_and_no_prompt() -> None:
    prefixes = PrefixCache(max_blocks=3)
    prefixes.note(chat("Hello"))
    copy = pickle.loads(pickle.dumps(prefixes))  # noqa: S301 - our own
    assert copy.counts().entries == 0


# ------------------------------------------------------------------------------ in a cache


def test_a_miss_says_how_much_of_its_prompt_was_sent_before_and_stats_add_it_up() -> None:
    with ResponseCache.open(semantic=False, prefix=PrefixCache()) as cache:
        first = cache.lookup(request_of("Where is the desk?"))
        second = cache.lookup(request_of("Where is the lift?"))
        stats = cache.stats()
    assert isinstance(first, Miss)
    assert isinstance(second, Miss)
    assert first.prefix == PrefixMatch(0, 0, 0, 0.0)
    assert second.prefix is not None
    assert second.prefix.messages == 1
    assert second.prefix.share > 0.9
    assert (stats.prefix_hits, stats.prefix_tokens) == (1, second.prefix.tokens_estimate)


def test_an_explore_says_it_too() -> None:
    options: dict[str, Any] = {"embedder": FakeEmbedder(), "prefix": PrefixCache()}
    with ResponseCache.open(**options) as cache:
        cache.lookup(request_of("How do I renew a borrowed book?"))
        cache.store(request_of("How do I renew a borrowed book?"), Answer("At the desk."))
        outcome = cache.lookup(request_of("How do I renew a borrowed book please?"))
    assert isinstance(outcome, Explore)
    assert outcome.prefix is not None
    assert outcome.prefix.messages == 1


def test_a_hit_sends_no_prompt_and_notes_none() -> None:
    prefixes = PrefixCache()
    with ResponseCache.open(semantic=False, prefix=prefixes) as cache:
        cache.store(request_of("Hello?"), Answer("Hi."))
        cache.lookup(request_of("Hello?"))
    assert prefixes.counts().lookups == 0


def test_without_a_prefix_cache_nothing_is_said() -> None:
    with ResponseCache.open(semantic=False) as cache:
        outcome = cache.lookup(request_of("Hello?"))
    assert isinstance(outcome, Miss)
    assert outcome.prefix is None


def test_a_prefix_cache_that_fails_costs_no_answer_and_is_counted() -> None:
    class Broken(PrefixCache):
        def note(self, *_: Any) -> PrefixMatch:
            raise RuntimeError("broken")

    with ResponseCache.open(semantic=False, prefix=Broken()) as cache:
        outcome = cache.lookup(request_of("Hello?"))
        assert outcome == Miss("absent")
        assert cache.stats().errors == {"prefix": 1}


@pytest.mark.parametrize("wrong", [True, PrefixCache, "memory"], ids=str)
def test_what_is_no_prefix_cache_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"prefix must be a PrefixCache\(\)"):
        ResponseCache.open(prefix=wrong)


# ------------------------------------------------------------------- values of system prompts


def test_a_value_is_made_once_for_each_system_prompt() -> None:
    kept, made = SystemPromptCache(), list[str]()

    def make(name: str) -> Callable[[], str]:
        return lambda: (made.append(name), f"cachedContents/{name}")[1]

    assert kept.get_or_create(LONG, make("a")) == kept.get_or_create(LONG, make("b"))
    assert kept.get_or_create("Another", make("c")) == "cachedContents/c"
    assert made == ["a", "c"]


def test_who_asks_at_the_same_time_waits_for_one_call() -> None:
    kept, made, gate = SystemPromptCache(), list[int](), threading.Event()

    def create() -> str:
        made.append(1)
        gate.wait(5)
        return "handle"

    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(kept.get_or_create(LONG, create)))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    while not made:
        time.sleep(0.001)
    gate.set()
    for thread in threads:
        thread.join()
    assert found == ["handle"] * 6
    assert len(made) == 1


async def test_the_async_form_awaits_and_coalesces() -> None:
    kept, made = SystemPromptCache(), list[int]()

    async def create() -> str:
        made.append(1)
        await asyncio.sleep(0.01)
        return "handle"

    assert (
        await asyncio.gather(*(kept.aget_or_create(LONG, create) for _ in range(50)))
        == ["handle"] * 50
    )
    assert len(made) == 1


def test_a_value_is_made_again_after_its_ttl_or_when_it_is_forgotten() -> None:
    clock, made = Clock(), iter(range(9))
    kept = SystemPromptCache(ttl=10, clock=clock)
    assert kept.get_or_create(LONG, made.__next__) == 0
    clock.now += 9
    assert kept.get_or_create(LONG, made.__next__) == 0
    clock.now += 1
    assert kept.get_or_create(LONG, made.__next__) == 1
    kept.forget(LONG)
    assert kept.get_or_create(LONG, made.__next__) == 2


def test_what_fails_is_not_kept_and_the_oldest_value_goes_first() -> None:
    kept = SystemPromptCache(max_entries=2)
    with pytest.raises(ZeroDivisionError):
        kept.get_or_create("a", lambda: 1 // 0)
    for n, prompt in enumerate("abac"):
        kept.get_or_create(prompt, lambda n=n: n)
    assert kept.get_or_create("a", lambda: "new") == 0
    assert kept.get_or_create("b", lambda: "new") == "new"


def test_the_function_that_makes_a_value_is_given_the_prompt() -> None:
    kept = SystemPromptCache()
    asked: list[str] = []

    def create(prompt: str) -> int:
        asked.append(prompt)
        return len(prompt)

    async def acreate(prompt: str) -> int:
        return create(prompt)

    assert [kept.get_or_create("four", create) for _ in range(2)] == [4, 4]
    assert [asyncio.run(kept.aget_or_create("fiver", acreate)) for _ in range(2)] == [5, 5]
    assert kept.get_or_create("any", lambda *args: args) == ("any",)
    assert kept.get_or_create("none", lambda: "no argument") == "no argument"
    assert kept.get_or_create("by name", create_fn=create) == 7
    assert asked == ["four", "fiver", "by name"]
