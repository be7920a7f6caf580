"""Where the time of a forced run of the embedded study goes: computing, imports, and DVC itself.

    python tests/benchmarks/forced_run.py

Runs `dvc repro -f --downstream fetch_coco` in a clone of the committed state, and then each of its commands by itself
with Python's own account of imports, on one thread. All figures are seconds of processor time; imports are those of
`-X importtime`, which takes the time of each module by the clock while nothing else runs in the process.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
IMPORT = re.compile(r"^import time:\s+(\d+) \|", re.MULTILINE)  # microseconds of one module, without those it imports


def spent() -> float:
    """Processor seconds of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        environment = os.environ | {"PYTHONPATH": str(clone / "src"), "OMP_NUM_THREADS": "1"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"

        def run(command: list[str]) -> tuple[float, str, str]:
            before = spent()
            done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
            return spent() - before, done.stdout, done.stderr

        forced = ["dvc", "repro", "-f", "--downstream", "fetch_coco"]
        whole, said, _ = run(forced)
        stages: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for command in re.findall(r"^> python (-m .+)$", said, re.MULTILINE):
            arguments = command.split()
            alone, _, _ = run([sys.executable, *arguments])
            _, _, told = run([sys.executable, "-X", "importtime", *arguments])
            imports = sum(map(int, IMPORT.findall(told))) / 1e6
            stages[arguments[1].rpartition(".")[2]].append((alone, imports))

    print(f"{'stage':<20} {'runs':>4} {'in all':>8} {'imports':>8}")
    for name, found in stages.items():
        print(f"{name:<20} {len(found):>4} {sum(a for a, _ in found):>8.1f} {sum(i for _, i in found):>8.1f}")
    alone, imports = (sum(one[place] for found in stages.values() for one in found) for place in (0, 1))
    print(f"{'all stages':<20} {sum(map(len, stages.values())):>4} {alone:>8.1f} {imports:>8.1f}")
    print(f"dvc repro -f --downstream fetch_coco: {whole:.1f}, of which DVC itself {whole - alone:.1f}")
    print(f"imports and DVC: {(imports + whole - alone) / whole:.0%} of it")


if __name__ == "__main__":
    main()
