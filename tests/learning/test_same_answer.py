"""When two answers say the same: the default judge on every kind of answer."""

from __future__ import annotations

import json
import time
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.judges import judged, own_pairs
from shared_core.embedding import EmbedderError
from shared_core.learning import AnswerJudge, EmbeddingJudge, same_answer
from shared_core.learning.answers import (
    OVERLAP,
    READ_CHARACTERS,
    AnswerReading,
    overlap,
    read_answer,
)
from shared_core.learning.judges import SAME, SAME_AND_MORE, opinion_at
from shared_core.record import Answer
from tests.fakes import FakeEmbedder, fake_embed


def judge(one: str, two: str) -> bool | None:
    verdict = same_answer(Answer(one), Answer(two))
    assert same_answer(Answer(two), Answer(one)) is verdict, "it does not matter which is fresh"
    return verdict


def test_orders_and_short_sentences_of_few_common_words_are_english() -> None:
    one = "Begin at window, choose service. Expect 420 points within 93 months. See report page."
    two = "Covers each marble feather. Pay 329 crowns within 76 weeks. Read gravel before ribbon."
    assert judge(one, two) is False


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("Yes.", "yes"),
        ("No", "No."),
        ("Oslo", "oslo."),
        ("42", "42."),
        ("Oslo", "The capital of Norway is Oslo."),
        ("1969", "It happened in 1969."),
        ("Yes.", "Yes, tomatoes are fruits in the botanical sense."),
        (
            "You can return the book within 30 days at any desk of the library.",
            "Sure! You can return the book at any desk of the library within 30 days. "
            "Let me know if you need anything else.",
        ),
        ("1. Open settings.\n2. Choose privacy.", "Open settings. Choose privacy."),
        ("**Press** the _green_ button.", "- Press the green button"),
        (
            "Hold the key for ten seconds. Then the lamp goes out.",
            "Then the lamp goes out. Hold the key for 10 seconds.",
        ),
        (  # what stands beside a figure is of its own sentence
            "Quote code KX7 at gate nine. Allow 40 hours; the fee is 310. Bring passport first.",
            "Bring passport first. Allow 40 hours; the fee is 310. Quote code KX7 at gate nine.",
        ),
        (
            "Here is what you need: Allow 40 hours; the fee is 310. Ring 7 at the gate.",
            "Ring 7 at the gate. Allow 40 hours; the fee is 310. I hope this helps!",
        ),
        ("Happy to help: the pool opens at seven on Sundays.", "The pool opens at 7 on Sundays."),
        *(
            (
                f"{opening} The pool opens at 7. A pass is 40 euros. Children pay half of it.",
                f"Children pay half of it. A pass is 40 euros. The pool opens at 7. {ending}",
            )
            for opening, ending in (
                ("With pleasure:", "Thank you for asking."),
                ("Gladly!", "Write to me if anything is unclear."),
                ("Thanks for reaching out to us.", ""),
                ("Thank you for your kind message!", "My pleasure."),
            )
        ),
    ],
)
def test_the_same_answer_in_other_spelling_or_order(one: str, two: str) -> None:
    assert judge(one, two) is True


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("Yes.", "No."),
        ("Yes, it is safe to take both.", "No, it is safe to take both only with food."),
        ("42", "43"),
        ("You have 30 days to return it.", "You have 14 days to return it."),
        ("Positive", "Sentiment: negative"),
        (
            "The desk for lost property is in the north hall.",
            "Press the green button and wait until the lamp turns red.",
        ),
    ],
)
def test_answers_that_differ(one: str, two: str) -> None:
    assert judge(one, two) is False


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("Oslo", "Bergen"),
        ("You can return an opened box.", "You cannot return an opened box."),
        ("Germany beat Brazil in the final.", "Brazil beat Germany in the final."),
        ("1. Mix flour.\n2. Add milk.\n3. Fry.", "1. Add milk.\n2. Mix flour.\n3. Fry."),
        ("The lamp is red, and then it is green.", "The lamp is green, and then it is red."),
        ("Adults have 32 teeth, children 20.", "Adults have 20 teeth, children 32."),
        ("It takes 30 days.", "It takes 30 hours."),
        ("Thank you for your 3 letters. We write.", "Thank you for your 5 letters. We write."),
        ("SELECT * FROM town WHERE size = 5", "SELECT * FROM town WHERE size > 5"),
        ("The balance is -5 euros.", "The balance is 5 euros."),
        ("Take bus 7 to platform B.", "Take bus 7 to platform D."),
        ("```\nx = a + b\n```\nThis adds.", "```\nx = a - b\n```\nThis adds."),
    ],
)
def test_one_fact_that_differs_is_never_taken_for_the_same(one: str, two: str) -> None:
    assert judge(one, two) is not True


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("The dose is 2 g a day.", "The dose is 2,000 mg a day."),
        ("Wait for half an hour.", "Wait for 30 minutes."),
        ("It takes two weeks.", "It takes 14 days."),
        ("Twenty-one people came.", "21 people came."),
        ("Use 1½ cups of rice.", "Use one and a half cups of rice."),
        ("It costs 1,250 euros.", "It costs 1250 euros."),
        ("It opens at 9:00.", "It opens at 9."),
        ("The ferry leaves at 6:45 pm.", "The ferry leaves at 18:45."),
        ("Lunch ends at 2.15 pm.", "Lunch ends at 14:15."),
        ("Doors shut at 11 pm.", "Doors shut at 23:00."),
        ("The night bus comes at 12 am.", "The night bus comes at 0:00."),
    ],
)
def test_a_figure_is_the_same_in_any_spelling_and_unit(one: str, two: str) -> None:
    assert judge(one, two) is not False
    readings = read_answer(one).numbers, read_answer(two).numbers
    assert readings[0].plain & readings[1].plain or readings[0].quantities & readings[1].quantities


FACTS = {"city": "Lima", "days": 3, "open": True, "tags": ["a", "b"]}


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def found(kind: str, one: str, two: str) -> float:
    readings = read_answer(one), read_answer(two)
    value = dict(zip(OVERLAP, overlap(*readings), strict=True))[kind]
    assert value == dict(zip(OVERLAP, overlap(*readings[::-1]), strict=True))[kind]
    return value


@pytest.mark.parametrize(
    ("kind", "one", "two", "value"),
    [
        # words for one thing; none of them is shared
        ("akin", "Buy the ticket early.", "Purchase a ticket late.", 0),  # one form already
        ("akin", "The physician rides a bicycle.", "The teacher rides a bike.", 1),
        ("akin", "The physician rides a bicycle.", "The teacher rides a horse.", 0),
        # figures that may be said of one thing
        ("numbers", "The lift holds 8 guests.", "The lift holds 6 guests.", 1),
        ("numbers", "Soak the beans for 9 hours.", "Beans need 40 minutes in water.", 1),
        ("numbers", "Rome has 7 hills and trams.", "Rome got its metro in 1955.", 1),
        ("numbers", "Add 3 kg of clay.", "Fire it for 9 hours in the kiln.", 0),
        # figures of one side alone, where it does not merely say more
        ("numbers_more", "Add 3 kg of clay.", "Fire it for 9 hours in the kiln.", 1),
        ("numbers_more", "Lodgers pay 60 crowns a week.", "Lodgers pay nothing a week.", 1),
        (
            "numbers_more",
            "Lodgers pay weekly.",
            "Lodgers pay weekly; the house has 14 rooms and a garden with old trees.",
            0,
        ),
        # names in any form
        ("other_names", "We rest on Tuesdays in the shop.", "On a Tuesday the shop rests.", 0),
        ("other_names", "We rest on Tuesdays in the shop.", "On a Friday the shop rests.", 1),
        # what takes away denies
        ("negation", "Rent includes heat, except gas.", "Rent includes heat, but not gas.", 0),
        ("negation", "Smoking is prohibited on deck.", "Smoking is allowed on deck.", 1),
        # the opposite of an opposite, and what is none
        ("opposite", "The hatch is not locked.", "The hatch is unlocked.", 0),
        ("opposite", "The hatch isn't locked.", "The hatch is locked.", 1),
        ("opposite", "Stir at least ten eggs.", "Stir at most ten eggs.", 0),
        ("opposite", "It is the least stable isotope.", "It is the most stable isotope.", 1),
    ],
)
def test_what_two_answers_share(kind: str, one: str, two: str, value: int) -> None:
    assert found(kind, one, two) == value


def test_a_brief_answer_is_what_the_other_begins_with() -> None:
    lead = "The ferry was named after Ada Lovelace. She wrote the first program."
    assert judge("Ada Lovelace", lead) is True
    assert judge("Grace Hopper", lead + " Grace Hopper named it.") is not True


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("You're welcome!", "No problem, glad I could help."),
        ("My pleasure. Have a great day!", "Any time! Let me know if there's anything else."),
        ("Don't mention it.", "No worries at all! Take care."),
        ("Goodbye!", "See you soon! Have a nice evening."),
    ],
)
def test_two_pleasantries_teach_nothing(one: str, two: str) -> None:
    assert judge(one, two) is None
    assert judge(one, one) is True
    assert judge(one, "The desk for lost property is in the north hall.") is not True


def test_an_answer_that_is_much_longer_must_agree_more() -> None:
    one = "Ducks sleep on the pond at night."
    alike = "At night the ducks sleep on that pond."
    longer = alike + " Herons rest in trees nearby and feed in the shallow water at dawn."
    readings = read_answer(one), read_answer(alike), read_answer(longer)
    least = {"constant": SAME, **dict.fromkeys(OVERLAP, 0.0)}
    more = {"constant": SAME_AND_MORE, **dict.fromkeys(OVERLAP, 0.0)}
    assert opinion_at(readings[0], readings[1], None, least).same is True
    assert opinion_at(readings[0], readings[2], None, least).same is None
    assert opinion_at(readings[0], readings[2], None, more).same is True


@pytest.mark.parametrize(
    ("one", "two", "pairs"),
    [
        ("Pumps run faster in thin air.", "In thin air, pumps run slower.", 1),
        ("Rent is due before the fifth.", "Pay the rent after the fifth.", 1),
        (
            "Moss is rarer in dry woods, more common in wet woods.",
            "Moss likes dry and wet woods.",
            0,
        ),
        (  # neither word is on one side alone
            "Upstairs the air is warmer. The cellar is colder in July.",
            "Upstairs the air is colder. The cellar is warmer in July.",
            1,
        ),
        ("The lamp is higher than the shelf.", "Prices are lower on Mondays.", 0),
        ("Tickets are cheap and seats are safe.", "Seats are dangerous, tickets expensive.", 2),
    ],
)
def test_opposite_words_count_where_they_are_said_of_one_thing(
    one: str, two: str, pairs: int
) -> None:
    assert found("opposite", one, two) == pairs


@pytest.mark.parametrize(
    ("one", "two", "words"),
    [
        ("Don't use soap on cork.", "Use soap on cork.", 3),
        ("Wash it, but don't use soap.", "Wash it; soap is not needed.", 0),
        ("Wash it and never use soap.", "Wash it with soap.", 1),
        ("Soap isn't harmful. Cork is harmed by soap.", "Soap harms cork.", 0),
    ],
)
def test_a_clause_that_negates_denies_its_own_words_alone(one: str, two: str, words: int) -> None:
    assert found("denied", one, two) == words


def test_json_is_judged_by_its_values_in_any_order_and_layout() -> None:
    one = json.dumps(FACTS)
    for keys in permutations(FACTS):
        other = json.dumps({key: FACTS[key] for key in keys}, indent=2)
        assert judge(one, other) is True
        assert judge(one, f"```json\n{other}\n```") is True
    for key, value in {"days": 4, "city": "Quito", "open": False, "tags": ["b", "a"]}.items():
        assert judge(one, json.dumps({**FACTS, key: value})) is False
    assert judge(one, json.dumps({"phone": "12345", "fax": None})) is None


def test_a_tool_call_differs_by_its_arguments() -> None:
    call = {"name": "book", "arguments": {"room": 12, "day": "2026-05-03"}}
    other = {"name": "book", "arguments": {"room": 12, "day": "2026-03-05"}}
    assert judge(json.dumps(call), json.dumps(call, indent=1)) is True
    assert judge(json.dumps(call), json.dumps(other)) is False


def test_a_table_says_the_same_lying_on_its_side() -> None:
    table = _table(["", "Small", "Large"], [["Price", "$5", "$9"], ["Seats", "2", "4"]])
    turned = _table(["", "Price", "Seats"], [["Small", "$5", "2"], ["Large", "$9", "4"]])
    swapped = _table(["", "Small", "Large"], [["Price", "$9", "$5"], ["Seats", "2", "4"]])
    assert judge(table, turned) is True
    assert judge(table, swapped) is False


def test_lines_of_names_and_values_are_judged_by_their_values() -> None:
    assert judge("Name: Ada\nAge: 36", "- **Name:** Ada\n- **Age:** 36") is True
    assert judge("Name: Ada\nAge: 36", "Age: 36\nName: Ada") is True
    assert judge("Name: Ada\nAge: 36", "Name: Ada\nAge: 63") is False


REFUSALS = (
    "I don't know.",
    "I'm sorry, but I can't help with that.",
    "I am unable to answer this question.",
    "As an AI, I cannot provide medical advice.",
)


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refusal_differs_from_an_answer_and_two_of_them_teach_nothing(refusal: str) -> None:
    assert judge(refusal, "The museum opens at nine and closes at six on weekdays.") is False
    assert judge(refusal, "Oslo") is False
    assert all(judge(refusal, other) is None for other in REFUSALS if other != refusal)
    assert judge(refusal, refusal) is True


GERMAN = "Das Museum öffnet um neun Uhr und schließt am Abend gegen sechs Uhr."


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        (GERMAN, GERMAN.upper(), True),
        (GERMAN, "The museum opens at nine and closes at six in the evening.", None),
        (GERMAN, "Der Zug nach Bonn fährt von Gleis vier und hält in jedem kleinen Ort.", None),
        (GERMAN + " Der Eintritt kostet 8 Euro.", GERMAN + " Der Eintritt kostet 9 Euro.", False),
        ("博物館は九時に開きます。", "博物館は九時に開きます", True),
        ("博物館は九時に開きます。", "駅は北にあります。", None),
    ],
)
def test_in_other_languages_it_knows_only_what_is_plain(
    one: str, two: str, expected: bool | None
) -> None:
    assert judge(one, two) is expected


@pytest.mark.parametrize(
    ("one", "two"), [("", ""), ("", "Oslo"), ("?!", "…"), ("I do.", "You do.")]
)
def test_nothing_to_compare_is_not_known(one: str, two: str) -> None:
    assert judge(one, two) is None


def test_an_answer_that_is_too_long_to_read_is_the_same_only_if_it_is_equal() -> None:
    long = "The bus leaves at nine. " * (READ_CHARACTERS // 20)
    assert judge(long, long + "It is full.") is None
    assert judge(long, long) is True


@given(st.text(), st.text())
def test_any_two_texts_have_a_verdict_and_a_text_equals_itself(one: str, two: str) -> None:
    assert judge(one, two) in (True, False, None)
    assert judge(one, one) is not False


def test_every_verdict_has_an_error_and_one_that_is_left_out_has_none() -> None:
    judge = AnswerJudge(embedder=False)
    for pair in own_pairs("fit")[:400]:
        found = judge.opinion(Answer(pair.one), Answer(pair.two))
        assert 0 <= found.error < 0.5
        assert bool(found.why) is (found.same is not None)


# ------------------------------------------------------------------------------------ vectors


class Counting(FakeEmbedder):
    """An embedder of equal vectors: all answers are near."""

    def embed(self, texts: Any) -> Any:
        self.calls.append(list(texts))
        return fake_embed(["the same"] * len(texts))


def test_an_answer_is_embedded_once() -> None:
    embedder = FakeEmbedder(max_tokens=512)
    judge = AnswerJudge(embedder)
    texts = [
        f"The number {n} bus stops at the town hall and then at the harbour." for n in range(3)
    ]
    for one, two in permutations(texts, 2):
        judge(Answer(one), Answer(two))
    asked = [text for call in embedder.calls for text in call]
    assert [asked.count(text) for text in texts] == [1, 1, 1]


def test_a_long_answer_is_embedded_in_parts() -> None:
    embedder = FakeEmbedder(max_tokens=32)
    judge = AnswerJudge(embedder)
    long = " ".join(f"Sentence {n} tells of the harbour, the boats and the sea." for n in range(40))
    judge(Answer(long), Answer("The harbour is full of boats that go to sea every morning."))
    asked = [text for call in embedder.calls for text in call]
    assert long not in asked
    assert sum("Sentence" in text for text in asked) > 1


def test_an_embedder_that_tells_nothing_apart_is_not_listened_to() -> None:
    one, two = Answer("The bus stops at the town hall."), Answer("Paint dries in about six hours.")
    assert AnswerJudge(Counting())(one, two) is same_answer(one, two)


def test_an_embedder_that_fails_leaves_the_words() -> None:
    class Broken(FakeEmbedder):
        def embed(self, texts: Any) -> Any:
            raise EmbedderError("down")

    one, two = "It opens at nine.", "Sure! It opens at nine."
    assert AnswerJudge(Broken())(Answer(one), Answer(two)) is True


@pytest.mark.parametrize("cosines", [{"same": 0.3, "other": 0.4}, {"same": 1.5}, {"other": -2.0}])
def test_cosines_that_make_no_sense_are_refused(cosines: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="EmbeddingJudge needs"):
        EmbeddingJudge(fake_embed, **cosines)


@pytest.mark.model
@pytest.mark.parametrize(("half", "known"), [("held", 0.38), ("model", 0.5)])
def test_on_answers_that_it_was_not_fitted_to_few_verdicts_are_wrong(
    half: str, known: float, model_embedder: Any
) -> None:
    said = judged(AnswerJudge(model_embedder), own_pairs(half))
    share = {
        (kind, verdict): counts[verdict] / counts.total()
        for kind, counts in said.items()
        for verdict in (True, False)
    }
    assert share["same", True] >= known
    assert share["same", False] <= 0.01
    assert share["near", True] <= 0.01
    assert share["elsewhere", True] <= 0.01
    assert share["contradicted", True] <= 0.12 or half == "model"  # most exchange two things


@pytest.mark.model
def test_your_own_cosines_are_bounds(model_embedder: Any) -> None:
    pairs = own_pairs("held")[:200]
    bounded = judged(EmbeddingJudge(model_embedder, same=1.0, other=-1.0), pairs)
    free = judged(EmbeddingJudge(model_embedder), pairs)
    for verdict in (True, False):
        assert sum(c[verdict] for c in bounded.values()) < sum(c[verdict] for c in free.values())


@pytest.mark.parametrize(
    "piece",
    ["|-", "-", "|---", " ", "\n", "[", "{", "`", "*", "[a](", "! ", "a = b, ", "1,", "a: b\n"],
)
def test_no_text_takes_long_to_read(piece: str) -> None:
    text = piece * (READ_CHARACTERS // len(piece))
    started = time.process_time()
    AnswerReading(text)
    assert time.process_time() - started < 0.5
