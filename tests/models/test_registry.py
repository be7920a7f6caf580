"""A kind is one module: added here to a copy of the package, and brought by another package, it is known everywhere."""

import json
import shutil
import subprocess
import sys

import pytest
from imports import SRC
from tiny.decoders import write_llava

from attention_collapse import registry
from attention_collapse.errors import ModelError
from attention_collapse.identity import source_code
from attention_collapse.identity.source_code import code_id
from attention_collapse.models import load
from attention_collapse.models.spec import ModelSpec
from attention_collapse.registry import kinds, own_kinds

STAGE = "attention_collapse.stages.extract_attention"
LLAVA = (registry.OWN / "llava.py").read_text("utf-8")
TWIN = LLAVA.replace('"LLaVA"', '"Twin"').replace('("llava",)', '("twin",)').replace("llava-1.5-7b", "twin-7b")
REPORT = """
import json, sys
from attention_collapse.registry import kinds
known = {name: kind.label for name, kind in kinds().items()}
from attention_collapse.models.spec import ModelSpec
spec = ModelSpec(kind="llava-twin", weights="checkpoint", path=sys.argv[1])
quick = not {"torch", "transformers", "open_clip"} & set(sys.modules)
from attention_collapse.identity.source_code import code_id
ids = {kind: code_id("attention_collapse.stages.extract_attention", kind) for kind in kinds()}
from attention_collapse.inventory import listing
from attention_collapse.models import load
from attention_collapse.models.catalogue import KIND_OF_TYPE
from attention_collapse.models.image_once import image_once
from attention_collapse.models.pictures import patch_keys
from PIL import Image
model = load("m", spec)
batch = model.pairs([Image.new("RGB", (40, 40))] * 2, ["a cat", "a dog"])
encoder = model.module.get_submodule(model.image_encoder)
with image_once(model):
    once = "forward" in vars(encoder)
pixels, keys = patch_keys(model.picture, batch, batch.reads[0])
print(json.dumps({
    "known": known, "quick": quick, "ids": ids, "once": once, "keys": keys.shape[1], "kind": KIND_OF_TYPE["twin"],
    "listed": [row[:2] for row in listing()], "module": type(model).__module__,
}))
"""


def report(folder, *paths):
    command = [sys.executable, "-c", REPORT, str(folder)]
    path = ":".join(str(path) for path in paths)
    done = subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": path, "HF_HUB_OFFLINE": "1"})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llava") / "llava"
    write_llava(folder)
    return folder


def known_everywhere(found, module):
    assert found["known"]["llava-twin"] == "Twin" and found["quick"]
    assert ["twin-7b", "llava-twin"] in found["listed"] and found["kind"] == "llava-twin"
    assert found["once"] and found["keys"] == 16 and found["module"] == module
    ids = {kind: code_id(STAGE, kind) for kind in own_kinds()}
    assert {kind: found["ids"][kind] for kind in ids} == ids  # no other kind's code is another
    assert found["ids"]["llava-twin"] not in ids.values()


def test_a_module_more_is_a_kind_more(folder, tmp_path):
    shutil.copytree(SRC / "attention_collapse", tmp_path / "attention_collapse")
    (tmp_path / "attention_collapse" / "models" / "kinds" / "llava_twin.py").write_text(TWIN)
    known_everywhere(report(folder, tmp_path), "attention_collapse.models.kinds.llava_twin")


def package(root, point, source=TWIN):
    """Another package as it lies installed: its kind's module is within a package, which costs something to import."""
    (root / "lab" / "vision").mkdir(parents=True)
    (root / "lab" / "__init__.py").write_text("import torch\n")
    (root / "lab" / "vision" / "__init__.py").touch()
    (root / "lab" / "vision" / "twin.py").write_text(source)
    about = root / "lab-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: lab\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{point}\n")
    return root


@pytest.fixture
def installed(tmp_path, monkeypatch):
    def install(*args):
        monkeypatch.syspath_prepend(package(tmp_path, *args))
        clear()
        return tmp_path / "lab" / "vision" / "twin.py"

    yield install
    monkeypatch.undo()
    clear()


def clear():
    for cached in (kinds, code_id, source_code.imported, source_code._tree, source_code._meaning):
        cached.cache_clear()


def test_another_package_brings_a_kind(folder, tmp_path):
    package(tmp_path, "llava-twin = lab.vision.twin")
    known_everywhere(report(folder, SRC, tmp_path), "lab.vision.twin")


def test_the_code_of_another_packages_kind_counts_and_so_does_what_it_uses_of_this_one(installed):
    file = installed("llava-twin = lab.vision.twin")
    files = source_code.closure(STAGE, "llava-twin")
    assert {"twin.py", "decoder.py"} <= {path.name for path in files} and file in files
    before = [code_id(STAGE, kind) for kind in ("llava-twin", "llava", None)]
    file.write_text(TWIN + "\nx = 1\n")
    clear()
    after = [code_id(STAGE, kind) for kind in ("llava-twin", "llava", None)]
    assert before[0] != after[0] and before[1:] == after[1:]


@pytest.mark.parametrize(
    ("point", "message"),
    [
        (
            "llava = lab.vision.twin",
            r"kind 'llava' of lab\.vision\.twin is also attention_collapse\.models\.kinds\.llava",
        ),
        ("twin = lab.vision.nowhere", r"entry point 'twin' = 'lab\.vision\.nowhere'(.|\n)*a module of Python source"),
        ("twin-2.5 = lab.vision.twin", r"entry point 'twin-2\.5'(.|\n)*letters, digits and hyphens"),
    ],
)
def test_an_entry_point_that_cannot_be_a_kind_is_named(installed, point, message):
    installed(point)
    with pytest.raises(ModelError, match=message):
        kinds()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('LABEL = "Twin"', 'LABEL = "Tw" + str(1)'), "kind twin: .* does not say LABEL"),
        (('MODEL_TYPES = ("twin",)\n', ""), "kind twin: .* does not say MODEL_TYPES"),
        (('LIBRARY = "transformers"', 'LIBRARY = "tensors"'), "kind twin: .* does not say a known LIBRARY"),
    ],
)
def test_a_module_that_does_not_say_what_it_must_is_named(installed, change, message):
    installed("twin = lab.vision.twin", TWIN.replace(*change))
    with pytest.raises(ModelError, match=message):
        kinds()


def test_what_is_neither_dual_encoder_nor_pair_scorer_is_refused(installed, tmp_path):
    module = 'LABEL = "x"\nLIBRARY = "transformers"\nMODEL_TYPES = ()\nCATALOGUE = {}\n'
    installed("half = lab.vision.twin", module + "def load(name, spec, device):\n    return object()\n")
    with pytest.raises(ModelError, match=r"lab\.vision\.twin\.load returned object"):
        load("m", ModelSpec(kind="half", weights="checkpoint", path=str(tmp_path)))
