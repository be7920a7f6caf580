"""The licences of what the distribution needs, with all that its dependencies need in turn.

python scripts/licences.py prints them as a table, by what asks for them; it exits with 1 where a licence is unknown, or
would not let the package be distributed under MIT. What is installed is read, nothing is fetched.
"""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
OWN = "attention-collapse"
SHIPPED = ("", "models", "study", "track", "explore", "lightning", "ray", "easy-vqa")  # "": the core; no tools
# Permissive, or copyleft of a file or library that is used unchanged, through its public interface.
USABLE = re.compile(
    r"\b(MIT|0?BSD|Apache|ISC|PSF|Python Software Foundation|HPND|Unlicense|CC0|Zlib|Zope|CNRI|MPL|Mozilla|EPL|LGPL|"
    r"Lesser|NVIDIA)", re.IGNORECASE,
)  # fmt: skip
STRONG = re.compile(r"\bA?GPL|Affero|(?<!Lesser )General Public License", re.IGNORECASE)
READ = {  # in their files, by hand, where the metadata say nothing, or not all
    "cuda-toolkit": "NVIDIA Proprietary Software",  # of PyTorch for CUDA: libraries that it loads
    "grandalf": "EPL-1.0 OR GPL-2.0-only",  # of DVC
    "huey": "MIT",  # of MLflow
    "skops": "MIT",  # of MLflow
}
LINKED = {"pygit2"}  # of DVC: GPL-2.0 with an exception that lets any program link it


def licence(found: Distribution) -> str:
    """What a distribution says of its licence: the SPDX expression, else the classifiers, else the first line."""
    meta = found.metadata
    if expression := meta.get("License-Expression"):
        return str(expression)
    named = [c.split(" :: ")[-1] for c in meta.get_all("Classifier") or [] if c.startswith("License ::")]
    named = [name for name in named if name != "OSI Approved"]
    return " and ".join(named) or str(meta.get("License") or "").strip().split("\n")[0][:60] or "unknown"


def direct() -> dict[str, list[str]]:
    """Extra ("" for the core) -> the distributions that pyproject.toml names for it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    found = {"": project["dependencies"], **project["optional-dependencies"]}
    return {extra: [name for name in found[extra] if not name.startswith(OWN)] for extra in SHIPPED if extra in found}


def closure(names: list[str]) -> dict[str, Distribution]:
    """Name -> every installed distribution that some need, and these in turn (extras of theirs left out)."""
    found: dict[str, Distribution] = {}
    waiting = [canonicalize_name(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue  # of another platform, or an extra that is not installed
        needs = [Requirement(text) for text in found[name].requires or []]
        waiting += [
            canonicalize_name(one.name) for one in needs if not one.marker or one.marker.evaluate({"extra": ""})
        ]
    return found


def is_compatible(name: str, words: str) -> bool:
    """Whether a library under this licence, or one of its alternatives, may be used by what is under MIT."""
    choices = words.split(" OR ")
    return name in LINKED or any(USABLE.search(one) and not STRONG.search(one) for one in choices)


def rows() -> list[tuple[str, str, str, str]]:
    """(name, version, licence, extra that first asks for it) of every distribution, by extra and name."""
    seen: dict[str, tuple[str, str, str, str]] = {}
    for extra, names in direct().items():
        for name, one in sorted(closure(names).items()):
            words = READ.get(name) or licence(one)
            seen.setdefault(name, (name, one.version, words, extra or "core"))
    return list(seen.values())


def main() -> int:
    """Print the table, and on standard error what is wrong with it."""
    found = rows()
    print("| distribution | version | licence | needed by |\n|---|---|---|---|")
    print("\n".join("| " + " | ".join(row) + " |" for row in found))
    wrong = [f"{name}: {words}" for name, _, words, _ in found if not is_compatible(name, words)]
    for line in wrong:
        print(f"not compatible, or not known: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
