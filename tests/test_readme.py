"""The README's numbers are the metrics', and what it names is there."""

import re

from conftest import ROOT

from attention_collapse.files import read_json

README = (ROOT / "README.md").read_text()


def test_the_results_it_promises_are_the_committed_ones():
    models = read_json(ROOT / "metrics" / "embedded" / "stats.json")["models"]
    for name in ("openclip-scenes", "openclip-vit-b-32-untrained"):
        mcs, null, calibrated = (models[name][key] for key in ("mcs", "mcs_null", "mcs_calibrated"))
        row = next(line for line in README.splitlines() if line.startswith(f"| `{name}`"))
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[1] == f"{mcs['mean']:.3f} [{mcs['ci_low']:.3f}, {mcs['ci_high']:.3f}]"
        assert cells[2:] == [f"{null['mean']:.3f}", f"{calibrated['mean']:.3f}", models[name]["reading_original"]]
    fresh = [result for name, result in models.items() if name.startswith("openclip-scenes-untrained")]
    assert all(result["reading_original"] == "vision collapse" for result in fresh)
    row = next(line for line in README.splitlines() if line.startswith("| the same before training"))
    for key in ("mcs", "mcs_calibrated"):
        means = [f"{result[key]['mean']:.3f}" for result in fresh]
        assert f"{min(means)}–{max(means)}" in row
    readout = read_json(ROOT / "metrics" / "embedded" / "mcs" / "openclip-scenes.json")["by_rows"]["readout"]
    text = re.sub(r"\s+", " ", README)
    assert f"scores {readout['mcs']:.3f} (null {readout['mcs_null']:.3f})" in text and 0.3 < readout["mcs"] < 0.7
    control = read_json(ROOT / "metrics" / "controls" / "openclip-scenes.json")
    text = re.sub(r"\s+", " ", README)
    assert (
        f"one of {control['candidates']} held-out scenes for {100 * control['image_to_text_r1']:.1f} % of images"
        in text
    )
    assert f"{100 * control['text_to_image_r1']:.1f} % of captions (chance: {100 * control['chance']:.1f} %)" in text


def test_the_causal_figures_are_the_committed_ones():
    causal = read_json(ROOT / "metrics" / "embedded" / "contribution" / "openclip-scenes.json")
    share, right, image, text = (
        f"{causal[key]['mean']:.3f}"
        for key in ("shapley_share", "accuracy", "perceptual_score_image", "perceptual_score_text")
    )
    readme = re.sub(r"\s+", " ", README)
    assert f"the image's Shapley share is {share} and" in readme
    assert f"(accuracy {right}), and loses {image} of that with another image, {text} with another text" in readme


def test_its_null_figures_are_the_contracts():
    towers = read_json(ROOT / "metrics" / "null_reference.json")["towers"]
    means = sorted(tower["mean"] for tower in towers.values())
    assert f"already {means[0]:.2f} for a ViT-B/32 and {means[1]:.2f}–{means[-1]:.2f} for finer patches" in re.sub(
        r"\s+", " ", README
    )


def test_the_folders_in_its_tree_exist():
    for room in re.findall(r"^  (\w+)/ ", README, re.MULTILINE):
        assert (ROOT / "src" / "attention_collapse" / room).is_dir(), room
