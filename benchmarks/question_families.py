"""Write sets of questions that differ in one thing, and of other wordings of the same question.

    python benchmarks/question_families.py --out FOLDER [--rows 4000]

They are for ``benchmarks/fit_prior.py``: four files ``families_*.jsonl.gz`` of rows
{"t": question, "c": class}, made of the templates and words below by a fixed seed. Two questions of
one class want one answer. Whatever else looks alike (another verb, object, qualifier, name, or kind
of question) is of another class, so that most neighbours of a question are near misses, as in an
app about one subject.

    service   twelve offices and shops: verb x object x qualifier x kind of question
    facts     names and things: relation x name
    craft     code, kitchen, garden and body: verb x object x place, causes and meanings
    desk      help desks: what people wish x the thing, in wordings that share few words
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

Words = Mapping[str, Sequence[str]]
Row = tuple[str, str]

KINDS: Words = {
    "how": (
        "How do I {v} {o}?", "How can I {v} {o}?", "What is the best way to {v} {o}?",
        "What are the steps to {v} {o}?", "I want to {v} {o}. How?", "how to {v} {o}",
        "Please tell me how to {v} {o}.", "Could you explain how I {v} {o}?",
        "I need help to {v} {o}", "What do I have to do to {v} {o}?", "steps for {g} {o}",
    ),
    "may": (
        "Can I {v} {o}?", "Am I allowed to {v} {o}?", "Is it possible to {v} {o}?",
        "Is {g} {o} allowed?", "Is it ok if I {v} {o}?", "Would it be possible to {v} {o}?",
    ),
    "cost": (
        "How much does it cost to {v} {o}?", "What is the price of {g} {o}?",
        "What do you charge to {v} {o}?", "What does it cost to {v} {o}?",
        "how much is it to {v} {o}",
    ),
    "time": (
        "How long does it take to {v} {o}?", "How long will it take to {v} {o}?",
        "How much time do I need to {v} {o}?", "How many days does it take to {v} {o}?",
        "what is the waiting time for {g} {o}",
    ),
    "fails": (
        "Why can't I {v} {o}?", "I am unable to {v} {o}, why?", "I can't {v} {o}",
        "What stops me from {g} {o}?", "Why am I not able to {v} {o}?",
        "It does not let me {v} {o}",
    ),
    "where": (
        "Where can I {v} {o}?", "Where do I go to {v} {o}?", "Where should I {v} {o}?",
        "At which place can I {v} {o}?", "tell me where to {v} {o}",
    ),
    "papers": (
        "What do I need to {v} {o}?", "Which documents do I need to {v} {o}?",
        "What papers are required to {v} {o}?", "What must I bring to {v} {o}?",
        "Which paperwork is needed for {g} {o}?",
    ),
    "who": (
        "Who can {v} {o}?", "Who is allowed to {v} {o}?", "Which people may {v} {o}?",
        "Who has the right to {v} {o}?",
    ),
}  # fmt: skip
"""Kinds of question about an act: {v} the verb, {g} its form on -ing, {o} what it is done to."""

SERVICE: Mapping[str, tuple[Words, Words, Sequence[str]]] = {
    "shop": (
        {"return": ["return", "send back", "give back"], "exchange": ["exchange", "swap"],
         "order": ["order", "buy", "purchase"], "track": ["track", "follow", "trace"],
         "cancel": ["cancel", "call off"], "wrap": ["gift-wrap", "wrap as a gift"],
         "review": ["review", "rate"], "repair": ["repair", "fix", "mend"]},
        {"parcel": ["my parcel", "my package"], "shoes": ["a pair of shoes", "shoes"],
         "coat": ["a coat"], "order": ["my order"], "sofa": ["a sofa", "a couch"],
         "lamp": ["a lamp"], "phone": ["a phone", "a mobile phone"], "gift": ["a gift card"]},
        ["", "online", "in the store", "without a receipt", "after 30 days", "from abroad"],
    ),
    "telecom": (
        {"activate": ["activate", "switch on", "turn on"], "block": ["block", "bar"],
         "transfer": ["transfer", "move"], "check": ["check", "see", "look up"],
         "cancel": ["cancel", "end", "terminate"], "renew": ["renew", "extend"],
         "upgrade": ["upgrade"], "downgrade": ["downgrade"]},
        {"sim": ["my SIM card", "my SIM"], "number": ["my phone number", "my number"],
         "plan": ["my data plan"], "contract": ["my contract"], "voicemail": ["my voicemail"],
         "roaming": ["roaming"], "bill": ["my bill", "my invoice"]},
        ["", "for my child", "for a business", "while I am abroad", "on a tablet", "by text"],
    ),
    "gym": (
        {"join": ["join", "sign up for"], "leave": ["leave", "quit"],
         "book": ["book", "reserve"], "pause": ["pause", "put on hold", "suspend"],
         "change": ["change", "modify"], "pay": ["pay for"], "teach": ["teach", "give"]},
        {"class": ["a yoga class"], "spin": ["a spinning class"], "court": ["a tennis court"],
         "club": ["the club"], "locker": ["a locker"], "trainer": ["a session with a trainer"],
         "pool": ["the swimming pool", "the pool"]},
        ["", "at the weekend", "on weekdays", "as a student", "as a guest", "for two people"],
    ),
    "library": (
        {"borrow": ["borrow", "check out", "take out"], "renew": ["renew", "extend"],
         "return": ["return", "bring back", "give back"], "reserve": ["reserve", "put a hold on"],
         "donate": ["donate"], "copy": ["copy", "photocopy"], "lose": ["report the loss of"]},
        {"book": ["a book"], "film": ["a film", "a movie"], "map": ["a map"],
         "room": ["a study room"], "laptop": ["a laptop"], "card": ["a library card"],
         "journal": ["a journal", "a magazine"]},
        ["", "for a month", "from another branch", "without a card", "as a visitor", "by mail"],
    ),
    "clinic": (
        {"book": ["book", "make", "schedule"], "move": ["reschedule", "move", "postpone"],
         "cancel": ["cancel", "call off"], "prepare": ["prepare for", "get ready for"],
         "pay": ["pay for"], "skip": ["skip", "miss"]},
        {"visit": ["a doctor's appointment", "an appointment with the doctor"],
         "blood": ["a blood test"], "scan": ["a scan"], "shot": ["a vaccination", "a jab"],
         "check": ["a check-up", "a checkup"], "surgery": ["an operation", "a surgery"],
         "dentist": ["a dental appointment", "an appointment with the dentist"]},
        ["", "for my child", "for my mother", "during pregnancy", "on a Sunday", "by phone"],
    ),
    "hr": (
        {"ask": ["request", "ask for", "apply for"], "refuse": ["decline", "refuse"],
         "report": ["report"], "approve": ["approve"], "extend": ["extend", "prolong"],
         "plan": ["plan", "schedule"], "record": ["record", "log", "enter"]},
        {"leave": ["parental leave"], "holiday": ["a holiday", "a vacation"],
         "sick": ["sick leave"], "raise": ["a pay rise", "a raise"], "trip": ["a business trip"],
         "course": ["a training course", "a training"], "hours": ["overtime", "extra hours"]},
        ["", "for my team", "as a part-time employee", "as a full-time employee",
         "during probation", "as a manager", "as a freelancer"],
    ),
    "city": (
        {"get": ["get", "obtain"], "renew": ["renew", "extend"], "replace": ["replace"],
         "pay": ["pay"], "contest": ["contest", "dispute", "challenge"], "report": ["report"],
         "register": ["register"]},
        {"permit": ["a parking permit"], "fine": ["a parking fine", "a parking ticket"],
         "passport": ["a passport"], "licence": ["a driving licence", "a driver's license"],
         "dog": ["a dog"], "marriage": ["a marriage"], "birth": ["a birth"],
         "shop": ["a business", "a company"]},
        ["", "as a resident", "as a visitor", "for a minor", "online", "in another town"],
    ),
    "travel": (
        {"book": ["book", "reserve"], "change": ["change", "amend"],
         "cancel": ["cancel", "call off"], "upgrade": ["upgrade"], "pay": ["pay for"],
         "share": ["share"], "find": ["find", "look up"]},
        {"flight": ["a flight"], "train": ["a train ticket"], "hotel": ["a hotel room"],
         "car": ["a rental car", "a hire car"], "seat": ["a seat"], "bag": ["extra luggage",
         "extra baggage"], "visa": ["a visa"], "cruise": ["a cruise"]},
        ["", "for tomorrow", "with a child", "with a dog", "one way", "with points",
         "at the airport"],
    ),
    "insurance": (
        {"claim": ["file a claim on", "make a claim on"], "renew": ["renew"],
         "cancel": ["cancel", "terminate", "end"], "compare": ["compare"], "take": ["take out",
         "sign up for"], "understand": ["understand"], "transfer": ["transfer"]},
        {"home": ["my home insurance"], "car": ["my car insurance"],
         "health": ["my health insurance"], "travel": ["my travel insurance"],
         "life": ["my life insurance"], "pet": ["my pet insurance"]},
        ["", "after an accident", "after a theft", "before it ends", "as a widow", "online"],
    ),
    "software": (
        {"install": ["install", "set up"], "remove": ["uninstall", "remove"],
         "update": ["update"], "share": ["share"], "export": ["export", "download"],
         "import": ["import", "upload"], "hide": ["hide"], "restore": ["restore", "recover"],
         "delete": ["delete", "erase"]},
        {"app": ["the app", "the application"], "file": ["a file"], "report": ["a report"],
         "folder": ["a folder"], "chart": ["a chart", "a graph"], "account": ["my account"],
         "password": ["my password"], "settings": ["my settings", "my preferences"]},
        ["", "on Windows", "on a Mac", "on my phone", "for all users", "without admin rights",
         "on the free plan", "on the business plan"],
    ),
    "school": (
        {"enrol": ["enrol in", "enroll in", "sign up for"], "drop": ["drop", "leave"],
         "pass": ["pass"], "fail": ["fail"], "repeat": ["repeat", "retake"],
         "appeal": ["appeal", "contest"], "teach": ["teach"]},
        {"maths": ["the maths course", "the math course"], "exam": ["the final exam"],
         "german": ["the German course"], "history": ["the history course"],
         "lab": ["the lab"], "thesis": ["the thesis"], "test": ["the entrance test"]},
        ["", "as a first-year student", "as a graduate", "late", "twice", "from home"],
    ),
    "energy": (
        {"read": ["read"], "replace": ["replace", "exchange"], "move": ["move", "transfer"],
         "lower": ["lower", "reduce", "bring down"], "raise": ["raise", "increase"],
         "pay": ["pay"], "dispute": ["dispute", "contest"], "cancel": ["cancel", "end"]},
        {"meter": ["my electricity meter"], "gas": ["my gas meter"], "bill": ["my bill"],
         "rate": ["my monthly payment", "my monthly instalment"], "contract": ["my contract"],
         "solar": ["my solar panels"], "heat": ["the heating"]},
        ["", "when I move out", "when I move in", "as a tenant", "as a landlord", "in winter"],
    ),
}  # fmt: skip

RELATIONS: Mapping[str, tuple[Words, Sequence[str]]] = {
    "country": (
        {"capital": ["What is the capital of {n}?", "Which city is the capital of {n}?",
                     "capital of {n}", "Name the capital city of {n}.", "Tell me {n}'s capital"],
         "people": ["How many people live in {n}?", "What is the population of {n}?",
                    "population of {n}", "How big is the population of {n}?"],
         "money": ["What is the currency of {n}?", "Which currency is used in {n}?",
                   "What money do they use in {n}?", "currency used in {n}"],
         "tongue": ["Which language is spoken in {n}?", "What language do people speak in {n}?",
                    "What is the official language of {n}?", "language spoken in {n}"],
         "area": ["How large is {n}?", "What is the area of {n}?", "area of {n}",
                  "How many square kilometres does {n} cover?"],
         "visa": ["Do I need a visa for {n}?", "Is a visa required to visit {n}?",
                  "Must I have a visa to travel to {n}?", "visa needed for {n}?"],
         "safe": ["Is {n} safe for tourists?", "Is it safe to travel to {n}?",
                  "How safe is a trip to {n}?"]},
        ["Norway", "Chile", "Kenya", "Portugal", "Vietnam", "Peru", "Iceland", "Ghana", "Nepal",
         "Malta", "oman", "laos", "cuba", "estonia", "jordan", "panama"],
    ),
    "person": (
        {"born": ["When was {n} born?", "What is the birth date of {n}?", "date of birth of {n}",
                  "On which day was {n} born?"],
         "where": ["Where was {n} born?", "What is the birthplace of {n}?",
                   "In which town was {n} born?", "birthplace of {n}"],
         "died": ["When did {n} die?", "What is the date of {n}'s death?", "In which year did {n} "
                  "die?"],
         "known": ["What is {n} known for?", "What is {n} famous for?", "Why is {n} famous?",
                   "Why is {n} well known?"],
         "wed": ["Who was {n} married to?", "Who was the spouse of {n}?", "Who did {n} marry?"],
         "studied": ["Where did {n} study?", "Which university did {n} attend?",
                     "At which university did {n} study?"]},
        ["Marie Curie", "Alan Turing", "Ada Lovelace", "Nikola Tesla", "Frida Kahlo",
         "Jane Austen", "isaac newton", "charles darwin", "Rosa Luxemburg", "Emmy Noether",
         "niels bohr", "Clara Schumann"],
    ),
    "animal": (
        {"eat": ["What do {n} eat?", "What is the diet of {n}?", "What do {n} feed on?",
                 "food of {n}"],
         "live": ["Where do {n} live?", "What is the habitat of {n}?",
                  "In which regions can {n} be found?"],
         "age": ["How old do {n} get?", "How long do {n} live?", "What is the life span of {n}?",
                 "life expectancy of {n}"],
         "fast": ["How fast can {n} run?", "What is the top speed of {n}?",
                  "How quickly can {n} move?"],
         "young": ["How many young do {n} have?", "How many babies do {n} have at once?",
                   "What is the litter size of {n}?"],
         "weigh": ["How much do {n} weigh?", "What is the weight of {n}?",
                   "How heavy do {n} get?", "weight of {n}"],
         "sleep": ["How long do {n} sleep?", "How many hours a day do {n} sleep?",
                   "How much sleep do {n} need?"]},
        ["red foxes", "grey wolves", "brown bears", "polar bears", "hedgehogs", "otters",
         "beavers", "giraffes", "zebras", "lions", "tigers", "african elephants",
         "asian elephants", "koalas", "kangaroos", "camels"],
    ),
    "condition": (
        {"what": ["What is {n}?", "Can you explain {n}?", "What does {n} mean?", "Define {n}.",
                  "Please explain what {n} is."],
         "cause": ["What causes {n}?", "What are the causes of {n}?", "Why do people get {n}?",
                   "What is the cause of {n}?", "reasons for {n}"],
         "signs": ["What are the symptoms of {n}?", "What are the signs of {n}?",
                   "How do I recognise {n}?", "symptoms of {n}"],
         "cure": ["How is {n} treated?", "What is the treatment for {n}?",
                  "How can {n} be treated?", "treatment of {n}"],
         "avoid": ["How can I prevent {n}?", "How do I avoid {n}?",
                   "What can I do to prevent {n}?", "prevention of {n}"],
         "catch": ["Is {n} contagious?", "Can you catch {n} from other people?",
                   "Is {n} infectious?"],
         "long": ["How long does {n} last?", "What is the duration of {n}?",
                  "After how many days does {n} go away?"],
         "child": ["What are the symptoms of {n} in children?", "What are the signs of {n} in "
                   "kids?", "How do I recognise {n} in a child?"]},
        ["asthma", "anaemia", "migraine", "gout", "measles", "mumps", "tonsillitis", "bronchitis",
         "type 1 diabetes", "type 2 diabetes", "high blood pressure", "low blood pressure",
         "hay fever", "eczema", "psoriasis", "shingles"],
    ),
    "thing": (
        {"who": ["Who invented {n}?", "Who was the inventor of {n}?", "By whom was {n} invented?",
                 "inventor of {n}"],
         "when": ["When was {n} invented?", "In which year was {n} invented?",
                  "What year was {n} invented in?"],
         "how": ["How does {n} work?", "What is the working principle of {n}?",
                 "Can you explain how {n} works?", "Explain the way {n} works."],
         "made": ["What is {n} made of?", "Which materials is {n} made of?",
                  "What does {n} consist of?"],
         "use": ["What is {n} used for?", "What do people use {n} for?",
                 "What is the purpose of {n}?"],
         "price": ["How much does {n} cost?", "What is the price of {n}?", "price of {n}"]},
        ["the steam engine", "the telephone", "the telegraph", "the light bulb", "the battery",
         "the microscope", "the telescope", "the sewing machine", "the typewriter",
         "the bicycle", "the jet engine", "the refrigerator", "the transistor", "the radio"],
    ),
}  # fmt: skip

CRAFT: Mapping[str, tuple[Words, Words, Sequence[str]]] = {
    "code": (
        {"sort": ["sort", "order"], "reverse": ["reverse"], "copy": ["copy", "duplicate"],
         "print": ["print", "output"], "read": ["read", "load"], "write": ["write", "save"],
         "merge": ["merge", "combine"], "split": ["split"], "count": ["count the items of"],
         "filter": ["filter"]},
        {"list": ["a list"], "dict": ["a dictionary"], "string": ["a string"],
         "csv": ["a CSV file"], "json": ["a JSON file"], "table": ["a table"],
         "set": ["a set"], "array": ["an array"]},
        ["in Python", "in Java", "in Go", "in Rust", "in JavaScript", "in pandas", "in bash",
         "in SQL", "in C++"],
    ),
    "git": (
        {"undo": ["undo", "revert"], "delete": ["delete", "remove"], "rename": ["rename"],
         "push": ["push"], "pull": ["pull"], "merge": ["merge"], "list": ["list", "show"]},
        {"commit": ["the last commit", "my latest commit"], "branch": ["a branch"],
         "tag": ["a tag"], "stash": ["a stash"], "remote": ["a remote"], "file": ["one file"]},
        ["", "locally", "on the server", "without losing changes", "by force", "from yesterday"],
    ),
    "kitchen": (
        {"cook": ["cook"], "freeze": ["freeze"], "bake": ["bake"], "fry": ["fry"],
         "peel": ["peel"], "store": ["store", "keep"], "season": ["season", "spice"],
         "thaw": ["thaw", "defrost"], "clean": ["clean", "wash"]},
        {"rice": ["rice"], "salmon": ["salmon"], "potato": ["potatoes"], "bread": ["bread"],
         "egg": ["eggs"], "mushroom": ["mushrooms"], "chicken": ["chicken breast"],
         "beef": ["a steak"], "bean": ["beans"]},
        ["", "without oil", "in the oven", "in a pan", "in the microwave", "for a baby",
         "overnight"],
    ),
    "garden": (
        {"plant": ["plant"], "water": ["water"], "prune": ["prune", "cut back", "trim"],
         "grow": ["grow"], "harvest": ["harvest", "pick"], "move": ["move", "transplant"],
         "feed": ["fertilise", "fertilize", "feed"], "kill": ["get rid of", "remove"]},
        {"rose": ["roses"], "tomato": ["tomatoes"], "apple": ["an apple tree"],
         "lawn": ["the lawn", "the grass"], "hedge": ["a hedge"], "herb": ["basil"],
         "mint": ["mint"], "weed": ["weeds"], "moss": ["moss"]},
        ["", "in spring", "in autumn", "in the shade", "in a pot", "on a balcony", "indoors"],
    ),
    "home": (
        {"clean": ["clean"], "repair": ["repair", "fix", "mend"], "paint": ["paint"],
         "install": ["install", "fit", "put in"], "remove": ["remove", "take out"],
         "insulate": ["insulate"], "measure": ["measure"]},
        {"window": ["a window"], "door": ["a door"], "sink": ["a sink"], "wall": ["a wall"],
         "roof": ["a roof"], "floor": ["a wooden floor"], "tile": ["tiles"],
         "toilet": ["a toilet"]},
        ["", "by myself", "in a rented flat", "in an old house", "without a drill", "cheaply",
         "in the bathroom"],
    ),
    "money": (
        {"open": ["open"], "close": ["close"], "save": ["put money into", "save money in"],
         "take": ["withdraw money from", "take money out of"], "compare": ["compare"],
         "inherit": ["inherit"], "tax": ["pay tax on", "pay taxes on"]},
        {"savings": ["a savings account"], "current": ["a current account", "a checking account"],
         "fund": ["a pension fund", "a retirement fund"], "stock": ["shares", "stocks"],
         "bond": ["bonds"], "loan": ["a student loan"], "house": ["a mortgage", "a home loan"]},
        ["", "jointly", "as a minor", "as a foreigner", "abroad", "when self-employed",
         "when retired"],
    ),
}  # fmt: skip
CRAFT_KINDS = ("how", "may", "time", "fails", "where", "cost")


ASKED: Words = {
    "dispose": (
        "How do I get rid of {m}?", "Where can I recycle {a}?", "Do you take back {a}?",
        "What do I do with {a} that I no longer use?", "How is {a} thrown away properly?",
        "Which bin does {a} go into?",
    ),
    "care": (
        "How do I look after {m}?", "What can I do so that {m} lasts longer?",
        "How should {a} be maintained?", "How do I keep {m} in good shape?", "care tips for {t}",
        "What prolongs the life of {m}?",
    ),
    "buy": (
        "Where can I buy {a}?", "Do you sell {o}s?", "How do I order {a}?",
        "I would like to get {a}, where do I find one?", "Where are {o}s available?",
    ),
    "price": (
        "How much is {t}?", "What does {t} cost?", "price of {t}", "What do you charge for {t}?",
        "How expensive is {a}?", "What would I pay for {t}?",
    ),
    "broken": (
        "{m} does not work any more, what now?", "What can I do about a broken {o}?",
        "{t} stopped working", "My {o} is defective", "Something is wrong with {m}",
        "How do I report a faulty {o}?",
    ),
    "warranty": (
        "How long is the warranty on {t}?", "For how many years is {t} guaranteed?",
        "Is {m} still covered if it breaks?", "What guarantee does {t} come with?",
        "When does the guarantee of {m} run out?",
    ),
    "use": (
        "How do I use {t}?", "How is {t} operated?", "Do you have instructions for {t}?",
        "Can you explain how {t} works?", "Where is the manual of {t}?",
    ),
    "lost": (
        "I lost {m}", "What if {m} is gone?", "I can't find {m} any more",
        "{m} went missing, what should I do?", "How do I replace a lost {o}?",
    ),
    "arrive": (
        "When will {m} arrive?", "How long does delivery of {t} take?", "How soon do I get {m}?",
        "In how many days is {t} delivered?", "What is the delivery time of {t}?",
    ),
    "track": (
        "Where is {m} now?", "How can I track {m}?", "Can I see how far {m} has come?",
        "Is {m} on its way yet?", "What is the status of {m}?",
    ),
    "cancel": (
        "How do I cancel {m}?", "I don't want {t} any more", "Can I still call off {t}?",
        "Please stop {m}", "I changed my mind about {t}",
    ),
    "return": (
        "Can I return {t}?", "How do I send {t} back?", "I want to give {t} back",
        "What are the steps to return {a}?", "By when must I have sent {t} back?",
    ),
    "rent": (
        "Can I rent {a}?", "Is it possible to borrow {a}?", "Do you hire out {o}s?",
        "I only need {a} for a day, is that possible?", "Are there {o}s to lend?",
    ),
    "fit": (
        "Which {o} is right for me?", "How do I choose {a}?", "What {o} do you recommend?",
        "Which {o} suits beginners?", "Help me pick {a}",
    ),
    "store": (
        "Where should I keep {m} in winter?", "How do I store {t}?",
        "What is the best place to put {t} away?", "Can {t} stay outside?",
    ),
    "clean": (
        "How do I clean {m}?", "What gets stains off {t}?", "How is {t} washed?",
        "{m} is dirty, what helps?", "Which cleaner is good for {t}?",
    ),
    "share": (
        "Can somebody else use {m}?", "May I share {t} with my family?",
        "Is {t} transferable?", "Can I lend {m} to a friend?", "Does {t} work for two people?",
    ),
    "change": (
        "How do I change {m}?", "Can I modify {t}?", "I need to correct something in {m}",
        "What if something in {m} is not right?", "Is it possible to edit {t} afterwards?",
    ),
    "copy": (
        "Can I have a copy of {m}?", "Please send me {m} again", "Where can I download {m}?",
        "I need {t} once more", "How do I get a duplicate of {t}?",
    ),
    "expire": (
        "How long is {m} valid?", "When does {m} expire?", "Until when can I use {t}?",
        "Does {t} run out?", "What is the expiry date of {m}?",
    ),
    "pay": (
        "How can I pay for {t}?", "Which cards do you accept for {t}?",
        "Can {t} be paid by invoice?", "What are the ways to pay for {t}?",
    ),
    "extend": (
        "Can I keep {t} for longer?", "How do I renew {m}?", "I want to prolong {m}",
        "Is it possible to extend {t}?", "Can {t} be continued?",
    ),
}  # fmt: skip
"""Lists what people ask of a help desk about one thing: {o} the thing, {a}, {t} and {m} with its
article, "the" and "my". The wordings of one wish share few words, different wishes the thing."""

_OWNED = ("dispose", "care", "buy", "price", "broken", "warranty", "use", "return", "rent", "fit",
          "store", "clean", "lost", "arrive")  # fmt: skip
_PAPERS = ("lost", "arrive", "track", "cancel", "change", "copy", "expire", "price", "pay",
           "share", "extend", "buy", "use")  # fmt: skip
DESKS: Mapping[str, tuple[Sequence[str], Sequence[str]]] = {
    "bikes": (_OWNED, ("bike", "helmet", "child seat", "pump", "lock", "trailer")),
    "kitchen": (_OWNED, ("kettle", "blender", "oven", "fridge", "toaster", "coffee machine")),
    "music": (_OWNED, ("guitar", "violin", "drum kit", "microphone", "amplifier", "piano")),
    "outdoor": (_OWNED, ("tent", "sleeping bag", "stove", "rucksack", "kayak", "rope")),
    "office": (_OWNED, ("printer", "desk", "monitor", "keyboard", "headset", "shredder")),
    "care": (_OWNED, ("wheelchair", "hearing aid", "walking frame", "thermometer", "mattress")),
    "travel": (_PAPERS, ("ticket", "seat reservation", "rail pass", "boarding pass", "visa")),
    "library": (_PAPERS, ("library card", "loan", "reservation", "reader pass", "audio guide")),
    "energy": (_PAPERS, ("contract", "bill", "meter reading", "tariff", "deposit")),
    "events": (_PAPERS, ("booking", "season ticket", "parking permit", "group ticket", "coupon")),
    "school": (_PAPERS, ("certificate", "course place", "student card", "transcript", "locker")),
    "health": (_PAPERS, ("prescription", "appointment", "referral", "sick note", "vaccine card")),
}


DOUBLING = frozenset(
    {"get", "put", "cut", "swap", "wrap", "gift-wrap", "drop", "plan", "log", "trim", "enrol",
     "bar", "quit", "set", "fit", "skip", "cancel", "transfer", "output", "split"}
)  # fmt: skip
"""Verbs whose last letter is doubled before -ing."""


def gerund(verb: str) -> str:
    """Return the form on -ing of a verb, of its first word if there are more."""
    first, _, rest = verb.partition(" ")
    if first.endswith("e") and not first.endswith(("ee", "oe", "ye")):
        first = first[:-1]
    elif first in DOUBLING:
        first += first[-1]
    return f"{first}ing {rest}".strip()


def acts(
    themes: Mapping[str, tuple[Words, Words, Sequence[str]]],
    kinds: Sequence[str],
    rng: random.Random,
) -> Iterator[tuple[str, list[str]]]:
    """Yield classes with all their wordings, a hundred of each theme."""
    for theme, (verbs, objects, places) in themes.items():
        every = list(itertools.product(kinds, verbs, objects, places))
        for kind, verb, thing, place in rng.sample(every, min(len(every), 110)):
            wordings = [
                form.format(v=act, g=gerund(act), o=f"{noun} {place}".strip())
                for form in KINDS[kind]
                for act in verbs[verb]
                for noun in objects[thing]
            ]
            yield "|".join((theme, kind, verb, thing, place)), wordings


def facts(rng: random.Random) -> Iterator[tuple[str, list[str]]]:
    """Yield classes with all their wordings."""
    for theme, (relations, names) in RELATIONS.items():
        every = list(itertools.product(relations, names))
        rng.shuffle(every)
        for relation, name in every:
            yield f"{theme}|{relation}|{name}", [f.format(n=name) for f in relations[relation]]


def desks() -> Iterator[tuple[str, list[str]]]:
    """Yield classes with all their wordings."""
    for desk, (wishes, things) in DESKS.items():
        for wish, thing in itertools.product(wishes, things):
            article = "an" if thing[0] in "aeiou" else "a"
            forms = {"o": thing, "a": f"{article} {thing}", "t": f"the {thing}", "m": f"my {thing}"}
            wordings = [form.format(**forms) for form in ASKED[wish]]
            yield f"{desk}|{wish}|{thing}", [text[0].upper() + text[1:] for text in wordings]


def rows_of(classes: Sequence[tuple[str, list[str]]], most: int, rng: random.Random) -> list[Row]:
    """Take one to six wordings of each class, some in lower case or without their last sign."""
    found: dict[str, str] = {}
    for name, wordings in classes:
        for wording in rng.sample(wordings, min(len(wordings), rng.choice((1, 2, 2, 3, 4, 6)))):
            style = rng.random()
            text = wording.lower() if style < 0.25 else wording
            text = text.rstrip("?.") if style > 0.75 else text
            found.setdefault(text, name)
    rows = list(found.items())
    rng.shuffle(rows)
    return rows[:most]


def families(most: int = 4000) -> dict[str, list[Row]]:
    """Return the rows of each set, the same at every call."""
    rng = random.Random("question families")
    sets = {
        "families_service": list(acts(SERVICE, tuple(KINDS), rng)),
        "families_facts": list(facts(rng)),
        "families_craft": list(acts(CRAFT, CRAFT_KINDS, rng)),
        "families_desk": list(desks()),
    }
    found = {}
    for name, classes in sets.items():
        rng.shuffle(classes)
        found[name] = rows_of(classes, most, rng)
    return found


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=4000)
    options = parser.parse_args()
    for name, rows in families(options.rows).items():
        body = "".join(json.dumps({"t": t, "c": c}) + "\n" for t, c in rows)
        (options.out / f"{name}.jsonl.gz").write_bytes(gzip.compress(body.encode(), mtime=0))
        print(f"{name}: {len(rows)} questions of {len({c for _, c in rows})} classes")


if __name__ == "__main__":
    main()
