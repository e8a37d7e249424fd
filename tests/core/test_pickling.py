"""A pickled cache: the same one in this process, one that reconnects in another."""

from __future__ import annotations

import copy
import gc
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from shared_core import Answer, Hit, Options, Request, ResponseCache, open_store

ROOT = Path(__file__).parents[2]
ASKED = Request.of("What is a fuse?", model="m")
LOOK_UP = (
    "import pickle, sys; from shared_core import Request;"
    "cache = pickle.load(sys.stdin.buffer);"
    "print(cache.lookup(Request.of('What is a fuse?', model='m')).answer.text, cache.options.ttl)"
)


def test_in_its_process_a_pickled_cache_is_the_cache() -> None:
    with ResponseCache.open("memory://", semantic=False) as cache:
        assert pickle.loads(pickle.dumps(cache)) is cache  # noqa: S301 - its own
        assert copy.copy(cache) is copy.deepcopy(cache) is cache


def test_in_another_process_it_reconnects_with_its_options(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'answers.db'}"
    with ResponseCache.open(url, semantic=False, ttl=900) as cache:
        cache.store(ASKED, Answer("It melts."))
        child = subprocess.run(
            [sys.executable, "-c", LOOK_UP],
            input=pickle.dumps(cache),
            capture_output=True,
            check=False,
            cwd=ROOT,
        )
    assert child.stdout.decode().split("\n")[0] == "It melts. 900", child.stderr.decode()


def test_a_cache_that_is_gone_is_opened_anew_and_once(tmp_path: Path) -> None:
    cache = ResponseCache.open(f"sqlite:///{tmp_path / 'answers.db'}", semantic=False)
    cache.store(ASKED, Answer("It melts."))
    data = pickle.dumps(cache)
    cache.close()
    del cache
    gc.collect()
    again = pickle.loads(data)  # noqa: S301 - its own
    assert pickle.loads(data) is again  # noqa: S301
    assert isinstance(again.lookup(ASKED), Hit)
    again.close()


def test_a_cache_on_a_store_of_the_callers_own_cannot_be_pickled() -> None:
    cache = ResponseCache(open_store("memory://"), Options(semantic=False))
    with pytest.raises(TypeError, match="open"):
        pickle.dumps(cache)
