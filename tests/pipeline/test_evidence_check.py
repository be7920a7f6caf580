"""`attention-collapse evidence check`: the committed tree passes, and one altered digit anywhere in it does not."""

import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

from attention_collapse.files import read_json
from attention_collapse.report.evidence import Evidence
from attention_collapse.report.evidence_check import Check

NUMBERS = "paper/generated/embedded/numbers.tex"
SCORES = "paper/generated/embedded/scores.tex"
STATS = "metrics/embedded/stats.json"
MEAN = "models.openclip-scenes.mcs.mean"
REPORT = "reports/one.md"
OWN = read_json(ROOT / STATS)["models"]["openclip-scenes"]
PRINTED, SHARE = f"{OWN['mcs']['mean']:.3f}", f"{100 * OWN['share_of_pairs_above_0_7']:.1f}"
FIRST = PRINTED[2]  # digit after the point
WRONG = "1" if FIRST != "1" else "2"
ALTERED = f"0.{WRONG}{PRINTED[3:]}"


@pytest.fixture
def tree(tmp_path):
    """What the check reads, copied, and one report with a citation of each form."""
    for folder in ("metrics", "paper", "reports"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    (tmp_path / ".dvc").mkdir()
    shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml")
    (tmp_path / "data/embedded").mkdir(parents=True)
    shutil.copy(ROOT / "data/embedded/manifest.json", tmp_path / "data/embedded/manifest.json")
    stats = Evidence.read(tmp_path, STATS)
    (tmp_path / REPORT).write_text(
        "# CI95 of ViT-B/32\n\n"
        f"1. MCS {stats.md(MEAN)} [{stats.md('models.openclip-scenes.mcs.ci_low', 2)}]\n"
        f"2. above `0.7`: {stats.md('models.openclip-scenes.share_of_pairs_above_0_7', 'percent1')}\n"
        f"3. p {stats.md('models.openclip-scenes.tests.mcs_vs_0_7.log10_p', 'log10p')}\n"
        "\n```\n0.123\n```\n"
    )
    return tmp_path


def edit(path, old, new):
    """Replace the first match of a pattern; return its line."""
    text = path.read_text()
    match = re.search(old, text)
    assert match, old
    path.write_text(text[: match.start()] + match.expand(new) + text[match.end() :])
    return text.count("\n", 0, match.start()) + 1


def test_the_tree_passes(tree):
    check = Check(tree).run()
    assert check.failures == [] and check.citations > 2000


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
        (NUMBERS, r"(openclip-scenes\.mcs\.mean\}.*stats)", r"\g<1>x", "no such file"),
        (NUMBERS, r"(openclip-scenes\.mcs\.mean\}.*\{[0-9a-f]{15})[0-9a-f]\}", r"\g<1>x}", "run "),
        (REPORT, r"#L[0-9]", "#L9", "the link leads to"),
        (REPORT, r'json#[0-9a-f]', "json#x", "run "),
        (REPORT, r"mcs\.mean\"", 'mcs.sd"', "which is models.openclip-scenes.mcs.mean"),
        (REPORT, r' "metrics[^"]*"', ' "metrics"', "the link's title"),
        # a form, and a key
        (SCORES, r"(openclip-scenes\.mcs\.mean\}\{)3", r"\g<1>2", f"printed {PRINTED}"),
        (SCORES, r"(openclip-scenes\.mcs\.mean\}\{)3", r"\g<1>digits", "in the form"),
        ("paper/sections/embedded.tex", r"\\ac\{embedded\.m", r"\\ac{embedded.x", "no number is named embedded.xodels"),
        ("paper/sections/embedded.tex", r"\\ac\{embedded\.", r"\\ac{embeded.", "no number is named embeded."),
        # numbers typed by hand
        ("paper/sections/embedded.tex", r"scores \\ac\{[^}]*\}", f"scores {PRINTED}", f"{PRINTED} is typed by hand"),
        ("paper/sections/method.tex", r"nats", "$H=12$", "12 is typed by hand"),
        ("paper/main.tex", r"We ask", "By 2 % we ask", "2 is typed by hand"),
        (SCORES, r"\\acval\{embedded\.models[^}]*\}\{3\}\{100\}", "100", "100 is typed by hand"),
        (REPORT, r"CI95", "95", "95 is typed by hand"),
        (REPORT, rf"\[{PRINTED}\]\([^)]*\)", PRINTED, f"{PRINTED} is typed by hand"),
        ("reports/README.md", r"Generated", "0.74", "0.74 is typed by hand"),
    ],
)  # fmt: skip
def test_one_change_fails_and_the_place_is_named(tree, file, old, new, message):
    line = edit(tree / file, old, new)
    failures = Check(tree).run().failures
    assert any(f.file == file and f.line == line and message in f.got for f in failures), [str(f) for f in failures]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (rf'("mcs": \{{[^}}]*"mean": 0\.){PRINTED[2:]}', rf"\g<1>{ALTERED[2:]}", f"printed {PRINTED}"),
        (r'("evidence_id": "[0-9a-f]{15})[0-9a-f]', r"\g<1>x", "run "),
        (r"\n", "\n\n", "one scalar a line"),
    ],
)
def test_one_change_of_the_metrics_fails_in_the_paper_and_in_the_report(tree, old, new, message):
    edit(tree / STATS, old, new)
    failed = {f.file for f in Check(tree).run().failures if message in f.got}
    assert {NUMBERS, REPORT} <= failed


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


def test_the_command(tree):
    def run():
        done = subprocess.run(
            [sys.executable, "-c", "import sys, resource\nfrom attention_collapse.cli import main\n"
             "code = main(['evidence', 'check'])\n"
             "print('heavy' if {'torch', 'matplotlib', 'pandas', 'numpy'} & set(sys.modules) else 'light')\n"
             "print(resource.getrusage(resource.RUSAGE_SELF).ru_utime)\nsys.exit(code)"],
            cwd=tree, capture_output=True, text=True,
        )  # fmt: skip
        return done.returncode, done.stdout

    code, text = run()
    assert code == 0 and re.search(r"[0-9]+ citations in [0-9]+ files resolve; no number is typed by hand\n", text)
    *_, weight, seconds = text.split()
    assert weight == "light" and float(seconds) < 2
    line = edit(tree / NUMBERS, r"(openclip-scenes\.mcs\.mean\}\{3\}\{0\.)[0-9]", rf"\g<1>{WRONG}")
    code, text = run()
    assert code == 1 and f"{NUMBERS}:{line}: printed {ALTERED}\n  expected: {PRINTED}, for {MEAN} is 0." in text
