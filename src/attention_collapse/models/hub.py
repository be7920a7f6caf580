"""Where a checkpoint's files lie: a folder on disk, or a hub repository fetched at one revision into the cache."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from pathlib import Path

from huggingface_hub import constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError, safe_open

from attention_collapse.errors import ModelError
from attention_collapse.files import sha256_bytes, sha256_file

UNREACHABLE = (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError)
DEFINITION = ("*.json", "*.txt", "*.txt.gz", "*.model", "*.jinja")  # configuration and tokenizer
OF_TRAINING = (
    "trainer_state.json",
)  # beside them in a checkpoint of the transformers Trainer, and no part of the model
ANSWERS = (  # of the hub's, in words; the first that fits
    (GatedRepoError, "the repository is gated: accept its terms on its page, and `hf auth login`"),
    (RevisionNotFoundError, "the repository has no such revision"),
    (RepositoryNotFoundError, "the hub has no such repository, or it is private"),
)


def unreachable(name: str, repo: str, files: str, error: Exception) -> ModelError:
    """What to say when a hub repository cannot be had."""
    said = next((words for kind, words in ANSWERS if isinstance(error, kind)), str(error).splitlines()[0])
    return ModelError(
        f"{name}: {files} of {repo} cannot be had ({said})",
        expected="the file in the local hub cache, or a connection to the hub",
        remedy=f"connect once, or download {repo} by hand and give its folder (--model FOLDER; in a params file, "
        "weights: checkpoint with its path)",
    )


def hub_folder(name: str, repo: str, revision: str | None, config: str, weights: Sequence[str]) -> Path:
    """The repository's snapshot in the local hub cache, fetched if it is not there.

    Parameters
    ----------
    weights
        Patterns in order of preference; the first that the repository holds is fetched.
    """
    for pattern in weights:
        try:
            folder = Path(snapshot_download(repo, revision=revision, allow_patterns=[pattern, *DEFINITION]))
        except UNREACHABLE as error:
            raise unreachable(name, repo, f"{config} and {pattern}", error) from None
        if any(folder.glob(pattern)):
            return folder
    raise ModelError(
        f"{name}: {repo} at {revision or 'its newest revision'} holds none of {', '.join(weights)}",
        expected="a repository in the library's layout",
        remedy="check repo and revision",
    )


def hub_file(name: str, repo: str, candidates: Sequence[str], revision: str | None) -> Path:
    """The first of some files that a repository holds. A hub that did not answer once is not asked again."""
    problem, answers = None, True
    for candidate in candidates:
        try:
            return Path(hf_hub_download(repo, candidate, revision=revision, local_files_only=not answers))
        except UNREACHABLE as error:
            problem = problem or error
            answers = (
                answers and isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError)
            )
    raise unreachable(name, repo, candidates[0], problem or OSError("unknown"))


def known_repositories() -> list[str]:
    """The models whose repositories lie in the local hub cache."""
    folders = Path(constants.HF_HUB_CACHE).glob("models--*--*")
    return sorted(folder.name.removeprefix("models--").replace("--", "/", 1) for folder in folders)


def snapshot_revision(path: Path) -> str | None:
    """The commit of a file or folder in the hub cache (…/snapshots/<commit>/…); None elsewhere."""
    for part in (path, *path.parents):
        if part.parent.name == "snapshots":
            return part.name
    return None


def is_cached(repo: str, revision: str | None, file: str) -> bool:
    """True if a file of a hub repository can be had without a network."""
    try:
        hf_hub_download(repo, file, revision=revision, local_files_only=True)
    except UNREACHABLE:
        return False
    return True


def definition_sha256(folder: Path) -> str:
    """Hash of a folder's configuration and tokenizer, which are part of what a model is, and of nothing else."""
    own = (path for path in folder.iterdir() if path.is_file() and any(path.match(kind) for kind in DEFINITION))
    others = sorted(path for path in own if not path.name.endswith(".index.json") and path.name not in OF_TRAINING)
    return sha256_bytes("".join(f"{path.name} {sha256_file(path)}\n" for path in others).encode())


def weights_sha256(files: Sequence[Path]) -> str:
    """Hash of one weights file, or of the list of the shards' hashes."""
    if len(files) == 1:
        return sha256_file(files[0])
    return sha256_bytes("".join(f"{path.name} {sha256_file(path)}\n" for path in sorted(files)).encode())


def count_parameters(files: Iterable[Path]) -> int | None:
    """Numbers held by safetensors files, from their headers alone; None if a file is of another kind or damaged.

    Read as for NumPy, which needs no torch.
    """
    total = 0
    for path in files:
        try:
            with safe_open(path, framework="numpy") as file:
                total += sum(prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118
        except (SafetensorError, OSError):
            return None
    return total
