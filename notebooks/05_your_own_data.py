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
# # Your own questions
#
# Take a log of your app. See which questions a cache would have answered, and with what. Say of
# some whether that answer fits. Then choose: so much money, so many wrong answers a day.
#
# Change `LOG` to an export of yours: runs of LangSmith, observations of Langfuse, requests of
# OpenAI, or a CSV with the columns `question` and `answer`
# ([docs/tuning.md](../docs/tuning.md#logs) has them all). Nothing leaves this machine. The sample
# holds what a bank's support bot was asked in ten days, 1,000 requests.

# %%
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import random
import tempfile
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from labelling import Labels
from questions import known_answer

from shared_core import Verified, policy_from_json, policy_to_json, tune
from shared_core.learning import BadLine, LoggedCall, neighbours_of, read_log
from shared_core.thresholds import interval
from shared_core.usage import price

plt.style.use("plain.mplstyle")
BLUE, RED, GREEN = "#0072B2", "#D55E00", "#009E73"

SAMPLE = Path("data/support.csv")
LOG = Path(os.environ.get("TIERED_CACHE_LOG", SAMPLE))  # <- your export
MAX_ERROR = 0.05  # of the answers served by meaning, as many may be wrong
REQUESTS_A_DAY = 10_000  # to scale money and mistakes; None: as many as in the log

# %% [markdown]
# ## What the log holds
#
# A line that cannot be used says why. Lines that are no answered question (runs of tools, failed
# calls) are counted apart.

# %%
lines = list(read_log(LOG))
calls = [line for line in lines if isinstance(line, LoggedCall)]
bad = [line for line in lines if isinstance(line, BadLine)]
print(f"{len(calls):,} calls, {len(bad):,} other lines")
for reason, count in Counter(line.reason for line in bad).most_common(5):
    print(f"  {count:,}: {reason}")

times = [call.time for call in calls if call.time is not None]
days = max(1.0, (max(times) - min(times)) / 86_400) if times else 1.0
requests_a_day = REQUESTS_A_DAY or len(calls) / days
costs = [
    price(call.model or "", call.answer.usage or {}) for call in calls if call.answer is not None
]
known_costs = [cost for cost in costs if cost]
dollars_a_call = float(np.mean(known_costs)) if known_costs else 0.0
print(f"{days:.0f} days, {len(calls) / days:,.0f} calls a day, ${dollars_a_call:.5f} a call")

# %% [markdown]
# ## What a cache would have made of it
#
# Every call is held against those before it with the same model, system message, history and
# settings. The same words again are *exact repeats*: they need no policy. For the others there is
# the nearest earlier question, with the answer that a cache would have considered.

# %%
neighbours = neighbours_of(calls)
pairs = random.Random(0).sample(neighbours.pairs, len(neighbours.pairs))
print(f"{neighbours.repeats:,} of {neighbours.calls:,} calls are exact repeats")
print(f"{len(pairs):,} have an earlier question in their scope")
for reason, count in neighbours.unmatched.items():
    print(f"{count:,} are matched by meaning in no case ({reason})")

print("\nsimilarity  asked | cached")
for pair in sorted(pairs[:9], key=lambda pair: -pair.similarity):
    asked, cached = pair.questions
    refused = f"   [guard: {pair.differences[0].kind}]" if pair.differences else ""
    print(f"{pair.similarity:10.3f}  {asked} | {cached}{refused}")

# %% [markdown]
# ## Say whether the answer fits
#
# Type `y`, `n` or `s` (skip) into the field; no Enter is needed. Labels are kept in a file beside
# your log, so you can go on tomorrow. The pairs come in a random order: however many you label,
# they are a fair sample. Two hundred take a quarter of an hour.
#
# For the sample the right answers are known, so here the labels are filled in. Where you have no
# label yet, the default judge's word on the two answers is taken; what it cannot tell either counts
# as wrong, so the first verdict is a careful one.

# %%
labels = Labels(pairs, None if LOG == SAMPLE else LOG.with_suffix(".labels.csv"))
if LOG == SAMPLE:
    labels.fill(known_answer)
labels.widget()

# %%
judged = {pair.questions: pair.same for pair in pairs if pair.same is not None}
agree = sum(judged[both] == label for both, label in labels.items() if both in judged)
both_know = sum(both in judged for both in labels)
print(
    f"{len(labels):,} labels of yours; the judge can tell {len(judged):,} of {len(pairs):,} pairs"
)
print(f"where both say something, it agrees with you on {agree:,} of {both_know:,}")

rows = neighbours.rows(labels, unknown=False)
found = tune(rows, MAX_ERROR)
strict = tune(rows, 0.02)
print(f"\nat most {MAX_ERROR:.0%} wrong: {found.verdict}")
print(f"at most 2% wrong: {strict.verdict}")

# %% [markdown]
# ## How many labels do I need for 2 %?
#
# What labels *show* depends on how many there are. On the left: with so many labelled hits at a
# threshold, which share of wrong answers can be ruled out with 95 % confidence. For 2 % it takes
# 183 of which none is wrong, or 436 with three wrong ones. `tune` asks for a few more, as it looks
# at many thresholds.
#
# On the right: your own labels, as if you had stopped earlier, the mean of twenty draws. At 0 the
# labels show no threshold yet; a bound of 5 % needs far fewer than one of 2 %.

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 4.2))
counts = np.unique(np.geomspace(20, 2000, 60).astype(int))
for wrong, colour in ((0, GREEN), (3, BLUE), (10, RED)):
    bounds = [100 * interval(wrong, max(n, wrong))[1] for n in counts]
    left.plot(counts, bounds, color=colour, label=f"{wrong} wrong" if wrong else "none wrong")
for error in (0.02, MAX_ERROR):
    left.axhline(100 * error, color="black", linestyle="--", linewidth=1.2)
    left.text(19, 100 * error, f"{error:.0%}", va="top")
left.set_xscale("log")
left.set_xticks(
    [20, 50, 100, 200, 500, 1000, 2000], ["20", "50", "100", "200", "500", "1,000", "2,000"]
)
left.minorticks_off()
left.set_ylim(0, 12)
left.set_xlabel("labelled hits (log scale)")
left.set_ylabel("wrong answers not ruled out, % of hits")
left.set_title("What so many labels can show")
left.legend(loc="upper right")

labelled = [row for row in rows if row.same is not None]
alone = [row for row in rows if row.same is None]
sizes = [size for size in (50, 100, 200, 300, 400, 600, 1000, 2000) if size < len(labelled)]
sizes.append(len(labelled))
rng = random.Random(0)
for error, colour in ((0.02, BLUE), (MAX_ERROR, GREEN)):
    served = []
    for size in sizes:
        share = size / len(labelled)
        tuned = [
            tune(rng.sample(labelled, size) + alone[: round(share * len(alone))], error)
            for _ in range(20 if size < len(labelled) else 1)
        ]
        rates = [100 * one.point.hit_rate if one.point else 0 for one in tuned]
        served.append(np.mean(rates))
    right.plot(sizes, served, color=colour, marker="o", label=f"at most {error:.0%} wrong")
right.set_ylim(-3, 100)
right.set_xlabel("labelled pairs")
right.set_ylabel("served by meaning, % of what is no repeat")
right.set_title("What your labels let be served")
right.legend(loc="upper left")
plt.show()

# %% [markdown]
# ## Money against mistakes
#
# Each point is a threshold. To the right it saves more, further up it answers wrongly more often.
# Exact repeats, which are never wrong in this sense, are not in it. Move the slider.

# %%
matched = len(rows) / neighbours.calls  # of all calls, those that are no exact repeat


def a_day(point):
    """Return dollars saved and wrong answers in a day at a threshold."""
    hits = requests_a_day * matched * point.hit_rate
    return hits * dollars_a_call, hits * point.wrong / point.served


def draw(threshold):
    """Draw the curve with one threshold marked, and say what it means."""
    points = [point for point in found.curve if point.threshold >= 0.5]
    chosen = min(points, key=lambda point: abs(point.threshold - threshold))
    dollars, wrong = np.array([a_day(point) for point in points]).T
    _, axes = plt.subplots(figsize=(9.5, 4.2))
    axes.plot(dollars, wrong, color=BLUE, marker=".", markersize=5)
    for point in points:
        if round(100 * point.threshold) in (60, 70, 80, 90, 96, 98):
            axes.annotate(
                f"{point.threshold:.2f}",
                a_day(point),
                xytext=(-6, 6),
                textcoords="offset points",
                ha="right",
            )
    axes.plot(*a_day(chosen), color=RED, marker="o", markersize=11)
    axes.set_xlabel(f"saved, dollars a day (at {requests_a_day:,.0f} requests a day)")
    axes.set_ylabel("wrong answers a day")
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    saved, mistakes = a_day(chosen)
    low, high = (100 * share for share in chosen.interval)
    axes.set_title(
        f"at {chosen.threshold:.2f}: ${saved:,.2f} saved, {mistakes:,.0f} wrong answers a day"
    )
    counted = f"{chosen.wrong} of {chosen.served} labelled hits are wrong"
    axes.text(
        0.02, 0.92, f"{counted} (95 % interval {low:.1f}-{high:.1f} %)", transform=axes.transAxes
    )
    plt.show()


draw(found.threshold or 0.9)

# %%
from ipywidgets import FloatSlider, interact

_ = interact(draw, threshold=FloatSlider(found.threshold or 0.9, min=0.5, max=0.99, step=0.01))

# %% [markdown]
# ## Take it home
#
# A threshold that your labels show is written to a file, and read by your app. Where they show
# none, the default is taken: `Verified` needs no labels of yours, serves at first what public data
# proves, and learns from your traffic.

# %%
folder = Path(tempfile.mkdtemp())
policy = found.policy() if found.threshold is not None else Verified(MAX_ERROR)
about = {"log": LOG.name, "labels": len(labels), "verdict": found.verdict}
(folder / "policy.json").write_text(policy_to_json(policy, **about))
print((folder / "policy.json").read_text())

# %%
from langchain_core.language_models import FakeListChatModel

from langchain_tiered_cache import TieredCache

with TieredCache(threshold=policy_from_json((folder / "policy.json").read_text())) as cache:
    model = FakeListChatModel(responses=["the model's own answer"], cache=cache)
    again, first = max(pairs, key=lambda pair: pair.similarity * (not pair.differences)).questions
    for question in (first, again):
        told = model.invoke(question)
        mark = told.response_metadata["tiered_cache"]
        print(f"{question:55s} {mark.get('tier', 'model')}")

# %% [markdown]
# The same from the command line: `tiered-cache tune LOG --pairs pairs.csv`, then `tiered-cache
# review pairs.csv`, then `tiered-cache tune pairs.csv --export policy.json`. To fill the cache with
# the answers of the log: `tiered-cache warm LOG sqlite:///answers.db`.
