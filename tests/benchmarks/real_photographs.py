"""How long 80 real images and 400 captions take through a full-size ViT-B/32, image decoding included.

    python tests/benchmarks/real_photographs.py FOLDER

FOLDER is any COCO-layout folder. Prints the seconds of the whole command, started as a user starts it, and its result.
"""

from __future__ import annotations

import subprocess
import sys
import time


def main() -> None:
    command = [sys.executable, "-m", "attention_collapse.cli", "diagnose"]
    command += ["--model", "openclip-vit-b-32-untrained", "--pairs", sys.argv[1]]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - start
    print(done.stdout)
    print(f"{seconds:.1f} s")


if __name__ == "__main__":
    main()
