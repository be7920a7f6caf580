"""Models trained on questions: training, a run that is stopped, planted answers, and what is committed of easy-VQA."""

import json
import shutil

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image

from attention_collapse.data.question_formats import read_questions
from attention_collapse.engine import answer_trials
from attention_collapse.engine.answer_cells import SETS, AnswerCell, cells, parameters_of, section
from attention_collapse.engine.answer_summary import columns, facts, most_frequent_credit, summaries
from attention_collapse.engine.answer_training import answered, learner
from attention_collapse.engine.answer_trials import measured, read, tried
from attention_collapse.engine.dose_cells import read_cell
from attention_collapse.errors import DataError, ParamsError
from attention_collapse.files import read_json
from attention_collapse.models.answering import asked, load_answering
from attention_collapse.models.small import write_answering
from attention_collapse.params import Params, Stats, load_params
from attention_collapse.stages import answers as stage
from attention_collapse.stages import train_answers
from attention_collapse.study.layout import Study

COLOURS = {"red": (250, 0, 0), "blue": (0, 0, 250), "green": (0, 250, 0)}
ANSWERS = ("yes", "no", *COLOURS)
WORDINGS = ("is it blue?", "is it red?", "what color is it?")
GIVEN = {
    "kinds": ["fusion-v2", "llava"], "seeds": [0, 1], "favoured": 0.75, "data_seed": 0, "questions": 20, "partners": 2,
    "recipe": {"steps": {"fusion-v2": 2, "llava": 2}, "learning_rate": {"fusion-v2": 1e-3, "llava": 1e-3},
               "batch_size": 8, "weight_decay": 0.0},
}  # fmt: skip


def study(root, **changes):
    one = {"kind": "openclip", "weights": "checkpoint", "path": "x"}
    given = {"study": "s", "params_file": "p", "models": {"m": one}, "answers": GIVEN | changes}
    return Study(Params.model_validate(given | {"stats": {"n_resamples": 100}}), root)


def right_of(colour, wording):
    return colour if wording.startswith("what") else ("yes" if colour in wording else "no")


@pytest.fixture
def easy(tmp_path, monkeypatch):
    """A data set in easy-VQA's layout, of 36 + 30 images of one colour each, with all three questions."""
    root = tmp_path / "easy"
    for split, n in (("train", 36), ("test", 30)):
        (root / split / "images").mkdir(parents=True)
        items = []
        for number in range(n):
            colour = list(COLOURS)[number % 3]
            Image.new("RGB", (64, 64), COLOURS[colour]).save(root / split / "images" / f"{number}.png")
            items += [[wording, right_of(colour, wording), number] for wording in WORDINGS]
        (root / split / "questions.json").write_text(json.dumps(items))
    (root / "answers.txt").write_text("\n".join(ANSWERS) + "\n")
    monkeypatch.setattr(answer_trials, "easy_vqa_folder", lambda: root)
    return root


class Knows:
    """Stands for a trained model; its answers are a function of colour and wording."""

    def __init__(self, function):
        self.function = function

    def logits(self, pixels, wording):
        colours = [next((c for c, rgb in COLOURS.items() if tuple(p[0, 0]) == rgb), "grey") for p in pixels]
        said = [self.function(colour, WORDINGS[w]) for colour, w in zip(colours, wording, strict=True)]
        noise = np.random.default_rng(0).normal(0, 1e-3, len(ANSWERS))
        return torch.tensor(np.array([[4.0 * (a == one) for a in ANSWERS] for one in said]) + noise)


def planted(easy, function, prior="published"):
    answers = section(study(easy).params)
    return tried(Knows(function), AnswerCell("k", prior, 0), read(answers), answers)


def as_read(tensors):
    return {name: values.astype(np.float64) for name, values in tensors.items()}


def test_one_who_looks_is_right_on_all_sets_and_one_who_does_not_only_where_the_prior_holds(easy):
    looks = as_read(planted(easy, right_of, "shifted"))
    favoured = {"is it blue?": "yes", "is it red?": "no", "what color is it?": "red"}
    counts = looks["counts.train"]
    favoured = {wording: ANSWERS[counts[place].argmax()] for place, wording in enumerate(WORDINGS)}
    leans = as_read(planted(easy, lambda _c, wording: favoured[wording], "shifted"))
    for name in SETS:
        table = columns(looks, name)
        assert (table["answer_accuracy"] == 1).all()
        assert table["answer_accuracy_blind"].mean() < 0.9
        other = columns(leans, name)
        assert (other["answer_accuracy"] == other["answer_accuracy_blind"]).all()
        assert (other["answer_flip_image"] == 0).all()
        assert (other["answer_accuracy"] == other["accuracy_question_only"]).all(), name
        assert (other["lost_image"] == 0).all()
    assert columns(leans, "train")["answer_accuracy"].mean() == pytest.approx(0.75, abs=0.13)
    assert columns(leans, "test_shifted")["answer_accuracy"].mean() == pytest.approx(0.25, abs=0.13)


def test_a_model_that_fails_the_shifted_test_is_not_taken_apart_there(easy):
    leans = as_read(planted(easy, lambda _c, wording: "green" if wording.startswith("what") else "yes"))
    found = summaries(leans, Stats(n_resamples=100))
    assert "better than the best constant answer" in found["test"]["reliance_image"]["reason"]
    assert found["test"]["answer_accuracy"]["n"] == 20


def test_no_two_measured_questions_are_about_one_image(easy):
    questions = read(section(study(easy).params)).trained["published"]
    some = measured(questions, 20, 0)
    assert len(set(some.image)) == len(some.ids) == 20
    assert (np.diff(some.ids) > 0).all()
    assert len(set(measured(questions, 99, 0).image)) == 36
    assert len(set(some.wording)) > 1
    assert (measured(questions, 20, 1).ids != some.ids).any()
    asked_for = {one.id: one for one in read_questions(easy / "train").asked}
    for place, number in enumerate(some.ids):
        one = asked_for[str(number)]
        assert (WORDINGS[some.wording[place]], ANSWERS[some.right[place]]) == (one.question, one.right)
        assert str(some.names[some.image[place]]) == one.image


def test_the_most_frequent_answer_in_training_by_hand():
    counts = np.array([[1.0, 2, 0], [5, 1, 0], [2, 2, 0], [0, 0, 0]])  # the last wording is not there: 8, 5, 0 of all
    wording, right = np.array([0, 0, 1, 2, 2, 2, 3, 3]), np.array([0, 1, 0, 0, 1, 2, 0, 1])
    assert most_frequent_credit(counts, wording, right).tolist() == [0, 1, 1, 0.5, 0.5, 0, 1, 0]
    told = facts({f"counts.{name}": counts for name in SETS} | {f"right.{name}": right for name in SETS})
    assert told["test"] == {
        "questions": 13, "wordings": 3, "best_question_only": 9 / 13, "best_constant": 8 / 13, "measured": 8,
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["fusion-v2", "llava"])
def test_what_is_trained_is_what_the_loaded_model_scores(tmp_path, kind):
    """All answers in one pass of the trainee are those of the view that any checkpoint is loaded into."""
    one = learner(kind, tmp_path / "a", WORDINGS, ANSWERS, 3)
    words = sorted({word for text in (*WORDINGS, *ANSWERS) for word in text.split()})
    model = load_answering("m", write_answering(kind, tmp_path / "b", words, ANSWERS, 3))
    pixels = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), dtype=np.uint8)
    found = answered(one, pixels, np.array([0, 1, 1]), np.array([2, 0, 2]))
    for row, (image, wording) in enumerate([(0, 2), (1, 0), (1, 2)]):
        texts = [asked(WORDINGS[wording], answer) for answer in ANSWERS]
        with torch.inference_mode():
            scores = model.score(model.pairs([Image.fromarray(pixels[image])] * len(ANSWERS), texts)).double()
        np.testing.assert_allclose(found[row], scores.log_softmax(0).numpy(), atol=1e-5)


def test_a_run_that_is_stopped_goes_on_and_the_stage_tells_what_is_there(easy, tmp_path, monkeypatch):
    run, taught, teach = study(tmp_path / "a"), [], train_answers.teach

    def stopped(*args, **options):
        taught.append(options["seed"])
        if len(taught) == 2:
            raise KeyboardInterrupt
        return teach(*args, **options)

    monkeypatch.setattr(train_answers, "teach", stopped)
    with pytest.raises(KeyboardInterrupt):
        train_answers.main(run, "fusion-v2")
    out = run.answers_of("fusion-v2")
    assert [file.name for file in out.iterdir()] == ["published-0.safetensors"]
    stage.main(run)
    result = read_json(run.answers)
    assert list(result["models"]) == ["fusion-v2"]
    assert result["missing_models"]["fusion-v2"] == ["shifted-0", "published-1", "shifted-1"]
    train_answers.main(run, "fusion-v2")
    train_answers.main(run, "fusion-v2")  # nothing is left to do
    assert taught == [0, 0, 0, 1, 1]
    stage.main(run)
    assert set(read_json(run.answers)["models"]["fusion-v2"]) == {
        f"{p}-{s}" for p in ("published", "shifted") for s in (0, 1)
    }
    assert (run.answers_plots / "accuracy.png").is_file()
    tensors, about = read_cell(out / "shifted-1.safetensors")
    assert about["parameters"]["prior"] == "shifted"
    assert tensors["odds.test.text"].shape == (20, 2)
    assert set(about["questions"]) == {"train/questions.json", "test/questions.json"}
    again = study(tmp_path / "b")
    train_answers.main(again, "fusion-v2")
    assert (again.answers_of("fusion-v2") / "shifted-1.safetensors").read_bytes() == (
        out / "shifted-1.safetensors"
    ).read_bytes()
    with pytest.raises(DataError, match="other parameters"):
        stage.main(study(tmp_path / "a", partners=3))


def test_mistakes_are_named(tmp_path):
    with pytest.raises(ParamsError, match="answers.kinds has no 'bert'"):
        train_answers.main(study(tmp_path), "bert")
    with pytest.raises(DataError, match="holds no answers of a model"):
        stage.main(study(tmp_path))
    without = Study(study(tmp_path).params.model_copy(update={"answers": None}), tmp_path)
    with pytest.raises(ParamsError, match="no section answers"):
        stage.main(without)
    with pytest.raises(ValueError, match="recipe.steps has no vilt"):
        study(tmp_path, kinds=["vilt"])


def test_the_committed_scores_are_of_the_parameters_and_count_easy_vqa_whole():
    answers = section(load_params(ROOT / "params.yaml"))
    metrics = read_json(ROOT / "metrics" / "embedded" / "answers.json")
    there = {(cell.kind, cell.name): cell for cell in cells(answers)}
    found = {(kind, name) for kind, named in metrics["models"].items() for name in named}
    assert found <= there.keys()
    assert found
    for kind, name in found:
        tensors, about = read_cell(ROOT / "data" / "embedded" / "answers" / kind / f"{name}.safetensors")
        assert about["parameters"] == parameters_of(there[kind, name], answers)
        assert tensors["counts.test"].sum() == 9673
        if there[kind, name].prior == "published":
            assert tensors["counts.train"].sum() == 38575
            assert facts(tensors)["train"]["best_question_only"] == pytest.approx(0.667, abs=5e-4)
        assert facts(tensors)["test"]["best_question_only"] == pytest.approx(0.678, abs=5e-4)
        one = columns(tensors, "test")["answer_accuracy"].mean()
        assert metrics["models"][kind][name]["test"]["answer_accuracy"]["mean"] == pytest.approx(one, rel=1e-5)


def test_no_scratch_is_left(easy, tmp_path):
    run = study(tmp_path / "a", seeds=[0])
    train_answers.main(run, "fusion-v2")
    assert not any(run.answers_scratch("fusion-v2").iterdir())
    shutil.rmtree(run.answers_scratch("fusion-v2"))
