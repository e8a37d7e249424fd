# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Thresholds that learn
#
# Three policies on one stream of requests:
#
# - `Static(0.92)`: at or above a cosine, unless the guard objects. Learns nothing.
# - `Feedback()`: a threshold between 0.90 and 0.99 that moves with what users say of the hits.
#   Here they say of *every* hit whether it was right, which no real users do.
# - `Verified(max_error)`: serves at once what public data proves, and then what its own labels do.
#   These are the model's fresh answers to what it did not dare to serve, and to some hits that it
#   checks; no user says anything.
#
# The stream: 604 questions in 151 groups of one answer, many of them near misses of another group,
# and 1,796 times one of them again within a frame ("Hello, …", "… I could not find it anywhere."):
# 2,400 requests, no two of the same wording, in a seeded order. It is a small and hard stream: a
# group comes some 16 times, among near misses.

# %%
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import logging
import random
from collections import Counter

import matplotlib.pyplot as plt
import numpy as np
from questions import Embedded, stream, written

from shared_core import (
    Answer,
    Explore,
    Feedback,
    Hit,
    Miss,
    Request,
    ResponseCache,
    Static,
    Verified,
)
from shared_core.thresholds.verified import cold

# The log warns when a policy stops serving. Here the figures show it.
logging.getLogger("tiered_cache").setLevel(logging.ERROR)

plt.style.use("plain.mplstyle")
BLUE, RED, GREEN, PINK, ORANGE, SKY, BLACK = plt.rcParams["axes.prop_cycle"].by_key()["color"]

SEED, REQUESTS = 0, 2400
questions = written()
requests = stream(questions, REQUESTS, SEED)
embedder = Embedded(one.text for one in requests)


# %% [markdown]
# Each policy gets a cache of its own in memory and sees the requests one by one. What is not
# answered is asked of the model, which knows the answer of each group and words it alike each
# time, so "are these two answers equal" needs no more than a comparison (`judge=`). Audits are
# drawn by chance; to have the same figures each time, the chance is seeded here.


# %%
class Seeded(Verified):
    """Verified, with audits that are the same in every run."""

    def decide(self, question, candidates, state, rng):
        return super().decide(question, candidates, state, CHANCE)


def truth_now(at, one):
    return one.answer


def run(policy, requests=requests, truth=truth_now, say=False, look=None, tagged_at=None):
    """Return for each request: 1 right hit, -1 wrong hit, 0 asked of the model; and why that."""
    global CHANCE
    CHANCE = random.Random(SEED)
    outcomes, reasons = np.zeros(len(requests), int), []
    with ResponseCache.open(
        threshold=policy, embedder=embedder, judge=lambda a, b: a.text == b.text, timeout=30
    ) as cache:
        for at, one in enumerate(requests):
            if at == tagged_at:
                cache.bump("rules")
            request, right = Request.of(one.text, model="stand-in"), truth(at, one)
            found = cache.lookup(request)
            match found:
                case Hit(answer=answer, entry_id=entry_id):
                    outcomes[at] = 1 if answer.text == right else -1
                    reasons.append("hit")
                    if say:
                        cache.feedback(entry_id, answer.text == right)
                case Explore(reason=reason) | Miss(reason=reason):
                    kind = "explored" if isinstance(found, Explore) else "missed"
                    reasons.append(f"{kind}: {reason}")
                    cache.store(request, Answer(right), tags=("rules",))
            if look is not None:
                look(at, cache)
    return outcomes, reasons


def summary(name, outcomes):
    hits, wrong = int(np.sum(outcomes != 0)), int(np.sum(outcomes < 0))
    first = int(np.flatnonzero(outcomes)[0]) + 1 if hits else "none"
    share = f"{wrong / hits:6.1%}" if hits else ""
    print(f"{name:26s} {hits:5d} hits {wrong:4d} wrong {share}   first hit at request {first}")


beliefs = []


def look(at, cache):
    """Note every 50 requests what the policy says of itself."""
    if at % 50 == 49:
        beliefs.append((at + 1, cache.stats().policy))


# %%
runs, reasons = {}, {}
for name, policy, options in (
    ("Static(0.92)", Static(0.92), {}),
    ("Feedback(), all hits", Feedback(), {"say": True}),
    ("Verified(0.05)", Seeded(0.05), {"look": look}),
    ("Verified(0.02), default", Seeded(0.02), {}),
):
    runs[name], reasons[name] = run(policy, **options)
    summary(name, runs[name])

# %% [markdown]
# ## Hits, and what of them is wrong
#
# On the left how many requests each has answered by meaning; on the right how many of these
# answers were wrong. The dashed lines are the bounds: 5 % and 2 % of the hits. The static
# threshold has no bound. It was not chosen for this stream, and one had to know the labels to say
# that it happens to suit it.

# %%
STYLES = dict(zip(runs, ((RED, "-"), (PINK, "-."), (BLUE, "-"), (GREEN, "-")), strict=True))
figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 4.2))
number = np.arange(1, REQUESTS + 1)
for name, outcomes in runs.items():
    colour, line = STYLES[name]
    hits, wrong = np.cumsum(outcomes != 0), np.cumsum(outcomes < 0)
    left.plot(number, hits, color=colour, linestyle=line, label=name)
    right.plot(hits, wrong, color=colour, linestyle=line, label=name)
most = max(int(np.sum(outcomes != 0)) for outcomes in runs.values())
for error, colour in ((0.05, BLUE), (0.02, GREEN)):
    right.plot([0, most], [0, error * most], color=colour, linestyle="--", linewidth=1.2)
    right.text(most, error * most, f"{error:.0%} ", ha="right", va="bottom", color=colour)
left.set_xlabel("requests")
left.set_ylabel("semantic hits so far")
left.set_title("What is served by meaning")
left.legend(loc="upper left")
right.set_xlabel("semantic hits so far")
right.set_ylabel("wrong ones so far")
right.set_title("What of that is wrong; dashed: the bounds")
plt.show()

# %% [markdown]
# At first `Verified(0.05)` is above its bound: this stream is harder than the public data that it
# goes by then, and its own labels are few. Its bound is for the life of an app, and after some 300
# hits the labels have brought it below. Whoever needs the bound at every moment takes
# `guarantee="anytime"`, which serves later and less. The default, 2 %, ends well below its bound,
# as `Feedback` and the static threshold do here, which promise nothing.
#
# ## No mystery: why a question was asked
#
# The reason is `risk` for a candidate that is not sure enough, and `audit` for a hit that is asked
# for real to see whether the promise holds: more of the first ones than of the later. `guard`: all
# that is near differs in what no evidence outweighs; `absent`: there is nothing to look at. With
# `start="own"`, or an embedder that public data says nothing of, every candidate is asked about at
# first, and the reason is `learning`.

# %%
WIDTH = 200
name = "Verified(0.05)"
kinds = {
    "hit": (BLUE, "hit"),
    "explored: audit": (SKY, "asked: audit of a hit"),
    "explored: risk": (ORANGE, "asked: risk"),
    "other": ("#999999", "asked: guard, time, no candidate"),
}
starts = np.arange(0, REQUESTS, WIDTH)
counts = [Counter(reasons[name][start : start + WIDTH]) for start in starts]
figure, axes = plt.subplots()
base = np.zeros(len(starts))
for kind, (colour, label) in kinds.items():
    if kind == "other":
        heights = np.array([WIDTH - sum(c[known] for known in kinds) for c in counts])
    else:
        heights = np.array([c[kind] for c in counts])
    shares = 100 * heights / WIDTH
    axes.bar(starts + WIDTH / 2, shares, 0.9 * WIDTH, base, color=colour, label=label)
    base += shares
axes.set_xlabel("requests (bars of 200)")
axes.set_ylabel("% of requests")
axes.set_xlim(0, REQUESTS)
axes.set_ylim(0, 100)
axes.set_title(f"{name}: what becomes of a request")
axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
plt.show()

# %% [markdown]
# ## What it says of itself
#
# `cache.stats()` has an estimate of the share of wrong hits, and the 95 % interval of the labels
# behind it. Here the truth is known, too: the share among the last 300 hits.

# %%
figure, axes = plt.subplots()
outcomes = runs["Verified(0.05)"]
served = np.flatnonzero(outcomes)
last = [np.mean(outcomes[served[max(0, k - 300) : k]] < 0) for k in range(100, len(served) + 1)]
axes.plot(served[99:] + 1, 100 * np.array(last), color=BLACK, label="truth: of the last 300 hits")
told = [(at, p) for at, p in beliefs if p["error_per_hit"] is not None]
x = [at for at, _ in told]
low, high = 100 * np.array([p["error_per_hit_95"] for _, p in told]).T
axes.fill_between(x, low, high, color=BLUE, alpha=0.2, linewidth=0, label="95 % interval")
axes.plot(
    x, [100 * p["error_per_hit"] for _, p in told], color=BLUE, label="its estimate", linestyle="-."
)
axes.axhline(5, color=BLUE, linestyle="--", linewidth=1.2, label="bound: 5 %")
axes.set_xlim(0, REQUESTS)
axes.set_ylim(0, 15)
axes.set_xlabel("requests")
axes.set_ylabel("wrong answers, % of hits")
axes.set_title("Verified(0.05): estimate and truth")
axes.legend(loc="upper left", ncols=2)
plt.show()

# %% [markdown]
# For the first 800 requests it believes itself better than it is: it estimates 4 %, and 6 to 9 %
# are wrong. Public data does not know such a stream, and the labels are too few to tell, as the
# interval says. Later it is too careful: it estimates more than is wrong. That costs hits; the
# other way round costs trust.
#
# ## Cold start, with the shipped prior and without
#
# With the default embedder `Verified` begins with a prior fitted to public sets; with an embedder
# that it does not know, with next to none (`cold()`). Five orders of arrival, 1,200 requests each.

# %%
ORDERS = range(5)
figure, axes = plt.subplots()
started = {"shipped prior": [], "no prior": []}
for order in ORDERS:
    arriving = random.Random(order).sample(requests, 1200)
    for name, prior, colour, line in (
        ("shipped prior", None, BLUE, "-"),
        ("no prior", cold(), RED, "--"),
    ):
        outcomes, _ = run(Seeded(0.05, prior=prior), arriving)
        axes.plot(
            np.arange(1, 1201),
            np.cumsum(outcomes != 0),
            color=colour,
            linestyle=line,
            linewidth=1.3,
            label=name if order == ORDERS[0] else None,
        )
        first = np.flatnonzero(outcomes)
        started[name].append((int(first[0]) + 1, int(np.sum(outcomes < 0)), len(first)))
axes.set_xlabel("requests")
axes.set_ylabel("semantic hits so far")
axes.set_title("Verified(0.05) in five orders of arrival")
axes.legend(loc="upper left")
plt.show()
for name, rows in started.items():
    print(f"{name}:")
    for first, wrong, hits in rows:
        print(f"  first hit at request {first}, {wrong:2d} of {hits} wrong, {wrong / hits:.1%}")

# %% [markdown]
# With the prior hits begin after 6 to 48 requests instead of 200 to 500, and after 1,200 there are
# nearly half as many more. They are paid for with more wrong ones: 2 to 6 % instead of 1 to 3 %,
# and in two of five orders more than the bound by then. The plan is chosen with a confidence, not
# with certainty, and while labels are few luck weighs most. A prior of your own comes from
# `tune(pairs).prior()`.
#
# ## When the world changes
#
# At request 1,200 half of the groups get another answer: new prices, new rules. What is stored is
# then wrong for them. Wordings are all new, so no exact hit hides the change. It is as hard a
# change as there is, and nobody told the cache. In the last run somebody does: the answers were
# stored with `tags=("rules",)`, and `cache.bump("rules")` makes them old at once, while what was
# learnt stays.

# %%
CHANGED = set(random.Random(SEED).sample(range(151), 75))
HALF = REQUESTS // 2


def truth_then(at, one):
    return f"Since today: {one.answer}" if at >= HALF and one.group in CHANGED else one.answer


drifted = {}
for name, policy, options in (
    ("Static(0.92)", Static(0.92), {}),
    ("Verified(0.05)", Seeded(0.05), {}),
    ("Verified(0.05), and a bump", Seeded(0.05), {"tagged_at": HALF}),
):
    drifted[name], _ = run(policy, truth=truth_then, **options)
    before, after = (int(np.sum(part < 0)) for part in np.split(drifted[name], [HALF]))
    hits = int(np.sum(drifted[name][HALF:] != 0))
    print(f"{name:26s} wrong: {before:3d} before the change, {after:3d} of {hits:3d} hits after it")

# %%
SLIDING = 100
figure, panels = plt.subplots(1, 2, figsize=(9.5, 4.2))
for (name, outcomes), (colour, line) in zip(
    drifted.items(), ((RED, "-"), (BLUE, "-"), (GREEN, "-.")), strict=True
):
    ends = np.arange(SLIDING, REQUESTS + 1, 10)
    hits = [np.mean(outcomes[end - SLIDING : end] != 0) for end in ends]
    wrong = [np.mean(outcomes[end - SLIDING : end] < 0) for end in ends]
    for axes, shares in zip(panels, (hits, wrong), strict=True):
        axes.plot(ends, 100 * np.array(shares), color=colour, linestyle=line, label=name)
for axes, label, title in zip(
    panels, ("hits", "wrong answers"), ("What is served", "What is served wrongly"), strict=True
):
    axes.axvline(HALF, color="black", linestyle=":", linewidth=1.4)
    axes.set_ylim(0, 100 if axes is panels[0] else 60)
    axes.set_xlabel("requests (dotted: half of the answers change)")
    axes.set_ylabel(f"{label}, % of the last {SLIDING} requests")
    axes.set_title(title)
panels[1].legend(loc="upper left")
plt.show()

# %% [markdown]
# The static threshold goes on for ever, or until `ttl` ends the old entries. `Verified` sees in
# its labels and audits that what was right is wrong, forgets what it learnt before, and stops
# serving by meaning until new labels prove something again: here not much, as the old answers are
# still among the candidates. The bump takes them away, and the hits come back with the new
# answers. Exact repeats are outside of all this: `ttl`, `bump` and `invalidate` are their only
# remedy.
#
# ## No wrong answer for ever
#
# A question that was served by meaning twice is asked for real at its third appearance, and has
# its own answer then.


# %%
class Unchecked(random.Random):
    """Chance that never has a hit checked."""

    def random(self):
        return 0.999


CHANCE = random.Random(SEED)
with ResponseCache.open(threshold=Seeded(0.05), embedder=embedder, timeout=30) as cache:
    for one in requests:
        request = Request.of(one.text, model="stand-in")
        if not isinstance(cache.lookup(request), Hit):
            cache.store(request, Answer(one.answer))
    CHANCE = Unchecked()  # so that no hit below is one of those that are checked
    again = Request.of("By the way: How do I freeze my card?", model="stand-in")
    said = []
    for _ in range(4):
        found = cache.lookup(again)
        if isinstance(found, Hit):
            said.append(str(found.tier))
        else:
            said.append(found.reason)
            cache.store(again, Answer("Freeze the card in the app."))
for appearance, what in enumerate(said, 1):
    print(f"appearance {appearance}: {what}")

# %% [markdown]
# [docs/adaptive.md](../docs/adaptive.md) has the formulas, and what the bound promises and what
# not.
