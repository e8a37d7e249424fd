"""Cases that a slow judge decides later: no request waits for it.

add(fresh, cached, then) -> queue -> one thread -> judge(fresh, cached) -> then(verdict)
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

from shared_core.forking import renew_after_fork
from shared_core.judge import Judge
from shared_core.record import Answer

WAITING = 200
"""Cases that wait at most; more are refused, so that a slow judge costs labels and no memory."""

DRAIN_S = 5.0
"""How long closing a cache waits for the cases that are left."""


@runtime_checkable
class LateJudge(Protocol):
    """A judge that takes its time: it is called in the background if ``background`` is true."""

    background: bool

    def wants(self) -> bool:
        """Say whether it is to judge the next case; chosen by chance, so that labels are fair."""

    def __call__(self, fresh: Answer, cached: Answer) -> bool | None:
        """Judge as any ``Judge`` does."""


class Case(NamedTuple):
    """Two answers, and what is to be done with the verdict on them."""

    fresh: Answer
    cached: Answer
    then: Callable[[bool | None], object]


class Docket:
    """Has a judge decide case after case, in a thread that lives while there are any.

    Equal texts need no judge. ``judge`` and what is done with its verdicts must not raise. Safe for
    threads; the child of a fork begins with no case, as its parent decides those that there were.
    """

    def __init__(self, judge: Judge, waiting: int = WAITING) -> None:
        self._judge, self._most = judge, waiting
        self._start_fresh()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """Leave the parent's cases and its thread to the parent."""
        self._start_fresh()

    def _start_fresh(self) -> None:
        self._cases: deque[Case] = deque()
        self._changed = threading.Condition()
        self._works = False

    def add(self, fresh: Answer, cached: Answer, then: Callable[[bool | None], object]) -> bool:
        """Queue a case and return True; False if too many wait or no thread can be had."""
        with self._changed:
            if len(self._cases) >= self._most:
                return False
            self._cases.append(Case(fresh, cached, then))
            if not self._works:
                thread = threading.Thread(target=self._work, name="tiered-cache judge", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # no more threads can be had, or the interpreter ends
                    self._cases.pop()
                    return False
                self._works = True
        return True

    def drain(self, timeout: float = DRAIN_S) -> bool:
        """Wait until all cases are decided, ``timeout`` seconds at most; drop what is left then.

        Returns whether all were decided.
        """
        with self._changed:
            done = self._changed.wait_for(lambda: not self._works, timeout)
            self._cases.clear()
            return done

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._cases:
                    self._works = False
                    self._changed.notify_all()
                    return
                case = self._cases.popleft()
            # Here and not in the judge, so that no such case looks like a judge that works again.
            equal = case.fresh.text == case.cached.text and bool(case.fresh.text.strip())
            case.then(True if equal else self._judge(case.fresh, case.cached))
