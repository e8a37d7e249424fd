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
# # A cache for a LlamaIndex app, in one line
#
# `install` puts a cache before `Settings.llm`: engines, agents and evaluators that are made from
# now on use it. What was asked before is answered in about a millisecond; what was asked in other
# words too, where the evidence says that the old answer is the answer.
#
# This notebook needs no key and no network: a stand-in plays the model, with a delay of 0.4 s.

# %%
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one question keeps no second thread busy

import re
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
from llama_index.core import Document, Settings, SummaryIndex
from llama_index.core.llms import ChatMessage, CompletionResponse, CustomLLM, LLMMetadata

from llamaindex_tiered_cache import cache_of, cache_report, install

plt.style.use("plain.mplstyle")

RULES = {
    "renew": "In the app, twice at most.",
    "borrow": "With the card, ten things at a time.",
    "reserve": "At the desk or in the app; that is free.",
    "fine": "50 cents for each day that it comes late.",
    "Monday": "On Mondays from 10 to 18.",
    "Sunday": "On Sundays the library is closed.",
}


class StandIn(CustomLLM):
    """Answers by the rule whose name is in the question, after 0.4 s."""

    @property
    def metadata(self):
        return LLMMetadata(model_name="gpt-4o-mini")

    def complete(self, prompt, formatted=False, **kwargs):
        time.sleep(0.4)
        question = re.split(r"Query:|user:", prompt)[-1]
        rules = [line for line in prompt.splitlines() if line.strip() in KNOWN]
        found = next((rule for name, rule in RULES.items() if name in question), None)
        return CompletionResponse(text=(rules[0] if len(rules) == 1 else found) or "I do not know.")

    def stream_complete(self, prompt, formatted=False, **kwargs):
        yield self.complete(prompt)


KNOWN = set(RULES.values())

# %% [markdown]
# ## The line
#
# One SQLite file, shared by all processes that open it. The policy is the default: of what is
# served by meaning, at most 2 % may be wrong.

# %%
folder = Path(tempfile.mkdtemp())
Settings.llm = StandIn()
llm = install(f"sqlite:///{folder / 'answers.db'}")
cache = cache_of(llm)
cache.preload()  # else the first question waits for the embedding model


# %%
def told(question, ask):
    """Ask, and tell who answered, why, and how long it took."""
    started = time.perf_counter()
    with cache.trace() as trace:
        answer = ask(question)
    seconds = time.perf_counter() - started
    looked = trace.events[0]
    who = str(looked.tier) if looked.tier else f"model ({looked.reason})"
    print(f"{question:43s} {who:18s} {1000 * seconds:6.0f} ms  {answer}")
    times.setdefault(str(looked.tier or "model"), []).append(1000 * seconds)
    return who


def chat(question):
    return llm.chat([ChatMessage(question)]).message.content


times = {}
served = [
    told(question, chat)
    for question in (
        "How do I renew a book?",
        "How do I renew a book?",
        "How can I renew a book?",
        "Is the library open on Monday?",
        "Is the library open on Sunday?",
    )
]

# %% [markdown]
# The second is an *exact* hit, the third one *by meaning*. Another day is another question, however
# near its words are: the guard leaves it to the model.
#
# ## A query engine: a changed document never gets an old answer
#
# In an engine `query_str` is what is matched by meaning. The template and the retrieved context are
# compared exactly. So the same question over other documents is another request.

# %%
engine = SummaryIndex.from_documents([Document(text=RULES["fine"])]).as_query_engine()
question = "What does a late book cost me?"
over_documents = [told(question, engine.query), told(question, engine.query)]

changed = RULES["fine"].replace("50 cents", "one euro")
KNOWN.add(changed)
engine = SummaryIndex.from_documents([Document(text=changed)]).as_query_engine()
over_documents += [told(question, engine.query), told(question, engine.query)]

# %% [markdown]
# ## What it saves
#
# Everybody asks the same few things. `model (audit)` checks what would have been served: of the
# first hits of an app some are asked for real, fewer as answers agree. Times are of this machine;
# the model's is that of the stand-in.

# %%
for thing in ("renew a magazine", "reserve a seat", "borrow a film", "pay a fine"):
    for wording in ("How do I {}?", "How do I {}?", "How can I {}?", "how would I {}"):
        told(wording.format(thing), chat)

figure, axes = plt.subplots(figsize=(9.5, 2.9))
names = [name for name in ("semantic", "exact", "model") if name in times]
axes.boxplot(
    [times[name] for name in names],
    orientation="horizontal",
    widths=0.55,
    whis=(10, 90),
    showfliers=False,
    patch_artist=True,
    boxprops={"facecolor": "#56B4E9"},
    medianprops={"color": "black"},
)
axes.set_yticks(range(1, len(names) + 1), [f"{name} ({len(times[name])})" for name in names])
axes.set_xscale("log")
axes.xaxis.set_major_formatter("{x:g}")
axes.set_xlabel("time to the answer through LlamaIndex, ms (log scale)")
axes.set_title("Who answered (how many), and how long it took: median, quartiles, 10 and 90 %")
plt.show()

# %% [markdown]
# ## Is everything cached, and what did it do?

# %%
print(*cache_report(), sep="\n")
stats = cache.stats()
print(f"{stats.hits} of {stats.lookups} lookups were hits: {stats.hits_by_tier}")
print(f"why not: {dict(stats.misses)}, explores: {stats.explores}")

# %% [markdown]
# What was wrong is taken back by its id, in every process.

# %%
mark = llm.chat([ChatMessage("How do I renew a book?")]).additional_kwargs["tiered_cache"]
cache.feedback(mark["entry_id"], correct=False)
taken_back = told("How do I renew a book?", chat)
cache.close()

# %% [markdown]
# [docs/llamaindex.md](../docs/llamaindex.md) goes on: agents, streams, embeddings, custom engines.
