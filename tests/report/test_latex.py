import pytest

from attention_collapse.files import write_json
from attention_collapse.report.evidence import Evidence, printed
from attention_collapse.report.latex import escape, interval, macros, table, tex, value


@pytest.fixture
def source(tmp_path):
    data = {"b": {"mean": 0.12345, "log10_p": -4.5, "p": 3e-5, "control": True, "ci_low": -0.1, "ci_high": None}}
    write_json(tmp_path / "m.json", data | {"a": "x_y", "evidence_id": "ab12"})
    return Evidence.read(tmp_path, "m.json", "s")


@pytest.mark.parametrize(
    ("found", "form", "text"),
    [
        (0.69053, 3, "0.691"),
        (-1.5, 3, "$-$1.500"),
        (None, 3, "--"),
        (0.638, "percent1", r"63.8\,\%"),
        (3e-5, "p", "$<0.001$"),
        (-28.4, "log10p", "$<10^{-28}$"),
        ("5 % of x_y", "text", r"5 \% of x\_y"),
    ],
)
def test_numbers(found, form, text):
    assert tex(found, printed(found, form)) == text


def test_text_is_escaped():
    assert escape(r"a_b & 5% \x~{}") == r"a\_b \& 5\% \textbackslash{}x\textasciitilde{}\{\}"


def test_the_file_and_its_run_once_and_one_macro_a_scalar(source):
    assert macros(source).splitlines() == [
        r"\acfile{s}{m.json}{ab12}{11}",
        r"\acdef{s.a}{text}{x\_y}{2}",
        r"\acdef{s.b.ci_high}{3}{--}{4}",
        r"\acdef{s.b.ci_low}{3}{$-$0.100}{5}",
        r"\acdef{s.b.control}{text}{yes}{6}",
        r"\acdef{s.b.log10_p}{3}{$-$4.500}{7}",
        r"\acdef{s.b.p_text}{log10p}{$<10^{-4}$}{7}",
        r"\acdef{s.b.mean}{3}{0.123}{8}",
        r"\acdef{s.b.p}{p}{$<0.001$}{9}",
    ]
    assert macros(source, ["a"]).splitlines() == [r"\acfile{s}{m.json}{ab12}{11}", r"\acdef{s.a}{text}{x\_y}{2}"]


def test_a_cell_names_its_macro_and_an_absent_number_is_a_dash(source):
    assert value(source, "b.mean", 1) == r"\acval{s.b.mean}{1}{0.1}"
    assert value(source, "b.sd") == "--"
    assert interval(source, "a") == "--"
    assert interval(source, "b") == r"[\acval{s.b.ci_low}{3}{$-$0.100}, \acval{s.b.ci_high}{3}{--}]"


def test_a_table_has_as_many_cells_as_columns():
    text = table([("l", "A"), ("r", "B")], [["x", "1"]])
    assert "\\begin{tabular}{@{}lr@{}}" in text and "x\n& 1 \\\\" in text
