"""Classes of everyday words of which one excludes the others: places, colours, languages, products.

Two questions that differ in two members of one class ask different things, in lower case too, where
nothing marks a name. Only classes whose members are never synonyms of each other belong here.
"""

from __future__ import annotations

from shared_core.guard.thesaurus import canonical

_CLASSES = """
afghanistan albania algeria argentina armenia australia austria azerbaijan bahrain bangladesh
belarus belgium bolivia bosnia brazil bulgaria cambodia cameroon canada chile china colombia
croatia cuba cyprus czechia denmark ecuador egypt estonia ethiopia finland france georgia germany
ghana greece guatemala haiti honduras hungary iceland india indonesia iran iraq ireland israel
italy jamaica japan jordan kazakhstan kenya korea kuwait laos latvia lebanon libya lithuania
luxembourg madagascar malaysia malta mexico moldova mongolia morocco mozambique myanmar namibia
nepal netherlands nicaragua nigeria norway oman pakistan panama paraguay peru philippines poland
portugal qatar romania russia rwanda scotland senegal serbia singapore slovakia slovenia somalia
spain sudan sweden switzerland syria taiwan tanzania thailand tunisia turkey uganda uk ukraine
uruguay usa uzbekistan venezuela vietnam wales yemen zambia zimbabwe; amsterdam athens atlanta
austin baltimore bangalore bangkok barcelona beijing belfast berlin boston brussels budapest
burbank cairo calgary charlotte chennai chicago cincinnati cleveland columbus copenhagen dallas
delhi denver detroit dubai dublin edinburgh florence frankfurt geneva hamburg helsinki houston
hyderabad indianapolis istanbul jakarta johannesburg karachi kolkata kyiv lagos lima lisbon london
lyon madrid manchester manila melbourne memphis miami milan milwaukee minneapolis montreal moscow
mumbai munich nairobi naples nashville newark oakland orlando osaka oslo ottawa paris philadelphia
phoenix pittsburgh portland prague riyadh rome rotterdam seattle seoul shanghai stockholm sydney
tampa tokyo toronto vancouver venice vienna warsaw zurich; africa antarctica asia europe oceania;
alabama alaska arizona arkansas california colorado connecticut delaware florida hawaii idaho
illinois indiana iowa kansas kentucky louisiana maine maryland massachusetts michigan minnesota
mississippi missouri montana nebraska nevada ohio oklahoma oregon pennsylvania tennessee texas
utah vermont virginia wisconsin wyoming; english french german spanish italian portuguese dutch
russian chinese japanese korean arabic hindi bengali urdu turkish polish swedish norwegian danish
finnish greek hebrew latin; python javascript typescript java ruby php rust golang kotlin swift
scala perl haskell matlab fortran cobol; windows linux macos; android ios; chrome firefox safari
edge opera; mysql postgresql mongodb sqlite oracle redis cassandra mariadb; react angular vue
svelte; django flask fastapi rails laravel; pytorch tensorflow keras; aws azure gcp; github gitlab
bitbucket; excel powerpoint outlook; facebook instagram twitter linkedin whatsapp youtube tiktok
snapchat telegram reddit pinterest; visa mastercard amex paypal; uber lyft; pdf csv json xml yaml
html docx xlsx; png jpeg gif svg; ftp ssh smtp; red blue green yellow orange purple pink black
white brown grey; gold silver bronze platinum; iron copper zinc aluminium nickel; oxygen hydrogen
nitrogen carbon helium sodium potassium calcium magnesium; mercury venus earth mars jupiter saturn
uranus neptune pluto; north south east west; morning afternoon evening night; breakfast lunch
dinner; dog cat horse cow pig sheep goat chicken duck rabbit mouse lion tiger bear wolf fox
elephant monkey snake; apple banana orange grape mango peach pear strawberry lemon pineapple
cherry; rice pasta bread potato beef pork chicken fish egg cheese; coffee tea beer wine milk
juice; football cricket tennis basketball baseball hockey golf rugby volleyball; guitar piano
violin drums flute; car bus train plane bicycle motorcycle boat; arm leg hand foot head neck
shoulder knee elbow wrist ankle hip chest stomach; eye ear nose mouth tongue; heart liver kidney
lung brain bladder; aspirin ibuprofen paracetamol naproxen amoxicillin azithromycin penicillin
metformin; physics chemistry biology mathematics history geography economics philosophy
psychology; christianity islam hinduism buddhism judaism; circle triangle square rectangle; area
perimeter volume circumference diameter radius; capital area population currency flag president
language anthem climate gdp; password username pin; plus minus times divided; screen battery
keyboard camera speaker microphone; mother father brother sister uncle aunt son daughter husband
wife
"""


def _classes() -> dict[str, frozenset[int]]:
    found: dict[str, set[int]] = {}
    for number, words in enumerate(_CLASSES.split(";")):
        for word in words.split():
            found.setdefault(canonical(word), set()).add(number)
    return {word: frozenset(numbers) for word, numbers in found.items()}


ALTERNATIVES = _classes()
"""Canonical word -> numbers of the classes that it is in."""
