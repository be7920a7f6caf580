"""What a diagnosis writes, keeps and tells: nothing that was computed is lost, and nothing is computed twice."""

import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT, coco_folder
from tiny.encoders import write_vilt

from attention_collapse import diagnose
from attention_collapse.cli import main
from attention_collapse.data.fingerprint import fingerprint
from attention_collapse.data.pairs import read_folder, table
from attention_collapse.data.scenes import write_scenes
from attention_collapse.engine.contribution import OF_PAIRS
from attention_collapse.errors import AttentionCollapseError, UnwrittenError
from attention_collapse.measures.attention import ATTENTION_MEASURES
from attention_collapse.models.interface import Batch
from attention_collapse.progress import phase, steps, told

MODEL = str(ROOT / "data/controls/openclip-scenes")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("scenes"), 12, 0).parents[1]


@pytest.fixture(scope="module")
def result(scenes):
    return diagnose(MODEL, scenes, partners=2, batch_size=128, t_shap_protocol="native", t_shap_images=2)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_means_of_the_file_of_pairs_are_the_estimates(result, tmp_path, suffix):
    from attention_collapse.report.diagnosis import Outputs

    file = tmp_path / f"values{suffix}"
    assert result.save(Outputs.of(per_pair=file)) == [file]
    values = pd.read_csv(file) if suffix == ".csv" else pd.read_parquet(file)
    assert len(values) == result.n_pairs == 60 and values["is_first"].sum() == 12 == values["image_id"].nunique()
    checked = 0
    for name, found in result.estimates.items():
        if name in values and found.mean is not None and name in {**OF_PAIRS, **ATTENTION_MEASURES}:
            mean = values.groupby("image_id")[name].mean().mean()
            assert mean == pytest.approx(found.mean, rel=1e-5, abs=1e-6), name
            checked += 1
    assert checked > 20 and values.loc[~values["is_first"].astype(bool), "score"].isna().all()
    assert values["t_shap"].notna().sum() == 2 and values.loc[0, "file"] == "000000000001.png"


def test_every_figure_is_drawn(result, tmp_path):
    names = {"measures", "modality_contribution", "layer_wise_attention", "attention_entropy"}
    written = result.save_figures(tmp_path / "figures")
    assert {(path.stem, path.suffix) for path in written} == {(n, s) for n in names for s in (".png", ".pdf")}
    assert all(path.stat().st_size > 1000 for path in written)


def test_a_model_without_attention_or_causal_measures_has_its_figures_too(scenes, tmp_path):
    spec = {"kind": "scorer", "weights": "factory", "factory": "examples.scorer:score"}
    for options in ({}, {"partners": 0}):
        diagnose(spec, scenes, n=3, plots=tmp_path, per_pair=tmp_path / "values.csv", **options)
    assert {path.stem for path in tmp_path.glob("*.png")} == {"measures", "modality_contribution"}
    with pytest.raises(AttentionCollapseError, match="no layer has both entropies"):
        diagnose(spec, scenes, n=3, partners=0).save_figure(tmp_path / "layers")


def test_a_full_disk_loses_nothing(scenes, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device", str(tmp_path / "result.json"))

    monkeypatch.setattr("attention_collapse.report.diagnosis.write_json", full)
    out = str(tmp_path / "result.json")
    assert main(["diagnose", "--model", MODEL, "--pairs", str(scenes), "--partners", "0", "--out", out]) == 1
    printed = capsys.readouterr()
    assert "attention: where the model looks" in printed.out and "may be said" in printed.out
    assert "No space left on device" in printed.err and "expected: room on the disk" in printed.err
    with pytest.raises(UnwrittenError) as raised:
        diagnose(MODEL, scenes, partners=0, out=out)
    assert raised.value.result["mcs"].mean == pytest.approx(diagnose(MODEL, scenes, partners=0)["mcs"].mean)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_an_output_that_is_full_or_closed_leaves_the_file(scenes, tmp_path, monkeypatch):
    for error in (OSError(28, "No space left on device"), BrokenPipeError(32, "Broken pipe")):
        out = tmp_path / f"{error.errno}.json"

        class Refusing(io.StringIO):
            def write(self, text, error=error):
                raise error

        monkeypatch.setattr(sys, "stdout", Refusing())
        status = main(["diagnose", "--model", MODEL, "--pairs", str(scenes), "--partners", "0", "--out", str(out)])
        monkeypatch.undo()
        assert status == (141 if isinstance(error, BrokenPipeError) else 1) and out.is_file()


def count_passes(monkeypatch, model_class, names, limit=None):
    """Count a model's passes; from `limit` on they fail as a killed process would."""
    passes = []
    for name in names:
        original = getattr(model_class, name)

        def counted(self, *given, original=original, name=name):
            if not isinstance(given[0], Batch):  # a pass takes a batch
                return original(self, *given)
            passes.append(name)
            if limit is not None and len(passes) > limit:
                raise KeyboardInterrupt
            return original(self, *given)

        monkeypatch.setattr(model_class, name, counted)
    return passes


def interrupted(monkeypatch, model_class, names, limit, call):
    with monkeypatch.context() as patch:
        count_passes(patch, model_class, names, limit)
        with pytest.raises(KeyboardInterrupt):
            call()
    with monkeypatch.context() as patch:
        passes = count_passes(patch, model_class, names)
        return call(), len(passes)


OPTIONS = {"n": 6, "partners": 2, "batch_size": 4, "t_shap_protocol": "native", "t_shap_images": 1}


def test_an_interrupted_run_of_a_dual_encoder_goes_on_and_gives_the_same(scenes, tmp_path, monkeypatch):
    from attention_collapse.models.kinds.openclip import OpenClip

    with monkeypatch.context() as patch:
        passes = count_passes(patch, OpenClip, ["embed"])
        whole = diagnose(MODEL, scenes, **OPTIONS)
    found, rest = interrupted(
        monkeypatch, OpenClip, ["embed"], 20, lambda: diagnose(MODEL, scenes, work=tmp_path, **OPTIONS)
    )
    assert found.to_dict() == whole.to_dict() and 0 < rest <= len(passes) - 15
    count_passes(monkeypatch, OpenClip, ["embed"], limit=4)  # for captions and images that are tried before all else
    assert diagnose(MODEL, scenes, work=tmp_path, **OPTIONS).to_dict() == whole.to_dict()
    monkeypatch.undo()
    count_passes(monkeypatch, OpenClip, ["embed"], limit=4)
    with pytest.raises(KeyboardInterrupt):  # by another seed it has to be measured again
        diagnose(MODEL, scenes, work=tmp_path, **OPTIONS | {"seed": 1})


def test_the_same_of_a_model_that_scores_pairs(scenes, tmp_path, monkeypatch):
    from attention_collapse.models.kinds.vilt import Vilt

    write_vilt(tmp_path / "vilt")
    spec = {"kind": "vilt", "weights": "checkpoint", "path": str(tmp_path / "vilt"), "max_unknown": 1.0}
    whole = diagnose(spec, scenes, **OPTIONS)
    found, _ = interrupted(
        monkeypatch, Vilt, ["score"], 12, lambda: diagnose(spec, scenes, work=tmp_path / "parts", **OPTIONS)
    )
    assert found.to_dict() == whole.to_dict()
    passes = count_passes(monkeypatch, Vilt, ["score"])
    assert diagnose(spec, scenes, work=tmp_path / "parts", **OPTIONS).to_dict() == whole.to_dict()
    assert len(passes) == 3  # likewise


def test_kept_batches_of_other_data_weights_or_ids_are_not_used(scenes, tmp_path):
    work = tmp_path / "parts"
    (work / "mine").mkdir(parents=True)
    write_vilt(tmp_path / "vilt")
    other = write_scenes(tmp_path / "other", 6, 1).parents[1]
    vilt = {"kind": "vilt", "weights": "checkpoint", "path": str(tmp_path / "vilt"), "max_unknown": 1.0}
    for model, pairs in ((MODEL, scenes), (MODEL, other), (vilt, scenes)):
        diagnose(model, pairs, n=6, partners=0, work=work)
    assert len(list(work.glob("diagnose-*"))) == 3 and (work / "mine").is_dir()
    scorer = {"kind": "scorer", "weights": "factory", "factory": "examples.scorer:score"}
    with pytest.raises(AttentionCollapseError, match="no hash"):
        diagnose(scorer, scenes, work=work)


def test_the_fingerprint_is_of_pictures_and_texts_wherever_they_lie(tmp_path):
    one = coco_folder(tmp_path / "one", n=3)
    print_of = lambda folder: fingerprint(table(read_folder(folder)[0], "folder"))  # noqa: E731
    same, first = coco_folder(tmp_path / "same", n=3), print_of(one)
    assert re.fullmatch("[0-9a-f]{64}", first) and print_of(same) == first
    assert print_of(coco_folder(tmp_path / "fewer", n=2)) != first
    assert print_of(coco_folder(tmp_path / "captions", n=3, captions=1)) != first
    file = same / "annotations" / "captions_val2017.json"
    file.write_text(file.read_text().replace("red", "green", 1))
    assert print_of(same) != first


def test_progress_is_told_in_lines_where_there_is_no_terminal_or_not_at_all(scenes, capsys):
    arguments = ["diagnose", "--model", MODEL, "--pairs", str(scenes), "--partners", "0"]
    assert main(arguments) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1].split()[0] for line in lines] == ["reading", "loading", "attention", "intervals"]
    assert main([*arguments, "--quiet"]) == 0 and capsys.readouterr().err == ""
    diagnose(MODEL, scenes, n=3, partners=0)
    assert capsys.readouterr().err == ""


def test_a_long_step_says_how_far_it_is_and_what_is_left(monkeypatch, capsys):
    import time

    monkeypatch.setattr("attention_collapse.progress.BETWEEN", 0.05)
    with told(True):
        for _ in steps(range(4), "work", "batch"):
            time.sleep(0.06)
    found = capsys.readouterr().err
    assert re.search(r"^  work: 2 of 4 batches, 00:00 so far, about 00:00 left$", found, re.MULTILINE)
    assert "\r" not in found
    with told(False), contextlib.redirect_stderr(io.StringIO()) as nothing:
        assert list(steps(range(3), "work", "batch")) == [0, 1, 2]
    assert nothing.getvalue() == ""


def test_work_goes_on_though_nobody_reads_the_progress(monkeypatch):
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(sys, "stderr", Gone())
    monkeypatch.setattr("attention_collapse.progress.BETWEEN", 0.0)
    with told(True):
        phase("begins")
        assert list(steps(range(3), "work", "batch")) == [0, 1, 2]


def test_listing_models_imports_neither_torch_nor_open_clip():
    code = (
        "import sys; from attention_collapse.cli import main; main(['models']); "
        "print(sorted({'torch', 'open_clip', 'transformers'} & set(sys.modules)))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "[]", done.stderr


def test_the_hub_repositories_of_tags_are_open_clips_own():
    import open_clip

    from attention_collapse.inventory import HUB_OF_TAG
    from attention_collapse.models.catalogue import CATALOGUE

    named = {(spec.architecture, spec.tag) for spec in CATALOGUE.values() if spec.weights == "pretrained"}
    assert named <= HUB_OF_TAG.keys()
    for tag, repo in HUB_OF_TAG.items():
        assert open_clip.get_pretrained_cfg(*tag)["hf_hub"] == repo
