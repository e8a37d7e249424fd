"""Replay a workload with and without each tier: calls, tokens, money, latency, wrong answers.

    python benchmarks/savings.py [--requests 5000] [--seeds 1 2 3] [--picture FILE.png]
    python benchmarks/savings.py --data FOLDER --sets banking77 clinc150

What is measured: which requests each tier answers, and with what; the time that lookups and stores
take. All else is assumed:

- Popularity: questions are asked as often as Zipf's law says (exponent ``--zipf``, 1.0), and so are
  the five wordings of each. ``data/savings.jsonl`` holds 40 questions to a telephone company with
  their answers, written for this benchmark. FOLDER holds ``<set>.jsonl.gz`` of rows
  {"t": question, "c": class} instead; a class is one question, at most ``--classes`` of them.
- Sessions: a user asks again with a probability of ``--again`` (0.4) after 20 s, with all of the
  conversation before; requests arrive at random, one every 3 s on average. Three apps, each with a
  system prompt of about 1,400 tokens, have a third of the sessions each.
- The model is right, and words the answer to one question in one way (temperature 0). An answer out
  of the cache is wrong if it is the answer to another question. What Verified learns from are the
  labels of the cache's own judge on the written answers. A class has only a made-up answer, of a
  template in which its name differs; there the judge is taken to be right, or, with
  ``--own-judge``, is the cache's own too, which templates mislead.
- Tokens are four bytes each. Prices are genai-prices' of today, per call.
- The provider's prompt cache keeps a conversation for 5 minutes after its last use, from 1,024
  tokens on, in steps of 128; tokens written to it cost what the provider takes for that.
- The model takes 400 ms, 0.1 ms per token it has to read (cached ones: none), 15 ms per token of
  its answer.

Money says nothing of a machine's own: embedding runs on this one. Needs the extras "embeddings" and
"client", and matplotlib for the picture.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

from savings_replay import SETTINGS, Result, is_the_same, replay
from savings_report import draw, show
from savings_workload import labelled_topics, own_topics, workload


def main() -> None:
    from shared_core.embedding import resolve_embedder

    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--zipf", type=float, default=1.0)
    parser.add_argument("--again", type=float, default=0.4)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--sets", nargs="+", default=["banking77"])
    parser.add_argument("--classes", type=int, default=77)
    parser.add_argument("--own-judge", action="store_true")
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    embedder = resolve_embedder(None)
    judge = is_the_same if given.data and not given.own_judge else None
    everything: dict[str, dict[str, Result]] = {}
    for name in given.sets if given.data else ["telephone company"]:
        results = everything[name] = {setting.name: Result() for setting in SETTINGS}
        for seed in given.seeds:
            rng = random.Random(seed)
            topics = (
                labelled_topics(given.data, name, given.classes, rng)
                if given.data
                else own_topics()
            )
            asks = workload(topics, given.requests, given.zipf, given.again, rng)
            for setting in SETTINGS:
                results[setting.name].add(replay(asks, setting, embedder, judge))
        show(name, results)
    if given.picture:
        draw(given.picture, everything)
        print(f"\nwritten to {given.picture}")


if __name__ == "__main__":
    main()
