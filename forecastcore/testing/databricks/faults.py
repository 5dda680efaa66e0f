"""Faults by rule, seeded: what goes wrong with which request, how often, and before or after its effect."""

from __future__ import annotations

import os
import random
import re
import signal
import threading
from dataclasses import dataclass
from typing import Literal

__all__ = ["Faults", "Rule"]

Kind = Literal["status", "reset", "latency", "kill"]


@dataclass(kw_only=True)
class Rule:
    """One fault.

    Attributes:
        pattern: regular expression that is looked for in `METHOD /path`.
        kind: `status` answers with one, `reset` drops the connection, `latency` waits, `kill` ends a process.
        status: HTTP status to answer with.
        retry_after: seconds that the header says; no header where it is None.
        seconds: how long `latency` waits.
        pid: process that `kill` ends with SIGKILL.
        offset: how many requests that match are let through first.
        times: how many of those after them are struck; all where it is None.
        share: probability that one of them is struck.
        after: strike after the handler: its effect stays, only the answer is replaced.
        words: what the answer says.
        error_code: what Databricks calls it.
    """

    pattern: str
    kind: Kind = "status"
    status: int = 503
    retry_after: float | None = None
    seconds: float = 0.0
    pid: int = 0
    offset: int = 0
    times: int | None = None
    share: float = 1.0
    after: bool = False
    words: str = "injected fault"
    error_code: str = ""
    seen: int = 0
    struck: int = 0


class Faults:
    """The rules of one workspace; the same seed strikes the same requests."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._random = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self._rules: list[Rule] = []
        self._lock = threading.Lock()

    def add(self, rule: Rule) -> Rule:
        """Add a rule; earlier ones come first."""
        with self._lock:
            self._rules.append(rule)
        return rule

    def clear(self) -> None:
        """Forget all rules."""
        with self._lock:
            self._rules.clear()

    def struck(self, request: str) -> list[Rule]:
        """The rules that strike a request, such as `POST /api/2.2/jobs/runs/submit`; it is counted in each."""
        with self._lock:
            return [rule for rule in self._rules if re.search(rule.pattern, request) and self._strikes(rule)]

    def _strikes(self, rule: Rule) -> bool:
        rule.seen += 1
        late = rule.seen > rule.offset
        spent = rule.times is not None and rule.struck >= rule.times
        if not late or spent or self._random.random() >= rule.share:
            return False
        rule.struck += 1
        return True


def kill(pid: int) -> None:
    """End a process without asking it."""
    os.kill(pid, signal.SIGKILL)
