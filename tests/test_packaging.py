"""What is installed: a light core, extras that are named where they are missing, a wheel that holds what it needs."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest
from conftest import ROOT
from imports import PACKAGE, SRC

from attention_collapse.errors import PipelineError
from attention_collapse.extras import EXTRAS, missing, require

sys.path.insert(0, str(ROOT / "scripts"))
import licences

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
MODULES = {
    "jinja2": "jinja2", "markupsafe": "markupsafe", "open_clip": "open_clip_torch", "sklearn": "scikit_learn",
}  # fmt: skip
# What a machine with the core alone has: every module that an extra brings is blocked.
WITHOUT = "import sys; sys.modules.update(dict.fromkeys({names!r}, None)); "


def alone(code, names=None, **options):
    """Run code in an interpreter that has no module of any extra."""
    blocked = sorted({name for modules in EXTRAS.values() for name in modules} | {"pingouin"})
    program = WITHOUT.format(names=names or blocked) + code
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, **options)


def test_the_table_of_extras_is_that_of_the_project():
    for extra, modules in EXTRAS.items():
        named = {name.lower().replace("-", "_") for name in PROJECT["optional-dependencies"][extra]}
        own = {name for name in named if not name.startswith("attention_collapse")}
        assert own == {MODULES.get(name, name) for name in modules}, extra


def test_the_core_needs_no_extra():
    """The probe, a measure, a monitor and a way to train work with the core alone."""
    code = """
import torch, attention_collapse
from attention_collapse import AttentionProbe, diagnose, usable_information, write_scenes
from attention_collapse.measures.mcs import mcs
from attention_collapse.monitor import HeldOut, Monitor
from attention_collapse.prevention import METHODS, SwappedNegatives
import attention_collapse.measures.catalogue, attention_collapse.cli
layer = torch.nn.MultiheadAttention(4, 2, batch_first=True)
with AttentionProbe(layer) as probe:
    layer(*[torch.ones(1, 3, 4)] * 3)
print(probe.stats[0].entropy.shape, float(mcs(1.0, 3.0)))
score = torch.nn.Bilinear(2, 2, 1)
class Score(torch.nn.Module):
    def __init__(self): super().__init__(); self.inner = score
    def forward(self, image, text): return self.inner(image, text)[:, 0]
monitor = Monitor(Score(), HeldOut(torch.randn(8, 2), torch.randn(8, 2), torch.arange(8) % 2), every=1)
print(sorted(monitor.step(0))[:1])
"""
    done = alone(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "torch.Size([1, 2, 3]) 0.25\n['accuracy']\n"


NEEDED_BY = {  # code -> extra
    "from attention_collapse import diagnose; diagnose('openclip-scenes', 'nowhere')": "models",
    "from attention_collapse import usable_information as u; u('labels.csv', features='f.npz')": "models",
    "from attention_collapse import explore; explore('openclip-scenes', 'nowhere')": "models",
    "from attention_collapse.questions import answer_questions as a; a('openclip-scenes', 'nowhere')": "models",
    "import attention_collapse.monitor.trainer": "models",
    "import attention_collapse.prevention.trainer": "models",
    "import attention_collapse.monitor.lightning_callback": "lightning",
    "import attention_collapse.prevention.lightning_callback": "lightning",
}
SAID = """
import json
said = []
for code in {codes!r}:
    try:
        exec(code)
    except Exception as error:
        said.append(str(error))
    else:
        said.append("nothing")
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said():
    """What each code says where no extra is installed."""
    done = alone(SAID.format(codes=list(NEEDED_BY)))
    assert done.returncode == 0, done.stderr
    return dict(zip(NEEDED_BY, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("code", NEEDED_BY)
def test_what_needs_an_extra_says_which(code, said):
    error, extra = said[code], NEEDED_BY[code]
    assert f"the libraries of the extra `{extra}`" in error, error
    assert f"pip install 'attention-collapse[{extra}]'" in error and " not installed" in error


COMMANDS = {  # command -> extra
    "diagnose --model openclip-scenes --pairs .": "models", "status": "study", "diff HEAD": "study", "track": "track",
}  # fmt: skip
TOLD = """
import contextlib, io, json
from attention_collapse.cli import main
told = []
for command, names in {commands!r}:
    blocked = {{name: sys.modules.get(name) for name in names}}
    sys.modules.update(dict.fromkeys(names))
    with contextlib.redirect_stderr(io.StringIO()) as error:
        status = main(command.split())
    for name, module in blocked.items():
        sys.modules.pop(name) if module is None else sys.modules.update({{name: module}})
    told.append([status, error.getvalue()])
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told():
    """The status and the message of each command where the libraries of its own extra are missing."""
    commands = [(command, list(EXTRAS[extra])) for command, extra in COMMANDS.items()]
    done = alone(TOLD.format(commands=commands), ["pingouin"], cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return dict(zip(COMMANDS, json.loads(done.stdout.splitlines()[-1]), strict=True))


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_line_says_it_without_a_traceback(command, told):
    status, error = told[command]
    assert status == 1 and "Traceback" not in error
    assert error.startswith("error: ") and f"attention-collapse[{COMMANDS[command]}]" in error


def test_what_is_installed_is_not_missed():
    require("models")
    assert missing(ImportError("no such thing", name="nothing_of_ours")) is None
    told = missing(ModuleNotFoundError("gone", name="dvc.repo"))
    assert isinstance(told, PipelineError) and str(told).startswith("dvc is not installed")


def test_no_dependency_is_imported_that_its_licence_forbids():
    assert not any("pingouin" in path.read_text("utf-8") for path in (SRC / PACKAGE).rglob("*.py"))
    rows = licences.rows()
    assert len(rows) > 50 and {"torch", "transformers", "dvc"} <= {name for name, *_ in rows}
    assert [row for row in rows if not licences.is_compatible(row[0], row[2])] == []


@pytest.mark.parametrize(
    ("words", "compatible"),
    [
        ("MIT", True), ("BSD License", True), ("MPL-2.0 AND MIT", True), ("Apache-2.0 OR GPL-2.0-or-later", True),
        ("GNU Library or Lesser General Public License (LGPL)", True), ("GPL-3.0-only", False), ("unknown", False),
        ("GNU General Public License v3 (GPLv3)", False), ("AGPL-3.0", False), ("MIT AND GPL-2.0", False),
    ],
)  # fmt: skip
def test_a_licence_that_forbids_it_is_known(words, compatible):
    assert licences.is_compatible("some-library", words) is compatible


def test_the_wheel_holds_the_code_and_every_file_that_it_reads(tmp_path):
    """Built from a copy of the sources, with the installed setuptools; nothing is fetched."""
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(SRC / PACKAGE, tmp_path / "src" / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    code = "from setuptools import build_meta as b; print(b.build_wheel('out'))"
    (tmp_path / "out").mkdir()
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = (tmp_path / "out").glob("*.whl")
    with zipfile.ZipFile(wheel) as held:
        names = set(held.namelist())
        [metadata] = [held.read(name).decode() for name in names if name.endswith("METADATA")]
    there = {path.relative_to(SRC).as_posix() for path in (SRC / PACKAGE).rglob("*") if path.is_file()}
    wanted = {name for name in there if "__pycache__" not in name}
    assert {name for name in names if ".dist-info/" not in name} == wanted
    for name in ("py.typed", "report/style.mplstyle", "report/explorer/base.html"):
        assert f"{PACKAGE}/{name}" in names
    required = {line for line in re.findall(r"(?m)^Requires-Dist: (.*)$", metadata) if "extra ==" not in line}
    assert required == set(PROJECT["dependencies"])
