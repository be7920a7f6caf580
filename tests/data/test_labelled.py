"""Labels and features from files: what is read, what is left out and named, and what is an error."""

import json

import numpy as np
import pytest

from attention_collapse.data.entries import Skipped
from attention_collapse.data.labelled import matched, read_features, read_labels
from attention_collapse.errors import DataError


def written(folder, name, text):
    (folder / name).write_text(text, "utf-8")
    return folder / name


def test_a_table_an_object_and_a_mapping_say_the_same(tmp_path):
    table = written(tmp_path, "a.csv", "\ufeffnote,label,image_id\nx,cat,3\n,dog ,10\n,7,4\n,,5\n")
    same = {"3": "cat", "10": "dog", "4": 7, "5": ""}
    expected = {3: "cat", 10: "dog", 4: "7"}  # an empty label is none
    assert read_labels(table) == expected
    assert read_labels(written(tmp_path, "a.json", json.dumps(same))) == expected
    assert read_labels(same) == read_labels({3: "cat", 10: "dog", np.int64(4): np.int64(7)}) == expected


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "id,label\n1,cat\n", "its columns are id, label"),
        ("a.csv", "", "its columns are none"),
        ("a.csv", "image_id,label\n1,cat\n1,cat\n", "image 1 is labelled twice"),
        ("a.json", '{"1": "a", "01": "b"}', "image 1 is labelled twice"),
        ("a.json", '{"1": "a", "2": "b", "1": "b"}', "image 1 is labelled twice"),
        ("a.json", '{"1": "a", "1": "a"}', "image 1 is labelled twice"),
        ("a.csv", "image_id,label\n1,cat\n2,nan\n3,NaN\n", r"2 of 3 labels are 'nan'.*\(image 2, 3\)"),
        ("a.csv", "image_id,label\n" + "".join(f"{i},nan\n" for i in range(7)), "7 of 7 .*0, 1, 2, 3, 4 and 2 more"),
        ("a.json", '{"1": "<NA>", "2": "b"}', "1 of 2 labels are '<NA>'"),
        ("a.csv", "image_id,label\none.jpg,cat\n", "image 'one.jpg', label 'cat'"),
        ("a.json", '{"1": 0.5}', "image '1', label 0.5"),
        ("a.json", '{"1": true}', "label True"),
        ("a.json", '{"1": null}', "label None"),
        ("a.json", '["cat"]', "holds list, no object"),
        ("a.json", "{", "not JSON"),
        ("a.csv", 'image_id,label\n1,"cat', "cannot be read as CSV"),
    ],
)
def test_a_file_of_another_form_is_an_error_in_three_parts(tmp_path, name, text, message):
    with pytest.raises(DataError, match=message) as error:
        read_labels(written(tmp_path, name, text))
    assert "expected:" in str(error.value) and "what to do:" in str(error.value)


def test_an_absent_file_is_an_error(tmp_path):
    for name in ("a.csv", "a.json"):
        with pytest.raises(DataError, match=f"{name}: .*o such file"):
            read_labels(tmp_path / name)
    with pytest.raises(DataError, match=r"a.npz: cannot be read as .npz"):
        read_features(tmp_path / "a.npz")


def test_features_of_a_file_and_of_a_mapping(tmp_path):
    arrays = {"image_id": np.array([5, 2]), "image": np.eye(2), "text": np.ones((2, 3), np.float32)}
    np.savez(tmp_path / "a.npz", **arrays)
    for source in (arrays, tmp_path / "a.npz"):
        found = read_features(source)
        assert found.image_ids == (5, 2) and found.image.shape == (2, 2) and found.text.shape == (2, 3)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"text": None}, "absent: text"),
        ({"image": np.eye(3)}, r"image float64 \(3, 3\)"),
        ({"image_id": np.array([5, 5])}, "2 values, 1 different whole numbers"),
        ({"image_id": np.array([5, 2.5])}, "2 values, 0 different"),
        ({"image": np.array([["a"], ["b"]])}, "image <U1"),
        ({"text": np.eye(2) * 1j}, r"text complex128 \(2, 2\)"),
        ({"image": np.array([[{}], [{}]])}, "cannot be read|image object"),
    ],
)
@pytest.mark.parametrize("as_file", [True, False])
def test_features_of_another_form_are_an_error(tmp_path, changed, message, as_file):
    arrays = {"image_id": np.array([5, 2]), "image": np.eye(2), "text": np.eye(2)} | changed
    arrays = {name: array for name, array in arrays.items() if array is not None}
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message):
        read_features(tmp_path / "a.npz" if as_file else arrays)


def test_what_has_no_counterpart_is_named_and_strict_is_an_error():
    labels = {9: "cat", 1: "dog", 4: "cat"}
    chosen, skipped = matched(labels, [4, 2, 1], where="here", strict=False)
    assert chosen == [2, 0]  # in order of the ids: 1, 4
    assert skipped == [Skipped("label", "9", "here has no such usable image"), Skipped("image", "2", "it has no label")]
    with pytest.raises(DataError, match="2 labelled images, 2 without counterpart .label 9: here has no such"):
        matched(labels, [4, 2, 1], where="here", strict=True)
    assert matched(labels, [9, 4, 1], where="here", strict=True) == ([2, 1, 0], [])
    with pytest.raises(DataError, match="0 labelled images"):
        matched(labels, [2, 3], where="here", strict=False)
