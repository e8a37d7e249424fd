"""What every cache is asked: LangChain prompts of some 190 tokens, each in its own and other words.

Needs langchain-core alone, as the environments of other caches have nothing of ours.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, ChatResult

SYSTEM = (
    "You are a helpful assistant of a public library. Answer in plain words, briefly and politely. "
    "If you do not know, say so and name the desk that does, and when it opens."
)
VERBS, THINGS, PLACES = (
    words.split()
    for words in (
        "renew borrow return extend reserve cancel find order move print sell bind clean copy "
        "count draw hide keep lend list lose mark mend name open pack paint read rent scan "
        "send show store swap take test touch trade weigh wrap",
        "book film map letter drawing journal recording poster dictionary atlas guide novel poem "
        "essay score photograph newspaper postcard leaflet manuscript painting puzzle game record "
        "chair table lamp key card bag box bottle bicycle camera clock coat coin computer cup "
        "curtain desk door engine flag flower glass guitar hammer hat knife ladder lens machine "
        "mirror needle notebook oven pen pencil piano picture pipe plant plate radio ring rope "
        "rug scarf screen shelf ship shirt shoe sign spoon stamp statue stone telescope tent tool",
        "library archive school museum gallery theatre station harbour market garden village "
        "castle office workshop hospital kitchen cellar tower chapel stadium airport bakery bank "
        "bar beach bridge camp church cinema club college court dairy dock factory farm field "
        "forest fort gate hall hotel house inn island lab lake mall mill mine monastery palace "
        "park pharmacy pool port prison pub restaurant river road shop square stable studio "
        "temple tunnel university valley yard zoo",
    )
)
REWORDED = ("How can I", "How could I", "How may I", "How should I")
ANSWER = (
    "You do that at the desk on the ground floor, with your card, until six in the evening. Ask "
    "the librarian there for the blue form, fill in both sides, and wait for the stamp; it takes "
    "some minutes. Whoever cannot come may send a friend with a letter, or write to us instead. "
    "Late fees are twenty cents a day, and nobody pays more than five euros. Children pay nothing."
)
_NUMBER = re.compile(r"^Answer (\d+):")


class Model(BaseChatModel):
    """A chat model that LangChain can serialise, as the providers' are."""

    model_name: str = "gpt-4o-mini"
    temperature: float = 0.0

    @classmethod
    def is_lc_serializable(cls) -> bool:
        return True

    @property
    def _llm_type(self) -> str:
        return "bench"

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        raise AssertionError("only its llm_string is wanted")


@dataclass(frozen=True, slots=True)
class Ask:
    """A question, and the prompt that LangChain makes of it."""

    question: str
    prompt: str


@cache
def _matters() -> list[str]:
    plain = [
        f"{verb} a {thing} at the {place}" for verb, thing, place in product(VERBS, THINGS, PLACES)
    ]
    random.Random(5).shuffle(plain)
    return plain


def matters() -> int:
    """Return how many different questions there are; half are stored, half are new."""
    return len(_matters()) // 2


def ask(kind: str, number: int, entries: int) -> Ask:
    """Return question ``number``: "stored", "reworded" (of one that is stored), or "other".

    ``number`` runs on: that of a reworded one names the entry, then the wording.
    """
    match kind:
        case "stored":
            text = f"How do I {_matters()[number % entries]}?"
        case "reworded":
            wording = REWORDED[number // entries % len(REWORDED)]
            text = f"{wording} {_matters()[number % entries]}?"
        case "other":
            text = f"How do I {_matters()[-1 - number % matters()]}?"
        case _:
            raise ValueError(f"no questions of kind {kind!r}")
    return Ask(text, dumps([SystemMessage(SYSTEM), HumanMessage(text)]))


def prompted(question: str, system: str = "", before: Sequence[dict[str, str]] = ()) -> Ask:
    """Return a question of one's own behind a system prompt ("" for none) and earlier messages."""
    kinds = {"system": SystemMessage, "user": HumanMessage, "assistant": AIMessage}
    said = [{"role": "system", "content": system}] if system else []
    messages = [kinds[one["role"]](one["content"]) for one in (*said, *before)]
    return Ask(question, dumps([*messages, HumanMessage(question)]))


def answer(number: int) -> str:
    """Return what is stored for question ``number``."""
    return f"Answer {number}: {ANSWER}"


def number_of(text: str) -> int:
    """Return which question a stored answer is for."""
    found = _NUMBER.match(text)
    assert found is not None, text
    return int(found[1])


def drain(cache: Any) -> None:
    """Wait until a ``ResponseCache``'s judge has read what was stored: models leave it time."""
    if (semantic := cache._path.semantic) is not None:
        semantic._labeler.drain()


def generation(text: str) -> ChatGeneration:
    """Return an answer as LangChain's models give it."""
    told = {"model_name": "gpt-4o-mini", "finish_reason": "stop", "id": "chatcmpl-1"}
    usage = {"input_tokens": 70, "output_tokens": 90, "total_tokens": 160}
    message = AIMessage(text, id="run-1", response_metadata=told, usage_metadata=usage)
    return ChatGeneration(message=message, generation_info={"finish_reason": "stop"})
