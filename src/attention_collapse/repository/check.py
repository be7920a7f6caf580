"""Is a model of a study severe? For a user's own CI."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from attention_collapse.engine.decision import read_severity
from attention_collapse.errors import ParamsError
from attention_collapse.files import read_json
from attention_collapse.measures.mcs import SEVERE
from attention_collapse.params import load_params
from attention_collapse.stats.decision import Gates, Severity, is_severe
from attention_collapse.study.layout import Study


@dataclass(frozen=True)
class Verdict:
    """What `check` found: a line a model and one in all, who is severe, and how many had a verdict at all."""

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
        remedy="correct --study, or run from the repository's root",
    )


def _exceeds(model: Severity, threshold: float, alpha: float) -> bool:
    """Severe by the study's own test where the threshold is the tested one, else by the interval's lower bound."""
    if threshold == SEVERE:
        return is_severe(model, Gates(alpha=alpha, imbalance=threshold))
    return model.ci_low is not None and model.ci_low > threshold


def _judged(model: Severity, threshold: float) -> bool:
    return (model.p_holm if threshold == SEVERE else model.ci_low) is not None


def check(study: str, threshold: float, measure: str | None = None, root: Path = Path()) -> Verdict:
    """Whether a model under test is severe. Where `judged` is 0 nothing was found out, so it is no pass.

    Parameters
    ----------
    study
        Name of a study whose `stats.json` is there.
    threshold
        Mean imbalance, 0.5 to below 1. At 0.8, the value that the statistics test, a model is severe if that test
        rejects after Holm's correction; at any other, if the lower bound of the mean's interval lies above it.
    measure
        The share that is judged; None is the study's `decision.measure`.
    """
    found = find_study(study, root)
    measure = measure or found.params.decision.measure
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
        if not _judged(model, threshold):
            lines.append(f"{shown}: NO VERDICT ({model.reason})")
            continue
        judged += 1
        if _exceeds(model, threshold, found.params.decision.alpha):
            severe.append(name)
        lines.append(f"{shown}: {'SEVERE' if name in severe else 'not severe'}")
    lines.append(f"{len(severe)} severe of {judged} judged, {len(tested)} under test")
    return Verdict(lines, severe, judged)
