"""One picture under several ids, or a caption that several pictures share."""

import shutil

import numpy as np
import pytest
from conftest import coco_folder, write_annotations
from PIL import Image, ImageFilter

from attention_collapse.data.coco import find_annotations
from attention_collapse.data.pairs import table
from attention_collapse.data.source import read_pairs
from attention_collapse.engine.alike import n_alike, same_pairs
from attention_collapse.errors import DataError
from attention_collapse.files import read_json


def smooth(seed):
    """A picture with large shapes, as photographs have."""
    noise = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((320, 240), Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(3))


@pytest.fixture
def source(tmp_path):
    """Three pictures, the first of them four times: the file, stored without loss, with loss, and smaller."""
    for seed in range(3):
        smooth(seed).save(tmp_path / f"{seed}.png")
    shutil.copy(tmp_path / "0.png", tmp_path / "file.png")
    smooth(0).save(tmp_path / "lossless.bmp")
    smooth(0).save(tmp_path / "lossy.jpg", quality=70)
    smooth(0).resize((160, 120)).save(tmp_path / "small.png")
    names = ["0.png", "1.png", "2.png", "file.png", "lossless.bmp", "lossy.jpg", "small.png"]
    rows = "".join(f"{number},{name},words number {number}\n" for number, name in enumerate(names, start=1))
    (tmp_path / "a.csv").write_text("image_id,image,caption\n" + rows)
    return tmp_path / "a.csv"


def test_a_picture_counts_once_and_its_copies_are_named(source):
    read = read_pairs(source)
    assert [pair.entry.image_id for pair in read.pairs] == [1, 2, 3, 6, 7]
    assert [(item.kind, item.id) for item in read.skipped] == [("image", "4"), ("image", "5")]
    assert read.skipped[0].reason == "file.png is the same file as image 1 (0.png), which counts once"
    assert read.skipped[1].reason.startswith("lossless.bmp is the same pixels in another file as image 1")
    assert "images that look the same, and count each: 1 and 6, 1 and 7, 6 and 7" in read.notes
    with pytest.raises(DataError, match="2 items skipped"):
        read_pairs(source, strict=True)


def test_pictures_that_show_nothing_or_stand_for_each_other_are_not_called_alike(tmp_path):
    for number, shade in enumerate((100, 102, 104)):
        Image.new("RGB", (40, 30), (shade, shade, shade)).save(tmp_path / f"{number}.png")
    (tmp_path / "a.csv").write_text("image,caption\n0.png,x\n1.png,y\n2.png,z\n")
    read = read_pairs(tmp_path / "a.csv", strict=True)
    assert len(read.pairs) == 3 and not any("look the same" in note for note in read.notes)


def test_photographs_are_not_called_alike(coco_sample):
    read = read_pairs(coco_sample, strict=True)
    assert len(read.pairs) == 80 and not any("look the same" in note for note in read.notes)


def test_a_copy_takes_its_partner_with_it(tmp_path):
    root = coco_folder(tmp_path, n=3)
    data = read_json(find_annotations(root))
    data["images"][0]["partner"] = 2
    write_annotations(root, data)
    shutil.copy(root / "val2017" / f"{1:012d}.jpg", root / "val2017" / f"{2:012d}.jpg")
    read = read_pairs(root)
    assert [item.kind for item in read.skipped] == ["image", "partner"] and read.pairs[0].entry.partner is None


def test_a_pair_whose_first_caption_is_any_of_anothers_never_stands_for_it(tmp_path):
    root = coco_folder(tmp_path, n=4)
    data = read_json(find_annotations(root))
    data["annotations"][3]["caption"] = data["annotations"][0]["caption"].upper()  # the second one of image 2
    data["annotations"][7]["caption"] = data["annotations"][5]["caption"]  # two that no measure takes
    write_annotations(root, data)
    same = same_pairs(table(read_pairs(root).pairs, "here"))
    assert same[0] == same[1] and len(set(same)) == 3 and n_alike(same) == 2
