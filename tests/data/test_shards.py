"""Webdataset shards: what a sample is, what an archive may not do, and archives that are not whole."""

import io
import tarfile

import pytest
from formats import CAPTIONS, add, picture, shard

from attention_collapse.data.formats import shards as module
from attention_collapse.data.source import read_pairs
from attention_collapse.errors import DataError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ATTENTION_COLLAPSE_CACHE", str(tmp_path / "cache"))


def png(number=0):
    buffer = io.BytesIO()
    picture(number).save(buffer, "PNG")
    return buffer.getvalue()


def archive(path, members):
    with tarfile.open(path, "w") as tar:
        for name, data, *fields in members:
            add(tar, name, data, **(fields[0] if fields else {}))
    return path


SAMPLE = [("good.png", png()), ("good.txt", b"a caption\n")]


@pytest.mark.parametrize(
    ("members", "identity", "reason"),
    [
        ([("l.png", b"", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"})], "l.png", "a symbolic link"),
        ([("l.png", b"", {"type": tarfile.LNKTYPE, "linkname": "good.png"})], "l.png", "a hard link"),
        ([("d.png", b"", {"type": tarfile.CHRTYPE})], "d.png", "a device"),
        ([("f.png", b"", {"type": tarfile.FIFOTYPE})], "f.png", "a named pipe"),
        ([("../out.png", png()), ("../out.txt", b"x")], "../out.png", "not a plain path inside the archive"),
        ([("/out.png", png()), ("/out.txt", b"x")], "/out.png", "not a plain path inside the archive"),
        ([("a\\..\\out.png", png())], "a\\..\\out.png", "not a plain path inside the archive"),
        ([("good.png", png(1))], "good.png", "its name stands twice"),
        ([("a.png", png())], "a", "no caption (.txt or .json)"),
        ([("a.txt", b"x")], "a", "no image"),
        ([("a.png", png()), ("a.jpg", b""), ("a.txt", b"x")], "a", "2 images: a.png, a.jpg"),
        ([("a.png", png()), ("a.txt", "café".encode("latin-1"))], "a", "its text is not UTF-8"),
        ([("a.png", png()), ("a.txt", b" \n")], "a", "the caption of s/a.png is empty"),
        ([("a.png", png()), ("a.json", b"{")], "a", "its .json is not JSON"),
        ([("a.png", png()), ("a.json", b"[1]")], "a", "its .json is no object"),
        ([("a.png", png()), ("a.json", b'{"words": "x"}')], "a", "no caption in words (--columns caption=KEY)"),
        ([("a.png", png()), ("a.json", b'{"text": "x", "title": "y"}')], "a", "several keys could be the caption"),
        ([("a.png", b""), ("a.txt", b"x")], "", "file is empty"),
        ([("a.png", b"no picture"), ("a.txt", b"x")], "", "cannot be decoded"),
    ],
)
def test_what_cannot_be_used_is_named_and_the_rest_is_read(members, identity, reason, tmp_path):
    path = archive(tmp_path / "s.tar", [*SAMPLE, *members])
    read = read_pairs(path)
    assert [p.entry.captions for p in read.pairs] == [("a caption",)]
    assert any(reason in item.reason and (not identity or item.id == f"s.tar: {identity}") for item in read.skipped)
    assert not list(tmp_path.glob("out*")) and not list(tmp_path.parent.glob("out*"))
    with pytest.raises(DataError, match="no skipped item under --strict"):
        read_pairs(path, strict=True)


def test_a_key_of_json_may_be_named_and_folders_keep_samples_apart(tmp_path):
    path = archive(tmp_path / "s.tar", [
        ("x/1.png", png(0)), ("x/1.json", b'{"words": ["one", "two"]}'), ("y/1.png", png(1)),
        ("y/1.json", b'{"words": "z"}'), ("y/._1.png", b"junk"), ("y/1.cls", b"3"),
    ])  # fmt: skip
    read = read_pairs(path, columns="caption=words", strict=True)
    assert {p.entry.file_name: p.entry.captions for p in read.pairs} == {
        "s/x/1.png": ("one", "two"),
        "s/y/1.png": ("z",),
    }
    assert any("not read: .cls (1), .png (1)" in note for note in read.notes)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_an_archive_that_was_cut_short_is_named_wherever_it_was_cut(mode, tmp_path):
    whole = shard(tmp_path / "s.tar", range(4), mode).read_bytes()
    assert len(read_pairs(tmp_path / "s.tar", strict=True).pairs) == 4
    end = len(whole) - 10_240 if mode == "w" else len(whole) - 8
    cuts = [1, 100, 511, 512, 513, 2000, *range(3000, end, 1500), end]
    for cut in cuts:
        (tmp_path / "s.tar").write_bytes(whole[:cut])
        try:
            read = read_pairs(tmp_path / "s.tar")
        except DataError as error:
            assert "damaged or cut short" in error.got, cut
            continue
        assert all(p.entry.captions in CAPTIONS for p in read.pairs) and len(read.pairs) <= 4
        assert any(item.id == "s.tar" and "cut short" in item.reason for item in read.skipped), cut


def test_empty_damaged_and_other_files_are_said(tmp_path):
    for content, reason in ((b"", "the archive is empty"), (b"no tar " * 200, "damaged or cut short")):
        (tmp_path / "s.tar").write_bytes(content)
        with pytest.raises(DataError, match=reason):
            read_pairs(tmp_path / "s.tar")
    bad = bytearray(shard(tmp_path / "s.tar", range(4)).read_bytes())
    with tarfile.open(tmp_path / "s.tar") as tar:
        offset = tar.getmembers()[6].offset
    bad[offset : offset + 200] = b"\xff" * 200  # the header of a sample in the middle
    (tmp_path / "s.tar").write_bytes(bad)
    read = read_pairs(tmp_path / "s.tar")
    assert len(read.pairs) == 2 and "damaged" in read.skipped[0].reason


def test_patterns_name_their_shards_and_the_absent_ones(tmp_path):
    for name in ("a-08", "a-09", "a-10", "b-1"):
        shard(tmp_path / f"{name}.tar", [0])
    names = lambda pattern: [p.name for p in module.shards_of(f"{tmp_path}/{pattern}")]  # noqa: E731
    assert names("a-{08..10}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar"]
    assert names("{a-08,b-1}.tar") == ["a-08.tar", "b-1.tar"] and names("a-*.tar") == names("a-{08..10}.tar")
    assert names("{a,b}-*.tar") == ["a-08.tar", "a-09.tar", "a-10.tar", "b-1.tar"]
    with pytest.raises(DataError, match=r"no such file: .*a-07\.tar"):
        read_pairs(f"{tmp_path}/a-{{07..10}}.tar")
    with pytest.raises(DataError, match="no file matches"):
        read_pairs(f"{tmp_path}/c-*.tar")
    with pytest.raises(DataError, match="more than 100,000 files"):
        read_pairs(f"{tmp_path}/{{0..99999999}}.tar")


def test_only_the_chosen_images_are_unpacked_and_a_damaged_cache_is_mended(tmp_path):
    path = shard(tmp_path / "s.tar", range(5))
    read = read_pairs(path, n=2)
    blobs = [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    assert len(blobs) == 2 and {p.path for p in read.pairs} == set(blobs)
    blobs[0].write_bytes(b"x")
    assert read_pairs(path, n=2).pairs == read.pairs


def test_a_cache_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("ATTENTION_COLLAPSE_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="cannot be written"):
        read_pairs(shard(tmp_path / "s.tar", [0]))


def test_one_name_in_two_shards_is_two_images(tmp_path):
    for folder, number in (("x", 0), ("y", 1)):
        (tmp_path / folder).mkdir()
        archive(tmp_path / folder / "0.tar", [("1.png", png(number)), ("1.txt", f"number {number}".encode())])
    read = read_pairs(f"{tmp_path}/*/0.tar", strict=True)
    assert {p.entry.file_name: p.entry.captions[0] for p in read.pairs} == {
        "x/0/1.png": "number 0", "y/0/1.png": "number 1",
    }  # fmt: skip
