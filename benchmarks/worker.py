"""A cache in a process of its own, which does as it is told over pipes, one JSON line at a time.

So every cache has its own interpreter, its own environment where it needs one, and its own CPU
time; and the parent can ask one after another, so that all meet the same load. Calls are timed
inside the process: the pipes are not in the figures.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parent / ".bench-envs"
ONE_THREAD = {
    f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "VECLIB")
}
OFFLINE = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def environment() -> dict[str, str]:
    """Return the variables of the processes that are measured: all but the order to keep no
    bytecode. What pip installed has some; a checkout would be compiled anew at each start.
    """
    ours = os.environ | ONE_THREAD | OFFLINE
    return {name: value for name, value in ours.items() if name != "PYTHONDONTWRITEBYTECODE"}


class Failed(RuntimeError):
    """What a worker could not do, in its own words."""


class Worker:
    """A cache in another process; as a context manager, it ends with the block.

    ``setting`` is what else of contender.Setting it is to be built with.
    """

    def __init__(self, name: str, redis: str, model: str, entries: int, **setting: Any) -> None:
        from contenders import ENTRIES

        self.name = name
        with ExitStack() as stack:  # what is open is closed if the process does not start
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            self._said = stack.enter_context(tempfile.TemporaryFile("w+"))
            place = ENTRIES[name].environment
            python = str(ENVIRONMENTS / place / "bin/python") if place else sys.executable
            self._process = subprocess.Popen(
                [python, __file__, name, folder, redis, model, str(entries), json.dumps(setting)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                text=True,
                env=environment(),
            )
            stack.callback(self._end)
            self.versions: dict[str, str] = self._read()["versions"]
            self._open = stack.pop_all()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def _end(self) -> None:
        self._process.kill()
        self._process.communicate()

    def tell(self, do: str, **given: Any) -> dict[str, Any]:
        """Have something done and return what came of it. Raises Failed."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **given}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # what it said before it ended is read below
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._said.seek(0)
            last = [line for line in self._said if line.strip()][-1:]
            raise Failed(f"{self.name} ended: {''.join(last).strip()}")
        told: dict[str, Any] = json.loads(line)
        if "failed" in told:
            raise Failed(f"{self.name}: {told['failed']}")
        return told


@contextmanager
def workers(names: list[str], redis: str, model: str, entries: int) -> Iterator[dict[str, Worker]]:
    """Start a worker for each name; those that cannot be had are left out, and it is said why."""
    with ExitStack() as stack:
        found: dict[str, Worker] = {}
        for name in names:
            try:
                found[name] = stack.enter_context(Worker(name, redis, model, entries))
            except (Failed, OSError) as error:
                print(f"left out: {error}", file=sys.stderr)
        yield found


def fill(running: dict[str, Worker], entries: int) -> None:
    """Have all store so many questions, some at once; who cannot is left out."""

    def one(name: str) -> Failed | None:
        try:
            running[name].tell("fill", start=0, count=entries)
        except Failed as error:
            return error
        return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        failures = dict(zip(running, pool.map(one, running), strict=True))
    for name, failure in failures.items():
        if failure is not None:
            print(f"left out: {failure}", file=sys.stderr)
            del running[name]


# ---------------------------------------------------------------------------- in the process


class Served:
    """The cache inside the worker, and what can be asked of it."""

    def __init__(
        self, name: str, folder: str, redis: str, model: str, entries: int, **setting: Any
    ) -> None:
        from contender import Setting
        from contenders import ENTRIES

        self.entry, self.entries = ENTRIES[name], entries
        self.folder = Path(folder)
        self.setting = Setting(self.folder, redis, model, **setting)
        self.cache = self.entry.build(self.setting)

    def fill(self, start: int, count: int) -> dict[str, Any]:
        """Store so many questions; return the seconds of each."""
        from asks import answer, ask

        asks = [ask("stored", start + i, self.entries) for i in range(count)]
        seconds = []
        for i, one in enumerate(asks):
            began = time.perf_counter()
            self.cache.store(one, answer(start + i))
            seconds.append(time.perf_counter() - began)
        return {"seconds": seconds[-1000:]}

    def put(self, kind: str, numbers: list[int]) -> dict[str, Any]:
        """Store answers to questions, one after another."""
        from asks import answer, ask

        pairs = [(ask(kind, number, self.entries), answer(number)) for number in numbers]
        seconds, used = [], time.process_time()
        for one, text in pairs:
            began = time.perf_counter()
            self.cache.store(one, text)
            seconds.append(time.perf_counter() - began)
        return {"seconds": seconds, "cpu": time.process_time() - used}

    def look(self, kind: str, numbers: list[int], warm: bool = False) -> dict[str, Any]:
        """Look questions up, one after another.

        ``warm`` asks the first once more before: what comes after a pause finds cold processor
        caches, which is a matter of microseconds.
        """
        from asks import ask

        asks = [ask(kind, number, self.entries) for number in numbers]
        if warm:
            self.cache.look(asks[0])
        seconds, texts = [], []
        used = time.process_time()
        for one in asks:
            began = time.perf_counter()
            texts.append(self.cache.look(one))
            seconds.append(time.perf_counter() - began)
        used = time.process_time() - used
        return {"seconds": seconds, "cpu": used, **self._judged(kind, numbers, texts)}

    def replay(
        self, requests: list[list[Any]], system: str, similarity: float | None = None
    ) -> dict[str, Any]:
        """Send questions as an app does: what is not served is asked of the model, and stored.

        ``requests`` are rows of a question, the text of its answer, and, if there are any, the
        messages before it. The cache is built anew, to serve from that similarity on (None: its
        default). Returns the texts served, None where nothing was.
        """
        from dataclasses import replace

        from asks import prompted

        self.setting = replace(self.setting, similarity=similarity)
        self.build_anew()
        texts = []
        self.setting.answers.update((question, answer) for question, answer, *_ in requests)
        for question, answer, *before in requests:
            one = prompted(question, system, *before)
            texts.append(self.cache.look(one))
            if texts[-1] is None:
                self.cache.store(one, answer)
                self.cache.settle()
        return {"texts": texts}

    def pairs(self, rows: list[tuple[str, str, bool]]) -> dict[str, Any]:
        """Tell for each pair of questions whether the second is served what the first was stored.

        Each pair meets an empty cache: one that cannot be emptied is built anew. Whether one answer
        fits both is for verifiers that are made up.
        """
        from asks import prompted

        served = []
        for stored, asked, same in rows:
            self.setting.answers.update({stored: "stored", asked: "stored" if same else "another"})
            if self.cache.clear is not None:
                self.cache.clear()
            else:
                self.build_anew()
            self.cache.store(prompted(stored), "stored")
            served.append(self.cache.look(prompted(asked)) is not None)
        return {"served": served}

    def build_anew(self) -> None:
        """Build the cache in a new folder, its Redis emptied."""
        from dataclasses import replace

        from redis import Redis

        self.cache.close()
        if self.setting.redis:
            with Redis.from_url(self.setting.redis) as client:
                client.flushall()
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        self.cache = self.entry.build(replace(self.setting, folder=folder))

    def crowd(self, threads: int, seconds: float, kind: str, start: int) -> dict[str, Any]:
        """Have threads look questions up, each its next as soon as it has an answer."""
        from asks import ask

        asks = [ask(kind, start + i, self.entries) for i in range(int(seconds * 2000))]
        texts: list[str | None] = []
        errors: list[str] = []
        supply = iter(asks)  # next() of one is a single step of the interpreter
        began = time.perf_counter()
        end = began + seconds

        def caller() -> None:
            try:
                while time.perf_counter() < end:
                    texts.append(self.cache.look(next(supply)))
            except StopIteration:
                pass
            except Exception as error:  # of a peer, which the parent is told
                errors.append(repr(error))

        running = [threading.Thread(target=caller) for _ in range(threads)]
        used = time.process_time()
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        took, used = time.perf_counter() - began, time.process_time() - used
        assert not errors, errors[0]
        served = sum(text is not None for text in texts)
        return {"done": len(texts), "served": served, "seconds": took, "cpu": used}

    def gather(self, count: int, kind: str, start: int) -> dict[str, Any]:
        """Await so many lookups together on an event loop; return how late it was at most."""
        from asks import ask

        look = self.cache.await_look
        assert look is not None
        asks = [ask(kind, start + i, self.entries) for i in range(count)]

        async def all_of_them() -> tuple[float, float]:
            late, going = 0.0, True

            async def beat() -> None:
                nonlocal late
                while going:
                    began = time.perf_counter()
                    await asyncio.sleep(0.001)
                    late = max(late, time.perf_counter() - began - 0.001)

            await look(asks[0])  # what is set up once for each loop
            beating = asyncio.create_task(beat())
            await asyncio.sleep(0.01)
            began = time.perf_counter()
            await asyncio.gather(*(look(one) for one in asks))
            took = time.perf_counter() - began
            await asyncio.sleep(0.002)  # a beat that was held up ends
            going = False
            await beating
            return took, late

        if not hasattr(self, "loop"):  # one for all turns: some caches work on their first only
            self.loop = asyncio.new_event_loop()
        took, late = self.loop.run_until_complete(all_of_them())
        return {"seconds": took, "late": late}

    def usage(self) -> dict[str, Any]:
        """Return what the process has used since it began, its files, what heavy it imported."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        with open("/proc/self/statm") as file:
            resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        heavy = [name for name in ("torch", "onnxruntime") if name in sys.modules]
        cpu = used.ru_utime + used.ru_stime
        disk = sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())
        return {"cpu": cpu, "resident": resident, "disk": disk, "heavy": heavy}

    def _judged(self, kind: str, numbers: list[int], texts: list[str | None]) -> Mapping[str, int]:
        from asks import number_of

        expected = [None if kind == "other" else number % self.entries for number in numbers]
        found = [None if text is None else number_of(text) for text in texts]
        pairs = list(zip(found, expected, strict=True))
        return {
            "right": sum(got is not None and got == due for got, due in pairs),
            "wrong": sum(got is not None and got != due for got, due in pairs),
            "none": sum(got is None for got in found),
        }


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in packages}


def serve() -> None:
    """Do what the lines of standard input say, until they end."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    sys.path[:0] = [str(HERE), str(HERE.parent)]

    def answer(told: Mapping[str, Any]) -> None:
        channel.write(json.dumps(told) + "\n")
        channel.flush()

    try:
        name, folder, redis, model, entries, setting = sys.argv[1:]
        served = Served(name, folder, redis, model, int(entries), **json.loads(setting))
        answer({"versions": versions(served.entry.packages)})
    except Exception as error:
        answer({"failed": repr(error)})
        raise
    for line in sys.stdin:
        given = json.loads(line)
        try:
            answer(getattr(served, given.pop("do"))(**given))
        except Exception as error:
            answer({"failed": repr(error)})


if __name__ == "__main__":
    serve()
