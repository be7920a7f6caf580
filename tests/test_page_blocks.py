"""Blocks of Python and of YAML on the pages: each runs, or is what the schema takes, with stand-ins for what is yours.

The tutorial has a test of its own, which holds what its blocks print too.
"""

import re
from types import SimpleNamespace

import pytest
import torch
import yaml
from conftest import ROOT
from torch import nn

from attention_collapse.data.scenes import write_scenes
from attention_collapse.models.spec import ModelSpec
from attention_collapse.monitor import HeldOut
from attention_collapse.params import Engine, FetchCoco, Params
from attention_collapse.report.evidence import Evidence

PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
# (page, a line of a block) -> why it is not run here.
ELSEWHERE = {
    ("your_model.md", "diagnose(model, "): "takes models of two libraries; tests/models/test_given.py gives each",
}


def blocks(language):
    """(page, text) of every block in a language."""
    for page in PAGES:
        for text in re.findall(rf"(?ms)^```{language}\n(.*?)^```$", page.read_text("utf-8")):
            yield page.name, text


class Score(nn.Module):
    """A user's model: one logit per pair of vectors."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Bilinear(4, 4, 1)

    def forward(self, image, text):
        return self.inner(image, text)[:, 0]


class OfTransformers(nn.Module):
    """A model as the transformers library has them: named arguments, and logits of no match and match."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Bilinear(4, 4, 2)

    def forward(self, pixel_values, words):
        return SimpleNamespace(logits=self.inner(pixel_values, words))


def vectors(n=80):
    rng = torch.Generator().manual_seed(0)
    return torch.randn(n, 4, generator=rng), torch.randn(n, 4, generator=rng), torch.arange(n) % 2


def named(pages_and_texts):
    return [pytest.param(page, text, id=f"{page}-{n}") for n, (page, text) in enumerate(pages_and_texts)]


PYTHON = [
    (page, text)
    for page, text in blocks("python")
    if page != "tutorial.md" and not any(page == where and said in text for where, said in ELSEWHERE)
]


def test_there_are_some_and_no_reason_is_left_over():
    assert len(PYTHON) >= 9
    for where, said in ELSEWHERE:
        assert any(page == where and said in text for page, text in blocks("python"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("data", "metrics"):
        (tmp_path / name).symlink_to(ROOT / name)
    write_scenes(tmp_path / "FOLDER", 4, seed=0)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stand_ins(text):
    """What a block takes for granted: a model, data of it, a loader, a logger."""
    image, words, label = vectors()
    model, logged = Score(), []
    given = {
        "torch": torch, "model": model, "image": image, "text": words, "label": label, "target": label,
        "blurred": torch.zeros_like(image), "held_out": HeldOut(image, words, label),
        "loader": [(image, words, label.float())] * 3, "update": lambda loss: loss.backward(),
        "train_on": lambda batch: None, "logged": logged, "tokenizer": range(3),
        "mlflow": SimpleNamespace(log_metrics=lambda values, step: logged.append((step, values))),
    }  # fmt: skip
    if "pixel_values" in text:
        held_out = HeldOut(image, {"words": words}, label)
        from attention_collapse.monitor import Monitor

        given |= {"Monitor": Monitor, "model": OfTransformers(), "held_out": held_out, "hard_pairs": held_out}
        given["stop_or_tell"] = lambda alarm: None
    if "AttentionProbe" in text:
        layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        given |= {"model": layer.train(mode=False), "inputs": {"src": torch.ones(1, 3, 4)}}
    return given


@pytest.mark.parametrize(("page", "text"), named(PYTHON))
def test_a_block_of_python_runs_as_it_stands(page, text, folder, capsys):
    text = text.replace('"openclip-vit-b-32"', '"openclip-scenes"').replace("n=100", "n=4")
    given = stand_ins(text)
    exec(compile(text, page, "exec"), given)  # noqa: S102 — the pages are ours
    printed = capsys.readouterr().out
    if "result.table()" in text:
        assert given["result"].n_images == 4 and {"mcs_null", "reliance_share"} <= set(given["result"].estimates)
        assert printed.startswith("0.")
    if "probe.stats" in text:
        assert printed.endswith("torch.Size([1, 2, 3])\n")  # batch, head, query
    if "alike=" in text:
        padded = {"input_ids": torch.tensor([[2, 2, 0]]), "attention_mask": torch.tensor([[1, 1, 0]])}
        assert given["method"].alike(padded).tolist() == [[0.0, 0.0, 2.0]]
    if "log_metrics" in text:
        assert given["logged"][0][0] == 0 and "accuracy" in given["logged"][0][1] and "80 held-out pairs" in printed
    if "Monitor(" in text and "log_metrics" not in text:
        monitor = given["monitor"]
        assert "accuracy" in (monitor.history[0] if monitor.history else monitor.step(0))
    if "method.loss" in text:
        assert given["loss"].isfinite() and any(part.grad is not None for part in given["model"].parameters())
    if "ContrastiveDecoding" in text:
        assert given["scores"].shape == (80,)
    if "mcs_of_models" in text:
        assert [file.suffix for file in given["files"]] == [".png", ".pdf"] and all(f.is_file() for f in given["files"])
    if "Evidence" in text:
        shown, file, line = re.fullmatch(r'\[`?([\d.]+)`?\]\(([^#]+)#[^#]+#(\d+) "3 .*"\)', given["cited"]).groups()
        assert f'"mean": {shown}' in (ROOT / file).read_text("utf-8").splitlines()[int(line) - 1]
        assert Evidence.read(ROOT, file, "Stats").scalars["models.openclip-scenes.mcs.mean"].line == int(line)


def test_every_block_of_yaml_is_what_the_schema_takes():
    seen = 0
    for page, text in blocks("yaml"):
        found = yaml.safe_load(
            re.sub(r"<(\d+) hex digits>", lambda m: "a" * int(m[1]), text).replace("<commit>", "b" * 40)
        )
        if "study" in found:
            study = Params.model_validate(found)
            assert {"stats", "decision", "contribution"} <= vars(study).keys(), page
            seen += 1
            continue
        for key, value in found.items():
            model = Engine if key == "engine" else ModelSpec if "kind" in value else FetchCoco
            model.model_validate(value)
            seen += 1
    assert seen >= 9
