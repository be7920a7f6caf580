"""What docs/adding.md promises, performed in a copy of the package: a measure and a study are described once."""

import json
import os
import shutil
import subprocess
import sys

import pandas as pd
import pytest
import yaml
from conftest import ROOT, coco_folder
from tiny.encoders import ENCODERS

FORMULA = '''

def mass_difference(mass_of_image: ArrayLike, mass_of_text: ArrayLike) -> Floats:
    """Attention that the image draws beyond the text, −1 to 1."""
    return np.asarray(mass_of_image, np.float64) - np.asarray(mass_of_text, np.float64)


DIFFERENCE = Measure(
    mass_difference, "mass beyond the text's", "attention that the image draws beyond the text", "share", 0, 1,
    null=0.0, undefined=NO_QUERY, image_ignored=-1, text_ignored=1, heading="mass beyond",
)  # fmt: skip
'''


@pytest.fixture
def package(tmp_path):
    """A copy of the package, and an environment in which it is the one that is imported."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    return tmp_path, os.environ | {"PYTHONPATH": str(tmp_path / "src"), "OMP_NUM_THREADS": "1"}


def run(env, *command, cwd):
    done = subprocess.run([sys.executable, *command], env=env, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_measure_is_its_formula_with_its_record(package):
    root, env = package
    file = root / "src" / "attention_collapse" / "measures" / "mass.py"
    file.write_text(file.read_text("utf-8") + FORMULA, "utf-8")
    ENCODERS["vilt"][0](root / "checkpoint")
    coco_folder(root / "in", n=4, captions=1)
    script = ROOT / "tests" / "adding" / "measure_study.py"
    found = json.loads(run(env, str(script), str(root), cwd=root).splitlines()[-1])
    pairs = pd.read_csv(root / "data" / "s" / "measures" / "m" / "pairs.csv")
    assert found["column"] and found["value"] == pytest.approx(pairs["mass_difference_all"].mean(), rel=1e-4)
    # Independently of the formula: share and difference are of the same two masses, whose sum is at most 1.
    assert (pairs["mass_difference_all"] / (2 * pairs["mass_share_all"] - 1)).between(0, 1 + 1e-6).all()
    assert "mass beyond the text's" in found["diagnose"] and "mass beyond the text's (share)" in found["report"]
    assert "mass beyond" in found["comparison"].replace("\\n", " ") and "mass beyond the text's" in found["separation"]
    assert [side["auroc"] for side in found["contrasts"]] == [1, 1] and "`mass_difference`" in found["docs"]


def test_a_study_is_a_parameter_file(package):
    root, env = package
    params = yaml.safe_load((ROOT / "studies" / "coco" / "params.yaml").read_text("utf-8"))
    params |= {"study": "mine", "params_file": "studies/mine/params.yaml"}
    params["models"] = {"m": params["models"][next(iter(params["models"]))]}
    (root / "studies" / "mine").mkdir(parents=True)
    (root / "studies" / "mine" / "params.yaml").write_text(yaml.safe_dump(params))
    drawn = [str(file.relative_to(ROOT)) for file in ROOT.glob("plots/*/*.csv")]  # a study without has not run
    for name in ("params.yaml", "dvc.yaml", *drawn):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    (root / ".dvc").mkdir()
    printed = run(env, "-m", "attention_collapse.cli", "pipeline", "--write", cwd=root)
    assert printed == "studies/mine/dvc.yaml: written\n"
    (root / ".dvc" / "config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    code = "import json; from dvc.repo import Repo; print(json.dumps([s.addressing for s in Repo().index.stages]))"
    stages = json.loads(run(env, "-c", code, cwd=root).splitlines()[-1])
    own = {stage.split(":")[-1] for stage in stages if stage.startswith("studies/mine/")}
    assert {"fetch_coco", "extract_attention@m", "compute_mcs@m", "overlay", "stats", "reports"} <= own
    checked = run(env, "-m", "attention_collapse.cli", "pipeline", cwd=root)
    assert "every dvc.yaml is what repository/pipeline.py says" in checked
