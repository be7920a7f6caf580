"""How a stage starts."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from inspect import signature
from pathlib import Path

from attention_collapse.errors import AttentionCollapseError
from attention_collapse.params import load_params
from attention_collapse.study.layout import Study
from attention_collapse.study.orphans import require_no_orphans


def run_stage(main: Callable[..., None]) -> None:
    """Command line of a stage: `--params FILE` if `main` takes a study, `--model NAME` if it takes a model too."""
    takes = len(signature(main).parameters)
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    if takes:
        parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    if takes == 2:
        parser.add_argument("--model", required=True)
    arguments = vars(parser.parse_args())
    try:
        given = [Study(load_params(arguments["params"]))] if takes else []
        for study in given:
            require_no_orphans(study)  # before an hour of work, and not in the stage that would read them
        main(*given, *([arguments["model"]] if takes == 2 else []))
    except AttentionCollapseError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
