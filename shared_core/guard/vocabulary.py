"""Everyday English words of one meaning.

``stem`` brings the inflections of a word together, ``canonical`` its synonyms too. A domain's own
words are no business of this file.
"""

from __future__ import annotations

from functools import lru_cache

from shared_core.guard.lexicon import listed

_IRREGULAR = dict(
    pair.split("/")
    for pair in listed("""
    bought/buy sold/sell sent/send lost/lose paid/pay went/go gone/go made/make found/find
    kept/keep took/take taken/take gave/give given/give told/tell wrote/write written/write
    ran/run running/run broke/break broken/break chose/choose chosen/choose stole/steal
    stolen/steal spent/spend built/build caught/catch taught/teach thought/think brought/bring
    got/get men/man women/woman children/child people/person wives/wife feet/foot teeth/tooth
    mice/mouse used/use uses/use using/use won/win drew/draw drawn/draw grew/grow grown/grow
    began/begin begun/begin stuck/stick held/hold met/meet led/lead lent/lend slept/sleep
    ate/eat eaten/eat drank/drink drunk/drink drove/drive driven/drive flew/fly flown/fly
    rose/rise risen/rise fell/fall fallen/fall knew/know known/know saw/see seen/see
    showed/show shown/show has/have had/have having/have froze/freeze frozen/freeze an/a
    lives/live lying/lie dying/die died/die dies/die tied/tie ties/tie
    """)
)

_SYNONYMS = """
usa us america
remove delete erase eliminate discard rid wipe
close cancel terminate
end finish conclude
begin start commence initiate
buy purchase
fix repair mend resolve solve troubleshoot
change modify edit alter update amend
create make_up generate produce
build construct assemble
obtain acquire receive
big large huge
small little tiny
fast quick rapid quickly
speed pace velocity
show display
select choose pick
use utilize utilise employ
method approach technique
explain describe
correct right accurate proper
error mistake bug issue problem trouble
reason cause
cost price fee charge
money cash funds
happen occur
important essential crucial vital
example instance sample
job occupation
picture photo photograph image
movie film
phone telephone cellphone smartphone mobile
email mail e-mail
website webpage site
app application
file document
folder directory
car automobile
house home
child kid
doctor physician
pain ache
sick ill
medicine medication drug
tired exhausted fatigued
smart intelligent clever
simple easy
difficult hard tough
improve enhance better
learn study
teach instruct
talk speak chat
ask inquire enquire
answer reply respond response
search look seek
allow permit
forbid prohibit ban
block freeze suspend
restart reboot
connect link
copy duplicate
move relocate
join combine merge
split separate divide
gather collect
keep retain
shipping delivery
ship deliver
return refund reimburse reimbursement
contact reach
vacation holiday
trip journey travel
country nation
city town
company firm business corporation
employee worker
boss manager
lawyer attorney
customer client
store shop
food meal
rubbish trash garbage
lift elevator
transfer send
wait await
verify confirm validate
check inspect examine
enable activate turn_on switch_on power_on
disable deactivate turn_off switch_off power_off shut_off
login log_in sign_in signin
logout log_out sign_out signout
register sign_up signup enroll enrol
setup set_up configure
increase raise boost
decrease reduce lower lessen
maximum max
minimum min
require necessitate
prevent avoid
treat cure heal
happy glad joyful
angry mad
beautiful pretty
funny humorous
scared afraid
rich wealthy
cheap inexpensive affordable
expensive costly
whole entire
total overall
difference distinction
benefit advantage
disadvantage drawback downside
similar alike
see view
listen hear
guide tutorial
tip advice suggestion
recommend suggest
idea notion
password passcode
location place
fill complete
stop quit
replace substitute
prepare ready
often frequently
until till til
usually normally typically
maybe perhaps
almost nearly
approximately roughly around
sofa couch
woman lady
man guy gentleman
mother mom mum
father dad
"""


_STUB = 3
"""Letters that a word keeps at least."""


@lru_cache(maxsize=8192)
def stem(word: str) -> str:
    """Return the common form of a folded word's inflections, itself not always a word."""
    word = _IRREGULAR.get(word, word)
    if len(word) > _STUB and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-3] + "y" if word.endswith("ies") and len(word) > _STUB + 1 else word[:-1]
    for ending in ("ing", "ed"):
        front = word.removesuffix(ending)
        if front != word and len(front) >= _STUB and _has_vowel(front) and word[-3:] != "eed":
            word = front
            break
    if len(word) <= _STUB:
        return word
    if word[-1] in (word[-2], "e"):
        return word[:-1]
    if word[-1] == "y" and word[-2] not in "aeiou":
        return word[:-1] + "i"
    return word


def _has_vowel(text: str) -> bool:
    return any(letter in "aeiouy" for letter in text)


def _synonyms() -> dict[str, str]:
    groups = (line.split() for line in _SYNONYMS.strip().splitlines())
    return {stem(word): stem(group[0]) for group in groups for word in reversed(group)}


_CANONICAL = _synonyms()


def canonical(word: str) -> str:
    """Return one form for all inflections and synonyms of a folded word."""
    form = stem(word)
    return _CANONICAL.get(form, form)


FAILURES = frozenset(
    canonical(word)
    for word in listed("""
    fail failure refuse decline reject deny lack miss missing broken break wrong stop prevent
    avoid error impossible block remove lose less bad problem freeze fix
    """)
)
"""Canonical words that often stand where another says "not": "failed", "did not go through"."""

UNKNOWING = frozenset(map(canonical, listed("know understand sure certain idea figure clue")))
"""Terms after "I do not": somebody says that they ask, not what."""
