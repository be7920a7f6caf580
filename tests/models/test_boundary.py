"""What a library raises while a batch is prepared or run: one error in three parts, with its cause attached."""

import pytest
import torch
from PIL import Image
from tiny.encoders import write_blip, write_clip

from attention_collapse.engine.probed_batch import probe_batch
from attention_collapse.errors import DataError, ModelError
from attention_collapse.models import load
from attention_collapse.models.boundary import boundary, first_sentence
from attention_collapse.models.catalogue import named


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("A picture is too thin. Please make it wider."), "A picture is too thin"),
        (RuntimeError("Found no driver on your system. Please check that"), "Found no driver on your system"),
        (RuntimeError("shape [2, 3.5] of version 2.15.0 is invalid"), "shape [2, 3.5] of version 2.15.0 is invalid"),
        (ValueError("first line\nsecond line"), "first line"),
        (ValueError("In field 'x':\n    TypeError: no int"), "In field 'x': TypeError: no int"),
        (KeyError("pixel_values"), "KeyError: 'pixel_values'"),
        (IndexError("3"), "IndexError: 3"),
        (AssertionError(), "AssertionError"),
        (StopIteration(""), "StopIteration"),
        (RuntimeError("word " * 999), "word " * 39 + "word …"),
    ],
)  # fmt: skip
def test_the_first_sentence_is_short_and_never_empty(error, said):
    assert first_sentence(error) == said


def test_an_error_in_three_parts_passes_and_another_keeps_its_cause():
    own = DataError("got", expected="expected", remedy="remedy")
    with pytest.raises(DataError) as caught, boundary("x", expected="y", remedy="z"):
        raise own
    assert caught.value is own
    cause = ZeroDivisionError("division by zero")
    with pytest.raises(ModelError, match="x .division by zero.") as caught, boundary("x", expected="y", remedy="z"):
        raise cause
    assert caught.value.__cause__ is cause and caught.value.expected == "y"
    with pytest.raises(KeyboardInterrupt), boundary("x", expected="y", remedy="z"):
        raise KeyboardInterrupt


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkpoints")
    write_clip(root / "clip")
    write_blip(root / "blip")
    return {kind: load("m", named(str(root / kind))) for kind in ("clip", "blip")}


RAISED = [
    (ZeroDivisionError("division by zero"), "the forward pass fails .division by zero"),
    (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "the forward pass fails .mat1 and mat2"),
    (RuntimeError("Expected all tensors to be on the same device, but"), "lie on different devices"),
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "not enough memory .*CUDA out of memory"),
    (MemoryError(), "not enough memory"),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried"), "not enough memory"),
]


@pytest.mark.parametrize(("error", "said"), RAISED)
@pytest.mark.parametrize("kind", ["clip", "blip"])
@pytest.mark.parametrize("probed", [False, True])
def test_what_a_model_raises_is_named(kind, probed, error, said, models):
    model = models[kind]
    pictures, texts = [Image.new("RGB", (40, 30))], ["a cat"]
    batch = model.texts(texts) if kind == "clip" else model.pairs(pictures, texts)
    run = model.embed if kind == "clip" else model.score

    def fail(*_):
        raise error

    layer = model.module.text_model if kind == "clip" else model.module.text_encoder
    hook = layer.register_forward_pre_hook(fail)
    try:
        with pytest.raises(ModelError, match=f"m: .*{said}") as caught:
            probe_batch(model, batch, run) if probed else run(batch)
    finally:
        hook.remove()
    assert caught.value.__cause__ is error and caught.value.remedy


@pytest.mark.parametrize("kind", ["clip", "blip"])
def test_what_a_processor_raises_is_named(kind, models, monkeypatch):
    model = models[kind]

    def fail(*_, **__):
        raise ZeroDivisionError("integer division or modulo by zero")

    monkeypatch.setattr(type(model._processor.image_processor), "preprocess", fail)
    prepare = model.images if kind == "clip" else lambda pictures: model.pairs(pictures, ["a"])
    with pytest.raises(ModelError, match="m: the processor cannot prepare .*integer division or modulo by zero"):
        prepare([Image.new("RGB", (40, 30))])
