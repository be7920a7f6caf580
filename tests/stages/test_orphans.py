"""Files of a model that the parameters no longer name are said before any stage begins, and which may go."""

import sys

import pytest

from attention_collapse.files import write_json
from attention_collapse.stages.run import run_stage

STUDY = "study: s\nparams_file: params.yaml\nmodels: {kept-2: {kind: clip, weights: hub, repo: a/b}}\n"


@pytest.mark.parametrize("folder", ["mcs", "contribution"])
def test_a_stage_does_not_begin_beside_leftover_files(tmp_path, monkeypatch, capsys, folder):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(STUDY)
    monkeypatch.setattr(sys, "argv", ["stage"])
    ran = []

    def main(study):
        ran.append(study.name)

    write_json(tmp_path / "metrics/s" / folder / "kept-2.json", {})
    run_stage(main)
    assert ran == ["s"]
    write_json(tmp_path / "metrics/s" / folder / "kept.json", {})  # its name begins another's
    (tmp_path / "data/s/measures/kept").mkdir(parents=True)
    (tmp_path / "data/s/measures/kept-2").mkdir()
    with pytest.raises(SystemExit) as end:
        run_stage(main)
    error = capsys.readouterr().err
    assert end.value.code == 1 and ran == ["s"]
    assert f"metrics/s/{folder}/kept.json: no such model in params.yaml" in error
    assert f"`git rm -r --ignore-unmatch metrics/s/{folder}/kept.json data/s/measures/kept`" in error
