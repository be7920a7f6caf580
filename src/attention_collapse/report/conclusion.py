"""What a diagnosis's numbers allow to be said, and what they do not, in whole sentences.

The command line, the JSON and the notebook print the same. No sentence is stronger than docs/measures.md, sections 5
and 6: each rests on an interval, "uses the image" takes reliance and a decision that fails without the image, and a
mean without an interval supports nothing.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attention_collapse.measures.mcs import original_reading
from attention_collapse.params import Decision
from attention_collapse.report.digits import fixed
from attention_collapse.stats.few_images import too_few

if TYPE_CHECKING:
    from attention_collapse.report.diagnosis import Diagnosis
    from attention_collapse.report.estimate import Estimate

WIDTH = 110  # characters of a printed line
CHANCE = 0.5
NOT_OF_ATTENTION = (
    "That it uses or ignores a modality, by its attention: where a model looks is no proof of what its answer "
    "depends on."
)
NO_FOILS = (
    "That its decisions need the picture: a high accuracy against random foils does not show it. It takes foils in "
    "which one thing is changed, and these pairs have none."
)
ELSEWHERE = (
    "Anything of other data, of another checkpoint, or of “models”: this is one model on these {n} images. A claim "
    "about models takes several of them, and a correction for asking more than once, as a study makes it (`dvc repro`)."
)


@dataclass(frozen=True)
class Conclusion:
    """Sentences that the numbers support, and sentences that they do not."""

    may_be_said: tuple[str, ...]
    may_not_be_said: tuple[str, ...]

    def lines(self) -> list[str]:
        """As they are printed."""
        found = []
        for head, sentences in (("may be said", self.may_be_said), ("may not be said", self.may_not_be_said)):
            found.append(head)
            for sentence in sentences:
                found += textwrap.wrap(
                    sentence, WIDTH, initial_indent="  - ", subsequent_indent="    ", break_on_hyphens=False
                )
        return found


def conclude(result: Diagnosis) -> Conclusion:
    """The sentences for one diagnosis."""
    said = list(_control(result))
    if few := too_few(result.n_images):
        said.append(f"Nothing but these means: a mean without an interval supports no statement ({few}).")
    else:
        said += [*_use(result), *_attention(result)]
    return Conclusion(tuple(said), tuple(_unsaid(result)))


def _control(result: Diagnosis) -> Iterator[str]:
    if result.weights["untrained"]:
        yield "The weights are untrained: all of this is about the architecture, and nothing of it was learned."


def _use(result: Diagnosis) -> Iterator[str]:
    """What the score depends on, as far as it was asked."""
    if "reason" in result.settings:
        yield f"Nothing of what its score depends on: no modality was swapped ({result.settings['reason']})."
        return
    if not any(_tells(result, name) for name in ("accuracy", "accuracy_hard")):
        yield (
            f"Nothing of what its score depends on. That it tells a caption from another pair's is not shown (accuracy "
            f"{_shown(result, 'accuracy')}), so there is nothing to take apart."
            + ("" if result.weights["untrained"] else " Perhaps these are not the data that it was trained for.")
        )
        return
    for modality, of in (("image", "Of two images for one caption"), ("text", "Of two captions for one image")):
        name = f"choice_{modality}"
        if _is_above(result, name, CHANCE):
            yield (
                f"{of} it prefers the right one more often than chance, in {_shown(result, name)} of trials: its score "
                f"reads the {modality}, at least for what the picture is about."
            )
        elif name in result.estimates:
            yield f"{of}, that it prefers the right one is not shown ({_shown(result, name)}, chance {CHANCE:g})."
    yield from _decisions(result)
    yield from _lean(result)


def _decisions(result: Diagnosis) -> Iterator[str]:
    """Whether a decision fails without the image: with hard foils alone this can be known."""
    lost = result.estimates.get("perceptual_image_hard")
    if lost is None or lost.mean is None:
        return
    if not _is_above(result, "perceptual_image_hard", 0.0):
        blind = _shown(result, "blind_accuracy")
        yield (
            "That its decisions need the picture is not shown: against captions with one thing changed it loses "
            f"{_shown(result, 'perceptual_image_hard')} of its accuracy with another image, and has {blind} there."
        )
        return
    both = _is_above(result, "reliance_image", 0.0)
    whole = "It uses the image: the score moves with it, and" if both else "Of what these foils change,"
    yield (
        f"{whole} decisions fail without it. Against captions with one thing changed it loses "
        f"{_shown(result, 'perceptual_image_hard')} of its accuracy with another image."
    )


def _lean(result: Diagnosis) -> Iterator[str]:
    """Whether it leans on one modality beyond the bound of severity, by reliance (section 6)."""
    share, found = result["reliance_share"], result.details.get("severity", {}).get("reliance_share")
    if share.mean is None or not found:
        yield f"Nothing of how it shares out between image and text: {share.reason}."
        return
    bound, alpha = result.settings["severe"], 1 - result.settings["confidence"]
    interval = _interval_of(found)
    dual = " (of a dual encoder both reliances lie near 1 by its task)" if result.family == "dual encoder" else ""
    if _below(found["p"], alpha):
        yield (
            f"By reliance it leans on one modality: {found['ignored']} counts for less, with an imbalance of "
            f"{interval}, which is above {bound:g}. {_confirmed(result, found['ignored'])}"
        )
    elif _below(found["p_balanced"], alpha):
        yield f"By reliance it does not lean on one modality beyond the bound of {bound:g}: imbalance {interval}{dual}."
    else:
        yield f"Whether it leans on one modality beyond the bound of {bound:g} is undecided: imbalance {interval}."


def _confirmed(result: Diagnosis, ignored: str) -> str:
    """What accuracy says of a lean that reliance shows: neither counts alone."""
    name, margin = "perceptual_score_text", Decision().confirm_margin
    if ignored == "the image":
        hard = result.estimates.get("perceptual_image_hard")
        name = "perceptual_image_hard" if hard is not None and hard.mean is not None else "perceptual_score_image"
    lost = result.estimates[name].mean
    agrees = "does not confirm it" if lost is None or lost > margin else "confirms it"
    return (
        f"Its accuracy {agrees}: with {ignored} swapped it loses {_shown(result, name)} (at most {margin:g} confirms)."
    )


def _attention(result: Diagnosis) -> Iterator[str]:
    """Where it looks, beside what uniform attention gives."""
    mcs, null = result["mcs"], result["mcs_null"]
    if mcs.mean is None or null.mean is None:
        return
    verdict, of_null = result.readings["original"], original_reading(null.mean)
    same = "and of uniform attention the same" if verdict == of_null else f"and of uniform attention “{of_null}”"
    yield f"Where it looks: {result.readings['null']}. The reported cut-offs say “{verdict}”, {same}."


def _unsaid(result: Diagnosis) -> Iterator[str]:
    if result["mcs"].mean is not None:
        yield NOT_OF_ATTENTION
    hard = result.estimates.get("accuracy_hard")
    if "reason" not in result.settings and (hard is None or hard.mean is None):
        yield NO_FOILS
    yield ELSEWHERE.format(n=result.n_images)


def _is_above(result: Diagnosis, name: str, value: float) -> bool:
    """Whether the interval lies above the value; without any variance the mean does."""
    found = result.estimates.get(name)
    if found is None or found.mean is None or too_few(found.n):
        return False
    if found.interval is not None:
        return found.interval[0] > value
    return found.sd == 0 and found.mean > value


def _tells(result: Diagnosis, name: str) -> bool:
    """Whether an accuracy is above chance as competence asks (section 5): without an interval its mean counts."""
    found = result.estimates.get(name)
    if found is None or found.mean is None or too_few(found.n):
        return False
    return (found.interval[0] if found.interval else found.mean) > CHANCE


def _shown(result: Diagnosis, name: str) -> str:
    """A mean with its interval, as the list above prints them, shorter."""
    found: Estimate | None = result.estimates.get(name)
    if found is None or found.mean is None:
        return "undefined"
    if found.interval is None:
        return f"{fixed(found.mean, 3)} (no interval: {found.reason})"
    return f"{fixed(found.mean, 3)} [{fixed(found.interval[0], 3)}, {fixed(found.interval[1], 3)}]"


def _interval_of(summary: Mapping[str, Any]) -> str:
    mean, low, high = (summary[key] for key in ("mean", "ci_low", "ci_high"))
    if not _below(low, float("inf")):
        return f"{fixed(mean, 3)}, without an interval"
    return f"{fixed(mean, 3)} [{fixed(low, 3)}, {fixed(high, 3)}]"


def _below(value: float | None, limit: float) -> bool:
    """False for what is undefined, None or NaN."""
    return value is not None and value < limit
