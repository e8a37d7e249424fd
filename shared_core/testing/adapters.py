"""Check what every way into a cache promises: which two calls of a model share an answer.

One table of mutations says it: two calls that must never share an answer, two that must, and calls
whose answer is only for the very same call. The suite asks through your adapter, blocking, awaited
and streamed, and counts how often the model behind it is called.

    class TestMyAdapter(AdapterConformance):
        @pytest.fixture
        def adapter(self):
            return MyDriver()
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
import pytest

from shared_core.cache import ResponseCache

Way = Literal["call", "acall", "stream", "astream"]
WAYS: tuple[Way, ...] = ("call", "acall", "stream", "astream")

Sharing = Literal["exact", "semantic", "never"]
"""How a second call is answered: by the first one's answer in a tier, or by the model."""


@dataclass(frozen=True, slots=True)
class ModelCall:
    """What an app asks of a model, spelt as OpenAI's chat completions are.

    ``prompt`` is given for a completion model, and then there are no ``messages``. ``arguments``
    are all but model and messages. ``namespace`` is whose call it is, None for the cache's own.
    """

    messages: tuple[Mapping[str, Any], ...] = ()
    prompt: str | None = None
    model: str = "gpt-4o-mini"
    arguments: Mapping[str, Any] = field(default_factory=lambda: {"temperature": 0})
    namespace: str | None = None


class CountedModel:
    """The answers of the model behind an adapter; each is another text, so mix-ups are seen."""

    def __init__(self) -> None:
        self.calls = 0

    def answer(self) -> str:
        """Return a new answer; your model, or the server that stands for it, calls this."""
        self.calls += 1
        return f"Answer number {self.calls}."


class AdapterDriver(Protocol):
    """How the suite asks through an adapter. ``ways`` names the ways in that the adapter has."""

    ways: Sequence[Way]

    def ask(self, cache: ResponseCache, model: CountedModel, call: ModelCall, way: Way) -> str:
        """Ask a model through a cache in one of the ways, and return the text of the answer.

        The model answers ``model.answer()`` whenever the cache lets a call through. An awaited way
        is run to its end here, as by ``asyncio.run``; of a stream, all texts are returned as one.
        """


@dataclass(frozen=True, slots=True)
class Mutation:
    """Two calls, and how the answer of the first is shared with the second."""

    name: str
    first: ModelCall
    second: ModelCall
    sharing: Sharing


# ------------------------------------------------------------------------------ the calls

SYSTEM = {"role": "system", "content": "You are an electrician."}
ASKED = "How do I change a fuse?"
ALIKE = "What is the way to change a fuse?"
TOOL: Mapping[str, Any] = {
    "type": "function",
    "function": {
        "name": "find_part",
        "description": "Find a part.",
        "parameters": {"type": "object", "properties": {"name": {"type": "string"}}},
    },
}
SCHEMA: Mapping[str, Any] = {
    "type": "json_schema",
    "json_schema": {
        "name": "Fuse",
        "schema": {"type": "object", "properties": {"amperes": {"type": "integer"}}},
    },
}
PICTURE = {
    "type": "image_url",
    "image_url": {"url": "https://example.org/fuse.png", "detail": "auto"},
}
OTHER_PICTURE = {
    "type": "image_url",
    "image_url": {"url": "https://example.org/cable.png", "detail": "auto"},
}


def user(content: Any = ASKED, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **more}


def assistant(content: str | None, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def text(content: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": content, **more}


def chat(*messages: Mapping[str, Any], **arguments: Any) -> ModelCall:
    """Return a call whose arguments are given, with temperature 0 unless it is among them."""
    return ModelCall(messages, arguments={"temperature": 0, **arguments})


def completion(prompt: str, **arguments: Any) -> ModelCall:
    return ModelCall(
        prompt=prompt, model="gpt-3.5-turbo-instruct", arguments={"temperature": 0, **arguments}
    )


def tool_turn(
    *, ids: Sequence[str] = ("call_a", "call_b"), results: Sequence[int] = (0, 1), found: str = "2"
) -> tuple[dict[str, Any], ...]:
    """Return the turns of two tool calls; ``results`` says which call each result answers."""
    calls = [
        {
            "id": ids[i],
            "type": "function",
            "function": {"name": "find_part", "arguments": f'{{"name": "{name}"}}'},
        }
        for i, name in enumerate(("fuse", "cable"))
    ]
    return (
        user("What parts are there?"),
        assistant(None, tool_calls=calls),
        {"role": "tool", "tool_call_id": ids[results[0]], "content": f"{found} pieces"},
        {"role": "tool", "tool_call_id": ids[results[1]], "content": "7 pieces"},
    )


BASE = chat(SYSTEM, user("Hello"), assistant("Hello, how can I help?"), user())
PLAIN = chat(user())

# ---------------------------------------------------------------- what must never be shared

_OTHER_MESSAGES: Mapping[str, tuple[ModelCall, ModelCall]] = {
    "another system prompt": (BASE, chat({**SYSTEM, "content": "Be brief."}, *BASE.messages[1:])),
    "no system prompt": (BASE, chat(*BASE.messages[1:])),
    "no history": (BASE, chat(SYSTEM, user())),
    "another earlier question": (
        BASE,
        chat(SYSTEM, user("Goodbye"), *BASE.messages[2:]),
    ),
    "another earlier answer": (
        BASE,
        chat(SYSTEM, user("Hello"), assistant("Go away."), user()),
    ),
    "a longer history": (
        BASE,
        chat(*BASE.messages[:3], user("Wait"), assistant("Yes?"), user()),
    ),
    "the system prompt said by the user": (
        chat(SYSTEM, user()),
        chat(user(SYSTEM["content"]), user()),
    ),
    "another tool result": (
        chat(*tool_turn(), user(), tools=[TOOL]),
        chat(*tool_turn(found="3"), user(), tools=[TOOL]),
    ),
    "tool results that answer each other's calls": (
        chat(*tool_turn(), user(), tools=[TOOL]),
        chat(*tool_turn(results=(1, 0)), user(), tools=[TOOL]),
    ),
    "another picture in an earlier turn": (
        chat(user([text("What is this?"), PICTURE]), assistant("A fuse."), user()),
        chat(user([text("What is this?"), OTHER_PICTURE]), assistant("A fuse."), user()),
    ),
}

_OTHER_ARGUMENTS: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "top_p": ({"top_p": 0.5}, {"top_p": 0.6}),
    "temperature": ({}, {"temperature": 0.7}),
    "max_tokens": ({"max_tokens": 100}, {"max_tokens": 200}),
    "max_tokens or none": ({}, {"max_tokens": 100}),
    "stop": ({"stop": ["\n"]}, {"stop": ["."]}),
    "seed": ({"seed": 1}, {"seed": 2}),
    "seed 0 or none": ({}, {"seed": 0}),
    "a penalty of 0 or none": ({}, {"presence_penalty": 0}),
    "no biases or none": ({}, {"logit_bias": {}}),
    "user": ({"user": "alice"}, {"user": "bob"}),
    "an empty user or none": ({}, {"user": ""}),
    "presence_penalty": ({}, {"presence_penalty": 0.5}),
    "logit_bias": ({"logit_bias": {"7": 1}}, {"logit_bias": {"7": 2}}),
    "tools or none": ({}, {"tools": [TOOL]}),
    "another description of a tool": (
        {"tools": [TOOL]},
        {"tools": [{**TOOL, "function": {**TOOL["function"], "description": "Lose a part."}}]},
    ),
    "tool_choice": (
        {"tools": [TOOL], "tool_choice": "auto"},
        {"tools": [TOOL], "tool_choice": "none"},
    ),
    "a schema or none": ({}, {"response_format": SCHEMA}),
    "another schema of the same name": (
        {"response_format": SCHEMA},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {
                    "name": "Fuse",
                    "schema": {"type": "object", "properties": {"volts": {"type": "integer"}}},
                },
            }
        },
    ),
}

NEVER = (
    *(Mutation(name, one, other, "never") for name, (one, other) in _OTHER_MESSAGES.items()),
    *(
        Mutation(name, chat(user(), **one), chat(user(), **other), "never")
        for name, (one, other) in _OTHER_ARGUMENTS.items()
    ),
    Mutation("another model", PLAIN, replace(PLAIN, model="gpt-4o"), "never"),
    Mutation(
        "another namespace",
        replace(PLAIN, namespace="one"),
        replace(PLAIN, namespace="two"),
        "never",
    ),
)

# ----------------------------------------------------------------------- what must be shared

SHARED = (
    Mutation("the same call", BASE, BASE, "exact"),
    Mutation("the same call with tools", *(chat(user(), tools=[TOOL]),) * 2, "exact"),
    Mutation(
        "other ids of tool calls",
        chat(*tool_turn(), user(), tools=[TOOL]),
        chat(*tool_turn(ids=("call_x", "call_y")), user(), tools=[TOOL]),
        "exact",
    ),
    Mutation("a text as its only part", PLAIN, chat(user([text(ASKED)])), "exact"),
    Mutation("None as absent", PLAIN, chat(user(), seed=None, user=None), "exact"),
    Mutation("a whole number as a float", PLAIN, chat(user(), temperature=0.0), "exact"),
    Mutation("the question in other words", PLAIN, chat(user(ALIKE)), "semantic"),
    Mutation(
        "other words after a history", BASE, chat(*BASE.messages[:-1], user(ALIKE)), "semantic"
    ),
    Mutation(
        "other words beside tools",
        chat(user(), tools=[TOOL]),
        chat(user(ALIKE), tools=[TOOL]),
        "semantic",
    ),
    Mutation(
        "other words after a tool's result",
        chat(*tool_turn(), assistant("Two."), user(), tools=[TOOL]),
        chat(*tool_turn(), assistant("Two."), user(ALIKE), tools=[TOOL]),
        "semantic",
    ),
    Mutation(
        "a question of two lines",
        chat(user("I am at home.\nHow do I change a fuse?")),
        chat(user("I am at home.\nWhat is the way to change a fuse?")),
        "semantic",
    ),
    Mutation(
        "a question with a colon",
        chat(user("One question: how do I change a fuse?")),
        chat(user("A question: how do I change a fuse?")),
        "semantic",
    ),
)

# ------------------------------------------------------- what is shared with the very same call

_TWO_TEXTS: Mapping[str, tuple[Any, Any]] = {
    "a template with a blank line": (
        "Answer from this.\n\nFuses melt.\n\nWhat do fuses do?",
        "Answer from this.\n\nFuses glow.\n\nWhat do fuses do?",
    ),
    "a blank line that holds spaces": ("Fuses melt.\n  \nWhy?", "Fuses glow.\n \t\nWhy?"),
    "a context in tags": (
        "<context>Fuses melt.</context> What do fuses do?",
        "<context>Fuses glow.</context> What do fuses do?",
    ),
    "sources in tags with attributes": (
        '<document id="1">Fuses melt.</document> What do fuses do?',
        '<document id="2">Fuses glow.</document> What do fuses do?',
    ),
    "a context and a question by their labels": (
        "Context: fuses melt. Question: what do fuses do?",
        "Context: fuses glow. Question: what do fuses do?",
    ),
    "what a tool said": ("Observation: 31 degrees", "Observation: 13 degrees"),
    "what a tool said, after a blank": ("\n Observation: 31 degrees", "\n Observation: 13 degrees"),
    "what a tool said, below a thought": (
        "Thought: I look outside.\nObservation: 31 degrees",
        "Thought: I look outside.\nObservation: 13 degrees",
    ),
    "the prompt of a judge": (
        "Is this supported, YES or NO? Fuses melt.",
        "Is this supported, YES or NO? Fuses glow.",
    ),
    "the prompt of a judge, the choice last": (
        "Do these two say the same: fuses melt, fuses glow? Reply with 'yes' or 'no'.",
        "Do these two say the same: fuses melt, fuses sing? Reply with 'yes' or 'no'.",
    ),
    "a claim to be judged": (
        "True or false: fuses melt.",
        "True or false: fuses glow.",
    ),
    "several texts": (
        [text("Fuses melt."), text("What do fuses do?")],
        [text("Fuses glow."), text("What do fuses do?")],
    ),
    "a picture beside the text": (
        [text(ASKED), PICTURE],
        [text(ALIKE), PICTURE],
    ),
    "nothing but blanks": (" ", "  "),
}

_TWO_PROMPTS: Mapping[str, tuple[str, str]] = {
    "a template of two lines": (
        "Translate into French:\nThe fuse melts.",
        "Translate into French:\nThe fuse glows.",
    ),
    "a conversation written out": (
        "System: be brief\nHuman: what do fuses do?",
        "System: be brief\nHuman: what do fuses cost?",
    ),
    "a prompt that is JSON": ('{"question": "Do fuses melt?"}', '{"question": "Do fuses glow?"}'),
    "what a tool said": ("Observation: 31 degrees", "Observation: 13 degrees"),
    "the prompt of a judge": (
        "Is this supported, YES or NO? Fuses melt.",
        "Is this supported, YES or NO? Fuses glow.",
    ),
}

EXACT_ONLY = (
    *(
        Mutation(name, chat(user(one)), chat(user(other)), "never")
        for name, (one, other) in _TWO_TEXTS.items()
    ),
    Mutation(
        "an answer that is sampled",
        chat(user(), temperature=0.7),
        chat(user(ALIKE), temperature=0.7),
        "never",
    ),
    Mutation(
        "a tool's result that comes last",
        chat(*tool_turn(), tools=[TOOL]),
        chat(*tool_turn(found="3"), tools=[TOOL]),
        "never",
    ),
    Mutation(
        "an assistant's turn that comes last",
        chat(user(), assistant("First,")),
        chat(user(), assistant("At first,")),
        "never",
    ),
)

COMPLETIONS = (
    Mutation("the same prompt", *(completion(ASKED),) * 2, "exact"),
    Mutation("the question in other words", completion(ASKED), completion(ALIKE), "semantic"),
    Mutation(
        "another stop", completion(ASKED, stop=["\n"]), completion(ASKED, stop=["."]), "never"
    ),
    *(
        Mutation(name, completion(one), completion(other), "never")
        for name, (one, other) in _TWO_PROMPTS.items()
    ),
)


# ------------------------------------------------------------------------------- the suite


def all_alike(texts: Sequence[str]) -> Any:
    """Embed every text as every other: whatever may be matched by meaning at all, is."""
    return np.full((len(texts), 4), 0.5, dtype=np.float32)


def named(table: Sequence[Mutation]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("mutation", table, ids=[one.name for one in table])


class _Asking:
    """Asks through an adapter and says by what each call was answered."""

    def __init__(self, adapter: AdapterDriver, cache: ResponseCache, heard: list[Any]) -> None:
        self._adapter, self._cache, self._heard = adapter, cache, heard
        self._model = CountedModel()

    def ask(self, call: ModelCall, way: Way) -> tuple[Sharing, str]:
        before = self._model.calls
        self._heard.clear()
        answered = self._adapter.ask(self._cache, self._model, call, way)
        if self._model.calls > before:
            assert self._model.calls == before + 1, "one call reached the model twice"
            return "never", answered
        hits = [event for event in self._heard if event.outcome == "hit"]
        assert hits, "the model was not called, and nothing was found"
        return ("semantic" if str(hits[-1].tier) == "semantic" else "exact"), answered


def _check(adapter: AdapterDriver, mutation: Mutation) -> None:
    """Ask the calls of a mutation in each way, on a cache of its own."""
    for way in adapter.ways:
        heard: list[Any] = []
        options: dict[str, Any] = {
            "embedder": all_alike,
            "threshold": 0.5,
            "guard": False,
            "timeout": 5.0,
            "hooks": (heard.append,),
        }
        with closing(ResponseCache.open("memory://", **options)) as cache:
            asking = _Asking(adapter, cache, heard)
            found, first = asking.ask(mutation.first, way)
            assert found == "never", f"{way}: an empty cache answered"
            found, second = asking.ask(mutation.second, way)
            assert found == mutation.sharing, f"{way}: {found}, not {mutation.sharing}"
            assert (second == first) is (found != "never"), f"{way}: another call's answer"
            if found == "never":
                for call, answer in ((mutation.first, first), (mutation.second, second)):
                    assert asking.ask(call, way) == ("exact", answer), f"{way}: not kept"


class AdapterConformance:
    """What every way into a cache does. Give a fixture ``adapter`` that returns an AdapterDriver.

    The embedder of these caches takes every text for every other, and no guard looks at them: so
    whatever can be confused is.

        class TestMine(AdapterConformance):
            @pytest.fixture
            def adapter(self):
                return MyDriver()  # an AdapterDriver
    """

    @pytest.fixture
    def adapter(self) -> AdapterDriver:
        raise NotImplementedError("give a fixture `adapter` that returns your driver")

    @named(NEVER)
    def test_calls_that_differ_never_share_an_answer(
        self, adapter: AdapterDriver, mutation: Mutation
    ) -> None:
        _check(adapter, mutation)

    @named(SHARED)
    def test_calls_that_ask_the_same_share_an_answer(
        self, adapter: AdapterDriver, mutation: Mutation
    ) -> None:
        _check(adapter, mutation)

    @named(EXACT_ONLY)
    def test_what_is_no_question_alone_is_answered_to_the_very_same_call_only(
        self, adapter: AdapterDriver, mutation: Mutation
    ) -> None:
        _check(adapter, mutation)


class CompletionConformance:
    """What an adapter does that takes prompts of completion models, too."""

    @pytest.fixture
    def adapter(self) -> AdapterDriver:
        raise NotImplementedError("give a fixture `adapter` that returns your driver")

    @named(COMPLETIONS)
    def test_prompts_share_an_answer_only_if_they_ask_the_same(
        self, adapter: AdapterDriver, mutation: Mutation
    ) -> None:
        _check(adapter, mutation)
