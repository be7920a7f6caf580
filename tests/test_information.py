"""The person's door to usable information: the Python function and the command line."""

import json
import math

import numpy as np
import pytest
from conftest import coco_folder

from attention_collapse import AttentionCollapseError, Information, usable_information
from attention_collapse.cli import main
from attention_collapse.files import read_json
from attention_collapse.models import load
from attention_collapse.models.spec import ModelSpec

N = 80


@pytest.fixture
def xor(tmp_path):
    """A file of features and one of labels, each also naming what the other lacks; the label is an exclusive or."""
    rng = np.random.default_rng(0)
    a, b = np.arange(N) % 2, np.arange(N) // 2 % 2
    ids = np.append(rng.permutation(np.arange(100, 100 + N)), 7)
    image, text = (np.append(2.0 * bit - 1 + 0.05 * rng.normal(size=N), 0)[:, None] for bit in (a, b))
    np.savez(tmp_path / "features.npz", image_id=ids, image=image, text=text)
    rows = [f"{i},{'odd' if label else 'even'}" for i, label in zip(ids, a ^ b, strict=False)]
    (tmp_path / "labels.csv").write_text("\n".join(["image_id,label", *rows, "8,odd"]))
    return tmp_path


def test_the_function_and_the_command_give_the_same_of_features(xor, capsys):
    features, labels, out = (xor / name for name in ("features.npz", "labels.csv", "result.json"))
    result = usable_information(labels, features=features, folds=3, out=out)
    first = out.read_bytes()
    command = ["information", "--labels", str(labels), "--features", str(features), "--folds", "3"]
    assert main([*command, "--out", str(out)]) == 0 and out.read_bytes() == first
    assert isinstance(result, Information) and result.classes == {"even": N // 2, "odd": N // 2}
    found = result["usable_information_image"]
    assert found.mean == pytest.approx(math.log(2), abs=0.05) and found.interval[0] < found.mean < found.interval[1]
    assert found.interval[0] > 0.6 and found.n == N == result.n_images
    alone = result["usable_information_image_alone"]
    assert alone.mean < 0.05 and result.chosen["both"] == {"image and text, degree 2": 3}
    data = read_json(out)
    assert data["skipped"] == [
        {"kind": "label", "id": "8", "reason": f"{features} has no such usable image"},
        {"kind": "image", "id": "7", "reason": "it has no label"},
    ]
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False)) == result.to_dict() and data["schema"] == 2
    table = result.table()
    assert table.loc["label_entropy", "unit"] == "nats" and set(table.index) == set(result.estimates)
    printed = capsys.readouterr().out
    assert (
        f"{N} images of 2 classes (even {N // 2}, odd {N // 2})" in printed and "skipped: 1 label, 1 image" in printed
    )
    assert f"{found.mean:.4f}   95% CI" in printed and "skipped image 7: it has no label" in printed
    assert "the image tells of the label what the text does not" in printed and "sees both: image and text" in printed


def test_the_order_of_the_rows_does_not_matter(xor):
    arrays = dict(np.load(xor / "features.npz"))
    back = {name: array[::-1] for name, array in arrays.items()}
    one, other = (usable_information(xor / "labels.csv", features=f, folds=2) for f in (arrays, back))
    assert one.estimates == other.estimates


def test_where_nothing_differs_there_is_no_interval_and_it_says_why(xor):
    """The label is the text's sign, and the image a copy of nothing: what may see both sees the text alone."""
    arrays = dict(np.load(xor / "features.npz"))
    text = arrays["text"][:, 0]
    labels = {int(i): "up" if x > 0 else "down" for i, x in zip(arrays["image_id"][:N], text, strict=False)}
    noise = np.random.default_rng(5).normal(size=(N + 1, 1))
    result = usable_information(labels, features=arrays | {"image": noise}, folds=2)
    found = result["usable_information_image"]
    assert result.chosen["both"] == result.chosen["text"]
    assert found.mean == 0 and found.interval is None and found.reason == "no variance"
    assert "the image beyond the text: 0.0000 nats; there is no interval (no variance)" in result.text()
    assert "the text tells of the label what the image does not" in result.text()


def test_a_dual_encoder_gives_its_embeddings(tmp_path, tiny_openclip, monkeypatch):
    from attention_collapse.engine import information

    folder = coco_folder(tmp_path / "pairs", n=16, captions=2)
    (folder / "val2017" / "000000000002.jpg").write_bytes(b"")
    labels = {i: "ab"[i % 2] for i in range(1, 16)} | {99: "a"}
    kept = []
    real = information.embeddings
    monkeypatch.setattr(information, "embeddings", lambda *a, **k: kept.append(real(*a, **k)) or kept[-1])
    result = usable_information(labels, model=str(tiny_openclip), pairs=folder, folds=2, batch_size=4)
    reasons = {(item["kind"], item["id"]): item["reason"] for item in result.skipped}
    assert reasons == {("image", "2"): "file is empty (0 bytes): 000000000002.jpg", ("image", "16"): "it has no label",
                       ("label", "2"): f"{folder} has no such usable image",
                       ("label", "99"): f"{folder} has no such usable image"}  # fmt: skip
    assert result.n_images == 14 and result.weights["untrained"] is False
    model = load("x", ModelSpec(kind="openclip", weights="checkpoint", path=str(tiny_openclip)))
    [(images, texts)] = kept
    captions = [f"picture {i} of two red circles" for i in (1, *range(3, 17))]
    expected = model.embed(model.texts(captions)).embedding.detach().numpy()
    assert images.shape == texts.shape == expected.shape == (15, expected.shape[1])
    np.testing.assert_allclose(texts, expected, atol=1e-5)
    np.testing.assert_allclose((images**2).sum(1), 1, atol=1e-5)
    with pytest.raises(AttentionCollapseError, match="file is empty"):
        usable_information(labels, model=str(tiny_openclip), pairs=folder, folds=2, strict=True)


def test_pairs_of_any_format_are_read_as_they_are(tmp_path, tiny_openclip):
    """A table whose columns nobody knows gives what the folder of the same images gives."""
    folder = coco_folder(tmp_path / "pairs", n=12, captions=1)
    rows = [f"{i},{i:012d}.jpg,picture {i} of two red circles" for i in range(1, 13)]
    (tmp_path / "table.csv").write_text("\n".join(["image_id,where,what", *rows]) + "\n")
    labels = {i: "ab"[i % 2] for i in range(1, 13)}
    given = {"model": str(tiny_openclip), "folds": 2, "components": 2}
    one = usable_information(labels, pairs=folder, split="val2017", **given)
    columns = {"image": "where", "caption": "what"}
    two = usable_information(
        labels, pairs=tmp_path / "table.csv", columns=columns, images=folder / "val2017", **given
    )  # fmt: skip
    assert one.n_images == two.n_images == 12
    assert {k: v.mean for k, v in one.estimates.items()} == {k: v.mean for k, v in two.estimates.items()}
    with pytest.raises(AttentionCollapseError, match="no split 'train2017'"):
        usable_information(labels, pairs=folder, split="train2017", **given)


def test_a_model_without_an_embedding_of_each_modality_alone_is_refused(tmp_path, capsys):
    folder = coco_folder(tmp_path / "pairs", n=4)
    (tmp_path / "labels.json").write_text('{"1": "a"}')
    command = ["information", "--kind", "scorer", "--model", "examples.scorer:score", "--pairs", str(folder)]
    assert main([*command, "--labels", str(tmp_path / "labels.json")]) == 1
    error = capsys.readouterr().err
    assert "gives no embedding of each modality alone" in error and "--features" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no source of features given"),
        (["--model", "openclip-scenes"], "model given"),
        (["--features", "features.npz", "--pairs", "."], "pairs, features given"),
        (["--features", "features.npz", "--folds", "1"], "folds is 1"),
        (["--features", "features.npz", "--folds", "50"], "2 of 2 classes have too few examples: 'even' 40, 'odd' 40"),
        (["--features", "features.npz", "--strict"], "80 labelled images, 2 without counterpart"),
        (["--features", "features.npz", "--out", "."], "which cannot be written"),
        (["--features", "labels.csv"], "cannot be read as .npz"),
        (["--features", "features.npz", "--seed", "4294967296"], "seed is 4294967296"),
    ],
)
def test_a_users_mistake_is_a_message_not_a_traceback(xor, arguments, message, capsys, monkeypatch):
    monkeypatch.chdir(xor)
    assert main(["information", "--labels", "labels.csv", *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error and "expected:" in error and "what to do:" in error and "Traceback" not in error
