"""What a diagnosis may say follows from the intervals of its numbers, and is never stronger than the contract."""

import math
from dataclasses import replace

import pytest

from attention_collapse.report.conclusion import conclude
from attention_collapse.report.diagnosis import Diagnosis
from attention_collapse.report.digits import fixed
from attention_collapse.report.estimate import Estimate

N = 80


def estimate(name, mean, low=None, high=None, n=N, reason=""):
    sd = 0.0 if mean is not None and low is None else 0.1
    return Estimate(name, mean, sd, low, high, n if mean is not None else 0, 0, 0.95, reason)


def diagnosis(severity=None, settings=None, n=N, readings=None, family="cross-attention fusion", **values):
    known = {
        "mcs": (0.75, 0.74, 0.76), "mcs_null": (0.74, 0.73, 0.75), "accuracy": (0.9, 0.8, 0.95),
        "choice_image": (0.9, 0.8, 0.95), "choice_text": (0.9, 0.8, 0.95), "reliance_share": (0.5, 0.45, 0.55),
        "reliance_image": (0.9, 0.8, 1.0), "reliance_text": (0.9, 0.8, 1.0),
    } | values  # fmt: skip
    lean = {"p": 0.9, "p_balanced": 0.001, "mean": 0.55, "ci_low": 0.5, "ci_high": 0.6, "ignored": "the image"}
    return Diagnosis(
        model="m", family=family, weights={"untrained": False},
        settings={"severe": 0.8, "confidence": 0.95, "rows": "all"} | (settings or {}), data={}, environment={},
        n_images=n, n_pairs=n, n_truncated=0, skipped=[],
        estimates={name: estimate(name, *value) for name, value in known.items() if value is not None}, layers={},
        readings={"original": "vision collapse", "null": "no departure from the null"} | (readings or {}),
        details={"severity": {"reliance_share": lean | (severity or {})}}, captions={},
    )  # fmt: skip


def said(result):
    return " ".join(conclude(result).may_be_said)


def unsaid(result):
    return " ".join(conclude(result).may_not_be_said)


def test_it_uses_the_image_takes_a_decision_that_fails_without_it():
    without_foils = diagnosis()
    assert "uses the image" not in said(without_foils) and "these pairs have none" in unsaid(without_foils)
    hard = {"accuracy_hard": (0.8, 0.7, 0.9), "blind_accuracy": (0.5, 0.45, 0.55)}
    fails = diagnosis(**hard, perceptual_image_hard=(0.3, 0.2, 0.4))
    assert "It uses the image" in said(fails) and "these pairs have none" not in unsaid(fails)
    unclear = diagnosis(**hard, perceptual_image_hard=(0.1, -0.01, 0.2))
    assert "uses the image" not in said(unclear) and "need the picture is not shown" in said(unclear)
    mean_alone = diagnosis(**hard, perceptual_image_hard=(0.3, None, None, N, "no variance"))
    assert "decisions fail without it" in said(mean_alone)  # all images alike: nothing to draw an interval from


@pytest.mark.parametrize(("low", "shown"), [(0.51, True), (0.5, False), (0.45, False)])
def test_a_choice_is_shown_by_the_lower_end_of_its_interval(low, shown):
    result = diagnosis(choice_image=(0.6, low, 0.7))
    assert ("reads the image, at least" in said(result)) is shown and "reads the text, at least" in said(result)


def test_a_model_at_chance_gets_no_word_of_use():
    result = diagnosis(
        accuracy=(0.57, 0.46, 0.67), choice_image=(0.9, 0.8, 0.95),
        reliance_share=(None, None, None, 0, "its score does not tell matching pairs from others"),
    )  # fmt: skip
    assert said(result).startswith("Nothing of what its score depends on")
    assert not any(word in said(result) for word in ("reads", "uses", "leans"))


def test_an_accuracy_without_an_interval_counts_by_its_mean_as_for_the_measures_that_need_it():
    nearly_all = estimate("accuracy", 0.975, None, None, N, "too few different values for a BCa interval")
    result = diagnosis()
    known = dict(result.estimates) | {"accuracy": replace(nearly_all, sd=0.15)}
    assert "reads the image" in said(replace(result, estimates=known))


def test_a_lean_is_a_finding_where_its_test_rejects_and_says_whether_accuracy_agrees():
    severe = {"p": 0.01, "p_balanced": 0.99, "mean": 0.95, "ci_low": 0.9, "ci_high": 0.99}
    agrees = diagnosis(severity=severe, perceptual_score_image=(0.03, 0.01, 0.05))
    assert "leans on one modality: the image counts for less" in said(agrees) and "confirms it" in said(agrees)
    differs = diagnosis(severity=severe, perceptual_score_image=(0.4, 0.3, 0.5))
    assert "does not confirm it" in said(differs)
    undecided = diagnosis(severity={"p": 0.3, "p_balanced": 0.3})
    assert "undecided" in said(undecided) and "does not lean" not in said(undecided)
    unknown = diagnosis(severity={"p": math.nan, "p_balanced": None, "ci_low": math.nan, "mean": 0.6})
    assert "undecided" in said(unknown) and "nan" not in said(unknown).lower()


def test_without_swaps_with_few_images_and_of_untrained_weights():
    assert "no modality was swapped (why)" in said(diagnosis(settings={"reason": "why"}))
    few = diagnosis(n=9, readings={"original": "no verdict", "null": "no verdict"})
    assert said(few) == "Nothing but these means: a mean without an interval supports no statement (9 images, 10 or " \
        "more needed)."  # fmt: skip
    fresh = replace(diagnosis(), weights={"untrained": True})
    assert conclude(fresh).may_be_said[0].startswith("The weights are untrained")


def test_attention_is_never_said_to_prove_use_and_the_null_stands_beside_the_verdict():
    assert "and of uniform attention the same" in said(diagnosis())
    assert "no proof of what its answer depends on" in unsaid(diagnosis())
    nothing = diagnosis(mcs=(None, None, None, 0, "no attention"), mcs_null=(None, None, None, 0, "no attention"))
    assert "Where it looks" not in said(nothing) and "by its attention" not in unsaid(nothing)


def test_no_sentence_stands_twice_and_lines_are_short():
    lines = diagnosis().conclusion().lines()
    both = (*diagnosis().conclusion().may_be_said, *diagnosis().conclusion().may_not_be_said)
    assert len(set(both)) == len(both) and max(map(len, lines)) <= 120


@pytest.mark.parametrize(
    ("value", "shown"), [(-0.00001, "0.0000"), (0.0, "0.0000"), (-0.0, "0.0000"), (-0.00006, "-0.0001"), (2, "2.0000")]
)
def test_what_rounds_to_zero_has_no_sign(value, shown):
    assert fixed(value) == shown and "0.0000" not in fixed(-0.00006)
    assert fixed(0.00001, sign=True) == "0.0000" and fixed(0.5, 2, sign=True) == "+0.50"
    assert "-0.0000" not in str(estimate("x", -0.00001, -0.00001, 0.1))
