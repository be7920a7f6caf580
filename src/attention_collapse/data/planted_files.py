"""Labelled pairs of scenes as files, in COCO's layout with a label to each annotation."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from attention_collapse.data.planted import Regime, draw_pairs, mark, pictures
from attention_collapse.data.scenes import LICENSE, SIZE
from attention_collapse.errors import DataError
from attention_collapse.files import json_text, read_json, whole_file, write_text

SPLIT = "planted"


def write_planted(out: Path, n: int, seed: int, regime: Regime) -> Path:
    """Render `n` held-out labelled pairs into a COCO-layout folder; return its annotation file.

    Each image has one caption, whose annotation also holds `label` (1: match), `altered` (what
    it gets wrong), `text_cue` and `image_cue` (0 or 1). PNGs are stored uncompressed, so that
    they are the same bytes everywhere.

    Examples
    --------
    >>> import tempfile

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = write_planted(Path(folder), 2, 0, Regime())
    ...     sorted(path.name for path in Path(folder, SPLIT).iterdir())
    ['000000000001.png', '000000000002.png']
    """
    pairs = draw_pairs(n, seed, regime, held_out=True)
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for number, (pair, pixels) in enumerate(zip(pairs, pictures([p.scene for p in pairs], seed), strict=True), start=1):
        name = f"{number:012d}.png"
        with whole_file(out / SPLIT / name) as temporary:
            Image.fromarray(mark(pixels, pair.image_cue)).save(temporary, format="PNG", compress_level=0)
        images.append({"id": number, "file_name": name, "width": SIZE, "height": SIZE, "license": 1})
        annotations.append({
            "id": number, "image_id": number, "caption": pair.words, "label": int(pair.label),
            "altered": pair.altered, "text_cue": int(pair.text_cue), "image_cue": int(pair.image_cue),
        })  # fmt: skip
    file = out / "annotations" / f"captions_{SPLIT}.json"
    licenses = [{"id": 1, "url": LICENSE, "name": "CC0 1.0"}]
    write_text(file, json_text({"images": images, "annotations": annotations, "licenses": licenses}))
    return file


def labels_of(annotations: Path) -> dict[int, bool]:
    """image id -> label, of a folder that `write_planted` wrote; DataError where an annotation has none.

    Examples
    --------
    >>> import tempfile

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     labels_of(write_planted(Path(folder), 2, 0, Regime()))
    {1: True, 2: False}
    """
    items = read_json(annotations)["annotations"]
    if missing := [item["image_id"] for item in items if item.get("label") not in (0, 1)]:
        raise DataError(
            f"{annotations}: no label for image {missing[0]}", expected="label: 0 or 1 in every annotation",
            remedy="run `dvc repro` to render the pairs anew",
        )  # fmt: skip
    return {int(item["image_id"]): bool(item["label"]) for item in items}
