"""The decision table (docs/measures.md, section 6), row by row, and its laws."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attention_collapse.stats.decision import Gates, Severity, decide, is_balanced, is_severe

GO, PIVOT, NO_GO, MORE = "GO", "PIVOT", "NO_GO", "NEED_MORE_DATA"
GATES = Gates(3, 2, alpha=0.05, imbalance=0.8, confirm_margin=0.05)
# in house?, images, imbalance with its interval, p of "not above the gate", p of "not below it", images to settle it
SEVERE = Severity(False, 100, 0.9, 0.88, 0.92, 0.001, 0.999, 40, ignored="the image", lost=0.01)
BALANCED = Severity(False, 100, 0.6, 0.58, 0.62, 1.0, 0.001, 40)
WEAK = Severity(False, 10, 0.78, 0.6, 0.95, 0.6, 0.4, 250)
NEAR = Severity(False, 4000, 0.82, 0.795, 0.83, 0.06, 0.9, 9000)  # a great sample that straddles the gate
FAILED = Severity(False, 1, 0.7, None, None, None, None, None, reason="1 defined value")
UNCONFIRMED = replace(SEVERE, lost=0.4)


def ours(model):
    return replace(model, in_house=True)


def study(*models):
    return {f"m{index}": model for index, model in enumerate(models)}


# Each row by hand from section 6: the models, the decision, further models and images without which there is none.
ROWS = [
    # GO: three tested, two external severe
    ((SEVERE, SEVERE, BALANCED), GO, 0, 0),
    ((SEVERE, SEVERE, SEVERE), GO, 0, 0),
    ((SEVERE, SEVERE, ours(BALANCED)), GO, 0, 0),
    ((SEVERE, SEVERE, WEAK), GO, 0, 0),  # what the third would say changes nothing
    # the same with too few: two tested, or one external severe
    ((SEVERE, SEVERE), MORE, 1, 0),
    ((SEVERE, BALANCED, BALANCED), MORE, 1, 0),
    ((SEVERE, ours(SEVERE), ours(SEVERE)), MORE, 1, 0),
    ((SEVERE, WEAK, BALANCED), MORE, 0, 250),  # the weak one may be the second
    ((SEVERE, SEVERE, FAILED), MORE, 0, None),  # two tested; a test that does not exist says no number
    ((SEVERE, UNCONFIRMED, BALANCED), MORE, 1, 0),  # the accuracy of one contradicts its share
    ((replace(SEVERE, lost=None), SEVERE, BALANCED), MORE, 1, 0),  # and what is unknown confirms nothing
    # PIVOT: only in-house models severe, every external one shown not to be
    ((ours(SEVERE), BALANCED, BALANCED), PIVOT, 0, 0),
    ((ours(SEVERE), ours(WEAK), BALANCED), PIVOT, 0, 0),  # what is asked of is the external models
    ((ours(SEVERE), BALANCED, WEAK), MORE, 0, 250),
    ((ours(SEVERE), ours(SEVERE), ours(SEVERE)), MORE, 1, 0),  # says nothing of external models: none was tested
    # NO_GO: every model shown not to be severe; three that straddle the gate are not, whatever their power
    ((NEAR, NEAR, NEAR), MORE, 0, 9000),
    ((BALANCED, BALANCED, BALANCED), NO_GO, 0, 0),
    ((BALANCED, BALANCED, ours(BALANCED)), NO_GO, 0, 0),
    ((BALANCED, BALANCED, WEAK), MORE, 0, 250),
    ((BALANCED, BALANCED, ours(WEAK)), MORE, 0, 250),
    ((BALANCED, replace(WEAK, n_to_settle=900), WEAK), MORE, 0, 900),
    # one model, or none
    ((BALANCED,), MORE, 2, 0),
    ((SEVERE,), MORE, 2, 0),
    ((WEAK,), MORE, 2, 250),
    ((), MORE, 3, 0),
]


@pytest.mark.parametrize(("models", "decision", "models_needed", "images_needed"), ROWS)
def test_each_row_of_the_table(models, decision, models_needed, images_needed):
    found = decide(study(*models), GATES)
    assert (found["decision"], found["models_needed"], found["images_needed"]) == (
        decision,
        models_needed,
        images_needed,
    )


@pytest.mark.parametrize(
    ("change", "severe"),
    [
        ({}, True),
        ({"p_holm": 0.05}, False),  # below α, not at it
        ({"p_holm": 0.049}, True),
        ({"mean": 0.8}, False),  # above 0.80, not at it
        ({"mean": 0.801}, True),
        ({"p_holm": None}, False),
    ],
)
def test_severe_is_above_the_gate_and_significant(change, severe):
    assert is_severe(replace(SEVERE, **change), GATES) is severe


@pytest.mark.parametrize(
    ("change", "balanced"),
    [
        ({}, True),
        ({"p_balanced_holm": 0.05}, False),  # below α, not at it
        ({"p_balanced_holm": None}, False),
        ({"mean": 0.8}, False),
        ({"n": 10**6}, True),
    ],
)
def test_not_severe_is_shown_by_an_upper_limit(change, balanced):
    assert is_balanced(replace(BALANCED, **change), GATES) is balanced
    assert decide(study(BALANCED, BALANCED, replace(BALANCED, **change)), GATES)["decision"] == (
        NO_GO if balanced else MORE
    )


def test_two_of_three_and_three_of_three_stand_side_by_side():
    for third, expected in ((BALANCED, (GO, MORE)), (ours(BALANCED), (GO, MORE)), (SEVERE, (GO, GO))):
        found = decide(study(SEVERE, SEVERE, third), GATES)
        assert (found["severe_two_of_three"], found["severe_all"]) == expected
    strict = decide(study(SEVERE, SEVERE, BALANCED), replace(GATES, models_severe=3))
    assert (strict["decision"], strict["severe_two_of_three"], strict["severe_all"]) == (MORE, GO, MORE)
    assert strict["models_needed"] == 1
    for name in ("severe_two_of_three", "severe_all"):
        assert decide(study(BALANCED, BALANCED, BALANCED), GATES)[name] == NO_GO


def test_gates_are_shown_with_the_value_they_turn_on():
    models = study(SEVERE, replace(SEVERE, p_holm=0.04, mean=0.85), BALANCED, ours(SEVERE))
    gates = decide(models, GATES)["gates"]
    assert gates["models_tested"] == {"required": 3, "found": 4, "met": True}
    assert gates["models_severe"] == {"required": 2, "found": 2, "met": True}
    assert gates["p"] == {"required": 0.05, "found": 0.04, "met": True}  # the second smallest of the external ones
    assert gates["imbalance"] == {"required": 0.8, "found": 0.85, "met": True}
    alone = decide(study(SEVERE), GATES)["gates"]
    assert alone["models_tested"] == {"required": 3, "found": 1, "met": False}
    assert alone["p"] == {"required": 0.05, "found": None, "met": False}
    assert not alone["imbalance"]["met"] and not alone["models_severe"]["met"]


def test_those_that_are_undecided_are_named():
    found = decide(study(SEVERE, WEAK, ours(WEAK), FAILED, BALANCED), GATES)
    assert (found["severe"], found["severe_external"], found["undecided"]) == ("m0", "m0", "m1, m2, m3")
    assert found["external_undecided"] == "m1, m3" and found["images_unknown_for"] == "m3"
    assert found["models"]["m3"]["reason"] == "1 defined value" and "reason" not in found["models"]["m0"]
    assert found["models"]["m0"]["ignored"] == "the image" and found["models"]["m4"]["not_severe"]


SHARE = st.floats(0, 1)
MODELS = st.builds(
    lambda in_house, mean, p, lost, n: Severity(
        in_house, 50, mean, mean, mean, p, None if p is None else 1 - p, n, lost=lost
    ),
    st.booleans(), st.floats(0.5, 1), st.one_of(st.none(), SHARE, st.just(0.0), st.just(1.0)),
    st.one_of(st.none(), SHARE), st.one_of(st.none(), st.integers(2, 10_000)),
)  # fmt: skip
STUDIES = st.lists(st.one_of(st.sampled_from([SEVERE, ours(SEVERE), BALANCED, ours(BALANCED)]), MODELS), max_size=7)


def rows_that_hold(models):
    """Section 6 in sets, written apart from the code: the rows whose conditions hold."""
    severe = [m for m in models if m.p_holm is not None and m.p_holm < 0.05 and m.mean > 0.8]
    shown = [m for m in models if m.p_balanced_holm is not None and m.p_balanced_holm < 0.05 and m.mean < 0.8]
    confirmed = [m for m in severe if m.lost is not None and m.lost <= 0.05]
    external = [m for m in models if not m.in_house]
    enough = sum(m.p_holm is not None for m in models) >= 3
    rows = []
    if enough and sum(not m.in_house for m in confirmed) >= 2:
        rows.append(GO)
    if enough and severe and all(m.in_house for m in severe) and external and all(m in shown for m in external):
        rows.append(PIVOT)
    if enough and not severe and all(m in shown for m in models):
        rows.append(NO_GO)
    return rows


@given(STUDIES)
def test_there_is_always_exactly_one_decision(models):
    rows = rows_that_hold(models)
    assert len(rows) <= 1
    assert decide(study(*models), GATES)["decision"] == (rows or [MORE])[0]


@given(STUDIES, st.integers(1, 5), st.integers(1, 5))
def test_go_never_with_fewer_than_the_gates_ask(models, tested, severe):
    found = decide(study(*models), replace(GATES, models_tested=tested, models_severe=severe))
    if found["decision"] == GO:
        assert all(gate["met"] for gate in found["gates"].values())
        assert found["n_tested"] >= tested and len(found["severe_external"].split(", ")) >= severe


@given(STUDIES, st.integers(0, 7))
def test_more_severe_external_models_keep_a_go(models, place):
    go = [SEVERE, SEVERE, BALANCED, *models]
    place = min(place, len(go))
    assert decide(study(*go[:place], SEVERE, *go[place:]), GATES)["decision"] == GO
    replaced = [*go[:place], SEVERE, *go[place + 1 :]]
    assert decide(study(*replaced), GATES)["decision"] == GO


@given(STUDIES)
def test_all_severe_is_the_stricter_reading(models):
    found = decide(study(*models), GATES)
    assert found["severe_two_of_three"] == found["decision"]  # the gate is two
    if found["severe_all"] == GO:
        assert found["decision"] == GO


@given(STUDIES)
def test_need_more_data_says_of_what(models):
    found = decide(study(*models), GATES)
    waits = found["models_needed"] > 0 or found["undecided"] != "none"
    assert waits or found["decision"] != MORE
    if found["decision"] != MORE:
        assert (found["models_needed"], found["images_needed"]) == (0, 0)


@given(MODELS)
def test_one_model_decides_nothing(model):
    found = decide(study(model), GATES)
    assert (found["decision"], found["models_needed"]) == (MORE, 2)


@given(STUDIES)
def test_the_order_of_models_changes_nothing(models):
    one, other = study(*models), dict(reversed(study(*models).items()))
    keys = ("decision", "severe_two_of_three", "severe_all", "gates", "images_needed", "models_needed")
    assert [decide(one, GATES)[key] for key in keys] == [decide(other, GATES)[key] for key in keys]
