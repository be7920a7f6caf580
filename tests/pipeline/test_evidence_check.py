"""`attention-collapse evidence check`: the committed tree passes, and one altered digit anywhere in it does not."""

import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

from attention_collapse.files import read_json
from attention_collapse.report.evidence import Evidence, label
from attention_collapse.report.evidence_check import Check
from attention_collapse.report.markdown import page

NUMBERS = "paper/generated/embedded/numbers.tex"
SCORES = "paper/generated/embedded/scores.tex"
STATS = "metrics/embedded/stats.json"
MEAN = "models.openclip-scenes.mcs.mean"
REPORT = "reports/s/one.md"
OWN = read_json(ROOT / STATS)["models"]["openclip-scenes"]
PRINTED, SHARE = f"{OWN['mcs']['mean']:.3f}", f"{100 * OWN['share_of_pairs_above_0_7']:.1f}"
FIRST = PRINTED[2]  # digit after the point
WRONG = "1" if FIRST != "1" else "2"
ALTERED = f"0.{WRONG}{PRINTED[3:]}"
MEAN_LABEL = label(STATS, MEAN, 3)
DECISION = "metrics/embedded/decision.json"
OTHER = f"- [{DECISION}](../../{DECISION}): run `{read_json(ROOT / DECISION)['evidence_id']}`"

# Without these, what is left passes by itself: it cites the embedded study's own statistics alone.
LEFT_OUT = (
    "embedded-*", "[a-z]*.md", "main.tex", "supplement.tex",
    *(f"{section}.tex" for section in ("audit", "coco", "prevention", "reproducibility", "validity")),
)  # fmt: skip


def copied(root, *ignored):
    """What the check reads, copied, and one report with a citation of each form."""
    for folder in ("metrics", "paper", "reports"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns(*ignored))
    (root / ".dvc").mkdir()
    shutil.copy(ROOT / "params.yaml", root / "params.yaml")
    (root / "data/embedded").mkdir(parents=True)
    shutil.copy(ROOT / "data/embedded/manifest.json", root / "data/embedded/manifest.json")
    stats = Evidence.read(root, STATS)
    (root / REPORT).parent.mkdir()
    (root / REPORT).write_text(page(
        "# CI95 of ViT-B/32\n\n"
        f"1. MCS {stats.md(MEAN)} [{stats.md('models.openclip-scenes.mcs.ci_low', 2)}]\n"
        f"2. above `0.7`: {stats.md('models.openclip-scenes.share_of_pairs_above_0_7', 'percent1')}\n"
        f"3. p {stats.md('models.openclip-scenes.tests.mcs_vs_0_7.log10_p', 'log10p')}\n"
        f"4. all from {stats.md_run()}, no more\n"
        "\n```\n0.123\n```\n"
    ))  # fmt: skip
    return root


@pytest.fixture
def whole(tmp_path):
    """All that the check reads."""
    return copied(tmp_path)


@pytest.fixture
def tree(tmp_path):
    """A part that passes by itself and is read in a moment: what is generated of one study, and who cites that."""
    return copied(tmp_path, *LEFT_OUT)


def edit(path, old, new):
    """Replace the first match of a pattern; return its line."""
    text = path.read_text()
    match = re.search(old, text)
    assert match, old
    path.write_text(text[: match.start()] + match.expand(new) + text[match.end() :])
    return text.count("\n", 0, match.start()) + 1


def test_the_tree_passes(whole, tmp_path_factory):
    check = Check(whole).run()
    assert check.failures == [] and check.citations > 8000
    part = Check(copied(tmp_path_factory.mktemp("part"), *LEFT_OUT)).run()
    assert part.failures == [] and part.citations > 4000
    line = edit(whole / "paper/main.tex", r"We ask", "By 2 % we ask")
    [failure] = Check(whole).run().failures
    assert (failure.file, failure.line) == ("paper/main.tex", line) and "2 is typed by hand" in failure.got


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        # one digit of a printed number
        (NUMBERS, r"(\\acdef\{embedded\.models\.openclip-scenes\.mcs\.mean\}\{3\}\{0\.)[0-9]", rf"\g<1>{WRONG}",
         f"printed {ALTERED}"),
        (SCORES, r"(openclip-scenes\.mcs\.mean\}\{3\}\{0\.)[0-9]", rf"\g<1>{WRONG}", f"printed {ALTERED}"),
        (SCORES, r"(openclip-scenes\.share_of_pairs_above_0_7\}\{percent1\}\{)[0-9]", r"\g<1>0",
         rf"printed 0{SHARE[1:]}\,\%"),
        (REPORT, rf"\[0\.{FIRST}", f"[0.{WRONG}", f"printed {ALTERED}"),
        # its place
        (NUMBERS, r"(openclip-scenes\.mcs\.mean\}.*\{)[0-9]+\}", r"\g<1>3}", "which is a_priori."),
        (NUMBERS, r"(openclip-scenes\.mcs\.mean\}.*\{)[0-9]+\}", r"\g<1>99999}", "holds no scalar"),
        (NUMBERS, r"(\\acfile.*stats)", r"\g<1>x", "no such file"),
        (NUMBERS, r"(\\acfile.*stats.json\}\{[0-9a-f]{15})[0-9a-f]\}", r"\g<1>x}", "run "),
        (NUMBERS, r"(\\acfile.*stats.json\}.*\{)[0-9]+\}", r"\g<1>9}", "evidence_id cites"),
        (NUMBERS, r"(\\acdef\{)embedded\.a_priori\.n", r"\g<1>a_priori.n", "follows the \\acfile of embedded"),
        (NUMBERS, r"\\acdef\{embedded\.a_priori\.n", r"\\acdef{embedded.priori.n", "which is a_priori.n"),
        (NUMBERS, r"(\\acfile.*\n)(.*\n)", r"\g<2>\g<1>", "follows no \\acfile"),
        (NUMBERS, r"(\\acdef.*)", r"\g<1>{9}", "9 is typed by hand"),
        ("paper/sections/method.tex", r"nats", r"\\acdef{embedded.confidence}{3}{0.990}{9}", "0.990 is typed by hand"),
        (REPORT, rf"({MEAN_LABEL}\]: .*#L)[0-9]+", r"\g<1>9", "which is alpha"),
        (REPORT, rf"({MEAN_LABEL}\]: .*#L)[0-9]+", r"\g<1>99999", "holds no scalar"),
        (REPORT, rf"({MEAN_LABEL}\]: )\.\./", r"\g<1>", "which has no run here"),
        (REPORT, rf"({MEAN_LABEL}\]: .*)stats", r"\g<1>decision", "which has no run here"),
        (REPORT, r"mcs\.mean\"", 'mcs.sd"', "which is models.openclip-scenes.mcs.mean"),
        (REPORT, rf"({MEAN_LABEL}\]: .*) \".*\"", r"\g<1>", "stands under Sources"),
        # its label
        (REPORT, rf"\]\[{MEAN_LABEL}", "][mean", "no reference is named mean"),
        (REPORT, rf"(?m)^\[{MEAN_LABEL}", "[mean-1", "the label mean-1"),
        # its run
        (REPORT, r"run `[0-9a-f]", "run `x", "run x"),
        (REPORT, r"(?m)^(- \[metrics.*\()\.\./", r"\g<1>", "the link leads to"),
        (REPORT, r"(?m)^(- \[metrics/embedded/)stats(.*)stats", r"\g<1>none\g<2>none", "no such file"),
        (REPORT, r"\[metrics/embedded/stats", "[metrics/embedded/decision", f"{DECISION} has no run here"),
        # a form, and a key
        (SCORES, r"(openclip-scenes\.mcs\.mean\}\{)3", r"\g<1>2", f"printed {PRINTED}"),
        (SCORES, r"(openclip-scenes\.mcs\.mean\}\{)3", r"\g<1>digits", "in the form"),
        ("paper/sections/embedded.tex", r"\\ac\{embedded\.m", r"\\ac{embedded.x", "no number is named embedded.xodels"),
        ("paper/sections/embedded.tex", r"\\ac\{embedded\.", r"\\ac{embeded.", "no number is named embeded."),
        # numbers typed by hand
        ("paper/sections/embedded.tex", r"scores \\ac\{[^}]*\}", f"scores {PRINTED}", f"{PRINTED} is typed by hand"),
        ("paper/sections/method.tex", r"nats", "$H=12$", "12 is typed by hand"),
        (SCORES, r"\\acval\{embedded\.models[^}]*\}\{3\}\{100\}", "100", "100 is typed by hand"),
        (REPORT, r"CI95", "95", "95 is typed by hand"),
        (REPORT, rf"\[{PRINTED}\]\[[^\]]*\]", PRINTED, f"{PRINTED} is typed by hand"),
        (REPORT, rf"\[{PRINTED}\]\[[^\]]*\]", f"[{PRINTED}](../../{STATS}#L9)", f"{PRINTED} is typed by hand"),
        (REPORT, rf"\[{PRINTED}\]\[[^\]]*\]", f"[{PRINTED}]", f"{PRINTED} is typed by hand"),
        (REPORT, r"run `[0-9a-f]+`", r"\g<0>, `0.74`", "stands under Sources"),
        ("reports/README.md", r"Generated", "0.74", "0.74 is typed by hand"),
    ],
)  # fmt: skip
def test_one_change_fails_and_the_place_is_named(tree, file, old, new, message):
    line = edit(tree / file, old, new)
    failures = Check(tree).run().failures
    assert any(f.file == file and f.line == line and message in f.got for f in failures), [str(f) for f in failures]


@pytest.mark.parametrize(
    ("file", "old", "new", "message", "place"),
    [
        (NUMBERS, r"(\\acdef.*\n).*\n", r"\g<1>\g<1>", "is defined twice", r"\acdef{embedded.a_priori.alpha}"),
        (REPORT, rf"\n\[{MEAN_LABEL}.*", "", f"no reference is named {MEAN_LABEL}", f"[{PRINTED}]"),
        (REPORT, rf"\[[^\]]*\]\[{MEAN_LABEL}\]", "One", f"nothing cites {MEAN_LABEL}", f"[{MEAN_LABEL}]: "),
        (REPORT, rf"\[({MEAN_LABEL}\]: .*)", r"\g<0>\n[\g<1>", "is defined twice", f"[{MEAN_LABEL}]: "),
        (REPORT, rf"\[({MEAN_LABEL})(\]: .*)", rf"\g<0>\n[{MEAN_LABEL.upper()}\g<2>", "is defined twice",
         f"[{MEAN_LABEL.upper()}]: "),
        (REPORT, r"no more", "\n\n> [a]: b", "> [a]: in the text", "> [a]: b"),
        (REPORT, r"\n- \[metrics.*", "", "which has no run here", f"[{MEAN_LABEL}]: "),
        (REPORT, r"\n- \[metrics.*", r"\g<0>\g<0>", "is named twice", f"- [{STATS}]"),
        (REPORT, r"\n- \[metrics.*", rf"\g<0>\n{OTHER}", f"nothing cites {DECISION}", f"- [{DECISION}]"),
        (REPORT, r"## Sources\n", "\\g<0>\nAbout 0.74.\n", "'About 0.74.' stands under Sources", "About 0.74."),
        (REPORT, r"## Sources\n", "## Origin\n", f"no reference is named {MEAN_LABEL}", f"[{PRINTED}]"),
    ],
)  # fmt: skip
def test_a_change_fails_where_something_is_now_missing_or_too_much(tree, file, old, new, message, place):
    edit(tree / file, old, new)
    lines = (tree / file).read_text().split("\n")
    failures = Check(tree).run().failures
    found = [lines[f.line - 1] for f in failures if f.file == file and message in f.got]
    assert any(place in line for line in found), [str(f) for f in failures]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (rf'("mcs": \{{[^}}]*"mean": 0\.){PRINTED[2:]}', rf"\g<1>{ALTERED[2:]}", f"printed {PRINTED}"),
        (r'("evidence_id": "[0-9a-f]{15})[0-9a-f]', r"\g<1>x", "run "),
        (r"\n", "\n\n", "one scalar per line"),
    ],
)
def test_one_change_of_the_metrics_fails_in_the_paper_and_in_the_report(tree, old, new, message):
    edit(tree / STATS, old, new)
    failed = {f.file for f in Check(tree).run().failures if message in f.got}
    assert {NUMBERS, REPORT} <= failed


@pytest.mark.parametrize("file", [NUMBERS, "paper/sections/method.tex", REPORT])
def test_a_file_that_is_not_utf_8_is_named_and_the_others_are_checked(tree, file):
    (tree / file).write_bytes("Café".encode("latin-1"))
    check = Check(tree).run()
    assert any(f.file == file and "not UTF-8" in f.got for f in check.failures) and check.citations > 100


@pytest.mark.parametrize(
    "text",
    [
        r"\given{0.7} and $H_0$, $I^2$, $R^{2}$",
        r"\begin{tabular}{@{}p{3cm}r@{}} x \\[2pt] \multicolumn{2}{c}{y} \cmidrule(lr){2-3} \end{tabular}",
        r"\includegraphics[width=0.48\linewidth]{plots/a_1.pdf} \cite{peng2022} \ref{tab:2} \vspace{-0.5em}",
        r"ViT-B/32, CI95, val2017, Qwen2.5-VL % 0.74",
    ],
)
def test_what_is_no_number_may_stand(tree, text):
    (tree / "paper/sections/extra.tex").write_text(text)
    assert Check(tree).run().failures == []


def test_a_study_that_has_not_run_may_be_written_about_where_the_text_asks_for_it(tree):
    section = tree / "paper/sections/extra.tex"
    section.write_text(r"\IfFileExists{generated/later/numbers.tex}{\ac{later.x}}{}")
    assert Check(tree).run().failures == []
    section.write_text(r"\ac{later.x}")
    assert "no number is named later.x" in Check(tree).run().failures[0].got


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ((), "neither paper/ nor reports/"),
        (("reports",), "no citation"),
        (("paper/generated", "reports"), "no citation"),
    ],
)
def test_a_tree_without_citations_fails(tmp_path, folders, message):
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "README.md").write_text("Nothing yet.\n")
    (failure,) = Check(tmp_path).run().failures
    assert message in failure.got and all((failure.expected, failure.remedy))


def test_the_command(tree):
    def run(folder=tree):
        done = subprocess.run(
            [sys.executable, "-c", "import sys, resource\nfrom attention_collapse.cli import main\n"
             "code = main(['evidence', 'check'])\n"
             "print('heavy' if {'torch', 'matplotlib', 'pandas', 'numpy'} & set(sys.modules) else 'light')\n"
             "print(resource.getrusage(resource.RUSAGE_SELF).ru_utime)\nsys.exit(code)"],
            cwd=folder, capture_output=True, text=True,
        )  # fmt: skip
        return done.returncode, done.stdout

    code, text = run()
    assert code == 0 and re.search(r"[0-9]+ citations in [0-9]+ files resolve; no number is typed by hand\n", text)
    *_, weight, seconds = text.split()
    assert weight == "light" and float(seconds) < 2
    line = edit(tree / NUMBERS, r"(openclip-scenes\.mcs\.mean\}\{3\}\{0\.)[0-9]", rf"\g<1>{WRONG}")
    code, text = run()
    assert code == 1 and f"{NUMBERS}:{line}: printed {ALTERED}\n  expected: {PRINTED}, for {MEAN} is 0." in text
    (tree / "empty" / ".dvc").mkdir(parents=True)
    (tree / "empty" / "params.yaml").touch()
    code, text = run(tree / "empty")
    assert code == 1 and re.search(r"neither paper/ nor reports/\n  expected: .*\n  what to do: ", text)
