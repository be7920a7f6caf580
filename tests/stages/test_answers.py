"""Models trained on questions: training, a run that is stopped, planted answers, and what is committed of easy-VQA."""

import json

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image
from scipy import stats as scipy_stats

from attention_collapse.data.question_formats import read_questions
from attention_collapse.engine import answer_trials
from attention_collapse.engine.answer_arms import arms, rang
from attention_collapse.engine.answer_cells import SETS, AnswerCell, cells, parameters_of, section
from attention_collapse.engine.answer_contrast import OWN, REMEDIES, accuracies, at_inference, contrasted, key_of
from attention_collapse.engine.answer_summary import columns, facts, most_frequent_credit, summaries
from attention_collapse.engine.answer_training import Posed, answered, learner, method_of, monitor_of, seen
from attention_collapse.engine.answer_trials import measured, read, tried
from attention_collapse.engine.dose_cells import read_cell
from attention_collapse.errors import DataError, ParamsError
from attention_collapse.files import read_json
from attention_collapse.models.answering import asked, load_answering
from attention_collapse.models.small import write_answering
from attention_collapse.params import GainRule, Params, Stats, Way, load_params
from attention_collapse.report.answer_arms import alarms_table, at_inference_table
from attention_collapse.stages import answers as stage
from attention_collapse.stages import train_answers
from attention_collapse.study.layout import Study

COLOURS = {"red": (250, 0, 0), "blue": (0, 0, 250), "green": (0, 250, 0)}
ANSWERS = ("yes", "no", *COLOURS)
NAMES = ["published-erm-0", "shifted-erm-0", "published-erm-1", "shifted-erm-1", "shifted-image-choice-0",
         "shifted-image-choice-1"]  # fmt: skip
WORDINGS = ("is it blue?", "is it red?", "what color is it?")
GIVEN = {
    "rule": {"gain": 0.05, "loss": 0.02}, "watched": 12, "every": 1,
    "arms": {"erm": {}, "image-choice": {"method": "image-choice"}},
    "kinds": ["fusion-v2", "llava"], "seeds": [0, 1], "contrasted": ["fusion-v2"], "favoured": 0.75,
    "data_seed": 0, "questions": 20, "partners": 2,
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
            picture = Image.new("RGB", (64, 64), COLOURS[colour])
            picture.putpixel((63, 63), (number, 0, 0))  # no two are the same
            picture.save(root / split / "images" / f"{number}.png")
            items += [[wording, right_of(colour, wording), number] for wording in WORDINGS]
        (root / split / "questions.json").write_text(json.dumps(items))
    (root / "answers.txt").write_text("\n".join(ANSWERS) + "\n")
    monkeypatch.setattr(answer_trials, "easy_vqa_folder", lambda: root)
    return root


FAVOURED = {"is it blue?": "no", "is it red?": "no", "what color is it?": "red"}


class Knows:
    """Stands for a trained model; its answers are a function of colour and wording."""

    def __init__(self, function):
        self.function = function

    def logits(self, pixels, wording):
        pixels = pixels.numpy()
        colours = [next((c for c, rgb in COLOURS.items() if tuple(p[0, 0]) == rgb), "grey") for p in pixels]
        said = [self.function(colour, WORDINGS[w]) for colour, w in zip(colours, wording, strict=True)]
        noise = np.random.default_rng(0).normal(0, 1e-3, len(ANSWERS))
        return torch.tensor(np.array([[4.0 * (a == one) for a in ANSWERS] for one in said]) + noise)


def planted(easy, function, prior="published"):
    answers = section(study(easy).params)
    return tried(Knows(function), AnswerCell("fusion-v2", prior, "erm", 0), read(answers), answers)


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
        for remedy in REMEDIES:  # what does not look is alike with any image; what looks is right before and after
            assert (leans[key_of(name, remedy)] == leans[f"chosen.{name}.both"][:, 0]).all()
            assert accuracies(looks)[name][remedy] == accuracies(looks)[name][OWN] == 1
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


def test_what_an_answer_owes_to_the_image_counts_twice_by_hand():
    """p² / q, of p = (0.6, 0.35, 0.05) and q = (0.9, 0.0999, 0.0001), is (0.4, 1.2, 25); 0.05 is below 0.1 · 0.6."""
    own = np.log([[[0.6, 0.35, 0.05]]] * 3)
    other = np.log([[[0.9, 0.0999, 0.0001]]] * 3)
    own[2, 0, 0] = np.nan
    two = np.concatenate([other + 1, other - 1], 1)  # the mean of two partners, in logarithms
    found = contrasted({"both": own, "text": two, "text_mean_image": own[[1, 0, 1]]})
    assert {name: picked.tolist() for name, picked in found.items()} == {
        "another image": [1, 1, -1], "mean image": [0, 0, -1],  # beside the same scores, the model's own choice
        "another image, uncut": [2, 2, -1], "mean image, uncut": [0, 0, -1],
    }  # fmt: skip


def test_remedies_at_inference_are_judged_by_what_they_gain_over_the_models_own_choice():
    def model(own, remedied):
        sets = ("train", "test", "test_shifted")
        one = {name: {OWN: a} | dict.fromkeys(REMEDIES, b) for name, a, b in zip(sets, own, remedied, strict=True)}
        one["test_shifted"]["mean image"] = own[2]
        return one

    named = {
        f"shifted-erm-{seed}": model((0.9, 0.5, 0.3), (0.89 + seed / 100, 0.6, 0.45 + seed / 100)) for seed in range(3)
    }
    named["shifted-image-choice-0"] = named["shifted-erm-0"]  # not plain: it does not count
    found = at_inference(named, GainRule(gain=0.05, loss=0.02), 0.95)
    assert list(found) == ["shifted"] and list(found["shifted"]) == list(REMEDIES)
    one = found["shifted"]["another image"]
    assert one["n_seeds"] == 3 and one["gain"]["mean"] == pytest.approx(0.16) and one["verdict"] == "prevents"
    assert one["change_trained"]["mean"] == pytest.approx(0) and one["gain_test"]["mean"] == pytest.approx(0.1)
    p = scipy_stats.ttest_1samp([0.15, 0.16, 0.17], 0.05, alternative="greater").pvalue
    assert one["p_gain"] == pytest.approx(p) and one["p_gain_holm"] == pytest.approx(8 * p)  # of 8, all alike
    assert found["shifted"]["mean image"]["verdict"] == "not shown"
    table = at_inference_table({"llava": found})
    assert "| LLaVA | shifted | another image | 0.900 [0.875, 0.925] | 0.000 [−0.025, 0.025] | 0.600" in table


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
    assert [file.name for file in out.iterdir()] == ["published-erm-0.safetensors"]
    stage.main(run)
    result = read_json(run.answers)
    assert list(result["models"]) == ["fusion-v2"]
    assert result["missing_models"]["fusion-v2"] == NAMES[1:]
    train_answers.main(run, "fusion-v2")
    train_answers.main(run, "fusion-v2")  # nothing is left to do
    assert taught == [0, 0, 0, 1, 1, 0, 1]
    stage.main(run)
    result = read_json(run.answers)
    assert list(result["models"]["fusion-v2"]) == list(result["monitor"]["fusion-v2"]) == sorted(NAMES)
    assert list(result["arms"]["fusion-v2"]) == ["erm", "image-choice"]
    assert list(result["at_inference"]) == ["fusion-v2"]  # the kinds that are named
    remedied = result["at_inference"]["fusion-v2"]
    assert list(remedied) == ["published", "shifted"] and remedied["shifted"]["mean image"]["n_seeds"] == 2
    assert {file.name for file in run.answers_plots.iterdir()} >= {"accuracy.png", "watched.png"}
    tensors, about = read_cell(out / "shifted-image-choice-1.safetensors")
    assert about["parameters"]["trained"] == {"method": "image-choice", "options": {}}
    assert about["passes"] == 2
    assert tensors["watched.step"].tolist() == [0, 1, 2]
    assert (tensors["watched.accuracy"] * 12 % 1 < 1e-5).all()  # of 12 questions
    assert about["parameters"]["prior"] == "shifted"
    assert tensors["odds.test.text"].shape == (20, 2)
    assert set(about["questions"]) == {"train/questions.json", "test/questions.json"}
    again = study(tmp_path / "b", seeds=[1], arms={"erm": {}})
    train_answers.main(again, "fusion-v2")
    assert not any(again.answers_scratch("fusion-v2").iterdir())
    assert (again.answers_of("fusion-v2") / "shifted-erm-1.safetensors").read_bytes() == (
        out / "shifted-erm-1.safetensors"
    ).read_bytes()
    with pytest.raises(DataError, match="other parameters"):
        stage.main(study(tmp_path / "a", partners=3))


def outcomes(own, test, shifted):
    said = {"train": own, "test": test, "test_shifted": shifted}
    rest = {"answer_flip_image": {"mean": 0.1}, "reliance_image": {"mean": 0.2}}
    return {name: {"answer_accuracy": {"mean": value}, **rest} for name, value in said.items()}


def test_what_an_arm_gains_is_paired_by_seed_and_judged_by_the_rule():
    models = {f"shifted-erm-{seed}": outcomes(0.9, 0.5, shifted) for seed, shifted in enumerate((0.1, 0.2, 0.3))}
    models |= {f"shifted-better-{seed}": outcomes(0.91, 0.6, x) for seed, x in enumerate((0.5, 0.62, 0.7))}
    models |= {f"shifted-dear-{seed}": outcomes(0.7, 0.6, x) for seed, x in enumerate((0.5, 0.62, 0.7))}
    models |= {f"shifted-same-{seed}": outcomes(0.9, 0.5, x) for seed, x in enumerate((0.1, 0.21, 0.29))}
    models |= {"shifted-once-2": outcomes(0.9, 0.6, 0.5), "published-erm-0": outcomes(0.8, 0.8, 0.8)}
    found = arms(models, ("erm", "better", "dear", "same", "once"), GainRule(gain=0.05, loss=0.02), 0.95)
    assert found["better"]["gain"]["mean"] == pytest.approx((0.4 + 0.42 + 0.4) / 3)
    assert found["better"]["gain_test"]["mean"] == pytest.approx(0.1)
    assert found["better"]["change_trained"]["mean"] == pytest.approx(0.01)
    # Student's t of three: mean ± 4.3027 s / √3, and s = √(2/3) · 0.02 / √2 · … = 0.011547.
    half = 4.30265 * 0.0115470 / 3**0.5
    assert found["better"]["gain"]["ci_high"] - found["better"]["gain"]["mean"] == pytest.approx(half, rel=1e-4)
    verdicts = {name: one.get("verdict") for name, one in found.items()}
    assert verdicts == {
        "erm": None, "better": "prevents", "dear": "costs accuracy", "same": "not shown", "once": "undetermined",
    }  # fmt: skip
    assert found["once"]["n_pairs"] == 1
    assert found["once"]["gain"]["mean"] == pytest.approx(0.2)  # over the same seed, not over all
    assert found["erm"]["n_seeds"] == 3  # as published is another training


def test_alarms_are_told_by_modality_and_by_step():
    first = {"modality": "image", "since": 100, "rang_at": 300, "ended_at": 700}
    again = {"modality": "image", "since": 900, "rang_at": 1100, "ended_at": None}
    found = rang({"alarms": [first, again]})
    assert found["image"] == {"since": 100, "rang_at": 300, "ended_at": 700, "times": 2, "rings_at_end": 1}
    assert found["text"]["times"] == found["text"]["rings_at_end"] == 0
    assert np.isnan(found["text"]["rang_at"])
    table = alarms_table({"llava": {"shifted-erm-0": found, "shifted-erm-1": rang({"alarms": []})}})
    assert table.splitlines()[2] == "| LLaVA | plain, shifted prior | 2 | 1 | 300 | 1 |"


def test_a_model_that_never_looks_rings_the_alarm_and_one_that_looks_does_not():
    n = 240
    wording, rare = np.arange(n) % 3, np.arange(n) % 10 == 0  # the favoured answer is right for nine in ten
    shown = [("blue", "red", "green")[w] if other else ("green", "blue", "red")[w]
             for w, other in zip(wording, rare, strict=True)]  # fmt: skip
    pixels = np.stack([np.full((4, 4, 3), COLOURS[colour], np.uint8) for colour in shown])
    pixels[:, 3, 3, 0] = np.arange(n)  # no two are the same
    right = np.array([ANSWERS.index(right_of(c, WORDINGS[w])) for c, w in zip(shown, wording, strict=True)])
    held_out = Posed(np.arange(n), np.arange(n), wording, right, pixels, np.arange(n))
    for function, rings in ((right_of, False), (lambda _c, wording: FAVOURED[wording], True)):
        one = Knows(function)
        one.module = torch.nn.Identity()
        monitor = monitor_of(one, held_out, 1)
        for step in range(4):
            monitor.step(step)
        assert [alarm.modality for alarm in monitor.alarms] == ["image"] * rings
        assert seen(monitor)["watched.image_unused"].tolist() == [0, 0, rings, rings]


def test_a_branch_sees_the_wording_and_nothing_else():
    way = Way(method="product-of-experts", options={"gated": 1, "entropy": 0.36})
    method = method_of(way, 3, 5, seed=0)
    assert {tuple(one.shape) for one in method.parameters()} == {(3, 5), (3, 1)}
    assert method.entropy == 0.36
    pixels, wording, right = torch.zeros(4, 2, 2, 3), torch.tensor([0, 1, 2, 0]), torch.tensor([4, 3, 2, 4])
    free = torch.nn.Parameter(torch.zeros(4, 5))
    method.loss(lambda _image, _text: free, pixels, wording, right).backward()
    assert (method.branch.weights.weight.grad[0].argmin(), method.branch.weights.weight.grad[1].argmin()) == (4, 3)
    assert method_of(Way(method="image-choice", options={"weight": 2.0}), 3, 5, seed=0).weight == 2
    with pytest.raises(ParamsError, match="no method 'swapped-negatives' for answers"):
        method_of(Way(method="swapped-negatives"), 3, 5, seed=0)


def test_mistakes_are_named(tmp_path):
    with pytest.raises(ParamsError, match="answers.kinds has no 'bert'"):
        train_answers.main(study(tmp_path), "bert")
    with pytest.raises(DataError, match="holds no answers of a model"):
        stage.main(study(tmp_path))
    without = Study(study(tmp_path).params.model_copy(update={"answers": None}), tmp_path)
    with pytest.raises(ParamsError, match="no section answers"):
        stage.main(without)
    with pytest.raises(ValueError, match="arms has no plain"):
        study(tmp_path, arms={"image-choice": {"method": "image-choice"}})
    with pytest.raises(ValueError, match="recipe.steps has no vilt"):
        study(tmp_path, kinds=["vilt"], contrasted=[])
    with pytest.raises(ValueError, match="contrasted names vilt, which kinds does not have"):
        study(tmp_path, contrasted=["vilt"])


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
