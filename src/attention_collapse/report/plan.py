"""What `attention-collapse plan` prints: a table of passes, and one of time and memory, at most 100 columns wide."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from attention_collapse.engine.calibration import Calibration
from attention_collapse.engine.passes import STEPS
from attention_collapse.engine.plan import Cost, ModelPlan, StudyPlan
from attention_collapse.files import significant

WIDTH = 100
BUSY = 0.8  # share of a processor below which its clock says more of others than of the model
TITLES = {"attention": "attention", "contribution": "contributions", "t_shap": "T-SHAP"}
UNITS = (("s", 1.0, 120.0), ("min", 60.0, 120.0), ("h", 3600.0, float("inf")))  # name, seconds, and up to how many


def two_digits(value: float) -> str:
    """A number with two significant digits, and none behind the point that says nothing.

    Examples
    --------
    >>> two_digits(1.4386), two_digits(137.2), two_digits(0.0512)
    ('1.4', '140', '0.051')
    """
    found = significant(value, 2) or 0.0
    return f"{found:,.0f}" if found >= 10 else f"{found:.2g}"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours with two significant digits.

    Examples
    --------
    >>> duration(5040), duration(95), duration(1_000_000)
    ('84 min', '95 s', '280 h')
    """
    name, size, _ = next(unit for unit in UNITS if seconds / unit[1] < unit[2])
    return f"{two_digits(seconds / size)} {name}"


def memory(cost: Cost) -> str:
    """The peak of resident memory, and of the accelerator's where there is one."""
    parts = (cost.host_bytes, "") if cost.device_bytes is None else (cost.device_bytes, " GPU")
    return f"{two_digits(parts[0] / 2**30)} GiB{parts[1]}"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as their widest cell, the first to the left and all others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]


def _passes(model: ModelPlan) -> list[str]:
    """Passes of each step with those per pair of it, and all of them."""
    cells = []
    for step in STEPS:
        count, sign = sum(model.passes[step].values()), "≈ " if step in model.about else ""
        cells.append(f"{sign}{count:,} ({two_digits(model.per_pair[step])})" if count else "–")
    return [model.name, *cells, f"{'≈ ' if model.about else ''}{model.total:,}"]


def _costs(model: ModelPlan) -> list[str]:
    return [model.name, *(f"{duration(one.seconds)}, {memory(one)}" if one else "not measured" for one in model.costs)]


def _steps(model: ModelPlan, cost: Cost | None) -> list[str]:
    if cost is None:
        return [model.name, "not measured", *[""] * (len(STEPS) + 2)]
    each = [duration(cost.steps[step]) if model.passes[step] else "–" for step in STEPS]
    return [model.name, *each, duration(cost.start), duration(cost.seconds), memory(cost)]


def _times(plan: StudyPlan) -> list[str]:
    """With one machine every step; with several their totals side by side."""
    totals = [f"{duration(seconds)} for {models}" if models else "nothing" for seconds, models in plan.totals()]
    if len(plan.machines) == 1:
        head = ["time", *TITLES.values(), "start", "in all", "memory"]
        last = ["all that were measured", *[""] * len(STEPS), "", totals[0], ""]
        return _table([head, *(_steps(one, one.costs[0]) for one in plan.models), last])
    head = ["time and memory", *(f"[{index + 1}]" for index in range(len(plan.machines)))]
    return _table([head, *map(_costs, plan.models), ["all that were measured", *totals]])


def _share(one: Calibration) -> float:
    """The least share of a processor that a model had while it was timed on a CPU; 1 of what runs elsewhere."""
    on_cpu = one.machine.device == "cpu"
    return min((measured.processor_share for measured in one.models.values()), default=1.0) if on_cpu else 1.0


def plan_text(plan: StudyPlan) -> str:
    """What a person reads before a run."""
    foils = f", {plan.foils:,} hard foils of first captions" if plan.foils else ""
    lines = [
        f"Study {plan.study}: {plan.images:,} images, {plan.captions:,} captions{foils}",
        *_wrapped(f"by {plan.source}", "  "),
        "",
    ]
    head = ["passes (per pair)", *TITLES.values(), "in all"]
    lines += [*_table([head, *map(_passes, plan.models)]), ""]
    lines += _wrapped(
        f"A pass is one image, text or pair that goes through the model. Per pair: attention per caption, "
        f"contributions per image with its first caption, T-SHAP per image that it explains ({plan.explained:,}). "
        "≈: the exact number follows from the captions' tokens, or from pairs that are not fetched. T-SHAP takes no "
        "pass of a model whose score is at chance."
    )
    lines.append("")
    if not plan.machines:
        lines += _wrapped(
            f"Time: not measured. `attention-collapse plan {plan.study} --calibrate` times a few pairs of each model "
            "that is here."
        )
    else:
        lines += _times(plan)
        lines += ["", *(line for index, one in enumerate(plan.machines)
                        for line in _wrapped(f"[{index + 1}] {one.machine.words}"))]  # fmt: skip
        lines += _wrapped(
            "Time is linear in the passes: passes times the median of what a pass of a few pairs took, plus the start "
            "of the model, measured apart, once for each of the two stages that load it. It leaves out what grows with "
            "the square of the images (a dual encoder's grid of scores), statistics and figures, reading from a disk "
            "that is slower than it was then, and other load on the machine. Memory is the peak over these few pairs."
        )
    if busy := [share for one in plan.machines if (share := _share(one)) < BUSY]:
        lines += _wrapped(
            f"A machine was busy while it was timed: {min(busy):.0%} of a processor was the model's. An idle one is "
            "faster: calibrate anew when it is idle."
        )
    if refused := [one for one in plan.models if one.why_not]:
        lines += ["", "Not measured here:"]
        lines += [line for one in refused for line in _wrapped(f"{one.name}: {one.why_not}", "  ")]
    return "\n".join(line.rstrip() for line in lines)


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=indent, subsequent_indent=indent + "  " * bool(indent), break_on_hyphens=False
    )
