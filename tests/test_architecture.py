"""The house rules, read from the source: which room imports which, and that every dependency is declared."""

import ast
import re
import subprocess
import sys
import tomllib

import pytest
from imports import PACKAGE, ROOT, SRC, closure, file_of, imported

# A room imports rooms of lower floors alone, and its own; what lies beside the rooms stands with them.
FLOORS = (
    {"errors", "families"},
    {"extras"},  # which libraries there may be
    {"arguments", "explain", "files", "options", "progress", "registry"},
    {"identity", "data", "probe", "measures", "stats", "prevention"},  # they know nothing of each other
    {"monitor"},  # for a user's own training: no study, no file of parameters
    {"models"},  # a model says what its tokens are in the probe's words
    {"params"},
    {"engine"},
    {"report"},
    {"study"},
    {"repository"},
    {"stages"},
    {"inputs", "inventory", "streams"},
    {"diagnosis", "page_parts", "planning"},
    {"information", "exploration", "live", "questions"},
    {"cli"},
)
DISTRIBUTIONS = {"yaml": "pyyaml", "PIL": "pillow", "open_clip": "open_clip_torch", "sklearn": "scikit-learn"}


def modules():
    return sorted((SRC / PACKAGE).rglob("*.py"))


def room_of(path):
    return path.relative_to(SRC / PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", [path for path in modules() if room_of(path) != "__init__"], ids=str)
def test_no_import_leads_up_or_across_also_within_functions(path):
    floor = next(index for index, rooms in enumerate(FLOORS) if room_of(path) in rooms)
    below = {room_of(path)}.union(*FLOORS[:floor])
    others = {module.split(".")[1] for module in imported(path) if module.startswith(PACKAGE + ".")}
    assert others <= below, f"{path}: {sorted(others - below)}"


def test_every_room_has_a_floor():
    assert {room_of(path) for path in modules()} == {"__init__"}.union(*FLOORS)


def test_no_module_imports_itself_through_others():
    graph = {path: {file_of(m) for m in imported(path) if m.startswith(PACKAGE)} - {None, path} for path in modules()}
    while free := {path for path, needs in graph.items() if not needs & graph.keys()}:
        graph = {path: needs for path, needs in graph.items() if path not in free}
    assert not graph, f"a cycle among {sorted(path.name for path in graph)}"


def normal(name):
    return name.lower().replace("-", "_")


def requirements():
    """Name -> version of what is pinned: the runtime part of requirements.txt, and the tools below it and beside it."""
    parts = (ROOT / "requirements.txt").read_text().split("# Tools")
    parts[1] += (ROOT / "requirements-explore.txt").read_text()
    return [{normal(n): v for n, v in re.findall(r"^([\w.-]+)==([\w.+!-]+)", part, re.MULTILINE)} for part in parts]


SHIPPED = ("models", "study", "track")  # extras whose libraries the package imports; of others, each in one place


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def extras(names):
    """What these extras of pyproject.toml bring, the package itself aside."""
    given = project()["optional-dependencies"]
    return {normal(name) for extra in names for name in given[extra] if not name.startswith("attention-collapse")}


def left_out():
    """The extras that are for one module, or for work on the repository."""
    return set(project()["optional-dependencies"]) - set(SHIPPED)


def test_every_import_is_declared_and_pinned_for_those_who_run_it():
    runtime, tools = requirements()
    assert extras(left_out()) <= tools.keys()
    for path in modules():
        for module in imported(path):
            top = module.split(".")[0]
            if top in sys.stdlib_module_names or top in {PACKAGE}:
                continue
            name = normal(DISTRIBUTIONS.get(top, top))
            if name in extras(left_out()):
                assert path.name.startswith(f"{name}_"), f"{path}: {top} is left to the user"
                continue
            assert name not in tools, f"{path}: {top} stands in requirements.txt among the tools"
            assert name in runtime, f"{path}: {top} is not in requirements.txt"


def test_pyproject_names_the_runtime_part_of_requirements():
    core = {normal(name) for name in project()["dependencies"]}
    assert core | extras(SHIPPED) == set(requirements()[0]) and not core & extras(SHIPPED)


def test_every_packaged_file_exists():
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    for pattern in data[PACKAGE]:
        assert list((SRC / PACKAGE).glob(pattern)), pattern


def test_nothing_unsafe_is_loaded():
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in {"pickle.load", "pickle.loads", "yaml.load", "eval", "exec"}, path
                flags = {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert flags.get("weights_only", "True") == "True", path
                assert flags.get("trust_remote_code", "False") == "False", path


def test_every_public_function_has_a_docstring():
    for path in modules():
        tree = ast.parse(path.read_text("utf-8"))
        for node in [tree, *ast.walk(tree)]:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                inner = any(
                    node in ast.walk(f) and node is not f for f in ast.walk(tree) if isinstance(f, ast.FunctionDef)
                )
                assert inner or ast.get_docstring(node), f"{path}: {node.name}"
        assert not tree.body or ast.get_docstring(tree), path


def test_at_most_ten_public_names_and_a_quick_import():
    code = (
        "import sys, attention_collapse as a; assert len(a.__all__) <= 10; "
        "assert not {'torch', 'transformers', 'pandas'} & set(sys.modules); "
        "import attention_collapse.cli; assert 'torch' not in sys.modules; "
        "assert callable(a.diagnose) and callable(a.AttentionProbe)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_statistics_of_a_study_do_not_need_the_measures_code_of_extraction():
    assert not any("/measures/" in file for file in closure(f"{PACKAGE}.stages.extract_attention"))
    assert not any("/probe/" in file for file in closure(f"{PACKAGE}.stages.stats"))
