"""Everyday English words of opposite meaning.

A pair stands for all inflections and synonyms of its words; a domain's own words are no business
of this file.
"""

from __future__ import annotations

from functools import lru_cache

from shared_core.guard.lexicon import listed
from shared_core.guard.thesaurus import canonical, stem

_OPPOSITES = """
before/after buy/sell enable/disable increase/decrease open/close encrypt/decrypt encode/decode
maximum/minimum maximize/minimize maximise/minimise sender/receiver sender/recipient credit/debit
creditor/debtor deposit/withdraw deposit/withdrawal login/logout add/remove insert/remove first/last
install/uninstall begin/end begin/stop start/stop above/below over/under more/less most/least
more/fewer best/worst better/worse up/down male/female boy/girl man/woman mother/father husband/wife
son/daughter brother/sister his/her he/she him/her uncle/aunt king/queen left/right high/low
higher/lower highest/lowest long/short longer/shorter longest/shortest tall/short taller/shorter
tallest/shortest old/young older/younger oldest/youngest old/new oldest/newest big/small
bigger/smaller biggest/smallest larger/smaller largest/smallest wide/narrow deep/shallow thick/thin
heavy/light heavier/lighter cheap/expensive cheapest/expensive cheaper/expensive early/late
earlier/later earliest/latest fast/slow faster/slower fastest/slowest good/bad positive/negative
gain/lose win/lose profit/loss weight_gain/weight_loss send/receive transfer/receive lend/borrow
lock/unlock block/unblock hot/cold hotter/colder warm/cool heat/cool day/night morning/evening
true/false same/different similar/different advantage/disadvantage benefit/disadvantage pro/con
pros/cons accept/decline accept/reject approve/reject approve/deny allow/block allow/forbid
allow/deny grant/revoke hire/fire love/hate arrival/departure arrive/depart arriving/departing
push/pull read/write compress/decompress zip/unzip mount/unmount attach/detach connect/disconnect
link/unlink subscribe/unsubscribe follow/unfollow mute/unmute hide/show expand/collapse
ascending/descending horizontal/vertical row/column public/private local/remote online/offline
client/server frontend/backend employer/employee landlord/tenant teacher/student parent/child
plaintiff/defendant asset/liability supply/demand income/expense revenue/expense forward/backward
next/previous top/bottom front/back north/south east/west northern/southern eastern/western
strengthen/weaken strong/weak stronger/weaker rise/fall ascend/descend freeze/melt solid/liquid
empty/full </> fill/empty odd/even multiply/divide plus/minus add/subtract sum/difference
singular/plural synonym/antonym dead/alive life/death friend/enemy remember/forget build/destroy
attack/defend wet/dry rich/poor single/married simple/difficult happy/sad tighten/loosen wake/sleep
zoom_in/zoom_out check_in/check_out opt_in/opt_out turn_up/turn_down scale_up/scale_down
checkin/checkout entrance/exit enter/exit ingress/egress enqueue/dequeue acquire/release
serialize/deserialize today/tomorrow today/yesterday yesterday/tomorrow tonight/tomorrow on/off
breakfast/dinner lunch/dinner breakfast/lunch monthly/yearly daily/weekly weekly/monthly
daily/monthly daily/yearly weekly/yearly annual/monthly undergraduate/graduate checking/savings
domestic/international manual/automatic acute/chronic benign/malignant systolic/diastolic pre/post
block/unfreeze sunrise/sunset promote/demote pause/resume incoming/outgoing upper/lower
temporary/permanent temporarily/permanently accept/refuse mandatory/optional buyer/seller
guilty/innocent inner/outer major/minor winner/loser undo/redo
except/include except/including
"""


def _opposites() -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for pair in _OPPOSITES.split():
        one, other = map(canonical, pair.split("/"))
        if one != other:
            found.setdefault(one, set()).add(other)
            found.setdefault(other, set()).add(one)
    return {word: frozenset(others) for word, others in found.items()}


_KNOWN = _opposites()

_STUB = 3
"""Letters after a prefix at least: "in" itself is nobody's opposite."""

_PREFIXES = [
    sides
    for pair in listed("""
    hypo/hyper hypo/hypero up/down in/out in/ex im/ex over/under pre/post inter/intra micro/macro
    """)
    for sides in (tuple(pair.split("/")), tuple(pair.split("/")[::-1]))
]

_ENDINGS = (("ful", "less"), (stem("less"), "ful"))


@lru_cache(maxsize=8192)
def opposites(term: str) -> frozenset[str]:
    """Return canonical words of the opposite meaning: listed ones, "up…" and "down…", "…less".

    What a changed prefix or ending makes may be no word ("outcrease"); that does no harm.
    """
    others = {
        canonical(opposite + term.removeprefix(prefix))
        for prefix, opposite in _PREFIXES
        if term.startswith(prefix) and len(term) >= len(prefix) + _STUB
    }
    for ending, opposite in _ENDINGS:
        if term.endswith(ending) and len(term) >= len(ending) + _STUB:
            others.add(canonical(term.removesuffix(ending) + opposite))
    return _KNOWN.get(term, frozenset()) | others
