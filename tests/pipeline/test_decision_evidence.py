"""The measure that counts is one that planted answers support."""

from conftest import ROOT

from attention_collapse.files import read_json
from attention_collapse.params import load_params


def test_the_decision_rests_on_a_measure_that_placed_every_planted_model_of_every_kind_as_it_claims():
    placed = read_json(ROOT / "metrics" / "embedded" / "validity.json")["as_claimed_for_every_kind"].split(", ")
    for file in (ROOT / "params.yaml", ROOT / "studies" / "coco" / "params.yaml"):
        assert load_params(file).decision.measure in placed, file
