"""Fetching files over HTTP into a content-addressed cache: resumable, bounded, checked.

    <cache>/sha256/ab/abcd…        the bytes, named by what they are
    <cache>/urls/<sha256 of url>   the content address last seen at a URL (a hint, never trusted over a pin)

The cache lies outside DVC: DVC's own `import-url` accepts other bytes under an unchanged ETag, and an https
dependency would break `dvc repro` without a network.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.util.retry import Retry

from attention_collapse.data.entries import Entry, Skipped
from attention_collapse.errors import DownloadError
from attention_collapse.files import sha256_bytes, sha256_file, whole_file, write_text

ANNOTATIONS_URL = "http://images.cocodataset.org/annotations/annotations_trainval2017.zip"
ANNOTATIONS_MEMBER = "annotations/captions_val2017.json"
CHUNK = 1 << 16
PIN = "#sha256="


def default_cache() -> Path:
    """`$ATTENTION_COLLAPSE_CACHE`, else the user's cache folder."""
    named = os.environ.get("ATTENTION_COLLAPSE_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return Path(named) if named else base / "attention_collapse"


def pinned_url(source: str) -> tuple[str, str | None]:
    """A URL and the hash that stands behind it, `URL#sha256=…` (as pip writes it); None where there is none.

    Examples
    --------
    >>> pinned_url("https://example.org/add_att.json#sha256=0a1b")
    ('https://example.org/add_att.json', '0a1b')
    """
    url, _, sha256 = source.partition(PIN)
    return url, sha256 or None


class GoneError(DownloadError):
    """The server says that the file is not there (HTTP 404 or 410): it will not come back by trying again."""


@dataclass(frozen=True)
class Fetcher:
    """Downloads into one cache folder.

    Parameters
    ----------
    cache
        Folder of the content-addressed cache.
    retries
        How often a failed connection or an HTTP 429/5xx is tried again, waiting 0.5, 1, 2 … seconds (`backoff`).
    timeout
        Seconds without a byte after which a connection counts as failed.
    """

    cache: Path
    retries: int = 4
    backoff: float = 0.5
    timeout: float = 30.0

    def _session(self) -> requests.Session:
        session = requests.Session()
        retry = Retry(
            total=self.retries,
            backoff_factor=self.backoff,
            status_forcelist=(429, 500, 502, 503, 504),
            allowed_methods=("GET",),
            raise_on_status=False,
        )
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=retry))
        return session

    def _blob(self, sha256: str) -> Path:
        return self.cache / "sha256" / sha256[:2] / sha256

    def _hint(self, url: str) -> Path:
        return self.cache / "urls" / sha256_bytes(url.encode())

    def _cached(self, url: str, sha256: str | None) -> Path | None:
        hint = self._hint(url)
        known = sha256 or (hint.read_text("utf-8").strip() if hint.is_file() else None)
        blob = self._blob(known) if known else None
        if blob and blob.is_file():
            if sha256_file(blob) == known:
                return blob
            blob.unlink()  # damaged on disk: fetch it again
        return None

    def fetch(self, url: str, sha256: str | None = None, *, progress: bool = False) -> Path:
        """Path of the file at `url`, from the cache if it is there; resumes a partial download.

        Raises
        ------
        GoneError
            HTTP 404 or 410.
        DownloadError
            No connection, another HTTP status, a body cut short after all retries, or bytes that do not have the
            pinned `sha256`. What arrived is kept for the next run, except bytes with a wrong hash.
        """
        if cached := self._cached(url, sha256):
            return cached
        partial = self.cache / "partial" / sha256_bytes(url.encode())
        partial.parent.mkdir(parents=True, exist_ok=True)
        problem: Exception | str = "no attempt was made"
        with self._session() as session:
            for _ in range(self.retries + 1):  # each attempt continues where a cut connection stopped
                try:
                    if self._attempt(session, url, partial, progress=progress):
                        break
                    problem = "the connection was cut before the whole body had come"
                except requests.RequestException as error:
                    problem = error
                    if isinstance(error, requests.ConnectionError | requests.Timeout) and not partial.exists():
                        raise self._failed(url, error) from None  # urllib3 has tried often enough
            else:
                raise self._failed(url, problem)
        return self._accept(url, partial, sha256)

    def _failed(self, url: str, problem: object) -> DownloadError:
        return DownloadError(
            f"{url}: {problem}",
            expected="the file to arrive over the network",
            remedy="check the connection and run the same command again; what has arrived is kept",
        )

    def _attempt(self, session: requests.Session, url: str, partial: Path, *, progress: bool) -> bool:
        """One request; True once the body is complete."""
        # Without a validator the server could have another version by now, and the two would be spliced.
        validator = partial.with_suffix(".etag")
        have = partial.stat().st_size if partial.is_file() and validator.is_file() else 0
        headers = {"Range": f"bytes={have}-", "If-Range": validator.read_text("utf-8")} if have else {}
        headers["Accept-Encoding"] = "identity"  # lengths must count the bytes that are hashed
        with session.get(url, headers=headers, stream=True, timeout=self.timeout) as response:
            if response.status_code in (404, 410):
                raise GoneError(
                    f"{url}: HTTP {response.status_code}",
                    expected="the file that the annotations name",
                    remedy="leave this image out (it is listed under `skipped`), or provide it in a local folder",
                )
            if response.status_code == 416:  # the partial file is already complete, or not of this file
                partial.unlink(missing_ok=True)
                return False
            if response.status_code not in (200, 206):
                raise self._failed(url, f"HTTP {response.status_code} after {self.retries} retries")
            resumed = response.status_code == 206
            if not resumed:
                mark = response.headers.get("ETag") or response.headers.get("Last-Modified")
                write_text(validator, mark) if mark else validator.unlink(missing_ok=True)
            length = response.headers.get("Content-Length")
            total = int(length) + (have if resumed else 0) if length else None
            with (
                partial.open("ab" if resumed else "wb") as stream,
                tqdm(
                    total=total, initial=have if resumed else 0, unit="B", unit_scale=True,
                    desc=url.rsplit("/", 1)[-1], disable=None if progress else True,
                ) as bar,
            ):  # fmt: skip
                for chunk in response.iter_content(CHUNK):
                    stream.write(chunk)
                    bar.update(len(chunk))
        return total is None or partial.stat().st_size == total

    def _accept(self, url: str, partial: Path, sha256: str | None) -> Path:
        got = sha256_file(partial)
        if sha256 and got != sha256:
            partial.unlink()
            partial.with_suffix(".etag").unlink(missing_ok=True)
            raise DownloadError(
                f"{url}: the bytes received have sha256 {got}",
                expected=f"{sha256}, pinned in the manifest or behind the URL",
                remedy="the file has changed at its source or on the way; if the change is meant, remove the pin (the "
                "study's manifest.json, or #sha256=… in its parameters) and fetch again: a new data version",
            )
        partial.with_suffix(".etag").unlink(missing_ok=True)
        blob = self._blob(got)
        blob.parent.mkdir(parents=True, exist_ok=True)
        partial.replace(blob)
        write_text(self._hint(url), got)
        return blob

    def fetch_annotations(self, url: str, sha256: str | None = None) -> Path:
        """The caption annotations at `url` (a JSON file, or COCO's zip), unpacked into `<cache>/annotations`."""
        file = self.fetch(url, progress=True)
        target = self.cache / "annotations" / file.name[:16] / Path(ANNOTATIONS_MEMBER).name
        if not target.is_file():
            with whole_file(target) as temporary:
                if zipfile.is_zipfile(file):
                    try:
                        with zipfile.ZipFile(file) as archive, temporary.open("wb") as stream:
                            stream.write(archive.read(ANNOTATIONS_MEMBER))
                    except (KeyError, zipfile.BadZipFile) as error:
                        raise DownloadError(
                            f"{url}: {error}",
                            expected=f"a zip archive that holds {ANNOTATIONS_MEMBER}",
                            remedy="check fetch_coco.annotations_url in the study's parameters",
                        ) from None
                else:
                    temporary.write_bytes(file.read_bytes())
        if sha256 and sha256_file(target) != sha256:
            raise DownloadError(
                f"{url}: the captions have sha256 {sha256_file(target)}",
                expected=f"{sha256}, pinned in the manifest",
                remedy="the annotations changed at their source; remove the manifest to accept a new data version",
            )
        return target

    def fetch_images(
        self, entries: Sequence[Entry], pins: dict[int, str], threads: int = 8
    ) -> tuple[dict[int, Path], list[Skipped]]:
        """Images by id, and those the server no longer has. An image that `pins` names must come, unchanged."""

        def one(entry: Entry) -> Path | Skipped:
            if not entry.url:
                return Skipped("image", str(entry.image_id), "the annotations give no coco_url")
            try:
                return self.fetch(entry.url, pins.get(entry.image_id))
            except GoneError as error:
                if entry.image_id in pins:
                    raise
                return Skipped("image", str(entry.image_id), error.got)

        pool = ThreadPoolExecutor(threads)
        try:
            bar = tqdm(pool.map(one, entries), total=len(entries), desc="fetching images", unit="image", disable=None)
            results = dict(zip((entry.image_id for entry in entries), bar, strict=True))
        finally:
            pool.shutdown(cancel_futures=True)
        paths = {image_id: path for image_id, path in results.items() if isinstance(path, Path)}
        return paths, [item for item in results.values() if isinstance(item, Skipped)]
