"""What a plan says that a study takes, against what it then takes: the two stages that load a model, model by model.

    python tests/benchmarks/planned_time.py [NAME=IMAGES ...]

Works on a clone of the committed state in a temporary folder: the embedded study with more images than are timed for
the plan, so that the plan has to extrapolate. Each model is timed just before it runs. T-SHAP takes no pass of a model
whose score is at chance; its planned time is left out there, and the line says so.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODELS = ("openclip-scenes=1000", "align-scenes=1000", "openclip-vit-b-32-untrained=300")
STAGES = ("extract_attention", "contribution")
AT_CHANCE = "does not tell matching pairs from others"


def main() -> None:
    """Print planned and measured seconds, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS, metavar="NAME=IMAGES")
    asked = [one.rsplit("=", 1) for one in parser.parse_args().models]
    with tempfile.TemporaryDirectory() as scratch:
        clone = Path(scratch) / "clone"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        params = clone / "params.yaml"
        whole = params.read_text("utf-8")

        def run(*command: str) -> tuple[float, str]:
            environment = os.environ | {"PYTHONPATH": str(clone / "src")}
            begun = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-m", *command], cwd=clone, env=environment, capture_output=True, text=True,
                check=False,
            )  # fmt: skip
            if done.returncode:
                sys.exit(done.stdout[-2000:] + done.stderr[-2000:])
            return time.perf_counter() - begun, done.stdout

        print(f"{'model':30} images  planned measured  planned ÷ measured", flush=True)
        for name, images in asked:
            text, found = re.subn(r"(source: embedded, n:) \d+", rf"\1 {images}", whole)
            assert found == 1, "params.yaml has no `source: embedded, n: …`"
            params.write_text(text, "utf-8")
            run("attention_collapse.stages.fetch_coco")
            run("attention_collapse.cli", "plan", "embedded", "--calibrate", "--model", name, "--out", "plan.json")
            models = json.loads((clone / "plan.json").read_text("utf-8"))["models"]
            (cost,) = (cost for cost in models[name]["costs"] if cost)
            took = [run(f"attention_collapse.stages.{stage}", "--model", name) for stage in STAGES]
            chance = any(AT_CHANCE in said for _, said in took)
            planned = cost["seconds"] - (cost["steps"]["t_shap"] if chance else 0)
            measured = sum(seconds for seconds, _ in took)
            more = "  (at chance: without T-SHAP)" if chance else ""
            print(
                f"{name:30} {images:>6} {planned:6.0f} s {measured:6.0f} s  {planned / measured:.2f}{more}", flush=True
            )


if __name__ == "__main__":
    main()
