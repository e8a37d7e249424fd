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
# # A cache for a LangChain app, in one line
#
# Users ask the same things again, in the same words or in others. `TieredCache` answers the first
# kind from its store in well under a millisecond, the second kind where the evidence says that the
# old answer is the answer, and leaves the rest to the model.
#
# This notebook needs no key and no network: a stand-in plays the chat model, with a delay of 0.4
# s. Everything else is what an app uses.

# %%
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one question keeps no second thread busy

import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from questions import written

from langchain_tiered_cache import TieredCache

plt.style.use("plain.mplstyle")

QUESTIONS = written()
ANSWERS = {question.text: question.answer for question in QUESTIONS}


class StandIn(BaseChatModel):
    """Answers what it knows, after 0.4 s."""

    temperature: float = 0.0

    @property
    def _llm_type(self):
        return "stand-in"

    @property
    def _identifying_params(self):
        return {"model_name": "gpt-4o-mini", "temperature": self.temperature}

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        time.sleep(0.4)
        asked = messages[-1].text.replace("How can I", "How do I")
        known = (text for text in ANSWERS if text in asked)
        text = ANSWERS.get(max(known, key=len, default=""), "That is something I do not know.")
        tokens = {"input_tokens": sum(len(m.text) for m in messages) // 4 + 4}
        tokens |= {"output_tokens": len(text) // 4 + 1}
        usage = {**tokens, "total_tokens": sum(tokens.values())}
        message = AIMessage(text, usage_metadata=usage)
        return ChatResult(generations=[ChatGeneration(message=message)])


# %% [markdown]
# ## The line
#
# One SQLite file, shared by all processes that open it. The policy is the default: of the answers
# that it serves by meaning, at most 2 % may be wrong. What public data proves is served from the
# first request on.

# %%
folder = Path(tempfile.mkdtemp())
cache = TieredCache(f"sqlite:///{folder / 'answers.db'}")
set_llm_cache(cache)

cache.preload()  # else the first question waits for the embedding model
model = StandIn()


# %%
def ask(prompt, model=model):
    """Ask, and tell who answered, why, and how long it took."""
    started = time.perf_counter()
    with cache.cache.trace() as trace:
        message = model.invoke(prompt)
    seconds = time.perf_counter() - started
    looked = trace.events[0]
    who = str(looked.tier) if looked.tier else f"model ({looked.reason})"
    cosine = "" if looked.similarity is None else f"{looked.similarity:.3f}"
    question = prompt if isinstance(prompt, str) else prompt[-1][1]
    print(f"{question:47s} {who:18s} {cosine:>6s} {1000 * seconds:7.1f} ms  {message.text}")
    return message


print(f"{'question':47s} {'answered by':18s} cosine       time  answer")
said = {}
for question in (
    "How do I freeze my card?",
    "How do I freeze my card?",
    "How can I freeze my card?",
    "How do I convert miles to kilometres?",
    "How do I convert kilometres to miles?",
    "How do I raise my card limit?",
    "How do I lower my card limit?",
):
    said[question] = ask(question)

# %% [markdown]
# The second is an *exact* hit, the third a *semantic* one. Miles to kilometres and kilometres to
# miles have nearly one vector and two answers, and so have a higher and a lower limit: the guard
# has them asked of the model.
#
# ## An answer says where it is from
#
# `entry_id` names this serving, and is what feedback refers to.

# %%
served = said["How can I freeze my card?"]
mark = served.response_metadata["tiered_cache"]
for name, value in mark.items():
    print(f"{name:11s} {value if name != 'entry_id' else value[:16] + '…'}")

# %% [markdown]
# ## What must not be shared is not
#
# Only the wording of the last question is matched by meaning. Everything else that an answer
# depends on is compared byte for byte: model and parameters, system prompt, history, tools,
# schema, tenant. A temperature above 0 asks for variety, so there only the very same request is
# answered.

# %%
ask([("system", "You are a bank's assistant. Be brief."), ("human", "How do I freeze my card?")])
ask([("system", "You sell freezers. Be brief."), ("human", "How do I freeze my card?")])
ask([("system", "You sell freezers. Be brief."), ("human", "How can I freeze my card?")])
varied = ask("How do I freeze my card?", StandIn(temperature=0.7))

# %% [markdown]
# ## What it saves
#
# Forty questions, then the same forty, then each with other words around it. Some of the first hits
# by meaning are checked: the model is asked all the same (`audit`), and its answer is a label. The
# more labels agree, the fewer are checked. Times are of this machine; the model's is that of the
# stand-in.

# %%
asked = [question.text for question in QUESTIONS[100:140]]
times = {"model": [], "exact": [], "semantic": []}
for wording in ("{}", "{}", "Hello! {}"):
    for text in asked:
        started = time.perf_counter()
        message = model.invoke(wording.format(text))
        mark = message.response_metadata["tiered_cache"]
        times[mark.get("tier", "model")].append(1000 * (time.perf_counter() - started))

figure, axes = plt.subplots(figsize=(9.5, 2.9))
axes.boxplot(
    list(times.values())[::-1],
    orientation="horizontal",
    widths=0.55,
    whis=(10, 90),
    showfliers=False,
    patch_artist=True,
    boxprops={"facecolor": "#56B4E9"},
    medianprops={"color": "black"},
)
axes.set_yticks([1, 2, 3], [f"{name} ({len(times[name])})" for name in list(times)[::-1]])
axes.set_xscale("log")
axes.xaxis.set_major_formatter("{x:g}")
axes.set_xlabel("time to the answer through LangChain, ms (log scale)")
axes.set_title("Who answered (how many), and how long it took: median, quartiles, 10 and 90 %")
plt.show()

# %%
stats = cache.cache.stats()
print(f"{stats.hits} of {stats.lookups} lookups were hits, {stats.hits_by_tier}")
print(f"why not: {dict(stats.misses)}, asked to learn or to check: {stats.explores}")
print(f"saved: {stats.tokens_saved} tokens, ${stats.money_saved:.5f} at gpt-4o-mini's prices")
policy = stats.policy
print(f"policy: {policy['labels']} labels, what is served rests on {policy['rests_on']}")

# %% [markdown]
# ## What is wrong is taken back
#
# In every process: that answer is served to that question no more. It is a label too: one wrong
# answer among so few labels, and nothing is served by meaning until more of them are right.

# %%
entry_id = served.response_metadata["tiered_cache"]["entry_id"]
cache.feedback(entry_id, correct=False)
taken_back = ask("How can I freeze my card?")
cache.close()

# %% [markdown]
# ## One fixed number instead
#
# With `threshold=0.92` whoever is nearer than that is served, unless the guard finds a difference
# that matters. Nothing is checked and nothing is learnt: it is as right as that number happens to
# be for your questions. [02_threshold_tuning](02_threshold_tuning.ipynb) and
# [05_your_own_data](05_your_own_data.ipynb) choose it by labels;
# [03_adaptive_thresholds](03_adaptive_thresholds.ipynb) compares it with the default.

# %%
cache = TieredCache(threshold=0.92)
set_llm_cache(cache)
for question in QUESTIONS[:12]:
    if question.text.startswith("How"):
        ask(question.text)
fixed = ask("Hello! How do I freeze my card?")

# %%
set_llm_cache(None)
cache.close()
