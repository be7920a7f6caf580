"""The tables of docs/prevention.md, from the metrics; each stands there between a pair of marks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attention_collapse.engine.arm_cells import BASELINE, OTHER
from attention_collapse.engine.arm_summary import cue_key
from attention_collapse.engine.at_inference import PAPER, REMEDIES
from attention_collapse.errors import DataError
from attention_collapse.params import Dose, Prevention
from attention_collapse.registry import kind_label
from attention_collapse.report.markdown import DASH
from attention_collapse.report.prevention import repeated

Found = Mapping[str, Any]
CUES = {"text": "one word", "image": "a mark in the image", "words": "all words"}
WAYS = ("way to train", "accuracy, cue says nothing", "gain over plain, 95 % CI", "accuracy as trained")


def tables(found: Found, study: Prevention) -> dict[str, str]:
    """Name of the mark -> Markdown.

    Parameters
    ----------
    found
        The metrics of the stage prevention.
    """
    first, whole = study.doses[0], next(iter(study.kinds))
    image = next((dose for dose in study.doses[1:] if dose.modality == "image"), None)
    own = [dose for dose in study.doses if dose not in (first, image)]
    made: dict[str, Iterator[Sequence[str]]] = {
        "ways": _ways(found, study, (whole, first)),
        "kinds": _kinds(found, first, study),
        "cues": _cues(found, own, study),
        "at-inference": _at_inference(found, whole, first),
        "inference": _inference(found, first, study),
        "monitored": _monitored(found, first, study),
    }
    if image and _cues_of(found, whole, image):
        made["image"] = _ways(found, study, (whole, image))
    return {name: _markdown(rows) for name, rows in made.items()}


def fill(page: str, made: Mapping[str, str]) -> str:
    """The page with each table between its marks; DataError where a mark is missing."""
    for name, text in made.items():
        begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
        if begin not in page or end not in page:
            raise DataError(
                f"the page has no marks of the table {name}", expected=f"{begin.strip()} … {end}",
                remedy="put them where the table shall stand",
            )  # fmt: skip
        head, rest = page.split(begin, 1)
        page = head + begin + text + end + rest.split(end, 1)[1]
    return page


def _markdown(rows: Iterator[Sequence[str]]) -> str:
    heads, *body = ("| " + " | ".join(cells) + " |\n" for cells in rows)
    return heads + "|---" * (heads.count(" | ") + 1) + "|\n" + "".join(body)


def _mean(summary: Found) -> str:
    return DASH if summary["mean"] is None else f"{summary['mean']:.3f}"


def _signed(summary: Found) -> str:
    """A difference with its interval, as pages write it; of one seed, without."""
    if summary["mean"] is None:
        return DASH
    ends = "" if summary["ci_low"] is None else " [{ci_low:+.3f}, {ci_high:+.3f}]".format(**summary)
    return f"{summary['mean']:+.3f}{ends}".replace("-", "−")


def _in_order(arms: Found, study: Prevention) -> list[tuple[str, Found]]:
    return [(arm, arms[arm]) for arm in study.arms if arm in arms]


def _cues_of(found: Found, kind: str, dose: Dose) -> Found:
    arms: Found = found["kinds"].get(kind, {}).get(cue_key(dose), {})
    return arms


def _ways(found: Found, study: Prevention, where: tuple[str, Dose]) -> Iterator[Sequence[str]]:
    yield [*WAYS, f"reliance on the {OTHER[where[1].modality]}", "cost", "verdict"]
    for arm, one in _in_order(_cues_of(found, *where), study):
        gain = "" if arm == BASELINE else _signed(one["gain"])
        cost = DASH if one["cost"] is None else f"{one['cost']:.1f}"
        means = [_mean(one[name]) for name in ("trained", "reliance")]
        yield [f"`{arm}`", _mean(one["neutral"]), gain, *means, cost, one.get("verdict", "")]


def _kinds(found: Found, first: Dose, study: Prevention) -> Iterator[Sequence[str]]:
    """The arms that several kinds were trained in; a star where an arm prevents."""
    kinds = {kind: arms for kind in study.kinds if (arms := _cues_of(found, kind, first))}
    yield ["way to train", *map(kind_label, kinds)]

    def told(arms: Found, arm: str) -> str:
        one = arms.get(arm)
        if not one or (arm != BASELINE and one["n_pairs"] < 2):
            return DASH
        return _mean(one["neutral"]) if arm == BASELINE else _signed(one["gain"]) + _star(one)

    for arm in repeated(found["kinds"], study):
        yield [f"`{arm}`", *(told(arms, arm) for arms in kinds.values())]
    yield ["seeds", *(_seeds(arms) for arms in kinds.values())]


def _star(one: Found) -> str:
    return " ★" if one["verdict"] == "prevents" else ""


def _seeds(arms: Found) -> str:
    """How many seeds the arms have: the least and the greatest number."""
    seeds = [one["n_seeds"] for one in arms.values()]
    return f"{min(seeds)}" if min(seeds) == max(seeds) else f"{min(seeds)} to {max(seeds)}"


def _cues(found: Found, doses: Sequence[Dose], study: Prevention) -> Iterator[Sequence[str]]:
    yield ["cue, right in training", "kind", *WAYS, "reliance on what is ignored", "seeds", "verdict"]
    for dose in doses:
        cue = f"{CUES[dose.modality]}, {100 * dose.reliability:g} %"
        for kind in study.kinds:
            for arm, one in _in_order(_cues_of(found, kind, dose), study):
                gain = "" if arm == BASELINE else _signed(one["gain"])
                means = [_mean(one[name]) for name in ("trained", "reliance")]
                told = [f"{one['n_seeds']}", one.get("verdict", "")]
                yield [cue, kind_label(kind), f"`{arm}`", _mean(one["neutral"]), gain, *means, *told]


def _at_inference(found: Found, kind: str, dose: Dose) -> Iterator[Sequence[str]]:
    yield ["at inference", *WAYS[1:], "change of that, 95 % CI", "passes", "verdict"]
    for name in REMEDIES:
        if not (one := found["at_inference"].get(kind, {}).get(cue_key(dose), {}).get(name)):
            continue
        told = [_mean(one["neutral"]), _signed(one["gain"]), _mean(one["trained"]), _signed(one["change_trained"])]
        yield [f"`{name}`", *told, f"{one['passes']:g}", one.get("verdict", "")]


def _inference(found: Found, dose: Dose, study: Prevention) -> Iterator[Sequence[str]]:
    heads = ["as they are", "with the contrast", "gain, 95 % CI", "change as trained, 95 % CI", "verdict"]
    yield ["kind", *heads]
    for kind in study.kinds:
        if one := found["at_inference"].get(kind, {}).get(cue_key(dose), {}).get(PAPER):
            plain = _cues_of(found, kind, dose)[BASELINE]["neutral"]
            gains = [_signed(one["gain"]), _signed(one["change_trained"])]
            yield [kind_label(kind), _mean(plain), _mean(one["neutral"]), *gains, one["verdict"]]


def _monitored(found: Found, dose: Dose, study: Prevention) -> Iterator[Sequence[str]]:
    yield ["kind", "collapsed", "alarm by hard pairs", "by swaps", "delay of the first", "false alarms"]
    for kind in study.kinds:
        if one := found["monitor"].get(kind, {}).get(cue_key(dose)):
            hard, swap = one["neutral_pairs"], one["swap"]
            delay = DASH if hard["delay"] is None else f"{100 * hard['delay']:.0f} % of the run"
            rang = [f"{hard['rang']}", f"{swap['rang']}", delay]
            false = f"{hard['false']} and {swap['false']} of {hard['sound']}"
            yield [kind_label(kind), f"{hard['collapsed']}", *rang, false]
