"""The same pairs in every format that is read: five pictures with two captions each, written as people have them."""

import csv
import gzip
import io
import json
import tarfile

import numpy as np
from PIL import Image

N = 5
NAMES = [f"a picture {i}, é.png" for i in range(N)]  # a space, a comma, a letter beyond ASCII
CAPTIONS = [(f'A red "ring", number {i}', f"two blue circles; the {i}th") for i in range(N)]
ROWS = [(name, text) for name, texts in zip(NAMES, CAPTIONS, strict=True) for text in texts]


def picture(number):
    """Noise, a different one for each number."""
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (30, 40, 3), dtype=np.uint8))


def pictures(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(NAMES):
        picture(number).save(folder / name)
    return folder


def write(path, text, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path


def table(delimiter=",", header=("image", "caption"), rows=ROWS, end="\r\n"):
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator=end)
    writer.writerows([header, *rows] if header else rows)
    return buffer.getvalue()


def csv_table(root):
    pictures(root)
    return write(root / "pairs.csv", table()), {}, "CSV table"


def csv_in_utf_16_with_semicolons(root):
    pictures(root / "images")
    return write(root / "pairs.csv", table(";", ("filepath", "title")), "utf-16"), {}, "CSV table with ';'"


def tsv_without_header(root):
    pictures(root / "elsewhere")
    options = {"columns": "image=1,caption=2", "images": root / "elsewhere"}
    return write(root / "pairs.tsv", table("\t", None)), options, "TSV table"


def csv_with_a_column_per_caption(root):
    pictures(root)
    rows = [(*texts, name) for name, texts in zip(NAMES, CAPTIONS, strict=True)]
    return write(root / "pairs.csv", table(",", ("caption_0", "caption_1", "file"), rows)), {}, "CSV table"


def csv_with_lists(root):
    pictures(root)
    rows = [(name, json.dumps(texts) if i % 2 else repr(list(texts)), "test") for i, (name, texts) in enumerate(
        zip(NAMES, CAPTIONS, strict=True))]  # fmt: skip
    return write(root / "x.csv", table(",", ("filename", "raw", "split"), rows)), {"split": "test"}, "CSV table"


def json_lines_in_gzip(root):
    pictures(root)
    lines = "\n".join(json.dumps({"path": name, "text": text}) for name, text in ROWS)
    return write(root / "pairs.jsonl.gz", gzip.compress(lines.encode())), {}, "JSON Lines"


def json_list(root):
    pictures(root)
    records = [{"image": name, "captions": texts} for name, texts in zip(NAMES, CAPTIONS, strict=True)]
    return write(root / "pairs.json", json.dumps(records), "utf-8-sig"), {}, "JSON list"


def json_columns(root):
    pictures(root)
    columns = {"file_name": [name for name, _ in ROWS], "caption": [text for _, text in ROWS]}
    return write(root / "pairs.json", json.dumps(columns)), {}, "JSON columns"


def json_object(root):
    pictures(root)
    return write(root / "pairs.json", json.dumps(dict(zip(NAMES, CAPTIONS, strict=True)))), {}, "JSON object"


def flickr_token(root):
    pictures(root / "flickr30k-images")
    lines = [f"{name}#{number}\t{text}" for name, texts in zip(NAMES, CAPTIONS, strict=True)
             for number, text in enumerate(texts)]  # fmt: skip
    return write(root / "results_20130124.token", "\n".join(lines)), {}, "Flickr's token file"


def flickr_captions(root):
    pictures(root / "Images")
    return write(root / "captions.txt", table()).parent, {}, "CSV table"


def flickr_results(root):
    pictures(root)
    rows = [f"{name}| {number}| {text}" for name, texts in zip(NAMES, CAPTIONS, strict=True)
            for number, text in enumerate(texts)]  # fmt: skip
    text = "\n".join(["image_name| comment_number| comment", *rows]).replace('"', "”")
    return write(root / "results.csv", text), {}, "CSV table with '|'"


def karpathy(root, split="test"):
    pictures(root / "val2014")
    images = [
        {"filepath": "val2014", "filename": name, "cocoid": 100 + i, "imgid": i, "split": split,
         "sentences": [{"raw": text, "sentid": 10 * i + k, "imgid": i} for k, text in enumerate(texts)]}
        for i, (name, texts) in enumerate(zip(NAMES, CAPTIONS, strict=True))
    ]  # fmt: skip
    images.append(images[0] | {"split": "train", "cocoid": 99})
    return write(root / "dataset_coco.json", json.dumps({"dataset": "coco", "images": images})), {"split": split}, "Kar"


def coco(names=NAMES):
    """COCO's captions of the pairs, as its own files hold them."""
    return {
        "images": [{"id": i, "file_name": name} for i, name in enumerate(names)],
        "annotations": [
            {"id": 10 * i + k, "image_id": i, "caption": text} for i in range(N) for k, text in enumerate(CAPTIONS[i])
        ],
    }


def coco_download(root):
    """Both splits in one folder, with the other annotations that come with them."""
    pictures(root / "val2017")
    for name, data in (("captions_train2017", coco()), ("captions_val2017", coco()), ("instances_val2017", {})):
        write(root / "annotations" / f"{name}.json", json.dumps(data))
    return root, {"split": "val2017"}, "COCO layout"


def coco_file(root):
    pictures(root / "pictures")
    return write(root / "captions_x.json", json.dumps(coco())), {"images": root / "pictures"}, "COCO captions"


def imagefolder(root):
    pictures(root / "train")
    lines = "\n".join(json.dumps({"file_name": name, "text": text, "path": "not this"}) for name, text in ROWS)
    write(root / "train" / "metadata.jsonl", lines)
    write(root / "test" / "metadata.jsonl", lines)
    return root, {"split": "train"}, "imagefolder with metadata.jsonl"


def imagefolder_csv(root):
    pictures(root / "images")
    rows = [(f"images/{name}", text) for name, text in ROWS]
    write(root / "metadata.csv", table(",", ("file_name", "caption"), rows))
    return root, {}, "imagefolder with metadata.csv"


def dataset(root, embedded=False):
    """A `datasets.Dataset` with a row per caption or per image; with the images' bytes, or their paths."""
    from datasets import Dataset, Features, Image, List, Value

    folder = pictures(root / "source")
    if embedded:
        rows = [{"image": {"bytes": (folder / name).read_bytes(), "path": None}, "text": text} for name, text in ROWS]
        return Dataset.from_list(rows, Features({"image": Image(), "text": Value("string")}))
    rows = [{"photo": str(folder / name), "captions": list(t)} for name, t in zip(NAMES, CAPTIONS, strict=True)]
    return Dataset.from_list(rows, Features({"photo": Image(), "captions": List(Value("string"))}))


def datasets_object(root):
    return dataset(root), {}, "datasets table"


def datasets_dict(root):
    from datasets import DatasetDict

    return DatasetDict(test=dataset(root, True), train=dataset(root, True)), {"split": "test"}, "datasets table"


def saved_dataset(root):
    dataset(root).select([4, 2, 0, 1, 3]).save_to_disk(str(root / "saved"))  # rows through an index
    return root / "saved", {}, "datasets table"


def parquet(root):
    dataset(root, True).to_parquet(str(root / "hub" / "data" / "train-00000-of-00001.parquet"))
    return root / "hub", {}, "Parquet"


def parquet_of_bytes(root):
    import pandas as pd

    folder = pictures(root / "source")
    rows = [
        {"img": (folder / name).read_bytes(), "sentences": list(t)} for name, t in zip(NAMES, CAPTIONS, strict=True)
    ]
    pd.DataFrame(rows).to_parquet(root / "pairs.parquet")
    return root / "pairs.parquet", {}, "Parquet"


def data_frame(root):
    import pandas as pd

    return pd.DataFrame(ROWS, columns=["image", "caption"]), {"images": pictures(root)}, "records in memory"


def dataset_of_absolute_paths(root):
    from datasets import Dataset

    folder = pictures(root / "source")
    return Dataset.from_list([{"path": str(folder / n), "text": t} for n, t in ROWS]), {}, "datasets table"


def coco_in_an_images_folder(root):
    pictures(root / "images" / "val2017")
    write(root / "annotations" / "captions_val2017.json", json.dumps(coco()), "utf-8-sig")
    return root / "annotations", {}, "COCO layout"


def add(archive, name, data=b"", **fields):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for key, value in fields.items():
        setattr(member, key, value)
    archive.addfile(member, io.BytesIO(data))


def shard(path, numbers, mode="w", text=True):
    """A webdataset shard of some of the pairs, with .txt where there is one caption and .json where there are two."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for number in numbers:
            buffer = io.BytesIO()
            picture(number).save(buffer, "PNG")
            add(archive, f"./{number:06d}.png", buffer.getvalue())
            add(archive, f"./{number:06d}.json", json.dumps({"caption": CAPTIONS[number], "key": number}).encode())
            add(archive, f"./{number:06d}.cls", b"7")
    return path


def shards(root):
    shard(root / "shard-000.tar", (0, 1, 2))
    shard(root / "shard-001.tar.gz", (3, 4), "w:gz")
    return f"{root}/shard-00{{0.tar,1.tar.gz}}", {}, "webdataset"


def folder_of_shards(root):
    shard(root / "s" / "000.tar", (0, 1, 2))
    shard(root / "s" / "001.tar", (3, 4))
    return root / "s", {}, "webdataset"


FORMATS = (
    csv_table, csv_in_utf_16_with_semicolons, tsv_without_header, csv_with_a_column_per_caption, csv_with_lists,
    json_lines_in_gzip, json_list, json_columns, json_object, flickr_token, flickr_captions, flickr_results, karpathy,
    coco_download, coco_file, imagefolder, imagefolder_csv, datasets_object, datasets_dict, saved_dataset, parquet,
    parquet_of_bytes, data_frame, dataset_of_absolute_paths, coco_in_an_images_folder, shards, folder_of_shards,
)  # fmt: skip
