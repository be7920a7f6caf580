"""Every command that a page prints: it is one that exists, with options that exist, and it is run here or elsewhere.

Those of fenced blocks are complete, but for names in capitals; those within a sentence may leave arguments out.
"""

import ast
import importlib.util
import os
import re
import shlex
import subprocess
import sys
import tomllib

import pytest
from conftest import ROOT

from attention_collapse.cli import main
from attention_collapse.data.scenes import SPLIT, write_scenes
from attention_collapse.files import read_json
from attention_collapse.options import command_parser

PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md"),
     *(ROOT / "examples").rglob("*.md")]
)  # fmt: skip
PROGRAMS = (
    "attention-collapse ",
    "dvc ",
    "./test ",
    "./reproduce ",
    "scripts/",
    "python ",
    "pip ",
    "source ",
    "pytest ",
)
OWN = "attention-collapse"

# The first words of a command -> the test that runs it, as its file there says.
RUN_BY = {
    "attention-collapse diagnose --model openclip-scenes --pairs my_pairs --work parts --engine ray": (
        "tests/stages/test_ray_actors.py",
        '"--engine", "ray"',
    ),
    "attention-collapse explore --serve": ("tests/live/test_looker.py", '"--serve"'),
    "attention-collapse plan": ("tests/test_plan.py", 'main(["plan", "small"])'),
    "attention-collapse questions": ("tests/test_answer_questions.py", "main([*given"),
    "attention-collapse status": ("tests/pipeline/test_status.py", 'main(["status"])'),
    "attention-collapse evidence check": ("tests/pipeline/test_evidence_check.py", "main(['evidence', 'check'])"),
    "attention-collapse diff": ("tests/test_difference.py", 'main(["diff", "readout", "HEAD"])'),
    "attention-collapse check": ("tests/pipeline/test_gates.py", 'main(["check"])'),
    "attention-collapse verify": ("tests/pipeline/test_verify.py", 'main(["verify"])'),
    "attention-collapse track": ("tests/report/test_tracking.py", 'main(["track"'),
    "./test": ("tests/test_commands.py", 'checkout.run("test"'),
    "./reproduce": ("tests/test_commands.py", 'checkout.run("reproduce"'),
    "scripts/environment": ("tests/test_commands.py", "./helper"),
    "scripts/site": ("tests/test_site.py", 'script("site")'),
    "python examples/monitor_training.py": ("tests/test_printed_commands.py", '"examples" / "monitor_training.py"'),
}
# Not run by a test, or not as it stands: why.
NOT_RUN = {
    "dvc": "minutes to hours of computing; tests/pipeline runs such pipelines, in copies and in studies of small size",
    "pip": "needs a network",
    "source": "of the shell alone",
}


def blocks(text):
    """The lines of fenced blocks of commands, continued lines joined; of those in no language, what begins so."""
    for language, block in re.findall(r"(?ms)^```(\w*)\n(.*?)^```$", text):
        if language in ("", "bash", "sh", "shell", "console"):
            lines = block.replace("\\\n", " ").splitlines()
            yield from (line for line in lines if line.strip() and (language or f"{line} ".startswith(PROGRAMS)))


def words_of(line):
    """Without a comment, and without the variables of the environment that stand before a command."""
    words = shlex.split(line, comments=True)
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    return words


def fenced():
    """(page, words) of every command in a block, and of those in the docstrings of the examples."""
    for page in PAGES:
        yield from ((page, words_of(line)) for line in blocks(page.read_text("utf-8")))
    for file in sorted((ROOT / "examples").glob("*.py")):
        said = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
        yield from ((file, words_of(line)) for line in said.splitlines() if f"{line} ".startswith(PROGRAMS))


def within_sentences():
    for page in PAGES:
        text = re.sub(r"(?ms)^```.*?^```$", "", page.read_text("utf-8"))
        for span in re.findall(r"`([^`]+)`", text):
            if re.match(r"(attention-collapse|dvc|scripts/\w+|\./(test|reproduce)|python -m) ?", span + " "):
                yield page, span.split()


FENCED = list(fenced())
SPANS = [(page, words) for page, words in within_sentences() if len(words) > 1 or "/" in words[0]]


def named(pairs):
    return [pytest.param(words, id=f"{page.name}: {' '.join(words)}") for page, words in pairs]


def subparser(words):
    """The parser of a command of ours, and the words that it is to parse."""
    parser, words = command_parser(), words[1:]
    while True:
        known = next((action.choices for action in parser._actions if hasattr(action.choices, "values")), None)
        if not known or not words:
            return parser, words
        assert words[0] in known, f"no command {words[0]!r}: {', '.join(known)}"
        parser, words = known[words[0]], words[1:]


def require_options(words):
    parser, rest = subparser(words)
    unknown = [word for word in rest if word.startswith("--") and word not in parser._option_string_actions]
    assert not unknown, f"{' '.join(words)}: no option {', '.join(unknown)}"


def require_of_dvc(words, *, whole):
    """DVC's own parser takes it, and the stages that it names are there."""
    from dvc.cli.parser import get_main_parser

    if not whole and words[1] in ("metrics", "plots") and any(word.isupper() for word in words):
        words = [word for word in words if not word.isupper()]
    given = get_main_parser().parse_args(words[1:])
    for target in getattr(given, "targets", None) or ():
        if target.endswith("dvc.yaml"):
            assert (ROOT / target).is_file() or "/mine/" in target
            continue
        stage, _, item = target.partition("@")
        found = re.search(rf"(?ms)^  {stage}:\n(.*?)(?=^  \w|\Z)", (ROOT / "dvc.yaml").read_text("utf-8"))
        assert found and (not item or re.search(rf"\b{item}\b", found[1])), f"no stage {target}"


def require_program(words):
    """Other programs: a script that is there, a module of Python, an extra that the project has, a pinned version."""
    if words[0] == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
        ours = [re.fullmatch(r"attention-collapse\[(\w+)\]", word) for word in words]
        assert all(found[1] in extras for found in ours if found)
        pins = [word for word in words if "==" in word and not word.startswith("attention")]
        sources = (ROOT / "src" / "attention_collapse" / "data" / "question_formats.py").read_text("utf-8")
        assert all(f"pip install {pin}" in sources for pin in pins)
    elif words[0] == "python":
        name = words[words.index("-m") + 1] if "-m" in words else ""
        assert importlib.util.find_spec(name) if name else (ROOT / words[1]).is_file()
    elif words[0] != "source":
        assert (ROOT / words[0]).is_file(), words[0]


def rows(page, head):
    """What stands between single backticks in each row of the table of a page that has `head` in its first line."""
    _, _, after = (ROOT / "docs" / page).read_text("utf-8").partition(head)
    table = after.split("\n\n")[0].splitlines()[2:]
    for line in table:
        yield from (re.sub(r"<[^>]*>", "0" * 40, span) for span in re.findall(r"`([^`]+)`", line.replace(r"\|", "")))


# Arguments of `diagnose`, as the table of ways to name a model and that of sources of pairs print them.
OF_TABLES = [
    *(f"diagnose --pairs FOLDER {said}" for said in rows("your_model.md", "| you have |") if said.startswith("--")),
    *(f"diagnose --model M --pairs {said}" for said in rows("data.md", "| recognised as |") if " --" in said),
]


def ran_elsewhere(words):
    text = " ".join(words)
    return next((where for start, where in RUN_BY.items() if f"{text} ".startswith(f"{start} ")), None)


HERE = [(page, words) for page, words in FENCED if words[0] == OWN and not ran_elsewhere(words)]
ONCE = list({tuple(words): (page, words) for page, words in HERE}.values())


def test_the_pages_print_some():
    assert len(FENCED) > 40 and len(HERE) >= 12 and len(SPANS) > 20 and len(OF_TABLES) > 18
    assert {words[0] for _, words in FENCED} <= {
        OWN, "dvc", "./test", "./reproduce", "scripts/site", "scripts/environment", "source", "pip", "python"
    }  # fmt: skip


@pytest.mark.parametrize("words", named(FENCED))
def test_a_command_of_a_block_is_understood_as_it_stands(words, capsys):
    try:
        if words[0] == OWN:
            command_parser().parse_args(words[1:])
        elif words[0] == "dvc":
            require_of_dvc(words, whole=True)
        else:
            require_program(words)
    except SystemExit:
        pytest.fail(capsys.readouterr().err)


@pytest.mark.parametrize("words", named(SPANS))
def test_a_command_within_a_sentence_has_options_that_exist(words, capsys):
    try:
        if words[0] == OWN:
            require_options(words)
        elif words[0] == "dvc":
            require_of_dvc(words, whole=False)
        else:
            require_program(words)
    except SystemExit:
        pytest.fail(capsys.readouterr().err)


@pytest.mark.parametrize("line", OF_TABLES)
def test_the_arguments_of_a_table_are_understood(line, capsys):
    words = shlex.split(line)
    try:
        command_parser().parse_args(words if "--model" in words else [*words, "--model", "M"])
    except SystemExit:
        pytest.fail(capsys.readouterr().err)


@pytest.mark.parametrize("words", named(FENCED))
def test_it_is_run_here_or_by_another_test_or_it_is_said_why_not(words):
    if words in [one for _, one in HERE] or words[0] in NOT_RUN:
        return
    found = ran_elsewhere(words)
    assert found, f"{' '.join(words)}: run by no test; add it to RUN_BY, or to NOT_RUN with the reason"
    file, call = found
    assert call in (ROOT / file).read_text("utf-8"), f"{file} no longer holds {call}"


def test_what_is_said_of_tests_and_reasons_is_needed():
    for start in RUN_BY:
        assert any(f"{' '.join(words)} ".startswith(f"{start} ") for _, words in FENCED), start
    assert NOT_RUN.keys() <= {words[0] for _, words in FENCED}


@pytest.fixture
def working_folder(tmp_path, monkeypatch):
    """A folder with the small model of the repository, and scenes under each name that a command has for its pairs."""
    for name in ("data", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    file = write_scenes(tmp_path / "FOLDER", 4, seed=0)
    for name in ("SOURCE", "tutorial/pairs"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(tmp_path / "FOLDER")
    rows = [(f"FOLDER/{SPLIT}/{one['file_name']}", f"caption {one['id']}") for one in read_json(file)["images"]]
    (tmp_path / "pairs.csv").write_text("photo,alt\n" + "".join(f"{a},{b}\n" for a, b in rows))
    (tmp_path / "pairs.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in rows))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


# What a command needs a network for is taken from here: the model is the repository's own, all of its few images.
IN_PLACE = {
    "openai/clip-vit-base-patch32": "openclip-scenes", "openclip-vit-b-32": "openclip-scenes",
    "MODEL": "openclip-scenes", "100": "4",
}  # fmt: skip


@pytest.mark.parametrize("words", named(ONCE))
def test_it_runs_and_writes_what_it_names(words, working_folder, capsys, monkeypatch):
    given = [IN_PLACE.get(word, word) for word in words[1:]]
    if "--study" in given:  # of the repository, whose root is then the working folder
        monkeypatch.chdir(ROOT)
        given = [str(working_folder / word) if word.endswith(".html") else word for word in given]
    assert main(given) == 0, capsys.readouterr().err
    assert capsys.readouterr().out.strip()
    written = [given[given.index(name) + 1] for name in ("--out", "--per-pair", "--plots") if name in given]
    for name in (*written, *(["OUT"] if "OUT" in given else [])):
        place = working_folder / name
        assert place.stat().st_size if place.is_file() else list(place.iterdir()), name


@pytest.mark.slow
def test_the_example_of_a_monitored_training_rings_and_draws(tmp_path):
    """The first model leaves the image unused at first, and the second, without the cue, does not."""
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "monitor_training.py", str(tmp_path)],
        capture_output=True, text=True, check=False, env=os.environ | {"MPLBACKEND": "Agg"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with_cue, without = done.stdout.split("no cue")
    assert re.search(r"image unused since step \d+: .*no longer at step", with_cue) and "no alarm" in without
    assert {path.suffix for path in tmp_path.iterdir()} == {".png", ".pdf"}
