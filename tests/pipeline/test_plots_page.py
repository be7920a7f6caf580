"""What `dvc plots` shows: the committed page and templates, drawn in a browser that has no network."""

import csv
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / ".dvc" / "plots" / "page.html"
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FIGURES = ("layer_wise_attention", "modality_contribution", "attention_entropy")


def test_the_page_loads_nothing_from_elsewhere():
    page = PAGE.read_text("utf-8")
    elements = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)  # without what programs hold as text
    assert not re.search(r"<script|<link|\bsrc=|https?:", elements)
    assert [page.count(f"<script>/* {name}@") for name in ("vega", "vega-lite", "vega-embed")] == [1, 1, 1]


def test_the_page_has_the_places_that_dvc_fills_once_each():
    page = PAGE.read_text("utf-8")
    assert [page.count(place) for place in ("{plot_divs}", "{refresh_tag}", "{scripts}")] == [1, 1, 0]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Figure -> its drawing, as SVG, of the committed results."""
    if BROWSER is None:
        pytest.skip("no Chromium in PATH: what `dvc plots show` draws was not looked at")
    out = tmp_path_factory.mktemp("plots")
    targets = [f"plots/embedded/{name}.csv" for name in FIGURES]
    told = subprocess.run(
        ["dvc", "plots", "show", *targets, "-o", str(out)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "failed" not in told.stdout + told.stderr
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000"]
    offline = "--host-resolver-rules=MAP * ~NOTFOUND"
    browser = [BROWSER, *flags, offline, f"--user-data-dir={out / 'profile'}", "--dump-dom", f"file://{out}/index.html"]
    found = subprocess.run(browser, capture_output=True, text=True, check=True, timeout=120)
    drawings = re.findall(r"<svg.*?</svg>", found.stdout, re.DOTALL)
    charts = [one for one in drawings if "mark-line" in one or "mark-symbol" in one]
    assert len(charts) == len(FIGURES)
    by_title = {"by layer": "layer_wise_attention", "by model": "modality_contribution", "entropy": "attention_entropy"}
    return {next(name for title, name in reversed(by_title.items()) if title in one): one for one in charts}


def rows(name):
    with (ROOT / "plots" / "embedded" / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def lines(svg):
    """The x positions of every line's points, in the order in which they are joined."""
    paths = re.findall(r'aria-roledescription="line mark"[^>]*? d="([^"]+)"', svg)
    return [[float(x) for x in re.findall(r"[ML](-?[\d.]+),", path)] for path in paths]


@pytest.mark.parametrize("name", ["layer_wise_attention", "attention_entropy"])
def test_lines_run_through_the_layers_in_their_order(drawn, name):
    found, given = lines(drawn[name]), [row for row in rows(name) if row["value"]]
    assert sum(map(len, found)) == len(given)
    assert max(map(len, found)) == max(int(row["layer"]) for row in given)
    # Vega joins the points from left to right, whatever stands there: the axis has to be in order too.
    groups = re.findall(r"role-axis-label.*?</g>", drawn[name], re.DOTALL)
    axes = [[int(label) for label in re.findall(r">(\d+)</text>", group)] for group in groups]
    assert sum(map(bool, axes)) == len({row["score"] for row in given})
    assert all(axis == sorted(axis) for axis in axes)


def test_a_model_without_the_score_is_not_drawn(drawn):
    given = rows("modality_contribution")
    undefined = {row["model"] for row in given if not row["value"]}
    assert undefined, "the study has no model without MCS, so this shows nothing"
    svg = drawn["modality_contribution"]
    assert all(f">{model}<" not in svg for model in undefined)
    assert all(f">{row['model']}<" in svg for row in given if row["value"])
