"""`attention-collapse questions` and `answer_questions`: what is printed, what is written, and mistakes."""

import json

import pytest
from PIL import Image
from tiny.decoders import DECODERS
from tiny.encoders import ENCODERS

from attention_collapse.cli import main
from attention_collapse.errors import DataError, ModelError, ParamsError
from attention_collapse.models.small import write_answering
from attention_collapse.questions import answer_questions
from attention_collapse.report.estimate import Estimate
from attention_collapse.report.questions import SHOWN, Answered

COLOURS = {"red": (250, 0, 0), "blue": (0, 0, 250)}
ANSWERS = ("yes", "no", "red", "blue")


def easy(root, n=12):
    (root / "test" / "images").mkdir(parents=True)
    items = []
    for number in range(n):
        colour = list(COLOURS)[number % 2]
        picture = Image.new("RGB", (64, 64), COLOURS[colour])
        picture.putpixel((63, 63), (0, number, 0))
        picture.save(root / "test" / "images" / f"{number}.png")
        items += [["what color is it?", colour, number], ["is it red?", "yes" if colour == "red" else "no", number]]
    (root / "test" / "questions.json").write_text(json.dumps([*items, ["is it?", "maybe", 0], ["is it?", "no", 99]]))
    (root / "answers.txt").write_text("\n".join(ANSWERS))
    return root / "test"


def v2(root):
    words = sorted({word for text in ("what color is it?", "is it red?", *ANSWERS) for word in text.split()})
    write_answering("fusion-v2", root / "v2", words, ANSWERS, 0)
    return root / "v2"


def test_the_command_prints_every_measure_and_writes_what_made_it(tmp_path, capsys):
    questions, out = easy(tmp_path / "easy"), tmp_path / "out.json"
    given = ["questions", "--model", str(v2(tmp_path)), "--kind", "fusion-v2", "--questions", str(questions)]
    assert main([*given, "--partners", "2", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "24 questions about 12 images (easy-VQA)" in printed
    assert "skipped: 1 image, 1 question" in printed
    assert "'maybe' is none of its candidates" in printed
    assert "accuracy of answers " in printed
    written = json.loads(out.read_text())
    assert set(SHOWN) == set(written["estimates"])
    assert written["settings"]["partners"] == 2
    assert len(written["data"]["images"][0]["questions_sha256"]) == 64
    assert written["weights"]["sha256"]
    assert main([*given, "--partners", "2", "--out", str(tmp_path / "again.json")]) == 0
    assert json.loads((tmp_path / "again.json").read_text()) == written


def test_vqa_is_asked_of_a_decoder_among_the_most_frequent_answers(tmp_path):
    (tmp_path / "images").mkdir()
    questions, annotations = [], []
    for number in range(4):
        Image.new("RGB", (40, 40), list(COLOURS.values())[number % 2]).save(
            tmp_path / "images" / f"COCO_val2014_{number:012d}.jpg"
        )
        answer = ["yes", "no", "yes", "blue"][number]
        questions.append({"image_id": number, "question": f"is it {number % 3}", "question_id": number})
        annotations.append({"question_id": number, "image_id": number, "answers": [{"answer": answer}] * 10})
    (tmp_path / "q.json").write_text(json.dumps({"questions": questions, "data_subtype": "val2014"}))
    (tmp_path / "a.json").write_text(json.dumps({"annotations": annotations}))
    (tmp_path / "llava").mkdir()
    DECODERS["llava"][0](tmp_path / "llava")
    given = {"model": {"kind": "llava", "weights": "checkpoint", "path": str(tmp_path / "llava")},
             "questions": tmp_path / "q.json", "annotations": tmp_path / "a.json", "partners": 1}  # fmt: skip
    found = answer_questions(**given, candidates=2)
    assert list(found.candidates) == ["yes", "blue"]  # of equally frequent ones the first by name
    assert found.data["n_questions"] == 3
    assert [(item["id"], item["reason"]) for item in found.data["skipped"]] == [
        ("1", "'no' is none of the 2 candidates")
    ]
    assert found["answer_accuracy"].interval is None  # 3 images
    assert "nothing is concluded" in found.text()
    with pytest.raises(ParamsError, match="4 of 4 questions come without candidates"):
        answer_questions(**given)


def made(**estimates):
    plain = {name: Estimate(name, 0.5, 0.1, 0.4, 0.6, 20, 0, 0.95) for name in SHOWN}
    plain |= {name: Estimate(name, mean, 0.1, low, 1.0, 20, 0, 0.95) for name, (mean, low) in estimates.items()}
    weights = {"name": "m", "weights": "w", "parameters": 1, "untrained": False, "notes": ()}
    data = {"n_images": 20, "n_questions": 20, "source": "GQA", "skipped": []}
    return Answered(weights, {}, data, (), plain).text()


def test_the_conclusion_says_what_is_shown_and_no_more():
    assert "nothing else means anything" in made(gain_over_constant=(0.1, -0.01))
    assert "gains by them" in made()
    blind = made(gain_over_question_only=(0.05, -0.01), answer_flip_image=(0.0, 0.0))
    assert "a model that never looks could do as well" in blind
    assert "it does not look" in blind
    assert "50% of its answers change" in made()


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"n": 0}, ParamsError, "n is 0"),
        ({"n": True}, ParamsError, "n is True"),
        ({"n": 2.5}, ParamsError, r"n is 2\.5"),
        ({"partners": "2"}, ParamsError, "partners is '2'"),
        ({"n": 99}, DataError, "n = 99 images asked for, 13 have questions"),
        ({"images": "nowhere"}, DataError, "no folder nowhere"),
        ({"questions": "nowhere.json"}, DataError, "no such file"),
        ({"strict": True}, DataError, "2 items skipped"),
        ({"model": {"kind": "clip", "weights": "checkpoint", "path": "clip"}}, ModelError, "answer no questions"),
        ({"out": "."}, ParamsError, "cannot be written"),
    ],
)
def test_mistakes_are_named(tmp_path, monkeypatch, change, error, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip").mkdir()
    ENCODERS["clip"][0](tmp_path / "clip")
    model = {"kind": "fusion-v2", "weights": "checkpoint", "path": str(v2(tmp_path))}
    with pytest.raises(error, match=said):
        answer_questions(**({"model": model, "questions": easy(tmp_path / "easy"), "partners": 1} | change))


def test_a_subset_is_of_images_with_all_their_questions(tmp_path):
    model = {"kind": "fusion-v2", "weights": "checkpoint", "path": str(v2(tmp_path))}
    found = answer_questions(model, easy(tmp_path / "easy"), n=5, seed=1, partners=1)
    assert found.data["n_images"] in (4, 5)  # one image of 13 is not there
    assert found.data["n_questions"] == 2 * found.data["n_images"]
