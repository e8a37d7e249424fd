"""Measure how cost grows with entries, up to a million: memory, SQLite, one Redis, three shards.

    OMP_NUM_THREADS=1 python benchmarks/scale.py [--quick] [PART ...]

PARTs, each of which keeps its last results: ``memory`` (5 GB of memory), ``sqlite`` (6 GB of disk),
``redis`` and ``scopes`` (4 GB of memory, as much of disk), ``cluster``, ``graph``. ``--quick``
takes a fortieth of the entries. The stores alone are asked: no model, no LangChain.

memory, sqlite, redis  1,000 entries a scope, 1,000 to 1,000,000 in all. Each size is measured
                       beside a store of 10,000, in turn, so that the load of the machine hits
                       both: exact reads, four nearest in a scope drawn by chance, puts.
redis, besides         restart: save, load, first lookups. A namespace of a tenth is cleared while
                       two other processes look up in the rest.
scopes                 the same number in 10 scopes, in one Redis.
cluster                200 namespaces on three shards: entries of each, lookups a second of 8
                       processes, beside one server with the same entries.
graph                  one scope so large that it is searched by a graph: how long that takes to
                       make, the longest search meanwhile, what the next process sees; matrix and
                       graph beside each other as they grow.

Stored vectors lie about made-up centres as rewordings do (``crowds.py``); what is asked is at 0.95
to a stored one, and right is who finds one at least as near.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import redis
from crowds import asked as beside
from crowds import crowd, embedded
from redis_sizes import made, used
from rounds import command, conditions, load, save, shuffled
from stores import SPACE, TEXT, resident, timed

sys.path.insert(0, str(Path(__file__).parent.parent))

from shared_core.record import Answer, Record
from shared_core.request import HOME_DIGITS, namespace_digest
from shared_core.stores import Selector, Store, open_store
from shared_core.stores.vectors import Graph, VectorIndex
from tests.redis_server import RedisStack
from tests.redis_topologies import ClusterStack

PER_SCOPE, REFERENCE = 1000, 10_000
SIZES = (1_000, 10_000, 100_000, 1_000_000)
CROSSOVER = (5_000, 10_000, 20_000, 50_000, 100_000)
ROUNDS, CHUNK = 2000, 50_000
CLEARED, REST = "cleared", "rest"
"""Namespaces: the first tenth of the scopes is of the first."""
NAMESPACES, CALLERS, TURN_S = 200, 8, 4.0
spawn = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class Layout:
    """Which entry lies where: in scopes that come in turn, in namespaces of some scopes."""

    entries: int
    scopes: int
    namespaces: int = 0
    """0: a tenth of the scopes in one, the rest in another."""

    def namespace(self, scope: int) -> str:
        if self.namespaces:
            return f"tenant {scope % self.namespaces}"
        return CLEARED if scope < self.scopes // 10 else REST

    def scope(self, number: int) -> str:
        scope = number % self.scopes
        return _home(self.namespace(scope)) + f"{scope:0{64 - HOME_DIGITS}x}"

    def key(self, number: int) -> str:
        return _home(self.namespace(number % self.scopes)) + f"{number:0{64 - HOME_DIGITS}x}"

    def record(self, number: int, vector: Any) -> Record:
        answer = Answer(TEXT, model="m", usage={"input_tokens": 20, "output_tokens": 100})
        return Record(
            self.key(number),
            self.scope(number),
            self.namespace(number % self.scopes),
            f"What is the answer to question number {number}?",
            answer,
            "m",
            created=time.time(),
            space=SPACE,
            vector=vector,
        )


def _home(namespace: str) -> str:
    return namespace_digest(namespace)[:HOME_DIGITS]


class Filled:
    """A store with all entries of a layout, and the questions for it."""

    def __init__(self, store: Store, layout: Layout, centres: Any, rounds: int) -> None:
        self.store, self.layout = store, layout
        rng = np.random.default_rng(3)
        self.numbers = rng.integers(layout.entries, size=rounds)
        stored = np.empty((rounds, centres.shape[1]), np.float32)
        self.seconds = 0.0
        for first in range(0, layout.entries, CHUNK):
            rows = crowd(centres, min(CHUNK, layout.entries - first), seed=first + 1)
            here = (self.numbers >= first) & (self.numbers < first + len(rows))
            stored[here] = rows[self.numbers[here] - first]
            started = time.perf_counter()
            for number, row in enumerate(rows, first):
                store.put(layout.record(number, row))
            self.seconds += time.perf_counter() - started
        self.vectors = beside(stored, seed=4)
        self.new = crowd(centres, rounds, seed=5)
        self.right = 0

    def exact(self, turn: int) -> float:
        key = self.layout.key(int(self.numbers[-turn]))
        return timed(lambda: self.store.get(key))

    def semantic(self, turn: int) -> float:
        scope = self.layout.scope(int(self.numbers[turn]))
        started = time.perf_counter()
        found = self.store.nearest(scope, SPACE, self.vectors[turn], 4)
        taken = time.perf_counter() - started
        self.right += bool(found) and found[0].similarity > 0.949
        return taken

    def put(self, turn: int) -> float:
        record = self.layout.record(self.layout.entries + turn, self.new[turn])
        started = time.perf_counter()
        self.store.put(record)
        return time.perf_counter() - started


def measured(stores: Sequence[Filled], rounds: int) -> list[dict[str, Any]]:
    """Ask the stores in turn, in another order each time; return what each took, in us.

    ``cpu`` is the middle of what this thread worked: what a busy machine does not stretch.
    """
    rng = random.Random(6)
    times: list[dict[str, list[float]]] = [defaultdict(list) for _ in stores]
    for one in stores:
        one.right = 0
    for turn in range(rounds):
        for place in shuffled(range(len(stores)), rng):
            one, took = stores[place], times[place]
            calls = {"exact": one.exact, "semantic": one.semantic, "store": one.put}
            for name, call in calls.items():
                if name != "store" or turn % 4 == 0:
                    before = time.thread_time()
                    took[name].append(call(turn))
                    took[f"{name} cpu"].append(time.thread_time() - before)
    return [
        {
            name: percentiles(took[name]) | {"cpu": percentiles(took[f"{name} cpu"])["p50"]}
            for name in ("exact", "semantic", "store")
        }
        | {"right": round(one.right / rounds, 4)}
        for one, took in zip(stores, times, strict=True)
    ]


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    found = np.percentile(np.array(seconds) * 1e6, [10, 50, 99])
    return dict(zip(("p10", "p50", "p99"), (round(float(one), 1) for one in found), strict=True))


# Where entries lie: each place is empty at first, gone at the end, and says how large it is.


class Memory:
    """This process; the store stays open, as its entries go with it."""

    def __init__(self, folder: Path) -> None:
        self._store = open_store("memory://")

    def open(self) -> Store:
        return self._store

    def bytes(self) -> int:
        return round(resident() * 1e6)

    def remove(self) -> None:
        self._store.close()


class File:
    """An SQLite file; opened anew, no scope of it is in memory."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"{time.monotonic_ns()}.db"
        self._store: Store | None = None

    def open(self) -> Store:
        if self._store is not None:
            self._store.close()
        self._store = open_store(f"sqlite:///{self._path}", timeout=5.0)
        return self._store

    def bytes(self) -> int:
        parts = self._path.parent.glob(f"{self._path.name}*")
        return sum(part.stat().st_size for part in parts)

    def remove(self) -> None:
        if self._store is not None:
            self._store.close()
        for part in self._path.parent.glob(f"{self._path.name}*"):
            part.unlink()


class Server:
    """A Redis of its own, which can be started anew from what it wrote down."""

    def __init__(self, folder: Path) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="rs-", dir=folder))
        self._start()

    def _start(self) -> None:
        self._stack = RedisStack(folder=self._folder, timeout=600.0)
        self._stack.start()
        self._store: Store | None = None

    @property
    def url(self) -> str:
        return self._stack.url

    def open(self) -> Store:
        if self._store is not None:
            self._store.close()
        self._store = open_store(self.url, timeout=60.0)
        return self._store

    def bytes(self) -> int:
        return used(self.url)

    def info(self, section: str) -> dict[str, Any]:
        with redis.Redis.from_url(self.url) as client:
            return dict(client.info(section))

    def worked(self) -> Counter[str]:
        """Return calls and microseconds of the server's own time, by command, up to now."""
        found = Counter[str]()
        for name, one in self.info("commandstats").items():
            command = name.removeprefix("cmdstat_")
            found |= {command: one["calls"], f"{command} us": one["usec"]}
        return found

    def restart(self) -> dict[str, float]:
        """Write all down, stop, start; return seconds, and the size of what was written."""
        started = time.perf_counter()
        with redis.Redis.from_url(self.url, socket_timeout=600) as client:
            client.save()
        saved = time.perf_counter()
        self._stack.stop()
        stopped = time.perf_counter()
        self._start()
        while self.info("persistence")["loading"]:
            time.sleep(0.01)
        size = (self._folder / "dump.rdb").stat().st_size
        return {
            "save_s": round(saved - started, 1),
            "load_s": round(time.perf_counter() - stopped, 1),
            "dump_mb": round(size / 1e6),
        }

    def remove(self) -> None:
        if self._store is not None:
            self._store.close()
        self._stack.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


Kind = type[Memory] | type[File] | type[Server]
Place = Memory | File | Server


@contextmanager
def filled(
    kind: Kind, layout: Layout, centres: Any, rounds: int, folder: Path
) -> Iterator[tuple[Place, Filled, int]]:
    """Lend a place that was filled and opened anew, and how many bytes it grew by."""
    place = kind(folder)
    try:
        before = place.bytes()
        one = Filled(place.open(), layout, centres, rounds)
        one.store = place.open()
        yield place, one, place.bytes() - before
    finally:
        place.remove()


def compared(
    kind: Kind,
    layouts: Sequence[Layout],
    given: Given,
    after: Callable[[Place, Filled, Given], dict[str, Any]] | None = None,
) -> list[Any]:
    """Measure each layout beside a store of 10,000; ``after`` adds to the last one's row."""
    rows, count = [], min(REFERENCE, layouts[-1].entries // 10)
    small = Layout(count, count // PER_SCOPE)
    crowd(given.centres, CHUNK, seed=0)  # what making vectors takes is there before
    lent = filled(kind, small, given.centres, given.rounds, given.folder)
    with lent as (beside_it, reference, _):
        for layout in layouts:
            lent = filled(kind, layout, given.centres, given.rounds, given.folder)
            with lent as (place, one, grew):
                started = time.perf_counter()
                one.semantic(0)
                more = {"first_ms": round((time.perf_counter() - started) * 1e3, 1)}
                servers = [at for at in (place, beside_it) if isinstance(at, Server)]
                before = [server.worked() for server in servers]
                own, other = measured((one, reference), given.rounds)
                for times, server, at in zip((own, other), servers, before, strict=False):
                    times["server_us"] = shares(server.worked() - at)
                rows.append(row(one, own, other, grew, more))
                if after is not None and layout is layouts[-1]:
                    rows[-1] |= after(place, one, given)
    return rows


def shares(worked: Counter[str]) -> dict[str, float]:
    """Return what one call of each command took of the server's own time."""
    names = ("hgetall", "FT.SEARCH", "evalsha")
    return {name: round(worked[f"{name} us"] / worked[name], 1) for name in names if worked[name]}


def row(
    one: Filled, own: dict[str, Any], other: dict[str, Any], grew: int, more: dict[str, Any]
) -> dict[str, Any]:
    """Return a row of the results, and print it."""
    layout = one.layout
    found = {"entries": layout.entries, "scopes": layout.scopes, **own, "beside": other}
    found |= {"fill_per_s": round(layout.entries / one.seconds)}
    found |= {"bytes": round(grew / layout.entries), "process_mb": round(resident()), **more}
    print(f"{layout.entries:,} entries in {layout.scopes:,} scopes, right {own['right']}", more)
    for name in ("exact", "semantic", "store"):
        times = " ".join(f"{part} {own[name][part]:8.1f}" for part in ("p10", "p50", "p99", "cpu"))
        ratio = own[name]["p50"] / other[name]["p50"]
        print(f"  {name:9} {times} us, p50 {ratio:.2f} x that of the small one")
    if "server_us" in own:
        print("  of the server, us:", own["server_us"], "small one:", other["server_us"])
    print(f"  filled at {found['fill_per_s']}/s, {found['bytes']} bytes an entry", flush=True)
    return found


# What is done to a large server while others use it.


def restarted(place: Place, one: Filled, given: Given) -> dict[str, Any]:
    """Start the server anew, then clear a tenth of it while others look up."""
    assert isinstance(place, Server)
    memory = place.info("memory")
    found: dict[str, Any] = {"resident_mb": round(memory["used_memory_rss"] / 1e6)}
    found |= place.restart()
    one.store = place.open()
    found["first_exact_ms"] = round(one.exact(1) * 1e3, 1)
    found["first_semantic_ms"] = round(one.semantic(1) * 1e3, 1)
    found["clear"] = cleared(place, one)
    print("  restart, clear:", {name: found[name] for name in list(found)}, flush=True)
    return found


def look(url: str, work: list[tuple[str, str, Any]], pipe: Any) -> None:
    """Look up, exactly and by meaning in turn, from "go" to the next word; tell what each took."""
    store, turn = open_store(url, timeout=60.0), 0
    while pipe.recv() != "end":
        exact: list[float] = []
        semantic: list[float] = []
        while not pipe.poll():
            key, scope, vector = work[turn % len(work)]
            exact.append(timed(lambda key=key: store.get(key)))
            ask = lambda scope=scope, vector=vector: store.nearest(scope, SPACE, vector, 4)  # noqa: E731
            semantic.append(timed(ask))
            turn += 1
        pipe.recv()
        pipe.send((exact, semantic))


class Callers:
    """Processes that look up in one place, together and when they are asked to."""

    def __init__(self, url: str, works: Sequence[list[tuple[str, str, Any]]]) -> None:
        self._pipes, self._processes = [], []
        for work in works:
            ours, theirs = spawn.Pipe()
            one = spawn.Process(target=look, args=(url, work, theirs), daemon=True)
            one.start()
            theirs.close()  # so that a process that died is noticed
            self._pipes.append(ours)
            self._processes.append(one)
        for seconds in (0.0, 1.0):  # all have imported what they need, then met every index
            self.go()
            time.sleep(seconds)
            self.rest()

    def _say(self, word: str) -> None:
        for pipe in self._pipes:
            pipe.send(word)

    def go(self) -> None:
        self._say("go")

    def rest(self) -> dict[str, Any]:
        """Let them rest; return what their lookups took since ``go``."""
        self._say("rest")
        exact, semantic = zip(*(pipe.recv() for pipe in self._pipes), strict=True)
        found = {}
        for name, parts in (("exact", exact), ("semantic", semantic)):
            if seconds := [one for part in parts for one in part]:
                found[name] = percentiles(seconds) | {"worst": round(max(seconds) * 1e6, 1)}
                found[name]["calls"] = len(seconds)
        return found

    def end(self) -> None:
        self._say("end")
        for process in self._processes:
            process.join()


def cleared(place: Server, one: Filled) -> dict[str, Any]:
    """Clear a namespace; say how long it took, and what others' lookups took before and then."""
    kept = [turn for turn, number in enumerate(one.numbers) if not _is_cleared(one, number)]
    work = [
        (one.layout.key(int(one.numbers[t])), one.layout.scope(int(one.numbers[t])), one.vectors[t])
        for t in kept
    ]
    others = Callers(place.url, [work, work])
    others.go()
    time.sleep(TURN_S)
    before = others.rest()
    others.go()
    started = time.perf_counter()
    gone = one.store.delete(Selector(CLEARED))
    seconds = time.perf_counter() - started
    during = others.rest()
    others.end()
    return {"entries": gone, "seconds": round(seconds, 1), "before": before, "during": during}


def _is_cleared(one: Filled, number: int) -> bool:
    return one.layout.namespace(int(number) % one.layout.scopes) == CLEARED


# A cluster of three shards.


def cluster(given: Given) -> list[Any]:
    """Return entries of each shard, and lookups a second, beside one server with the same."""
    layout = Layout(3_000 if given.quick else 30_000, NAMESPACES, NAMESPACES)
    with ExitStack() as stack:
        shards = stack.enter_context(ClusterStack())
        single = stack.enter_context(RedisStack())
        rows, callers = [], []
        for name, url, nodes in (
            ("three shards", shards.url, shards.nodes),
            ("one server", single.url, [single]),
        ):
            one = Filled(open_store(url, timeout=60.0), layout, given.centres, given.rounds)
            one.store.close()
            entries = [_ask(node, lambda client: client.dbsize()) for node in nodes]
            mb = [round(used(node.url) / 1e6) for node in nodes]
            rows.append({"name": name, "entries": entries, "mb": mb, "turns": []})
            work = [
                (layout.key(int(number)), layout.scope(int(number)), vector)
                for number, vector in zip(one.numbers, one.vectors, strict=True)
            ]
            own = Callers(url, [work[part::CALLERS] for part in range(CALLERS)])
            stack.callback(own.end)
            callers.append((own, nodes))
        for _ in range(3 if given.quick else 5):
            for row, (own, nodes) in zip(rows, callers, strict=True):
                row["turns"].append(turn(own, nodes))
    for row in rows:
        row["turns"].sort(key=lambda one: one["per_s"])
        print({**row, "turns": row["turns"][len(row["turns"]) // 2]}, flush=True)
    return rows


def turn(callers: Callers, nodes: Sequence[RedisStack]) -> dict[str, Any]:
    """Let all callers look up for some seconds; return the rate, and the servers' share of it."""
    callers.go()
    cpu, started = [_ask(node, _cpu) for node in nodes], time.perf_counter()
    time.sleep(TURN_S)
    times = callers.rest()
    seconds = time.perf_counter() - started
    spent = [_ask(node, _cpu) - before for node, before in zip(nodes, cpu, strict=True)]
    lookups = times["exact"]["calls"] + times["semantic"]["calls"]
    return {
        "per_s": round(lookups / seconds),
        "server_us": round(sum(spent) / lookups * 1e6, 1),
        "server_cores": [round(one / seconds, 2) for one in spent],
        **times,
    }


def _ask(node: RedisStack, question: Callable[[redis.Redis], Any]) -> Any:
    with redis.Redis.from_url(node.url) as client:
        return question(client)


def _cpu(client: redis.Redis) -> float:
    found = client.info("cpu")
    return float(found["used_cpu_user"]) + float(found["used_cpu_sys"])


# One scope so large that a graph searches it.


def graph(given: Given) -> list[Any]:
    """Return what making a graph takes, and searches with it, in this process and in a file's."""
    rows, entries = [], 25_000 if given.quick else 200_000
    centres = embedded(500 if given.quick else 4000)
    for kind in (Memory, File):
        with filled(kind, Layout(entries, 1), centres, given.rounds, given.folder) as lent:
            place, one, grew = lent
            found: dict[str, Any] = {
                "kind": kind.__name__,
                "entries": entries,
                "bytes": grew // entries,
            }
            for visit in ("made", "next") if kind is File else ("made",):
                first = one.semantic(0)
                found[visit] = {"first_ms": round(first * 1e3), **waited(one)}
                taken = [one.semantic(turn) for turn in range(given.rounds)]
                found[visit] |= percentiles(taken)
                one.store = place.open()
            rows.append(found | {"fill_per_s": round(entries / one.seconds)})
            print(rows[-1], flush=True)
    return [*rows, *crossover(centres, CROSSOVER[: 3 if given.quick else None], given.rounds)]


def crossover(centres: Any, sizes: Sequence[int], rounds: int) -> Iterator[dict[str, Any]]:
    """Compare a matrix and a graph alone, in turn, as both grow."""
    stored = crowd(centres, sizes[-1], seed=1)
    matrix, net = VectorIndex(stored.shape[1]), Graph(stored.shape[1])
    held, rng = 0, np.random.default_rng(2)
    for size in sizes:
        for start in range(held, size, 32):
            numbers = np.arange(start, min(start + 32, size))
            net.add(numbers.astype(np.uint64), stored[numbers])
            matrix.extend(numbers.tolist(), stored[numbers])
        held, found = size, 0
        times: dict[str, list[float]] = {"matrix": [], "graph": []}
        for vector in beside(stored[rng.permutation(size)[:rounds]], seed=3):
            started = time.perf_counter()
            exact = matrix.search(vector, 4)
            middle = time.perf_counter()
            near = net.nearest(vector, 8)
            times["graph"].append(time.perf_counter() - middle)
            times["matrix"].append(middle - started)
            found += exact[0][0] in near
        row = {"entries": size, **{name: percentiles(one) for name, one in times.items()}}
        print(row | {"nearest_in_graph": found / rounds}, flush=True)
        yield row | {"nearest_in_graph": found / rounds}


def waited(one: Filled) -> dict[str, float]:
    """Search while a graph is made, as an app does; return what that took."""
    cpu, started, longest = time.process_time(), time.perf_counter(), 0.0
    while any(thread.name == "tiered-cache-graph" for thread in threading.enumerate()):
        longest = max(longest, one.semantic(0))
        time.sleep(0.05)
    seconds, spent = time.perf_counter() - started, time.process_time() - cpu
    return {
        "made_s": round(seconds, 1),
        "made_cpu_s": round(spent, 1),
        "longest_ms": round(longest * 1e3),
    }


@dataclass(frozen=True, slots=True)
class Given:
    """Holds what a part works with: its size, rounds, centres of vectors, and folder."""

    quick: bool
    rounds: int
    centres: Any
    folder: Path

    @property
    def layouts(self) -> list[Layout]:
        sizes = [size // (40 if self.quick else 1) for size in SIZES]
        return [Layout(size, max(1, size // PER_SCOPE)) for size in sizes if size >= PER_SCOPE]


PARTS: dict[str, Callable[[Given], list[Any]]] = {
    "memory": lambda given: compared(Memory, given.layouts, given),
    "sqlite": lambda given: compared(File, given.layouts, given),
    "redis": lambda given: compared(Server, given.layouts, given, restarted),
    "scopes": lambda given: compared(Server, [Layout(given.layouts[-1].entries, 10)], given),
    "cluster": cluster,
    "graph": graph,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], metavar="PART")
    parser.add_argument("--quick", action="store_true", help="a fortieth of the entries")
    parser.add_argument("--folder", type=Path, help="where files lie for a while: 5 GB")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    for part in given.parts or PARTS:
        if not given.alone:  # in a process of its own, whose memory is its own
            switches = ["--quick"] if given.quick else []
            switches += ["--folder", str(given.folder)] if given.folder else []
            subprocess.run([sys.executable, __file__, part, "--alone", *switches], check=True)
            continue
        where, started = conditions(command().replace(" --alone", "")), time.perf_counter()
        print(f"== {part}, load average {where['load'][0]}", flush=True)
        with tempfile.TemporaryDirectory(dir=given.folder) as name:
            rng = np.random.default_rng(7)
            rounds = ROUNDS // 4 if given.quick else ROUNDS
            centres = made(500 if given.quick else 4000, rng)
            rows = PARTS[part](Given(given.quick, rounds, centres, Path(name)))
        where["load"].append(round(os.getloadavg()[0], 1))
        where["seconds"] = round(time.perf_counter() - started)
        parts = (load("scale") or {}).get("parts", {})
        there = parts.get(part, {"conditions": {"command": "--quick"}})
        if given.quick and "--quick" not in there["conditions"]["command"]:
            print("the results of a full run are kept in place of these")
            continue
        parts |= {part: {"conditions": where, "rows": rows}}
        save("scale", conditions(command().replace(" --alone", "")), parts=parts)


if __name__ == "__main__":
    main()
