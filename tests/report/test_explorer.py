"""The page of a study: every number is that of the line it names, texts are escaped, and both themes can be read."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from attention_collapse.engine.chosen_pairs import choose
from attention_collapse.engine.head_means import head_means
from attention_collapse.engine.pair_attention import Looked
from attention_collapse.errors import AttentionCollapseError
from attention_collapse.exploration import explore_study
from attention_collapse.measures.catalogue import MEASURES
from attention_collapse.report.evidence import Evidence
from attention_collapse.report.explorer import charts
from attention_collapse.report.explorer.charts import Chart, Line
from attention_collapse.report.explorer.overview import _verdict
from attention_collapse.report.explorer.packed import BUDGET, detail_for, packed, quantised, restored
from attention_collapse.report.explorer.page import HERE, LARGEST, Page, render


class Elements(HTMLParser):
    """Every element with its attributes and text, as a browser would see them."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.found, self._open = [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.found.append([tag, dict(attributes), ""])
        self._open.append(self.found[-1])

    def handle_data(self, data):
        if self._open:
            self._open[-1][2] += data

    def handle_endtag(self, tag):
        while self._open and self._open.pop()[0] != tag:
            pass

    def of(self, tag):
        return [(attributes, text) for name, attributes, text in self.found if name == tag]


@pytest.fixture(scope="module")
def study():
    return explore_study("embedded", ROOT).html


def test_every_number_is_the_value_of_the_line_and_run_that_it_names(study):
    lines, runs, seen = {}, {}, 0
    for attributes, shown in Elements(study).of("a"):
        if "n" not in attributes.get("class", "").split():
            continue
        file, run, line = re.fullmatch(r"#(.+)@([0-9a-f]{16}):L(\d+)", attributes["href"]).groups()
        if file not in lines:
            text = (ROOT / file).read_text("utf-8")
            lines[file], runs[file] = text.splitlines(), json.loads(text)["evidence_id"]
        assert run == runs[file]
        name, _, raw = lines[file][int(line) - 1].strip().rstrip(",").partition(": ")
        value = json.loads(raw)
        key, _, said = attributes["title"].partition(" = ")
        assert key.split(".")[-1] == json.loads(name) and said == str(value)
        if isinstance(value, float) and re.fullmatch(r"−?\d+\.\d+", shown):
            assert float(shown.replace("−", "-")) == pytest.approx(value, abs=0.51 * 10.0 ** -len(shown.split(".")[1]))
        seen += 1
    assert seen > 1000 and {"metrics/embedded/stats.json", "metrics/embedded/prevention.json"} <= lines.keys()


def test_a_permalink_is_the_id_of_one_element(study):
    ids = [attributes["id"] for _, attributes, _ in Elements(study).found if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {a["href"][1:] for a, _ in Elements(study).of("a") if "n" in a.get("class", "").split()}
    assert len(links - set(ids)) < 0.1 * len(links)  # all but verdicts that are shown as a mark


def test_the_first_paragraph_holds_the_score_its_null_and_reliance(study):
    found = json.loads((ROOT / "metrics/embedded/stats.json").read_text())["models"]["openclip-scenes"]
    lead = study[study.index('class="lead"') : study.index('id="decision"')]
    for key in ("mcs", "mcs_null", "mcs_untrained", "choice_image"):
        assert f"models.openclip-scenes.{key}.mean = {found[key]['mean']}" in lead
    assert "not photographs" in lead and "Has it stopped looking? No" in lead


def test_an_undefined_measure_has_its_reason_and_no_number(study):
    row = study[study.index('id="row:align-scenes.mcs"') :]
    assert "not defined" in row[: row.index("</tr>")] and "convolutional" in row[: row.index("</tr>")]


def test_every_measured_model_and_every_way_to_train_is_there(study):
    models = json.loads((ROOT / "metrics/embedded/stats.json").read_text())["models"]
    assert {a["data-model"] for a, _ in Elements(study).of("tr") if "data-model" in a} == models.keys()
    arms = json.loads((ROOT / "metrics/embedded/prevention.json").read_text())["kinds"]["fusion-v2"]
    told = {text for _, text in Elements(study).of("th")}
    assert {arm.replace("-", " ") for cue in arms.values() for arm in cue} <= told


def test_the_page_asks_for_nothing_and_is_small(study):
    assert len(study.encode()) < LARGEST
    page = Elements(study)
    assert not [
        a for _, a, _ in page.found if re.match(r"(?i)(https?:|//|file:)", a.get("src", "") + a.get("href", ""))
    ]
    policy = next(a["content"] for a, _ in page.of("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and "'unsafe-inline'" not in policy.split("script-src")[1]
    assert "url(" not in study and "@import" not in study


def test_a_study_that_has_not_run_or_is_none_is_an_error_in_three_parts(tmp_path):
    with pytest.raises(
        AttentionCollapseError, match=r"has not run.*\n.*expected.*\n.*`dvc repro studies/coco/dvc.yaml`"
    ):
        explore_study("coco", ROOT)
    with pytest.raises(AttentionCollapseError, match="no study 'nothing'"):
        explore_study("nothing", ROOT)
    with pytest.raises(AttentionCollapseError, match="cannot be written"):
        explore_study("embedded", ROOT, tmp_path)


HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1>'\"<!--]]>"


def test_no_text_can_end_the_data_or_become_an_element():
    html = render("base.html", title=HOSTILE, scripts=["page.js"], data={HOSTILE: [HOSTILE, "\u2028", "&lt;"]})
    page = Elements(html)
    assert not page.of("img") and len(page.of("script")) == 2
    data = next(text for attributes, text in page.of("script") if attributes.get("type") == "application/json")
    assert json.loads(data) == {HOSTILE: [HOSTILE, "\u2028", "&lt;"]}
    assert next(text for _, text in page.of("h1")) == HOSTILE
    frame = Elements(Page(html)._repr_html_())
    assert [name for name, _, _ in frame.found] == ["iframe"] and frame.found[0][1]["srcdoc"] == html
    assert frame.found[0][1]["sandbox"] == "allow-scripts"


def test_a_charts_texts_are_escaped_and_a_missing_point_is_not_drawn():
    line = Line(HOSTILE, 0, [(0, 0.5), (1, None), (2, 1.0)])
    drawn = charts.draw(Chart(HOSTILE, HOSTILE, "y", [line], [(0, HOSTILE)], alarms=[(1, HOSTILE)]))
    page = Elements(str(drawn) + str(charts.legend([line])))
    assert not page.of("img") and not page.of("script")
    assert len(page.of("circle")) == 3  # two points and the legend's


def test_a_weight_keeps_its_size_whether_large_or_small():
    values = np.geomspace(1e-6, 1, 1001).astype(np.float32)
    assert np.abs(restored(quantised(values)) / values - 1).max() < 0.0281
    assert quantised(np.array([0, 1e-7, 1e-6, 1], np.float32)).tolist() == [0, 0, 1, 255]
    assert restored(np.array([0, 255], np.uint8)).tolist() == [0.0, 1.0]


def looked(layers, heads, words, side, others=1):
    keys = side**2 + others
    weights = np.full((layers, heads, words + 1, keys), 1 / keys, np.float32)
    text = tuple(("word", "text") for _ in range(others))
    return Looked(("vision",), ("word",) * words, weights, np.full(words + 1, keys), side, text, side**2, "", words)


@pytest.mark.parametrize(("layers", "heads", "words", "side"), [(12, 12, 10, 7), (32, 32, 12, 24), (48, 64, 24, 32)])
def test_the_detail_stays_within_the_budget_and_says_what_it_left_out(layers, heads, words, side):
    look = looked(layers, heads, words, side)
    detail = detail_for([[look]] * 4, twin=True)
    parts = [packed(look, look, detail)[key] for key in ("readout", "word_rows", "twin_readout", "twin_words")]
    assert 4 * sum(0.75 * len(part["bytes"]) for part in parts if part) <= BUDGET + 64
    assert parts[0]["heads"] == (heads if detail.readout else 1)
    assert bool(detail.note) == (layers > 12) and parts[0]["rows"] == 1


def test_pairs_are_chosen_by_the_rule():
    scores = np.array([3.0, 1.0, 2.0, 5.0, 4.0])
    found = choose(scores, np.array([1.0, 1.0, -2.0, 1.0, np.nan]), 4)
    assert found == {2: ["wrongest"], 1: ["lowest score"], 0: ["median score"], 3: ["highest score"]}
    assert choose(scores, np.array([1.0, -1.0, 1.0, 1.0, 1.0]), 2) == {
        1: ["wrongest", "lowest score"], 0: ["median score"],
    }  # fmt: skip
    assert list(choose(scores, np.full(5, np.nan), 9)) == [1, 0, 3, 2, 4]  # no partner, so nobody is wrongest
    assert choose(np.array([1.0]), np.array([np.nan]), 3) == {0: ["lowest score", "median score", "highest score"]}


def test_a_verdict_is_that_of_the_models_kind_and_elsewhere_are_counts_alone():
    validity = Evidence.read(ROOT, "metrics/embedded/validity.json")
    kinds = validity.data["kinds"]
    own = _verdict(validity, "llava", "mcs_all", MEASURES["mcs"])
    assert [side["auroc"].value for side in own["sides"]] == [
        kinds["llava"]["measures"]["mcs_all"][side]["auroc"] for side in ("image_ignored", "text_ignored")
    ]
    assert {side["verdict"].value for side in own["sides"]} == {"undetermined"}
    other = _verdict(validity, "openclip", "mcs_all", MEASURES["mcs"])
    found = [kinds[kind]["measures"]["mcs_all"]["text_ignored"]["auroc"] for kind in kinds]
    assert "sides" not in other and other["elsewhere"]["text ignored"] == (found.count(1.0), found.count(0.0), 5)
    assert _verdict(validity, "llava", "score", MEASURES["score"])["word"] == "claims nothing"
    assert _verdict(None, "llava", "mcs_all", MEASURES["mcs"])["word"] == "not tested"


def test_the_alarms_of_a_curve_are_those_of_its_models(study):
    table = pd.read_csv(ROOT / "data/embedded/prevention.csv")
    table = table[table["kind"] == "fusion-v2"]
    mine = table[(table["arm"] == "erm") & (table["modality"] == "text") & (table["reliability"] == 0.95)]
    texts = [text for _, text in Elements(study).of("li") if "at step" in text]
    for column, why in (("image_rang_at", "image unused"), ("hard_rang_at", "cue says nothing are failed")):
        counts = mine[column].dropna().value_counts()
        told = {int(step): f"{count} of {len(mine)} seeds" for step, count in counts.items()}
        assert told and all(any(why in t and said in t and t.endswith(f"step {step}") for t in texts)
                            for step, said in told.items())  # fmt: skip


def test_means_of_heads_are_those_of_the_table():
    rows = [
        {"tower": "vision", "layer": layer, "head": head, "entropy_normalized_all": 0.1 * head + layer + item,
         "entropy_normalized_readout": np.nan, "mass_image_all": 0.5, "mass_image_readout": 0.25,
         **{f"support_{group}_{rows}": n for group, n in (("image", 6), ("text", 3), ("other", 3))
            for rows in ("all", "readout")}}
        for item in (0, 2) for layer in (0, 1) for head in (0, 1, 2)
    ]  # fmt: skip
    [found] = head_means(pd.DataFrame(rows))
    assert found.entropy["all"] == pytest.approx(np.array([[1.0, 1.1, 1.2], [2.0, 2.1, 2.2]]))
    assert np.isnan(found.entropy["readout"]).all() and found.mass["readout"] == pytest.approx(np.full((2, 3), 0.25))
    assert found.mass_null == {"all": 0.5, "readout": 0.5}  # 6 of 12 keys


def luminance(colour):
    full = colour if len(colour) == 7 else "#" + "".join(2 * sign for sign in colour[1:])
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4
              for v in (int(full[i : i + 2], 16) / 255 for i in (1, 3, 5))]  # fmt: skip
    return np.dot(linear, [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_contrast_is_that_of_wcag_aa(theme):
    style = (HERE / "explorer.css").read_text("utf-8")
    colours = [dict(re.findall(r"--(\w+):(#\w+)", part)) for part in re.findall(r":root \{([^}]*)\}", style)][theme]

    def contrast(a, b):
        light, dark = sorted((luminance(colours[a]), luminance(colours[b])), reverse=True)
        return (light + 0.05) / (dark + 0.05)

    for ground in ("bg", "panel"):
        assert {ink: contrast(ink, ground) for ink in ("ink", "soft", "link", "good", "bad", "mid")
                if contrast(ink, ground) < 4.5} == {}  # fmt: skip
        assert all(contrast(line, ground) >= 3 for line in ("c0", "c1", "c2", "c3"))
    assert contrast("ink", "warn") >= 4.5
