"""The page of a picture and a caption that were just given: it is the folder's page, and what is wrong is told."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, coco_folder, photograph
from PIL import Image
from report.test_explorer import Elements
from tiny.answering import write_blip_vqa, write_v2_answers, write_vilt_vqa
from tiny.encoders import write_vilt

from attention_collapse import AttentionCollapseError, explore
from attention_collapse.cli import main
from attention_collapse.data.images import load_rgb
from attention_collapse.data.pairs import read_folder, table
from attention_collapse.engine.chosen_pairs import chosen_pairs, swapped_alone
from attention_collapse.engine.scoring import mean_picture
from attention_collapse.inputs import named_of
from attention_collapse.live import Looker, demo
from attention_collapse.live.gradio_app import is_loopback, shown
from attention_collapse.live.looker import LARGEST, LONGEST
from attention_collapse.models import load

CAPTION = "a red circle on the left"
HOSTILE_SHORT = "<img src=x onerror=a()>${b}'\""  # as much as the small model's context holds


def data_of(page):
    return json.loads(next(text for a, text in Elements(page.html).of("script") if a.get("type") == "application/json"))


def rows_of(page):
    """Name -> (value, move) as the table of swaps shows them, None where there is none."""
    found = {}
    for row in re.findall(r"<tr data-image.*?</tr>", page.html, re.DOTALL):
        name = re.search(r'<th scope="row">([^<]*)', row)[1].strip()
        found[name] = None if "there is no other pair" in row else re.findall(r'<td class="r">([^<]*)</td>', row)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return coco_folder(tmp_path_factory.mktemp("live") / "pairs", n=5, captions=1)


@pytest.fixture(scope="module")
def picture(folder):
    return folder / "val2017" / f"{1:012d}.jpg"


@pytest.fixture(scope="module")
def looker(tiny_openclip):
    return Looker.of(str(tiny_openclip), max_unknown=1)


def test_it_shows_what_the_page_of_a_folder_shows(tmp_path, tiny_openclip, looker):
    one = coco_folder(tmp_path / "one", n=1, captions=1)
    written = data_of(explore(str(tiny_openclip), one, t_shap=True, max_unknown=1))
    caption = read_folder(one)[0][0].entry.captions[0]
    given = data_of(looker.page(next((one / "val2017").iterdir()), caption, t_shap=True))
    assert given["heads"] == written["heads"] and given["heads"][0]["twin"]
    assert {**given["pairs"][0], "id": 0} == {**written["pairs"][0], "id": 0}
    assert [view["towers"] for view in given["pairs"][0]["views"]] == [["vision"], ["text"]]


@pytest.mark.parametrize("write", [None, write_vilt], ids=["dual encoder", "pair scorer"])
def test_its_swaps_are_those_of_the_first_pair_of_a_folder(write, tmp_path, folder, tiny_openclip):
    path = tiny_openclip
    if write:
        path = tmp_path / "model"
        write(path)
    model, pairs = load("tiny", named_of(str(path)).spec), table(read_folder(folder)[0], "folder")
    mean_picture([Path(file["path"]) for file in pairs["image"]]).save(tmp_path / "mean.png")
    chosen, _ = chosen_pairs(model, pairs, show=5, seed=3, batch_size=4)
    [expected] = [one.scores for one in chosen if one.position == 0]
    found = swapped_alone(model, pairs, tmp_path / "mean.png", seed=3, batch_size=4)
    for name in ("own", "other_image", "other_text", "both", "mean_image"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), abs=1e-4), name
    assert (found.image_from, found.text_from) == (expected.image_from, expected.text_from)
    assert len({found.own, found.other_image, found.other_text, found.both, found.mean_image}) == 5


def test_without_pairs_nothing_is_swapped_in_but_the_picture_s_own_mean_colour(tmp_path, picture, looker):
    page = looker.page(picture, CAPTION)
    rows = rows_of(page)
    absent = ("another image", "another text", "another image and another text")
    assert list(rows) == ["as it is", *absent, "the picture’s own mean colour"]
    assert [rows[name] for name in absent] == [None] * 3 and "no other pairs were named" in page.html
    colour = np.asarray(load_rgb(picture)[0], np.float64).mean((0, 1)).round().astype(np.uint8)
    Image.new("RGB", load_rgb(picture)[0].size, tuple(map(int, colour))).save(tmp_path / "even.png")
    even = rows_of(looker.page(tmp_path / "even.png", CAPTION))["as it is"][0]
    assert rows["the picture’s own mean colour"][0] == even != rows["as it is"][0]


def test_pairs_that_were_named_are_swapped_in(tmp_path, folder, picture, tiny_openclip):
    page = Looker.of(str(tiny_openclip), folder, max_unknown=1).page(picture, "a red circle")
    rows = rows_of(page)
    assert all(rows.values()) and "mean image of these pairs" in rows
    assert "drawn by a seed from 5 pairs of pairs" in page.html and str(folder) not in page.html
    assert re.search(r"picture [2-5] of two red circles", page.html)  # never the given picture's own file


def test_a_picture_is_read_as_in_a_folder(tmp_path, looker):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = photograph(tmp_path / "turned.jpg", exif=exif, quality=100, subsampling=0)
    upright = load_rgb(turned)[0]
    upright.save(tmp_path / "upright.png")
    clear = Image.new("RGBA", (40, 30), (0, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    Image.new("RGB", (40, 30), "white").save(tmp_path / "white.png")
    for one, same in (("turned.jpg", "upright.png"), ("clear.png", "white.png")):
        found = [rows_of(looker.page(tmp_path / name, CAPTION)) for name in (one, same)]
        assert found[0] == found[1]


def wrong_files(at):
    """Name -> what the message says of it."""
    jpeg = photograph(at / "whole.jpg").read_bytes()
    (at / "cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (at / "empty.png").write_bytes(b"")
    (at / "text.png").write_text("<svg onload=alert(1)>")
    (at / "large.jpg").write_bytes(jpeg + b"\0" * LARGEST)
    Image.new("1", (20_000, 20_000)).save(at / "bomb.png")
    frames = [Image.new("L", (5, 5), shade) for shade in (0, 100)]
    frames[0].save(at / "moves.gif", save_all=True, append_images=frames[1:])
    return {
        "cut.jpg": "truncated", "empty.png": "0 bytes", "text.png": "cannot be decoded", "large.jpg": "at most 10 MiB",
        "bomb.png": "limit of 50,000,000", "moves.gif": "2 frames", "gone.png": "absent",
    }  # fmt: skip


def test_a_picture_that_cannot_be_used_is_told(tmp_path, looker):
    for name, said in wrong_files(tmp_path).items():
        answer = shown(looker, str(tmp_path / name), CAPTION, contributions=False)
        assert said in answer and 'role="alert"' in answer and str(tmp_path) not in answer, name
        assert "Traceback" not in answer and "<svg" not in answer and "<iframe" not in answer
    assert "there is no picture" in shown(looker, None, CAPTION, contributions=False)


@pytest.mark.parametrize(("caption", "said"), [
    ("", "there is no caption"), (" \n ", "there is no caption"), (None, "there is no caption"),
    ("\ud800", "there is no caption"),
    ("?! …", "no letter, number or picture sign"), ("red " * 200, "longer than the model"),
    ("x" * (LONGEST + 1), f"{LONGEST + 1:,} characters"),
])  # fmt: skip
def test_a_caption_that_cannot_be_used_is_told(caption, said, picture, looker):
    answer = shown(looker, str(picture), caption, contributions=False)
    assert said in answer and "What to do: " in answer and "<iframe" not in answer


def test_words_that_the_model_does_not_know_are_told_without_its_path(picture, tiny_openclip):
    answer = shown(Looker.of(str(tiny_openclip), twin=False), str(picture), "zebras vex", contributions=False)
    assert "are unknown to the model" in answer and str(tiny_openclip) not in answer


def test_a_fault_of_the_program_is_told_to_whoever_runs_it(picture, looker, monkeypatch, capsys):
    monkeypatch.setattr("attention_collapse.live.looker.shown_pair", lambda *_, **__: 1 / 0)
    answer = shown(looker, str(picture), CAPTION, contributions=False)
    assert "failed on this pair (ZeroDivisionError)" in answer and "Traceback" not in answer
    assert "Traceback" in capsys.readouterr().err


def test_hostile_texts_stay_text(tmp_path, tiny_openclip):
    name = tmp_path / "<b onmouseover=alert(1)>'\".jpg"
    photograph(name)
    page = Looker.of(str(tiny_openclip), twin=False, max_unknown=1).page(name, HOSTILE_SHORT)
    elements = Elements(page.html)
    assert len(elements.of("script")) == 2 and not elements.of("b onmouseover")
    assert not [a for _, a, _ in elements.found if any(key.startswith("on") for key in a)]
    assert str(tiny_openclip) not in page.html
    assert re.match(
        r'<iframe title="[^"<]*" sandbox="allow-scripts" srcdoc="[^"<]*" style="[^"<]*"></iframe>$', page.frame()
    )


def test_a_model_without_attention_shows_what_its_score_depends_on(picture, folder):
    spec = {"kind": "scorer", "weights": "factory", "factory": "examples.scorer:score"}
    page = Looker.of(spec, folder, max_unknown=1).page(picture, CAPTION)
    assert "shows no attention" in page.html and all(rows_of(page).values())


@pytest.mark.parametrize("write", [write_vilt_vqa, write_blip_vqa, write_v2_answers])
def test_a_model_that_answers_questions_alone_is_refused_as_such(write, tmp_path):
    write(tmp_path / "model")
    with pytest.raises(AttentionCollapseError, match="answers questions and gives no score.*\n.*\n.*questions`"):
        Looker.of(str(tmp_path / "model"))


@pytest.mark.parametrize("arguments", [
    ["--serve"], ["--serve", "--study", "embedded"], ["--serve", "--model", "openclip-scenes", "--out", "page.html"],
    ["--model", "openclip-scenes", "--pairs", "x"], ["--serve", "--model", "no-such-model"],
    ["--serve", "--model", "openclip-scenes", "--pairs", "no-such-folder"],
    ["--serve", "--model", "openclip-scenes", "--port", "65536"],
    ["--serve", "--model", "openclip-scenes", "--host", ""],
])  # fmt: skip
def test_wrong_arguments_are_explained(arguments, tmp_path, capsys, monkeypatch):
    pytest.importorskip("gradio", reason="gradio is an extra and is not installed (requirements-explore.txt)")
    monkeypatch.chdir(ROOT)
    assert main(["explore", *arguments]) == 1
    assert re.match(r"error: .+\n  expected: .+\n  what to do: .+", capsys.readouterr().err)


def test_without_gradio_it_is_said_how_to_install_it(tiny_openclip, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["explore", "--serve", "--model", str(tiny_openclip)]) == 1
    assert "pip install 'attention-collapse[explore]'" in capsys.readouterr().err
    with pytest.raises(AttentionCollapseError, match="gradio is not installed"):
        demo(str(tiny_openclip))


@pytest.mark.parametrize(("host", "own"), [
    ("127.0.0.1", True), ("127.8.9.1", True), ("localhost", True), ("::1", True), ("[::1]", True), ("0.0.0.0", False),  # noqa: S104
    ("::", False), ("192.168.0.4", False), ("example.org", False),
])  # fmt: skip
def test_which_addresses_reach_this_machine_alone(host, own):
    assert is_loopback(host) == own
