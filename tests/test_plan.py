"""`attention-collapse plan`: passes counted before a run are those of the run, and hours are measured or not said."""

import json
import re
import socket
from functools import cache

import pytest
import torch
import yaml
from conftest import ROOT, SHARED, coco_folder, photograph, write_annotations
from tiny.decoders import write_llava
from tiny.encoders import write_align, write_blip, write_clip, write_vilt

from attention_collapse.cli import main
from attention_collapse.data.coco import read_entries
from attention_collapse.data.foils import read_foils, with_foils
from attention_collapse.data.images import load_rgb
from attention_collapse.data.pairs import read_folder, table
from attention_collapse.data.questions import Asked, Located
from attention_collapse.engine.answering import answer_scores
from attention_collapse.engine.attention import extract
from attention_collapse.engine.calibration import (
    Machine,
    Measured,
    Timed,
    asked_of,
    pairs_to_time,
    read_calibration,
    time_steps,
    write_calibration,
)
from attention_collapse.engine.contribution import contributions
from attention_collapse.engine.passes import EXPLAINED, Form, passes, question_passes
from attention_collapse.engine.plan import LOADS, cost
from attention_collapse.engine.token_contribution import token_contributions
from attention_collapse.errors import AttentionCollapseError, DataError, ParamsError
from attention_collapse.models import load
from attention_collapse.models.interface import DualEncoder, Provenance
from attention_collapse.models.kinds.scorer import Scorer
from attention_collapse.models.masking import games
from attention_collapse.models.spec import ModelSpec
from attention_collapse.params import Contribution, ExtractAttention, load_params
from attention_collapse.planning import calibrate, plan
from attention_collapse.registry import kinds
from attention_collapse.report.plan import WIDTH, duration, memory, plan_text
from attention_collapse.stages import fetch_coco
from attention_collapse.study.layout import Study

SETTINGS = Contribution(partners=3, t_shap_images=3, t_shap_permutations=2, seed=4)
WRITERS = {"align": write_align, "blip": write_blip, "clip": write_clip, "llava": write_llava, "vilt": write_vilt}


def foiled_folder(root, n=5):
    """Pictures of several captions, the first with one hard foil or two; the last two share a caption."""
    images, annotations = [], []
    for image in range(1, n + 1):
        photograph(root / "val2017" / f"{image}.jpg", size=(48, 40), seed=image)
        images.append({"id": image, "file_name": f"{image}.jpg"})
        same = min(image, n - 1)
        texts = [f"a red circle on the left of picture {same}", "a picture", "two circles"][: 2 + image % 2]
        for number, text in enumerate(texts):
            foils = [{"caption": f"{text} and {k} squares", "changed": "x"} for k in range(1 + image % 2)]
            annotations.append({"id": 10 * image + number, "image_id": image, "caption": text}
                               | ({"foils": foils} if number == 0 else {}))  # fmt: skip
    write_annotations(root, {"images": images, "annotations": annotations})
    return root


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return table(read_folder(foiled_folder(tmp_path_factory.mktemp("foiled")))[0], "folder")


def loaded(kind, folder):
    if kind == "scorer":
        function = lambda images, texts: [float(len(text)) for text in texts]  # noqa: E731
        function.is_likelihood = True
        return Scorer("scorer", function, Provenance("x", None, None, None, 0, untrained=False))
    WRITERS[kind](folder)
    return load(kind, ModelSpec(kind=kind, weights="untrained", architecture=str(folder), seed=0))


def really_run(model, pairs, settings):
    """Rows that go through the model's own forward in each step of a run."""
    seen, step = {"attention": 0, "contribution": 0, "t_shap": 0}, ["attention"]
    inner, name = (model.embed, "embed") if isinstance(model, DualEncoder) else (model.score, "score")

    def counted(batch):
        found = inner(batch)
        seen[step[0]] += len(getattr(found, "embedding", found))
        return found

    setattr(model, name, counted)
    extract(model, pairs, batch_size=4)
    step[0] = "contribution"
    contributions(model, pairs, partners=settings.partners, seed=settings.seed, batch_size=4)
    step[0] = "t_shap"
    token_contributions(
        model, pairs, images=settings.t_shap_images, seed=settings.seed, batch_size=4,
        permutations=settings.t_shap_permutations,
    )  # fmt: skip
    return seen


@pytest.mark.parametrize("kind", ["clip", "align", "blip", "llava", "scorer"])
def test_the_counted_passes_are_those_of_the_run(kind, pairs, tmp_path):
    model, picture = loaded(kind, tmp_path / kind), load_rgb(photograph(tmp_path / "p.png"))[0]

    def tokens(caption):
        return games(model, picture, [caption], 4)[0].tokens

    [planned] = passes([Form.of(model)], pairs, SETTINGS, tokens)
    seen = really_run(model, pairs, SETTINGS)
    assert {step: sum(counts.values()) for step, counts in planned.items()} == seen
    assert seen["contribution"] > len(pairs) and seen["t_shap"] > 10 * SETTINGS.t_shap_images
    units = {"image", "text"} if isinstance(model, DualEncoder) else {"pair"}
    assert set(planned["contribution"]) == set(planned["t_shap"]) == units


def test_too_few_different_pairs_take_no_pass_of_contributions(pairs):
    form = Form(False, False, frozenset({"text"}), False)
    [planned] = passes([form], pairs.select(range(2)), SETTINGS)
    assert planned["contribution"] == {} and planned["attention"] == {"pair": 5}


def test_more_explained_images_than_are_played_out_are_taken_to_be_like_these(tmp_path):
    many = table(read_folder(coco_folder(tmp_path, n=EXPLAINED + 4, captions=1))[0], "folder")
    few, more = (SETTINGS.model_copy(update={"t_shap_images": n}) for n in (EXPLAINED, EXPLAINED + 4))
    form = Form(False, False, frozenset(), False)
    [a], [b] = (passes([form], many, settings) for settings in (few, more))
    assert b["t_shap"]["pair"] == round(a["t_shap"]["pair"] * (EXPLAINED + 4) / EXPLAINED)


def test_a_protocol_that_cannot_be_followed_takes_no_pass(pairs):
    by_script = Contribution(partners=3, t_shap_images=2, t_shap_protocol="mm-shap")
    forms = [Form(False, False, frozenset(), published) for published in (True, False)]
    followed, not_followed = passes(forms, pairs, by_script)
    assert followed["t_shap"]["pair"] > 0 and not_followed["t_shap"] == {}


@pytest.mark.parametrize("kind", [*WRITERS])
def test_a_kind_says_without_weights_what_a_loaded_model_says(kind, tmp_path):
    assert Form.of_kind(kind) == Form.of(loaded(kind, tmp_path / kind))


def test_questions_take_no_more_passes_than_said_and_as_many_where_none_are_alike(tmp_path):
    scored = []
    model = Scorer("known", lambda images, texts: [scored.append(1) or 0.0 for _ in texts],
                   Provenance("x", None, None, None, 0, untrained=False))  # fmt: skip
    asked = [
        Located(Asked(str(i), str(i), f"{i}.png", f"what is {i}?", ((f"a{i}", 1.0),), (f"a{i}", f"b{i}", f"c{i}")),
                photograph(tmp_path / f"{i}.png", seed=i), f"hash {i}", 1)
        for i in range(7)
    ]  # fmt: skip
    answer_scores(model, asked, partners=1, seed=0, batch_size=8)
    assert len(scored) == question_passes(7, 3, 1) == 126
    scored.clear()
    answer_scores(model, asked, partners=4, seed=0, batch_size=8)
    assert 126 < len(scored) <= question_passes(7, 3, 4)


# -- a study ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def study(tmp_path, tiny_openclip):
    """A repository with one study whose pairs are fetched; two of its three models cannot be loaded."""
    (tmp_path / ".dvc").mkdir()
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "open_clip_config.json").write_text("{")
    params = {
        "study": "small",
        "params_file": "params.yaml",
        "models": {
            "tiny": {"kind": "openclip", "weights": "checkpoint", "path": str(tiny_openclip)},
            "broken": {"kind": "openclip", "weights": "checkpoint", "path": str(broken)},
            "far": {"kind": "llava", "weights": "hub", "repo": "nobody/nothing"},
        },
        "fetch_coco": {"source": "folder", "path": str(foiled_folder(tmp_path / "in")), "n": None},
        "extract_attention": {"batch_size": 4, "device": "cpu", "threads": 1},
        "contribution": {"partners": 2, "t_shap_images": 1, "t_shap_permutations": 1, "seed": 0},
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    found = Study(load_params(tmp_path / "params.yaml"), tmp_path)
    fetch_coco.fetch(found, None)
    return found


def machine(**other):
    known = {"processor": "a CPU", "cores": 2, "threads": 1, "device": "cpu", "device_name": None, "torch": "2",
             "system": "Linux"}  # fmt: skip
    return Machine(**(known | other))


def timed(**seconds):
    return Timed(seconds=seconds, fastest=seconds, slowest=seconds, passes=dict.fromkeys(seconds, 4))


def measured(study, name="tiny", **other):
    known = {
        "asked": asked_of(study.spec(name)), "weights": {}, "batch_size": 4, "pairs": "4 pairs", "runs": 3,
        "start_seconds": 10.0, "processor_share": 1.0, "host_bytes": 3 * 2**30, "device_bytes": None,
        "steps": {"attention": timed(image=2.0, text=0.5), "contribution": timed(image=3.0, text=1.0),
                  "t_shap": timed(any=0.25)},
    }  # fmt: skip
    return Measured(**(known | other))


def test_planned_time_is_passes_times_seconds_and_the_start_for_each_load(study, tmp_path):
    file = tmp_path / "here.json"
    write_calibration(file, "small", machine(), {"tiny": measured(study)})
    found = {one.name: one for one in plan(study, [file]).models}
    tiny, words = found["tiny"], found["tiny"].passes
    # 5 images; captions 3 + 2 + 3 + 2 + 3; first captions with 2 + 1 + 2 + 1 + 2 foils, and the mean image
    assert words["attention"] == {"image": 5, "text": 13} and words["contribution"] == {"image": 6, "text": 13}
    explained = sum(words["t_shap"].values())
    [one] = tiny.costs
    assert one.steps == {"attention": 16.5, "contribution": 31.0, "t_shap": explained / 4}
    assert one.start == LOADS * 10.0 and one.seconds == 16.5 + 31.0 + explained / 4 + 20.0
    assert found["far"].costs == (None,) and sum(found["far"].passes["attention"].values()) == 13
    assert plan(study, [file]).totals() == [(one.seconds, 1)]


def test_a_step_that_was_not_measured_has_no_hours(study):
    assert cost({"attention": {"pair": 3}}, measured(study)) is None
    assert cost({"attention": {}, "contribution": {"text": 2}}, measured(study)).steps["contribution"] == 2.0


def test_machines_stand_side_by_side_and_nothing_is_invented(study, tmp_path):
    here, there = tmp_path / "a.json", tmp_path / "b.json"
    write_calibration(here, "small", machine(), {"tiny": measured(study)})
    write_calibration(there, "small", machine(device="cuda", device_name="a GPU"), {
        "tiny": measured(study, start_seconds=1800.0, device_bytes=5 * 2**30), "far": measured(study, "far", steps={
            "attention": timed(pair=3600.0), "contribution": timed(pair=1.0), "t_shap": timed(pair=1.0)}),
    })  # fmt: skip
    text = plan_text(plan(study, [here, there]))
    row = {line.split()[0]: line for line in text.split("time and memory")[1].splitlines() if line}
    assert "3 GiB" in row["tiny"] and "60 min, 5 GiB GPU" in re.sub(r"6[0-9] min", "60 min", row["tiny"])
    assert row["broken"].split() == ["broken", "not", "measured", "not", "measured"]
    assert re.match(r"far +not measured +1[34] h, 3 GiB$", row["far"])  # 13 passes of an hour, and some seconds
    assert "[2] cuda (a GPU), 2 cores of a CPU, 1 thread, torch 2" in text and "linear in the passes" in text
    assert "busy" not in text
    write_calibration(here, "small", machine(), {"tiny": measured(study, processor_share=0.45)})
    assert "busy while it was timed: 45%" in plan_text(plan(study, [here]))


def test_a_calibration_that_is_not_of_this_study_is_refused(study, tmp_path):
    file = tmp_path / "here.json"
    write_calibration(file, "small", machine(), {"tiny": measured(study)})
    good = json.loads(file.read_text())

    def refused(change):
        changed = json.loads(json.dumps(good))
        change(changed, changed["models"]["tiny"])
        file.write_text(json.dumps(changed))
        with pytest.raises(DataError) as error:
            plan(study, [file])
        return error.value

    assert "schema 2" in refused(lambda whole, one: whole.update(schema=2)).got
    assert "the study 'coco'" in refused(lambda whole, one: whole.update(study="coco")).got
    assert "start_seconds" in refused(lambda whole, one: one.update(start_seconds=-1)).got
    assert "batch_size 8" in refused(lambda whole, one: one.update(batch_size=8)).got
    other = refused(lambda whole, one: one["asked"].update(path="elsewhere"))
    assert "tiny was measured with path elsewhere" in other.got and "as the study has it" in other.expected
    study.checkpoint("tiny").parent.mkdir(parents=True)
    study.checkpoint("tiny").write_text('{"sha256": "aa"}')
    assert "recorded sha256 bb" in refused(lambda whole, one: one.update(weights={"sha256": "bb"})).got
    for text, said in (("{", "not JSON"), ("[]", "schema None"), ("", "not JSON")):
        file.write_text(text)
        with pytest.raises(DataError, match=said):
            plan(study, [file])
    with pytest.raises(DataError, match="no such file"):
        plan(study, [tmp_path / "absent.json"])


def test_a_file_of_another_machine_is_not_added_to(study, tmp_path):
    file = tmp_path / "here.json"
    write_calibration(file, "small", machine(), {"tiny": measured(study)})
    write_calibration(file, "small", machine(), {"far": measured(study, "far")})
    assert set(read_calibration(file, "small").models) == {"tiny", "far"}
    with pytest.raises(DataError, match="measured on cpu, 2 cores of a CPU, 1 thread") as error:
        write_calibration(file, "small", machine(threads=2), {})
    assert "2 threads" in error.value.expected


def test_a_model_that_cannot_be_loaded_is_named_and_ends_nothing(study, monkeypatch, capsys):
    monkeypatch.chdir(study.root)
    assert main(["plan", "small", "--calibrate", "--out", "plan.json"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"far: its weights are not on this machine \(hub nobody/nothing\)", out)
    assert "open_clip_config.json" in re.sub(r"\s", "", out).split("broken:")[1]  # lines are broken, paths too
    found = json.loads((study.root / "plan.json").read_text())["models"]
    [tiny] = found["tiny"]["costs"]
    assert tiny["seconds"] > tiny["start"] > 0 and tiny["host_bytes"] > 2**27 and set(tiny["steps"]) == {
        "attention", "contribution", "t_shap"}  # fmt: skip
    assert found["far"]["costs"] == [None] and found["far"]["why_not_measured"]
    kept = read_calibration(study.root / "build" / "calibration-small.json", "small")
    assert set(kept.models) == {"tiny"} and kept.machine.torch == torch.__version__
    assert main(["plan", "small"]) == 0  # the file is found again, and the model is not measured anew
    assert "all that were measured" in capsys.readouterr().out


def test_every_step_is_timed_on_the_passes_that_the_run_makes(pairs, tmp_path):
    """Of a dual encoder images and texts apart, of a tower without attention its texts alone."""
    settings = ExtractAttention(batch_size=4, device="cpu", threads=1)
    align, blip = (loaded(kind, tmp_path / kind) for kind in ("align", "blip"))
    for model, attention in ((align, {"text"}), (blip, {"pair"})):
        steps, [planned] = time_steps(model, pairs, settings, SETTINGS), passes([Form.of(model)], pairs, SETTINGS)
        assert set(steps["attention"].passes) == attention and steps["attention"].passes == planned["attention"]
        assert steps["contribution"].passes == planned["contribution"] and set(steps["t_shap"].passes) == {"any"}
        assert all(0 < one.fastest[u] <= one.seconds[u] <= one.slowest[u] for one in steps.values() for u in one.passes)
    assert pairs_to_time(align, 32) == 32 and pairs_to_time(blip, 32) == 8 and pairs_to_time(blip, 4) == 4
    by_script = SETTINGS.model_copy(update={"t_shap_protocol": "mm-shap", "t_shap_permutations": 10})
    assert time_steps(blip, pairs, settings, by_script)["t_shap"].passes["any"] > 0


@pytest.mark.parametrize("words, said", [
    (["plan", "no-such"], "no study 'no-such'"),
    (["plan", "small", "--device", "cpu"], "without --calibrate"),
    (["plan", "small", "--calibrate", "--model", "x"], "model 'x' is not in"),
    (["plan", "small", "--calibration", "absent.json"], "absent.json: no such file"),
    (["plan", "small", "--out", "."], "cannot be written"),
])  # fmt: skip
def test_mistakes_are_said_in_three_parts(study, monkeypatch, capsys, words, said):
    monkeypatch.chdir(study.root)
    assert main(words) == 1
    error = capsys.readouterr().err
    assert said in error and "\n  expected: " in error and "\n  what to do: " in error


# -- pairs that are not fetched ---------------------------------------------------------------------------------------


def of_coco(**fetch):
    """The COCO study with other pairs."""
    params = load_params(ROOT / "studies" / "coco" / "params.yaml")
    other = params.fetch_coco.model_copy(update=fetch)
    return Study(params.model_copy(update={"fetch_coco": other}), ROOT)


def test_the_plan_of_the_coco_study_needs_no_network_and_fits_a_terminal(monkeypatch, tmp_path, capsys):
    def no_network(*_args, **_options):
        raise AssertionError("a plan asked for the network")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setattr("attention_collapse.planning.default_calibration", lambda study: tmp_path / "none.json")
    monkeypatch.chdir(ROOT)
    assert main(["plan", "coco", "--out", str(tmp_path / "plan.json")]) == 0
    text, found = capsys.readouterr().out, json.loads((tmp_path / "plan.json").read_text())
    assert max(map(len, text.split("written to")[0].splitlines())) <= WIDTH
    models = load_params(ROOT / "studies" / "coco" / "params.yaml").models
    assert set(found["models"]) == set(models) and all(f"\n{name} " in text for name in models)
    assert found["pairs"]["images"] == 100 and "studies/coco/params.yaml, not fetched yet" in text
    assert "1,560" in text and "Time: not measured" in text and not re.search(r"\d (h|min)\b", text)
    assert found["models"]["openclip-vit-b-32"]["passes"]["attention"] == {"image": 100, "text": 500}


def test_all_of_val2017_has_the_committed_captions():
    found = plan_of(of_coco(n=None, foils=None))
    assert (found.images, found.captions, found.foils) == (5_000, 25_014, 0)


def plan_of(study, *kinds):
    """Its plan with one model of each kind, all of them if none is named."""
    models = {name: spec for name, spec in study.params.models.items() if not kinds or spec.kind in kinds}
    return plan(Study(study.params.model_copy(update={"models": models}), study.root))


@pytest.mark.parametrize("fetch, said", [
    ({"n": 2000}, "fetch_coco.n is 2000, and there are 1,560 such images"),
    ({"foils": ("other.json",)}, "nothing says what foils other.json hold"),
    ({"source": "folder", "path": "x", "foils": None}, "the pairs of x are not fetched"),
])  # fmt: skip
def test_what_is_not_known_is_not_guessed(fetch, said):
    with pytest.raises(ParamsError, match=re.escape(said)):
        plan(of_coco(**fetch))


def test_without_pairs_nothing_is_timed(tmp_path):
    with pytest.raises(AttentionCollapseError, match="not fetched, so there is nothing to time"):
        calibrate(of_coco(), tmp_path / "file.json")


def test_the_counts_of_sugarcrepe_are_those_of_its_files():
    committed = json.loads((ROOT / "data" / "sugarcrepe_counts.json").read_text())
    folder, captions = SHARED / "sugarcrepe", SHARED / "coco-captions" / "captions_val2017.json"
    if not (folder.is_dir() and captions.is_file()):
        pytest.skip("SugarCrepe's files and COCO's captions (../shared/data) are not on this machine")
    items = [item for name in committed["files"] for item in read_foils(folder / name)[0]]
    entries = with_foils(read_entries(captions)[0], items, [])
    assert committed["n_images"] == len(entries) and committed["n_captions"] == sum(len(e.captions) for e in entries)
    assert committed["n_foils"] == sum(len(foils) for one in entries for foils in one.foils)
    for number, images in committed["foils_of_first_captions"].items():
        assert images == sum(len(one.foils[0]) == int(number) for one in entries)
    assert sum(committed["foils_of_first_captions"].values()) == len(entries)


# -- the page ---------------------------------------------------------------------------------------------------------

PAGE = (ROOT / "docs" / "planning.md").read_text("utf-8")
TEXT = re.sub(r"\s+", " ", PAGE)
CALIBRATION = ROOT / "data" / "calibration" / "embedded.json"
SIZES = {"COCO study": {}, "SugarCrepe": {"n": None}, "val2017": {"n": None, "foils": None}}
FORMS = {"openclip-vit-b-32": "dual encoder", "blip-itm-base": "matching head", "llava-1_5-7b": "likelihood"}


def between(name):
    return PAGE.split(f"<!-- {name}: begin -->")[1].split(f"<!-- {name}: end -->")[0].strip()


@cache
def planned(size):
    """The plan of one size with a model of each form."""
    return plan_of(of_coco(**SIZES[size]), "openclip", "blip", "llava")


@pytest.mark.parametrize("size", SIZES)
def test_the_page_counts_what_the_command_counts(size):
    found = planned(size)
    models = {one.name: one for one in found.models}
    for name, form in FORMS.items():
        cells = [sum(models[name].passes[step].values()) for step in ("attention", "contribution", "t_shap")]
        row = f"| {size} | {found.images:,} | {found.captions:,} | {found.foils:,} | {form} | "
        row += " | ".join(f"{count:,}" for count in [*cells, models[name].total]) + " |"
        assert row in between("sizes"), row


def test_the_hours_of_the_page_are_those_of_the_committed_measurement():
    study = Study(load_params(ROOT / "params.yaml"), ROOT)
    found = plan(study, [CALIBRATION])
    for one in found.models:
        said = [name for name in re.findall(r"(?m)^\| `([\w-]+)` \|", between("hours")) if name == one.name]
        assert bool(said) == (one.costs[0] is not None)
        if one.costs[0]:
            row = f"| `{one.name}` | {one.total:,} | {duration(one.costs[0].seconds)} | {memory(one.costs[0])} |"
            assert row in between("hours"), row
    assert f"({found.machines[0].machine.words})" in TEXT


def test_what_the_page_says_of_a_decoder_and_of_questions_follows_from_the_counts():
    llava = next(one for one in planned("val2017").models if one.name == "llava-1_5-7b")
    parameters = kinds()["llava"].catalogue["llava-1.5-7b"]["millions"]
    each, explained = llava.per_pair["attention"] + llava.per_pair["contribution"], llava.per_pair["t_shap"]
    assert f"has {parameters:,} million parameters" in TEXT and f"and {each - 1:.1f} of contributions" in TEXT
    rows = ((each * 1e6, "attention and contributions"), (explained * 1e3, "T-SHAP of a further 1,000 images"))
    for count, row in rows:
        operations = 2 * parameters * 1e6 * 600 * count
        power = len(str(int(operations))) - 1
        digits = str(power).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
        assert f"| {row} | {count / 1e6:.1f} million | {operations / 10**power:.1f} · 10{digits} |" in TEXT
    for candidates in (100, 10):
        assert f"{candidates} candidates {question_passes(214_354, candidates, 8):,}" in TEXT
    assert f"at most {question_passes(1, 1, 8)} passes per candidate" in TEXT
    dual, other = [], []
    for one in (one for size in SIZES for one in planned(size).models):
        (dual if FORMS.get(one.name, "dual encoder") == "dual encoder" else other).append(one.per_pair["contribution"])
    assert f"cost it {min(dual):.0f} to {max(dual):.0f} passes per image" in TEXT
    assert f"any other model {min(other):.0f} to {max(other):.0f} with 8 partners" in TEXT
