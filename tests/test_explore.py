"""The page of a model on a user's pairs, from Python and the command line; captions, files and names are hostile."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, coco_folder, photograph, write_annotations
from report.test_explorer import HOSTILE, Elements
from tiny.encoders import write_blip, write_siglip, write_vilt
from tiny.inhouse import write_fusion_v1

from attention_collapse import AttentionCollapseError, explore, page_parts
from attention_collapse.cli import main
from attention_collapse.data.images import load_rgb
from attention_collapse.data.pairs import read_folder, table
from attention_collapse.data.scenes import write_scenes
from attention_collapse.engine.chosen_pairs import chosen_pairs
from attention_collapse.engine.maps import readout_attention
from attention_collapse.engine.pair_attention import pair_attention
from attention_collapse.inputs import named_of
from attention_collapse.models import load
from attention_collapse.models.spec import ModelSpec
from attention_collapse.models.twin import twin_spec


@pytest.fixture
def folder(tmp_path):
    return coco_folder(tmp_path / "pairs", n=5, captions=2)


def data_of(page):
    return json.loads(next(text for a, text in Elements(page.html).of("script") if a.get("type") == "application/json"))


def test_the_function_and_the_command_write_the_same_page(folder, tiny_openclip, tmp_path, capsys):
    page = explore(str(tiny_openclip), folder, out=tmp_path / "a.html", t_shap=True)
    command = ["explore", "--model", str(tiny_openclip), "--pairs", str(folder), "--t-shap"]
    assert main([*command, "--out", str(tmp_path / "b.html")]) == 0
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes() == page.html.encode()
    assert "open it in a browser" in capsys.readouterr().out
    data = data_of(page)
    assert [view["towers"] for view in data["pairs"][0]["views"]] == [["vision"], ["text"]]
    assert data["pairs"][0]["tokens"]["side"] ** 2 == len(data["pairs"][0]["tokens"]["cells"])
    assert "untrained twin" in page.html and "UNTRAINED" in page.html


def test_the_weights_are_those_that_the_model_itself_tells(folder, tmp_path):
    write_vilt(tmp_path / "vilt")
    model = load("vilt", ModelSpec(kind="vilt", weights="checkpoint", path=str(tmp_path / "vilt")))
    picture, caption = load_rgb(folder / "val2017" / f"{1:012d}.jpg")[0], "two red circles"
    [seen] = pair_attention(model, picture, caption)
    assert not seen.side and "shuffles" in seen.why  # so its image keys stand together, as the last one
    batch = model.pairs([picture], [caption])
    model.module.set_attn_implementation("eager")
    with torch.inference_mode(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        told = torch.stack(model.module(**batch.inputs, output_attentions=True).attentions)[:, 0]
    ids = batch.inputs["input_ids"][0]
    words = [place for place, token in enumerate(ids.tolist()) if token not in model.tokenizer.all_special_ids]
    assert len(seen.words) == len(words) == seen.weights.shape[2] - 1
    assert seen.weights.sum(-1) == pytest.approx(1, abs=1e-5)
    rows = [*words, 0]  # the class token reads out
    text, image = told[:, :, rows, : len(ids)].numpy(), told[:, :, rows, len(ids) + 1 :].sum(-1).numpy()
    assert np.allclose(seen.weights[..., : len(ids)], text, atol=1e-5)
    assert np.allclose(seen.weights[..., -1], image, atol=1e-5)


def test_the_readout_of_an_image_tower_is_that_of_the_maps(folder, tiny_openclip):
    model = load("tiny", named_of(str(tiny_openclip)).spec)
    picture = load_rgb(folder / "val2017" / f"{1:012d}.jpg")[0]
    image, text = pair_attention(model, picture, "a red circle")
    batch = model.images([picture])
    whole = readout_attention(model, batch, batch.reads[0])[0].numpy()  # (key,), class token first
    assert image.side == 4 and np.allclose(image.weights[-1, :, 0].mean(0), [*whole[1:], whole[0]], atol=1e-6)
    assert text.side == 0 and not text.image_tokens and text.words[1:-1] == ("a", "red", "circle")
    assert text.support.tolist() == [1, 2, 3, 4, 5, 5]  # causal, and the end token reads out


def test_a_readout_that_pools_is_the_mean_of_its_queries(folder, tmp_path):
    write_siglip(tmp_path / "siglip")
    model = load("siglip", named_of(str(tmp_path / "siglip")).spec)
    picture = load_rgb(folder / "val2017" / f"{1:012d}.jpg")[0]
    image, batch = pair_attention(model, picture, "a red circle")[0], model.images([picture])
    whole = readout_attention(model, batch, batch.reads[0])[0].numpy()
    assert image.side == 4 and np.allclose(image.weights[-1, :, 0].mean(0), whole, atol=1e-6)
    assert image.weights.sum(-1) == pytest.approx(1, abs=1e-5)


def test_keys_of_an_image_have_no_words_names_however_many_there_are(folder, tmp_path):
    write_blip(tmp_path / "blip")
    model = load("blip", named_of(str(tmp_path / "blip")).spec)
    for words in range(1, 17):
        cross = pair_attention(model, load_rgb(folder / "val2017" / f"{1:012d}.jpg")[0], " ".join(["on"] * words))[0]
        assert cross.others == (("class token", "other"),) and cross.side == 4


def test_the_swaps_are_scores_of_what_was_swapped(tmp_path, tiny_openclip):
    write_scenes(tmp_path / "scenes", n=8, seed=0)
    pairs = table(read_folder(tmp_path / "scenes")[0], "folder")
    model = load("tiny", named_of(str(tiny_openclip)).spec)
    chosen, scores = chosen_pairs(model, pairs, show=3, seed=0, batch_size=4)

    def score(image, text):
        with torch.inference_mode():
            a, b = model.embed(model.images([image])).embedding[0], model.embed(model.texts([text])).embedding[0]
        return model.logit_scale * float(a.double() @ b.double()) + model.logit_bias

    pictures = [load_rgb(Path(row["image"]["path"]))[0] for row in pairs]
    captions = [row["captions"][0] for row in pairs]
    for one in chosen:
        own, found = one.position, one.scores
        assert len({own, found.image_from, found.text_from}) == 3
        assert found.own == pytest.approx(scores[own]) == pytest.approx(score(pictures[own], captions[own]), abs=1e-4)
        assert found.other_image == pytest.approx(score(pictures[found.image_from], captions[own]), abs=1e-4)
        assert found.other_text == pytest.approx(score(pictures[own], captions[found.text_from]), abs=1e-4)
        both = score(pictures[found.image_from], captions[found.text_from])
        assert found.both == pytest.approx(both, abs=1e-4)
        foils = [foil["caption"] for foil in pairs[own]["foils"][0]]
        assert found.foils == pytest.approx([score(pictures[own], foil) for foil in foils], abs=1e-4)


def test_a_model_that_scores_pairs_swaps_as_a_dual_encoder_does(folder, tmp_path):
    write_vilt(tmp_path / "vilt")
    model = load("vilt", named_of(str(tmp_path / "vilt")).spec)
    pairs = table(read_folder(folder)[0], "folder")
    chosen, _ = chosen_pairs(model, pairs, show=2, seed=0, batch_size=3)
    for one in chosen:
        row, other = pairs[one.position], pairs[one.scores.image_from]
        batch = model.pairs([load_rgb(Path(other["image"]["path"]))[0]], [row["captions"][0]])
        with torch.inference_mode():
            assert one.scores.other_image == pytest.approx(float(model.score(batch)[0]), abs=1e-4)
        assert one.scores.foils == () and np.isfinite(one.scores.mean_image)


def test_hostile_captions_files_and_models_stay_text(tmp_path, tiny_openclip):
    root, name = tmp_path / "pairs", "<b onmouseover=alert(1)>'\".jpg"
    for number in range(4):
        photograph(root / "val2017" / f"{number}{name}", seed=number)
    write_annotations(root, {
        "images": [{"id": n, "file_name": f"{n}{name}", "license": 1} for n in range(4)],
        "annotations": [{"id": 9 + n, "image_id": n, "caption": f"{HOSTILE} {n}"} for n in range(4)],
        "licenses": [{"id": 1, "url": HOSTILE}],
    })  # fmt: skip
    model = tmp_path / "<img src=x onerror=alert(2)>"
    model.symlink_to(tiny_openclip)
    page = explore(str(model), root, t_shap=True, max_unknown=1)
    elements = Elements(page.html)
    assert len(elements.of("script")) == 2 and not elements.of("b onmouseover")
    assert not [a for _, a, _ in elements.found if any(key.startswith("on") for key in a)]
    assert all(a["src"].startswith("data:image/") for a, _ in elements.of("img"))
    assert {HOSTILE in a["data-own"] for a, _ in elements.of("span") if "data-own" in a} == {True}
    assert data_of(page)["pairs"][0]["views"]


def test_a_model_without_attention_has_the_causal_view_alone_and_says_so(folder, tmp_path):
    for model in ("examples.scorer:score", None):
        spec = {"kind": "scorer", "weights": "factory", "factory": model}
        if model is None:
            write_fusion_v1(tmp_path / "v1")
            spec = {"kind": "fusion-v1", "weights": "checkpoint", "path": str(tmp_path / "v1")}
        page = explore(spec, folder, max_unknown=1)
        assert "shows no attention" in page.html and "only the causal view" in page.html
        assert 'id="model"' not in page.html and data_of(page)["pairs"][0]["views"] == []


def test_more_pairs_than_are_scored_are_sampled_and_it_is_said(folder, tiny_openclip, monkeypatch):
    monkeypatch.setattr(page_parts, "SAMPLE", 3)
    page = explore(str(tiny_openclip), folder, twin=False)
    assert "5 images there, 3 scored (a sample drawn by the seed; all the rest is unseen)" in page.html
    assert data_of(page)["heads"][0]["twin"] is None and "it was not asked for" in page.html
    assert "a sample drawn" not in explore(str(tiny_openclip), folder, n=5, twin=False).html


def test_pairs_in_another_format_are_read_as_diagnose_reads_them(folder, tmp_path, tiny_openclip):
    table = tmp_path / "pairs.csv"
    rows = [f"{folder}/val2017/{n:012d}.jpg,a red circle {n}" for n in range(1, 5)]
    table.write_text("\n".join(["picture,said", *rows]))
    page = explore(str(tiny_openclip), table, columns="image=picture,caption=said", twin=False)
    assert "4 images there, 4 scored" in page.html and "a red circle 3" in page.html
    command = [
        "explore",
        "--model",
        str(tiny_openclip),
        "--pairs",
        str(table),
        "--columns",
        "image=picture,caption=said",
    ]
    assert main([*command, "--no-twin", "--out", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").read_text("utf-8") == page.html


def test_what_the_pictures_are_is_said(tmp_path, folder, tiny_openclip):
    write_scenes(tmp_path / "scenes", n=4, seed=0)
    assert (
        "drawings rendered by this package, not photographs"
        in explore(str(tiny_openclip), tmp_path / "scenes", max_unknown=1).html
    )
    assert "nothing there says whether they are photographs" in explore(str(tiny_openclip), folder).html


def test_one_pair_has_nothing_to_swap_with(tmp_path, tiny_openclip):
    page = explore(str(tiny_openclip), coco_folder(tmp_path / "one", n=1, captions=1))
    assert page.html.count("there is no other pair to swap with") == 3 and "wrongest<" not in page.html


@pytest.mark.parametrize(("spec", "why"), [
    ({"kind": "openclip", "weights": "untrained", "architecture": "ViT-B-32", "seed": 0}, "itself untrained"),
    ({"kind": "scorer", "weights": "factory", "factory": "a.b:c"}, "the user's own"),
])  # fmt: skip
def test_why_there_is_no_twin(spec, why):
    assert why in twin_spec("model", ModelSpec(**spec))


def test_the_twin_is_the_same_architecture_with_other_weights(tiny_openclip):
    spec = named_of(str(tiny_openclip)).spec
    own, twin = load("own", spec), load("twin", twin_spec("own", spec))
    a, b = own.module.state_dict(), twin.module.state_dict()
    assert {key: value.shape for key, value in a.items()} == {key: value.shape for key, value in b.items()}
    assert not torch.equal(a["visual.conv1.weight"], b["visual.conv1.weight"]) and twin.provenance["untrained"]


@pytest.mark.parametrize("arguments", [
    [], ["--study", "embedded", "--model", "x", "--pairs", "y"], ["--study", "embedded", "--pairs", "y"],
    ["--model", "openclip-scenes"], ["--model", "openclip-scenes", "--pairs", "x", "--show", "41"],
    ["--model", "openclip-scenes", "--pairs", "no-such-folder"], ["--study", "no-such-study"],
])  # fmt: skip
def test_wrong_arguments_are_explained(arguments, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert main(["explore", *arguments, "--out", str(tmp_path / "page.html")]) == 1
    said = capsys.readouterr().err
    assert re.match(r"error: .+\n  expected: .+\n  what to do: .+", said) and not (tmp_path / "page.html").exists()


@pytest.mark.parametrize("wrong", [
    {"n": 2.5}, {"show": True}, {"seed": -1}, {"batch_size": 0}, {"device": 0}, {"twin": "no"}, {"t_shap": 1},
    {"model": 3}, {"pairs": None}, {"out": b"page.html"},
], ids=str)  # fmt: skip
def test_an_argument_of_another_type_is_told_before_anything_is_loaded(wrong, folder):
    with pytest.raises(AttentionCollapseError, match=f"^{next(iter(wrong))} is"):
        explore(**{"model": "openclip-scenes", "pairs": folder} | wrong)


def test_an_output_that_cannot_be_written_is_told_before_anything_is_computed(folder, tmp_path):
    with pytest.raises(AttentionCollapseError, match="cannot be written"):
        explore("no-such-model", folder, out=tmp_path)
