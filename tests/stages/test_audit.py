"""The audit against docs/measures.md, section 8: its table's values, and the same by hand."""

import math
import re

import pytest
import yaml
from conftest import ROOT

from attention_collapse.engine import audit as claims_audit
from attention_collapse.errors import DataError, PipelineError
from attention_collapse.files import read_json, write_json
from attention_collapse.params import Params
from attention_collapse.report.audit import ORDER, audit_markdown, audit_table
from attention_collapse.report.evidence import Evidence
from attention_collapse.stages import audit
from attention_collapse.stats.claims import agrees, implied
from attention_collapse.study.layout import REPORTED_CLAIMS, Study

REPORTED, CONTENT = claims_audit.read_claims(ROOT / REPORTED_CLAIMS)
CLAIMS = implied(REPORTED)
T_99 = 1.98422  # 97.5 % quantile of t with 99 degrees of freedom, from printed tables (1.984)


def test_the_file_holds_the_reported_values_with_their_source():
    values = {name: entry["value"] for name, entry in CONTENT["values"].items()}
    assert values == {
        "mcs": 0.73, "plus_minus": 0.08, "n": 100, "reference": 0.5, "cohen_d": 1.42, "ci_low": 0.65, "ci_high": 0.81,
        "confidence": 0.95, "power": 0.94, "alpha": 0.05, "early": 0.5, "late_bound": 0.8, "late": 0.85,
        "seconds": 3.47, "latency_ms": 23.4, "planned_n": 34, "planned_d": 0.5, "planned_power": 0.8,
    }  # fmt: skip
    assert all("measures.md §" in entry["source"] and entry["about"] for entry in CONTENT["values"].values())


def test_if_the_spread_is_the_standard_deviation():
    claim, interval = CLAIMS["cohen_d"]["readings"]["sd"], CLAIMS["interval"]["readings"]["sd"]
    assert claim["t"] == pytest.approx((0.73 - 0.5) / (0.08 / 10)) == pytest.approx(28.75)
    assert claim["implied"] == pytest.approx(0.23 / 0.08) == pytest.approx(2.875)  # section 8 says 2.88
    low, high = interval["implied_low"], interval["implied_high"]
    assert low == pytest.approx(0.73 - T_99 * 0.008, abs=1e-6) and f"{low:.3f}" == "0.714"
    assert high == pytest.approx(0.73 + T_99 * 0.008, abs=1e-6) and f"{high:.3f}" == "0.746"
    assert not (claim["consistent"] or interval["consistent"]) and CLAIMS["interval"]["is_mean_and_plus_minus"]


def test_if_the_spread_is_a_half_width():
    claim, interval = (CLAIMS[name]["readings"]["half_width"] for name in ("cohen_d", "interval"))
    assert claim["sd"] == pytest.approx(0.08 * 10 / T_99, rel=1e-5) and f"{claim['sd']:.2f}" == "0.40"
    assert claim["implied"] == pytest.approx(0.23 * T_99 / 0.8, rel=1e-5) and f"{claim['implied']:.2f}" == "0.57"
    assert claim["t"] == pytest.approx(0.23 / (0.08 / T_99), rel=1e-5) and not claim["consistent"]
    assert (interval["implied_low"], interval["implied_high"]) == pytest.approx((0.65, 0.81))
    assert interval["consistent"]  # under this reading, under which the effect size is not


def test_two_readings_of_one_spread_are_one_claim():
    assert set(CLAIMS) == {"mcs", "cohen_d", "interval", "power", "middle_third", "seconds", "planned_n"}
    assert not CLAIMS["cohen_d"]["consistent"] and CLAIMS["interval"]["consistent"]
    assert claims_audit.counts(CLAIMS) == {
        "n_claims": 7, "n_consistent": 4, "n_consistent_if_sd": 3, "n_consistent_if_half_width": 4,
    }  # fmt: skip


def test_a_reading_must_hold_throughout():
    """If each of two claims is consistent under another reading, no more than one of them counts."""
    one, other = ({"sd": {"consistent": yes}, "half_width": {"consistent": not yes}} for yes in (True, False))
    claims = {"a": {"readings": one, "consistent": True}, "b": {"readings": other, "consistent": True}}
    assert claims_audit.counts(claims)["n_consistent"] == 1


def test_the_reported_effect_needs_another_standard_deviation():
    needed = CLAIMS["cohen_d"]["sd_needed"]
    assert needed == pytest.approx(0.23 / 1.42) and f"{needed:.3f}" == "0.162" and CLAIMS["mcs"]["consistent"]


def test_the_power_of_that_test_is_almost_one():
    assert 0.9999 < CLAIMS["power"]["implied"] <= 1 and not CLAIMS["power"]["consistent"]


def test_the_middle_third():
    claim = CLAIMS["middle_third"]
    assert claim["implied"] == pytest.approx(3 * 0.73 - 0.5 - 0.85) == pytest.approx(0.84)
    assert claim["implied_at_late_bound"] == pytest.approx(0.89) and claim["reported"] is None
    assert claim["consistent"]


def test_the_two_times_are_148_times_apart():
    assert CLAIMS["seconds"]["ratio"] == pytest.approx(3470 / 23.4) and f"{CLAIMS['seconds']['ratio']:.0f}" == "148"
    assert CLAIMS["seconds"]["implied"] == pytest.approx(0.0234) and not CLAIMS["seconds"]["consistent"]


def test_the_planned_sample_size_is_right():
    assert CLAIMS["planned_n"]["implied"] == 34 and CLAIMS["planned_n"]["consistent"]  # Cohen 1988; G*Power: 34


def test_a_value_agrees_to_the_digits_that_it_shows():
    assert agrees(0.73, 0.734) and not agrees(0.73, 0.736) and agrees(34, 34.4) and not agrees(34, 35)
    assert agrees(100, 100) and not agrees(100, 101) and not agrees(0.5, math.nan)


def write(root, models, specs, claims=None, source="val2017"):
    file = root / REPORTED_CLAIMS
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(claims or (ROOT / REPORTED_CLAIMS).read_text("utf-8"), "utf-8")
    params = {"study": "s", "params_file": "params.yaml", "models": specs, "fetch_coco": {"source": source, "n": 100}}
    study = Study(Params.model_validate(params), root)
    write_json(study.statistics, {"models": models, "evidence_id": "0123456789abcdef"})
    return study


def result(mean=0.74, sd=0.01):
    layers = {f"{layer:02d}": {"mcs": 0.5 + layer / 100} for layer in range(1, 13)}
    return {"mcs": {"mean": mean, "sd": sd, "ci_low": 0.738, "ci_high": 0.742, "n": 100}, "layers": layers}


SMALL = {"kind": "openclip", "weights": "checkpoint", "path": "x"}
CLAIMED = {"kind": "openclip", "weights": "pretrained", "architecture": "ViT-B-32", "tag": "openai"}
FRESH = {"kind": "openclip", "weights": "untrained", "architecture": "ViT-B-32", "seed": 0}
OTHER = {"kind": "clip", "weights": "hub", "repo": "a/b"}


def test_what_was_measured_stands_beside_each_claim(tmp_path):
    study = write(tmp_path, {"m": result()}, {"m": CLAIMED, "fresh": FRESH})
    audit.main(study)
    found = read_json(study.audit)
    claims = found["claims"]
    assert (claims["mcs"]["measured"], claims["interval"]["measured_low"]) == (0.74, 0.738)
    assert claims["interval"]["measured_high"] == 0.742
    assert claims["cohen_d"]["measured"] == pytest.approx((0.74 - 0.5) / 0.01)
    assert claims["middle_third"]["measured"] == pytest.approx(0.5 + (5 + 6 + 7 + 8) / 4 / 100)  # layers 5–8 of 12
    for name, claim in claims.items():
        if name in claims_audit.NOT_MEASURED:
            assert claim["reason"] == claims_audit.NOT_MEASURED[name] and claim["measured_study"] is None
            assert claim["measured"] is None
        else:
            assert (claim["measured_study"], claim["measured_model"]) == ("s", "m") and "reason" not in claim
    assert found["measured_in"] == "m of study s"
    assert (found["n_consistent"], found["n_claims"]) == (4, 7)


def nothing_measured(study):
    audit.main(study)
    claims = read_json(study.audit)["claims"]
    assert all(claim["reason"] and claim["measured_study"] is None for claim in claims.values())
    assert all(claim[key] is None for claim in claims.values() for key in claim if key.startswith("measured"))
    return claims["mcs"]["reason"]


def test_the_claimed_model_and_no_other_stands_beside_a_claim(tmp_path):
    study = write(tmp_path, {"b": result(mean=0.71)}, {"a": SMALL, "fresh": FRESH, "b": CLAIMED})
    audit.main(study)
    assert read_json(study.audit)["claims"]["mcs"]["measured_model"] == "b"
    other = CLAIMED | {"tag": "laion2b_s34b_b79k"}
    for specs in ({"m": SMALL}, {"m": other}, {"m": CLAIMED | {"architecture": "ViT-B-16"}}, {"m": OTHER}):
        study = write(tmp_path, {"m": result()}, specs | {"fresh": FRESH})
        assert nothing_measured(study) == (
            "this study does not measure the claimed model, openclip pretrained ViT-B-32 openai"
        )


def test_the_claimed_model_on_other_pictures_is_no_measurement_of_the_claim(tmp_path):
    study = write(tmp_path, {"m": result()}, {"m": CLAIMED}, source="embedded")
    assert nothing_measured(study) == (
        "the claim is about openclip pretrained ViT-B-32 openai on val2017; this study's pairs are embedded"
    )
    assert "this study's pairs are embedded" in read_json(study.audit)["measured_in"]


def test_the_embedded_study_measures_no_claim():
    found = read_json(ROOT / "metrics" / "embedded" / "audit.json")["claims"]
    assert all(claim[key] is None for claim in found.values() for key in claim if key.startswith("measured"))


def test_what_the_claimed_model_does_not_define_is_said(tmp_path):
    study = write(tmp_path, {"m": result(mean=None, sd=None)}, {"m": CLAIMED})
    audit.main(study)
    assert read_json(study.audit)["claims"]["cohen_d"]["reason"] == "undefined for m in study s"


def test_statistics_without_the_keys_are_named(tmp_path):
    study = write(tmp_path, {"m": {"layers": {}}}, {"m": CLAIMED})
    with pytest.raises(PipelineError, match=r"models\.m has no 'mcs'"):
        audit.main(study)


def test_no_implied_number_is_typed(tmp_path):
    """Another report gives other implications, all by hand: n = 25, 0.6 ± 0.1, d = 2."""
    data = yaml.safe_load((ROOT / REPORTED_CLAIMS).read_text("utf-8"))
    for name, value in {"mcs": 0.6, "plus_minus": 0.1, "n": 25, "cohen_d": 2.0, "latency_ms": 347}.items():
        data["values"][name]["value"] = value
    study = write(tmp_path, {"m": result()}, {"m": CLAIMED}, yaml.safe_dump(data))
    audit.main(study)
    claims = read_json(study.audit)["claims"]
    effect, interval = (claims[name]["readings"]["sd"] for name in ("cohen_d", "interval"))
    assert effect["implied"] == pytest.approx(1.0) and effect["t"] == pytest.approx(5)
    assert claims["cohen_d"]["sd_needed"] == pytest.approx(0.05) and claims["seconds"]["ratio"] == pytest.approx(10)
    assert interval["implied_low"] == pytest.approx(0.6 - 2.06390 * 0.02, abs=1e-5)  # t(24), printed: 2.064
    assert claims["middle_third"]["implied"] == pytest.approx(0.45) and not claims["middle_third"]["consistent"]


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [("  mcs: ", "  msc: ", "mcs, msc"), ("value: 1.42", "value: large", "cohen_d"), ("values:", "claims:", "values"),
     ("value: 3.47, ", "", "seconds"), ("about: MCS", "about: [MCS", "")],
)  # fmt: skip
def test_a_claims_file_that_does_not_fit_is_named(tmp_path, old, new, named):
    text = (ROOT / REPORTED_CLAIMS).read_text("utf-8")
    assert old in text
    study = write(tmp_path, {"m": result()}, {"m": CLAIMED}, text.replace(old, new, 1))
    with pytest.raises(DataError, match=named):
        audit.main(study)


def test_the_tables_print_every_claim(tmp_path):
    assert set(ORDER) == set(CLAIMS)
    study = write(tmp_path, {"m": result()}, {"m": CLAIMED})
    audit.main(study)
    source = Evidence.read(tmp_path, study.audit, "s.audit")
    latex, markdown = audit_table(source), re.sub(r"\[([^]]*)\]\([^\"]*\"[^\"]*\"\)", r"\1", audit_markdown(source))
    assert (study.audit_paper / "table.tex").read_text().endswith(latex)
    assert r"\acdef{s.audit.claims.power.reported}{3}{0.940}" in (study.audit_paper / "numbers.tex").read_text()
    assert latex.count(r" \\") == 3 + len(ORDER) and "±" not in latex
    lines = [line for line in markdown.splitlines() if line.startswith("| ") and "---" not in line]
    rows = [line[2:-2].split(" | ") for line in lines]
    assert len(rows) == 3 + len(ORDER) and rows[1] == [
        "mean MCS", "0.730", "0.730", "the centre of the reported interval", "0.740", "yes",
    ]  # fmt: skip
    assert rows[4] == [
        "interval of the mean", "0.650 to 0.810", "0.714 to 0.746", "the mean, n and ±; ± is the sd over images",
        "0.738 to 0.742", "no",
    ]  # fmt: skip
    assert rows[5][2:] == [
        "0.650 to 0.810", "the mean, n and ±; ± is the half-width of the interval", "", "yes",
    ]  # fmt: skip
    assert "- power of the test: power at an observed effect" in markdown and "not from a publication" in markdown
