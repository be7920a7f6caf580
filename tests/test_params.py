import pytest
import yaml

from attention_collapse.errors import ParamsError
from attention_collapse.models.spec import ModelSpec
from attention_collapse.params import load_params

GOOD = {
    "study": "s",
    "params_file": "params.yaml",
    "models": {"m": {"kind": "openclip", "weights": "untrained", "architecture": "ViT-B-32", "seed": 0}},
}


def write(tmp_path, data):
    path = tmp_path / "params.yaml"
    path.write_text(data if isinstance(data, str) else yaml.safe_dump(data))
    return path


def changed(**changes):
    return {**GOOD, **changes}


def test_defaults_are_the_documented_ones(tmp_path):
    params = load_params(write(tmp_path, GOOD))
    assert params.fetch_coco.source == "embedded" and params.fetch_coco.n == 100
    assert params.compute_mcs.rows == "all" and params.stats.n_resamples == 10_000
    assert params.contribution.t_shap_protocol == "native"


MODEL = GOOD["models"]["m"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (changed(fetch_cocco={}), r"unknown key fetch_cocco(.|\n)*did you mean 'fetch_coco'"),
        (changed(stats={"n_resample": 5}), r"unknown key stats\.n_resample(.|\n)*did you mean 'n_resamples'"),
        (changed(models={"m": MODEL | {"weight": "x"}}), r"unknown key models\.m\.weight(.|\n)*did you mean 'weights'"),
        (changed(fetch_coco={"n": "100"}), r"fetch_coco\.n is '100'"),
        (changed(fetch_coco={"n": True}), r"fetch_coco\.n is True"),
        (changed(fetch_coco={"n": 0}), r"fetch_coco\.n is 0"),
        (changed(fetch_coco={"source": "folder"}), "`path` is given exactly when"),
        (changed(compute_mcs={"rows": "cls"}), r"compute_mcs\.rows is 'cls'"),
        (changed(contribution={"partners": 0}), r"contribution\.partners is 0"),
        (changed(contribution={"t_shap_protocol": "paper"}), r"contribution\.t_shap_protocol is 'paper'"),
        (
            changed(contribution={"t_shap_protocol": "mm-shap", "t_shap_permutations": 9}),
            "t_shap_permutations is 10 where t_shap_protocol is mm-shap",
        ),
        (changed(models={}), "models is {}"),
        (changed(models={"m@1": MODEL}), "m@1"),
        (changed(models={"m": {"kind": "openclip"}}), r"models\.m\.weights is nothing"),
        (changed(models={"m": MODEL | {"tag": "openai"}}), "weights: untrained does not take tag"),
        (changed(models={"m": {"kind": "openclip", "weights": "pretrained", "tag": "t"}}), "needs architecture"),
        (changed(models={"m": MODEL | {"control_for": "x"}}), "which is no model here"),
        (changed(study="a/b"), "study is 'a/b'"),
        ("- a\n- b\n", "holds list"),
        ("a: [", "not YAML"),
        ("a: !!python/object/apply:os.getcwd []", "not YAML"),
    ],
)
def test_a_mistake_is_named_with_its_key(tmp_path, data, message):
    with pytest.raises(ParamsError, match=message):
        load_params(write(tmp_path, data))


def test_no_file(tmp_path):
    with pytest.raises(ParamsError, match="no such file") as caught:
        load_params(tmp_path / "params.yaml")
    assert "git checkout" in caught.value.remedy


@pytest.mark.parametrize(
    ("spec", "standing"),
    [
        ({"kind": "openclip", "weights": "checkpoint", "path": "data/controls/openclip-scenes"}, "in-house"),
        ({"kind": "openclip", "weights": "checkpoint", "path": "data/controls-of-others/clip"}, "external"),
        ({"kind": "fusion-v2", "weights": "checkpoint", "path": "anywhere"}, "in-house"),
        ({"kind": "openclip", "weights": "pretrained", "architecture": "ViT-B-32", "tag": "openai"}, "external"),
        ({"kind": "fusion-v2", "weights": "untrained", "architecture": "folder", "seed": 0}, "control"),
    ],
)
def test_what_was_trained_here_is_no_evidence_about_the_field(spec, standing):
    assert ModelSpec(**spec).standing == standing
