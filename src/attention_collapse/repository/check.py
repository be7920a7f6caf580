"""Is a model of a study severe? For a user's own CI."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from attention_collapse.engine.decision import read_severity, require_severity_measure
from attention_collapse.errors import ParamsError
from attention_collapse.files import read_json
from attention_collapse.params import Stats, load_params
from attention_collapse.stats.decision import Gates, Severity, is_severe
from attention_collapse.study.layout import Study


@dataclass(frozen=True)
class Verdict:
    """What `check` found: one line per model and one in all, who is severe, and how many had a verdict at all."""

    lines: list[str]
    severe: list[str]
    judged: int


def find_study(name: str, root: Path = Path()) -> Study:
    """The study of that name among `params.yaml` and `studies/*/params.yaml`."""
    studies = [
        Study(load_params(file), root) for file in (root / "params.yaml", *sorted(root.glob("studies/*/params.yaml")))
    ]
    for study in studies:
        if study.params.study == name:
            return study
    raise ParamsError(
        f"no study {name!r}",
        expected=f"one of {', '.join(study.params.study for study in studies)}",
        remedy="correct --study, or give the study its studies/<name>/params.yaml",
    )


def _exceeds(model: Severity, threshold: float, stats: Stats) -> bool | None:
    """Severe by the study's own test where the threshold is the tested one, else by the interval's lower bound.

    None: there is no such test, or no interval.
    """
    if threshold == stats.severe:
        gates = Gates(1, 1, alpha=stats.alpha, imbalance=stats.severe, confirm_margin=0)
        return None if model.p_holm is None else is_severe(model, gates)
    return None if model.ci_low is None else model.ci_low > threshold


def check(study: str, threshold: float | None = None, measure: str | None = None, root: Path = Path()) -> Verdict:
    """Whether a model under test is severe. Where `judged` is 0 nothing was found out, so it is no pass.

    Parameters
    ----------
    study
        Name of a study whose `stats.json` is there.
    threshold
        Mean imbalance, 0.5 to below 1. At `stats.severe` (None), which the statistics test, a model is severe if that
        test rejects after Holm's correction; at any other, if the lower bound of the mean's interval lies above it.
    measure
        The share that is judged; None is the study's `decision.measure`.
    """
    found = find_study(study, root)
    measure, stats = measure or found.params.decision.measure, found.params.stats
    threshold = stats.severe if threshold is None else threshold
    require_severity_measure(measure, "the measure")
    statistics = read_json(found.statistics)
    lines, severe, judged = [], [], 0
    tested = [name for name, spec in found.params.models.items() if spec.standing != "control"]
    for name in tested:
        model = read_severity(statistics, name, measure, str(found.statistics), in_house=False)
        shown = f"{name}: no mean imbalance by {measure}"
        if model.mean is not None:
            interval = "no interval"
            if model.ci_low is not None and model.ci_high is not None:
                interval = f"[{model.ci_low:.3f}, {model.ci_high:.3f}]"
            shown = (
                f"{name}: mean imbalance {model.mean:.3f} {interval} by {measure}, n = {model.n}, at most {threshold:g}"
            )
        exceeds = _exceeds(model, threshold, stats)
        if exceeds is None:
            lines.append(f"{shown}: NO VERDICT ({model.reason})")
            continue
        judged += 1
        if exceeds:
            severe.append(name)
        lines.append(f"{shown}: {'SEVERE' if name in severe else 'not severe'}")
    lines.append(f"{len(severe)} severe of {judged} judged, {len(tested)} under test")
    return Verdict(lines, severe, judged)
