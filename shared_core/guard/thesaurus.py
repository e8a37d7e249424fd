"""Everyday English words of one meaning and of opposite meaning.

``stem`` brings the inflections of a word together, ``canonical`` its synonyms too. A domain's own
words are no business of this file.
"""

from __future__ import annotations

from functools import lru_cache

from shared_core.guard.lexicon import PREFIXES, listed

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
    showed/show shown/show lives/live lying/lie dying/die died/die dies/die tied/tie ties/tie
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

_OPPOSITES = """
before/after buy/sell enable/disable increase/decrease open/close import/export upload/download
encrypt/decrypt encode/decode maximum/minimum maximize/minimize maximise/minimise sender/receiver
sender/recipient credit/debit creditor/debtor deposit/withdraw deposit/withdrawal login/logout
add/remove insert/remove first/last install/uninstall begin/end begin/stop start/stop
above/below over/under more/less most/least more/fewer best/worst better/worse up/down
male/female boy/girl man/woman mother/father husband/wife son/daughter brother/sister his/her
he/she him/her uncle/aunt king/queen left/right high/low higher/lower highest/lowest long/short
longer/shorter longest/shortest tall/short taller/shorter tallest/shortest old/young older/younger
oldest/youngest old/new oldest/newest big/small bigger/smaller biggest/smallest larger/smaller
largest/smallest wide/narrow deep/shallow thick/thin heavy/light heavier/lighter cheap/expensive
cheapest/expensive cheaper/expensive early/late earlier/later earliest/latest fast/slow
faster/slower fastest/slowest good/bad positive/negative gain/lose win/lose profit/loss
weight_gain/weight_loss send/receive transfer/receive lend/borrow lock/unlock block/unblock
hot/cold hotter/colder warm/cool heat/cool day/night morning/evening true/false same/different
similar/different advantage/disadvantage benefit/disadvantage pro/con pros/cons accept/decline
accept/reject approve/reject approve/deny allow/block allow/forbid allow/deny grant/revoke
upgrade/downgrade hire/fire love/hate inside/outside internal/external indoor/outdoor
arrival/departure arrive/depart arriving/departing push/pull read/write input/output
compress/decompress zip/unzip mount/unmount attach/detach connect/disconnect link/unlink
subscribe/unsubscribe follow/unfollow mute/unmute hide/show show/hide expand/collapse
ascending/descending horizontal/vertical row/column public/private local/remote online/offline
client/server frontend/backend employer/employee landlord/tenant teacher/student parent/child
plaintiff/defendant asset/liability supply/demand income/expense revenue/expense
exclude/include including/excluding inbound/outbound incoming/outgoing forward/backward
next/previous top/bottom front/back north/south east/west northern/southern eastern/western
hypertension/hypotension hyperthyroidism/hypothyroidism hyperglycemia/hypoglycemia
strengthen/weaken strong/weak stronger/weaker rise/fall ascend/descend freeze/melt solid/liquid
empty/full </> fill/empty odd/even multiply/divide plus/minus add/subtract sum/difference
singular/plural synonym/antonym dead/alive life/death friend/enemy
remember/forget build/destroy attack/defend wet/dry rich/poor single/married
simple/difficult happy/sad tighten/loosen wake/sleep zoom_in/zoom_out
check_in/check_out opt_in/opt_out turn_up/turn_down scale_up/scale_down checkin/checkout
entrance/exit enter/exit ingress/egress enqueue/dequeue acquire/release serialize/deserialize
today/tomorrow today/yesterday yesterday/tomorrow tonight/tomorrow on/off
breakfast/dinner lunch/dinner breakfast/lunch monthly/yearly daily/weekly weekly/monthly
daily/monthly daily/yearly weekly/yearly annual/monthly undergraduate/graduate
checking/savings domestic/international manual/automatic acute/chronic benign/malignant
systolic/diastolic pre/post sunrise/sunset pause/resume upper/lower temporary/permanent
temporarily/permanently accept/refuse mandatory/optional required/optional buyer/seller
guilty/innocent from/until except/including noon/midnight majority/minority sunny/cloudy
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


def _opposites() -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for pair in _OPPOSITES.split():
        one, other = map(canonical, pair.split("/"))
        if one != other:
            found.setdefault(one, set()).add(other)
            found.setdefault(other, set()).add(one)
    return {word: frozenset(others) for word, others in found.items()}


OPPOSITES = _opposites()
"""Canonical word -> canonical words of the opposite meaning."""


@lru_cache(maxsize=8192)
def opposites_of(term: str) -> frozenset[str]:
    """Return the canonical words that would say the opposite of a canonical word."""
    found = {
        two + term.removeprefix(one)
        for pair in PREFIXES
        for one, two in (pair, pair[::-1])
        if term.startswith(one) and len(term) >= len(one) + _STUB
    }
    return OPPOSITES.get(term, frozenset()) | found


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
