"""What the figures show is what the tables say; undefined measures leave gaps, never values."""

import numpy as np
import pandas as pd
import pytest

from attention_collapse.report import comparison, figures
from attention_collapse.report.figures import HEAT, number

NONE = {"mean": None, "ci_low": None, "ci_high": None}


@pytest.fixture(autouse=True)
def _style():
    figures.use_style()


def summary(mean, half=0.02):
    return {"mean": mean, "ci_low": mean - half, "ci_high": mean + half}


def model(mcs, null=0.6, *, control=False, **more):
    return {"mcs": summary(mcs), "mcs_null": summary(null), "mcs_calibrated": summary(0.55), "control": control} | more


def points(axes, marker):
    """(x, y, face) of everything drawn with a marker."""
    lines = [line for line in axes.lines if line.get_marker() == marker]
    return {(float(line.get_xdata()[0]), float(line.get_ydata()[0]), line.get_markerfacecolor()) for line in lines}


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def saved(figure, tmp_path):
    """Bytes of both files; drawing them finds whatever cannot be drawn."""
    return [path.read_bytes() for path in figures.save(figure, tmp_path / "figure")]


MODELS = {"control": model(0.5, control=True), "a": model(0.72), "b": model(0.25)}
CAUSAL = {
    "a": {"reliance_share": summary(0.4)},
    "b": {"reliance_share": NONE},
    "control": {"reliance_share": summary(0.9)},
}


def test_the_forest_shows_every_score_beside_its_null(tmp_path):
    figure = comparison.forest(MODELS, CAUSAL, 0.95)
    left, right = figure.axes
    assert points(left, "D") == {(0.72, -0.15, "#000000"), (0.25, 0.85, "#000000"), (0.5, 1.85, "white")}
    assert {(x, round(y, 2)) for x, y, _ in points(left, "|") if x == 0.6} == {(0.6, -0.15), (0.6, 0.85), (0.6, 1.85)}
    assert {(x, y) for x, y, _ in points(right, "o")} == {(0.4, 0.0), (0.9, 2.0)}
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["a", "b", "control*"]  # controls last, and marked
    assert {0.3, 0.7} <= set(left.get_xticks())
    dotted = {line.get_xdata()[0] for line in left.lines if line.get_linestyle() == ":" or line.is_dashed()}
    assert dotted == {0.3, 0.7}
    assert "0.720 [0.700, 0.740]" in texts(figure) and "not defined" in texts(figure)
    saved(figure, tmp_path)


def test_intervals_are_drawn_from_low_to_high():
    [left, _] = comparison.forest({"a": model(0.72)}, {}, 0.95).axes
    ends = [segment[:, 0] for bars in left.collections for segment in bars.get_segments()]
    assert any(np.allclose(end, [0.70, 0.74]) for end in ends)


def test_the_comparison_leaves_out_what_no_model_defines_and_marks_what_one_lacks(tmp_path):
    models = {"a": model(0.7, mass_share=summary(0.2), mass_share_null=summary(0.9)), "b": model(0.4, mass_share=NONE)}
    figure = comparison.comparison(models, CAUSAL, 0.95)
    headings = {axes.get_title().replace("\n", " "): axes for axes in figure.axes}
    assert list(headings) == ["MCS", "calibrated MCS", "mass share", "reliance share"]
    mass = headings["mass share"]
    assert {(x, y) for x, y, _ in points(mass, "o")} == {(0.2, 0.0)} and {x for x, *_ in points(mass, "|")} >= {0.9}
    assert [text.get_position()[1] for text in mass.texts] == [1]  # "–" for b
    saved(figure, tmp_path)


@pytest.mark.parametrize("draw", [comparison.forest, comparison.comparison])
def test_one_model_without_any_measure_can_be_drawn(draw, tmp_path):
    nothing = {"a": {"mcs": NONE, "mcs_null": NONE, "mcs_calibrated": NONE, "control": False}}
    figure = draw(nothing, {"a": {}}, 0.95)
    assert not any(points(axes, marker) for axes in figure.axes for marker in ("D", "s", "o"))
    saved(figure, tmp_path)


def heads(vision=(2, 3), text=(3, 2)):
    rows = [
        (tower, layer, head, 0.1 * layer + 0.01 * head)
        for tower, (layers, count) in (("vision", vision), ("text", text))
        for layer in range(1, layers + 1)
        for head in range(count)
    ]
    table = pd.DataFrame(rows, columns=["tower", "layer", "head", "below"])
    return table.assign(uniform_all=2.0, entropy_all=2.0 - table["below"]).drop(columns="below")


def test_the_heat_map_holds_how_far_each_head_lies_below_uniform_attention_on_one_scale(tmp_path):
    figure = figures.attention_entropy("m", heads(), "all")
    vision, text, bar = figure.axes
    maps = [axes.collections[0] for axes in (vision, text)]
    assert np.allclose(maps[0].get_array(), [[0.10, 0.20], [0.11, 0.21], [0.12, 0.22]])  # head by layer
    assert np.allclose(maps[1].get_array(), [[0.10, 0.20, 0.30], [0.11, 0.21, 0.31]])
    assert {one.get_cmap().name for one in maps} == {HEAT}
    assert [one.get_clim() for one in maps] == [(0, pytest.approx(0.31))] * 2  # uniform attention to the farthest head
    assert "ln n" in bar.get_xlabel()
    assert [[label.get_text() for label in axes.get_yticklabels()] for axes in (vision, text)] == [
        list("123"),
        list("12"),
    ]
    saved(figure, tmp_path)


@pytest.mark.parametrize(("vision", "text"), [((0, 0), (2, 2)), ((1, 1), (1, 1)), ((32, 32), (24, 16))])
def test_heat_maps_of_any_size(vision, text, tmp_path):
    figure = figures.attention_entropy("m", heads(vision, text), "all")
    *panels, _ = figure.axes  # a tower without attention has none
    assert len(panels) == (vision != (0, 0)) + (text != (0, 0))
    for axes in panels:
        assert len(axes.get_xticks()) <= 7 and len(axes.get_yticks()) <= 8
    saved(figure, tmp_path)


def test_a_head_without_a_value_is_a_gap(tmp_path):
    table = heads()
    table.loc[0, "entropy_all"] = np.nan
    figure = figures.attention_entropy("m", table, "all")
    assert figure.axes[0].collections[0].get_array().mask.tolist() == [[True, False], [False, False], [False, False]]
    saved(figure, tmp_path)


def bands(*layers):
    keys = ("mcs", "mcs_null", "mcs_calibrated")
    return {
        f"{layer:02d}": {f"{key}{end}": 0.1 * layer + shift for key in keys for end, shift in
                         (("", 0), ("_ci_low", -0.01), ("_ci_high", 0.02))}
        for layer in layers
    }  # fmt: skip


@pytest.mark.parametrize("layers", [(1,), (1, 2, 3)])
def test_layer_curves_pass_through_the_tables_values(layers, tmp_path):
    figure = figures.layer_wise_attention("m", bands(*layers), "all", 0.95)
    above, below = figure.axes
    curves = {line.get_label(): line for line in above.lines}
    for curve in (curves["this model"], curves["uniform attention (null)"], below.lines[-1]):
        assert np.allclose(curve.get_xydata(), [(layer, 0.1 * layer) for layer in layers])
    collections = (*above.collections, *below.collections)
    segments = [s for c in collections if hasattr(c, "get_segments") for s in c.get_segments() if len(s)]
    assert len(segments) == 3 * len(layers)  # each interval, of one layer too
    for (x, low), (_, high) in segments:
        assert (low, high) == (pytest.approx(0.1 * x - 0.01), pytest.approx(0.1 * x + 0.02))
    saved(figure, tmp_path)


def test_layer_curves_of_the_untrained_stand_beside_the_model_and_the_axis_fits_what_is_drawn(tmp_path):
    untrained = {"01": {"mcs": 0.3, "mcs_null": 0.1, "mcs_calibrated": 0.4}}
    figure = figures.layer_wise_attention("m", bands(1, 2), "all", 0.95, [untrained, untrained])
    above, below = figure.axes
    assert [line.get_label() for line in above.lines].count("untrained, each seed") == 1
    assert {float(line.get_ydata()[0]) for line in above.lines} >= {0.1, 0.3}
    assert {float(line.get_ydata()[0]) for line in below.lines} >= {0.1, 0.4, 0.5}  # and the null's one half
    assert above.get_ylim()[1] < 0.4  # not 1
    saved(figure, tmp_path)


def test_a_model_without_mcs_shows_what_its_score_depends_on_and_why_some_of_it_is_not_defined(tmp_path):
    images = pd.DataFrame({"image_id": [1, 2], "mcs_all": [np.nan, np.nan]})
    at_chance = NONE | {"reason": "it is at chance"}
    result = {"mcs": NONE, "mcs_null": summary(0.6), "mcs_calibrated": NONE, "reliance_image": summary(0.9),
              "reliance_text": at_chance, "reliance_share": at_chance, "choice_image": summary(0.75)}  # fmt: skip
    figure = figures.modality_contribution("m", images, result, "all", 0.95)
    [axes] = figure.axes
    assert texts(figure).count("not defined") == 3 and {"0.900", "0.750"} <= set(texts(figure))
    assert {(x, y) for x, y, _ in points(axes, "D")} == {(0.9, 4.0), (0.75, 1.0)}  # in the order of the labels
    assert figure.get_suptitle().count("not defined: it is at chance") == 1
    saved(figure, tmp_path)


def test_where_a_model_looks_stands_above_what_its_score_depends_on(tmp_path):
    images = pd.DataFrame({"image_id": [1, 2], "mcs_all": [0.7, 0.74], "mcs_null_all": [0.6, 0.6]})
    result = model(0.72, reliance_image=summary(0.9), mcs_untrained={"mean": 0.71})
    above, below = figures.modality_contribution("m", images, result, "all", 0.95).axes
    assert {(x, y) for x, y, _ in points(above, "D")} == {(0.72, 3.0), (0.6, 2.0), (0.71, 1.0), (0.55, 0.0)}
    assert [label.get_text() for label in above.get_yticklabels()] == ["calibrated", "untrained", "null", "MCS"]
    assert {(x, y) for x, y, _ in points(below, "D")} == {(0.9, 4.0)}
    saved(above.figure, tmp_path)


def test_the_same_data_give_the_same_bytes(tmp_path):
    for draw in (
        lambda: comparison.forest(MODELS, CAUSAL, 0.95),
        lambda: comparison.comparison(MODELS, CAUSAL, 0.95),
        lambda: figures.attention_entropy("m", heads(), "all"),
    ):
        assert saved(draw(), tmp_path) == saved(draw(), tmp_path)


def test_print_is_legible_at_column_width():
    """7 pt and more, and no text beyond the page (8 pt labels, 7 pt the rest): measured on the drawn canvas."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    for figure in (
        comparison.forest(MODELS, CAUSAL, 0.95),
        comparison.comparison(MODELS, CAUSAL, 0.95),
        figures.attention_entropy("m", heads(), "all"),
        figures.layer_wise_attention("m", bands(1, 2), "all", 0.95),
        figures.modality_contribution(
            "a-model-of-a-long-name",
            pd.DataFrame(),
            MODELS["a"] | {"choice_text": NONE | {"reason": "too " * 40}},
            "all",
            0.95,
        ),
    ):
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        page = figure.bbox.padded(2)
        for text in figure.findobj(Text):
            if text.get_visible() and text.get_text().strip():
                assert text.get_fontsize() >= 7
                box = text.get_window_extent(canvas.get_renderer())
                assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1, text


def test_null_is_no_number():
    assert np.isnan(number(None)) and np.isnan(number(NONE)) and number({"mean": 0}) == 0.0
