"""The difference of two revisions as text: every expected cell is worked out by hand."""

import re

import pytest

from attention_collapse.report.difference import cells, difference_text

MCS, STATS = "metrics/embedded/mcs/small.json", "metrics/embedded/stats.json"
DECISION = "metrics/embedded/decision.json"


def pair(old, new):
    return {"old": old, "new": new}


def text(metrics, **options):
    return difference_text(metrics, "main", "readout", **options)


def rows(printed):
    """The table's rows as lists of cells."""
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in printed.splitlines()
        if line.startswith("| `") and not line.startswith("| value")
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (0.740475, 0.577492, ("0.740", "0.577", "-0.163")),
        (0.740475, 0.740476, ("0.740475", "0.740476", "+0.000001")),  # the last digit that files hold
        (0, 1.5e-9, ("0", "1.50e-9", "+1.5e-9")),  # dvc prints 0.0
        (0.03, 1.2e-12, ("0.0300", "1.20e-12", "-0.0300")),  # a small p-value is not rounded to 0
        (0.5, 0.25, ("0.500", "0.250", "-0.25")),
        (100, 117, ("100", "117", "+17")),
        (151277313, 151277314, ("151277313", "151277314", "+1")),  # counts are whole
        (12345.6, 12345.7, ("12345.6", "12345.7", "+0.1")),
        (1.23457e12, 1.23458e12, ("1234570000000", "1234580000000", "+10000000")),
        (-0.2, 0.1, ("-0.200", "0.100", "+0.3")),
        (0.1, 0.30000000000000004, ("0.100", "0.300", "+0.2")),  # no noise of binary fractions
        (None, 0.25, ("undefined", "0.25", "")),
        (0.25, None, ("0.25", "undefined", "")),
        (True, False, ("true", "false", "")),
        ("no | yes\n", "vision collapse", ("no \\| yes", "vision collapse", "")),
    ],
)
def test_values_and_change_are_rounded_honestly(old, new, expected):
    assert cells(old, new) == expected


def test_a_change_is_never_shown_as_none_and_never_to_more_digits_than_files_hold():
    for exponent in range(-12, 7):
        for step in (1, 7, 123, 4567):
            old, new = 234567 * 10.0**exponent, (234567 + step) * 10.0**exponent
            before, after, change = cells(old, new)
            assert before != after and float(change) > 0
            assert float(change) == pytest.approx(step * 10.0**exponent, rel=0.005)
            for shown in (before, after, change):
                digits = re.sub(r"[+.]|e.*", "", shown).strip("0")
                assert len(digits) <= 6, shown


def test_values_equal_to_six_digits_are_counted_not_listed():
    printed = text({MCS: {"mcs": pair(0.12345649, 0.12345651), "n": pair(5, 5), "null": pair(0.1, 0.2)}})
    assert [row[0] for row in rows(printed)] == ["`mcs`", "`null`"]  # ...6 and ...7 in the sixth digit
    printed = text({MCS: {"mcs": pair(0.12345651, 0.12345652), "n": pair(5, 5), "null": pair(0.1, 0.2)}})
    assert [row[0] for row in rows(printed)] == ["`null`"]
    assert "Values: 1 changed, 0 newly defined, 0 no longer defined, 0 within the tolerance, 2 unchanged" in printed
    assert rows(text({MCS: {"parameters": pair(151277313, 151277314)}}))  # whole numbers are held whole


TOLERANCE = {"rtol": 1e-2, "atol": 1e-3}
LINE = "Within the tolerance, `|new − old| ≤ 0.001 + 0.01 · |old|`, so not listed: "


def test_numbers_within_the_tolerance_are_one_line_with_the_largest_and_never_rows():
    metrics = {
        MCS: {"mcs": pair(0.5, 0.505), "null": pair(0.2, 0.2), "moved": pair(0.5, 0.51)},
        STATS: {"models.m.mean": pair(0.02, 0.0211), "models.m.p": pair(100.0, 100.5)},
    }
    for limit in (150, None):
        printed = text(metrics, limit=limit, **TOLERANCE)
        assert [row[0] for row in rows(printed)] == ["`moved`"]
        # 0.0011 is 92 % of what 0.02 may move, 0.005 is 83 % of 0.5's, and 0.5 is 50 % of 100's.
        assert f"{LINE}3 numbers; the largest by that measure is `{STATS}: models.m.mean`, 0.0200 → 0.0211." in printed
        assert "Values: 1 changed, 0 newly defined, 0 no longer defined, 3 within the tolerance, 1 unchanged" in printed
    exact = text(metrics)
    assert len(rows(exact)) == 4 and "Within the tolerance" not in exact and "0 within the tolerance" in exact


def test_one_number_within_the_tolerance_alone():
    printed = text({MCS: {"evidence_id": pair("a", "b"), "mcs": pair(0.5, 0.505)}}, **TOLERANCE)
    assert f"{LINE}1 number; the largest" in printed and not rows(printed) and "Change = new" not in printed
    assert f"with no value changed: `{MCS}`." in printed


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (1000, 1001),  # counts do not round
        (1000, 1001.0),
        (1000.0, 1001),
        (None, 1e-9),
        (1e-9, None),
        (0.5, "0.5"),
        ("GO", "NO_GO"),
        (True, False),
        (0.5, True),
        (0.5, 0.5061),
        (0.5, -0.5),
        (0.0, 0.0011),
        (0.5, float("nan")),
        (0.5, float("inf")),
    ],
)
def test_what_is_always_a_change(old, new):
    printed = text({MCS: {"value": pair(old, new)}, STATS: {"kept": pair(1, 1)}}, limit=None, **TOLERANCE)
    assert [row[0] for row in rows(printed)] == ["`value`"]
    assert "0 within the tolerance, 1 unchanged" in printed and LINE not in printed


def test_nan_on_both_sides_is_no_change():
    assert "0 changed" in (printed := text({MCS: {"mcs": pair(float("nan"), float("nan"))}})) and not rows(printed)


def test_the_order_of_what_dvc_gives_does_not_matter():
    keys = {f"layers.{layer}.mcs": pair(0.1, 0.2) for layer in (10, 9, 0)}
    metrics = {STATS: keys, MCS: {"b": pair(1, 2), "a": pair(1, 2)}}
    backwards = {file: dict(reversed(values.items())) for file, values in reversed(metrics.items())}
    assert text(metrics) == text(backwards)
    assert [row[0] for row in rows(text(metrics))] == [
        "`a`", "`b`", "`layers.0.mcs`", "`layers.9.mcs`", "`layers.10.mcs`",
    ]  # fmt: skip
    assert re.findall(r"^## `(.*)`$", text(metrics), re.MULTILINE) == [MCS, STATS]


def test_decisions_come_first_and_once():
    metrics = {
        DECISION: {
            "decision": pair("NEED_MORE_DATA", "GO"),
            "measures.mcs.decision": pair("GO", "NO_GO"),
            "measures.mass_share.decision": pair("GO", "GO"),
            "gates.models_tested": pair(1, 3),
        },
        "metrics/a/mcs/x.json": {"mcs": pair(0.1, 0.2)},
    }
    printed = text(metrics)
    assert rows(printed) == [
        [f"`{DECISION}: decision`", "NEED_MORE_DATA", "GO", ""],
        [f"`{DECISION}: measures.mcs.decision`", "GO", "NO_GO", ""],
        ["`mcs`", "0.100", "0.200", "+0.1"],
        ["`gates.models_tested`", "1", "3", "+2"],
    ]
    assert "Decisions by measure that stand: 1." in printed


def test_a_decision_that_stands_or_is_absent_is_said():
    assert f"Unchanged: `{DECISION}`: GO." in text({DECISION: {"decision": pair("GO", "GO")}})
    assert "Neither revision has a decision." in text({MCS: {"mcs": pair(0.1, 0.2)}})
    assert "Neither revision has metrics." in text({})


def test_evidence_ids_are_one_line():
    metrics = {MCS: {"evidence_id": pair("aa", "bb"), "mcs": pair(0.1, 0.2)}, STATS: {"evidence_id": pair("c", "d")}}
    printed = text(metrics | {"metrics/b.json": {"evidence_id": pair("e", "e")}})
    assert (
        f"Evidence ids differ in 2 of 3 files (other parameters or inputs); with no value changed: `{STATS}`."
        in printed
    )
    assert [row[0] for row in rows(printed)] == ["`mcs`"]


def test_added_and_removed_models_are_named_and_listed_on_demand():
    metrics = {
        "metrics/embedded/mcs/new.json": {"mcs": pair(None, 0.5), "n": pair(None, 3)},
        "metrics/embedded/mcs/gone.json": {"mcs": pair(0.5, None)},
        STATS: {
            "models.new.mcs.mean": pair(None, 0.5),
            "models.stays.mcs.mean": pair(0.5, 0.6),
            "models.stays.p": pair(0.5, None),
        },
        "metrics/other.json": {"x": pair(None, 1)},
    }
    printed = text(metrics)
    hint = "and how many values (`--all` lists them):"
    assert f"Models added {hint}\n\n- `new` in embedded (3)\n\n" in printed
    assert f"Models removed {hint}\n\n- `gone` in embedded (1)\n\n" in printed
    assert f"Files added {hint}\n\n- `metrics/other.json` (1)\n\n" in printed
    assert [row[0] for row in rows(printed)] == ["`models.stays.mcs.mean`", "`models.stays.p`"]
    assert len(rows(text(metrics, limit=None))) == 7


def test_the_limit_is_shared_by_the_files_and_says_what_it_left_out():
    metrics = {f"metrics/{name}.json": {f"k{i}": pair(i, i + 1) for i in range(9)} for name in "ab"}
    printed = text(metrics, limit=10)
    assert len(rows(printed)) == 10 and printed.count("… and 4 more (`--all` shows all)") == 2
    assert len(rows(text(metrics, limit=1))) == 6  # three a file at least
    whole = text(metrics, limit=None)
    assert len(rows(whole)) == 18 and "more" not in whole


def test_files_that_dvc_could_not_read_are_named():
    assert "Could not be read, so not compared: `a.json in main`." in text({}, unread=["a.json in main"])


def test_what_a_result_was_computed_with_is_no_change():
    pair = {"old": "2.14.1", "new": "2.15.0"}
    text = difference_text(
        {"metrics/s/stats.json": {"environment.torch": pair, "mean": {"old": 0.5, "new": 0.5}}}, "a", "b"
    )
    assert "2.15.0" not in text and "0 changed" in text and "1 unchanged" in text
