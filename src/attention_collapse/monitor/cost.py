"""What watching costs: a clock, and when the next check fits the budget."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Cost:
    """Seconds since the first step, over all parts of a resumed run, and how many of them were spent on checks.

    Attributes
    ----------
    clock
        Seconds, of any origin.
    checks, spent, last
        Number of checks, seconds of all of them, of the last one.
    before
        Seconds of the parts of the run that are over.
    steps
        Training steps seen, over all parts.
    """

    clock: Callable[[], float] = time.perf_counter
    checks: int = 0
    spent: float = 0.0
    last: float = 0.0
    before: float = 0.0
    steps: int = 0
    started: float | None = field(default=None, repr=False)

    def start(self) -> None:
        """Begin to count, once."""
        if self.started is None:
            self.started = self.clock()

    @property
    def elapsed(self) -> float:
        """Seconds of the run so far, checks among them."""
        return self.before + (self.clock() - self.started if self.started is not None else 0.0)

    @property
    def share(self) -> float:
        """Of the run's seconds that went into checks, 0 to 1; NaN before the first."""
        elapsed = self.elapsed
        return self.spent / elapsed if elapsed > 0 else math.nan

    def affordable(self, budget: float) -> bool:
        """Whether one more check, as dear as the last, leaves the share within the budget."""
        return self.spent + self.last <= budget * (self.elapsed + self.last)

    def add(self, seconds: float) -> None:
        """Count one check."""
        self.checks, self.spent, self.last = self.checks + 1, self.spent + seconds, seconds

    def steps_within(self, budget: float) -> int | None:
        """The fewest steps between checks that keep the share within the budget; None before any is known."""
        training = self.elapsed - self.spent
        if not self.checks or not self.steps or training <= 0:
            return None
        each, step = self.spent / self.checks, training / self.steps
        return max(1, math.ceil(each * (1 - budget) / (budget * step)))

    def state_dict(self) -> dict[str, float | int]:
        """Plain values; the time until now is over."""
        return {
            "checks": self.checks, "spent": self.spent, "last": self.last, "before": self.elapsed, "steps": self.steps,
        }  # fmt: skip
