"""Models that answer questions: each score against what the library itself gives, and laws that hold for all."""

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
import torch
from PIL import Image
from tiny.answering import ANSWERS, change, write_blip_vqa, write_v2_answers, write_vilt_vqa
from tiny.decoders import DECODERS
from tiny.encoders import ENCODERS
from tiny.inhouse import write_fusion_v2

from attention_collapse.errors import ModelError
from attention_collapse.models.answering import asked, load_answering, question_and_answer
from attention_collapse.models.interface import PairScorer
from attention_collapse.models.spec import ModelSpec

WRITERS = {
    "vilt": write_vilt_vqa, "blip": write_blip_vqa, "fusion-v2": write_v2_answers,
    **{name.replace("_", "-"): write for name, (write, _) in DECODERS.items()},
}  # fmt: skip
QUESTIONS = ("is there a cat", "what is it")
PICTURES = [
    Image.fromarray(np.random.default_rng(k).integers(0, 255, (48, 48, 3), dtype=np.uint8)) for k in range(2)
]  # fmt: skip


@cache
def loaded(kind):
    folder = Path(mkdtemp()) / kind
    folder.mkdir()
    if kind == "fusion-v2":
        folder.rmdir()
    WRITERS[kind](folder)
    return load_answering(kind, ModelSpec(kind=kind, weights="checkpoint", path=str(folder)))


def scores(model, pictures, texts):
    with torch.inference_mode():
        return model.score(model.pairs(pictures, texts)).double()


@pytest.mark.parametrize("kind", WRITERS)
def test_an_answer_has_one_score_alone_and_in_any_batch(kind):
    model = loaded(kind)
    assert isinstance(model, PairScorer)
    assert not model.is_likelihood
    texts = [asked(question, answer) for question in QUESTIONS for answer in ("yes", "two")]
    together = scores(model, [*PICTURES, *PICTURES], texts)
    assert together.shape == (4,)
    for row, text in enumerate(texts):
        alone = scores(model, [PICTURES[row % 2]], [text])
        torch.testing.assert_close(alone[0], together[row], atol=1e-4, rtol=1e-4)
    backwards = scores(model, [*PICTURES, *PICTURES][::-1], texts[::-1])
    torch.testing.assert_close(backwards.flip(0), together, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", WRITERS)
def test_image_question_and_answer_each_change_the_score(kind):
    model = loaded(kind)
    texts = [
        asked(QUESTIONS[0], "yes"),
        asked(QUESTIONS[0], "yes"),
        asked(QUESTIONS[1], "yes"),
        asked(QUESTIONS[0], "no"),
    ]
    own, image, question, answer = scores(model, [PICTURES[0], PICTURES[1], PICTURES[0], PICTURES[0]], texts).tolist()
    assert len({round(value, 5) for value in (own, image, question, answer)}) == 4


def test_vilt_scores_are_the_logits_of_its_vqa_head():
    model = loaded("vilt")
    inputs = model.model._processor(PICTURES[0], QUESTIONS[0], return_tensors="pt")
    torch.manual_seed(0)  # it shuffles its patches
    with torch.inference_mode():
        expected = model.module(**inputs).logits[0].double()
    assert model.answers == ANSWERS
    found = scores(model, [PICTURES[0]] * 4, [asked(QUESTIONS[0], answer) for answer in ANSWERS])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_blip_scores_are_its_answer_decoders_loss():
    model = loaded("blip")
    inputs = model.model._processor(PICTURES[0], QUESTIONS[0], return_tensors="pt")
    config = model.module.config.text_config
    for answer in ("yes", "two cats"):
        words = model.tokenizer(answer, add_special_tokens=False)["input_ids"]
        labels = torch.tensor([[config.bos_token_id, *words, config.sep_token_id]])
        with torch.inference_mode():
            loss = model.module(**inputs, labels=labels).loss  # mean over what is predicted
        found = scores(model, [PICTURES[0]], [asked(QUESTIONS[0], answer)])
        assert found.item() == pytest.approx(-loss.item() * (len(words) + 1), abs=1e-4)


def test_a_decoders_score_is_the_sum_over_the_answers_tokens_after_the_question():
    model = loaded("llava")
    prompt = f"USER: <image>\n{QUESTIONS[0]} ASSISTANT:"
    text = model.model._processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTIONS[0]}]}],
        add_generation_prompt=True, tokenize=False,
    )  # fmt: skip
    assert QUESTIONS[0] in text, prompt
    whole = model.model._processor(images=PICTURES[0], text=f"{text.rstrip()} two cats", return_tensors="pt")
    alone = model.model._processor(images=PICTURES[0], text=text.rstrip(), return_tensors="pt")
    start, ids = alone["input_ids"].shape[1], whole["input_ids"][0]
    with torch.inference_mode():
        said = model.module(**whole).logits[0].double().log_softmax(-1)
    expected = sum(said[i - 1, ids[i]].item() for i in range(start, len(ids)))
    assert len(ids) > start + 1
    found = scores(model, [PICTURES[0]], [asked(QUESTIONS[0], "two cats")])
    assert found.item() == pytest.approx(expected, abs=1e-4)
    assert model.model.instruction == "Describe the image."  # as it was before


def test_a_prompt_puts_the_question_in_its_place(tmp_path):
    DECODERS["llava"][0](tmp_path)
    given = {"kind": "llava", "weights": "checkpoint", "path": str(tmp_path)}
    plain = load_answering("one", ModelSpec(**given))
    longer = load_answering("two", ModelSpec(**given, prompt="{question} A red bus waits."))
    text = [asked(QUESTIONS[0], "yes")]
    assert scores(plain, PICTURES[:1], text) != scores(longer, PICTURES[:1], text)
    by_hand = [asked(f"{QUESTIONS[0]} A red bus waits.", "yes")]
    torch.testing.assert_close(scores(longer, PICTURES[:1], text), scores(plain, PICTURES[:1], by_hand))
    with pytest.raises(ModelError, match="no place for the question"):
        load_answering("three", ModelSpec(**given, prompt="Answer."))


def test_a_head_runs_what_differs_in_the_answer_alone_once():
    model = loaded("fusion-v2")
    seen = []
    hook = model.module.fusion.register_forward_hook(lambda _m, given, _out: seen.append(len(given[0])))
    try:
        scores(
            model,
            [PICTURES[0]] * 4 + [PICTURES[1]],
            [*(asked(QUESTIONS[0], a) for a in ANSWERS), asked(QUESTIONS[0], "no")],
        )
    finally:
        hook.remove()
    assert seen == [2]


@pytest.mark.parametrize("kind", ["vilt", "blip", "fusion-v2", "llava"])
def test_a_question_that_would_be_cut_is_refused(kind):
    with pytest.raises(ModelError, match="context|tokens of prompt"):
        loaded(kind).pairs(PICTURES[:1], [asked("is it a cat " * 1500, "yes")])


def test_a_head_knows_its_answers_in_any_case():
    model = loaded("vilt")
    one, two = scores(model, PICTURES[:1] * 2, [asked(QUESTIONS[0], "yes"), asked(QUESTIONS[0], " Yes ")]).tolist()
    assert one == two


def test_an_answer_that_a_head_does_not_have_is_refused_by_name():
    with pytest.raises(ModelError, match=r"its head has no answer 'blue'(?s:.*)yes, no, red, two"):
        loaded("vilt").pairs(PICTURES[:1], [asked(QUESTIONS[0], "blue")])


@pytest.mark.parametrize(
    ("kind", "write", "said"),
    [
        ("vilt", ENCODERS["vilt"][0], "missing classifier|missing"),
        ("blip", ENCODERS["blip"][0], "missing"),
        ("fusion-v2", write_fusion_v2, "lists no answers"),
        ("clip", ENCODERS["clip"][0], "answer no questions"),
        ("flava", ENCODERS["flava"][0], "answer no questions"),
    ],
)
def test_a_model_without_a_head_that_answers_is_refused(tmp_path, kind, write, said):
    write(tmp_path)
    with pytest.raises(ModelError, match=said):
        load_answering("mine", ModelSpec(kind=kind, weights="checkpoint", path=str(tmp_path)))


@pytest.mark.parametrize("answers", [["yes", "no"], ["yes", "no", "red", "red"], "yes", None])
def test_the_answers_of_v2_fit_its_head(tmp_path, answers):
    write_v2_answers(tmp_path / "v2")
    change(tmp_path / "v2", answers=answers)
    with pytest.raises(ModelError, match="answers|two logits"):
        load_answering("v2", ModelSpec(kind="fusion-v2", weights="checkpoint", path=str(tmp_path / "v2")))


def test_v2_with_an_answer_head_scores_no_captions(tmp_path):
    from attention_collapse.models import load

    write_v2_answers(tmp_path / "v2")
    with pytest.raises(ModelError, match="score"):
        load("v2", ModelSpec(kind="fusion-v2", weights="checkpoint", path=str(tmp_path / "v2")))


def test_a_text_comes_apart_into_what_it_was_made_of():
    assert question_and_answer(asked("what is it?", "a cat")) == ("what is it?", "a cat")
