"""Models in no table: the README's worked example, a scoring function, and mistakes in a user's table."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import ROOT, coco_folder

from attention_collapse import diagnose
from attention_collapse.cli import main
from attention_collapse.engine.probed_batch import probe_batch
from attention_collapse.errors import ModelError
from attention_collapse.models import load
from attention_collapse.models.interface import Provenance
from attention_collapse.models.kinds.python import DeclaredModel
from attention_collapse.models.spec import ModelSpec


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.fixture
def folder(tmp_path):
    return coco_folder(tmp_path / "pairs", n=5, captions=2)


def example():
    from examples.own_model import table

    return table()


def model_of(declared):
    return DeclaredModel("mine", declared, Provenance("x", None, None, None, 1, untrained=False))


def test_the_worked_example_runs_and_its_numbers_are_the_modules_own(folder, capsys):
    command = ["diagnose", "--kind", "python", "--model", "examples.own_model:table", "--pairs", str(folder)]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "single stream; factory examples.own_model:table" in printed and "mass share of the image" in printed

    declared = example()
    model = model_of(declared)
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    batch = model.pairs([Image.fromarray(pixels)], ["a cat sits on a table"])
    seen, scores = probe_batch(model, batch, model.score)
    patterns = []
    first = declared.module.encoder.layers[0].self_attn
    hidden = torch.cat(
        [declared.module.patches(batch.inputs["pixels"]).flatten(2).mT, declared.module.words(batch.inputs["words"])], 1
    )
    padding = torch.cat([torch.zeros(1, 16), batch.inputs["words"] == 0], 1) > 0
    with torch.no_grad():
        patterns = first(hidden, hidden, hidden, key_padding_mask=padding, average_attn_weights=False)[1].double()
        assert torch.allclose(scores.float(), declared.module(**batch.inputs))
    own = patterns[:, :, 16:22, :16]  # six words look at sixteen patches
    entropy = torch.special.entr(own / own.sum(-1, keepdim=True)).sum(-1).mean(-1)
    assert np.allclose(seen["vision"]["encoder.layers.0.self_attn"]["entropy_all"], entropy, atol=2e-5)
    assert np.allclose(seen["vision"]["encoder.layers.0.self_attn"]["uniform_all"], np.log(16))


def test_the_table_takes_about_twenty_lines():
    text = (ROOT / "examples" / "own_model.py").read_text().split("# -- the table")[1]
    assert sum(1 for line in text.splitlines()[1:] if line.strip()) <= 22


def test_a_scoring_function_has_causal_measures_only(folder, capsys):
    spec = {"kind": "scorer", "weights": "factory", "factory": "examples.scorer:score"}
    result = diagnose(spec, folder)
    assert result["mcs"].mean is None and result["mcs"].reason == "a scoring function shows no attention"
    assert result.n_images == 5 and result.n_pairs == 10
    assert (
        result["score"].n == 5 and "tell matching pairs from others" in result["shapley_share"].reason
    )  # it is at chance
    assert abs(result["interaction"].mean) < 1e-12  # the function is additive
    command = ["diagnose", "--kind", "scorer", "--model", "examples.scorer:score", "--pairs", str(folder)]
    assert main(command) == 0
    assert "a scoring function shows no attention" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"sites": {"vision": r"encoder\.layer\.\d+\.self_attn", "text": "x"}},
            r"did you mean 'encoder\.layers\.0\.self_attn'",
        ),
        ({"family": "dual"}, "family 'dual'"),
    ],
)
def test_a_wrong_table_is_named(change, message):
    with pytest.raises(ModelError, match=message):
        model_of(replace(example(), **change))


def test_labels_that_do_not_fit_the_keys_are_named(tmp_path):
    from PIL import Image

    from attention_collapse.errors import ProbeError

    short = lambda inputs: {k: v[:, :-1] for k, v in example().groups(inputs).items()}  # noqa: E731
    model = model_of(replace(example(), groups=short))
    with pytest.raises(ProbeError, match=r"encoder\.layers\.0\.self_attn: group labels of shape \(1, 35\) for 36 keys"):
        probe_batch(model, model.pairs([Image.new("RGB", (9, 9))], ["a cat"]), model.score)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("nowhere.at_all:table", "cannot be imported"),
        ("examples.own_model:tabel", "cannot be imported"),
        ("examples.own_model:JointEncoder", "returned JointEncoder"),
    ],
)
def test_a_factory_that_is_not_one(factory, message):
    with pytest.raises(ModelError, match=message):
        load("x", ModelSpec(kind="python", weights="factory", factory=factory))


def test_a_scorer_that_returns_something_else(folder):
    model = load("x", ModelSpec(kind="scorer", weights="factory", factory="examples.scorer:score"))
    model._function = lambda images, texts: [1.0]
    from PIL import Image

    with pytest.raises(ModelError, match="one number per pair"):
        model.score(model.pairs([Image.new("RGB", (9, 9))] * 2, ["a"] * 2))
