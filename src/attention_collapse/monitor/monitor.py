"""The monitor: on fixed held-out pairs, every so many steps, what a model in training relies on."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attention_collapse import arguments
from attention_collapse.errors import DataError, ParamsError
from attention_collapse.monitor.alarm import Alarm, Watch
from attention_collapse.monitor.cost import Cost
from attention_collapse.monitor.pairs import HeldOut, Inputs, check_against, checked, digest, draw_partners
from attention_collapse.monitor.reading import (
    MODALITIES,
    Cells,
    Reading,
    Rule,
    chance_of,
    fewest_losses,
    read,
    read_hard,
)
from attention_collapse.monitor.scoring import Scorer, require_same
from attention_collapse.monitor.settings import Score, check_settings, modules_of
from attention_collapse.monitor.state import FORMAT, check_state
from attention_collapse.monitor.undisturbed import undisturbed

Pairs = HeldOut | tuple[Inputs, Inputs] | tuple[Inputs, Inputs, Tensor | None]
LOG = logging.getLogger("attention_collapse.monitor")


class Monitor:
    """Watches what a model in training relies on, and says when it leaves a modality unused.

    Parameters
    ----------
    score
        `score(image, text) -> (pair,)`: the model's own forward pass, a logit for "match"; or (pair, candidate), one
        logit per candidate answer. A module, a method of one, or any function (then give `model`).
    held_out
        `(image, text, target)`, as of `HeldOut`: pairs that are never trained on.
    every
        Check at each step that it divides. None: as often as the budget allows, by the clock, so that two runs need not
        check at the same steps.
    hard
        Pairs of the same form on which no cue within one modality says the answer (hard foils, or pairs whose cue says
        nothing). On pairs as trained, a number made by swapping can be gamed; on these, accuracy cannot.
    model
        The module or modules that `score` runs; found by itself where `score` is a module or a method of one.
    budget
        Share of the run's time that checks may take if `every` is None.
    partners
        How many other pairs stand in for each pair; a check takes 1 + 3 · partners passes over the held-out pairs, and
        one over the hard ones.
    patience
        How many checks in a row ring an alarm.
    rule
        When a modality counts as unused; `threshold` and `confidence`, if given, replace those of the rule.
    batch_size
        Pairs scored at a time; None: all at once.
    seed
        The seed of the partners and of the bootstrap.
    on_alarm
        Called with each `Alarm`; alarms are also logged as warnings of the logger `attention_collapse.monitor`, and so
        is that there are too few pairs for one.

    Attributes
    ----------
    history
        What `step` returned at each check, with its step.
    alarms
        Every alarm so far.
    reasons
        Why values of the last check are NaN, by name.
    last_step
        The last step that it was told of.

    Raises
    ------
    DataError, ModelError, ParamsError
        Held-out pairs that cannot be swapped, a score without a known model, an impossible setting.

    Examples
    --------
    >>> score, held_out = nn.Bilinear(3, 3, 1), HeldOut(torch.eye(3), torch.eye(3), torch.tensor([1, 1, 0]))
    >>> monitor = Monitor(lambda image, text: score(image, text)[:, 0], held_out, model=score, every=10)
    >>> monitor.step(3) is None, "accuracy" in monitor.step(10)  # a check at each tenth step
    (True, True)
    """

    def __init__(
        self,
        score: Score,
        held_out: Pairs,
        *,
        every: int | None = None,
        hard: Pairs | None = None,
        model: nn.Module | Iterable[nn.Module] | None = None,
        budget: float = 0.05,
        partners: int = 1,
        patience: int = 3,
        rule: Rule | None = None,
        threshold: float | None = None,
        confidence: float | None = None,
        batch_size: int | None = None,
        seed: int = 0,
        on_alarm: Callable[[Alarm], None] | None = None,
    ) -> None:
        rule = Rule() if rule is None else rule
        if isinstance(rule, Rule):
            rule = replace(
                rule,
                threshold=rule.threshold if threshold is None else threshold,
                confidence=rule.confidence if confidence is None else confidence,
            )
        counts = {"partners": partners, "patience": patience, "batch_size": 1 if batch_size is None else batch_size}
        check_settings(rule, every=every, budget=budget, counts=counts)
        if not (on_alarm is None or callable(on_alarm)):
            raise ParamsError(f"on_alarm={on_alarm!r}", expected="a function of an alarm", remedy="pass one")
        self.rule = rule
        self.every, self.budget, self.seed = every, budget, arguments.seed(seed)
        self.modules = modules_of(score, model)
        self.held_out = checked(held_out)
        self.hard = None if hard is None else checked(hard, name="hard")
        if self.hard is not None and self.hard.target is None:
            raise DataError(
                "hard has no target", expected="labels, since accuracy is what the hard pairs measure",
                remedy="pass hard=(image, text, target)",
            )  # fmt: skip
        check_against(self.held_out, self.hard)
        self._target, self._hard_target = _labels(self.held_out), _labels(self.hard)
        highest = max((int(t.max()) for t in (self._target, self._hard_target) if t is not None), default=1)
        self._scores = Scorer(score, batch_size, highest, labelled=self._target is not None)
        self._image, self._text = draw_partners(self.held_out, partners, seed)
        self._digest = f"{digest(self.held_out, self.hard)}-{partners}-{seed}"
        self.on_alarm = on_alarm
        names = [m for m in MODALITIES if self._target is not None] + ["hard"] * (self.hard is not None)
        self._watches = {name: Watch(patience) for name in names}
        self.history: list[dict[str, float]] = []
        self.alarms: list[Alarm] = []
        self.reasons: dict[str, str] = {}
        self._cost = Cost()
        self.last_step: int | None = None
        self._too_few = self._why_silent()
        if self._too_few:
            LOG.warning("%s", self._too_few)

    def _why_silent(self) -> str:
        """Why an alarm of a swapped modality cannot ring whatever happens; empty if it can, or is never asked for."""
        n, margin = len(self._image), self.rule.margin * (1 - chance_of(self._target))
        least = fewest_losses(n, self.rule.confidence)
        if self._target is None or least <= margin:
            return ""
        return (
            f"too few pairs for an alarm: {n} without a loss leave up to {least:.3f} of accuracy open, and the "
            f"margin is {margin:.3f} at best"
        )

    # -- in the training loop -------------------------------------------------------------------------------------

    def step(self, step: int) -> dict[str, float] | None:
        """Call after each training step with its number; returns the values of a check, or None where none was due.

        Values are floats by name: `accuracy`, `reliance_image`, …, with `_ci_low` and `_ci_high`, and `image_unused`,
        `text_unused`, `hard_failed`, 1 while the alarm rings. NaN: undefined, and `reasons` says why.
        """
        arguments.whole("step", step, least=0)
        if self.last_step is not None and step < self.last_step:
            raise ParamsError(
                f"step {step} after step {self.last_step}", expected="steps that go up",
                remedy="number steps over all epochs; for a new run make a new Monitor",
            )  # fmt: skip
        self._cost.start()
        if step == self.last_step:
            return None
        self._cost.steps += 0 if self.last_step is None else step - self.last_step
        self.last_step = step
        due = self._cost.affordable(self.budget) if self.every is None else step % self.every == 0
        return self.check(step) if due else None

    def check(self, step: int) -> dict[str, float]:
        """Check now, whether or not it is due."""
        self._cost.start()
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()  # what training has still to do is no cost of ours
        if not self.history:
            self._require_same()
        before = self._cost.clock()
        reading = self._look()
        self.reasons = reading.reasons
        for name, watch in self._watches.items():
            event = watch.see(step, reading.unused.get(name))
            if event == "rings":
                self._ring(name, watch, step, reading)
            elif event == "ends":
                self._end(name, step)
        values = reading.values | {
            ("hard_failed" if name == "hard" else f"{name}_unused"): float(watch.ringing)
            for name, watch in self._watches.items()
        }
        self.history.append({"step": step, **values})
        self._cost.add(self._cost.clock() - before)
        return values

    # -- one check ------------------------------------------------------------------------------------------------

    def _require_same(self) -> None:
        """Once, and no part of what checks cost: score the held-out pairs twice; ModelError if the scores differ."""
        own = np.arange(len(self._image))[:, None]
        with undisturbed(self.modules, self.seed):
            require_same(*(self._scores(self.held_out, own, own) for _ in range(2)))

    def _look(self) -> Reading:
        pairs, own = self.held_out, np.arange(len(self._image))
        with undisturbed(self.modules, self.seed):
            cells = Cells(
                own=self._scores(pairs, own[:, None], own[:, None]),
                image=self._scores(pairs, self._image, own[:, None]),
                text=self._scores(pairs, own[:, None], self._text),
                both=self._scores(pairs, self._image, self._text),
            )
            hard_own = None
            if self.hard is not None and self._hard_target is not None:
                rows = np.arange(len(self._hard_target))[:, None]
                hard_own = self._scores(self.hard, rows, rows)
        reading = read(cells, self._target, self.rule, self.seed)
        if hard_own is not None and self._hard_target is not None:
            read_hard(reading, hard_own, self._hard_target, chance_of(self._target), self.rule)
        return reading

    # -- alarms ---------------------------------------------------------------------------------------------------

    def _ring(self, name: str, watch: Watch, step: int, reading: Reading) -> None:
        since = step if watch.since is None else watch.since
        v = reading.values
        seen = f"accuracy {_between(v, 'accuracy')} (chance {chance_of(self._target):.3g})"
        if name in MODALITIES:
            lost = _between(v, f"perceptual_score_{name}")
            moved = _between(v, f"reliance_{name}")
            text = f"{name} unused since step {since}: {seen}; another pair's {name} costs {lost}; reliance {moved}"
            alarm = Alarm(name, f"{name} swapped", since, step, text)
        else:
            hard = f"{_between(v, 'accuracy_hard')} (chance {chance_of(self._hard_target):.3g})"
            text = f"hard pairs failed since step {since}: {seen} on held-out pairs, {hard} on hard ones"
            alarm = Alarm("undetermined", "hard pairs", since, step, text)
        self.alarms.append(alarm)
        LOG.warning("%s (seen at step %d)", text, step)
        if self.on_alarm is not None:
            self.on_alarm(alarm)

    def _end(self, name: str, step: int) -> None:
        cause = "hard pairs" if name == "hard" else f"{name} swapped"
        last = max(i for i, alarm in enumerate(self.alarms) if alarm.cause == cause)
        self.alarms[last] = replace(self.alarms[last], ended_at=step)
        LOG.warning("no longer so at step %d: %s", step, self.alarms[last].text)

    @property
    def ringing(self) -> list[Alarm]:
        """The alarms that go on."""
        return [alarm for alarm in self.alarms if alarm.ended_at is None]

    # -- what it cost, and what it says ---------------------------------------------------------------------------

    def cost(self) -> float:
        """Share of the time since the first step that the checks took, 0 to 1; NaN before it."""
        return self._cost.share

    def recommended_every(self) -> int | None:
        """The smallest `every` within the budget at the cost seen so far; None before the first check."""
        return self._cost.steps_within(self.budget)

    def summary(self) -> str:
        """Pairs, checks, their cost, the alarms, and what is undefined, as text."""
        lines = [
            f"{len(self._image)} held-out pairs, {self._image.shape[1]} partner(s) each; {self._cost.checks} checks"
        ]
        best = self.recommended_every()
        if best is not None:
            spaced = "by the clock" if self.every is None else f"every {self.every} steps"
            lines.append(
                f"checks {spaced} took {self.cost():.1%} of the time; every={best} stays within {self.budget:.0%}"
            )
        if self._too_few:
            lines.append(self._too_few)
        lines += [f"{alarm.text}" + _ending(alarm) for alarm in self.alarms] or ["no alarm"]
        lines += [f"{name}: {reason}" for name, reason in self.reasons.items()]
        return "\n".join(lines)

    # -- resuming -------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Plain values, for `torch.save` or JSON, with which another Monitor of the same held-out pairs goes on."""
        return {
            "format": FORMAT,
            "held_out": self._digest,
            "rule": asdict(self.rule),
            "last": self.last_step,
            "history": [dict(values) for values in self.history],
            "alarms": [asdict(alarm) for alarm in self.alarms],
            "watches": {name: watch.state_dict() for name, watch in self._watches.items()},
            "cost": self._cost.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a state was taken.

        Raises
        ------
        DataError
            The state is of other held-out pairs, partners, seed or rule, or of no monitor of this version.
        """
        check_state(state, self.state_dict())
        patience = {name: watch.patience for name, watch in self._watches.items()}
        self._watches = {
            name: Watch(**{**found, "patience": patience[name]}) for name, found in state["watches"].items()
        }
        self.history = [dict(values) for values in state["history"]]
        self.alarms = [Alarm(**alarm) for alarm in state["alarms"]]
        self.last_step = state["last"]
        self._cost = Cost(**state["cost"], clock=self._cost.clock)


def a_monitor(given: object) -> Monitor:
    """What a loop of a framework was given as its monitor, if it is one."""
    if not isinstance(given, Monitor):
        raise ParamsError(
            f"monitor is {type(given).__name__}", expected="a Monitor", remedy="make one: Monitor(model, held_out)"
        )
    return given


def _ending(alarm: Alarm) -> str:
    return "" if alarm.ended_at is None else f" (no longer at step {alarm.ended_at})"


def _between(values: dict[str, float], name: str) -> str:
    """A value with its interval, as text."""
    value, low, high = (values[f"{name}{end}"] for end in ("", "_ci_low", "_ci_high"))
    return f"{value:.3f}" if math.isnan(low) else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _labels(pairs: HeldOut | None) -> NDArray[np.int64] | None:
    """(pair,) labels, None without any."""
    if pairs is None or pairs.target is None:
        return None
    return np.asarray(pairs.target.detach().cpu().numpy()).astype(np.int64)
