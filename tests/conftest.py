"""Shared building blocks: COCO-layout folders and small OpenCLIP checkpoints, written to disk as users have them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
settings.register_profile("here", deadline=None)  # how long an example takes says how busy the machine is
settings.register_profile("ci", deadline=None, derandomize=True)  # judged by the same examples every time
settings.load_profile("ci" if os.environ.get("CI") else "here")

os.environ.setdefault("RAY_worker_niceness", "0")  # else its actors wait for every other test that runs beside

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """The models are too small for more threads; before each test, since stages set their own number."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def coco_sample() -> Path:
    """80 real photographs with captions; never committed, so absent on most machines."""
    folder = SHARED / "coco-sample"
    if not folder.is_dir():
        pytest.skip("the COCO sample (../shared/data/coco-sample) is not on this machine")
    return folder


@pytest.fixture
def server():
    """An HTTP server on the loopback address."""
    from http_server import Server

    one = Server()
    yield one
    one.http.shutdown()
    one.http.server_close()


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """An empty hub cache and no network, as huggingface_hub sees it; the working folder is an empty one."""
    from huggingface_hub import constants

    for name, value in (("HF_HUB_CACHE", str(tmp_path / "hub")), ("HF_HUB_OFFLINE", True)):
        monkeypatch.setattr(constants, name, value)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "hub"


def photograph(path: Path, size: tuple[int, int] = (40, 30), seed: int = 0, **options: object) -> Path:
    """A noisy RGB picture."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def coco_folder(root: Path, n: int = 4, captions: int = 2, split: str = "val2017", url: str | None = None) -> Path:
    """A COCO-layout folder of `n` noisy JPEGs."""
    images, annotations = [], []
    for image_id in range(1, n + 1):
        name = f"{image_id:012d}.jpg"
        photograph(root / split / name, seed=image_id)
        images.append({"id": image_id, "file_name": name, "license": 1})
        if url:
            images[-1]["coco_url"] = f"{url}/{split}/{name}"
        for number in range(captions):
            text = f"picture {image_id} of two red circles" + " on the left" * number
            annotations.append({"id": 10 * image_id + number, "image_id": image_id, "caption": text})
    data = {"images": images, "annotations": annotations, "licenses": [{"id": 1, "url": "http://licence/1"}]}
    write_annotations(root, data, split)
    return root


def write_annotations(root: Path, data: object, split: str = "val2017") -> Path:
    """Write a captions file below a COCO-layout folder."""
    file = root / "annotations" / f"captions_{split}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(data if isinstance(data, str) else json.dumps(data), "utf-8")
    return file


@pytest.fixture(scope="session")
def tiny_openclip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder in open_clip's hub layout: 2-layer vision tower, 3-layer text tower, random weights."""
    from safetensors.torch import save_file

    from attention_collapse.models import load
    from attention_collapse.models.scenes import scenes_config, write_restricted_merges
    from attention_collapse.models.spec import ModelSpec

    folder = tmp_path_factory.mktemp("tiny-openclip")
    merges = write_restricted_merges(["a", "red", "circle", "picture", "on", "the", "left"], folder / "merges.txt.gz")
    config = scenes_config(merges, "merges.txt.gz")
    config["model_cfg"]["vision_cfg"] |= {"layers": 2, "width": 32, "head_width": 8, "patch_size": 16}
    config["model_cfg"]["text_cfg"] |= {"layers": 3, "width": 32, "heads": 2}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    fresh = load("tiny", ModelSpec(kind="openclip", weights="untrained", architecture=str(folder), seed=5))
    save_file({k: v.contiguous() for k, v in fresh.module.state_dict().items()}, folder / "open_clip_model.safetensors")
    return folder
