"""What a user's function may give for its pairs: one number per pair, in whatever form, or an error that says what."""

import asyncio
import math
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT, coco_folder
from PIL import Image
from tiny.encoders import write_clip

from attention_collapse import diagnose
from attention_collapse.cli import main
from attention_collapse.data.pairs import read_folder, table
from attention_collapse.engine.seeing import require_told_apart
from attention_collapse.errors import AttentionCollapseError, ModelError
from attention_collapse.models import load
from attention_collapse.models.interface import Provenance
from attention_collapse.models.kinds.python import DeclaredModel
from attention_collapse.models.kinds.scorer import Scorer
from attention_collapse.models.spec import ModelSpec
from attention_collapse.models.user_scores import one_number_per_pair

SCORES = [0.5, -2.0, 3.0]


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(
    "given",
    [
        SCORES,
        tuple(SCORES),
        iter(SCORES),
        (score for score in SCORES),
        map(float, SCORES),
        np.array(SCORES),
        np.array(SCORES, np.float16),
        np.array(SCORES)[:, None],
        [[score] for score in SCORES],
        [np.float32(score) for score in SCORES],
        pd.Series(SCORES, index=["c", "a", "b"]),
        torch.tensor(SCORES),
        torch.tensor(SCORES)[:, None],
        torch.tensor(SCORES, dtype=torch.bfloat16),
        torch.tensor(SCORES, dtype=torch.float16, requires_grad=True) * 1,
        [torch.tensor(score, requires_grad=True) for score in SCORES],
        [torch.tensor(score, dtype=torch.bfloat16) for score in SCORES],
        tuple(torch.tensor([score]) for score in SCORES),
        [Fraction(1, 2), Decimal(-2), 3],
    ],
    ids=lambda given: type(given).__name__,
)
def test_numbers_in_any_form_are_taken(given):
    found = one_number_per_pair(given, 3, where="f")
    assert found.dtype == torch.float64 and not found.requires_grad and found.tolist() == SCORES


@pytest.mark.parametrize(
    "given", [[1, 0, 2], [True, False, True], np.array([1, 0, 2], np.uint8), torch.tensor([1, 0, 2])]
)
def test_whole_numbers_and_truth_values_are_numbers(given):
    assert one_number_per_pair(given, 3, where="f").tolist() == [float(value) for value in list(given)]


@pytest.mark.parametrize("given", [0.5, [0.5], [[0.5]], torch.tensor(0.5), np.float64(0.5)])
def test_of_one_pair_the_number_alone_will_do(given):
    assert one_number_per_pair(given, 1, where="f").tolist() == [0.5]


async def later():
    await asyncio.sleep(0)


WRONG = {
    "nothing": (None, "None for 3 pairs"),
    "one number": (0.5, "the number 0.5 for 3 pairs"),
    "a tuple of scores and more": (
        (torch.tensor(SCORES), torch.zeros(3, 2)),
        r"a tuple of 2, holding a tensor of shape \(3, 2\), a tensor of shape \(3,\)",
    ),
    "a dict": ({"logits": torch.tensor(SCORES), "loss": 0}, "a dict with logits, loss"),
    "an empty dict": ({}, "a dict with no keys"),
    "both classes": (torch.zeros(3, 2), r"a tensor of shape \(3, 2\)"),
    "all pairs with all": (np.zeros((3, 3)), r"an array of shape \(3, 3\)"),
    "transposed": (torch.zeros(1, 3), r"a tensor of shape \(1, 3\)"),
    "too few": ([1.0, 2.0], "a list of 2, holding float"),
    "too many": ([1.0] * 4, "a list of 4"),
    "none": ([], "a list of 0"),
    "ragged": ([[1.0], [2.0, 3.0], [4.0]], "a list of 3, holding list"),
    "words": (["0.5", "1", "2"], "a list of 3, holding str"),
    "a word": ("0.5", "a str"),
    "a set": ({1.0, 2.0, 3.0}, "a set"),
    "gaps": ([1.0, None, 2.0], "a list of 3, holding NoneType, float"),
    "gaps in a series": (pd.Series([1, None, 2], dtype="Int64"), "(a Series|nan .number 2)"),
    "complex": (torch.zeros(3, dtype=torch.complex64), ".* of complex numbers"),
    "complex in a list": ([1j, 1, 2], ".* of complex numbers"),
    "no number": ([1.0, math.nan, 2.0], r"nan \(number 2\)"),
    "infinite": (torch.tensor([1.0, -math.inf, math.inf]), r"-inf \(number 2\), inf \(number 3\)"),
    "masked": (np.ma.array(SCORES, mask=[0, 0, 1]), r"nan \(number 3\)"),
    "an object with logits": (SimpleNamespace(logits=torch.tensor(SCORES)), "a SimpleNamespace"),
    "a function": (lambda: SCORES, "a function"),
    "dates": (np.array(["2020-01-01"] * 3, "datetime64[D]"), "an array of shape"),
    "sparse": (torch.zeros(3).to_sparse(), "a tensor of shape"),
    "meta": (torch.zeros(3, device="meta"), "a tensor of shape"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_anything_else_is_named(what):
    given, said = WRONG[what]
    with pytest.raises(ModelError, match=rf"f gave {said}(.|\n)*expected: (one|a finite) number per pair"):
        one_number_per_pair(given, 3, where="f")


def test_a_coroutine_is_named():
    with pytest.raises(ModelError, match=r"f gave a coroutine(.|\n)*asyncio\.run"):
        one_number_per_pair(later(), 3, where="f")


def scorer(function):
    return Scorer("mine", function, Provenance("x", None, None, None, 0, untrained=False))


def declared(**changes):
    from examples.own_model import table

    return DeclaredModel("mine", replace(table(), **changes), Provenance("x", None, None, None, 1, untrained=False))


def three():
    return [Image.new("RGB", (9, 9), (shade, 0, 0)) for shade in (0, 90, 180)], ["a", "b", "c"]


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("kind", ["scorer", "python"])
def test_both_kinds_say_it(kind, what):
    given, said = WRONG[what]
    model = scorer(lambda *_: given) if kind == "scorer" else declared(score=lambda *_: given)
    with pytest.raises(ModelError, match=f"mine: .*gave {said}"):
        model.score(model.pairs(*three()))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("no pixels. Really"), "raised ValueError: no pixels in test_user_scores.py, line"),
        (KeyError("logits"), "raised KeyError: 'logits' in test_user_scores.py"),
        (AssertionError(), "raised AssertionError in test_user_scores.py"),
        (ZeroDivisionError("division by zero"), "raised ZeroDivisionError: division by zero"),
        (ConnectionError("no route to host"), "raised ConnectionError: no route to host"),
        (RuntimeError("a " * 9999), "raised RuntimeError: a a a"),
    ],
)
@pytest.mark.parametrize("part", ["scorer", "score", "prepare", "groups", "rows", "readout"])
def test_what_a_users_code_raises_is_named_with_its_line(part, error, said):
    def fail(*_):
        raise error

    model = scorer(fail) if part == "scorer" else declared(**{part: fail})
    with pytest.raises(ModelError) as caught:
        model.score(model.pairs(*three()))
    assert said in caught.value.got and len(caught.value.got) < 400
    assert caught.value.__cause__ is error  # for whoever debugs it


def test_what_the_function_does_to_its_arguments_does_not_last():
    def spoil(images, texts):
        values = [image.getpixel((0, 0))[0] for image in images]
        for image in images:
            image.paste((255, 255, 255), (0, 0, 9, 9))
        images.clear()
        texts[:] = ["x"]
        return values

    model, (images, texts) = scorer(spoil), three()
    batch = model.pairs(images, texts)
    assert model.score(batch).tolist() == model.score(batch).tolist() == [0, 90, 180]
    assert images[0].getpixel((0, 0)) == (0, 0, 0) and texts == ["a", "b", "c"]


def test_what_prepare_and_score_do_to_theirs_does_not_last_either():
    from examples import own_model

    def prepare(images, texts):
        inputs = own_model.prepare(images, texts)
        for image in images:
            image.paste((255, 255, 255), (0, 0, 9, 9))
        return inputs

    model = declared(prepare=prepare, score=lambda module, inputs: module(inputs.pop("pixels"), inputs.pop("words")))
    images, texts = three()
    first = model.score(model.pairs(images, texts))
    batch = model.pairs(images, texts)
    assert torch.equal(model.score(batch), first) and torch.equal(model.score(batch), first)


@pytest.mark.parametrize("part", ["groups", "rows"])
@pytest.mark.parametrize(
    "given", [None, {"vision": torch.zeros(3, 4)}, torch.zeros(3, 4), {"vision": [1], "text": [1]},
              {"vision": torch.zeros(4), "text": torch.zeros(4)}]
)  # fmt: skip
def test_a_table_that_marks_nothing_usable_is_named(part, given):
    model = declared(**{part: lambda _: given})
    with pytest.raises(ModelError, match=f'mine: {part} gave .*(.|\n)*"vision": …, "text": …'):
        model.pairs(*three())


@pytest.mark.parametrize("changes", [{"module": None}, {"module": torch.nn.Linear}, {"sites": {}}, {"sites": "a"}])
def test_a_table_without_a_module_or_its_sites_is_named(changes):
    with pytest.raises(ModelError, match="as its module and .* as its sites"):
        declared(**changes)


@pytest.fixture
def users_module(tmp_path, monkeypatch):
    def write(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path))
        return name

    return write


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("scorer", "def f(images, texts:\n", "raised SyntaxError"),
        ("scorer", "1 / 0\n", "raised ZeroDivisionError: division by zero in users_0.py, line 1 while it was imported"),
        ("scorer", "import no_such_package\n", "cannot be imported .No module named 'no_such_package'"),
        ("scorer", "f = 3\n", "is the number 3"),
        ("scorer", "class f:\n    pass\n", "is a class"),
        ("python", "def f(path):\n    pass\n", "raised TypeError: f.. missing 1 required positional argument"),
        ("python", "def f():\n    raise OSError('no weights')\n", "raised OSError: no weights in users_0.py, line 2"),
        ("python", "f = 3\n", "raised TypeError: 'int' object is not callable"),
        ("python", "def f():\n    return None\n", "returned NoneType"),
    ],
)
def test_a_factory_that_fails_is_one_clear_error(kind, text, said, users_module, monkeypatch):
    import sys

    monkeypatch.delitem(sys.modules, "users_0", raising=False)
    name = users_module("users_0", text)
    with pytest.raises(ModelError, match=said):
        load("m", ModelSpec(kind=kind, weights="factory", factory=f"{name}:f"))


@pytest.mark.parametrize("body", ["return {'scores': [0] * len(texts)}", "return [[0, 1]] * len(texts)",
                                  "raise ValueError('no')", "return [float('nan')] * len(texts)"])  # fmt: skip
def test_on_the_command_line(body, users_module, tmp_path, capsys, monkeypatch):
    import sys

    monkeypatch.delitem(sys.modules, "users_1", raising=False)
    name = users_module("users_1", f"def f(images, texts):\n    {body}\n")
    pairs = coco_folder(tmp_path / "pairs", n=4)
    assert main(["diagnose", "--kind", "scorer", "--model", f"{name}:f", "--pairs", str(pairs)]) == 1
    printed = capsys.readouterr().err
    assert "the scoring function" in printed and "Traceback" not in printed


def test_forms_of_the_same_numbers_give_the_same_diagnosis(tmp_path):
    from attention_collapse.diagnosis import diagnose as function
    from examples import scorer as example

    pairs = coco_folder(tmp_path / "pairs", n=4)
    spec = {"kind": "scorer", "weights": "factory", "factory": "examples.scorer:score"}
    plain = function(spec, pairs).to_dict()["estimates"]
    own = example.score
    try:
        example.score = lambda images, texts: torch.tensor(own(images, texts), dtype=torch.float64, requires_grad=True)[
            :, None
        ]
        assert diagnose(spec, pairs).to_dict()["estimates"] == plain
    finally:
        example.score = own


def test_every_error_has_three_parts():
    with pytest.raises(AttentionCollapseError) as caught:
        one_number_per_pair(None, 2, where="f")
    assert caught.value.expected == "one number per pair" and caught.value.remedy


@pytest.mark.parametrize("noise", [0.0, 1e-6, 0.3])
def test_a_score_that_is_drawn_anew_each_time_is_refused(tmp_path, noise):
    pairs = table(read_folder(coco_folder(tmp_path / "pairs", n=4))[0], "folder")

    def drawn(images, texts):
        return [sum(map(ord, text)) / 1000 + noise * np.random.default_rng().normal() for text in texts]

    if noise < 0.1:
        assert require_told_apart(scorer(drawn), pairs) == ["image"]
        return
    with pytest.raises(
        ModelError, match=r"the scores of the same 4 inputs, asked for twice, differ by (.|\n)*expected: the same"
    ):
        require_told_apart(scorer(drawn), pairs)


def test_an_embedding_that_is_drawn_anew_each_time_is_refused(tmp_path, monkeypatch):
    write_clip(tmp_path / "clip")
    model = load("m", ModelSpec(kind="clip", weights="checkpoint", path=str(tmp_path / "clip")))
    pairs = table(read_folder(coco_folder(tmp_path / "pairs", n=4))[0], "folder")
    require_told_apart(model, pairs)
    embed = model.embed

    def noisy(batch):
        found = embed(batch)
        return type(found)(found.embedding + torch.randn_like(found.embedding), None)

    monkeypatch.setattr(model, "embed", noisy)
    with pytest.raises(ModelError, match="the embeddings of the same 4 inputs, asked for twice"):
        require_told_apart(model, pairs)
