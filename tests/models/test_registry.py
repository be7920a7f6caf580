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
specs = [ModelSpec(kind=kind, weights="checkpoint", path=sys.argv[1]) for kind in sys.argv[2:]]
quick = not {"torch", "transformers", "open_clip"} & set(sys.modules)
from attention_collapse.identity.source_code import code_id
ids = {kind: code_id("attention_collapse.stages.extract_attention", kind) for kind in kinds()}
from attention_collapse.inventory import listing
from attention_collapse.models import load
from attention_collapse.models.catalogue import KIND_OF_TYPE
from attention_collapse.models.image_once import image_once
from attention_collapse.models.pictures import patch_keys
from PIL import Image
def seen(spec):
    model = load("m", spec)
    batch = model.pairs([Image.new("RGB", (40, 40))] * 2, ["a cat", "a dog"])
    encoder = model.module.get_submodule(model.image_encoder)
    with image_once(model):
        once = "forward" in vars(encoder)
    keys = patch_keys(model.picture, batch, batch.reads[0])[1]
    return {"once": once, "keys": keys.shape[1], "module": type(model).__module__}
print(json.dumps({
    "known": known, "quick": quick, "ids": ids, "types": KIND_OF_TYPE, "listed": [row[:2] for row in listing()],
    "seen": {spec.kind: seen(spec) for spec in specs},
}))
"""


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


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What a process knows where this package has a module more, and another package brings one."""
    root, folder = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("llava") / "llava"
    write_llava(folder)
    shutil.copytree(SRC / "attention_collapse", root / "attention_collapse")
    (root / "attention_collapse" / "models" / "kinds" / "llava_twin.py").write_text(TWIN)
    package(root, "llava-third = lab.vision.twin", TWIN.replace("Twin", "Third").replace("twin", "third"))
    command = [sys.executable, "-c", REPORT, str(folder), "llava-twin", "llava-third"]
    environment = {"PYTHONPATH": str(root), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("name", "module"),
    [("twin", "attention_collapse.models.kinds.llava_twin"), ("third", "lab.vision.twin")],
    ids=["a module more", "another package"],
)
def test_a_kind_more_is_known_everywhere(found, name, module):
    kind = f"llava-{name}"
    assert found["known"][kind] == name.capitalize() and found["quick"]
    assert [f"{name}-7b", kind] in found["listed"] and found["types"][name] == kind
    assert found["seen"][kind] == {"once": True, "keys": 16, "module": module}
    ids = {own: code_id(STAGE, own) for own in own_kinds()}
    assert {own: found["ids"][own] for own in ids} == ids  # no other kind's code is another
    assert found["ids"][kind] not in ids.values()
    assert found["ids"]["llava-twin"] != found["ids"]["llava-third"]


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
