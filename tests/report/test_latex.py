import math

import pytest

from attention_collapse.report.latex import escape, flatten, macros, number, p_value, table


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.69053, "0.691"),
        (-0.0004, "0.000"),
        (-1.5, "$-$1.500"),
        (None, "--"),
        (math.nan, "--"),
        (100, "100"),
        (1.0, "1.000"),
    ],
)
def test_numbers(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("log10_p", "text"),
    [
        (math.log10(0.0123), "0.012"),
        (-3.2, "$<10^{-3}$"),
        (-28.4, "$<10^{-28}$"),
        (-1000, "$<10^{-300}$"),
        (None, "--"),
    ],
)
def test_p_values_are_never_zero_and_bounds_are_true(log10_p, text):
    assert p_value(log10_p) == text


def test_text_is_escaped():
    assert escape(r"a_b & 5% \x~{}") == r"a\_b \& 5\% \textbackslash{}x\textasciitilde{}\{\}"


def test_one_macro_a_scalar():
    data = {"b": {"mean": 0.12345, "log10_p": -4.5, "p": 3e-5, "control": True}, "a": "x_y"}
    assert dict(flatten(data, "s")).keys() == {"s.a", "s.b.mean", "s.b.log10_p", "s.b.control", "s.b.p"}
    assert macros(data, "s").splitlines() == [
        r"\acdef{s.a}{x\_y}",
        r"\acdef{s.b.control}{yes}",
        r"\acdef{s.b.p_text}{$<10^{-4}$}",
        r"\acdef{s.b.log10_p}{$-$4.500}",
        r"\acdef{s.b.mean}{0.123}",
        r"\acdef{s.b.p}{$<0.001$}",
    ]


def test_a_table_has_as_many_cells_as_columns():
    text = table([("l", "A"), ("r", "B")], [["x", "1"]])
    assert "\\begin{tabular}{@{}lr@{}}" in text and "x & 1 \\\\" in text
