"""Downloads from a real HTTP server on this machine, failures included."""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile

import pytest
from http_server import serve_coco

from attention_collapse.data.coco import read_entries
from attention_collapse.data.download import ANNOTATIONS_MEMBER, Fetcher, GoneError
from attention_collapse.data.entries import Entry
from attention_collapse.errors import DownloadError
from attention_collapse.files import sha256_bytes

BODY = bytes(range(256)) * 2000  # 512,000 bytes


def fetcher(tmp_path, **options):
    return Fetcher(tmp_path / "cache", **({"retries": 2, "backoff": 0.0, "timeout": 5.0} | options))


def test_a_file_is_stored_by_its_content_and_fetched_once(server, tmp_path):
    server.files["/a"] = BODY
    path = fetcher(tmp_path).fetch(f"{server.url}/a")
    assert path.read_bytes() == BODY and path.name == hashlib.sha256(BODY).hexdigest()
    assert fetcher(tmp_path).fetch(f"{server.url}/a") == path and len(server.requests) == 1


def test_a_cut_connection_is_resumed(server, tmp_path):
    server.files["/a"], server.faults["/a"] = BODY, [200_000, 100_000]
    assert fetcher(tmp_path).fetch(f"{server.url}/a").read_bytes() == BODY
    assert server.requests[0][1] is None and len(server.requests) == 3
    assert all(r and r.startswith("bytes=") and r != "bytes=0-" for _, r in server.requests[1:])


def test_two_versions_of_a_file_are_never_spliced(server, tmp_path):
    server.files["/a"], server.faults["/a"] = BODY, [100_000] * 3
    with pytest.raises(DownloadError):
        fetcher(tmp_path).fetch(f"{server.url}/a")
    server.files["/a"] = BODY[::-1]
    assert fetcher(tmp_path).fetch(f"{server.url}/a").read_bytes() == BODY[::-1]


def test_a_connection_that_is_always_cut_keeps_what_came(server, tmp_path):
    server.files["/a"], server.faults["/a"] = BODY, [100_000] * 3
    with pytest.raises(DownloadError, match="run the same command again"):
        fetcher(tmp_path).fetch(f"{server.url}/a")
    assert fetcher(tmp_path).fetch(f"{server.url}/a").read_bytes() == BODY
    assert int(server.requests[-1][1].removeprefix("bytes=").rstrip("-")) > 150_000


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_passing_server_error_is_tried_again_within_bounds(server, tmp_path, status):
    server.files["/a"], server.faults["/a"] = BODY, [status, status]
    assert fetcher(tmp_path).fetch(f"{server.url}/a").read_bytes() == BODY
    server.files["/b"], server.faults["/b"] = BODY, [status] * 100
    before = len(server.requests)
    with pytest.raises(DownloadError, match=f"HTTP {status}"):
        fetcher(tmp_path).fetch(f"{server.url}/b")
    assert len(server.requests) - before == 3


def test_404_is_final_and_asked_once(server, tmp_path):
    with pytest.raises(GoneError, match="HTTP 404"):
        fetcher(tmp_path).fetch(f"{server.url}/none")
    assert len(server.requests) == 1


def test_no_network(tmp_path):
    with pytest.raises(DownloadError, match="check the connection"):
        fetcher(tmp_path, retries=1).fetch("http://127.0.0.1:9/a")


def test_a_wrong_hash_is_refused_and_not_kept(server, tmp_path):
    server.files["/a"] = BODY
    with pytest.raises(DownloadError, match=f"sha256 {sha256_bytes(BODY)}(.|\n)*{'0' * 64}"):
        fetcher(tmp_path).fetch(f"{server.url}/a", "0" * 64)
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]


def test_a_blob_damaged_on_disk_is_fetched_again(server, tmp_path):
    server.files["/a"] = BODY
    path = fetcher(tmp_path).fetch(f"{server.url}/a")
    path.write_bytes(b"damaged")
    assert fetcher(tmp_path).fetch(f"{server.url}/a").read_bytes() == BODY


def test_kill_in_the_middle_of_a_download(server, tmp_path):
    server.files["/a"], server.delay = BODY * 4, 0.1
    code = (
        "from pathlib import Path; from attention_collapse.data.download import Fetcher; "
        f"Fetcher(Path({str(tmp_path / 'cache')!r})).fetch({server.url + '/a'!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    partial = tmp_path / "cache" / "partial"
    deadline = time.monotonic() + 60
    while not (partial.is_dir() and any(p.stat().st_size > 100_000 for p in partial.iterdir())):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    server.delay = 0.0
    assert fetcher(tmp_path).fetch(f"{server.url}/a").read_bytes() == BODY * 4
    assert int(server.requests[-1][1].removeprefix("bytes=").rstrip("-")) > 100_000


def zipped(member=ANNOTATIONS_MEMBER, content=b'{"images": 1}'):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(member, content)
    return buffer.getvalue()


def test_annotations_come_from_a_zip_or_as_they_are(server, tmp_path):
    server.files |= {"/a.zip": zipped(), "/a.json": b'{"images": 2}', "/b.zip": zipped("other.json")}
    get = fetcher(tmp_path).fetch_annotations
    assert json.loads(get(f"{server.url}/a.zip").read_text()) == {"images": 1}
    assert json.loads(get(f"{server.url}/a.json").read_text()) == {"images": 2}
    with pytest.raises(DownloadError, match="captions_val2017"):
        get(f"{server.url}/b.zip")
    with pytest.raises(DownloadError, match="pinned in the manifest"):
        get(f"{server.url}/a.zip", "0" * 64)


def test_images_that_are_gone_are_listed_and_pinned_ones_must_come(server, tmp_path):
    entries, _ = read_entries(serve_coco(server, tmp_path / "coco"))
    del server.files["/val2017/000000000002.jpg"]
    paths, gone = fetcher(tmp_path).fetch_images(entries, {})
    assert sorted(paths) == [1, 3, 4, 5] and [(g.id, "HTTP 404" in g.reason) for g in gone] == [("2", True)]
    with pytest.raises(GoneError):
        fetcher(tmp_path).fetch_images(entries, {2: "0" * 64})
    with pytest.raises(DownloadError, match="pinned in the manifest"):
        fetcher(tmp_path).fetch_images(entries, {3: "0" * 64})


def test_an_entry_without_url_is_listed(tmp_path):
    entry = Entry(1, "a.jpg", None, None, (1,), ("a",))
    assert "no coco_url" in fetcher(tmp_path).fetch_images([entry], {})[1][0].reason
