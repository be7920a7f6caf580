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
    claim = CLAIMS["cohen_d_if_sd"]
    assert claim["t"] == pytest.approx((0.73 - 0.5) / (0.08 / 10)) == pytest.approx(28.75)
    assert claim["implied"] == pytest.approx(0.23 / 0.08) == pytest.approx(2.875)  # section 8 says 2.88
    low, high = CLAIMS["ci_low"], CLAIMS["ci_high"]
    assert low["implied"] == pytest.approx(0.73 - T_99 * 0.008, abs=1e-6) and f"{low['implied']:.3f}" == "0.714"
    assert high["implied"] == pytest.approx(0.73 + T_99 * 0.008, abs=1e-6) and f"{high['implied']:.3f}" == "0.746"
    assert low["is_mean_minus_sd"] and high["is_mean_plus_sd"]
    assert not (claim["consistent"] or low["consistent"] or high["consistent"])


def test_if_the_spread_is_a_half_width():
    claim = CLAIMS["cohen_d_if_half_width"]
    assert claim["sd"] == pytest.approx(0.08 * 10 / T_99, rel=1e-5) and f"{claim['sd']:.2f}" == "0.40"
    assert claim["implied"] == pytest.approx(0.23 * T_99 / 0.8, rel=1e-5) and f"{claim['implied']:.2f}" == "0.57"
    assert not claim["consistent"]


def test_the_reported_effect_needs_another_standard_deviation():
    assert CLAIMS["sd"]["implied"] == pytest.approx(0.23 / 1.42) and f"{CLAIMS['sd']['implied']:.3f}" == "0.162"
    assert not CLAIMS["sd"]["consistent"] and CLAIMS["mcs"]["consistent"]


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


def write(root, models, specs, claims=None):
    file = root / REPORTED_CLAIMS
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(claims or (ROOT / REPORTED_CLAIMS).read_text("utf-8"), "utf-8")
    study = Study(Params.model_validate({"study": "s", "params_file": "params.yaml", "models": specs}), root)
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
    study = write(tmp_path, {"m": result()}, {"m": SMALL, "fresh": FRESH})
    audit.main(study)
    found = read_json(study.audit)
    measured = {name: claim["measured"] for name, claim in found["claims"].items()}
    assert (measured["mcs"], measured["sd"], measured["ci_low"], measured["ci_high"]) == (0.74, 0.01, 0.738, 0.742)
    assert measured["cohen_d_if_sd"] == pytest.approx((0.74 - 0.5) / 0.01)
    assert measured["middle_third"] == pytest.approx(0.5 + (5 + 6 + 7 + 8) / 4 / 100)  # layers 5–8 of 12
    for name, claim in found["claims"].items():
        if claim["measured"] is None:
            assert claim["reason"] == claims_audit.NOT_MEASURED[name] and claim["measured_study"] is None
        else:
            assert (claim["measured_study"], claim["measured_model"]) == ("s", "m") and "reason" not in claim
    assert found["measured_in"] == "m of study s, another architecture"
    assert (found["n_consistent"], found["n_claims"]) == (3, 10)


def test_the_claimed_model_comes_first_and_a_control_never(tmp_path):
    study = write(tmp_path, {"b": result(mean=0.71)}, {"a": SMALL, "fresh": FRESH, "b": CLAIMED})
    audit.main(study)
    found = read_json(study.audit)
    assert (
        found["claims"]["mcs"]["measured"] == 0.71 and found["measured_in"] == "b of study s, the claimed architecture"
    )


def test_without_a_comparable_model_nothing_is_filled_in(tmp_path):
    study = write(tmp_path, {}, {"a": OTHER, "fresh": FRESH})
    audit.main(study)
    found = read_json(study.audit)
    assert all(claim["measured"] is None and claim["reason"] for claim in found["claims"].values())
    assert found["claims"]["mcs"]["reason"] == "study s has no trained model of the claimed kind"
    study = write(tmp_path, {"m": result(mean=None, sd=None)}, {"m": SMALL})
    audit.main(study)
    assert read_json(study.audit)["claims"]["cohen_d_if_sd"]["reason"] == "undefined for m in study s"


def test_statistics_without_the_keys_are_named(tmp_path):
    study = write(tmp_path, {"m": {"layers": {}}}, {"m": SMALL})
    with pytest.raises(PipelineError, match=r"models\.m has no 'mcs'"):
        audit.main(study)


def test_no_implied_number_is_typed(tmp_path):
    """Another report gives other implications, all by hand: n = 25, 0.6 ± 0.1, d = 2."""
    data = yaml.safe_load((ROOT / REPORTED_CLAIMS).read_text("utf-8"))
    for name, value in {"mcs": 0.6, "plus_minus": 0.1, "n": 25, "cohen_d": 2.0, "latency_ms": 347}.items():
        data["values"][name]["value"] = value
    study = write(tmp_path, {"m": result()}, {"m": SMALL}, yaml.safe_dump(data))
    audit.main(study)
    claims = read_json(study.audit)["claims"]
    assert claims["cohen_d_if_sd"]["implied"] == pytest.approx(1.0) and claims["cohen_d_if_sd"]["t"] == pytest.approx(5)
    assert claims["sd"]["implied"] == pytest.approx(0.05) and claims["seconds"]["ratio"] == pytest.approx(10)
    assert claims["ci_low"]["implied"] == pytest.approx(0.6 - 2.06390 * 0.02, abs=1e-5)  # t(24), printed: 2.064
    assert claims["middle_third"]["implied"] == pytest.approx(0.45) and not claims["middle_third"]["consistent"]


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [("  mcs: ", "  msc: ", "mcs, msc"), ("value: 1.42", "value: large", "cohen_d"), ("values:", "claims:", "values"),
     ("value: 3.47, ", "", "seconds"), ("about: MCS", "about: [MCS", "")],
)  # fmt: skip
def test_a_claims_file_that_does_not_fit_is_named(tmp_path, old, new, named):
    text = (ROOT / REPORTED_CLAIMS).read_text("utf-8")
    assert old in text
    study = write(tmp_path, {"m": result()}, {"m": SMALL}, text.replace(old, new, 1))
    with pytest.raises(DataError, match=named):
        audit.main(study)


def test_the_tables_print_every_claim(tmp_path):
    assert set(ORDER) == set(CLAIMS)
    study = write(tmp_path, {"m": result()}, {"m": SMALL})
    audit.main(study)
    source = Evidence.read(tmp_path, study.audit, "s.audit")
    latex, markdown = audit_table(source), re.sub(r"\[([^]]*)\]\([^\"]*\"[^\"]*\"\)", r"\1", audit_markdown(source))
    assert (study.audit_paper / "table.tex").read_text().endswith(latex)
    assert r"\acdef{s.audit.claims.power.reported}{3}{0.940}" in (study.audit_paper / "numbers.tex").read_text()
    assert latex.count(r" \\") == 1 + len(ORDER) and "±" not in latex
    lines = [line for line in markdown.splitlines() if line.startswith("| ") and "---" not in line]
    rows = [line.strip("| ").split(" | ") for line in lines]
    assert len(rows) == 1 + len(ORDER) and rows[1] == [
        "mean MCS", "0.730", "0.730", "the centre of the reported interval", "0.740", "yes",
    ]  # fmt: skip
    assert "- power of the test: power at an observed effect" in markdown
