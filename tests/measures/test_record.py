import pytest

from attention_collapse.families import FAMILIES, NO_ATTENTION
from attention_collapse.measures.attention import ATTENTION_MEASURES
from attention_collapse.measures.record import undefined_measures


@pytest.mark.parametrize(
    ("family", "absent"),
    [
        ("dual encoder", {"cross_modal_entropy", "mass_share"}),
        ("cross-attention fusion", {"mass_share", "cross_modal_entropy_surrogate"}),
        ("single stream", {"cross_modal_entropy_surrogate"}),
        ("three-group fusion", {"cross_modal_entropy_surrogate"}),
        ("no attention", {"mcs", "entropy_text", "mass_share"}),
    ],
)
def test_what_a_family_does_not_define_has_a_reason(family, absent):
    reasons = undefined_measures(ATTENTION_MEASURES, family, {})
    assert absent <= reasons.keys() and all(reasons.values())
    assert reasons.keys() <= set(ATTENTION_MEASURES) and ("mcs" in reasons) == (family == NO_ATTENTION)
    assert family in FAMILIES


def test_what_one_model_lacks_takes_its_measures_along():
    reasons = undefined_measures(ATTENTION_MEASURES, "dual encoder", {"vision": "convolutional", "surrogate": "pooled"})
    assert reasons["mcs"] == reasons["entropy_vision"] == "convolutional" and "entropy_text" not in reasons
    assert reasons["cross_modal_entropy_surrogate"] == "pooled"
